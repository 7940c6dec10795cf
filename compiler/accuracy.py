"""How near a model's outputs come to the original's, output by output, and what is too far.

An output is compared as a whole and, where it holds quantities of very different size (boxes in pixels beside
scores below one), group by group of its channels: one figure over all of them would be the largest's alone.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np

from edgec.arrays import Array, Arrays
from edgec.compiler.typed_json import Limits
from edgec.kernels.reference import oracle, precise
from edgec.targets.descriptor import Precision

SamplesKind = Literal["held back", "calibrated", "given", "synthetic"]
"""What accuracy is measured on: every tenth of the user's samples, which chose no scales; those that did;
samples of a model that isn't calibrated; seeded noise."""

LIMITS_DB: dict[Precision, float] = {"int8": 10.0, "fp32": 60.0}
"""Signal to noise that an output must have, by the target's precision. Below 10 dB the error is a third of
the signal; float32 in another order of sums keeps 100 dB and more."""
EQUAL_SHARES: dict[Precision, float] = {"int8": 0.5, "fp32": 0.99}
"""Share of an integer output's elements (classes, indices, flags) that must equal the original's."""
BEST_DB, WORST_DB = 100.0, -100.0
"""Where figures end: what is nearer differs as float32 sums in another order do, by machine."""
Decibels = Annotated[float, Limits(WORST_DB, BEST_DB)]
Share = Annotated[float, Limits(0, 1)]
VARIES = 1e-5
"""Share of an output's root mean square that counts as a change: what changes less between samples is
rounding, not signal."""
RANGE_RATIO = 100.0
"""Channels whose ranges lie further apart than this are quantities of different kinds."""
RANGE_ELEMENTS = 8
"""A channel of fewer elements, over all samples, has no range worth speaking of."""
_SILENCE = 1e-6
"""Root mean square that an output counts as which is zero throughout: noise on it has to be smaller still."""


@dataclass(frozen=True)
class Figure:
    """One output, or a group of its channels, beside the original's over all samples."""

    output: str
    channels: str | None
    """Which of them, as `4..83 of axis 1`; null for the whole output."""
    sqnr_db: Decibels | None
    """Signal to noise; 100 stands for all that is nearer. Null for integers."""
    varying_db: Decibels | None
    """The same of what differs between samples: each element's mean over them is taken off the signal.
    Null for one sample, and where nothing differs between them."""
    equal: Share | None
    """Share of equal elements; null for floats."""
    top1_agreement: Share | None
    """Share of samples with the same largest element; null for an output that is no vector."""

    @property
    def name(self) -> str:
        """The output, quoted, and its channels."""
        return f"'{self.output}'" + (f" channels {self.channels}" if self.channels else "")

    @property
    def text(self) -> str:
        """The figure for people, `SQNR 30.1 dB (28.2 dB of what varies)` or `99.1% of elements equal`."""
        if self.equal is not None:
            return f"{self.equal:.1%} of elements equal"
        if self.sqnr_db == BEST_DB:
            return "SQNR 100 dB or more"
        varying = "" if self.varying_db is None else f" ({self.varying_db:.1f} dB of what varies)"
        return f"SQNR {self.sqnr_db:.1f} dB{varying}"

    @property
    def worst_db(self) -> float:
        """The lower of the two; for integers what orders them among these: 100 where all are equal."""
        if self.equal is not None:
            return BEST_DB if self.equal == 1 else 100 * self.equal - 100
        found = [noise for noise in (self.sqnr_db, self.varying_db) if noise is not None]
        return min(found, default=BEST_DB)

    def shortfall(self, precision: Precision, limit_db: float | None = None) -> str | None:
        """Say how the figure falls short of `limit_db` (None: the precision's own; 0: no limit), or None."""
        limit = LIMITS_DB[precision] if limit_db is None else limit_db
        if limit == 0:
            return None
        if self.equal is not None:
            least = EQUAL_SHARES[precision]
            short = f"{self.equal:.1%} of the elements equal, fewer than {least:.0%}"
            return f"{self.name}: {short}" if self.equal < least else None
        if self.sqnr_db is not None and self.sqnr_db < limit:
            return f"{self.name}: {self.sqnr_db:.1f} dB, less than {limit:g} dB"
        exact = self.sqnr_db == BEST_DB  # what varies is then float32's last bits, however little that is
        if self.varying_db is not None and self.varying_db < limit and not exact:
            of = "of what varies between samples"
            return f"{self.name}: {self.varying_db:.1f} dB {of}, less than {limit:g} dB"
        return None


def compare(output: str, original: Array, actual: Array) -> tuple[Figure, ...]:
    """Compare an output over samples, [S, *shape] each, with the original's: as a whole, then by groups."""
    if original.dtype.kind in "biu":
        equal = float(np.mean(original == actual)) if original.size else 1.0
        return (Figure(output, None, None, None, round(equal, 4), None),)
    with np.errstate(over="ignore"):
        return _floats(output, original, actual)


def _floats(output: str, original: Array, actual: Array) -> tuple[Figure, ...]:
    signal, computed = (np.asarray(x, np.float64).reshape(original.shape) for x in (original, actual))
    noise = _noise(signal, computed)
    signal = np.where(np.isfinite(signal), signal, 0.0)
    whole = _figure(output, None, signal, noise, _top1(original, actual))
    groups = _groups(signal, noise)
    return (whole, *(_figure(output, channels, part, lost, None) for channels, part, lost in groups))


def shortfalls(
    figures: Iterable[Figure], precision: Precision, limit_db: float | None = None
) -> tuple[str, ...]:
    """Say how outputs fall short, the worst first, each by the worst of its figures."""
    by_output: dict[str, list[Figure]] = {}
    for figure in figures:
        if figure.shortfall(precision, limit_db):
            by_output.setdefault(figure.output, []).append(figure)
    worst = sorted((min(found, key=_order) for found in by_output.values()), key=_order)
    return tuple(str(figure.shortfall(precision, limit_db)) for figure in worst)


def worst(figures: Sequence[Figure]) -> Figure | None:
    """Return the figure that is furthest from the original, None where there is none."""
    return min(figures, key=_order, default=None)


@dataclass(frozen=True)
class Accuracy:
    """How near a build comes to the original."""

    on: SamplesKind
    """What the samples were."""
    samples: int
    outputs: tuple[Figure, ...]
    """Figures of each output as a whole, then of its groups of channels."""
    not_compared: str | None = None
    """Why there are no figures: neither ONNX Runtime nor ONNX's reference runs the original."""

    def warnings(self, precision: Precision, limit_db: float | None = None) -> tuple[str, ...]:
        """Say what isn't as near as it has to be, the worst first; see `Figure.shortfall`."""
        if self.not_compared and limit_db != 0:
            return (f"not compared with the original: {self.not_compared}",)
        if self.on == "synthetic" and precision == "int8":
            # One noise is much like another: what a network makes of the difference is next to nothing, and
            # says nothing of inputs that differ.
            return shortfalls([replace(each, varying_db=None) for each in self.outputs], precision, limit_db)
        return shortfalls(self.outputs, precision, limit_db)

    @property
    def summary(self) -> str:
        """The worst output, and on how many samples of which kind."""
        if self.not_compared:
            return f"not with the original: {self.not_compared}"
        furthest = worst(self.outputs)
        if furthest is None:
            return "no outputs"
        return f"{furthest.name}: {furthest.text} from the original, on {self.where}"

    @property
    def where(self) -> str:
        """How many samples there were, and of which kind."""
        return SAMPLES[self.on].format(count=f"{self.samples} sample{'s' if self.samples != 1 else ''}")


SAMPLES: dict[SamplesKind, str] = {
    "held back": "{count} held back",
    "calibrated": "{count} that it is calibrated on",
    "synthetic": "{count} of noise",
    "given": "{count}",
}
"""Kinds of samples that accuracy is measured on -> how they are spoken of."""


def measure(
    original: bytes,
    on: SamplesKind,
    feeds: Sequence[Arrays],
    runs: Sequence[Arrays],
) -> Accuracy:
    """Compare runs of a build, one per feed, with what the original computes from the same inputs.

    Feeds are by input, runs by output and in the original's order; their values are real numbers, not codes.
    """
    try:
        typed = _typed(original, feeds)
        said = precise.repeatable(original, typed, oracle.evaluate_each(original, typed))
        theirs = [list(run.values()) for run in said]
    except oracle.OracleError as error:
        return Accuracy(on, len(feeds), (), str(error))
    figures: list[Figure] = []
    for position, name in enumerate(runs[0]):
        ours = [run[name] for run in runs]
        same_size = all(a.size == run[position].size for a, run in zip(ours, theirs, strict=True))
        if not same_size:  # no figure could say how wrong that is
            figures.append(Figure(name, None, WORST_DB, None, None, None))
            continue
        figures += compare(name, np.stack([run[position] for run in theirs]), np.stack(ours))
    return Accuracy(on, len(feeds), tuple(figures))


def _typed(original: bytes, feeds: Sequence[Arrays]) -> list[dict[str, Array]]:
    """Return the feeds in the original's types, which a build may have widened."""
    import onnx

    graph = onnx.load_from_string(original).graph
    types = {
        value.name: onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        for value in graph.input
    }
    return [{name: a.astype(types.get(name, a.dtype), copy=False) for name, a in f.items()} for f in feeds]


def _order(figure: Figure) -> float:
    return figure.worst_db


def _figure(output: str, channels: str | None, signal: Array, noise: Array, top1: float | None) -> Figure:
    power, lost = float(np.square(signal).sum()), float(noise.sum())
    moved = float(np.square(signal - signal.mean(axis=0)).sum())
    varies = len(signal) > 1 and moved > VARIES**2 * power
    silence = _SILENCE**2 * signal.size
    sqnr = _decibels(power or silence, lost)
    return Figure(output, channels, sqnr, _decibels(moved, lost) if varies else None, None, top1)


def _decibels(power: float, noise: float) -> float:
    """Return their ratio in dB, to a tenth: more digits differ between machines' float32."""
    if noise == 0:
        return BEST_DB
    if not (math.isfinite(noise) and math.isfinite(power) and power):
        return WORST_DB
    return round(min(max(10 * math.log10(power / noise), WORST_DB), BEST_DB), 1)


def _noise(signal: Array, computed: Array) -> Array:
    """Return the squared error per element; 0 for equal infinities or two NaNs, infinite for one of them."""
    same = (signal == computed) | (np.isnan(signal) & np.isnan(computed))
    with np.errstate(invalid="ignore", over="ignore"):
        squares = np.square(signal - computed)
    return np.where(same, 0.0, np.where(np.isnan(squares), np.inf, squares))


def _top1(original: Array, actual: Array) -> float | None:
    samples, reference = (np.asarray(x).reshape(len(x), -1) for x in (actual, original))
    if samples.shape[1] < 2 or samples.shape[1] != max(original.shape[1:]):
        return None
    return round(float(np.mean(samples.argmax(axis=1) == reference.argmax(axis=1))), 4)


def _groups(signal: Array, noise: Array) -> Iterator[tuple[str, Array, Array]]:
    """Yield groups of channels, along any axis, whose ranges are more than RANGE_RATIO apart.

    Values within [0, 1] are all of one kind, probabilities say, of which many are small.
    """
    if not signal.size or (signal.min() >= 0 and signal.max() <= 1):
        return
    for axis in range(1, signal.ndim):
        extent = signal.shape[axis]
        if extent < 2 or signal.size // extent < RANGE_ELEMENTS:
            continue
        ranges = np.abs(signal).max(axis=tuple(i for i in range(signal.ndim) if i != axis))
        order = np.argsort(ranges, kind="stable")
        order = order[ranges[order] > 0]  # channels of nothing but zeros have no range
        cuts = np.flatnonzero(ranges[order[1:]] > RANGE_RATIO * ranges[order[:-1]]) + 1
        if not len(cuts):
            continue
        for group in np.split(order, cuts):
            members = np.sort(group)
            name = f"{_listed(members)} of axis {axis - 1}"
            yield name, np.take(signal, members, axis), np.take(noise, members, axis)


def _listed(members: Array) -> str:
    """Return `0..3, 7`, at most three runs of it."""
    runs = np.split(members, np.flatnonzero(np.diff(members) > 1) + 1)
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs]
    return ", ".join(texts[:3]) + (", ..." if len(texts) > 3 else "")
