"""Views do what numpy's strided arrays do."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from edgec.compiler.operators import view
from edgec.compiler.operators.builder import CODES, Builder, Codes
from edgec.compiler.operators.view import View
from edgec.kernels import reference
from edgec.kernels.operations import Network

SHAPES = st.lists(st.integers(1, 4), min_size=0, max_size=5).map(tuple)


BUFFER = 4**5
unhurried = settings(deadline=None)


def read(seen: View, buffer: np.ndarray) -> np.ndarray:
    """The tensor that a view shows, element by element."""
    result = np.empty(seen.shape, buffer.dtype)
    for index in np.ndindex(seen.shape):
        result[index] = buffer[seen.offset + sum(i * s for i, s in zip(index, seen.strides, strict=True))]
    return result


def factors(draw: DrawFn, size: int) -> tuple[int, ...]:
    """A shape of as many elements."""
    shape: list[int] = []
    while size > 1:
        extent = draw(st.sampled_from([n for n in range(2, size + 1) if size % n == 0]))
        shape.append(extent)
        size //= extent
    for _ in range(draw(st.integers(0, 2))):
        shape.insert(draw(st.integers(0, len(shape))), 1)
    return tuple(shape)


@st.composite
def moved(draw: DrawFn) -> tuple[View, np.ndarray]:
    """A view and numpy's array of the same buffer, 0, 1, 2, ..., after some movements of both."""
    shape = draw(SHAPES)
    order = draw(st.permutations(range(len(shape))))
    seen = view.ordered(shape, tuple(order))
    packed = np.arange(math.prod(shape)).reshape([shape[axis] for axis in order])
    array = packed.transpose(np.argsort(order))
    for _ in range(draw(st.integers(0, 4))):
        rank = array.ndim
        movement = draw(st.sampled_from(("transpose", "take", "reshape", "drop")))
        if movement == "transpose":
            permutation = tuple(draw(st.permutations(range(rank))))
            seen, array = view.transpose(seen, permutation), array.transpose(permutation)
        elif movement == "take" and rank:
            axis = draw(st.integers(0, rank - 1))
            extent = array.shape[axis]
            start, step = draw(st.integers(0, extent - 1)), draw(st.sampled_from((-3, -2, -1, 1, 2, 3)))
            count = draw(st.integers(1, 1 + ((extent - 1 - start) if step > 0 else start) // abs(step)))
            seen = view.take(seen, axis, start, count, step)
            array = np.take(array, start + step * np.arange(count), axis) if count == 1 else _slice(
                array, axis, start, count, step
            )  # fmt: skip
        elif movement == "reshape":
            wanted = factors(draw, array.size)
            changed = view.reshape(seen, wanted)
            if changed is not None:
                seen, array = changed, array.reshape(wanted)
        elif movement == "drop" and rank:
            axis = draw(st.integers(0, rank - 1))
            seen, array = view.drop(seen, axis), _first(array, axis)
    return seen, array


def _slice(array: np.ndarray, axis: int, start: int, count: int, step: int) -> np.ndarray:
    end = start + step * count
    return array[(slice(None),) * axis + (slice(start, end if end >= 0 else None, step),)]


def _first(array: np.ndarray, axis: int) -> np.ndarray:
    return array[(slice(None),) * axis + (0,)]


@unhurried
@given(moved())
def test_movements_read_what_numpy_reads(case: tuple[View, np.ndarray]) -> None:
    seen, array = case
    assert seen.size == array.size
    assert (read(seen, np.arange(BUFFER)) == array).all()
    assert seen.shape == array.shape


@unhurried
@given(moved(), st.data())
def test_a_reshape_is_a_view_exactly_where_numpy_needs_no_copy(
    case: tuple[View, np.ndarray], data: st.DataObject
) -> None:
    seen, array = case
    shape = factors(data.draw, array.size)
    changed = view.reshape(seen, shape)
    flat = np.arange(BUFFER)
    strided = np.lib.stride_tricks.as_strided(
        flat[seen.offset :], seen.shape, [8 * stride for stride in seen.strides], writeable=False
    )
    reshaped = strided.reshape(shape)
    assert (changed is not None) == np.shares_memory(reshaped, flat)
    if changed is not None:
        assert (read(changed, flat) == array.reshape(shape)).all()


@unhurried
@given(moved())
def test_a_dense_order_is_the_order_of_a_packed_buffer(case: tuple[View, np.ndarray]) -> None:
    seen, array = case
    order = view.dense_order(seen)
    packed = sorted(array.reshape(-1)) == list(range(array.size))
    if order is None:
        backwards = any(stride < 0 for stride, n in zip(seen.strides, seen.shape, strict=True) if n > 1)
        assert backwards or not packed
    else:
        assert packed
        assert (array.transpose(order).reshape(-1) == np.arange(array.size)).all()


@unhurried
@given(moved(), st.data())
def test_copies_hold_what_the_view_showed(case: tuple[View, np.ndarray], data: st.DataObject) -> None:
    seen, array = case
    builder = Builder()
    builder.declare("x", (BUFFER,), "int8")
    source = Codes("x", seen, CODES.astype(np.float64), None)
    shape = factors(data.draw, array.size)
    results = {
        "natural": builder.natural(source, "n"),
        "row_major": builder.row_major(source, "r"),
        "dense": builder.dense(source, "d"),
        "reshape": builder.reshape(source, shape, "s"),
    }
    x = np.random.default_rng(0).integers(-128, 128, BUFFER).astype(np.int8)
    network = Network(tuple(builder.operators.values()), builder.tensors, ("x",), (), {})
    values = reference.evaluate(network, {"x": x})
    for name, codes in results.items():
        expected = x[array].reshape(shape if name == "reshape" else array.shape)
        assert (read(codes.view, values[codes.tensor].reshape(-1)) == expected).all()
    assert view.same(results["natural"].view, view.natural(array.shape))
    assert view.dense_order(results["dense"].view) is not None


@unhurried
@given(SHAPES, SHAPES)
def test_broadcasting_is_numpys(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    try:
        shape = np.broadcast_shapes(one, other)
    except ValueError:
        return
    strides = view.broadcast_strides(view.row_major(one), shape)
    array = np.arange(math.prod(one))
    assert (read(View(shape, strides), array) == np.broadcast_to(array.reshape(one), shape)).all()


def test_images_lie_with_their_channels_innermost() -> None:
    assert view.natural((2, 3, 4, 5)) == View((2, 3, 4, 5), (60, 1, 15, 3))
    assert view.natural((2, 3, 4)) == view.row_major((2, 3, 4)) == View((2, 3, 4), (12, 4, 1))
    assert view.dense_order(View((1, 3, 1, 1), (99, 1, 5, 7))) == (0, 2, 3, 1)


def test_a_channel_shuffle_is_one_copy_that_kernels_can_read() -> None:
    builder = Builder()
    builder.declare("x", (1, 3, 5, 4), "int8")
    image = Codes("x", view.natural((1, 4, 3, 5)), CODES.astype(np.float64), None)
    groups = builder.reshape(image, (1, 2, 2, 3, 5), "split")
    swapped = groups.seen(view.transpose(groups.view, (0, 2, 1, 3, 4)))
    shuffled = builder.reshape(swapped, (1, 4, 3, 5), "join")
    assert list(builder.operators) == ["join_layout"]
    assert view.same(shuffled.view, view.natural((1, 4, 3, 5)))


def test_a_copy_that_no_order_of_the_old_dimensions_can_say_is_row_major() -> None:
    builder = Builder()
    builder.declare("x", (2, 4, 3, 4), "int8")
    seen = view.transpose(view.row_major((2, 4, 3, 4)), (0, 2, 1, 3))
    codes = builder.reshape(Codes("x", seen, CODES.astype(np.float64), None), (2, 4, 3, 4), "r")
    assert codes.view == view.row_major((2, 4, 3, 4))
