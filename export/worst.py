"""The images on which two precisions differ most: one PNG, a row each."""

from __future__ import annotations

import cv2
import numpy as np

from cada_edge.export.gate_report import GateReport, Shown
from cada_edge.heatmap import legend, overlay
from cada_edge.types import ImageSpec, UInt8Array

_SIDE_PX, _BAR_PX = 256, 28
_INK, _ALARM = (30, 30, 30), (190, 30, 30)


def worst_sheet(report: GateReport, spec: ImageSpec) -> UInt8Array:
    """Picture, float32 map and the other map side by side, the worst image on top; uint8 (H, W, 3) RGB.

    Raises `DataError` when an image can no longer be read.
    """
    return np.vstack([_row(shown, report, spec) for shown in report.worst])


def triple(shown: Shown, spec: ImageSpec) -> tuple[UInt8Array, UInt8Array, UInt8Array]:
    """The picture, and the float32 map and the other one over it; uint8 (H, W, 3), 256 px on the longer side."""
    image = shown.case.picture(spec)
    before, after = (overlay(image, cells, spec) for cells in (shown.before, shown.after))
    return _fitted(image), _fitted(before), _fitted(after)


def _row(shown: Shown, report: GateReport, spec: ImageSpec) -> UInt8Array:
    parts = triple(shown, spec)
    body = np.hstack([*parts, legend(parts[0].shape[0])])
    bar = np.full((_BAR_PX, body.shape[1], 3), 255, np.uint8)
    words = (
        f"{shown.case.name}: fp32 {shown.scores[0]:.3f}, {report.precision} {shown.scores[1]:.3f}, "
        f"threshold {report.threshold:.3f}{', VERDICT FLIPS' if shown.flipped else ''}"
    )
    ink = _ALARM if shown.flipped else _INK
    cv2.putText(bar, words, (6, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.45, ink, 1, cv2.LINE_AA)
    return np.vstack([bar, body])


def _fitted(image: UInt8Array) -> UInt8Array:
    scale = _SIDE_PX / max(image.shape[:2])
    size = (round(image.shape[1] * scale), max(64, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)
