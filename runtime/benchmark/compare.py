"""Two sets of samples beside each other, with confidence."""

from __future__ import annotations

from pathlib import Path

from cada_edge.errors import ConfigError
from cada_edge.runtime.benchmark.result import TOTAL, Samples, read_samples
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


def compare_files(first: Path, second: Path, seed: int = 0) -> tuple[Samples, Samples, dict[str, Ratio]]:
    """The first subjects of two files, and their ratios; they ran at different times, so they are not paired.

    Raises `DataError` for what is no benchmark of ours, `ConfigError` where they have nothing to compare.
    """
    ours, theirs = (read_samples(path) for path in (first, second))
    if not ours or not theirs:
        raise ConfigError(f"--compare: got {len(ours)} and {len(theirs)} subjects, expected at least one in each file")
    found = ratios(ours[0], theirs[0], paired=False, seed=seed)
    if not found:
        raise ConfigError(
            f"--compare: {first} and {second} share no stage with 5 samples or more; measure with --n 300"
        )
    return ours[0], theirs[0], found
