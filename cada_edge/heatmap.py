"""Anomaly maps as colours on one fixed scale, the same for every picture and product.

An aligned map says 0 for the mean of a normal picture and 1.0 for the maximum a normal
picture of its kind reaches. The colours run from 0 to a limit given once (2.0 unless told
otherwise) and are never stretched to one picture's own range: a quiet part looks quiet,
and two heatmaps can be compared by eye. Values outside 0..limit take the end colours;
values that are not numbers are magenta, a colour the scale does not hold.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from cada_edge.errors import ConfigError, DataError
from cada_edge.imaging import as_rgb, placement
from cada_edge.types import Float32Array, ImageSpec, Status, UInt8Array

LIMIT = 2.0
NAN_RGB = (255, 0, 255)
STATUS_RGB: dict[Status, tuple[int, int, int]] = {
    "ok": (40, 150, 70),
    "ng": (205, 45, 45),
    "undecided": (200, 130, 20),
}

_TRANSPARENT_BELOW = 0.5  # of the map: clearly normal parts show the picture itself
_LEGEND_PX = 64
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_INK = (30, 30, 30)


def colours(values: Float32Array, limit: float = LIMIT) -> UInt8Array:
    """Colours of aligned values: float32 (h, w) to uint8 (h, w, 3) RGB.

    The scale is 0 (dark blue) over `limit` / 2 (green) to `limit` (dark red); NaN and
    infinity are magenta. Raises `ConfigError` unless `limit` is a number > 0.
    """
    if not (math.isfinite(limit) and limit > 0):
        raise ConfigError(f"limit: got {limit!r}, expected a number > 0")
    finite = np.isfinite(values)
    levels = np.clip(np.where(finite, values, 0) / limit, 0, 1)
    painted = cv2.applyColorMap(np.rint(levels * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    result = np.ascontiguousarray(painted[:, :, ::-1], np.uint8)
    result[~finite] = NAN_RGB
    return result


def upsample(
    cells: Float32Array, size_hw: tuple[int, int], spec: ImageSpec, interpolation: int = cv2.INTER_LINEAR
) -> Float32Array:
    """A map brought to its picture: float32 (h, w) to float32 `size_hw`, bilinear, half-pixel centres.

    Under ``letterbox`` the padding is cut off on the way, as `cada_edge.imaging.prepare`
    put it on.
    """
    if spec.resize == "stretch":
        return np.asarray(cv2.resize(cells, size_hw[::-1], interpolation=interpolation), np.float32)
    top, left, inner_h, inner_w = placement(size_hw, spec)
    rows = _cells(size_hw[0], inner_h, top, cells.shape[0] / spec.size_hw[0])
    columns = _cells(size_hw[1], inner_w, left, cells.shape[1] / spec.size_hw[1])
    grid_x, grid_y = np.meshgrid(columns, rows)
    found = cv2.remap(cells, grid_x, grid_y, interpolation, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32)


def _cells(length: int, inner: int, offset: int, cells_per_px: float) -> Float32Array:
    """Map coordinate of each of `length` picture pixels along one axis: float32 (length,)."""
    in_input = (np.arange(length) + 0.5) * (inner / length) + offset
    return (in_input * cells_per_px - 0.5).astype(np.float32)


def overlay(
    image: UInt8Array, values: Float32Array, spec: ImageSpec, limit: float = LIMIT, strength: float = 0.65
) -> UInt8Array:
    """The picture with its aligned map laid over it.

    Args:
        image: uint8 (H, W, 3) RGB, any size, as it was before `cada_edge.imaging.prepare`.
        values: float32 (h, w), aligned map.
        spec: how the picture became the input: where on the picture each cell lies.
        limit: value shown in the last colour of the scale.
        strength: opacity of the colours at values of 1 and more, in 0..1; it fades to
            nothing from 1 down to 0.5, so that normal parts stay visible.

    Returns:
        uint8 (H, W, 3) RGB.
    """
    if not 0 <= strength <= 1:
        raise ConfigError(f"strength: got {strength!r}, expected a number in 0..1")
    picture = as_rgb(image)
    full, unknown = _spread(values, (picture.shape[0], picture.shape[1]), spec)
    ramp = np.clip((full - _TRANSPARENT_BELOW) / (1 - _TRANSPARENT_BELOW), 0, 1)
    alpha = np.where(unknown, 1.0, ramp * strength).astype(np.float32)[:, :, None]
    colour = colours(np.where(unknown, np.nan, full).astype(np.float32), limit)
    mixed = picture * (1 - alpha) + colour * alpha
    return np.rint(mixed).astype(np.uint8)


def legend(height: int, limit: float = LIMIT) -> UInt8Array:
    """The scale as a vertical strip, uint8 (height, 64, 3): `limit` on top, 0 below.

    Ticks at 0, 1 (the normal maximum) and `limit`. `height` in pixels, at least 64.
    """
    if height < 64:
        raise ConfigError(f"height: got {height!r}, expected at least 64 px")
    strip = np.full((height, _LEGEND_PX, 3), 255, np.uint8)
    top, bottom = 12, height - 12
    ramp = np.linspace(limit, 0, bottom - top, dtype=np.float32)
    strip[top:bottom, 6:22] = colours(np.repeat(ramp[:, None], 16, axis=1), limit)
    for value in sorted({0.0, min(1.0, limit), limit}):
        row = round(bottom - 1 - (bottom - top - 1) * value / limit)
        strip[row, 22:27] = _INK
        _write(strip, f"{value:g}", (30, row + 4), 0.4, _INK)
    return strip


def panel(
    image: UInt8Array,
    values: Float32Array,
    score: float | None,
    threshold: float | None,
    status: Status,
    *,
    spec: ImageSpec,
    limit: float = LIMIT,
    side_px: int = 320,
) -> UInt8Array:
    """Picture, heatmap and scale side by side under a line that says the verdict.

    Args:
        image: uint8 (H, W, 3) RGB; scaled so that its longer side is `side_px`.
        values: float32 (h, w), aligned map.
        score: aligned score, or None.
        threshold: what it was compared with, or None.
        status: the verdict; also the colour of the title bar.
        spec: how the picture became the model's input.
        limit: value shown in the last colour of the scale.
        side_px: longer side of each picture, at least 128.

    Returns:
        uint8 RGB.
    """
    if side_px < 128:
        raise ConfigError(f"side_px: got {side_px!r}, expected at least 128")
    picture = _shrink(as_rgb(image), side_px)
    height = max(picture.shape[0], 128)
    columns = [
        _centred(picture, height),
        _centred(overlay(picture, values, spec, limit), height),
        legend(height, limit),
    ]
    body = np.hstack(columns)
    bar = np.full((32, body.shape[1], 3), STATUS_RGB[status], np.uint8)
    words = f"{status.upper()}  score {_number(score)}  threshold {_number(threshold)}"
    (width, _), _ = cv2.getTextSize(words, _FONT, 0.5, 1)
    _write(bar, words, (10, 21), min(0.5, 0.5 * (bar.shape[1] - 20) / width), (255, 255, 255))
    return np.vstack([bar, body])


def _spread(
    values: Float32Array, size_hw: tuple[int, int], spec: ImageSpec
) -> tuple[Float32Array, npt.NDArray[np.bool_]]:
    """The map at picture size, float32 `size_hw`, and where it is not a number.

    A cell that is not a number marks the whole area it stands for and no more: it is
    taken out before interpolating.
    """
    if values.ndim != 2 or 0 in values.shape:
        raise DataError(f"anomaly map has shape {values.shape}, expected (h, w) with no empty side")
    bad = ~np.isfinite(values)
    full = upsample(np.where(bad, 0, values).astype(np.float32), size_hw, spec)
    unknown = upsample(bad.astype(np.float32), size_hw, spec, cv2.INTER_NEAREST)
    return full, np.asarray(unknown, np.bool_)


def _shrink(image: UInt8Array, side_px: int) -> UInt8Array:
    scale = side_px / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    rule = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=rule), np.uint8)


def _centred(image: UInt8Array, height: int) -> UInt8Array:
    """`image` in the middle of a white column, with a gap on its right."""
    spare = height - image.shape[0]
    margins = ((spare // 2, spare - spare // 2), (0, 8), (0, 0))
    return np.pad(image, margins, constant_values=255)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _write(canvas: UInt8Array, words: str, at: tuple[int, int], scale: float, ink: tuple[int, int, int]) -> None:
    cv2.putText(canvas, words, at, _FONT, scale, ink, 1, cv2.LINE_AA)
