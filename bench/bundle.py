"""A bundle that can run: what `edgec.load` and `edgec.build` return."""

from pathlib import Path

from edgec.arrays import Array, Arrays
from edgec.bench import devices
from edgec.bench.run import run, run_samples
from edgec.compiler.emit import bundle as emit


class Bundle(emit.Bundle):
    """A bundle on disk, with methods to run its model on a device.

    `device` is `local`, `emulator`, `ssh://HOST` or another that docs/devices.md lists; with None it is this
    machine where the bundle can run here, and the target's emulator otherwise.
    """

    @classmethod
    def load(cls, path: str | Path) -> "Bundle":
        """Open the bundle at `path`; raises BundleError if it is none."""
        opened = emit.Bundle.load(Path(path))
        return cls(opened.path, opened.manifest)

    def device(
        self, name: str | None = None, timeout_seconds: float = devices.TIMEOUT_SECONDS
    ) -> devices.Device:
        """Return the device called `name`; raises DeviceError where it can't run this bundle.

        No run of a program may take longer there than `timeout_seconds`. The emulator has the CPU of the
        bundle's level, or else of its target.
        """
        return devices.connect(name, self.described(self.level), timeout_seconds)

    def run(self, inputs: Arrays, device: str | None = None) -> dict[str, Array]:
        """Return the outputs by name for one sample, or for S of them along a new leading axis.

        Raises DataError when names, shapes or dtypes don't fit, DeviceError when the device fails.
        """
        return run(self, self.device(device), inputs)

    def run_samples(self, inputs: Arrays, device: str | None = None) -> dict[str, Array]:
        """As `run`, but the outputs have the leading axis in any case."""
        return run_samples(self, self.device(device), inputs)
