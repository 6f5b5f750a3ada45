"""What every plot shares: colours, type, and the way into a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cada_edge.evaluation.results import AlignmentName

GOOD, DEFECT, INK, FAINT, SOFT = "#1f7a8c", "#d1495b", "#22303c", "#dfe5ea", "#9aa5b1"
BAND = "#f5f7f9"
_TICKS = 5  # at most so many steps: panels are narrow
TITLES: dict[AlignmentName, str] = {
    "raw": "raw: no alignment",
    "class-aware": "class-aware: labels in training and test",
    "class-aware-z": "class-aware z-score: labels in training and test",
    "class-predicted": "class-predicted: labels in training only",
    "cada": "CADA: no labels",
}
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "cada-edge",  # the same evaluation gives the same bytes
}


def rows_of(axis: Axes, names: Iterable[str]) -> None:
    """One striped row per name, the first on top; no frame but the axis below."""
    labels = [name or "(all)" for name in names]
    for row in range(len(labels)):
        axis.axhspan(row - 0.5, row + 0.5, color=BAND if row % 2 else "white", lw=0, zorder=0)
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color=FAINT, lw=0.7)
    axis.set_axisbelow(True)
    axis.xaxis.set_major_locator(MaxNLocator(_TICKS, steps=[1, 2, 5, 10]))
    axis.ticklabel_format(axis="x", style="plain", useOffset=False)  # scores as they are, not what to add to 1.16


def title(axis: Axes, text: str) -> None:
    """A bold title at the left."""
    axis.set_title(text, loc="left", fontsize=10, fontweight="bold", color=INK)


def data_uri(figure: Figure) -> str:
    """The figure as SVG, a data URI; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
