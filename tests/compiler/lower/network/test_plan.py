"""Arena planning: nothing alive overlaps, and the arena is as small as the lower bound nearly always."""

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.compiler.lower.network.plan import check, plan
from edgec.compiler.program import Call, Plan, Program
from edgec.kernels.operations import Tensor
from edgec.targets import loader

TARGET = loader.load("x86-64-int8")


def program(calls: list[Call], sizes: dict[str, int], inputs: str = "", outputs: str = "") -> Program:
    tensors = {name: Tensor(name, (size,), "int8") for name, size in sizes.items()}
    return Program(
        TARGET,
        tuple(calls),
        {},
        tensors,
        {},
        tuple(tensors[name] for name in inputs.split()),
        tuple(tensors[name] for name in outputs.split()),
    )


def call(text: str, scratch: int = 0, inplace: bool = False) -> Call:
    """`a b -> c`: a call that reads a and b and writes c, over a where it is in place."""
    sources, results = (side.split() for side in text.split("->"))
    pairs = ((sources[0], results[0]),) if inplace else ()
    return Call(text, "kernel", "f", (*sources, *results), tuple(results), 1, scratch, 0, pairs)


def test_inputs_and_outputs_may_lie_in_the_arena() -> None:
    chain = [call("x -> a", inplace=True), call("a z -> b"), call("b -> y"), call("b -> c")]
    made = program(chain, {"x": 640, "z": 64, "a": 640, "b": 128, "y": 64, "c": 8}, "x z", "y c")
    assert plan(made).offsets.keys() == {"a", "b"}
    result = plan(replace(made, arena_io=True))
    assert result.offsets.keys() == made.tensors.keys()
    assert result.offsets["x"] == result.offsets["a"]  # the input is overwritten
    assert result.arena_bytes == result.lower_bound_bytes == 640 + 64 + 128  # z is there from the start
    at = result.offsets
    assert abs(at["y"] - at["c"]) >= 64  # an output stays


def test_a_chain_needs_its_two_largest_neighbours() -> None:
    chain = [call("x -> a"), call("a -> b"), call("b -> c"), call("c -> d"), call("d -> y")]
    result = plan(program(chain, {"x": 9999, "a": 640, "b": 128, "c": 640, "d": 64, "y": 9999}, "x", "y"))
    assert result.arena_bytes == result.lower_bound_bytes == 768
    assert set(result.offsets) == set("abcd")


def test_inputs_outputs_and_constants_are_not_in_the_arena() -> None:
    result = plan(program([call("x weights -> y")], {"x": 100, "y": 100}, "x", "y"))
    assert result == Plan({}, (0,), 0, 0, 0)


def test_scratch_is_alive_during_its_call_only() -> None:
    calls = [call("x -> a", scratch=1000), call("a -> b", scratch=10), call("b -> y", scratch=500)]
    result = plan(program(calls, {"x": 1, "a": 64, "b": 64, "y": 1}, "x", "y"))
    assert result.arena_bytes == 1024 + 64
    assert result.thread_scratch_bytes == 1024


def test_chains_of_inplace_calls_lie_at_one_offset() -> None:
    calls = [
        call("x -> a"),
        *(call(f"{p} -> {q}", inplace=True) for p, q in ("ab", "bc", "cd")),
        call("d -> y"),
    ]
    result = plan(program(calls, dict.fromkeys("xabcdy", 6400), "x", "y"))
    assert result.arena_bytes == result.lower_bound_bytes == 6400
    assert len(set(result.offsets.values())) == 1


def test_an_input_that_is_read_later_is_not_taken_over() -> None:
    calls = [call("x -> a"), call("a -> b", inplace=True), call("a b -> y")]
    result = plan(program(calls, dict.fromkeys("xaby", 640), "x", "y"))
    assert result.arena_bytes == result.lower_bound_bytes == 1280


def test_one_input_is_taken_over_by_one_output_only() -> None:
    both = replace(call("a -> b c"), inplace=(("a", "b"), ("a", "c")))
    result = plan(program([call("x -> a"), both, call("b c -> y")], dict.fromkeys("xabcy", 640), "x", "y"))
    assert result.arena_bytes == result.lower_bound_bytes == 1280


def test_tensors_that_nothing_reads_or_touches() -> None:
    calls = [call("x -> dead"), call("x -> a"), call("a -> y")]
    result = plan(program(calls, dict.fromkeys(["x", "dead", "a", "y", "untouched"], 640), "x", "y"))
    assert result.arena_bytes == 640
    assert set(result.offsets) == {"dead", "a"}


def test_check_finds_overlaps_and_bad_offsets() -> None:
    source = program([call("x -> a"), call("a -> b"), call("b -> y")], dict.fromkeys("xaby", 100), "x", "y")
    good = plan(source)
    check(source, good)
    for offsets in (
        {"a": 0, "b": 0},
        {"a": 0, "b": 64},
        {"a": 0, "b": 100},
        {"a": 0, "b": 256},
        {"a": -128, "b": 0},
    ):
        with pytest.raises(AssertionError, match="call"):
            check(source, replace(good, offsets=offsets))


def test_check_allows_sharing_only_where_the_input_dies() -> None:
    calls = [call("x -> a"), call("a -> b", inplace=True), call("b -> c"), call("c -> y")]
    source = program(calls, dict.fromkeys("xabcy", 64), "x", "y")
    shared = Plan({"a": 0, "b": 0, "c": 64}, (0,) * 4, 128, 0, 128)
    check(source, shared)
    with pytest.raises(AssertionError, match="a and b overlap"):
        check(replace(source, calls=(*calls[:3], call("a c -> y"))), shared)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Random graphs: branches, dead tensors, scratch, in-place candidates that may or may not hold."""
    count = draw(st.integers(1, 24))
    sizes, calls, names = {"x": 500}, [], ["x"]
    for index in range(count):
        sources = draw(st.lists(st.sampled_from(names[-5:]), min_size=1, max_size=3))
        results = [f"t{index}"] if draw(st.integers(0, 5)) else [f"t{index}", f"u{index}"]
        same = draw(st.booleans())
        for name in results:
            sizes[name] = sizes[sources[0]] if same else draw(st.integers(1, 5000))
        pairs = tuple((s, results[0]) for s in sources) if draw(st.booleans()) else ()
        scratch = draw(st.sampled_from([0, 0, 100, 3000]))
        names += results
        calls.append(
            Call(f"c{index}", "kernel", "f", (*sources, *results), tuple(results), 1, scratch, 0, pairs)
        )
    return program(calls, sizes, "x", names[-1])


@given(programs())
@settings(max_examples=60, deadline=None)
def test_any_program_is_planned_without_overlap(source: Program) -> None:
    result = plan(source)
    check(source, result)
    assert result.lower_bound_bytes <= result.arena_bytes
    assert result.arena_bytes % TARGET.alignment == 0
    assert result == plan(source)


def residual_network(blocks: int, concatenate: bool) -> Program:
    """MobileNet's shape, or a feature pyramid's with long skip connections."""
    sizes, calls, last = {"x": 1000}, [], "x"
    skips = []
    for i in range(blocks):
        size = 200_000 >> (i // 3)
        wide, deep, out = f"wide{i}", f"deep{i}", f"out{i}"
        sizes |= {wide: 6 * size, deep: 6 * size, out: size}
        calls += [call(f"{last} -> {wide}"), call(f"{wide} -> {deep}", 4096), call(f"{deep} {last} -> {out}")]
        last = out
        if i % 3 == 2:
            skips.append(out)
    if concatenate:
        for skip in reversed(skips):
            up = f"up_{skip}"
            sizes[up] = sizes[skip]
            calls.append(call(f"{last} {skip} -> {up}"))
            last = up
    sizes["y"] = 10
    calls.append(call(f"{last} -> y"))
    return program(calls, sizes, "x", "y")


@pytest.mark.parametrize("concatenate", [False, True])
def test_networks_reach_the_lower_bound_at_once(concatenate: bool) -> None:
    source = residual_network(33, concatenate)
    started = time.perf_counter()
    result = plan(source)
    assert time.perf_counter() - started < 0.5
    assert result.arena_bytes == result.lower_bound_bytes
