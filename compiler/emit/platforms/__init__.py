"""How bundles for a platform are made: one file each, and one line here."""

from edgec.compiler.emit.platforms.baremetal import Baremetal
from edgec.compiler.emit.platforms.emission import Emission
from edgec.compiler.emit.platforms.linux import Linux
from edgec.targets.descriptor import Target

EMISSIONS: dict[str, Emission] = {"linux": Linux(), "baremetal": Baremetal()}
"""By the platform's name in `targets/platforms.py`."""


def of(target: Target) -> Emission:
    """Return how bundles for `target` are made."""
    return EMISSIONS[target.platform.name]
