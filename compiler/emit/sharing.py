"""Which steps are worth sharing out among threads."""

from edgec.compiler.program import Call, Program
from edgec.kernels import cost

# A hand-over costs what a cache line takes to another core and back, and halves a step at best. On a Zen 5
# that is 100 ns between neighbours, where steps of 1700 cycles gained a fifth, and 500 ns between cores that
# share no cache, where steps of 7000 cycles gained nothing. A program can't know where its threads run: this
# is for the latter.
_LEAST_CYCLES = 7500
# From and to the L1 and L2 caches, at a vector in two cycles or so with what else a small layer does to them.
_BYTES_PER_CYCLE = 8


def shared(program: Program, call: Call) -> bool:
    """Whether several threads compute the tiles of `call`, by a coarse model: its products and its bytes."""
    products = call.macs / cost.direct_products(program.target)
    return call.tiles > 1 and products + program.moved_bytes(call) / _BYTES_PER_CYCLE >= _LEAST_CYCLES
