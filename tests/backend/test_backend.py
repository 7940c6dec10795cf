"""The ONNX project's own models: each computes what ONNX says, or is refused, by a reason on a list."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgec.bench.bundle import Bundle
from edgec.compiler import pipeline
from edgec.compiler.frontend.load import load
from edgec.options import BuildOptions
from tests.backend import refused
from tests.backend.cases import cases
from tests.backend.verdicts import CRASH, REFUSED, WRONG, Verdict, difference, shapes, target

PARTS = 8
"""Processes of their own, so that several run at once and each is short."""

EVERY = 60
"""One of so many models is built into a bundle, driver and all."""


@pytest.mark.slow
@pytest.mark.parametrize("part", range(1, PARTS + 1))
def test_models(part: int) -> None:
    command = [sys.executable, "-m", "tests.backend", "--json", "--part", f"{part}/{PARTS}"]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, env=environment, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [Verdict(**verdict) for verdict in json.loads(done.stdout)]
    assert found
    assert not [verdict for verdict in found if verdict.kind in (WRONG, CRASH)]
    reasons = {verdict.name: verdict.text for verdict in found if verdict.kind == REFUSED}
    assert not {name: fault for name, reason in reasons.items() if (fault := refused.fault(reason))}
    version, listed = refused.listed()
    if version == onnx.__version__:  # models come and go with it
        assert reasons.keys() == listed.keys() & {verdict.name for verdict in found}


def test_reasons_on_the_list() -> None:
    _, listed = refused.listed()
    assert listed == dict(sorted(listed.items()))
    assert not {name: fault for name, reason in listed.items() if (fault := refused.fault(reason))}


@pytest.mark.parametrize(
    "reason",
    [
        "Relax: 'num_heads'",
        "node 'a' (Conv) can't be compiled: TVM said so",
        "needs __divdi3",
        "node 'a' (Conv)\nof two lines",
        f"node 'a' (Conv) {'far ' * 300}",
    ],
)
def test_reasons_that_are_none(reason: str) -> None:
    assert refused.fault(reason)


@pytest.mark.slow
@pytest.mark.parametrize("share", range(4))
def test_bundles(share: int, tmp_path: Path) -> None:
    """What the driver in C does to models is what the tests' own in Python does."""
    _, listed = refused.listed()
    passing = [case for case in cases() if case.name not in listed]
    assert len(passing) > 1000
    for case in passing[::EVERY][share::4]:
        path = tmp_path / f"{case.name}.onnx"
        onnx.save(case.model, path)
        inputs, outputs = case.data[0]
        loaded = load(path, shapes(case))
        output = tmp_path / f"{case.name}.edgec"
        names = [value.name for value in case.model.graph.input]
        given = {name: np.asarray(array) for name, array in zip(names, inputs, strict=False)}
        read = [str(value.name) for value in loaded.ir.graph.inputs]
        samples = {name: given[name][np.newaxis] for name in read}  # axes that are inputs must fit
        options = BuildOptions(target=target(loaded), shapes=shapes(case), output=output, calibration=samples)
        built = pipeline.build(path, options)
        bundle = Bundle.load(built.path)
        computed = bundle.run({tensor.name: given[tensor.name] for tensor in bundle.inputs})
        for value, expected in zip(case.model.graph.output, outputs, strict=True):
            assert difference(expected, computed[value.name]) is None, f"{case.name}: {value.name}"
