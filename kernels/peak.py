"""Micro-benchmarks of the machine: products from the L1 cache at full speed, and reading memory.

The rates that they reach are the roofs under which kernels are judged (Williams, Waterman and Patterson,
"Roofline", 2009). Products are those that convolutions use: register tiles, with nothing around them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgec.kernels import cost, tir
from edgec.kernels.codegen import native
from edgec.kernels.isa.base import InstructionSet
from edgec.kernels.tir import Buffer, Expr, T
from edgec.targets.descriptor import Target

FLOAT = "fp32"
REDUCTION = 256
"""Products per accumulator lane: the operands of any tile fill less than 32 KiB."""
MEMORY_BYTES = 1 << 27
"""What the memory benchmark reads: more than a last-level cache holds."""
_TILES = 8
"""Register tiles that are tried of each instruction set, the most productive ones."""
_CHAINS = 8
"""Sums that the memory benchmark keeps: enough to wait for no addition."""
_FLOAT_TILES = {16: ((6, 2), (4, 2), (4, 3)), 32: ((14, 2), (12, 2), (8, 3), (6, 4))}
"""Vector registers of the machine -> register tiles, as (rows, vectors)."""


@dataclass(frozen=True, eq=False)
class Probe:
    """One micro-benchmark: f(inputs..., output, scratch, begin, end) does its work end - begin times."""

    name: str
    """The instruction set's, `fp32`, or `memory`."""
    make: Callable[[], Any]
    """Returns the PrimFunc."""
    inputs: tuple[NDArray[np.generic], ...]
    output_bytes: int
    work: int
    """Multiply-accumulates, or bytes read, each time."""


def probes(target: Target) -> Iterator[Probe]:
    """Yield the benchmarks for `target`: several per instruction set, of which the fastest counts."""
    for isa in cost.runnable(target):
        for rows, vectors in isa.tiles[:_TILES]:
            yield _products(isa, rows, vectors)
    for rows, vectors in _FLOAT_TILES.get(target.vector_registers, _FLOAT_TILES[16]):
        yield _float_products(target.vector_bits // 32, rows, vectors)
    yield _memory(target.vector_bits // 32)


def _products(isa: InstructionSet, rows: int, vectors: int) -> Probe:
    width = vectors * isa.lanes

    def body(a: Buffer, b: Buffer, output: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        def once(_index: Expr) -> None:
            sums = [T.alloc_buffer((width,), "int32", scope="global") for _ in range(rows)]
            tile = [[(row, j * isa.lanes) for j in range(vectors)] for row in sums]
            for row, buffer in enumerate(sums):
                for j in range(vectors):
                    element = j * isa.lanes
                    tir.store(buffer, element, tir.load(output, row * width + element, isa.lanes), isa.lanes)

            step = isa.steps[0]

            def chunk(k: Expr) -> None:
                starts = [row * REDUCTION + k * step for row in range(rows)]
                isa.multiply_accumulate(tile, a, starts, b, k * step * width, step)

            tir.serial(REDUCTION // step, chunk)
            _keep(sums, output, width, isa.lanes)

        tir.serial(end - begin, once)

    return _probe(isa.name, (isa.panel, isa.weights, "int32"), (rows, width), body)


def _float_products(lanes: int, rows: int, vectors: int) -> Probe:
    width = vectors * lanes

    def body(a: Buffer, b: Buffer, output: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        def once(_index: Expr) -> None:
            sums = [T.alloc_buffer((width,), "float32", scope="global") for _ in range(rows)]
            for row, buffer in enumerate(sums):
                for j in range(0, width, lanes):
                    tir.store(buffer, j, tir.load(output, row * width + j, lanes), lanes)

            def chunk(k: Expr) -> None:
                for row, buffer in enumerate(sums):
                    left = tir.broadcast(a[row * REDUCTION + k], lanes)
                    for j in range(0, width, lanes):
                        product = left * tir.load(b, k * width + j, lanes)
                        tir.store(buffer, j, tir.load(buffer, j, lanes) + product, lanes)

            tir.serial(REDUCTION, chunk)
            _keep(sums, output, width, lanes)

        tir.serial(end - begin, once)

    return _probe(FLOAT, ("float32",) * 3, (rows, width), body)


def _keep(sums: list[Buffer], output: Buffer, width: int, lanes: int) -> None:
    """Store the sums, so that they can't be left out."""
    for row, buffer in enumerate(sums):
        for j in range(0, width, lanes):
            tir.store(output, row * width + j, tir.load(buffer, j, lanes), lanes)


def _probe(name: str, dtypes: tuple[str, ...], shape: tuple[int, int], body: Callable[..., None]) -> Probe:
    """Return the benchmark that adds a [rows, REDUCTION] by [REDUCTION, width] product to its output."""
    rows, width = shape
    sizes = (rows * REDUCTION, width * REDUCTION, rows * width)
    rng = np.random.default_rng(0)
    inputs = tuple(
        rng.integers(0, 2, n).astype(dtype) for n, dtype in zip(sizes[:2], dtypes[:2], strict=True)
    )

    def make() -> Any:
        function = tir.kernel(list(zip(dtypes, sizes, strict=True)), "uint8", body)
        return function.with_attr(native.CONTRACT, True) if name == FLOAT else function

    return Probe(name, make, inputs, 4 * sizes[2], rows * width * REDUCTION)


def _memory(lanes: int) -> Probe:
    size = MEMORY_BYTES // 4

    def body(data: Buffer, output: Buffer, scratch: Buffer, begin: Expr, end: Expr) -> None:
        def once(_index: Expr) -> None:
            sums = T.alloc_buffer((_CHAINS * lanes,), "int32", scope="global")
            for chain in range(0, _CHAINS * lanes, lanes):
                tir.store(sums, chain, tir.load(output, chain, lanes), lanes)

            def read(index: Expr) -> None:
                for chain in range(0, _CHAINS * lanes, lanes):
                    value = tir.load(data, index * _CHAINS * lanes + chain, lanes)
                    tir.store(sums, chain, tir.load(sums, chain, lanes) + value, lanes)

            tir.serial(size // (_CHAINS * lanes), read)
            for chain in range(0, _CHAINS * lanes, lanes):
                tir.store(output, chain, tir.load(sums, chain, lanes), lanes)

        tir.serial(end - begin, once)

    def make() -> Any:
        return tir.kernel([("int32", size), ("int32", _CHAINS * lanes)], "uint8", body)

    return Probe("memory", make, (np.ones(size, np.int32),), 4 * _CHAINS * lanes, MEMORY_BYTES)
