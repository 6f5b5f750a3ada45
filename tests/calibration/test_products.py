"""What each product will see, and the words for it."""

from __future__ import annotations

import numpy as np

from cada_edge.calibration import ProductRejects, product_rejects, product_warnings
from cada_edge.types import Threshold

THRESHOLD = Threshold(1.2, 0.05, 0.07, 0.95, 100, "conformal", "")


def rejects(**counts: tuple[int, int, int]) -> tuple[ProductRejects, ...]:
    """Products by name as (images, above the threshold, beyond the novelty limit)."""
    products, above, novel = [], [], []
    for name, (n, n_above, n_novel) in counts.items():
        products += [name] * n
        above += [True] * (n_above + n_novel) + [False] * (n - n_above - n_novel)
        novel += [True] * n_novel + [False] * (n - n_novel)
    return product_rejects(products, np.array(above), np.array(novel), THRESHOLD)


def test_the_worst_product_comes_first() -> None:
    """Sorted by what is certain of each: 9 of 90 weigh more than 1 of 5."""
    assert [one.product for one in rejects(calm=(90, 0, 0), few=(5, 1, 0), worst=(90, 9, 0))] == [
        "worst",
        "few",
        "calm",
    ]


def test_a_product_certainly_above_the_target_is_named_in_words() -> None:
    """20 of 100 at a target of 5 %: the interval begins above the target, and the sentence says what to do."""
    bad, good = rejects(bolt=(100, 20, 0), cap=(100, 5, 0))
    assert (bad.above_target, good.above_target) == (True, False)
    (line,) = product_warnings((bad, good), 0.05)
    assert line.startswith("bolt will be rejected more often than the 5 % asked for: 20 of 100 good images, so 12.7 to")
    assert "add good images of it" in line


def test_chance_alone_is_no_warning() -> None:
    """Two rejects of 19 are more than 5 % and yet no proof."""
    (one,) = rejects(bolt=(19, 2, 0))
    assert one.frr > 0.05
    assert product_warnings((one,), 0.05) == ()


def test_products_with_too_few_images_are_listed_once() -> None:
    """Fewer than the rate itself needs cannot confirm it; an unnamed product has a name too."""
    products = rejects(bolt=(18, 0, 0), cap=(19, 0, 0), **{"": (3, 0, 0)})
    assert product_warnings(products, 0.05) == (
        "too few images to confirm 5 % for each product alone: unnamed product (3), bolt (18).",
    )


def test_a_foreign_product_is_counted_and_named() -> None:
    """Images beyond the novelty limit are rejects and have a sentence of their own."""
    (foreign, _) = rejects(ours=(60, 0, 0), theirs=(30, 0, 30))
    assert (foreign.product, foreign.n_rejected, foreign.n_novel) == ("theirs", 30, 30)
    assert "theirs: 30 of 30 good images are unlike everything the model knows" in product_warnings((foreign,), 0.05)[1]


def test_the_interval_covers_the_true_rate() -> None:
    """Drawn at 8 % in 200 trials of 60 images, the 95 % interval holds it at least as often as it says."""
    hits = np.random.default_rng(0).binomial(60, 0.08, 200)
    found = {k: rejects(bolt=(60, k, 0))[0] for k in set(hits.tolist())}
    assert np.mean([found[k].low_frr <= 0.08 <= found[k].high_frr for k in hits.tolist()]) >= 0.95
