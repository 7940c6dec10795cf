"""Kernels' functions made to run in this process: the code that objects would hold, without a linker."""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import tvm
from tvm import ir, tirx
from tvm.target import codegen as llvm

from edgec.kernels.codegen import native
from edgec.targets.descriptor import Target

_ENTRY = "calls"
Step = tuple[str, Sequence[str], int]
"""A function's symbol, the names of its buffers in its order, and how many tiles it has."""


def loaded(
    functions: Mapping[str, tirx.PrimFunc], steps: Sequence[Step], target: Target
) -> Callable[[Mapping[str, int]], None]:
    """Return a function that takes every step once, all its tiles, given the address of every buffer by name.

    `target` describes a processor that this machine's is one of; the operating system is this one. No step
    may need scratch memory. Raises what TVM raises.
    """
    target = replace(target, triple=str(llvm.llvm_get_system_triple()))
    names = sorted({name for _, buffers, _ in steps for name in buffers})
    module = _entry(steps, names, target)
    for symbol, function in functions.items():
        module.update(native.lowered(function, symbol, target))
    built = tvm.get_global_func("target.build.llvm")(module, native.llvm_target(target))
    entry = built[_ENTRY]

    def run(addresses: Mapping[str, int]) -> None:
        entry(*(ctypes.c_void_p(addresses[name]) for name in names))

    return run


def _entry(steps: Sequence[Step], names: Sequence[str], target: Target) -> Any:
    """Return a module of a function that TVM's runtime can call, with a pointer for each of `names`."""
    pointers = {name: tirx.Var(f"buffer{number}", "handle") for number, name in enumerate(names)}
    nothing = tirx.reinterpret("handle", tirx.IntImm("uint64", 0))
    calls = [
        tirx.Evaluate(
            tirx.call_extern(
                "int32", symbol, *(pointers[name] for name in buffers), nothing, *(
                    tirx.IntImm("int32", bound) for bound in (0, tiles)
                ),
            )
        )
        for symbol, buffers, tiles in steps
    ]  # fmt: skip
    body = tirx.SeqStmt(calls) if len(calls) > 1 else calls[0] if calls else tirx.Evaluate(0)
    described = native.llvm_target(target)
    attributes = {"global_symbol": _ENTRY, "target": tvm.target.Target(described, described)}
    function = tirx.PrimFunc(list(pointers.values()), body).with_attr(attributes)
    passes = [tirx.transform.MakePackedAPI(), tirx.transform.LowerTVMBuiltin(), tirx.transform.LowerIntrin()]
    with described, tvm.transform.PassContext(opt_level=3):
        return ir.transform.Sequential(passes)(tvm.IRModule({_ENTRY: function}))
