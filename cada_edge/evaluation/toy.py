"""The idea of CADA on a toy: three products, one threshold.

After figure 3 of the CADA paper (arXiv 2404.00724). Three kinds of parts have normal anomaly
maps of different height, so that no single threshold tells good from defective. Normalised
by their product's ``(u_c, gamma_c)``, one does. So it does when a regression that never hears
of products predicts ``(u, gamma)`` from what a part looks like::

    python -m cada_edge.evaluation.toy --out toy.png
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.neighbors import KNeighborsRegressor

from cada_edge.alignment import image_score, normalise
from cada_edge.errors import DataError
from cada_edge.evaluation.drawing import DEFECT, GOOD, INK, SOFT, STYLE
from cada_edge.evaluation.metrics import BoolArray
from cada_edge.imaging import write_atomic
from cada_edge.types import Float32Array, MapSpec

PRODUCTS = ("bolt", "cap", "disc")
COLOURS = ("#e0a030", "#8a6fb0", "#4f7cac")
SPEC = MapSpec(size_hw=(8, 8), smooth_taps=1, top_fraction=0.05)
_LOOKS = ((-2.0, -0.7), (0.1, 1.5), (1.9, -0.8))  # where each product lies in appearance space
_LEVEL, _SPREAD = (0.10, 0.34, 0.70), (0.025, 0.06, 0.14)  # of its normal maps
_DEFECT = (3.0, 5.0)  # added to a few cells, in units of the product's spread
_NEIGHBOURS = 15
_DPI = 160


@dataclass(frozen=True)
class Parts:
    """N parts.

    Attributes:
        product: int (N,), index into `PRODUCTS`.
        looks: float32 (N, 2), appearance; a defect leaves it as it is.
        maps: float32 (N, 8, 8), raw anomaly maps, >= 0.
        defective: bool (N,).
    """

    product: npt.NDArray[np.int64]
    looks: Float32Array
    maps: Float32Array
    defective: BoolArray

    @property
    def score(self) -> Float32Array:
        """float32 (N,): the raw image score."""
        return image_score(self.maps, SPEC)


@dataclass(frozen=True)
class Toy:
    """The example: parts, and their scores under three alignments.

    Attributes:
        normal: good parts to learn from.
        test: good and defective parts.
        scores: title to float32 (N,), scores of `test`: before, by class, without class.
    """

    normal: Parts
    test: Parts
    scores: dict[str, Float32Array]

    def auroc(self, title: str) -> float:
        """Of all test parts in one pool, in [0, 1]."""
        return float(roc_auc_score(self.test.defective, self.scores[title]))


BEFORE, BY_CLASS, AGNOSTIC = "before", "by class", "class-agnostic"


def draw_parts(rng: np.random.Generator, each: int, share_defective: float) -> Parts:
    """`each` parts of every product, that share of them defective."""
    product = np.repeat(np.arange(len(PRODUCTS)), each)
    n = len(product)
    level, spread = np.array(_LEVEL)[product], np.array(_SPREAD)[product]
    looks = np.array(_LOOKS)[product] + rng.normal(0, 0.38, (n, 2))
    maps = level[:, None, None] + spread[:, None, None] * rng.normal(0, 1, (n, *SPEC.size_hw))
    defective = np.arange(n) % each < round(share_defective * each)
    maps[:, 3:5, 3:5] += (defective * spread * rng.uniform(*_DEFECT, n))[:, None, None]
    return Parts(product, looks.astype(np.float32), np.maximum(maps, 0).astype(np.float32), defective)


def by_class(normal: Parts, test: Parts) -> Float32Array:
    """Normalised by the (u_c, gamma_c) of the part's true product: float32 (N,)."""
    u, gamma = (
        np.array([values[normal.product == c].mean() for c in range(len(PRODUCTS))], np.float32)[test.product]
        for values in (normal.maps.mean(axis=(1, 2)), normal.score)
    )
    return image_score(normalise(test.maps, u, gamma), SPEC)


def agnostic(normal: Parts, test: Parts) -> Float32Array:
    """Normalised by a regression from appearance to (u, gamma) that knows no product: float32 (N,)."""
    targets = np.stack([normal.maps.mean(axis=(1, 2)), normal.score], axis=1)
    u, gamma = KNeighborsRegressor(_NEIGHBOURS).fit(normal.looks, targets).predict(test.looks).astype(np.float32).T
    return image_score(normalise(test.maps, u, gamma), SPEC)


def toy_example(seed: int = 0, each: int = 200) -> Toy:
    """The same toy for the same seed; `each` parts of every product."""
    rng = np.random.default_rng(seed)
    normal, test = draw_parts(rng, each, 0.0), draw_parts(rng, each, 0.5)
    scores = {BEFORE: test.score, BY_CLASS: by_class(normal, test), AGNOSTIC: agnostic(normal, test)}
    return Toy(normal, test, scores)


def draw(toy: Toy) -> Figure:
    """Appearance on the left, then the scores under each alignment with the best single threshold."""
    figure = Figure(figsize=(13, 3.9), layout="constrained")
    looks, *panels = figure.subplots(1, 4, width_ratios=(1.05, 1, 1, 1))
    _draw_looks(looks, toy.normal)
    explained = {
        BEFORE: "raw score S",
        BY_CLASS: "(S \u2212 u$_c$) / (\u03b3$_c$ \u2212 u$_c$), product known",
        AGNOSTIC: "(S \u2212 u) / (\u03b3 \u2212 u), regressed from looks",
    }
    for axis, (name, text) in zip(panels, explained.items(), strict=True):
        _draw_scores(axis, toy, name)
        axis.set_title(f"{name}   AUROC {100 * toy.auroc(name):.1f}", loc="left", fontweight="bold", color=INK)
        axis.set_xlabel(text)
    handles: list[Any] = [looks.fill_between([], [], color=colour, alpha=0.6, lw=0) for colour in (GOOD, DEFECT)]
    handles.append(looks.plot([], [], color=INK, lw=1.3, ls=(0, (4, 2)))[0])
    labels = ["good", "defective", "best single threshold"]
    figure.legend(handles, labels, loc="outside lower right", ncols=3, frameon=False, labelcolor=INK)
    return figure


def _draw_looks(axis: Axes, parts: Parts) -> None:
    for index, (name, colour) in enumerate(zip(PRODUCTS, COLOURS, strict=True)):
        x, y = parts.looks[parts.product == index].T
        axis.scatter(x, y, s=11, color=colour, alpha=0.55, lw=0)
        axis.annotate(
            f"{name}\nu {_LEVEL[index]:.2f}",
            (float(x.mean()), float(y.max())),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            va="bottom",
            color=colour,
            fontweight="bold",
        )
    axis.set(xticks=[], yticks=[], xlabel="appearance (no labels)")
    axis.set_aspect("equal", adjustable="datalim")
    axis.margins(0.1, 0.2)
    axis.set_title("three products, mixed", loc="left", fontweight="bold", color=INK)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_scores(axis: Axes, toy: Toy, name: str) -> None:
    scores, test = toy.scores[name].astype(np.float64), toy.test
    low, high = float(scores.min()), float(np.quantile(scores, 0.999))
    grid = np.linspace(low - 0.06 * (high - low), high + 0.06 * (high - low), 300)
    for row, colour in enumerate(COLOURS):
        for defective, fill in ((False, GOOD), (True, DEFECT)):
            height = gaussian_kde(scores[(test.product == row) & (test.defective == defective)])(grid)
            axis.fill_between(grid, row, row - 0.82 * height / height.max(), color=fill, alpha=0.6, lw=0)
        axis.axhline(row, color=colour, lw=2)
    axis.axvline(best_threshold(toy, name), color=INK, lw=1.3, ls=(0, (4, 2)))
    axis.set(xlim=(grid[0], grid[-1]), ylim=(len(PRODUCTS) - 0.92, -0.95), yticks=range(len(PRODUCTS)))
    axis.set_yticklabels(PRODUCTS, fontweight="bold")
    for label, colour in zip(axis.get_yticklabels(), COLOURS, strict=True):
        label.set_color(colour)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color(SOFT)


def best_threshold(toy: Toy, name: str) -> float:
    """Where one threshold tells most apart (Youden's J), chosen on the parts drawn: the best case."""
    fpr, tpr, thresholds = roc_curve(toy.test.defective, toy.scores[name])
    return float(thresholds[np.argmax(tpr - fpr)])


def write(path: Path, toy: Toy) -> None:
    """The picture as PNG, whole or not at all. Raises `DataError` when it cannot be written."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        draw(toy).savefig(buffer, format="png", dpi=_DPI, facecolor="white")
    write_atomic(path, buffer.getvalue())


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the example to the file asked for and say its figures."""
    parser = argparse.ArgumentParser(description="One threshold for three products: before and after alignment.")
    parser.add_argument("--out", type=Path, default=Path("toy.png"), help="PNG file to write [toy.png]")
    parser.add_argument("--seed", type=int, default=0, help="of the parts drawn [0]")
    asked = parser.parse_args(arguments)
    toy = toy_example(asked.seed)
    try:
        write(asked.out, toy)
    except DataError as error:
        parser.error(str(error))
    figures = ", ".join(f"{name} {100 * toy.auroc(name):.1f}" for name in toy.scores)
    sys.stdout.write(f"{asked.out}: pooled AUROC {figures}\n")


if __name__ == "__main__":
    main()
