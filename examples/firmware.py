"""What firmware takes of bundles for microcontrollers: `python examples/firmware.py BUNDLE...`.

Each bundle's image runs on the board that QEMU has of its core: as edgec linked it, by the linker of
`ziglang`, and linked anew by gcc-arm-none-eabi where that is installed.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import edgec
from edgec.bench.devices import checked
from edgec.bench.measure.benchmark import benchmark
from edgec.errors import reported

GCC = "arm-none-eabi-gcc"


def link_by_gcc(bundle: edgec.Bundle, output: Path) -> None:
    """Link the bundle's library, bench program and start-up code as a project with that compiler would."""
    target = bundle.described(None)
    sources = [bundle.path / "src" / file for file in (f"{bundle.identifier}_bench.c", "startup.c")]
    subprocess.run(
        [
            GCC, "-mthumb", f"-mcpu={target.cpu}",
            f"-mfloat-abi={'hard' if target.c_target.endswith('hf') else 'soft'}",
            "-Os", "-ffreestanding", "-nostdlib", "-Wl,--gc-sections,--no-warn-execstack",
            "-T", bundle.path / "src" / "image.ld", f"-I{bundle.path / 'include'}",
            *sources, bundle.path / "lib" / f"lib{bundle.identifier}.a", "-o", output,
        ],
        check=True,
    )  # fmt: skip


def main(bundles: list[str]) -> None:
    """Print a line per bundle: the class it gives to its golden input, and what that takes."""
    headings = f"{'core':<12} {'class':>5} {'M instructions':>15} {'RAM KiB':>8} {'flash KiB':>10}"
    print(f"  {headings}   self-test by linker")
    for bundle in map(edgec.load, bundles):
        device = bundle.device("emulator")
        with np.load(bundle.file("golden/inputs.npz")) as arrays:
            outputs = bundle.run(dict(arrays))
        best = int(next(iter(outputs.values())).argmax())
        memory = bundle.memory
        ram, flash = memory.ram_bytes / 1024, memory.flash_bytes / 1024
        instructions = benchmark(bundle, device).instructions or 0
        with tempfile.TemporaryDirectory() as folder:
            images = {"zig": bundle.bench}
            if shutil.which(GCC) and bundle.described(None).arch == "arm-m":
                images["gcc"] = Path(folder) / "image"
                link_by_gcc(bundle, images["gcc"])
            said = {
                name: json.loads(checked(device.execute(image, ["--selftest"])).stdout)["selftest"]
                for name, image in images.items()
            }
        tests = ", ".join(f"{name} {result}" for name, result in said.items())
        core = bundle.described(None).device
        print(f"  {core:<12} {best:>5} {instructions / 1e6:>15.3f} {ram:>8.1f} {flash:>10.1f}   {tests}")


if __name__ == "__main__":
    with reported():
        main(sys.argv[1:])
