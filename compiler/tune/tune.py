"""Tune a network for a device: find the fastest code of its layers by running it there."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgec.arrays import Arrays
from edgec.compiler.records.records import Record, Records, choice_version, cpu_class
from edgec.compiler.records.signature import signature
from edgec.compiler.tune.layers import Group, Layers
from edgec.compiler.tune.probe import Meter
from edgec.compiler.tune.search import Choice, Search
from edgec.kernels.operations import Network, Operator
from edgec.targets.descriptor import Target


@dataclass(frozen=True)
class TunedLayers:
    """What was found for the layers of one shape."""

    layers: tuple[str, ...]
    kernel: str
    configuration: str
    first_kernel: str
    """What is taken without tuning."""
    first_configuration: str
    cost: float
    """What all these layers cost together, in the tuning's unit."""
    first_cost: float
    tried: int
    complete: bool
    """Whether nothing is left to try."""


@dataclass(frozen=True)
class Tuning:
    """What was found for a network."""

    layers: tuple[TunedLayers, ...]
    records: Records
    """One for each of `layers`."""
    cpu: str
    unit: str
    """`ns`, `modelled cycles` or `instructions`."""
    cost: float
    """What all layers of one inference cost; as every cost in `ns` the least seen, layer by layer."""
    first_cost: float
    """Without tuning."""
    known: int
    """Layers that need no tuning: this CPU's records have decided them."""
    tried: int
    """Kernels and configurations measured."""
    seconds: float


def tune(
    network: Network,
    target: Target,
    inputs: Arrays,
    meter: Meter,
    budget: float,
    known: Records,
    keep: Callable[[Records], None],
    progress: Callable[[float, str], None],
) -> Tuning:
    """Return the fastest code found in `budget` seconds for the layers of `network`, computing on `inputs`.

    Layers that `known` has decided on this CPU, or on any with a clock where this one has none, aren't
    measured again; from its other records the search starts. `keep` is given what was found, also when the
    search is interrupted. `progress` is told the seconds gone and what is being done.
    """
    start = time.monotonic()

    def report(text: str) -> None:
        progress(time.monotonic() - start, text)

    def decided(operator: Operator) -> bool:
        record = known.find(operator, target)
        if record is None or not record.complete:
            return False
        here = (record.cpu, record.unit) == (meter.cpu, meter.unit)
        return here or (record.unit == "ns" and meter.unit != "ns")  # a clock knows better than a model

    with tempfile.TemporaryDirectory(prefix="edgec-tune-") as folder:
        report("looking for choices")
        bench = Layers(network, target, inputs, meter, known, decided, Path(folder), report)
        search = Search(bench, budget, time.monotonic, report)
        try:
            outcome = search.run()
        finally:
            outcome = search.outcome()
            pairs = list(zip(bench.groups, outcome.choices, strict=False))
            records = Records.of(_record(group, choice, target, meter) for group, choice in pairs)
            keep(records)
    return Tuning(
        layers=tuple(_tuned(group, choice) for group, choice in pairs),
        records=records,
        cpu=meter.cpu,
        unit=meter.unit,
        cost=outcome.rest + sum(choice.cost for choice in outcome.choices),
        first_cost=outcome.rest + sum(choice.first_cost for choice in outcome.choices),
        known=sum(map(decided, network.operators)),
        tried=search.tried,
        seconds=time.monotonic() - start,
    )


def _record(group: Group, choice: Choice, target: Target, meter: Meter) -> Record:
    operator, way = group.operators[0], group.ways[choice.way]
    count = len(group.operators)
    return Record(
        target=cpu_class(operator.operation, target),
        operation=signature(operator.operation, operator.demands),
        kernel=way.kernel,
        configuration=way.configuration,
        cost=choice.cost / count,
        first_cost=choice.first_cost / count,
        unit=meter.unit,
        cpu=meter.cpu,
        tried=choice.tried,
        complete=choice.complete,
        version=choice_version(operator.operation, target),
    )


def _tuned(group: Group, choice: Choice) -> TunedLayers:
    first, way = group.ways[0], group.ways[choice.way]
    return TunedLayers(
        layers=tuple(operator.name for operator in group.operators),
        kernel=way.kernel,
        configuration=way.configuration,
        first_kernel=first.kernel,
        first_configuration=first.configuration,
        cost=choice.cost,
        first_cost=choice.first_cost,
        tried=choice.tried,
        complete=choice.complete,
    )
