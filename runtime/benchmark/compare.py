"""Two sets of samples beside each other, with confidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cada_edge.errors import ConfigError
from cada_edge.runtime.benchmark.result import TOTAL, Report, Samples, read_report
from cada_edge.runtime.benchmark.stats import QUANTILES, Ratio, ratio, stated

COMPARED = ("p50", "p99")


def ratios(ours: Samples, theirs: Samples, *, paired: bool, seed: int = 0) -> dict[str, Ratio]:
    """``stage statistic`` to first over second, of each stage that both have and each statistic that both support."""
    found = {}
    for stage in ours.stages:
        a, b = ours.stages[stage], theirs.stages.get(stage, [])
        for name in COMPARED:
            if stated(QUANTILES[name], min(len(a), len(b))):
                together = paired and len(a) == len(b)
                found[f"{stage} {name}"] = ratio(a, b, QUANTILES[name], paired=together, seed=seed)
    return found


def overhead(samples: Samples, seed: int = 0) -> dict[str, Ratio]:
    """Camera to signal over the model's own time, of the same frames; empty where several share a call."""
    total, infer = samples.stages.get(TOTAL, []), samples.stages.get("infer", [])
    names = [name for name in COMPARED if stated(QUANTILES[name], len(total))]
    if len(total) != len(infer):
        return {}
    return {f"total over infer {name}": ratio(total, infer, QUANTILES[name], paired=True, seed=seed) for name in names}


@dataclass(frozen=True)
class Comparison:
    """Two earlier runs beside each other.

    Attributes:
        ours: the first subject of the first file.
        theirs: of the second.
        ratios: as of `ratios`.
        differences: setting to its two values, for people; empty where both were measured alike.
    """

    ours: Samples
    theirs: Samples
    ratios: Mapping[str, Ratio]
    differences: Mapping[str, tuple[str, str]]


def compare_files(first: Path, second: Path, seed: int = 0) -> Comparison:
    """The first subjects of two files, and their ratios; they ran at different times, so they are not paired.

    Raises `DataError` for what is no benchmark of ours, `ConfigError` where they have nothing to compare.
    """
    ours, theirs = (read_report(path) for path in (first, second))
    if not ours.subjects or not theirs.subjects:
        counts = f"{len(ours.subjects)} and {len(theirs.subjects)}"
        raise ConfigError(f"--compare: got {counts} subjects, expected at least one in each file")
    found = ratios(ours.subjects[0], theirs.subjects[0], paired=False, seed=seed)
    if not found:
        raise ConfigError(
            f"--compare: {first} and {second} share no stage with 5 samples or more; measure with --n 300"
        )
    return Comparison(ours.subjects[0], theirs.subjects[0], found, differences(ours, theirs))


def differences(ours: Report, theirs: Report) -> dict[str, tuple[str, str]]:
    """Setting to its values in two reports of at least one subject each, where they are not alike."""
    a, b = _conditions(ours), _conditions(theirs)
    return {name: (a[name], b[name]) for name in a if a[name] != b[name]}


def _conditions(report: Report) -> dict[str, str]:
    """What a figure depends on beside the code, for people; of a report of any of our versions."""
    facts, about = report.subjects[0].facts, report.about
    rate, line = facts.get("rate_fps"), about.get("line") or {}
    how, machine = facts.get("how") or {}, about.get("machine") or {}
    unstated = None if facts.get("line") else "none"  # by earlier versions
    known = {
        "bundle": f"{facts.get('bundle')} {str(facts.get('sha256'))[:8]}",
        "loop": "closed" if rate is None else f"{rate:g} frames a second",
        "measured": "a line" if facts.get("line") else "stage by stage",
        "sources": ", ".join(line.get("sources", {}).values()) or unstated,
        "sinks": ", ".join(line.get("sinks_measured", ())) or ("none" if line else unstated),
        "pictures": about.get("pictures"),
        "backend": how.get("backend") or facts.get("backend"),
        "graph": how.get("graph"),
        "precision": facts.get("precision"),
        "threads": how.get("threads") or facts.get("threads") or "all",
        "batch": facts.get("batch"),
        "cameras": facts.get("cameras"),
        "affinity": ",".join(map(str, facts.get("affinity") or ())) or "any core",
        "machine": machine.get("cpu"),
        "version": about.get("version"),
    }
    return {name: "not known" if value is None else str(value) for name, value in known.items()}
