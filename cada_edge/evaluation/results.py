"""What an evaluation found: frozen, complete, and plain JSON on request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cada_edge.errors import ConfigError
from cada_edge.evaluation.operating import OperatingPoint
from cada_edge.types import Float32Array

SCHEMA = 1

ProtocolName = Literal["absolute", "model", "separate"]
AlignmentName = Literal["raw", "class-aware", "class-aware-z", "class-predicted", "cada"]
ALIGNMENTS: tuple[AlignmentName, ...] = ("raw", "class-aware", "class-aware-z", "class-predicted", "cada")
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
        for name, rates in (("targets_frr", self.targets_frr), ("confidence", (self.confidence,))):
            if not rates or not all(math.isfinite(rate) and 0 < rate < 1 for rate in rates):
                told = ", ".join(map(str, rates)) or "nothing"
                raise ConfigError(f"EvaluateConfig.{name}: got {told}, expected numbers between 0 and 1, such as 0.01")


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
class AlignmentResult:
    """One alignment under the chosen protocol.

    Attributes:
        name: which alignment.
        metrics: under the protocol: of the pool, or the mean of the products.
        products: metrics of each product alone.
        never_trained: metrics of each product that training never saw; not in `metrics`.
        operating: one per target rate; empty without calibration images.
        stored: at the threshold stored in the bundle; ``cada`` only.
        excluded: products this alignment cannot judge, left out of its figures.
        gap_closure: (this - raw) / (class-aware - raw) of the image AUROC; 1 = as good as with labels.
    """

    name: AlignmentName
    metrics: Metrics
    products: Mapping[str, Metrics]
    never_trained: Mapping[str, Metrics]
    operating: tuple[OperatingPoint, ...]
    stored: OperatingPoint | None
    excluded: tuple[str, ...]
    gap_closure: Measure

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "name": self.name,
            "metrics": asdict(self.metrics),
            "products": {product: asdict(metrics) for product, metrics in self.products.items()},
            "never_trained_products": {product: asdict(metrics) for product, metrics in self.never_trained.items()},
            "operating_points": [point.to_json() for point in self.operating],
            "stored_threshold": self.stored.to_json() if self.stored else None,
            "excluded_products": list(self.excluded),
            "gap_closure": asdict(self.gap_closure),
        }


@dataclass(frozen=True)
class ImageResult:
    """One test image.

    Attributes:
        name: path below the data root.
        sha256: of the file's bytes.
        product: its true product.
        defect: kind of defect, None for a good part.
        masks: paths below the data root, to be united.
        scores: under each alignment; None where the alignment cannot judge its product.
        trained: whether training saw its product; if not, it is in no figure of the whole.
        named: the product the classifier of ``class-predicted`` takes it for, or None.
    """

    name: str
    sha256: str
    product: str
    defect: str | None
    masks: tuple[str, ...]
    scores: Mapping[AlignmentName, float | None]
    trained: bool = True
    named: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """A whole evaluation.

    Attributes:
        config: its settings.
        provenance: version, digests of bundle and data, the bundle's own record.
        alignments: in the order of `ALIGNMENTS`; without descriptors there is no ``class-predicted``.
        images: every test image judged, in the order of `maps`.
        notes: what a reader must know to read the figures right.
        maps: float32 (N, h, w), CADA-aligned; not part of the JSON.
    """

    config: EvaluateConfig
    provenance: Mapping[str, Any]
    alignments: tuple[AlignmentResult, ...]
    images: tuple[ImageResult, ...]
    notes: tuple[str, ...]
    maps: Float32Array = field(repr=False, compare=False)

    def alignment(self, name: AlignmentName) -> AlignmentResult:
        """The result of one alignment that is there; see `names`."""
        return next(result for result in self.alignments if result.name == name)

    @property
    def names(self) -> tuple[AlignmentName, ...]:
        """The alignments that are there."""
        return tuple(result.name for result in self.alignments)

    @property
    def gap_closure(self) -> Measure:
        """(CADA - raw) / (class-aware - raw) of the image AUROC; 1 = as good as with labels."""
        return self.alignment("cada").gap_closure

    @property
    def never_trained(self) -> tuple[str, ...]:
        """Products of the test images that training never saw, sorted."""
        return tuple(sorted({image.product for image in self.images if not image.trained}))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types under schema 1: everything but the maps."""
        return {
            "schema": SCHEMA,
            "config": asdict(self.config),
            "provenance": dict(self.provenance),
            "alignments": [result.to_json() for result in self.alignments],
            "gap_closure": asdict(self.gap_closure),
            "never_trained": list(self.never_trained),
            "images": [asdict(image) for image in self.images],
            "notes": list(self.notes),
        }
