"""What a benchmark found: raw samples with all that is needed to read them again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cada_edge.errors import DataError
from cada_edge.imaging import write_atomic
from cada_edge.runtime.benchmark.stats import Summary, summarise

SCHEMA, KIND = 1, "cada-edge benchmark"
STAGES = ("decode", "copy", "infer", "decide", "signal")
TOTAL = "total"
ORDER = ("wait", *STAGES, TOTAL)
MAX_FILE_BYTES = 1 << 28
_OWN = ("subjects", "ratios", "budget")


@dataclass
class Samples:
    """Of one subject, in the order of time.

    Attributes:
        name: for people.
        facts: what was measured: bundle, digest, setting.
        stages: ns; of `STAGES`, ``wait`` where frames can wait, and `TOTAL`, camera to signal.
        starts_ns: monotonic, when each frame was due; of `TOTAL`.
        seconds: that counting took.
        verdicts: how often each was given.
        notes: what a reader must know.
    """

    name: str
    facts: dict[str, Any]
    stages: dict[str, list[int]] = field(default_factory=dict)
    starts_ns: list[int] = field(default_factory=list)
    seconds: float = 0.0
    verdicts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, stage: str, duration_ns: int) -> None:
        """One sample."""
        self.stages.setdefault(stage, []).append(duration_ns)

    def summaries(self) -> dict[str, Summary]:
        """By stage, the total last."""
        names = sorted(self.stages, key=ORDER.index)
        return {name: summarise(self.stages[name]) for name in names if self.stages[name]}

    @property
    def fps(self) -> float:
        """Frames signalled a second."""
        return len(self.stages.get(TOTAL, ())) / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types: figures first, samples after."""
        return {
            "name": self.name,
            "facts": self.facts,
            "summary": {name: summary.to_json() for name, summary in self.summaries().items()},
            "frames_per_second": round(self.fps, 3),
            "seconds": self.seconds,
            "verdicts": self.verdicts,
            "notes": self.notes,
            "samples_ns": self.stages,
            "starts_ns": self.starts_ns,
        }


@dataclass
class Report:
    """One run of ``cada-edge benchmark``.

    Attributes:
        subjects: one, or two that were measured in turns.
        about: version, time, setting, machine and its state, cold start, memory, allocations.
        ratios: ``stage statistic`` to value, low and high of first over second.
        budget: the limit and whether it was kept, or ``None``.
    """

    subjects: list[Samples]
    about: dict[str, Any]
    ratios: dict[str, dict[str, float]] = field(default_factory=dict)
    budget: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        head = {"schema": SCHEMA, "kind": KIND, **self.about, "ratios": self.ratios, "budget": self.budget}
        return {**head, "subjects": [one.to_json() for one in self.subjects]}

    def write(self, path: Path) -> None:
        """Write as JSON. Raises `DataError`."""
        write_atomic(path, (json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n").encode())


def read_samples(path: Path) -> list[Samples]:
    """The subjects of a file that `Report.write` wrote. Raises `DataError` for any other file."""
    return read_report(path).subjects


def read_report(path: Path) -> Report:
    """What `Report.write` wrote. Raises `DataError` for any other file."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataError(f"{path}: larger than {MAX_FILE_BYTES} bytes; this is no benchmark of ours")
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    found = document if isinstance(document, dict) else {}
    if found.get("kind") != KIND or found.get("schema") != SCHEMA:
        got = (found.get("kind"), found.get("schema"))
        raise DataError(f"{path}: is {got}, expected {(KIND, SCHEMA)}; write it with `cada-edge benchmark --json`")
    try:
        subjects = [_subject(one) for one in found["subjects"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: damaged: {error!r}; measure again") from error
    about = {name: value for name, value in found.items() if name not in {"schema", "kind", *_OWN}}
    return Report(subjects, about, found.get("ratios") or {}, found.get("budget"))


def _subject(document: dict[str, Any]) -> Samples:
    stages = {str(name): _integers(values) for name, values in document["samples_ns"].items()}
    if unknown := sorted(set(stages) - set(ORDER)):
        raise ValueError(f"unknown stages {unknown}")
    return Samples(
        str(document["name"]), dict(document["facts"]), stages, _integers(document["starts_ns"]),
        float(document["seconds"]), dict(document["verdicts"]), list(document["notes"]),
    )  # fmt: skip


def _integers(values: Sequence[object]) -> list[int]:
    found = [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
    if not isinstance(values, list) or len(found) != len(values):
        raise ValueError("samples must be whole numbers of nanoseconds")
    return found
