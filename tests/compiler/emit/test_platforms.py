from edgec.compiler.emit import platforms as emission
from edgec.kernels import cost
from edgec.kernels.table import KERNELS
from edgec.targets import loader, platforms
from edgec.targets.architectures import INT8


def test_every_platform_of_targets_has_a_way_to_make_bundles() -> None:
    assert {platform.name for platform in platforms.PLATFORMS} == emission.EMISSIONS.keys()


def test_every_target_has_the_platform_that_its_triple_says() -> None:
    targets = [loader.load(name) for name in loader.names()]
    assert {target.platform for target in targets} == set(platforms.PLATFORMS)
    for target in targets:
        assert target.platform.mark in target.triple
        assert target.arch in target.platform.archs


def test_what_tells_devices_apart_are_features_that_kernels_ask_for() -> None:
    assert set(INT8) <= frozenset().union(*(kernel.features for kernel in KERNELS))


def test_sets_are_ordered_by_the_rates_that_they_have() -> None:
    for arch in ("x86-64", "arm64"):
        best, last = (
            [isa for isa in cost.INSTRUCTION_SETS if isa.arch == arch][place].products for place in (0, -1)
        )
        assert best > last > 1
