"""The memory contract: a build that needs more flash or RAM than it may have fails, and says why."""

from edgec.compiler.emit.manifest import Memory
from edgec.compiler.lower.network.plan import peak
from edgec.compiler.program import Plan, Program
from edgec.errors import LimitError
from edgec.options import Optimize

_NAMED = 4
"""Tensors and layers that a message names: it is one line."""
_LARGE_SCRATCH = 0.1
"""Share of the peak from which on the scratch is worth a word."""


def check_arena(program: Program, plan: Plan, optimize: Optimize) -> None:
    """Raise LimitError where the arena alone is more RAM than the target allows: before anything compiles.

    What a build with another `optimize` may do about it is part of the message.
    """
    limit = program.target.ram_bytes
    if limit is not None and plan.arena_bytes > limit:
        raise LimitError(f"{_over('RAM', plan.arena_bytes, limit)}: {_peak(program, plan, optimize)}")


def check(program: Program, plan: Plan, memory: Memory, optimize: Optimize) -> None:
    """Raise LimitError where `memory`, as the manifest has it, is more than the target allows."""
    target = program.target
    needed = memory.ram_bytes
    if target.ram_bytes is not None and needed > target.ram_bytes:
        parts = ", ".join(
            f"{name} {kib(size)}"
            for name in ("arena", "stack", "context")
            if (size := getattr(memory, f"{name}_bytes"))
        )
        raise LimitError(
            f"{_over('RAM', needed, target.ram_bytes)} ({parts}): {_peak(program, plan, optimize)}"
        )
    needed = memory.flash_bytes
    if target.flash_bytes is not None and needed > target.flash_bytes:
        parts = f"weights {kib(memory.weights_bytes)}, code {kib(memory.code_bytes)}"
        raise LimitError(
            f"{_over('flash', needed, target.flash_bytes)} ({parts}): {_largest(program, optimize)}"
        )


def kib(size: int) -> str:
    """Return a size for people."""
    return f"{size / 1024:.1f} KiB" if size >= 1024 else f"{size} bytes"


def _over(memory: str, needed: int, limit: int) -> str:
    return f"needs {needed} bytes of {memory} and may take {limit}"


def _peak(program: Program, plan: Plan, optimize: Optimize) -> str:
    """Name the step where the most is alive, what that is, and what would make it less."""
    index, alive = peak(program)
    call = program.calls[index]
    ordered = sorted(alive.items(), key=lambda item: -item[1])
    shown = ", ".join(f"'{name}' {kib(size)}" for name, size in ordered[:_NAMED])
    more = f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    scratch = f", scratch {kib(call.scratch_bytes)}" if call.scratch_bytes else ""
    advice = f"{_other('ram', optimize)}fewer channels or a smaller image at that step would help"
    if call.scratch_bytes > _LARGE_SCRATCH * (sum(alive.values()) + call.scratch_bytes):
        advice += ", and so would a kernel with less scratch"
    if plan.arena_bytes > plan.lower_bound_bytes:
        advice += f"; no plan can be smaller than {kib(plan.lower_bound_bytes)}"
    return f"the arena's peak is step '{call.name}' with {shown}{more}{scratch}; {advice}"


def _other(better: Optimize, chosen: Optimize) -> str:
    """Recommend `better` where it isn't chosen yet."""
    return f"--optimize {better} may help; " if chosen != better else ""


def _largest(program: Program, optimize: Optimize) -> str:
    """Name the layers with the most constants."""
    sizes = {
        call.name: sum(program.constants[name].nbytes for name in call.arguments if name in program.constants)
        for call in program.calls
    }
    ordered = sorted(sizes.items(), key=lambda item: -item[1])[:_NAMED]
    shown = ", ".join(f"'{name}' {kib(size)}" for name, size in ordered)
    return f"the most weights have {shown}; {_other('flash', optimize)}fewer channels there would help"
