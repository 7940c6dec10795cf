"""Named arrays in an .npz file: read from anywhere, and written as the same bytes everywhere."""

import io
import math
import warnings
import zipfile
from pathlib import Path

import numpy as np

from edgec import files
from edgec.arrays import Array, Arrays
from edgec.errors import EdgecError

LIMIT = 2 * files.GIBIBYTE
"""Bytes of all arrays of a file: a thousand colour images of 400 x 400 in float32."""
_HEADER = 16_384
"""Bytes that hold an array's header: numpy reads 10,000 characters of it at most."""
_ENTRIES = 10_000
"""As many as no model has inputs."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What numpy writes."""
_ENCRYPTED = 1
"""Bit of an entry's flags."""
_MAGIC = b"PK"
_NPY = b"\x93NUMPY"


def read(path: Path, error: type[EdgecError]) -> dict[str, Array]:
    """Return the arrays of the .npz file at `path` by name; raises `error` where it isn't one.

    What a header says is compared with the entry's size before anything of that size is allocated.
    """
    with files.opened(path, error, LIMIT + files.MEBIBYTE) as file:
        start = file.read(len(_NPY))
        if start == _NPY:
            raise error(f"{path}: holds one unnamed array: save it with np.savez(path, NAME=array)")
        if not start.startswith(_MAGIC):
            raise error(f"{path}: not an .npz file")
        try:
            with zipfile.ZipFile(file) as archive:
                return _arrays(path, archive, error)
        except (EdgecError, OSError, MemoryError):
            raise
        except Exception as problem:  # zipfile raises what it comes upon: seven kinds at least
            raise error(f"{path}: a damaged .npz file: {problem}") from problem


def encode(arrays: Arrays) -> bytes:
    """Return the arrays as an .npz file.

    It is dated 1980 and not compressed, so that no clock and no zlib decides its bytes.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.create_system = 3  # Unix, on every system
            entry.external_attr = 0o600 << 16
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asanyarray(array), allow_pickle=False)
            archive.writestr(entry, content.getbuffer())  # streams are headed otherwise since Python 3.11.4
    return buffer.getvalue()


def _arrays(path: Path, archive: zipfile.ZipFile, error: type[EdgecError]) -> dict[str, Array]:
    entries = archive.infolist()
    if len(entries) > _ENTRIES:
        raise error(f"{path}: {len(entries)} arrays, and edgec reads {_ENTRIES} at most")
    if sum(entry.file_size for entry in entries) > LIMIT:
        raise error(f"{path}: its arrays take more than the {LIMIT // files.GIBIBYTE} GiB that edgec reads")
    found: dict[str, Array] = {}
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        if entry.flag_bits & _ENCRYPTED:
            raise error(f"{path}: '{entry.filename}' is encrypted")
        if entry.compress_type not in _METHODS:
            raise error(f"{path}: '{entry.filename}' is compressed by a method that numpy doesn't write")
        if name == entry.filename:
            raise error(f"{path}: '{name}' is no array: name entries NAME.npy, as np.savez does")
        if name in found:
            raise error(f"{path}: '{name}' is there twice")
        with archive.open(entry) as file:
            content = bytearray(file.read(entry.file_size))  # so that the array may be written to
        found[name] = _array(f"{path}: '{name}'", content, error)
    return found


def _array(what: str, content: bytearray, error: type[EdgecError]) -> Array:
    """Return the array of an entry; what its header says must be what is there."""
    header = io.BytesIO(content[:_HEADER])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote
            first = np.lib.format.read_magic(header) == (1, 0)
            parse = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = parse(header)
    except Exception as problem:  # numpy evaluates a literal of Python there, with all that this raises
        raise error(f"{what} is no array of numpy's, or a damaged one") from problem
    if dtype.hasobject:
        raise error(f"{what} holds Python objects: give numbers")
    size = len(content) - header.tell()
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size:
        raise error(f"{what} says that it is {dtype} {list(shape[:8])}, and has {size} bytes")
    return np.ndarray(shape, dtype, content, header.tell(), order="F" if fortran else "C")
