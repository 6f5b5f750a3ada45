"""Brushes for the synthetic line: soft shapes, textures, light, lens.

Lengths and positions are fractions of the picture's side, x to the right, y down, so that
a drawing looks alike at every size. A canvas is float32 (S, S, 3) RGB, about 0..1; a cover
is uint8 (S, S), 0..255, how much of each pixel a shape covers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from cada_edge.types import Float32Array, UInt8Array

Colour = tuple[float, float, float]
Points = npt.NDArray[np.float64]
Point = Sequence[float] | Points

_SHIFT = 4  # fractional bits of cv2's fixed-point coordinates


@dataclass(frozen=True)
class Flaw:
    """What goes wrong with a part: nothing (``kind`` empty) or one kind of defect.

    The flaw draws its own random numbers: the same part can be painted with and without
    it, and the difference of the two is the exact mask.
    """

    kind: str = ""
    seed: tuple[int, ...] = field(default=(0,))

    def rng(self) -> np.random.Generator:
        """A fresh generator; every call starts the same sequence."""
        return np.random.default_rng(self.seed)


def blank(size: int) -> UInt8Array:
    """A cover that covers nothing, uint8 (size, size)."""
    return np.zeros((size, size), np.uint8)


def flat(size: int, colour: Colour) -> Float32Array:
    """A canvas of one colour."""
    return np.full((size, size, 3), colour, np.float32)


def polygon(cover: UInt8Array, points: Points) -> UInt8Array:
    """Add a filled polygon, float64 (n, 2), to `cover` in place and return it."""
    cv2.fillPoly(cover, [_fixed(points, len(cover))], 255, cv2.LINE_AA, _SHIFT)
    return cover


def disc(cover: UInt8Array, centre: Point, radius: float, value: int = 255) -> UInt8Array:
    """Add a disc (or take it away with `value` 0) in place and return the cover."""
    return polygon_value(cover, circle(centre, radius), value)


def polygon_value(cover: UInt8Array, points: Points, value: int) -> UInt8Array:
    """Fill a polygon with any cover value, in place."""
    cv2.fillPoly(cover, [_fixed(points, len(cover))], value, cv2.LINE_AA, _SHIFT)
    return cover


def stroke(cover: UInt8Array, points: Points, width: float) -> UInt8Array:
    """Add an open line, float64 (n, 2), of `width` (at least one pixel) in place."""
    thickness = max(1, round(width * len(cover)))
    cv2.polylines(cover, [_fixed(points, len(cover))], False, 255, thickness, cv2.LINE_AA, _SHIFT)
    return cover


def text(cover: UInt8Array, words: str, centre: Point, height: float, angle: float = 0.0) -> UInt8Array:
    """Add one line of text, centred, `height` of its capitals, turned by `angle` radians."""
    size = len(cover)
    scale, face = height * size / 21, cv2.FONT_HERSHEY_SIMPLEX
    weight = max(1, round(height * size / 8))
    (width_px, height_px), _ = cv2.getTextSize(words, face, scale, weight)
    flat_text = blank(size)
    origin = (round((size - width_px) / 2), round((size + height_px) / 2))
    cv2.putText(flat_text, words, origin, face, scale, 255, weight, cv2.LINE_AA)
    turn = np.asarray(cv2.getRotationMatrix2D((size / 2, size / 2), -np.degrees(angle), 1.0), np.float64)
    turn[:, 2] += (np.asarray(centre, np.float64) - 0.5) * size
    turned = cv2.warpAffine(flat_text, turn, (size, size), flags=cv2.INTER_LINEAR)
    return np.maximum(cover, np.asarray(turned, np.uint8), out=cover)


def blend(canvas: Float32Array, paint: Float32Array | Colour, cover: UInt8Array, strength: float = 1.0) -> Float32Array:
    """`canvas` with `paint` (a colour or a canvas) laid over it where `cover` says."""
    left, top, width, height = cv2.boundingRect(cover)
    window = np.s_[top : top + height, left : left + width]
    alpha = (cover[window].astype(np.float32) * np.float32(strength / 255))[:, :, None]
    layer = np.asarray(paint[window] if isinstance(paint, np.ndarray) else paint, np.float32)
    result = np.array(canvas, np.float32)
    result[window] += (layer - canvas[window]) * alpha
    return result


def tint(canvas: Float32Array, factor: Float32Array) -> Float32Array:
    """`canvas` multiplied by a grey field, float32 (S, S)."""
    return np.asarray(canvas * factor[:, :, None], np.float32)


def glow(canvas: Float32Array, field_: Float32Array) -> Float32Array:
    """`canvas` plus a grey field, float32 (S, S)."""
    return np.asarray(canvas + field_[:, :, None], np.float32)


def noise(rng: np.random.Generator, size: int, grain: float) -> Float32Array:
    """Smooth noise, float32 (size, size), mean 0, standard deviation 1, `grain` a length."""
    cells = int(np.clip(round(1.5 / max(grain, 1e-6)), 2, size))
    coarse = rng.standard_normal((cells + 2, cells + 2), np.float32)
    field_ = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray((field_ - field_.mean()) / max(float(field_.std()), 1e-6), np.float32)


def soften(cover: UInt8Array, radius: float) -> UInt8Array:
    """Gaussian blur of a cover; `radius` is the standard deviation."""
    return np.asarray(cv2.GaussianBlur(cover, (0, 0), max(radius * len(cover), 0.3)), np.uint8)


def relief(cover: UInt8Array, light: float, width: float) -> Float32Array:
    """Light on the rim of a raised shape, float32 (S, S), about -1..1.

    Positive where the rim faces `light` (radians), negative where it turns away.
    """
    sigma = max(width * len(cover), 0.5)
    height = cv2.GaussianBlur(cover, (0, 0), sigma).astype(np.float32) / 255
    slope_x, slope_y = cv2.Sobel(height, cv2.CV_32F, 1, 0), cv2.Sobel(height, cv2.CV_32F, 0, 1)
    return np.asarray(-(slope_x * np.cos(light) + slope_y * np.sin(light)) * sigma / 2.5, np.float32)


def cast_shadow(canvas: Float32Array, cover: UInt8Array, light: float, reach: float, depth: float) -> Float32Array:
    """Darken `canvas` where a shape standing on it keeps the light away."""
    size = len(cover)
    shift = np.array([[1, 0, -np.cos(light) * reach * size], [0, 1, -np.sin(light) * reach * size]], np.float32)
    moved = np.asarray(cv2.warpAffine(cover, shift, (size, size)), np.uint8)
    return blend(canvas, canvas * np.float32(1 - depth), soften(moved, reach * 0.8))


def circle(centre: Point, radius: float, count: int = 96) -> Points:
    """Points of a circle, float64 (count, 2)."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], axis=1)


def box(centre: Point, width: float, height: float, angle: float = 0.0) -> Points:
    """Corners of a rectangle turned by `angle` radians, float64 (4, 2)."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (width / 2, height / 2)
    return np.asarray(turned(corners, angle) + np.asarray(centre))


def stadium(centre: Point, length: float, width: float, angle: float = 0.0) -> Points:
    """Outline of a rod with round ends, float64 (n, 2)."""
    radius, half = width / 2, (length - width) / 2
    outline = circle((0, 0), radius, 48)
    outline[:, 0] += np.where(outline[:, 0] >= 0, half, -half)
    return np.asarray(turned(outline, angle) + np.asarray(centre))


def turned(points: Points, angle: float) -> Points:
    """`points` rotated about the origin."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]))


@lru_cache(maxsize=8)
def grid(size: int) -> tuple[Float32Array, Float32Array]:
    """Pixel centres as x and y, each float32 (size, size), 0..1. Read only."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = (np.ascontiguousarray(plane, np.float32) for plane in np.meshgrid(axis, axis))
    x.setflags(write=False)
    y.setflags(write=False)
    return x, y


def polar(size: int, centre: Point) -> tuple[Float32Array, Float32Array]:
    """Distance and angle of every pixel from `centre`, each float32 (size, size)."""
    x, y = grid(size)
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    return np.asarray(np.hypot(dx, dy), np.float32), np.asarray(np.arctan2(dy, dx), np.float32)


def moved(canvas: Float32Array, rng: np.random.Generator, shift: float, degrees: float) -> Float32Array:
    """The whole scene laid a little askew: up to `shift` and `degrees` either way."""
    size = len(canvas)
    angle, dx, dy = rng.uniform(-1, 1, 3) * (degrees, shift * size, shift * size)
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), angle, 1.0)
    matrix[:, 2] += (dx, dy)
    warped = cv2.warpAffine(canvas, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(warped, np.float32)


def light(canvas: Float32Array, rng: np.random.Generator, unevenness: float) -> Float32Array:
    """Lamp and lens: exposure, a gradient, darker corners and a slight blur."""
    x, y = grid(len(canvas))
    angle, slope, gain = rng.uniform(0, 2 * np.pi), rng.uniform(0, unevenness), 1 + rng.uniform(-0.5, 0.5) * unevenness
    ramp = (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)
    corners = 1 - 0.12 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
    lit = tint(canvas, (gain * (1 + slope * ramp) * corners).astype(np.float32))
    return np.asarray(cv2.GaussianBlur(lit, (0, 0), max(0.5, 0.0022 * len(canvas))), np.float32)


def expose(canvas: Float32Array, rng: np.random.Generator, sigma: float = 0.006) -> UInt8Array:
    """Sensor: shot noise of about `sigma` at mid grey, then uint8 (S, S, 3)."""
    clean = np.clip(canvas, 0, 1)
    noisy = rng.standard_normal(canvas.shape, np.float32)
    noisy *= np.sqrt(0.2 + 1.6 * clean)
    noisy *= np.float32(255 * sigma)
    noisy += clean * np.float32(255)
    return np.asarray(np.clip(np.rint(noisy), 0, 255), np.uint8)


def _fixed(points: Points, size: int) -> npt.NDArray[np.int32]:
    return np.rint((points * size - 0.5) * (1 << _SHIFT)).astype(np.int32)
