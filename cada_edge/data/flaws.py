"""Damage that can befall any surface: scratch, stain, dent, crack, chip of dirt, hair."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import numpy as np

from cada_edge.data import paint
from cada_edge.data.paint import Flaw, Points
from cada_edge.types import Float32Array, UInt8Array

Surface = Callable[[Float32Array, np.random.Generator, tuple[float, float]], Float32Array]


def mar(canvas: Float32Array, flaw: Flaw, region: UInt8Array) -> Float32Array:
    """`canvas` with the flaw painted somewhere in `region`, or as it is for other kinds.

    Args:
        canvas: float32 (S, S, 3).
        flaw: kinds not listed in `SURFACE` are the product's own business.
        region: uint8 (S, S), the part's surface; nothing is painted outside.
    """
    damage = SURFACE.get(flaw.kind)
    if damage is None:
        return canvas
    rng = flaw.rng()
    return paint.blend(canvas, damage(canvas, rng, somewhere(rng, region)), region)


def somewhere(rng: np.random.Generator, region: UInt8Array) -> tuple[float, float]:
    """A point well inside `region` and not at the picture's border, as fractions (x, y)."""
    size = len(region)
    margin = size // 12
    framed = paint.blank(size)
    framed[margin:-margin, margin:-margin] = region[margin:-margin, margin:-margin]
    inner = paint.soften(framed, 0.02) > 240
    rows, columns = np.nonzero(inner if inner.any() else framed)
    pick = int(rng.integers(len(rows)))
    return (float(columns[pick]) + 0.5) / size, (float(rows[pick]) + 0.5) / size


def blob(rng: np.random.Generator, centre: tuple[float, float], radius: float, rough: float = 0.3) -> Points:
    """Outline of an irregular spot, float64 (72, 2)."""
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    wave = sum(rng.normal(0, rough / k) * np.cos(k * angles + rng.uniform(0, 6.3)) for k in range(2, 7))
    radii = radius * np.clip(1 + wave, 0.4, 1.8)
    stretch, turn = rng.uniform(0.6, 1.0), rng.uniform(0, np.pi)
    points = np.stack([radii * np.cos(angles), radii * np.sin(angles) * stretch], axis=1)
    return np.asarray(paint.turned(points, turn) + np.asarray(centre))


def wander(
    rng: np.random.Generator, start: tuple[float, float], length: float, wobble: float, steps: int = 24
) -> Points:
    """A line with `start` in its middle; `wobble` (radians per step) bends it. float64 (steps, 2)."""
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, wobble, steps))
    hops = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length / steps)
    points = np.cumsum(hops, axis=0)
    return np.asarray(points - points[steps // 2] + np.asarray(start))


def _scratch(canvas: Float32Array, rng: np.random.Generator, at: tuple[float, float]) -> Float32Array:
    size = len(canvas)
    path = wander(rng, at, rng.uniform(0.1, 0.35), 0.03)
    groove = paint.soften(paint.stroke(paint.blank(size), path, rng.uniform(0.006, 0.012)), 0.001)
    shade = rng.uniform(0.12, 0.28) * (1 if rng.random() < 0.5 else -1)
    edge = paint.relief(groove, rng.uniform(0, 6.3), 0.003)
    return paint.glow(canvas, (groove.astype(np.float32) / 255 * shade + edge * 0.15).astype(np.float32))


def _stain(canvas: Float32Array, rng: np.random.Generator, at: tuple[float, float]) -> Float32Array:
    size = len(canvas)
    spot = paint.soften(paint.polygon(paint.blank(size), blob(rng, at, rng.uniform(0.03, 0.09))), 0.006)
    mottle = np.clip(0.75 + 0.2 * paint.noise(rng, size, 0.03), 0.2, 1).astype(np.float32)
    colour = canvas * np.asarray(rng.uniform((0.5, 0.4, 0.25), (0.75, 0.6, 0.45)), np.float32)
    return paint.blend(canvas, colour, (spot * mottle).astype(np.uint8))


def _dirt(canvas: Float32Array, rng: np.random.Generator, at: tuple[float, float]) -> Float32Array:
    size = len(canvas)
    cover, shadow = paint.blank(size), rng.uniform(0, 6.3)
    for _ in range(int(rng.integers(1, 5))):
        offset = rng.normal(0, 0.025, 2)
        paint.polygon(cover, blob(rng, (at[0] + offset[0], at[1] + offset[1]), rng.uniform(0.008, 0.024), 0.5))
    tone = float(rng.uniform(0.08, 0.25))
    grey = (tone, tone * 0.9, tone * 0.8) if canvas.mean() > 0.3 else (0.62 + tone, 0.6 + tone, 0.55 + tone)
    base = paint.cast_shadow(canvas, cover, shadow, 0.008, 0.4)
    return paint.glow(paint.blend(base, grey, cover), paint.relief(cover, shadow, 0.004) * 0.3)


def _dent(canvas: Float32Array, rng: np.random.Generator, at: tuple[float, float]) -> Float32Array:
    size = len(canvas)
    radius = rng.uniform(0.025, 0.06)
    hollow = paint.soften(paint.polygon(paint.blank(size), blob(rng, at, radius, 0.15)), radius * 0.25)
    slope = paint.relief(hollow, rng.uniform(0, 6.3), radius * 0.25)
    depth = np.float32(rng.uniform(0.25, 0.5))
    return paint.glow(canvas, -depth * slope - 0.04 * hollow.astype(np.float32) / 255)


def _crack(canvas: Float32Array, rng: np.random.Generator, at: tuple[float, float]) -> Float32Array:
    size = len(canvas)
    path = wander(rng, at, rng.uniform(0.12, 0.3), 0.45)
    cover = paint.stroke(paint.blank(size), path, 0.006)
    fork = wander(rng, (path[6][0], path[6][1]), rng.uniform(0.05, 0.1), 0.4)
    cover = paint.stroke(cover, fork, 0.004)
    dark = paint.blend(canvas, canvas * np.float32(0.25), cover)
    return paint.glow(dark, paint.relief(cover, 0.8, 0.004) * 0.25)


def _hair(canvas: Float32Array, rng: np.random.Generator, at: tuple[float, float]) -> Float32Array:
    path = wander(rng, at, rng.uniform(0.2, 0.4), 0.22, steps=48)
    cover = paint.stroke(paint.blank(len(canvas)), path, 0.006)
    dark = canvas.mean() > 0.4
    colour = (0.12, 0.1, 0.1) if dark else (0.85, 0.83, 0.78)
    return paint.blend(paint.cast_shadow(canvas, cover, 0.8, 0.006, 0.3), colour, cover, 0.85)


SURFACE: MappingProxyType[str, Surface] = MappingProxyType(
    {"scratch": _scratch, "stain": _stain, "dirt": _dirt, "dent": _dent, "crack": _crack, "hair": _hair}
)
