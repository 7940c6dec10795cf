"""Running a bundle's model on samples, wherever the device is."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgec.arrays import Array, Arrays
from edgec.bench.devices import Device, Execution, checked
from edgec.compiler import npz
from edgec.compiler.emit.bundle import Bundle
from edgec.compiler.emit.manifest import End, Output
from edgec.errors import DataError, DeviceError
from edgec.kernels.operations import Quantize
from edgec.kernels.reference import quantize

Described = Sequence[End | Output]
"""Tensors as a manifest has them."""

_INPUT, _OUTPUT = "input.bin", "output.bin"


def read_arrays(path: Path) -> dict[str, Array]:
    """Return the arrays of an .npz file by name; raises DataError where it isn't one."""
    return npz.read(path, DataError)


def run(bundle: Bundle, device: Device, arrays: Arrays) -> dict[str, Array]:
    """Return the outputs by name, with a leading sample axis where the inputs have one; raises DataError."""
    outputs = run_samples(bundle, device, arrays)
    single = all(np.ndim(arrays[tensor.name]) == len(tensor.shape) for tensor in bundle.inputs)
    return {name: output[0] for name, output in outputs.items()} if single else outputs


def run_samples(bundle: Bundle, device: Device, arrays: Arrays) -> dict[str, Array]:
    """Return every output as [S, *shape] for inputs of [S, *shape], or of `shape` for one sample.

    Raises DataError when names, shapes or dtypes don't fit, DeviceError when the device fails.
    """
    samples = stack(bundle, arrays)
    content = pack(bundle.inputs, samples)
    done = device.execute(
        bundle.bench,
        [*bundle.options, "--input", _INPUT, "--output", _OUTPUT],
        files={_INPUT: content},
        collect={_OUTPUT: packed_bytes(bundle.outputs, count(samples))},
    )
    return unpack(bundle.outputs, checked(done), _OUTPUT, count(samples))


def stack(bundle: Bundle, arrays: Arrays) -> dict[str, Array]:
    """Return `arrays` as [S, *shape] each, in the order of the bundle's inputs; raises DataError."""
    inputs = bundle.inputs
    for name in arrays.keys() - {tensor.name for tensor in inputs}:
        known = ", ".join(f"'{tensor.name}'" for tensor in inputs)
        raise DataError(f"the model has no input '{name}': its inputs are {known}")
    stacked = {tensor.name: _stacked(tensor, arrays) for tensor in inputs}
    sizes = {name: len(array) for name, array in stacked.items()}
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"'{name}' {size}" for name, size in sizes.items())
        raise DataError(f"inputs have different numbers of samples: {counts}")
    if not count(stacked):
        raise DataError("there are no samples: the leading axis is empty")
    return stacked


def real(bundle: Bundle, tensor: End, array: Array) -> Array:
    """Return what an int8 tensor that the model has in float stands for; other arrays as they are."""
    if not bundle.manifest.int8_io or array.dtype != np.int8 or tensor.scale is None:
        return array
    assert tensor.zero_point is not None, "a manifest has both or neither"
    steps = (array.astype(np.int32) - tensor.zero_point).astype(np.float32)
    return np.asarray(steps * np.float32(tensor.scale))


def count(samples: Arrays) -> int:
    """Return the number of samples of stacked arrays."""
    return len(next(iter(samples.values())))


def pack(tensors: Described, samples: Arrays) -> bytes:
    """Return the bench program's file format: per sample, the bytes of each tensor in order."""
    return np.concatenate([_rows(samples[tensor.name]) for tensor in tensors], axis=1).tobytes()


def packed_bytes(tensors: Described, samples: int) -> int:
    """Return how large a file in the bench program's format is."""
    return samples * sum(map(_size, tensors))


def unpack(tensors: Described, done: Execution, file: str, samples: int) -> dict[str, Array]:
    """Return the tensors of a file in the bench program's format as [S, *shape] each; raises DeviceError."""
    sizes = [_size(tensor) for tensor in tensors]
    content = done.files.get(file, b"")
    if len(content) != samples * sum(sizes):
        wrote = f"wrote {len(content)} bytes to {file} in place of {samples * sum(sizes)}"
        raise DeviceError(f"'{done.device}': the bench program {wrote}")
    rows = np.frombuffer(content, np.uint8).reshape(samples, sum(sizes))
    parts = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
    return {
        tensor.name: np.ascontiguousarray(part).view(tensor.dtype).reshape(samples, *tensor.shape)
        for tensor, part in zip(tensors, parts, strict=True)
    }


def _size(tensor: End | Output) -> int:
    elements: int = math.prod(tensor.shape)
    return elements * int(np.dtype(tensor.dtype).itemsize)


def _rows(array: Array) -> Array:
    """[S, bytes of one sample]."""
    return np.ascontiguousarray(array).reshape(len(array), -1).view(np.uint8)


def _stacked(tensor: End, arrays: Arrays) -> Array:
    """Return the array for one input as [S, *shape]."""
    name, dtype, shape = tensor.name, tensor.dtype, tuple(tensor.shape)
    if name not in arrays:
        raise DataError(f"input '{name}' is missing: give {dtype} {_text(shape)}")
    array = np.asarray(arrays[name])
    if array.dtype == np.float32 and dtype == "int8" and tensor.scale is not None:
        assert tensor.zero_point is not None, "a manifest has both or neither"
        array = quantize(Quantize(array.size, tensor.scale, tensor.zero_point), array)
    if array.dtype != np.dtype(dtype):
        raise DataError(f"input '{name}' is {array.dtype} and the model takes {dtype}: convert it first")
    if array.shape == shape:
        return array[np.newaxis]
    if array.shape[1:] == shape and array.ndim == len(shape) + 1:
        return array
    wanted = f"{_text(shape)}, or Sx{_text(shape)} for S samples"
    raise DataError(f"input '{name}' has shape {_text(array.shape)} and the model takes {wanted}")


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
