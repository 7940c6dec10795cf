"""Comparisons for people to read, and as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgec.bench.peers.comparison import EDGEC, Outputs, Result, Settings
from edgec.bench.peers.turns import geometric_mean, median_index


def summary(results: Sequence[Result]) -> list[float]:
    """Return the geometric mean of the ratios over the models, per run."""
    runs = min(len(result.runs) for result in results)
    return [geometric_mean([result.ratio(run) for result in results]) for run in range(runs)]


def to_json(results: Sequence[Result], settings: Settings, conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything measured; `median_run` is the index of the run that tables quote."""
    models = []
    for result in results:
        ratios = [result.ratio(run) for run in range(len(result.runs))]
        best = [result.best_peer(run) for run in range(len(result.runs))]
        models.append(
            asdict(result) | {"ratios": ratios, "best_peers": best, "median_run": median_index(ratios)}
        )
    return {
        "settings": asdict(settings) | {"data": settings.data and str(settings.data)},
        "conditions": dict(conditions),
        "results": models,
        "geometric_means": summary(results),
    }


def print_results(
    console: Console, results: Sequence[Result], settings: Settings, conditions: Mapping[str, Any]
) -> None:
    """Print times with ratios, how exact the outputs are, the geometric mean, and the conditions."""

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    threads = f"{settings.threads} thread{'s' if settings.threads > 1 else ''}"
    what = "CPU time" if settings.cpu_time else "Latency"
    line(f"{what} in ms, median of the best of {settings.turns} turns: {settings.target}, {threads}")
    console.print(_times(results, settings))
    means = summary(results)
    mean = means[median_index(means)]
    of = f"{len(results)} model{'s' if len(results) > 1 else ''}"
    line(f"geometric mean of {of}: {mean:.2f}{_range(means)}\n")
    line("Outputs: equal to the integer reference, or else SQNR against the float model (and same top-1)")
    console.print(_outputs(results))
    for note in dict.fromkeys(note for result in results for note in result.notes):
        line(f"note: {note}")
    line("conditions: " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in conditions.items()))


def _engines(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(name for result in results for name in result.outputs))


def _times(results: Sequence[Result], settings: Settings) -> Table:
    names = _engines(results)
    table = _table(("model",), ("MMAC", *names, f"best {settings.precision} peer / edgec"))
    for result in results:
        ratios = [result.ratio(run) for run in range(len(result.runs))]
        run = median_index(ratios)
        best, times = result.best_peer(run), result.runs[run]
        cells = [f"{times[name].best:.4g}" if name in times else "-" for name in names]
        marked = [
            Text(cell, style="bold" if name in (best, EDGEC) else "")
            for name, cell in zip(names, cells, strict=True)
        ]
        table.add_row(result.model, f"{result.macs / 1e6:.1f}", *marked, f"{ratios[run]:.2f}{_range(ratios)}")
    return table


def _outputs(results: Sequence[Result]) -> Table:
    names = _engines(results)
    table = _table(("model",), names)
    for result in results:
        table.add_row(result.model, *(_outputs_text(result.outputs.get(name)) for name in names))
    return table


def _outputs_text(found: Outputs | None) -> str:
    if found is None:
        return "-"
    if found.exact:
        return "exact"
    top1 = "" if found.top1_agreement is None else f" ({found.top1_agreement:.0%})"
    if found.exact is not None:
        return f"{found.differing:.1%} differ{top1}"
    return "-" if found.sqnr_db is None else f"{found.sqnr_db:.1f} dB{top1}"


def _table(left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in left:
        table.add_column(heading, no_wrap=True)
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _range(values: Sequence[float]) -> str:
    return f" ({min(values):.2f} - {max(values):.2f})" if len(values) > 1 else ""
