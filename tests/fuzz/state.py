"""Where a run of the fuzzer stands, in a file: it goes on where it was stopped."""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

import onnx

from tests.fuzz.judge import Verdict


@dataclass
class State:
    """Next seeds and what was found so far."""

    next_seed: dict[str, int] = field(default_factory=dict)
    """Per fuzzer."""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Per stage, cases by kind."""
    refusals: dict[str, int] = field(default_factory=dict)
    """By what they have in common."""
    failures: dict[str, list[int]] = field(default_factory=dict)
    """Seeds, by stage and what they have in common."""

    @classmethod
    def read(cls, folder: Path) -> "State":
        path = folder / "state.json"
        return cls(**json.loads(path.read_text())) if path.exists() else cls()

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "state.json").write_text(json.dumps(asdict(self), indent=1))

    def count(self, stage: str, seed: int, verdict: Verdict) -> bool:
        """Count a case; return whether it is the first that fails so."""
        kinds = self.counts.setdefault(stage, {})
        kinds[verdict.kind] = kinds.get(verdict.kind, 0) + 1
        if verdict.kind == "refused":
            self.refusals[verdict.key] = self.refusals.get(verdict.key, 0) + 1
        if not verdict.failed and verdict.kind != "wording":
            return False
        seeds = self.failures.setdefault(f"{stage} {verdict.key}", [])
        seeds.append(seed)
        return len(seeds) == 1

    def __str__(self) -> str:
        return "; ".join(
            f"{stage} {sum(kinds.values())}: " + ", ".join(f"{kinds[kind]} {kind}" for kind in sorted(kinds))
            for stage, kinds in self.counts.items()
        )


def save(folder: Path, stage: str, seed: int, verdict: Verdict, model: bytes) -> Path:
    """Keep a model that fails, with one line that says how."""
    folder = folder / "failures"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stage}-{seed}.onnx"
    path.write_bytes(model)
    line = f"seed {seed}, {stage}: {verdict.kind}: {verdict.text}"
    text = ""
    try:
        text = onnx.printer.to_text(onnx.load_from_string(model))
    except Exception:  # a damaged file has none
        text = "no ONNX"
    path.with_suffix(".txt").write_text(f"{line}\n\n{re.sub('<no doc_string>', '', text)}\n")
    return path
