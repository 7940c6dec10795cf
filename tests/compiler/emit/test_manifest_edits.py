"""A manifest that anybody edited: refused in one line, also where they made its hash anew."""

import copy
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.bench.bundle import Bundle
from edgec.bench.measure.benchmark import benchmark
from edgec.bench.verify import verify
from edgec.compiler.emit import manifest
from edgec.errors import BundleError, EdgecError
from tests.compiler.building import build
from tests.compiler.onnx_models import model

Manifest = dict[str, Any]
Edit = Callable[[Manifest], None]

SMALL = """(float[1,3,8,8] image) => (float scores, float[1,4,8,8] b) {
    a = Conv<pads=[1,1,1,1]>(image, w) b = Relu(a)
    c = MaxPool<kernel_shape=[8,8]>(b) d = Flatten(c) scores = Softmax(d)
}"""
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 7, 2**31, 2**62, 10**30, 1.5, 1e308, "", "x", "x" * 5000, "a\nb\x1b[31m", "\ud800",
    "../../etc/passwd", "/etc/passwd", "int32", [], {}, [[]], [1], {"x": 1}, [0] * 40,
)  # fmt: skip
SAMPLED = 400


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    weights = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    return build(model(SMALL, {"w": weights}), tmp_path_factory.mktemp("edited"))


@pytest.fixture
def edited(built: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built.path, tmp_path / "m.edgec", symlinks=True))


def rewrite(folder: Path, content: Manifest) -> None:
    """Write an edited manifest with the hash that belongs to it."""
    try:
        raw = manifest.encode(content)
    except UnicodeEncodeError:
        raw = json.dumps(content, indent=2, sort_keys=True).encode()
    (folder / "manifest.json").write_bytes(raw)
    (folder / "manifest.sha256").write_text(f"{hashlib.sha256(raw).hexdigest()}  manifest.json\n")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything in a manifest, the inner nodes too."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def inside(content: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        content = content[key]
    return content


def random_edit(content: Manifest, rng: random.Random) -> str:
    *way, last = rng.choice(list(places(content)))
    parent = inside(content, tuple(way))
    kind = rng.choice(["set", "set", "set", "delete", "twice", "rename"])
    if kind == "set":
        parent[last] = rng.choice(VALUES)
    elif kind == "delete":
        del parent[last]
    elif isinstance(parent, list):
        parent.append(copy.deepcopy(parent[last]))
    else:
        parent[f"{last}{rng.choice(['_', chr(10), '/..'])}"] = parent.pop(last)
    return f"{kind} {way} {last}: {str(parent)[:100]}"


def use(folder: Path) -> None:
    """What run, verify and bench do with a bundle."""
    bundle = Bundle.load(folder)
    device = bundle.device()
    with np.load(bundle.file("golden/inputs.npz")) as arrays:
        bundle.run(dict(arrays))
    assert verify(bundle, device, None).passed
    benchmark(bundle, device, runs=1)


def test_an_edited_manifest_is_noticed(built: Bundle, edited: Path) -> None:
    use(edited)
    raw = (edited / "manifest.json").read_bytes()
    for content in (raw.replace(b'"speed"', b'"flash"'), raw + b" ", b" " + raw):
        (edited / "manifest.json").write_bytes(content)
        with pytest.raises(BundleError, match=r"manifest\.json was changed after the build"):
            Bundle.load(edited)
    (edited / "manifest.json").write_bytes(raw)
    (edited / "manifest.sha256").unlink()
    with pytest.raises(BundleError, match=r"manifest\.sha256: no such file"):
        Bundle.load(edited)
    assert Bundle.load(built.path).digest == hashlib.sha256(raw).hexdigest()


def _rename_level(content: Manifest) -> None:
    content["levels"][0]["name"] = "best"


def _lead_out(content: Manifest) -> None:
    digest = hashlib.sha256(Path("/etc/passwd").read_bytes()).hexdigest()
    content["files"]["../" * 20 + "etc/passwd"] = digest


NAMED: dict[str, tuple[Edit, str]] = {
    "arena": (lambda m: m["memory"].update(arena_bytes=2**62), "memory/arena_bytes"),
    "arena less": (lambda m: m["memory"].update(arena_bytes=0), "less than lower_bound_bytes"),
    "features": (lambda m: m.update(required_features=["avx9"]), "required_features"),
    "scale": (lambda m: m["inputs"][0].update(scale=0.5, zero_point=None), "scale without a zero point"),
    "scale nan": (lambda m: m["inputs"][0].update(scale=float("nan"), zero_point=0), "scale"),
    "triple": (lambda m: m["target"].update(triple="x86_64-pc-windows-msvc"), "key 'triple'"),
    "target features": (lambda m: m["target"].update(features=["none such"]), "no feature 'none such'"),
    "requantization": (lambda m: m["target"].update(requantization="exact"), "requantization"),
    "original.onnx": (lambda m: m["files"].pop("original.onnx"), r"'original\.onnx' isn't listed"),
    "leads out": (_lead_out, "is no file inside the bundle"),
    "step less": (lambda m: m["steps"].pop(), "kernels for"),
    "dtype": (lambda m: m["inputs"][0].update(dtype="x"), "inputs/0/dtype"),
    "dtype of an output": (lambda m: m["outputs"][0].update(dtype="int64"), "a step computes float32"),
    "rank": (lambda m: m["outputs"][0]["shape"].append(1), "a step computes"),
    "versions": (lambda m: m.update(versions={}), "versions"),
    "level": (_rename_level, "levels: they aren't the target's"),
    "one tensor twice": (lambda m: m["steps"].append(m["steps"][0]), "kernels for|is there 2 times"),
    "long name": (lambda m: m.update(name="x" * 5000), "name: "),
    "macs": (lambda m: m["model"].update(macs=1), "model/macs"),
    "bytes": (lambda m: m["steps"][0]["outputs"][0].update(bytes=3), "hasn't 3 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_an_edit_with_its_hash_is_refused_by_what_it_contradicts(
    name: str, built: Bundle, edited: Path
) -> None:
    edit, message = NAMED[name]
    content = manifest.to_data(built.manifest)
    edit(content)
    rewrite(edited, content)
    with pytest.raises(BundleError, match=message):
        Bundle.load(edited)


@pytest.mark.parametrize("seed", range(4))
def test_edits_at_random_end_in_a_line_or_do_no_harm(seed: int, built: Bundle, edited: Path) -> None:
    rng = random.Random(seed)
    accepted = 0
    for _ in range(SAMPLED // 4):
        content = manifest.to_data(built.manifest)
        edits = [random_edit(content, rng) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
        try:
            rewrite(edited, content)
            use(edited)
            accepted += 1
        except EdgecError:
            continue
        except Exception as error:
            raise AssertionError(edits) from error
    assert accepted < SAMPLED // 4 / 5  # names of nodes, reasons, figures: text that says nothing to edgec


def test_a_link_out_of_the_bundle_is_refused(built: Bundle, edited: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.onnx"
    (edited / "model.onnx").rename(outside)
    (edited / "model.onnx").symlink_to(outside)
    with pytest.raises(BundleError, match=r"model\.onnx is a link out of the bundle"):
        Bundle.load(edited)
    del built


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sha256", "model.onnx"])
def test_what_is_no_file_is_refused_at_once(name: str, edited: Path) -> None:
    (edited / name).unlink()
    os.mkfifo(edited / name)
    with pytest.raises(BundleError, match=r"a pipe|missing"):
        Bundle.load(edited)
    (edited / name).unlink()
    (edited / name).symlink_to("/dev/zero")
    with pytest.raises(BundleError, match=r"a device|missing"):
        Bundle.load(edited)
    (edited / name).unlink()
    (edited / name).mkdir()
    with pytest.raises(BundleError, match=r"a folder|missing"):
        Bundle.load(edited)
