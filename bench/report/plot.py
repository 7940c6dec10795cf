"""The roofline of a measurement as a picture."""

from pathlib import Path

from edgec.bench.measure.measurement import Measurement
from edgec.errors import DataError, DeviceError, PackageError

FORMATS = (".svg", ".png", ".pdf")


def check(path: Path) -> None:
    """Raise DataError or PackageError where `draw` could not write `path`."""
    if path.suffix not in FORMATS:
        raise DataError(f"{path}: a plot ends in {', '.join(FORMATS)}")
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise PackageError("plots need matplotlib: pip install 'edgec[plot]'") from error


def draw(found: Measurement, path: Path) -> None:
    """Draw every layer's rate over its arithmetic intensity, under the machine's roofs.

    Raises DeviceError for a measurement without a peak, DataError where `path` can't be written.
    """
    if found.peak is None:
        raise DeviceError(f"'{found.device}' has no clock: a roofline needs times")
    from matplotlib.figure import Figure

    layers = [layer for layer in found.layers if layer.macs and layer.ms]
    sets = dict.fromkeys(name for layer in layers if (name := found.peak.set_of(layer.kernel)))
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot()
    low = min((layer.intensity for layer in layers), default=0.1) / 2
    high = max((layer.intensity for layer in layers), default=100.0) * 2
    for name in sets:
        roof = found.peak.gmacs[name] * found.threads
        ridge = roof / found.peak.memory_gbytes
        left, bend = min(low, ridge), max(ridge, low)
        ends = [left, bend, max(high, 2 * bend)]
        axes.plot(
            ends,
            [min(roof, x * found.peak.memory_gbytes) for x in ends],
            "-",
            label=f"{name} {roof:.0f} GMAC/s",
        )
    for kernel in dict.fromkeys(layer.kernel for layer in layers):
        chosen = [layer for layer in layers if layer.kernel == kernel]
        axes.plot([x.intensity for x in chosen], [x.gmacs for x in chosen], "o", markersize=4, label=kernel)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="multiply-accumulates per byte of inputs, weights and outputs",
        ylabel="GMAC/s",
        title=f"{found.bundle}: {found.conditions['target']} on {found.cpu}, threads {found.threads}; "
        f"memory {found.peak.memory_gbytes:.0f} GB/s",
    )
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend(fontsize="small")
    try:
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    except OSError as error:
        raise DataError(f"{path}: can't be written: {error.strerror}") from error
