"""float32 vectors: lanes of products that are added up, by fused multiply-add where the hardware has it."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgec.kernels import tir
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.architectures import Arch


@dataclass(frozen=True)
class FloatSet:
    """A float32 instruction set."""

    name: str
    arch: Arch | None
    features: frozenset[str]
    lanes: int
    """float32 per vector register."""
    registers: int
    """Vector registers."""
    tiles: tuple[tuple[int, int], ...]
    """(rows, vectors) register tiles that fit the registers, the most productive first."""
    fused: bool = True
    """Whether a product and its sum are one instruction with one rounding; else they are two of each."""
    prefetches: bool = False
    """Whether to prefetch weights was measured to gain."""
    steps: tuple[int, ...] = (1,)
    """Lengths of reduction taken at once, longest first; the last is 1.

    A longer one where products take one lane of a register, so that A is best read as vectors.
    """

    def multiply_add(self, a: Expr, b: Expr, c: Expr, lanes: int) -> Expr:
        """Return a * b + c."""
        return tir.intrinsic(tir.vector("float32", lanes), "llvm.fma", a, b, c) if self.fused else a * b + c

    def multiply_accumulate(
        self,
        accumulators: Sequence[Sequence[tuple[Buffer, int]]],
        a: Buffer,
        rows: Sequence[Expr],
        b: Buffer,
        offset: Expr,
        step: int,
    ) -> None:
        """accumulators[i][j] += A[rows[i] : rows[i] + step] · B, in the reduction's order."""
        width = self.lanes * len(accumulators[0])
        for k in range(step):
            # Rows outside: the vectors of B stay in registers and one broadcast of A lives at a time.
            for i, row in enumerate(rows):
                value = a[row] if step == 1 else T.Shuffle([tir.load(a, row, step)], [k])
                left = T.broadcast(value, self.lanes)
                for j, (buffer, element) in enumerate(accumulators[i]):
                    right = tir.load(b, offset + (k * width + j * self.lanes), self.lanes)
                    total = self.multiply_add(left, right, tir.load(buffer, element, self.lanes), self.lanes)
                    tir.store(buffer, element, total, self.lanes)


_TILES_16_REGISTERS = (
    (6, 2), (5, 2), (4, 2), (3, 2), (2, 2), (1, 2), (4, 3), (3, 3), (2, 3), (1, 3), (2, 4), (1, 4), (12, 1),
    (8, 1), (7, 1), (6, 1), (4, 1), (2, 1), (1, 1),
)  # fmt: skip
_TILES_32_REGISTERS = (
    (14, 2), (13, 2), (12, 2), (10, 2), (8, 2), (7, 2), (6, 2), (5, 2), (4, 2), (2, 2), (1, 2),
    (9, 3), (8, 3), (7, 3), (6, 3), (5, 3), (4, 3), (3, 3), (2, 3), (1, 3),
    (6, 4), (5, 4), (4, 4), (3, 4), (2, 4), (1, 4), (1, 8), (28, 1), (14, 1), (8, 1), (7, 1), (4, 1), (2, 1),
    (1, 1),
)  # fmt: skip
# A register per row holds its next four elements of the reduction.
_TILES_NEON = (
    (7, 3), (6, 3), (5, 3), (4, 3), (3, 3), (2, 3), (1, 3), (8, 2), (7, 2), (6, 2), (5, 2), (4, 2), (3, 2),
    (2, 2), (1, 2), (5, 4), (4, 4), (3, 4), (2, 4), (1, 4), (1, 8), (12, 1), (8, 1), (4, 1), (2, 1), (1, 1),
)  # fmt: skip

AVX512 = FloatSet("avx512", "x86-64", frozenset({"avx512f"}), 16, 32, _TILES_32_REGISTERS, prefetches=True)
AVX2 = FloatSet("avx2", "x86-64", frozenset({"avx2", "fma"}), 8, 16, _TILES_16_REGISTERS, prefetches=True)
NEON = FloatSet("neon", "arm64", frozenset(), 4, 32, _TILES_NEON, steps=(4, 1))
GENERIC = FloatSet("generic", None, frozenset(), 4, 16, _TILES_16_REGISTERS, fused=False)
