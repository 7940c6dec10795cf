"""Models built into bundles, and bundles verified, as `edgec build` and `edgec verify` do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgec.bench.bundle import Bundle
from edgec.bench.devices import connect
from edgec.bench.verify import Verification, verify
from edgec.compiler import pipeline
from edgec.targets import loader
from edgec.targets.detect import host_arch

HOST = "x86-64-v3-int8" if host_arch() == "x86-64" else "arm64-int8"
"""With the vector kernels of this machine's architecture."""


def build(model: onnx.ModelProto | Path, folder: Path, target: str = HOST, **options: Any) -> Bundle:
    path = model if isinstance(model, Path) else folder / "model.onnx"
    if not isinstance(model, Path):
        onnx.save(model, path)
    made = pipeline.build(path, target=target, output=folder / f"{path.stem}-{target}.edgec", **options)
    return Bundle.load(made.path)


def verified(
    bundle: Bundle, device: str | None = None, data: Mapping[str, np.ndarray] | None = None
) -> Verification:
    """What `verify` found, on this machine where it can run the bundle, else on the emulator."""
    target = loader.from_data(bundle.manifest["target"])
    found = verify(bundle, connect(device, target), data)
    assert found.mismatch is None
    assert found.selftest == "ok"
    return found


def checksums(bundle: Bundle) -> list[int | None]:
    return [step["checksum"] for step in bundle.steps]
