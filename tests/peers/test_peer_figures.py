from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peer_figures import Scored, figures, to_markdown

from cada_edge.data.dataset import Item

LEVELS = {"cap": 1.0, "gear": 50.0}  # of normal scores: the products lie far apart


def scored(split: str, kinds: tuple[str | None, ...], units: float) -> Scored:
    """Twenty images of each kind and product; a defect lies five spreads above the good ones."""
    rng = np.random.default_rng(0)
    items, scores = [], []
    for product, level in LEVELS.items():
        for kind in kinds:
            for i in range(20):
                digest = f"{split}{product}{kind}{i}"
                items.append(Item(Path(digest), digest, product, "test" if split == "test" else "train", kind))
                scores.append(units * (level + 0.1 * rng.uniform() + (0.5 if kind else 0.0)))
    array = np.array(scores, np.float32)
    return Scored(tuple(items), array, np.repeat(array[:, None, None] / 2, 4, axis=1))


def judged(units: float = 1.0) -> dict[str, Any]:
    """Figures of a peer that ranks each product perfectly, on scales far apart."""
    held, test = scored("held", (None,), units), scored("test", (None, "dent"), units)
    return figures(held, test, {item.sha256 for item in held.items}, test.scores)


def test_one_pool_pays_for_scales_that_differ() -> None:
    """Products ranked perfectly apart are mixed up in one pool, unless labels align them."""
    found = judged()
    assert found["raw"]["mean_of_products"]["image_auroc"]["value"] == 1.0
    assert found["raw"]["pooled"]["image_auroc"]["value"] < 0.8
    assert found["class-aware-z"]["pooled"]["image_auroc"]["value"] == 1.0


def test_the_threshold_comes_from_held_out_good_images() -> None:
    """One threshold for both products lets every defect of the lower one pass."""
    point = judged()["raw"]["operating_point"]
    assert point["n_calibration"] == 40
    assert {p["product"]: p["caught"] for p in point["products"]} == {"cap": 0, "gear": 20}


def test_figures_do_not_depend_on_a_peers_units() -> None:
    """Scores in thousandths give the figures that scores in thousands give."""
    small, large = judged(1e-3), judged(1e3)
    for name in ("raw", "class-aware", "class-aware-z"):
        first, second = (found[name]["pooled"]["image_auroc"]["value"] for found in (small, large))
        assert first == pytest.approx(second, abs=1e-3)


def test_the_table_shows_every_peer_and_product() -> None:
    """A row per peer with its figures, a row per product, and a dash where a backend failed."""
    latency = {"torch": {"ratio": 1.5}, "onnxruntime": {"reason": "cannot trace"}}
    table = to_markdown({"padim": {"title": "PaDiM", "figures": judged(), "latency": latency}})
    assert "| PaDiM | 100.0 | " in table
    assert "| 1.50 / - / - |" in table
    assert "| cap | 100.0 |\n| gear | 100.0 |" in table
