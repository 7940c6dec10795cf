"""Arithmetic that a core has no instructions for, which bundles for it bring along as functions."""

from edgec.targets.descriptor import Target

SOURCE = "arithmetic_v6m.c"
"""The arithmetic that Armv6-M has no instructions for, a file of kernels/runtime."""
_NAMES = """
    __aeabi_lmul __aeabi_lasr __aeabi_llsr __aeabi_llsl
    __aeabi_idiv __aeabi_idivmod __aeabi_uidiv __aeabi_uidivmod
    __muldi3 __ashrdi3 __lshrdi3 __ashldi3 __divsi3 __udivsi3 __modsi3 __umodsi3 __clzsi2
"""
FUNCTIONS = frozenset(_NAMES.split())
"""Defined there: by the run-time ABI for the Arm Architecture, 4.2 and 4.3, and by GNU's names."""


def functions(target: Target) -> frozenset[str]:
    """Return what code for `target` may call besides memcpy and memset.

    Armv6-M multiplies 32 bits by 32 to 32, shifts words, and doesn't divide.
    """
    return FUNCTIONS if target.arch == "arm-m" and "thumb2" not in target.features else frozenset()
