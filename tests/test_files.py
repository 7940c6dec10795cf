"""Files that no user should have, and some do: damaged, endless, enormous, not files at all."""

import hashlib
import io
import os
import resource
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgec import cache, files
from edgec.compiler import npz
from edgec.compiler.dumps import Dumps
from edgec.compiler.frontend.load import load
from edgec.compiler.records import records
from edgec.errors import DataError, ModelError, OutputError, TargetError, TuningError
from edgec.targets import loader

LIMIT = 1000


def fifo(path: Path) -> None:
    os.mkfifo(path)


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def loop(path: Path) -> None:
    path.symlink_to(path)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def of_the_kernel(path: Path) -> None:
    path.symlink_to("/proc/self/mem")


NO_FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pipe": (fifo, "not a file but a pipe"),
    "endless zeros": (zeros, "not a file but a device"),
    "a folder": (folder, "not a file but a folder"),
    "a link to itself": (loop, "can't be read: Too many levels of symbolic links"),
    "a tebibyte": (sparse, "1.02e+03 GiB, and edgec reads"),
    "the process's memory": (of_the_kernel, "can't be read: "),
    "nothing": (lambda path: None, "no such file"),
}


@pytest.mark.parametrize("name", NO_FILES)
def test_what_is_no_file_is_one_line_for_whoever_reads_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, message = NO_FILES[name]
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for file in ("x", "x.toml", "data/edgec/tuning.jsonl"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        make(tmp_path / file)
    path = tmp_path / "x"
    for read, kind in (
        (lambda: files.read(path, DataError, LIMIT), DataError),
        (lambda: npz.read(path, DataError), DataError),
        (lambda: records.read(path), TuningError),
        (lambda: loader.load(f"{path}.toml-int8"), TargetError),
        (lambda: load(path), ModelError),
    ):
        with pytest.raises(kind) as caught:
            read()
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    assert records.user() == records.NONE
    assert cache.read(path) is None


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "y/" * 3000, "\ud800"])
def test_what_is_no_name_is_one_line(name: str, tmp_path: Path) -> None:
    for use in (
        lambda: files.read(tmp_path / name, DataError, LIMIT),
        lambda: files.write(tmp_path / name, b"x", DataError),
        lambda: files.check_writable(tmp_path / name, DataError),
    ):
        with pytest.raises(DataError):
            use()


def test_sizes_are_bounded_and_text_is_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x" * LIMIT)
    assert files.read(path, DataError, LIMIT) == b"x" * LIMIT
    with pytest.raises(DataError, match="1000 bytes, and edgec reads 999 bytes at most"):
        files.read(path, DataError, LIMIT - 1)
    with pytest.raises(DataError, match="edgec reads 10 bytes at most"):
        files.read(Path("/proc/self/maps"), DataError, 10)  # says that it is empty
    path.write_bytes(b"abc\xff")
    with pytest.raises(DataError, match=r"not text in UTF-8 \(byte 3\)"):
        files.read_text(path, DataError, LIMIT)


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x"
    files.write(path, b"first")
    (tmp_path / "link").symlink_to(path)
    files.write(tmp_path / "link", b"second")
    assert path.read_bytes() == b"second"
    assert (tmp_path / "link").is_symlink()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # a disk that is full after 1000 bytes
    try:
        with pytest.raises(OutputError, match="can't be written: File too large"):
            files.write(path, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"second"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link", "x"]


def test_nothing_but_a_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    places = (
        tmp_path / "folder",
        tmp_path / "pipe",
        Path("/dev/null"),
        tmp_path / "file" / "x",
        Path("/proc/x"),
    )
    for path in places:
        with pytest.raises(OutputError, match=r"not a file but|can't be written"):
            files.write(path, b"x")
    for path in (*places[:3], places[3], tmp_path / "no" / "such"):
        with pytest.raises(OutputError, match=r"not a file but|can't be written"):
            files.check_writable(path)
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("place", ["file", "pipe", "/proc/x"])
def test_a_dump_that_cannot_be_written_is_one_line(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="can't be made"):
        Dumps(tmp_path / place)._write("functions/x.tir", b"x")


# ---- .npz


def entry(array: np.ndarray | bytes = b"", **header: object) -> bytes:
    """An .npy file; `header` replaces what numpy would say of it."""
    buffer = io.BytesIO()
    if isinstance(array, bytes):
        said = {"descr": "<f4", "fortran_order": False, "shape": (2,)} | header
        np.lib.format.write_array_header_1_0(buffer, said)  # type: ignore[arg-type]
        return buffer.getvalue() + array
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def archive(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as made:
        for name, content in entries.items():
            made.writestr(name, content)
    return path


def patched(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


GOOD = entry(np.arange(3, dtype=np.float32))


def _flags(path: Path, bits: int) -> Path:
    return _headed(path, 6, bits)


def _method(path: Path, method: int) -> Path:
    return _headed(path, 8, method)


def _headed(path: Path, offset: int, value: int) -> Path:
    """With a field of two bytes set in the entry's header and in the directory, which has it two bytes on."""
    content = bytearray(path.read_bytes())
    for place in (offset, content.index(b"PK\x01\x02") + offset + 2):
        content[place : place + 2] = struct.pack("<H", value)
    path.write_bytes(content)
    return path


def _said(path: Path, size: int) -> Path:
    """With another size in the directory than there is."""
    content = bytearray(path.read_bytes())
    central = content.index(b"PK\x01\x02")
    content[central + 24 : central + 28] = struct.pack("<I", size)
    path.write_bytes(content)
    return path


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "encrypted": (lambda p: _flags(archive(p, {"x.npy": GOOD}), 1), "'x.npy' is encrypted"),
    "compression 97": (lambda p: _method(archive(p, {"x.npy": GOOD}), 97), "compressed by a method"),
    "bzip2": (lambda p: archive(p, {"x.npy": GOOD}, zipfile.ZIP_BZIP2), "compressed by a method"),
    "lzma": (lambda p: archive(p, {"x.npy": GOOD}, zipfile.ZIP_LZMA), "compressed by a method"),
    "4 TB": (lambda p: archive(p, {"x.npy": entry(bytes(8), shape=(10**12,))}), "says that it is"),
    "2 to the 80": (lambda p: archive(p, {"x.npy": entry(bytes(8), shape=(2**80,))}), "says that it is"),
    "a product of 0": (lambda p: archive(p, {"x.npy": entry(bytes(8), shape=(2**80, 0))}), "says that it is"),
    "negative": (lambda p: archive(p, {"x.npy": entry(bytes(8), shape=(-1, -2))}), "says that it is"),
    "too short": (
        lambda p: archive(p, {"x.npy": GOOD[:-1]}),
        "says that it is float32 [3], and has 11 bytes",
    ),
    "too long": (lambda p: archive(p, {"x.npy": GOOD + b"x"}), "and has 13 bytes"),
    "no header": (lambda p: archive(p, {"x.npy": b"hello"}), "is no array of numpy's"),
    "empty entry": (lambda p: archive(p, {"x.npy": b""}), "is no array of numpy's"),
    "half a header": (lambda p: archive(p, {"x.npy": GOOD[:40]}), "is no array of numpy's"),
    "header of code": (
        lambda p: archive(p, {"x.npy": b"\x93NUMPY\x01\x00\x20\x00" + b"__import__('os').abort()".ljust(32)}),
        "is no array of numpy's",
    ),
    "deep header": (
        lambda p: archive(p, {"x.npy": b"\x93NUMPY\x01\x00\x88\x13" + b"[" * 5000}),
        "is no array of numpy's",
    ),
    "long header": (
        lambda p: archive(p, {"x.npy": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b" " * 50_000}),
        "is no array of numpy's",
    ),
    "other version": (
        lambda p: archive(p, {"x.npy": b"\x93NUMPY\x09\x00" + GOOD[8:]}),
        "no array of numpy's",
    ),
    "objects": (lambda p: np.savez(p, x=np.array([{}])), "holds Python objects"),
    "not .npy": (lambda p: archive(p, {"x.txt": b"hello"}), "'x.txt' is no array"),
    "a pickle": (lambda p: p.write_bytes(b"\x80\x04K\x01."), "not an .npz file"),
    "text": (lambda p: p.write_text("hello"), "not an .npz file"),
    "empty": (lambda p: p.touch(), "not an .npz file"),
    "one array": (lambda p: np.save(p.open("wb"), np.ones(3)), "holds one unnamed array"),
    "cut off": (lambda p: p.write_bytes(archive(p, {"x.npy": GOOD}).read_bytes()[:-30]), "damaged .npz file"),
    "wrong checksum": (lambda p: patched(archive(p, {"x.npy": GOOD}), GOOD[-4:], b"abcd"), "damaged .npz"),
    "3 GB": (lambda p: _said(archive(p, {"x.npy": GOOD}), 3 << 30), "take more than the 2 GiB"),
    "10,001 arrays": (lambda p: archive(p, {f"{i}.npy": b"" for i in range(10_001)}), "10001 arrays"),
    "central directory elsewhere": (
        lambda p: p.write_bytes(archive(p, {"x.npy": GOOD}).read_bytes()[:-6] + b"\xff\xff\xff\x7f\0\0"),
        "can't be read",
    ),
}


@pytest.mark.filterwarnings("ignore:Duplicate name", "ignore:.*unclosed file")
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_npz_file_is_one_line(name: str, tmp_path: Path) -> None:
    make, message = BROKEN[name]
    path = tmp_path / "x.npz"
    make(path)
    with pytest.raises(DataError, match=message.replace("[", r"\[")) as caught:
        npz.read(path, DataError)
    assert str(caught.value).startswith(str(path))


def test_a_bomb_costs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "LIMIT", 8 << 20)
    archive(tmp_path / "x.npz", {"x.npy": bytes(256 << 20)}, zipfile.ZIP_DEFLATED)
    assert (tmp_path / "x.npz").stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(DataError, match="take more than"):
        npz.read(tmp_path / "x.npz", DataError)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


ARRAYS = {
    "file": np.arange(3),
    "a/b:0": np.ones((2, 2), np.float32),
    "turned": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "big-endian": np.arange(4, dtype=">f8"),
    "scalar": np.float32(3),
    "none": np.zeros((0, 4), np.int8),
    "truth": np.array([True, False]),
}


def test_what_numpy_writes_is_read(tmp_path: Path) -> None:
    (tmp_path / "own.npz").write_bytes(npz.encode(ARRAYS))
    others = {name: array for name, array in ARRAYS.items() if name != "file"}
    np.savez(tmp_path / "numpy.npz", **others)  # type: ignore[arg-type]
    np.savez_compressed(tmp_path / "compressed.npz", **others)  # type: ignore[arg-type]
    for file in ("own", "numpy", "compressed"):
        read = npz.read(tmp_path / f"{file}.npz", DataError)
        for name, array in read.items():
            assert array.dtype == ARRAYS[name].dtype
            np.testing.assert_array_equal(array, ARRAYS[name])
    with np.load(tmp_path / "own.npz") as loaded:
        assert set(loaded) == set(ARRAYS)


def test_the_bytes_of_an_npz_file_are_the_same_on_every_machine() -> None:
    digest = hashlib.sha256(npz.encode({"x": np.arange(6, dtype=np.float32).reshape(2, 3)})).hexdigest()
    assert digest == "8f9acea1886fffad89724a064fc360dd2d351d08a7d03d199ab7d78a492e8e16"


@pytest.mark.parametrize("seed", range(3))
def test_npz_files_with_bytes_changed_at_random(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    good = archive(
        tmp_path / "x.npz", {"x.npy": GOOD, "y.npy": entry(np.eye(3))}, (0, 8, 8)[seed]
    ).read_bytes()
    refused = 0
    for _ in range(200):
        content = bytearray(good)
        for _ in range(rng.integers(1, 4)):
            content[rng.integers(4, len(content))] = rng.integers(256)
        (tmp_path / "x.npz").write_bytes(content[: rng.integers(len(content) // 2, 2 * len(content))])
        try:
            npz.read(tmp_path / "x.npz", DataError)
        except DataError:
            refused += 1
    assert refused > 100


# ---- TOML, tuning records


TARGETS = {
    "deep arrays": "features = " + "[" * 100_000,
    "deep tables": "[" + ".".join("a" * 20_000) + "]",
    "deep value": "features." + ".".join("a" * 5_000) + " = 1",
    "5000 digits": f"cores = {'9' * 5000}",
    "10 to the 400": "cores = 1e400",
    "NUL in a base": 'base = "a\\u0000.toml"',
    "a base with a line break": 'base = "a\\nedgec: error: b"',
    "Windows": 'base = "x86-64"\ntriple = "x86_64-pc-windows-msvc"',
    "macOS": 'base = "arm64"\ntriple = "aarch64-apple-darwin"',
    "Windows in C": 'base = "x86-64"\nc_target = "x86_64-windows-gnu"',
    "a system on a microcontroller": 'base = "cortex-m4"\nc_target = "thumb-linux-gnueabihf"',
    "glibc 9.99": 'base = "x86-64"\nc_target = "x86_64-linux-gnu.9.99"',
    "glibc 2.5": 'base = "x86-64"\nc_target = "x86_64-linux-gnu.2.5"',
    "glibc of 5000 digits": f'base = "x86-64"\nc_target = "x86_64-linux-gnu.2.{"9" * 5000}"',
    "a key with a line break": 'base = "x86-64"\n"a\\nb" = 1',
    "bytes": "\xff\xfe",
    "a pipe as base": 'base = "pipe.toml"',
    "a device as base": 'base = "/dev/zero.toml"',
    "itself": 'base = "x.toml"',
    "itself, spelt otherwise": 'base = "./../here/x.toml"',
    "a variant that is itself": 'base = "x86-64"\nvariants = ["x.toml"]',
    "a long chain": 'base = "c0.toml"',
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_targets_file_that_makes_no_sense_is_one_line(name: str, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    os.mkfifo(here / "pipe.toml")
    (here / "x.toml").write_text(TARGETS[name], "latin-1")
    for index in range(2000):
        if name == "a long chain":
            (here / f"c{index}.toml").write_text(f'base = "c{index + 1}.toml"')
    with pytest.raises(TargetError) as caught:
        loader.load(f"{here}/x.toml-int8")
    assert len(str(caught.value)) < 12_000


@pytest.mark.parametrize(
    "line",
    ["[" * 100_000, "9" * 5000, "{", "[]", "null", '"x"', "{}", "\\ud800", '{"cost": NaN}'],
)
def test_records_that_are_none_are_named_by_their_line(line: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text(f"\n{line}\n")
    with pytest.raises(TuningError, match="x, line 2: not a tuning record"):
        records.read(tmp_path / "x")
