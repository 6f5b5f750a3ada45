"""What an evaluation found: frozen, complete, and plain JSON on request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cada_edge.errors import ConfigError
from cada_edge.types import Float32Array

SCHEMA = 1

ProtocolName = Literal["absolute", "model", "separate"]
AlignmentName = Literal["raw", "class-aware", "class-aware-z", "cada"]
ALIGNMENTS: tuple[AlignmentName, ...] = ("raw", "class-aware", "class-aware-z", "cada")
METRICS = ("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "aupro")


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of `evaluate`.

    Attributes:
        protocol: ``absolute``, ``model`` or ``separate``; see `cada_edge.evaluation.protocols`.
        targets_frr: false-reject rates to calibrate thresholds for, each in (0, 1).
        confidence: of the thresholds' bounds, in (0, 1).
        batch_size: images per inference, >= 1.
    """

    protocol: ProtocolName = "absolute"
    targets_frr: tuple[float, ...] = (0.01, 0.05)
    confidence: float = 0.95
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.protocol not in ("absolute", "model", "separate"):
            raise ConfigError(f"protocol: got {self.protocol!r}, expected 'absolute', 'model' or 'separate'")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size: got {self.batch_size}, expected an integer >= 1")
        rates = (*self.targets_frr, self.confidence)
        if not self.targets_frr or not all(math.isfinite(rate) and 0 < rate < 1 for rate in rates):
            raise ConfigError(
                f"targets_frr, confidence: got {self.targets_frr}, {self.confidence}, expected numbers in (0, 1)"
            )


@dataclass(frozen=True)
class Measure:
    """A figure in [0, 1], or None with the reason why there is none.

    `reason` may also qualify a value, for instance "6 of 10 products".
    """

    value: float | None
    reason: str = ""

    def text(self, digits: int = 1) -> str:
        """Per cent with `digits` decimals, or a dash."""
        return "-" if self.value is None else f"{100 * self.value:.{digits}f}"


@dataclass(frozen=True)
class Metrics:
    """The five figures of the literature, each in [0, 1]; 0.5 is chance for the AUROCs.

    Attributes:
        image_auroc: area under the ROC of the image scores; never flipped below 0.5.
        image_ap: average precision, defects as positives.
        image_f1_max: best F1 over all thresholds; a threshold chosen on test data, so an
            upper bound and no operating point.
        pixel_auroc: area under the ROC of all pixels.
        aupro: area under the per-region overlap up to a false-positive rate of 0.3, over 0.3.
    """

    image_auroc: Measure
    image_ap: Measure
    image_f1_max: Measure
    pixel_auroc: Measure
    aupro: Measure


@dataclass(frozen=True)
class ProductRates:
    """Counts of one product at one operating point: test images only."""

    product: str
    threshold: float
    n_good: int
    false_rejects: int
    n_defect: int
    caught: int

    @property
    def frr(self) -> float | None:
        """False-reject rate, or None without good test images."""
        return self.false_rejects / self.n_good if self.n_good else None

    @property
    def recall(self) -> float | None:
        """Share of the defects rejected, or None without defects."""
        return self.caught / self.n_defect if self.n_defect else None


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
    """

    target_frr: float
    method: str
    n_calibration: int
    bound_frr: float
    products: tuple[ProductRates, ...]

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
        able = [p for p in self.products if p.n_good]
        return max(able, key=lambda p: p.false_rejects / p.n_good, default=None)

    def to_json(self) -> dict[str, Any]:
        """Counts and the rates drawn from them."""
        worst = self.worst
        return {
            **asdict(self),
            "frr": self.frr,
            "recall": self.recall,
            "worst_product": worst.product if worst else None,
            "worst_frr": worst.frr if worst else None,
            "worst_n_good": worst.n_good if worst else None,
        }


def _rate(count: int, total: int) -> float | None:
    return count / total if total else None


@dataclass(frozen=True)
class AlignmentResult:
    """One alignment under the chosen protocol.

    Attributes:
        name: which alignment.
        metrics: under the protocol: of the pool, or the mean of the products.
        products: metrics of each product alone.
        operating: one per target rate; empty without calibration images.
        stored: at the threshold stored in the bundle; ``cada`` only.
        excluded: products this alignment cannot judge, left out of its figures.
    """

    name: AlignmentName
    metrics: Metrics
    products: Mapping[str, Metrics]
    operating: tuple[OperatingPoint, ...]
    stored: OperatingPoint | None
    excluded: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "name": self.name,
            "metrics": asdict(self.metrics),
            "products": {product: asdict(metrics) for product, metrics in self.products.items()},
            "operating_points": [point.to_json() for point in self.operating],
            "stored_threshold": self.stored.to_json() if self.stored else None,
            "excluded_products": list(self.excluded),
        }


@dataclass(frozen=True)
class ImageResult:
    """One test image: its paths below the data root and its score under each alignment."""

    name: str
    sha256: str
    product: str
    defect: str | None
    masks: tuple[str, ...]
    scores: Mapping[AlignmentName, float | None]


@dataclass(frozen=True)
class Evaluation:
    """A whole evaluation.

    Attributes:
        config: its settings.
        provenance: version, digests of bundle and data, the bundle's own record.
        alignments: raw, class-aware, class-aware-z, cada, in this order.
        gap_closure: (CADA - raw) / (class-aware - raw) of the image AUROC; 1 = as good as with labels.
        images: every test image judged, in the order of `maps`.
        notes: what a reader must know to read the figures right.
        maps: float32 (N, h, w), CADA-aligned; not part of the JSON.
    """

    config: EvaluateConfig
    provenance: Mapping[str, Any]
    alignments: tuple[AlignmentResult, ...]
    gap_closure: Measure
    images: tuple[ImageResult, ...]
    notes: tuple[str, ...]
    maps: Float32Array = field(repr=False, compare=False)

    def alignment(self, name: AlignmentName) -> AlignmentResult:
        """The result of one alignment."""
        return next(result for result in self.alignments if result.name == name)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types under schema 1: everything but the maps."""
        return {
            "schema": SCHEMA,
            "config": asdict(self.config),
            "provenance": dict(self.provenance),
            "alignments": [result.to_json() for result in self.alignments],
            "gap_closure": asdict(self.gap_closure),
            "images": [asdict(image) for image in self.images],
            "notes": list(self.notes),
        }
