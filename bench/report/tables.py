"""Measurements and verifications for people to read."""

from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from edgec.bench.devices.machine import Conditions
from edgec.bench.measure.instructions import CLASSES, MAC_CLASSES
from edgec.bench.measure.measurement import Layer, Measurement
from edgec.bench.measure.peak import Peak
from edgec.bench.verify import Verification
from edgec.compiler.tune.tune import Tuning
from edgec.spelling import kib

SLOWEST_LAYERS = 12
"""As many rows as fit a screen beside the summary; --json has them all."""
NUMBER_WIDTH = 6
"""Columns that a narrow terminal must leave to a figure, at the cost of names."""


def print_measurement(console: Console, found: Measurement) -> None:
    """Print the summary, the slowest layers and, for an emulator, the classes of instructions."""
    console.print(_headline(found), markup=False, highlight=False, soft_wrap=True)
    console.print(_summary(found))
    console.print(_layers(found))
    if found.peak is not None:
        print_peak(console, found.peak)
    if found.instruction_classes is not None:
        console.print(_classes(found.instruction_classes))
    print_conditions(console, found.conditions, found.warnings)


def print_conditions(console: Console, conditions: Conditions, warnings: Sequence[str]) -> None:
    """Print what a device was like, and what disturbed it."""
    words = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in conditions.items())
    console.print(f"conditions: {words}", markup=False, highlight=False, soft_wrap=True)
    for warning in warnings:
        console.print(f"WARNING: {warning}", style="bold red", markup=False, highlight=False, soft_wrap=True)


def print_peak(console: Console, peak: Peak) -> None:
    """Print what one thread of this machine can do at most."""
    table = Table.grid(padding=(0, 2))
    for index, (name, rate) in enumerate(peak.gmacs.items()):
        table.add_row("" if index else "peak", f"{rate:.1f} GMAC/s {name}")
    table.add_row("", f"{peak.memory_gbytes:.1f} GB/s read from memory")
    console.print(table)


def print_verification(console: Console, found: Verification) -> None:
    """Print one line per comparison, and the mismatch where there is one."""

    def line(key: str, text: str, style: str = "") -> None:
        console.print(f"  {key:<10} {text}", style=style, markup=False, highlight=False, soft_wrap=True)

    console.print(_headline(found), markup=False, highlight=False, soft_wrap=True)
    where = f"{found.samples} sample{'s' if found.samples > 1 else ''}"
    if found.mismatch is None and found.exact_layers:
        line("exact", f"{found.exact_layers} layers bit-exact with the reference on {where}")
    if found.islands:
        furthest = max(found.islands, key=lambda island: island.max_relative_error)
        figures = f"absolute {furthest.max_absolute_error:.2g}, relative {furthest.max_relative_error:.2g}"
        among = f", of {len(found.islands)} float layers" if len(found.islands) > 1 else ""
        line("float", f"'{furthest.name}' against the reference: largest error {figures}{among}")
    for output in found.accuracy.outputs:
        top1 = "" if output.top1_agreement is None else f", top-1 agreement {output.top1_agreement:.1%}"
        line("accuracy", f"{output.name}: {output.text} from the original{top1}")
    if found.built is not None:
        line("built", found.built.summary)
    line("selftest", found.selftest, style="" if found.selftest == "ok" else "red")
    if wrong := found.mismatch:
        at = ", ".join(map(str, wrong.index))
        share = f"{wrong.differing} of {wrong.elements} elements"
        where = f"layer '{wrong.layer}', tensor '{wrong.tensor}', sample {wrong.sample}"
        line("MISMATCH", f"{where}: {share}", "red")
        line("", f"first at [{at}]: device {wrong.device}, expected {wrong.expected}", "red")
    for warning in found.warnings:
        line("WARNING", f"{warning}; docs/accuracy.md says what helps", "bold red")


def print_tuning(console: Console, found: Tuning) -> None:
    """Print what tuning gained in all, and where."""
    gained = [layers for layers in found.layers if layers.cost < layers.first_cost]
    gained.sort(key=lambda layers: layers.cost - layers.first_cost)
    shown = gained[:SLOWEST_LAYERS]
    if gained:
        table = Table(title_justify="left", box=None)
        table.title = (
            f"{len(shown)} of {len(gained)} kinds of layer that gained, of {len(found.layers)} tuned"
        )
        for heading in ("layer", "now"):
            table.add_column(heading, overflow="ellipsis", no_wrap=True)
        for heading in (found.unit, "untuned", "less"):
            table.add_column(heading, justify="right", no_wrap=True, min_width=6)
        for layers in shown:
            more = f" and {len(layers.layers) - 1} more" if len(layers.layers) > 1 else ""
            now = layers.configuration if layers.kernel == layers.first_kernel else layers.kernel
            less = f"{1 - layers.cost / layers.first_cost:.1%}"
            costs = f"{layers.cost:.0f}", f"{layers.first_cost:.0f}"
            table.add_row(f"{layers.layers[0]}{more}", now, *costs, less)
        console.print(table)
    scale, unit = 1e6, "ms" if found.unit == "ns" else f"M {found.unit}"
    total = f"{found.first_cost / scale:.4g} to {found.cost / scale:.4g} {unit}"
    rest = sum(not layers.complete for layers in found.layers)
    left = f"; {rest} kinds of layer have more to try with a larger budget" if rest else ""
    line = f"{total}, the sum of all layers on {found.cpu}{left}"
    if not found.layers:
        line = "nothing: the records decide every layer already"
    console.print(f"  {'tuned':<10} {line}", markup=False, highlight=False, soft_wrap=True)


def _headline(found: Measurement | Verification) -> str:
    return f"{found.bundle} on {found.device}: {found.cpu}, level {found.level}"


def _summary(found: Measurement) -> Table:
    table = Table.grid(padding=(0, 2))
    if latency := found.latency_ms:
        runs = f"{found.runs} runs, {found.threads} thread{'s' if found.threads > 1 else ''}"
        table.add_row("latency", f"{latency.median:.4g} ms median of {runs}")
        table.add_row("", f"min {latency.min:.4g}, p90 {latency.p90:.4g}, p99 {latency.p99:.4g} ms")
        table.add_row("rate", f"{found.macs / latency.median / 1e6:.2f} GMAC/s")
    if found.cycles is not None:
        macs = f"{found.macs / found.cycles:.2f} multiply-accumulates in each"
        table.add_row("cycles", f"{_millions(found.cycles)} by the core's counter, {macs}")
    if found.instructions is not None and found.mac_instructions is not None:
        share = found.mac_instructions / max(found.instructions, 1)
        table.add_row("instructions", f"{_millions(found.instructions)} executed by one inference")
        table.add_row("", f"{_millions(found.mac_instructions)} of them multiply-accumulate ({share:.0%})")
    if found.modelled_cycles is not None:
        table.add_row(
            "cycles", f"{_millions(round(found.modelled_cycles))} modelled: llvm-mca, {found.cycle_model}"
        )
    memory = found.memory
    table.add_row("flash", f"weights {kib(memory.weights_bytes)}, code {kib(memory.code_bytes)}")
    if len(memory.levels) > 1:
        for name, level in memory.levels.items():
            size = f"weights {kib(level.weights_bytes)}, kernels {kib(level.code_bytes)}"
            table.add_row("", f"of these {name}: {size}")
    peak = "" if memory.peak_rss_bytes is None else f", peak RSS of the process {kib(memory.peak_rss_bytes)}"
    stack = "" if memory.stack_bytes is None else f", stack {memory.stack_bytes} bytes"
    table.add_row("RAM", f"arena {kib(memory.arena_bytes)}{stack}{peak}")
    return table


def _layers(found: Measurement) -> Table:
    def cost(layer: Layer) -> float:
        return layer.ms or layer.cycles or layer.instructions or 0.0

    whole = sum(map(cost, found.layers)) or 1.0
    shown = sorted(found.layers, key=cost, reverse=True)[:SLOWEST_LAYERS]
    table = Table(title=f"{len(shown)} slowest of {len(found.layers)} layers", title_justify="left", box=None)
    for heading in ("layer", "kernel"):
        table.add_column(heading, overflow="ellipsis", no_wrap=True)
    columns = _columns(found)
    for heading in ("MMAC", *columns, "share"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=max(len(heading), NUMBER_WIDTH))
    for layer in shown:
        cells = [text(layer) for text in columns.values()]
        table.add_row(
            layer.name, layer.kernel, _in_millions(layer.macs), *cells, f"{cost(layer) / whole:.1%}"
        )
    return table


def _columns(found: Measurement) -> dict[str, Callable[[Layer], str]]:
    """Return heading -> text of what a layer costs on this kind of device."""
    if found.latency_ms:
        timed: dict[str, Callable[[Layer], str]] = {
            "ms": lambda layer: f"{layer.ms:.4f}",
            "GMAC/s": lambda layer: f"{layer.gmacs:.1f}",
            "KiB": lambda layer: f"{layer.moved_bytes / 1024:.1f}",
            "MAC/B": lambda layer: f"{layer.intensity:.1f}",
        }
        if found.peak:
            timed["of peak"] = lambda layer: _percent(found.share_of_peak(layer))
        return timed
    if found.cycles is not None:
        return {"M cycles": lambda layer: _in_millions(layer.cycles)}
    counted: dict[str, Callable[[Layer], str]] = {
        "M instructions": lambda layer: _in_millions(layer.instructions),
        "MAC": lambda layer: f"{(layer.mac_instructions or 0) / max(layer.instructions or 0, 1):.0%}",
    }
    if found.cycle_model:
        counted["M cycles modelled"] = lambda layer: _in_millions(layer.modelled_cycles)
    return counted


def _classes(counts: Mapping[str, int]) -> Table:
    whole = sum(counts.values()) or 1
    table = Table(title="executed instructions by class", title_justify="left", box=None)
    table.add_column("class")
    for heading in ("M instructions", "share"):
        table.add_column(heading, justify="right")
    for name, meaning in CLASSES.items():
        if count := counts[name]:
            style = "bold" if name in MAC_CLASSES else ""
            table.add_row(meaning, f"{count / 1e6:.4f}", f"{count / whole:.1%}", style=style)
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _in_millions(count: float | None) -> str:
    return f"{(count or 0) / 1e6:.4f}"


def _millions(count: int) -> str:
    return f"{count / 1e6:.3f} M"
