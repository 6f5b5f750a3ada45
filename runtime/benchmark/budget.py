"""A limit such as ``20ms@p99``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cada_edge.errors import ConfigError
from cada_edge.runtime.benchmark.stats import QUANTILES, Summary, needed

_NS = {"us": 1e3, "ms": 1e6, "s": 1e9}
_TEXT = re.compile(
    r"(\d{1,9}(?:\.\d{1,9})?)\s*(us|ms|s)@(" + "|".join(map(re.escape, (*QUANTILES, "mean", "max"))) + ")"
)


@dataclass(frozen=True)
class Budget:
    """What camera-to-signal may take.

    Attributes:
        limit_ns: > 0.
        statistic: ``p50`` to ``p99.9``, ``mean`` or ``max``.
    """

    limit_ns: float
    statistic: str

    @staticmethod
    def parse(text: str, n: int) -> Budget:
        """Read ``20ms@p99``, to be held by `n` samples. Raises `ConfigError`."""
        match = _TEXT.fullmatch(text.strip())
        if match is None or float(match[1]) == 0:
            raise ConfigError(
                f"--budget: got {text!r}, expected a time > 0 and a statistic, such as 20ms@p99 or 1s@max"
            )
        budget = Budget(float(match[1]) * _NS[match[2]], match[3])
        least = needed(QUANTILES[budget.statistic]) if budget.statistic in QUANTILES else 1
        if n < least:
            raise ConfigError(f"--n: got {n}, expected {least} or more, so that {budget.statistic} can be stated")
        return budget

    def measured(self, summary: Summary) -> float:
        """The figure that is compared, ns."""
        if self.statistic in QUANTILES:
            value = summary.quantiles[self.statistic]
            if value is None:
                raise ConfigError(f"--budget: {summary.n} frames cannot state {self.statistic}; raise --n")
            return value
        return summary.max if self.statistic == "max" else summary.mean

    def kept(self, summary: Summary) -> bool:
        """Whether the measured figure is within the limit."""
        return self.measured(summary) <= self.limit_ns
