"""What the accuracy gate allows and what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cada_edge.engine_key import Precision
from cada_edge.errors import ParityError
from cada_edge.export.cases import Case
from cada_edge.types import Float32Array, require


@dataclass(frozen=True)
class GateTolerance:
    """What a precision may cost, as fractions.

    Attributes:
        auroc: fall of the pooled AUROC.
        flips: share of images whose verdict differs, in either direction. One image is always
            let pass: its score may lie on the threshold.
        false_rejects: rise of one product's false-reject rate. One image more is always let
            pass: of few images it is a large share and says little.
    """

    auroc: float
    flips: float
    false_rejects: float = 0.05

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
            require(numeric and 0 <= value <= 1, f"GateTolerance.{name}", value, "a number in [0, 1]")


TOLERANCES: Mapping[Precision, GateTolerance] = {
    "fp16": GateTolerance(auroc=0.005, flips=0.005),
    "int8": GateTolerance(auroc=0.01, flips=0.02),
}


@dataclass(frozen=True)
class ProductGate:
    """False rejects of one product's good images, by the float32 graph and by the other one."""

    product: str
    images: int
    before: int
    after: int

    @property
    def rise(self) -> float:
        """Rise of the false-reject rate."""
        return (self.after - self.before) / self.images


@dataclass(frozen=True)
class Shown:
    """An image on which the two differ, for the gallery; maps are float32 (h, w)."""

    case: Case
    before: Float32Array
    after: Float32Array
    scores: tuple[float, float]
    flipped: bool


@dataclass(frozen=True)
class GateCheck:
    """One figure against what is allowed, for reading; `words` say it in a sentence."""

    name: str
    found: str
    allowed: str
    passed: bool
    words: str


@dataclass(frozen=True)
class GateReport:
    """How a graph of lower precision compares with the float32 one; true when it passes.

    Attributes:
        precision: of the graph.
        good: held-out good images judged.
        damaged: the same with painted damage.
        threshold: aligned score at which verdicts are compared.
        calibrated: whether it is the bundle's; else the 99 % quantile of the good images' scores.
        auroc: pooled over products, good against damaged: float32's, then this graph's.
        flips: images that pass in one and not in the other.
        score_rms: root mean square of the score's difference.
        score_max: largest difference of a score.
        map_mean: mean difference of the aligned map.
        products: false rejects, the largest rise first.
        tolerance: what was allowed.
        worst: the images that differ most, flips first.
    """

    precision: Precision
    good: int
    damaged: int
    threshold: float
    calibrated: bool
    auroc: tuple[float, float]
    flips: int
    score_rms: float
    score_max: float
    map_mean: float
    products: tuple[ProductGate, ...]
    tolerance: GateTolerance
    worst: tuple[Shown, ...]

    @property
    def flip_rate(self) -> float:
        """Share of the images whose verdict differs."""
        return self.flips / (self.good + self.damaged)

    @property
    def checks(self) -> tuple[GateCheck, ...]:
        """What is held against the tolerance: AUROC, flips, false rejects of the worst product."""
        allowed, product, images = self.tolerance, self.products[0], self.good + self.damaged
        fall, rise = self.auroc[0] - self.auroc[1], product.after - product.before
        return (
            GateCheck(
                "Pooled AUROC",
                f"{self.auroc[0]:.4f} to {self.auroc[1]:.4f}, {-fall:+.4f}",
                f"-{allowed.auroc:g}",
                fall <= allowed.auroc,
                f"pooled AUROC falls by {fall:.4f} to {self.auroc[1]:.4f} (allowed {allowed.auroc:g})",
            ),
            GateCheck(
                "Verdicts that flip",
                f"{self.flips} of {images}, {self.flip_rate:.2%}",
                f"{max(1, int(allowed.flips * images))}, {allowed.flips:.2%}",
                self.flips <= max(1.0, allowed.flips * images),
                f"{self.flips} verdicts flip, {self.flip_rate:.2%} (allowed {allowed.flips:.2%})",
            ),
            GateCheck(
                f"False rejects of {product.product or 'all products'}",
                f"{product.before} to {product.after} of {product.images}",
                f"+{max(1, int(allowed.false_rejects * product.images))}, {allowed.false_rejects:.2%}",
                rise <= max(1.0, allowed.false_rejects * product.images),
                f"false rejects of {product.product or 'all products'} rise from {product.before} to {product.after} "
                f"of {product.images} (allowed {allowed.false_rejects:.2%})",
            ),
        )

    @property
    def failures(self) -> tuple[str, ...]:
        """What is past the tolerance, in words; empty when the graph passes."""
        return tuple(check.words for check in self.checks if not check.passed)

    def __bool__(self) -> bool:
        return not self.failures

    def require(self) -> None:
        """Raise `ParityError`, with figures and what to do, unless the graph passes."""
        if self:
            return
        raise ParityError(
            f"{self.precision} decides differently from fp32 on {self.good} good and {self.damaged} damaged images: "
            f"{'; '.join(self.failures)}; nothing was written. " + _ADVICE[self.precision]
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, without maps and paths."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in {"worst", "products"}}
        return {
            **plain,
            "auroc": list(self.auroc),
            "tolerance": asdict(self.tolerance),
            "flip_rate": self.flip_rate,
            "products": [{**asdict(one), "rise": one.rise} for one in self.products],
            "worst": [
                {"image": s.case.item.sha256, "flaw": s.case.flaw, "scores": list(s.scores), "flipped": s.flipped}
                for s in self.worst
            ],
            "passed": bool(self),
            "failures": list(self.failures),
        }


_WIDEN = "widen the tolerance (--max-auroc-fall, --max-flips, --max-false-rejects)"
_ADVICE: Mapping[Precision, str] = {
    "fp16": f"Stay with fp32, or {_WIDEN} if this does not matter to you",
    "int8": f"Give more calibration images or a lower --score-budget, stay with fp16, or {_WIDEN}",
}
