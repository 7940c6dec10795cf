"""Whole models on one thread and on two, through the library that a user links.

The example always, and what lies in the folder EDGEC_BENCHMARK_MODELS, as `edgec.bench.lab.models` writes.
"""

import ctypes
import os
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import edgec
from edgec.bench.bundle import Bundle
from edgec.bench.run import read_arrays

EXAMPLE = Path(__file__).parents[1] / "examples/fmnist_dscnn.onnx"
MORE = os.environ.get("EDGEC_BENCHMARK_MODELS")
MODELS = [EXAMPLE, *(sorted(Path(MORE).glob("*.onnx")) if MORE else ())]
ALIGNMENT = 64  # of the arena
CONTEXT_BYTES = 1 << 16  # more than any model's context


@pytest.fixture(scope="module", params=MODELS, ids=lambda path: path.stem)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model built for this machine."""
    output = tmp_path_factory.mktemp("models") / "model.edgec"
    return edgec.build(request.param, target="host-int8", output=output)


def aligned(size: int) -> np.ndarray:
    """Memory as an arena needs it."""
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


@pytest.mark.parametrize("threads", [1, 2])
def test_model(benchmark: BenchmarkFixture, bundle: Bundle, threads: int) -> None:
    """One inference on the golden inputs."""
    name = bundle.identifier
    library = ctypes.CDLL(str(bundle.file(f"lib/lib{name}.so")))
    memory = bundle.memory
    arena_bytes = memory.arena_bytes + (threads - 1) * memory.thread_scratch_bytes
    context, arena = aligned(CONTEXT_BYTES), aligned(arena_bytes)
    golden = read_arrays(bundle.file("golden/inputs.npz"))
    inputs = [np.ascontiguousarray(golden[tensor.name]) for tensor in bundle.inputs]
    outputs = [np.zeros(tensor.shape, tensor.dtype) for tensor in bundle.outputs]
    place = ctypes.c_void_p(context.ctypes.data)
    given, filled = ((ctypes.c_void_p * len(a))(*(x.ctypes.data for x in a)) for a in (inputs, outputs))
    size = ctypes.c_size_t(arena.nbytes)
    assert library[f"{name}_init"](place, ctypes.c_void_p(arena.ctypes.data), size, threads) == 0
    try:
        assert benchmark(library[f"{name}_run"], place, given, filled) == 0
    finally:
        library[f"{name}_close"](place)
    expected = read_arrays(bundle.file("golden/outputs.npz"))
    for tensor, output in zip(bundle.outputs, outputs, strict=True):
        np.testing.assert_array_equal(output, expected[tensor.name])
