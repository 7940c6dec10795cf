"""Models built into bundles, and bundles verified, as `edgec build` and `edgec verify` do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgec.bench.bundle import Bundle
from edgec.bench.measure.levels import executable
from edgec.bench.verify import Verification, verify
from edgec.compiler import pipeline
from edgec.compiler.records.records import Records, encode
from edgec.options import BuildOptions
from edgec.targets import loader
from edgec.targets.detect import host_arch

HOST = f"{Path(__file__).parent / host_arch()}-one-level.toml-int8"
"""With vector kernels of this machine's architecture, and no second level, which would be built as well."""


def build(model: onnx.ModelProto | Path, folder: Path, target: str = HOST, **options: Any) -> Bundle:
    path = model if isinstance(model, Path) else folder / "model.onnx"
    if not isinstance(model, Path):
        onnx.save(model, path)
    if isinstance(options.get("records"), Records):
        file = folder / f"{path.stem}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(options["records"]))
        options["records"] = file
    output = folder / f"{path.stem}-{loader.load(target).name}.edgec"
    made = pipeline.build(path, BuildOptions(target=target, output=output, **options))
    return Bundle.load(made.path)


def verified(
    bundle: Bundle, device: str | None = None, data: Mapping[str, np.ndarray] | None = None
) -> Verification:
    """What `verify` found, on this machine where it can run the bundle, else on the emulator.

    On every level that the device has; what the best one's run found is returned.
    """
    runs, _ = executable(bundle, device)
    found = [verify(one, connected, data) for one, connected in runs]
    for one in found:
        assert one.mismatch is None
        assert one.selftest == "ok"
    return found[0]


def checksums(bundle: Bundle) -> dict[str, int | None]:
    """Of the golden run, by the first tensor that each step computes."""
    return {step.outputs[0].name: step.checksum for step in bundle.steps}
