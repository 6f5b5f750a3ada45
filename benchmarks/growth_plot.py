"""The plots of `growth.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_TITLES = {
    "size": ("input side, px", "one call of the model"),
    "batch": ("pictures in a call", "one call of the model"),
    "cameras": ("cameras, one by one", "camera to signal"),
    "products": ("products in one model", "one call of the model"),
    "archive": ("pictures in the archive", "one more picture"),
    "training": ("training images", "training"),
}
_KEYS = {"archive": "archived", "training": "images"}


def plot(found: Mapping[str, Any], path: Path) -> None:
    """One panel for each part: time on the left, memory on the right where there is one."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    for place, (part, (across, title)) in enumerate(_TITLES.items(), 1):
        if part in found:
            axes = figure.add_subplot(2, 3, place)
            _panel(axes, part, [row for row in found[part]["rows"] if "left_out" not in row])
            axes.set(title=title, xlabel=across)
    figure.savefig(path, dpi=75)


def _panel(axes: Axes, part: str, rows: Sequence[Mapping[str, Any]]) -> None:
    values = [row[_KEYS.get(part, part)] for row in rows]
    if part == "archive":
        axes.plot(values, [row["send_p50_ms"] for row in rows], "o-", label="p50, ms")
    elif part == "training":
        axes.plot(values, [row["seconds"] for row in rows], "o-", label="seconds")
    else:
        stage = "total" if part == "cameras" else "infer"
        axes.plot(values, [row[stage]["p50_ms"] for row in rows], "o-", label="p50, ms")
        if all(row[stage]["p99_ms"] is not None for row in rows):
            axes.plot(values, [row[stage]["p99_ms"] for row in rows], "s--", label="p99, ms")
    if part in {"products", "archive", "training"}:
        axes.set_xscale("log")
    _room(axes)
    if "peak_mb" in rows[0]:
        memory = axes.twinx()
        memory.plot(values, [row["peak_mb"] for row in rows], "^:", color="grey", label="peak, MB")
        _room(memory)
        memory.legend(loc="upper right", fontsize="small")
    axes.legend(loc="upper left", fontsize="small")


def _room(axes: Axes) -> None:
    """From zero, with room for the legends above and below the lines."""
    axes.set_ylim(0, 1.5 * axes.dataLim.y1)
