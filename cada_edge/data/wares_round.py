"""Round wares of the synthetic line: a machined gear, a printed cap, a glass mouth."""

from __future__ import annotations

import numpy as np

from cada_edge.data import flaws, paint
from cada_edge.data.paint import Flaw, Points
from cada_edge.types import Float32Array, UInt8Array

_TEETH = 20


def gear(rng: np.random.Generator, flaw: Flaw, size: int) -> Float32Array:
    """A turned steel gear at any angle on a dark belt. Own flaw: ``missing_tooth``."""
    lamp, angle = 0.8 + rng.uniform(-0.15, 0.15), rng.uniform(0, 2 * np.pi)
    centre = 0.5 + rng.uniform(-0.02, 0.02, 2)
    body = _gear_cover(size, centre, angle, flaw)
    canvas = paint.glow(paint.flat(size, (0.13, 0.14, 0.16)), 0.012 * paint.noise(rng, size, 0.006))
    canvas = paint.cast_shadow(canvas, body, lamp, 0.015, 0.65)
    canvas = paint.blend(canvas, _turned_steel(rng, size, centre, lamp), body)
    canvas = paint.glow(canvas, 0.35 * paint.relief(body, lamp, 0.004))
    groove = _ring(size, centre, 0.235, 0.215)
    canvas = paint.glow(canvas, -0.25 * paint.relief(groove, lamp, 0.003))
    return flaws.mar(canvas, flaw, body)


def _gear_cover(size: int, centre: Points, angle: float, flaw: Flaw) -> UInt8Array:
    cover = paint.polygon(paint.blank(size), _gear_outline(centre, angle, flaw))
    paint.disc(cover, centre, 0.085, 0)
    paint.polygon_value(cover, paint.box(_at(centre, 0.085, angle), 0.05, 0.045, angle), 0)
    for hole in range(6):
        paint.disc(cover, _at(centre, 0.16, angle + hole * np.pi / 3), 0.026, 0)
    return cover


def _gear_outline(centre: Points, angle: float, flaw: Flaw) -> Points:
    tips = np.full(_TEETH, 0.42)
    if flaw.kind == "missing_tooth":
        rng = flaw.rng()
        tips[rng.integers(_TEETH)] = rng.uniform(0.355, 0.39)
    pitch = 2 * np.pi / _TEETH
    angles = angle + pitch * (np.arange(_TEETH)[:, None] + np.array([-0.34, -0.16, 0.16, 0.34]))
    radii = np.stack([np.full(_TEETH, 0.35), tips, tips, np.full(_TEETH, 0.35)], axis=1)
    return np.stack([centre[0] + radii * np.cos(angles), centre[1] + radii * np.sin(angles)], axis=2).reshape(-1, 2)


def _turned_steel(rng: np.random.Generator, size: int, centre: Points, lamp: float) -> Float32Array:
    """Concentric tool marks under one lamp: the highlight stands across them."""
    radius, theta = paint.polar(size, centre)
    marks = rng.normal(0, 1, 160)
    rings = np.interp(radius, np.linspace(0, 0.75, 160), marks).astype(np.float32)
    shine = np.abs(np.cos(theta - np.float32(lamp))) ** 6
    grey = 0.44 + 0.2 * shine + (0.018 + 0.03 * shine) * rings + 0.008 * paint.noise(rng, size, 0.004)
    return paint.tint(paint.flat(size, (0.98, 1.0, 1.03)), grey.astype(np.float32))


def cap(rng: np.random.Generator, flaw: Flaw, size: int) -> Float32Array:
    """A knurled plastic cap with print, at any angle. Own flaws: ``misprint``, ``wrong_colour``."""
    lamp, angle = 0.6 + rng.uniform(-0.3, 0.3), rng.uniform(0, 2 * np.pi)
    centre = 0.5 + rng.uniform(-0.02, 0.02, 2)
    body = paint.disc(paint.blank(size), centre, 0.4)
    canvas = paint.glow(paint.flat(size, (0.30, 0.34, 0.38)), 0.01 * paint.noise(rng, size, 0.01))
    canvas = paint.cast_shadow(canvas, body, lamp, 0.025, 0.5)
    canvas = paint.blend(canvas, _plastic(rng, size, centre, angle, lamp), body)
    ink = (0.10, 0.22, 0.52)
    if flaw.kind == "wrong_colour":
        ink = ((0.62, 0.12, 0.12), (0.08, 0.42, 0.18), (0.3, 0.3, 0.3))[int(flaw.rng().integers(3))]
    canvas = paint.blend(canvas, ink, _print(size, centre, angle, flaw), 0.9)
    canvas = paint.glow(canvas, 0.25 * paint.relief(_ring(size, centre, 0.345, 0.33), lamp, 0.004))
    return flaws.mar(canvas, flaw, paint.disc(paint.blank(size), centre, 0.33))


def _plastic(rng: np.random.Generator, size: int, centre: Points, angle: float, lamp: float) -> Float32Array:
    radius, theta = paint.polar(size, centre)
    knurl = np.cos(60 * (theta - np.float32(angle))) * (radius > 0.35)
    sheen = np.exp(-((radius - 0.3) ** 2) / 0.02) * np.cos(theta - np.float32(lamp))
    base = paint.flat(size, (0.88, 0.84, 0.72)) * np.float32(rng.uniform(0.95, 1.03))
    grey = 0.9 + 0.09 * knurl + 0.05 * sheen - 0.15 * (radius > 0.35)
    return paint.tint(base, grey.astype(np.float32))


def _print(size: int, centre: Points, angle: float, flaw: Flaw) -> UInt8Array:
    across = np.array([-np.sin(angle), np.cos(angle)])
    cover = paint.text(paint.blank(size), "VESTA", centre - across * 0.09, 0.1, angle)
    cover = paint.text(cover, "500 ml", centre + across * 0.1, 0.065, angle)
    cover = paint.stroke(cover, paint.box(centre, 0.44, 0.001, angle)[:2] + across * 0.005, 0.012)
    cover = np.maximum(cover, _ring(size, centre, 0.31, 0.298))
    if flaw.kind == "misprint":
        rng = flaw.rng()
        spot = flaws.somewhere(rng, cover)
        gap = paint.polygon(paint.blank(size), flaws.blob(rng, spot, rng.uniform(0.05, 0.1), 0.4))
        cover = np.where(gap > 127, 0, cover).astype(np.uint8)
    return cover


def glass(rng: np.random.Generator, flaw: Flaw, size: int) -> Float32Array:
    """The mouth of a bottle in dark field: smooth rings of light. Own flaw: ``chip``."""
    centre = 0.5 + rng.uniform(-0.012, 0.012, 2)
    radius, theta = paint.polar(size, centre)
    if flaw.kind == "chip":
        radius = _chipped(radius, theta, flaw)
    value = 0.03 + 0.05 * np.exp(-((radius / 0.2) ** 2))
    for at, width, peak in ((0.205, 0.012, 0.55), (0.27, 0.028, 0.4), (0.335, 0.016, 0.85), (0.4, 0.03, 0.3)):
        swing = 1 + 0.22 * np.cos(theta - rng.uniform(0, 2 * np.pi)) + 0.1 * np.cos(2 * theta + rng.uniform(0, 6.3))
        value = value + peak * swing * np.exp(-(((radius - at) / width) ** 2))
    hue = np.asarray((0.72, 1.0, 0.85)) * rng.uniform(0.92, 1.06)
    canvas = (value[:, :, None] * hue + 0.12 * np.clip(value - 0.6, 0, 1)[:, :, None]).astype(np.float32)
    return flaws.mar(canvas, flaw, _ring(size, centre, 0.42, 0.2))


def _chipped(radius: Float32Array, theta: Float32Array, flaw: Flaw) -> Float32Array:
    """Bend the rim inwards over a short arc, with a ragged edge."""
    rng = flaw.rng()
    at, half = rng.uniform(-np.pi, np.pi), rng.uniform(0.12, 0.3)
    off = (np.angle(np.exp(1j * (theta - at))) / half).astype(np.float32)
    ragged = 1 + 0.25 * np.sin(4 * off + rng.uniform(0, 6.3)) + 0.08 * np.sin(11 * off)
    bite = rng.uniform(0.02, 0.045) * np.clip(1 - off**2, 0, None) * ragged
    outer = np.clip((radius - 0.27) / 0.04, 0, 1)
    return np.asarray(radius + bite * outer, np.float32)


def _ring(size: int, centre: Points, outer: float, inner: float) -> UInt8Array:
    return paint.disc(paint.disc(paint.blank(size), centre, outer), centre, inner, 0)


def _at(centre: Points, radius: float, angle: float) -> Points:
    return np.asarray(centre + radius * np.array([np.cos(angle), np.sin(angle)]))
