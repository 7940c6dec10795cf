"""What the command line prints: JSON objects, stages as they finish, and what a build or a target is."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from edgec.errors import OutputError, printable
from edgec.spelling import kib
from edgec.targets.architectures import INT8
from edgec.targets.descriptor import Target

if TYPE_CHECKING:
    from edgec.compiler.emit.manifest import Level, Manifest, Memory

WIDTH = 120
"""Columns of a report that goes to no terminal."""
ISLANDS_SHOWN = 8
"""The manifest lists them all."""


class _Console(Console):
    """Shows names as they are safe to show, wherever they come from."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        with _written():
            super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        raise  # rich would end the process without a word


def plain(text: str) -> Text:
    """Return text that is shown as it is, where rich would look for its own marks in a string."""
    return Text(printable(text))


@contextmanager
def _written() -> Iterator[None]:
    """Say what it is that can't be written: a closed pipe, or a full disk behind `>`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"the output can't be written: {error.strerror}") from error


def console(as_json: bool, width: int = WIDTH) -> Console:
    """Return where text for people goes: stdout, or stderr when stdout holds a JSON object.

    It is `width` columns wide where no terminal says how wide it is.
    """
    out = _Console(stderr=as_json, highlight=False, markup=False)
    if not out.is_terminal:
        out.width = width
    return out


def print_json(data: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout; numbers that JSON lacks (NaN, infinity) become null."""
    with _written():
        print(json.dumps(_finite(data), indent=2), flush=True)


def line(out: Console, key: str, text: str) -> None:
    """Print one line of a report, never wrapped, whatever brackets it holds."""
    out.print(f"  {key:<10} {text}", markup=False, soft_wrap=True)


class Stages:
    """Shows the stages of a build: a spinner for the one that runs (on a terminal), then a line for it."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._status = out.status("")
        self._bar: Progress | None = None
        self._running = ("", "")

    def __call__(self, stage: str, detail: str) -> None:
        """Take note that `stage` runs, and what it has done so far; another one's name ends it."""
        if stage != self._running[0]:
            self.finish()
        self._stop_bar()
        self._running = (stage, detail)
        self._status.update(plain(f"{stage} {detail or '...'}"))
        self._status.start()

    def bar(self, total: float, done: float, text: str) -> None:
        """Show how far the running stage is, on a terminal, in place of its spinner."""
        if not self._out.is_terminal:
            return
        if self._bar is None:
            self._status.stop()
            columns = (TextColumn(f"{self._running[0]} {{task.description}}", markup=False), BarColumn())
            self._bar = Progress(*columns, console=self._out, transient=True)
            self._bar.add_task(printable(text), total=total)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=min(done, total), description=printable(text))

    def finish(self) -> None:
        """Print what the running stage did in the end."""
        stage, detail = self._running
        self.stop()
        if detail:
            line(self._out, stage, detail)

    def stop(self) -> None:
        """Remove the spinner or the bar, and forget what ran."""
        self._stop_bar()
        self._status.stop()
        self._running = ("", "")

    def _stop_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


@contextmanager
def stages(out: Console) -> Iterator[Stages]:
    """Return the `progress` of a build; a stage that fails leaves no line."""
    shown = Stages(out)
    try:
        yield shown
        shown.finish()
    finally:
        shown.stop()


def print_build(out: Console, path: str, manifest: "Manifest", digest: str) -> None:
    """Print what a bundle's user should know of it, what it needs, and the hash that stands for all of it."""
    for island in manifest.islands[:ISLANDS_SHOWN]:
        line(out, "float", f"{island.name} ({island.operator}): {island.reason}")
    more = len(manifest.islands) - ISLANDS_SHOWN
    if more > 0:
        line(out, "float", f"and {more} more nodes: see 'islands' in manifest.json")
    if manifest.model.calibration.kind == "synthetic":
        line(out, "note", "calibrated on seeded synthetic inputs: give --calibration DATA.npz for accuracy")
    memory = manifest.memory
    ram = f"{kib(memory.arena_bytes)} (lower bound {kib(memory.lower_bound_bytes)})"
    if memory.stack_bytes is not None:
        line(out, "flash", f"weights {kib(memory.weights_bytes)}, code {kib(memory.code_bytes)}")
        arena, bound = kib(memory.arena_bytes), kib(memory.lower_bound_bytes)
        own = f"stack {memory.stack_bytes} bytes, context {memory.context_bytes} bytes"
        line(out, "RAM", f"arena {arena} (lower bound {bound}), {own}")
        ram = kib(memory.ram_bytes)
    if len(manifest.levels) > 1:
        sizes = (f"{level.name} {_flash(level)}" for level in manifest.levels)
        line(out, "levels", f"{', '.join(sizes)} of flash")
    line(out, "root", f"sha256 {digest}")
    for warning in manifest.accuracy.warnings:
        out.print(f"  {'WARNING':<10} {warning}", style="bold red", markup=False, soft_wrap=True)
    out.print(f"  {path}   flash {_flash(memory)}, RAM {ram}", markup=False, soft_wrap=True)


def describe(target: Target) -> dict[str, Any]:
    """Return a device as plain data, for JSON."""
    variants = [variant.device for variant in target.variants]
    data = asdict(target) | {"features": sorted(target.features), "variants": variants}
    del data["precision"]
    return data


def print_targets(out: Console, targets: list[Target], problems: list[str]) -> None:
    """Print a table of devices, and why any others can't be described."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("device", no_wrap=True, min_width=max(len(target.device) for target in targets))
    for heading in ("arch", "CPU", "vectors", "int8", "L1D/L2 KiB", "emulator"):
        table.add_column(heading, no_wrap=True)
    for target in targets:
        table.add_row(
            target.device,
            target.arch,
            target.cpu,
            f"{target.vector_registers}x{target.vector_bits}",
            _int8(target),
            f"{target.l1d_bytes // 1024}/{target.l2_bytes // 1024}",
            target.emulator.cpu.partition(",")[0] if target.emulator else "-",  # without its options
        )
    out.print(table)
    out.print("A target is DEVICE-int8 or DEVICE-fp32; a TOML file's path works as DEVICE too.")
    for problem in problems:
        out.print(f"Not listed: {problem}", soft_wrap=True)


def _int8(target: Target) -> str:
    """Name a device's best instructions for int8; where bundles have levels, the last's and the best's."""
    last, best = (
        next((name for name in reversed(INT8) if name in level.features), "-")
        for level in (target.levels[-1], target.levels[0])
    )
    return f"{last} to {best}" if target.variants else last


def print_target(out: Console, target: Target) -> None:
    """Print one device, a line per fact."""
    for key, value in describe(target).items():
        if isinstance(value, list | dict):
            value = " ".join(value.values() if isinstance(value, dict) else value)
        out.print(f"{key:<17} {'-' if value in (None, '') else value}", markup=False, soft_wrap=True)


def _flash(memory: "Memory | Level") -> str:
    return kib(memory.weights_bytes + memory.code_bytes)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
