"""A few words over TVM's IR builder, so that kernels read as loops over loads, vectors and stores."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as builder
from tvm.tirx import IntImm

from edgec.targets.descriptor import Target

T = builder
"""The builder of TIR, by TVM's own name for it."""
Expr = tirx.Expr | int
"""What a kernel computes with: TIR, or a number that is known while the kernel is written."""
Buffer = tirx.Buffer

ROUNDING_MAGIC = 12582912.0
"""1.5 * 2**23: adding it to a float32 below 2**22 in magnitude rounds to an integer, half to even, in the
low bits of the sum (Hecker, "Let's get to the (floating) point", 1996)."""
ROUNDING_MAGIC_BITS = 0x4B400000

VECTOR_BYTES = 32
"""Bytes of the vectors that copies move data by; LLVM splits them where registers are smaller."""

_REGISTER_BITS = 128
"""A core without registers of so many takes one element at a time."""


def kernel(
    parameters: Sequence[tuple[str, int]], scratch: str, body: Callable[..., None], noalias: bool = True
) -> tirx.PrimFunc:
    """Return the PrimFunc f(parameters..., scratch, begin, end) that `body` writes.

    `parameters` are (dtype, elements) of the flat buffers in order; `scratch` is the dtype that the scratch
    is used as. `body(*buffers, scratch, begin, end)` is called once, inside the builder. `noalias` is False
    for kernels whose output may take over an input's buffer.
    """
    with IRBuilder() as written, T.prim_func(s_tir=True):
        # Callers' tensors may lie anywhere: promise no more than the element's own alignment.
        buffers = [
            T.arg(f"p{i}", T.buffer((size,), _stored(dtype), align=lanes_bytes(dtype)))
            for i, (dtype, size) in enumerate(parameters)
        ]
        work = T.arg("scratch", T.buffer((1 << 30,), scratch, align=lanes_bytes(scratch)))
        begin, end = T.arg("begin", T.int32()), T.arg("end", T.int32())
        T.func_attr({"tirx.noalias": noalias})
        body(*buffers, work, begin, end)
    return written.get()


def view(buffer: Buffer, dtype: str, first: int, size: int) -> Buffer:
    """Return `size` elements of `dtype` in a buffer of bytes, from byte `first` on, a multiple of theirs."""
    start, rest = divmod(first, lanes_bytes(dtype))
    assert not rest, "elements are aligned"
    return T.decl_buffer((size,), dtype, data=buffer.data, elem_offset=start, align=lanes_bytes(dtype))


def lanes_bytes(dtype: str) -> int:
    """Bytes of one element of a numpy-style dtype name such as `int16`."""
    return int("".join(c for c in _stored(dtype) if c.isdigit())) // 8


def _stored(dtype: str) -> str:
    """Return the type that elements are moved as: a truth value is a byte."""
    return "int8" if dtype == "bool" else dtype


def load(buffer: Buffer, offset: Expr, lanes: int = 1) -> Expr:
    """`lanes` consecutive elements from `offset`."""
    return buffer[offset] if lanes == 1 else buffer[T.ramp(offset, 1, lanes)]


def store(buffer: Buffer, offset: Expr, value: Expr, lanes: int = 1) -> None:
    """Store a vector of `lanes` elements at `offset`."""
    T.buffer_store(buffer, value, [offset if lanes == 1 else T.ramp(offset, 1, lanes)])


def prefetch(buffer: Buffer, offset: Expr) -> None:
    """Ask for an element's cache line to be brought to the L2 cache; it may lie past the buffer's end."""
    read, l2, data = 0, 2, 1  # as LLVM numbers them
    address = T.address_of(buffer[offset])
    T.evaluate(T.call_llvm_intrin("void", "llvm.prefetch", address, *map(T.int32, (read, l2, data))))


def registers(buffer: Buffer, count: int) -> list[Expr]:
    """Load `count` int32 once: where buffers may overlap, LLVM would read them again after every store."""
    local = T.alloc_buffer((count,), "int32", scope="global")
    for index in range(count):
        store(local, index, buffer[index])
    return [local[index] for index in range(count)]


def known(value: Expr) -> int | None:
    """Value of an integer constant; None for what only the running program knows."""
    return int(value.value) if isinstance(value, IntImm) else None


def vector(dtype: str, lanes: int) -> str:
    """TVM's name of a vector type: `int32x8`, or `int32` for one lane."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


@dataclass(frozen=True)
class Wrapping:
    """A vector of int32 that adds and subtracts modulo 2**32.

    TVM tells LLVM that its own sums never overflow (`nsw`): one that did would be undefined.
    """

    value: Expr

    def __add__(self, other: "Wrapping") -> "Wrapping":
        return self._with("llvm.vp.add", other)

    def __sub__(self, other: "Wrapping") -> "Wrapping":
        return self._with("llvm.vp.sub", other)

    def _with(self, name: str, other: "Wrapping") -> "Wrapping":
        lanes = lanes_of(self.value)
        whole = broadcast(T.cast(True, "bool"), lanes)
        return Wrapping(
            intrinsic(vector("int32", lanes), name, self.value, other.value, whole, T.int32(lanes))
        )


def lanes_of(value: Expr) -> int:
    """Return how many lanes a vector has."""
    return int(value.ty.dtype.lanes) if isinstance(value, tirx.Expr) else 1


def cast(value: Expr, dtype: str, lanes: int) -> Expr:
    """Convert every lane."""
    return T.cast(value, vector(dtype, lanes))


def broadcast(value: Expr, lanes: int) -> Expr:
    """Return the same scalar in every lane."""
    return value if lanes == 1 else T.broadcast(value, lanes)


def constant(value: float, dtype: str, lanes: int) -> Expr:
    """Return a constant in every lane."""
    return broadcast(T.cast(value, dtype), lanes)


def intrinsic(result: str, name: str, *arguments: Expr) -> Expr:
    """Call a pure LLVM intrinsic; `result` is its type."""
    return T.call_llvm_pure_intrin(result, name, *arguments)


def clipped(value: Expr, low: float, high: float, lanes: int) -> Expr:
    """Clip a vector of float32 to constant limits, infinite ones being none; NaN stays NaN."""
    if low > -math.inf:
        least = constant(low, "float32", lanes)
        value = T.Select(value < least, least, value)
    if high < math.inf:
        most = constant(high, "float32", lanes)
        value = T.Select(value > most, most, value)
    return value


def shuffle(value: Expr, indices: Sequence[int]) -> Expr:
    """Pick lanes of one vector."""
    return T.Shuffle([value], list(indices))


def repeat(value: Expr, lanes: int, times: int) -> Expr:
    """Return every lane `times` times, one after the other."""
    if lanes == 1:
        return broadcast(value, times)
    # TVM's Shuffle returns no more lanes than it is given.
    return T.Shuffle([value] * times, [lane for lane in range(lanes) for _ in range(times)])


def part(value: Expr, number: int, lanes: int) -> Expr:
    """One of the equal parts of an int8 vector, of `lanes` lanes; LLVM would take four bytes one by one."""
    if lanes != 4:
        return shuffle(value, range(number * lanes, (number + 1) * lanes))
    parts = T.reinterpret(vector("int32", lanes_of(value) // lanes), value)
    return T.reinterpret(vector("int8", lanes), shuffle(parts, [number]))


def concatenate(values: Sequence[Expr], lanes: int) -> Expr:
    """One vector from several of `lanes` lanes each."""
    return values[0] if len(values) == 1 else T.Shuffle(list(values), list(range(lanes * len(values))))


def lanes_on(target: Target, lanes: int) -> int:
    """Return how many elements a loop takes at a time on a target: `lanes`, or 1 where it has no vectors."""
    return lanes if target.vector_bits >= _REGISTER_BITS else 1


def pieces(count: int, widest: int) -> list[tuple[int, int]]:
    """Cut `count` into (offset, lanes) pieces of power-of-two lanes, at most `widest`."""
    result, offset, lanes = [], 0, widest
    while offset < count:
        while lanes > count - offset:
            lanes //= 2
        result.append((offset, lanes))
        offset += lanes
    return result


def store_first(buffer: Buffer, offset: Expr, value: Expr, lanes: int, count: int) -> None:
    """Store the first `count` of a vector's `lanes` elements, in power-of-two pieces."""
    if count >= lanes:
        store(buffer, offset, value, lanes)
        return
    for start, width in pieces(count, lanes):
        picked = shuffle(value, range(start, start + width))
        store(buffer, offset + start, picked, width)


def load_first(buffer: Buffer, offset: Expr, lanes: int, count: int) -> Expr:
    """Load `count` elements, in power-of-two pieces, as the first of `lanes`; the rest are zeros."""
    if count >= lanes:
        return load(buffer, offset, lanes)
    parts = [load(buffer, offset + start, width) for start, width in pieces(count, lanes)]
    parts += [constant(0, buffer.dtype, width) for _, width in pieces(lanes - count, lanes)]
    return T.Shuffle(parts, list(range(lanes)))


def serial(extent: Expr, body: Callable[[Expr], None]) -> None:
    """for i in range(extent): body(i), or the body alone where there is one iteration."""
    if isinstance(extent, int) and extent == 1:
        body(0)
        return
    with T.serial(0, extent) as index:
        body(index)


def either(condition: Expr, then: Callable[[], None], otherwise: Callable[[], None]) -> None:
    """if condition: then() else: otherwise(); decided at once where the condition is Python's own."""
    if isinstance(condition, bool):
        (then if condition else otherwise)()
        return
    with T.If(condition):
        with T.Then():
            then()
        with T.Else():
            otherwise()


def vectors(count: int, lanes: int, body: Callable[[Expr, int], None]) -> None:
    """Cover `count` elements: body(offset, lanes) for whole vectors in a loop, then smaller pieces."""
    full = count // lanes
    if full:
        serial(full, lambda i: body(i * lanes, lanes))
    for offset, width in pieces(count - full * lanes, lanes):
        body(full * lanes + offset, width)


def chunked(begin: Expr, end: Expr, total: int, chunk: int, body: Callable[[Expr, int], None]) -> None:
    """Tiles of a flat range: body(start, count) for tile i of `chunk` elements, the last one shorter."""
    with T.serial(begin, end) as index:
        rest = total % chunk
        if total < chunk:
            body(index * chunk, rest)
        elif not rest:
            body(index * chunk, chunk)
        else:
            with T.If(index < total // chunk):
                with T.Then():
                    body(index * chunk, chunk)
                with T.Else():
                    body(index * chunk, rest)


def unravel(index: Expr, shape: Sequence[int]) -> list[Expr]:
    """Row-major coordinates of a flat index."""
    coordinates: list[Expr] = []
    for size in reversed(shape):
        coordinates.insert(0, index % size if size > 1 else T.int32(0))
        index = index // size
    return coordinates


def strided(index: Expr, shape: Sequence[int], strides: Sequence[int]) -> Expr:
    """Where the element of a flat index lies: the sum of its coordinates times `strides`."""
    inside = zip(strides, strides[1:], shape[1:], strict=False)
    if shape and all(outer == inner * extent for outer, inner, extent in inside):
        return index * strides[-1]  # one after another: no coordinates needed
    steps = zip(unravel(index, shape), strides, strict=True)
    return sum((i * stride for i, stride in steps), T.int32(0))


def merge_dimensions(
    shape: Sequence[int], strides: Sequence[Sequence[int]]
) -> tuple[list[int], list[list[int]]]:
    """Join adjacent dimensions that every one of several strided views steps through as one; drop size 1.

    `strides` gives each view's strides; returns the new shape and, per view, its new strides.
    """
    sizes: list[int] = []
    steps: list[list[int]] = []
    for axis, size in enumerate(shape):
        step = [view[axis] for view in strides]
        if size == 1:
            continue
        if sizes and all(outer == inner * size for outer, inner in zip(steps[-1], step, strict=True)):
            sizes[-1] *= size
            steps[-1] = step
        else:
            sizes.append(size)
            steps.append(step)
    if not sizes:
        sizes, steps = [1], [[1] * len(strides)]
    return sizes, [[step[view] for step in steps] for view in range(len(strides))]
