"""Which steps are worth sharing out among threads."""

from edgec.compiler.program import Call, Program
from edgec.kernels.isa import words

# A hand-over costs what a cache line takes to another core and back, about 100 ns or 400 cycles, and halves a
# step at best. On a Zen 5, steps of 1000 cycles gained nothing by two threads, those of 1700 a fifth.
_LEAST_CYCLES = 1500
# From and to the L1 and L2 caches, at a vector in two cycles or so with what else a small layer does to them.
_BYTES_PER_CYCLE = 8


def shared(program: Program, call: Call) -> bool:
    """Whether several threads compute the tiles of `call`, by a coarse model: its products and its bytes."""
    products = call.macs / words.direct_products(program.target)
    return call.tiles > 1 and products + program.moved_bytes(call) / _BYTES_PER_CYCLE >= _LEAST_CYCLES
