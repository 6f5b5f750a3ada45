"""What a line pays at a threshold: counts per product, rates, and how sure they are."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ProductRates:
    """Counts of one product at one operating point: test images only.

    Attributes:
        product: its name.
        threshold: aligned score above which a part is rejected.
        n_good: good test images.
        false_rejects: how many of them are rejected.
        n_defect: defective test images.
        caught: how many of them are rejected.
        frr_interval: where the true false-reject rate lies at the configured confidence,
            (low, high) in [0, 1]: Clopper-Pearson, two-sided. None without good images.
    """

    product: str
    threshold: float
    n_good: int
    false_rejects: int
    n_defect: int
    caught: int
    frr_interval: tuple[float, float] | None

    @property
    def frr(self) -> float | None:
        """False-reject rate, or None without good test images."""
        return self.false_rejects / self.n_good if self.n_good else None

    @property
    def recall(self) -> float | None:
        """Share of the defects rejected, or None without defects."""
        return self.caught / self.n_defect if self.n_defect else None

    def to_json(self) -> dict[str, Any]:
        """Counts, rates and interval."""
        return {**asdict(self), "frr": self.frr, "recall": self.recall}


@dataclass(frozen=True)
class OperatingPoint:
    """What a factory pays at a threshold set from good calibration images alone.

    Attributes:
        target_frr: rate asked for.
        method: rule of the threshold; ``maximum`` where images were too few for the rate.
        n_calibration: good images behind it; with one threshold per product, the fewest.
        bound_frr: upper bound of the rate at the configured confidence; the largest where
            every product has its own threshold.
        products: counts per product, sorted by name.
        never_trained: the same of products that training never saw; in no rate of the whole.
    """

    target_frr: float
    method: str
    n_calibration: int
    bound_frr: float
    products: tuple[ProductRates, ...]
    never_trained: tuple[ProductRates, ...] = ()

    @property
    def frr(self) -> float | None:
        """False-reject rate over all good test images, or None without any."""
        return _rate(sum(p.false_rejects for p in self.products), sum(p.n_good for p in self.products))

    @property
    def recall(self) -> float | None:
        """Share of all test defects rejected, or None without any."""
        return _rate(sum(p.caught for p in self.products), sum(p.n_defect for p in self.products))

    @property
    def worst(self) -> ProductRates | None:
        """The product with the highest false-reject rate, or None without good test images."""
        return next(iter(self.worst_first), None)

    @property
    def worst_first(self) -> tuple[ProductRates, ...]:
        """The products that have good test images, highest false-reject rate first, the more images first in a tie."""
        able = [p for p in self.products if p.n_good]
        return tuple(sorted(able, key=lambda p: (-p.false_rejects / p.n_good, -p.n_good, p.product)))

    def to_json(self) -> dict[str, Any]:
        """Counts and the rates drawn from them."""
        worst = self.worst
        return {
            **asdict(self),
            "products": [rates.to_json() for rates in self.products],
            "never_trained": [rates.to_json() for rates in self.never_trained],
            "frr": self.frr,
            "recall": self.recall,
            "worst_product": worst.product if worst else None,
            "worst_frr": worst.frr if worst else None,
            "worst_false_rejects": worst.false_rejects if worst else None,
            "worst_n_good": worst.n_good if worst else None,
        }


def _rate(count: int, total: int) -> float | None:
    return count / total if total else None
