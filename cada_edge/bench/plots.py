"""The table as a picture: before and after alignment for every detector, every seed a point."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cada_edge.bench.table import Row, Spread, Table

RAW, LABELS, CADA, INK, FAINT = "#9aa5b1", "#e0a030", "#1f7a8c", "#22303c", "#dfe5ea"
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": RAW,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "cada-edge",  # the same table gives the same bytes
}
_OFFSETS = {"raw": -0.2, "class-aware": 0.0, "cada": 0.2}
_COLOURS = {"raw": RAW, "class-aware": LABELS, "cada": CADA}


def overview_svg(table: Table, names: Sequence[str]) -> str:
    """The picture as a data URI for HTML; `names` label the rows."""
    return (
        "data:image/svg+xml;base64," + base64.b64encode(_drawn(table, names, "svg", metadata={"Date": None})).decode()
    )


def overview_png(table: Table, names: Sequence[str]) -> bytes:
    """The picture as PNG, 150 dots an inch."""
    return _drawn(table, names, "png", dpi=150)


def _drawn(table: Table, names: Sequence[str], kind: str, **options: Any) -> bytes:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(12, 1.7 + 0.55 * len(table.rows)), layout="constrained")
        axes = figure.subplots(1, 4, sharey=True)
        _spreads(axes[0], table, {"raw": "pooled_raw", "class-aware": "pooled_class_aware", "cada": "pooled_cada"})
        _titled(axes[0], "I-AUROC, all products in one pool", "%")
        _gaps(axes[1], table)
        _spreads(axes[2], table, {"raw": "worst_frr_raw", "cada": "worst_frr_cada"})
        axes[2].set_xlim(left=0)
        axes[2].axvline(100 * table.target_frr, color=INK, lw=1, ls=(0, (4, 2)))
        _titled(axes[2], "worst product\u2019s false rejects", f"%, {100 * table.target_frr:g} % asked for")
        _spreads(axes[3], table, {"raw": "recall_raw", "cada": "recall_cada"})
        _titled(axes[3], "defects caught", "%, at the same threshold")
        axes[0].set_yticks(range(len(table.rows)), names)
        axes[0].set_ylim(len(table.rows) - 0.5, -0.5)
        handles = [axes[0].plot([], [], "o", ms=5, color=colour)[0] for colour in _COLOURS.values()]
        labels = ["raw", "class-aware (with labels)", "CADA; small points are seeds, bars their mean"]
        figure.legend(handles, labels, loc="outside upper left", ncols=3, frameon=False)
        stream = io.BytesIO()
        figure.savefig(stream, format=kind, **options)
    return stream.getvalue()


def _titled(axis: Axes, title: str, unit: str) -> None:
    axis.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    axis.set_xlabel(unit)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color=FAINT, lw=0.7)
    axis.set_axisbelow(True)


def _spreads(axis: Axes, table: Table, keys: dict[str, str]) -> None:
    """Per row one line of points per alignment, joined from the first to the last."""
    for position, row in enumerate(table.rows):
        means = [(position + _OFFSETS[name], row.figures[key].mean) for name, key in keys.items()]
        known = [(height, 100 * mean) for height, mean in means if mean is not None]
        axis.plot([mean for _, mean in known], [height for height, _ in known], color=FAINT, lw=2, zorder=1)
        for name, key in keys.items():
            _points(axis, row.figures[key], position + _OFFSETS[name], _COLOURS[name], scale=100)


def _points(axis: Axes, spread: Spread, height: float, colour: str, scale: float) -> None:
    values = [scale * value for value in spread.known]
    axis.scatter(values, [height] * len(values), s=16, color=colour, alpha=0.75, linewidths=0, zorder=2)
    if spread.mean is not None:
        axis.plot([scale * spread.mean] * 2, [height - 0.11, height + 0.11], color=colour, lw=2.4, zorder=3)


def _gaps(axis: Axes, table: Table) -> None:
    """Bars of mean gap closure, seeds as points, 1 marked."""
    for position, row in enumerate(table.rows):
        spread: Spread = row.figures["gap_closure"]
        if spread.mean is None:
            axis.text(0.02, position, "no gap to close", va="center", color=RAW, fontsize=8)
            continue
        axis.barh(position, spread.mean, height=0.5, color=CADA, alpha=0.35, lw=0)
        _points(axis, spread, position, CADA, scale=1)
    axis.axvline(1, color=INK, lw=1, ls=(0, (4, 2)))
    axis.set_xlim(left=min(0.0, *(_least(row) for row in table.rows)))
    _titled(axis, "gap to labels closed", "1 = as good as with labels")


def _least(row: Row) -> float:
    return min(row.figures["gap_closure"].known, default=0.0)
