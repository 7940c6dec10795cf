"""Tuning records: looked up by class of CPU and shape, stale and damaged ones left out, kept whole."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgec.compiler.records import records
from edgec.compiler.records.records import NONE, Record, Records
from edgec.compiler.records.signature import signature
from edgec.errors import TuningError
from edgec.kernels.operations import FREE, Binary, Conv2d, Demands, Operator, Runs
from edgec.targets import loader

V3 = loader.load("x86-64-v3-int8")


def conv(channels: int = 8, seed: int = 0, **changes: object) -> Conv2d:
    rng = np.random.default_rng(seed)
    return Conv2d(
        (1, 5, 5, channels), rng.integers(-127, 128, (16, 1, 1, channels), np.int8),
        rng.integers(-9, 9, 16, np.int32), rng.random(16, np.float32), int(rng.integers(-9, 9)),
        int(rng.integers(-9, 9)), -128, 127, **changes,
    )  # fmt: skip


def layer(operation: Conv2d) -> Operator:
    return Operator("layer", operation, ("x",), ("y",))


def record(operation: Conv2d | None = None, **changes: object) -> Record:
    operation = operation or conv()
    made = Record(
        records.cpu_class(operation, V3), signature(operation, FREE), "conv2d_avx2", "6x2 registers",
        90.0, 100.0, "ns", "a CPU", 7, True, records.choice_version(operation, V3),
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def test_a_record_is_for_the_shape_whatever_the_weights() -> None:
    known = Records.of([record()])
    assert known.find(layer(conv(seed=1)), V3) == record()
    residual = Binary("add", (1, 5, 5, 16), ((0,) * 4,) * 2, (0, 0), (1.0, 1.0), 0, -128, 127)
    for other in (conv(4), conv(strides=(2, 2)), conv(residual=residual)):
        assert known.find(layer(other), V3) is None


def test_small_weights_have_records_of_their_own() -> None:
    """Where AVX2's product of bytes is exact there is more to choose from."""
    known = Records.of([record()])
    small = conv()
    small = dataclasses.replace(small, weights=small.weights // 2)
    assert known.find(layer(small), V3) is None
    both = known + Records.of([record(small, kernel="conv2d_avx2bytes")])
    assert both.find(layer(small), V3) == record(small, kernel="conv2d_avx2bytes")
    assert both.find(layer(conv(seed=1)), V3) == record()


def test_what_is_demanded_has_records_of_its_own() -> None:
    """Each demand tells layers apart, as each may take another code; none is the same as before."""
    demands = [
        Demands(scratch=0), Demands(compact=True), Demands(uniform=True), Demands(runs=Runs(16, 20)),
        Demands(placed=(1,)), Demands(stages=(Demands(uniform=True), FREE)),
    ]  # fmt: skip
    for demanded in demands:
        assert Records.of([record()]).find(dataclasses.replace(layer(conv()), demands=demanded), V3) is None
    assert len({signature(conv(), demanded) for demanded in [FREE, *demands]}) == len(demands) + 1


def test_a_class_of_cpus_shares_records() -> None:
    plain = records.cpu_class(conv(), loader.load("rpi4-int8"))
    assert plain != records.cpu_class(conv(), loader.load("cortex-a53-int8")), "another core"
    assert plain == records.cpu_class(
        conv(),
        dataclasses.replace(loader.load("rpi4-int8"), features=frozenset()),
    ), "no kernel makes use of crc"
    assert Records.of([record()]).find(layer(conv()), loader.load("x86-64-v4-int8")) is None


def test_records_of_other_kernels_are_none() -> None:
    assert Records.of([record(version="another")]).find(layer(conv()), V3) is None


_LIVE = """
from edgec.compiler.records.records import cpu_class, shipped
from edgec.kernels import operations, table, version
from edgec.targets import loader

levels = [level for name in ("x86-64-v3", "x86-64-v4") for level in loader.load(f"{name}-int8").levels]
versions = {
    version.version(tuple(k for k in table.KERNELS if k.operation.__name__ == kind and k.runs_on(level)))
    for level in levels
    for kind in {key[1].partition("(")[0] for key in shipped().entries}
}
print(sum(record.version in versions for record in shipped().entries.values()))
"""


def test_every_shipped_record_is_live_and_stays_so_when_a_module_is_renamed(tmp_path: Path) -> None:
    """Also after a comment, a docstring and an import that nobody uses."""
    root = Path(__file__).parents[3]
    for folder in ("edgec", "kernels", "compiler", "targets"):
        shutil.copytree(root / folder, tmp_path / folder, symlinks=True)
    (tmp_path / "kernels/isa/int16.py").rename(tmp_path / "kernels/isa/words.py")
    for path in tmp_path.rglob("*.py"):
        text = path.read_text()
        changed = re.sub(r"\bisa\.int16\b", "isa.words", text)
        changed = re.sub(r"(from edgec\.kernels\.isa import .*)\bint16\b", r"\1words", changed)
        if "words" in changed and changed != text:
            changed = re.sub(r"(?<![\w.])int16\.", "words.", changed)
            path.write_text('"""Said differently."""\nimport string  # unused\n# why\n' + changed)
    assert "words.AVX2" in (tmp_path / "kernels/table.py").read_text(), "the rename did something"
    shipped = len(records.shipped().entries)
    for folder in (root, tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", _LIVE], cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert int(done.stdout) == shipped


def test_later_records_win() -> None:
    one, two = record(), record(configuration="4x2 registers")
    assert (Records.of([one]) + Records.of([two])).find(layer(conv()), V3) == two
    assert Records.of([two, one]).find(layer(conv()), V3) == one


def test_they_are_written_and_read_as_json_lines(tmp_path: Path) -> None:
    known = Records.of([record(), record(conv(4), cost=3.25, complete=False)])
    path = tmp_path / "tuning.jsonl"
    path.write_bytes(records.encode(known))
    assert records.read(path) == known
    assert len(path.read_text().splitlines()) == 2


def test_the_users_records_are_kept_and_added_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert records.user() == NONE
    records.keep(Records.of([record()]))
    records.keep(Records.of([record(conv(4))]))
    assert records.user() == Records.of([record(), record(conv(4))])
    assert list(tmp_path.rglob("*.tmp")) == []
    assert records.known().find(layer(conv()), V3) == record()


def test_damaged_lines_of_the_users_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    records.keep(Records.of([record()]))
    good = records.user_file().read_text()
    older = {key: value for key, value in json.loads(good).items() if key != "tried"}
    wrong = json.loads(good) | {"cost": "much", "operation": "x"}
    lines = [good[:40], "[]", "", json.dumps(older), json.dumps(wrong), good]
    records.user_file().write_text("\n".join(lines))
    assert records.user() == Records.of([record()])
    records.user_file().write_bytes(b"\xff\xfe")
    assert records.user() == NONE


def test_a_file_that_is_given_must_be_whole(tmp_path: Path) -> None:
    path = tmp_path / "tuning.jsonl"
    with pytest.raises(TuningError, match=r"tuning.jsonl: no such file"):
        records.read(path)
    path.write_bytes(records.encode(Records.of([record()])) + b"{}\n")
    with pytest.raises(TuningError, match=r"tuning.jsonl, line 2: not a tuning record"):
        records.read(path)


def test_records_that_cannot_be_kept_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    with pytest.raises(TuningError, match="can't be written"):
        records.keep(NONE)


def test_shipped_records_are_all_read() -> None:
    lines = (Path(records.__file__).parent / "shipped.jsonl").read_text().splitlines()
    assert len(records.shipped().entries) == len(lines)
