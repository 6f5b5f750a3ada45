"""Quantiles that the samples support, and ratios with their confidence. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cada_edge.errors import ConfigError

Float64Array = npt.NDArray[np.float64]

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
CONFIDENCE = 0.95
_DRAWS, _CELLS = 2000, 4_000_000  # resamples of a bootstrap; numbers held at a time


@dataclass(frozen=True)
class Summary:
    """What is said of one stage. Times in ns.

    Attributes:
        n: samples.
        mean: of them.
        quantiles: by name as in `QUANTILES`; ``None`` where `n` is too small to state it.
        max: the largest.
        jitter: mean absolute difference of neighbours in time; ``None`` for one sample.
    """

    n: int
    mean: float
    quantiles: dict[str, float | None]
    max: float
    jitter: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, milliseconds."""
        times = {"mean": self.mean, **self.quantiles, "max": self.max, "jitter": self.jitter}
        return {"n": self.n, **{f"{k}_ms": None if v is None else round(v / 1e6, 6) for k, v in times.items()}}


@dataclass(frozen=True)
class Ratio:
    """A ratio with its bootstrap interval.

    Attributes:
        value: of the samples themselves.
        low: lower end of the interval.
        high: upper end.
    """

    value: float
    low: float
    high: float

    @property
    def differs(self) -> bool:
        """Whether 1 lies outside the interval."""
        return not self.low <= 1.0 <= self.high


def needed(quantile: float) -> int:
    """Samples from which on the largest bounds the quantile with 95 % confidence: 5, 29, 299, 2995 of `QUANTILES`.

    Below that number no distribution-free interval for the quantile has an upper end, so it is not stated.
    """
    return max(5, math.ceil(math.log(1 - CONFIDENCE) / math.log(quantile)))


def stated(quantile: float, n: int) -> bool:
    """Whether `n` samples are enough to name this quantile."""
    return n >= needed(quantile)


def summarise(samples: Sequence[int] | Float64Array) -> Summary:
    """Of at least one sample, in the order of time. Raises `ConfigError` for none."""
    values = np.asarray(samples, np.float64)
    if not values.size:
        raise ConfigError("samples: got none, expected at least 1")
    found = {name: float(np.quantile(values, q)) if stated(q, values.size) else None for name, q in QUANTILES.items()}
    jitter = float(np.abs(np.diff(values)).mean()) if values.size > 1 else None
    return Summary(int(values.size), float(values.mean()), found, float(values.max()), jitter)


def ratio(
    ours: Sequence[int] | Float64Array,
    theirs: Sequence[int] | Float64Array,
    quantile: float,
    *,
    paired: bool = False,
    seed: int = 0,
) -> Ratio:
    """Of a quantile of `ours` to that of `theirs`, with a 95 % interval.

    Blocks of neighbours in time are drawn, not single samples, since a busy second slows many
    frames in a row. `paired` draws the same moments on both sides, for samples taken in turns.

    Raises `ConfigError` for too few samples, or for `paired` ones of different number.
    """
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if min(a.size, b.size) < needed(quantile) or (paired and a.size != b.size):
        raise ConfigError(f"samples: got {a.size} and {b.size}, expected {needed(quantile)} or more, pairs alike")
    rng = np.random.default_rng(seed)
    drawn = []
    for count in _portions(max(a.size, b.size)):
        rows = _blocks(rng, a.size, count)
        other = rows if paired else _blocks(rng, b.size, count)
        drawn.append(np.quantile(a[rows], quantile, axis=1) / np.quantile(b[other], quantile, axis=1))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(drawn), (tail, 1 - tail))
    return Ratio(float(np.quantile(a, quantile) / np.quantile(b, quantile)), float(low), float(high))


def _portions(n: int) -> list[int]:
    """Resamples to hold at a time, `_DRAWS` in all."""
    most = max(1, _CELLS // n)
    full, rest = divmod(_DRAWS, most)
    return [most] * full + [rest] * bool(rest)


def _blocks(rng: np.random.Generator, n: int, count: int) -> npt.NDArray[np.int64]:
    """int64 (count, n): indices in runs of about the cube root of `n`, wrapped around."""
    length = max(1, round(n ** (1 / 3)))
    starts = rng.integers(0, n, (count, -(-n // length)))
    runs = (starts[:, :, None] + np.arange(length)) % n
    return runs.reshape(count, -1)[:, :n]
