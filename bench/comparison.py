"""Comparing arrays: bit for bit, and within a tolerance."""

from dataclasses import dataclass

import numpy as np

from edgec.arrays import Array
from edgec.compiler.emit.expectations import ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE, magnitudes


@dataclass(frozen=True)
class Mismatch:
    """Where a device first differs from the reference."""

    layer: str
    tensor: str
    sample: int
    differing: int
    """Elements that differ (or exceed the tolerance), of `elements`."""
    elements: int
    index: tuple[int, ...]
    """Where the first element lies that differs."""
    device: float
    expected: float


def exact(layer: str, tensor: str, sample: int, device: Array, expected: Array) -> Mismatch | None:
    """Return the first difference in bits, or None; raises ValueError for arrays of different types.

    NaN is NaN, whatever its bits: CPUs have different ones.
    """
    if (device.dtype, device.shape) != (expected.dtype, expected.shape):
        types = f"{device.dtype}{device.shape} and {expected.dtype}{expected.shape}"
        raise ValueError(f"'{tensor}' has two types: {types}")
    differs = (_bytes(device) != _bytes(expected)).any(axis=1)
    if device.dtype.kind == "f":
        differs &= ~(np.isnan(device) & np.isnan(expected)).reshape(-1)
    return _first(layer, tensor, sample, device, expected, differs)


def close(layer: str, tensor: str, sample: int, device: Array, expected: Array) -> Mismatch | None:
    """Return the first element beyond the tolerance of float islands, or None."""
    limit = RELATIVE_TOLERANCE * magnitudes(expected) + ABSOLUTE_TOLERANCE * largest(expected)
    beyond = ~(errors(device, expected) <= limit)  # so that a NaN on one side is beyond
    return _first(layer, tensor, sample, device, expected, beyond)


def errors(device: Array, expected: Array) -> Array:
    """Return the absolute difference per element, flat in float64; 0 for equal infinities or two NaNs."""
    a, b = (np.asarray(x, np.float64).reshape(-1) for x in (device, expected))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        return np.where(same, 0.0, np.abs(a - b))


def largest(expected: Array) -> float:
    """Return the largest finite magnitude, 0 where there is none."""
    return float(magnitudes(expected).max(initial=0.0))


def _bytes(array: Array) -> Array:
    """[elements, bytes of each]."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(array.size, array.itemsize)


def _first(
    layer: str, tensor: str, sample: int, device: Array, expected: Array, differs: Array
) -> Mismatch | None:
    if not differs.any():
        return None
    at = int(differs.argmax())
    return Mismatch(
        layer=layer,
        tensor=tensor,
        sample=sample,
        differing=int(differs.sum()),
        elements=device.size,
        index=tuple(int(i) for i in np.unravel_index(at, device.shape)),
        device=device.reshape(-1)[at].item(),
        expected=expected.reshape(-1)[at].item(),
    )
