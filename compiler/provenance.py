"""Where a quantized model's scales come from."""

from dataclasses import dataclass
from typing import Annotated, Literal

from edgec.compiler.typed_json import Limits

Sha256 = Annotated[str, Limits(pattern="[0-9a-f]{64}")]
"""A hash in hexadecimal."""


@dataclass(frozen=True)
class Provenance:
    """Where a quantized model's scales come from."""

    kind: Literal["data", "synthetic", "qdq", "none"]
    """data: the user's samples; synthetic: seeded noise; qdq: it came with scales; none: it is float."""
    samples: int = 0
    """Those that scales were chosen from."""
    sha256: Sha256 | None = None
    """Hash of all samples' names, shapes and bytes."""
    seed: int | None = None
    """What synthetic samples were drawn from."""
    held_back: int = 0
    """Further samples of the user's, which chose no scales."""
