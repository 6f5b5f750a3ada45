"""What false-reject rate each product will see at the one threshold.

One threshold serves all products, and its guarantee covers their mix. A product whose good
parts score higher than the others' is rejected more often, so each one's rate is counted and
given with the interval that its number of images allows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cada_edge.calibration.threshold import clopper_pearson, images_needed
from cada_edge.types import Threshold


@dataclass(frozen=True)
class ProductRejects:
    """How many good images of one product are rejected at the threshold.

    Counted on the images that set the threshold, which flatters the sum over all products by
    at most one image, see `cada_edge.calibration.threshold`.

    Attributes:
        product: its name; for reading only, no product has its own threshold.
        n_images: calibration images of it, >= 1.
        n_rejected: of those, above the threshold or beyond the novelty limit.
        n_novel: of those, beyond the novelty limit.
        low_frr: the true rate lies between `low_frr` and `high_frr`, both in [0, 1], with the
            threshold's confidence: Clopper-Pearson, two-sided, for this product by itself.
        high_frr: see `low_frr`.
        above_target: `low_frr` exceeds the rate asked for: this product is rejected more often.
        too_few: at the rate asked for, not even one reject is to be expected among so few images,
            so that they cannot confirm it.
    """

    product: str
    n_images: int
    n_rejected: int
    n_novel: int
    low_frr: float
    high_frr: float
    above_target: bool
    too_few: bool

    @property
    def frr(self) -> float:
        """Share of its images rejected, in [0, 1]."""
        return self.n_rejected / self.n_images

    def to_json(self) -> dict[str, Any]:
        """Every field, and the rate."""
        return {**asdict(self), "frr": self.frr}


def product_rejects(
    products: Sequence[str], rejected: npt.NDArray[np.bool_], novel: npt.NDArray[np.bool_], threshold: Threshold
) -> tuple[ProductRejects, ...]:
    """Count per product, the worst first: by lower bound, then by rate, then by name.

    Args:
        products: N names, one per image.
        rejected: bool (N,), above the threshold or novel.
        novel: bool (N,), beyond the novelty limit.
        threshold: names the target rate and the confidence.
    """
    total = Counter(products)
    bad = Counter(name for name, hit in zip(products, rejected, strict=True) if hit)
    new = Counter(name for name, hit in zip(products, novel, strict=True) if hit)
    counted = (_count(name, total[name], bad[name], new[name], threshold) for name in total)
    return tuple(sorted(counted, key=lambda one: (-one.low_frr, -one.frr, one.product)))


def _count(name: str, n: int, n_rejected: int, n_novel: int, threshold: Threshold) -> ProductRejects:
    low, high = clopper_pearson(n_rejected, n, threshold.confidence)
    return ProductRejects(
        product=name,
        n_images=n,
        n_rejected=n_rejected,
        n_novel=n_novel,
        low_frr=low,
        high_frr=high,
        above_target=low > threshold.target_frr,
        too_few=n < images_needed(threshold.target_frr, threshold.confidence, "conformal"),
    )


def product_warnings(products: Sequence[ProductRejects], target_frr: float) -> tuple[str, ...]:
    """In words: products that are rejected more often than asked, unknown ones, and ones with too few images."""
    target = f"{100 * target_frr:g} %"
    above = tuple(_above(one, target) for one in products if one.above_target)
    novel = tuple(
        f"{one.product or 'unnamed product'}: {one.n_novel} of {one.n_images} good images are unlike everything the "
        "model knows and will be undecided; train with this product."
        for one in products
        if one.n_novel
    )
    return (*above, *novel, *_few([one for one in products if one.too_few and not one.above_target], target))


def _above(one: ProductRejects, target: str) -> str:
    return (
        f"{one.product or 'unnamed product'} will be rejected more often than the {target} asked for: "
        f"{one.n_rejected} of {one.n_images} good images, so {100 * one.low_frr:.1f} to {100 * one.high_frr:.1f} %; "
        "add good images of it and train again."
    )


def _few(products: Sequence[ProductRejects], target: str) -> tuple[str, ...]:
    if not products:
        return ()
    names = ", ".join(f"{one.product or 'unnamed product'} ({one.n_images})" for one in products)
    return (f"too few images to confirm {target} for each product alone: {names}.",)
