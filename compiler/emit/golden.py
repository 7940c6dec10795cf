"""Golden vectors: one run that the reference computed, to compare a device's with."""

import io
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Golden:
    """One inference of the reference. Arrays are keyed by tensor name, in the program's shapes and dtypes."""

    inputs: dict[str, NDArray[Any]]
    outputs: dict[str, NDArray[Any]]
    checksums: tuple[int | None, ...]
    """Per call: `checksum` of its outputs, or None for a float step."""


def checksum(arrays: Iterable[NDArray[Any]]) -> int:
    """Return the CRC-32 (zlib's) of the arrays' row-major bytes, one after another."""
    crc = 0
    for array in arrays:
        crc = zlib.crc32(np.ascontiguousarray(array).tobytes(), crc)
    return crc


def npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the arrays as an .npz file, the same bytes every time (np.savez takes no array named `file`)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, whatever the clock says
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
    return buffer.getvalue()
