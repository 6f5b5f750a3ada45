"""Flat wares of the synthetic line: a circuit board, a woven fabric, a tray of capsules."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cada_edge.data import flaws, paint
from cada_edge.data.paint import Flaw, Points
from cada_edge.types import Float32Array, UInt8Array

# The board's layout: what stands where, as fractions of the side.
_TRACES: tuple[tuple[tuple[float, float], ...], ...] = (
    ((0.08, 0.12), (0.3, 0.12), (0.38, 0.2), (0.38, 0.34)),
    ((0.08, 0.2), (0.24, 0.2), (0.34, 0.3), (0.34, 0.36)),
    ((0.08, 0.28), (0.2, 0.28), (0.3, 0.38)),
    ((0.08, 0.5), (0.29, 0.5)),
    ((0.08, 0.6), (0.2, 0.6), (0.29, 0.55)),
    ((0.62, 0.42), (0.72, 0.42), (0.8, 0.34), (0.8, 0.12)),
    ((0.62, 0.5), (0.76, 0.5), (0.9, 0.36), (0.9, 0.12)),
    ((0.62, 0.58), (0.92, 0.58)),
    ((0.4, 0.64), (0.4, 0.74), (0.3, 0.84), (0.1, 0.84)),
    ((0.5, 0.64), (0.5, 0.86), (0.56, 0.92), (0.9, 0.92)),
    ((0.55, 0.64), (0.55, 0.72), (0.64, 0.8), (0.9, 0.8)),
)
_PARTS = ((0.2, 0.72), (0.7, 0.68), (0.84, 0.68), (0.6, 0.2), (0.6, 0.28), (0.7, 0.2), (0.2, 0.4))
_PINS = 6
_CHIP = (0.455, 0.5)


def board(rng: np.random.Generator, flaw: Flaw, size: int) -> Float32Array:
    """A populated circuit board. Own flaws: ``missing_part``, ``open_trace``, ``bridge``."""
    lamp = rng.uniform(0.5, 1.1)
    green = np.asarray((0.05, 0.3, 0.16)) * rng.uniform(0.92, 1.08)
    canvas = paint.glow(np.broadcast_to(green, (size, size, 3)).astype(np.float32), 0.008 * paint.noise(rng, size, 0.3))
    traces = _traces(size, flaw)
    canvas = paint.blend(canvas, (0.12, 0.46, 0.24), traces, 0.9)
    canvas = paint.glow(canvas, 0.12 * paint.relief(traces, lamp, 0.003))
    canvas = _holes(canvas)
    canvas = paint.blend(canvas, (0.82, 0.84, 0.8), _silkscreen(size), 0.8)
    canvas = _chip(canvas, rng, lamp, flaw)
    canvas = _passives(canvas, rng, lamp, flaw)
    canvas = flaws.mar(canvas, flaw, np.full((size, size), 255, np.uint8))
    return paint.moved(canvas, rng, 0.008, 1.2)


def _traces(size: int, flaw: Flaw) -> UInt8Array:
    cover = paint.blank(size)
    for trace in _TRACES:
        paint.stroke(cover, np.asarray(trace), 0.014)
    if flaw.kind == "open_trace":
        rng = flaw.rng()
        path = np.asarray(_TRACES[int(rng.integers(len(_TRACES)))])
        leg = int(rng.integers(len(path) - 1))
        spot = path[leg] + (path[leg + 1] - path[leg]) * rng.uniform(0.3, 0.7)
        paint.polygon_value(cover, flaws.blob(rng, (spot[0], spot[1]), rng.uniform(0.015, 0.025)), 0)
    return cover


def _holes(canvas: Float32Array) -> Float32Array:
    rings, holes = paint.blank(len(canvas)), paint.blank(len(canvas))
    ends = [path[end] for path in _TRACES for end in (0, -1) if not 0.28 < path[end][0] < 0.63]
    for spot in ends:
        paint.disc(rings, spot, 0.02)
        paint.disc(holes, spot, 0.009)
    return paint.blend(paint.blend(canvas, (0.78, 0.66, 0.36), rings), (0.06, 0.06, 0.05), holes)


def _silkscreen(size: int) -> UInt8Array:
    cover = paint.text(paint.blank(size), "REV C", (0.18, 0.93), 0.035)
    paint.text(cover, "U1", (0.68, 0.36), 0.035)
    for x, y in _PARTS:
        paint.stroke(cover, paint.box((x, y), 0.105, 0.06)[[0, 1]], 0.004)
        paint.stroke(cover, paint.box((x, y), 0.105, 0.06)[[2, 3]], 0.004)
    return cover


def _pins() -> Points:
    rows = np.linspace(-0.11, 0.11, _PINS)
    return np.array([(_CHIP[0] + side * 0.155, _CHIP[1] + row) for side in (-1, 1) for row in rows])


def _chip(canvas: Float32Array, rng: np.random.Generator, lamp: float, flaw: Flaw) -> Float32Array:
    size, pins = len(canvas), _pins()
    solder = paint.blank(size)
    for pin in pins:
        paint.polygon(solder, paint.box(pin, 0.05, 0.022))
    if flaw.kind == "bridge":
        draw = flaw.rng()
        first = int(draw.integers(_PINS - 1) + _PINS * draw.integers(2))
        spot = (pins[first] + pins[first + 1]) / 2
        paint.polygon(solder, paint.box(spot, draw.uniform(0.018, 0.03), 0.035, draw.uniform(-0.3, 0.3)))
    canvas = paint.blend(canvas, (0.66, 0.67, 0.68), solder)
    canvas = paint.glow(canvas, 0.3 * paint.relief(solder, lamp, 0.004))
    body = paint.polygon(paint.blank(size), paint.box(_CHIP, 0.27, 0.3))
    canvas = paint.cast_shadow(canvas, body, lamp, 0.01, 0.5)
    black = paint.glow(paint.flat(size, (0.1, 0.1, 0.11)), 0.008 * paint.noise(rng, size, 0.006))
    canvas = paint.glow(paint.blend(canvas, black, body), 0.15 * paint.relief(body, lamp, 0.004))
    marking = paint.text(paint.text(paint.blank(size), "CE-408", _CHIP, 0.035), "2412", (_CHIP[0], 0.57), 0.03)
    canvas = paint.blend(canvas, (0.5, 0.5, 0.5), marking, float(rng.uniform(0.6, 0.9)))
    return paint.blend(canvas, (0.04, 0.04, 0.04), paint.disc(paint.blank(size), (0.36, 0.39), 0.013))


def _passives(canvas: Float32Array, rng: np.random.Generator, lamp: float, flaw: Flaw) -> Float32Array:
    size = len(canvas)
    gone = int(flaw.rng().integers(len(_PARTS))) if flaw.kind == "missing_part" else -1
    pads, ends, bodies = paint.blank(size), paint.blank(size), paint.blank(size)
    for index, spot in enumerate(_PARTS):
        angle, shift = rng.normal(0, 0.03), rng.normal(0, 0.0015, 2)
        for side in (-1, 1):
            paint.polygon(pads, paint.box((spot[0] + side * 0.03, spot[1]), 0.03, 0.042))
        if index != gone:
            paint.polygon(ends, paint.box(spot + shift, 0.075, 0.034, angle))
            paint.polygon(bodies, paint.box(spot + shift, 0.046, 0.034, angle))
    canvas = paint.blend(canvas, (0.7, 0.66, 0.5), pads)
    canvas = paint.cast_shadow(canvas, ends, lamp, 0.006, 0.4)
    canvas = paint.blend(canvas, (0.75, 0.76, 0.78), ends)
    canvas = paint.blend(canvas, (0.46, 0.32, 0.2), bodies)
    return paint.glow(canvas, 0.2 * paint.relief(ends, lamp, 0.004))


def fabric(rng: np.random.Generator, flaw: Flaw, size: int) -> Float32Array:
    """Plain-woven cloth, nowhere twice the same. Own flaws: ``broken_thread``, ``hole``."""
    x, y = paint.grid(size)
    threads, slip = 34, 0.004
    u = (x + np.float32(slip) * paint.noise(rng, size, 0.25)) * threads + rng.uniform(0, 1)
    v = (y + np.float32(slip) * paint.noise(rng, size, 0.25)) * threads + rng.uniform(0, 1)
    column, row = np.floor(u).astype(int), np.floor(v).astype(int)
    over = (column + row) % 2 == 0
    shades = 1 + rng.normal(0, 0.09, (2, threads * 2))
    warp = _thread(u, v) * shades[0][column % (threads * 2)]
    weft = _thread(v, u) * shades[1][row % (threads * 2)]
    if flaw.kind == "broken_thread":
        weft = _break_thread(flaw, weft, row, x)
    warp_rgb, weft_rgb = np.asarray((0.30, 0.40, 0.58)), np.asarray((0.78, 0.74, 0.66))
    cloth = np.where(over[:, :, None], warp[:, :, None] * warp_rgb, weft[:, :, None] * weft_rgb)
    fibres = 1 + 0.05 * paint.noise(rng, size, 0.004) + 0.04 * paint.noise(rng, size, 0.2)
    canvas = paint.tint(cloth.astype(np.float32) * np.float32(rng.uniform(0.95, 1.05)), fibres)
    if flaw.kind == "hole":
        canvas = _hole(canvas, flaw)
    canvas = flaws.mar(canvas, flaw, np.full((size, size), 255, np.uint8))
    return paint.moved(canvas, rng, 0.0, 2.0)


def _thread(across: Float32Array, along: Float32Array) -> Float32Array:
    """Round thread: bright on its back, dark at its edges and where it dives."""
    profile = np.sin(np.pi * (across % 1)) ** 0.7
    dive = 0.75 + 0.25 * np.sin(np.pi * (along % 1))
    return np.asarray((0.35 + 0.65 * profile) * dive, np.float32)


def _break_thread(flaw: Flaw, weft: Float32Array, row: npt.NDArray[np.int64], x: Float32Array) -> Float32Array:
    """Take a stretch of one or two weft threads out: dark gaps between the warp threads."""
    rng = flaw.rng()
    first, count = int(rng.integers(4, 30)), int(rng.integers(1, 3))
    start = rng.uniform(0.1, 0.5)
    stop = start + rng.uniform(0.15, 0.45)
    torn = (row >= first) & (row < first + count) & (x > start) & (x < stop)
    return np.where(torn, weft * np.float32(0.4), weft).astype(np.float32)


def _hole(canvas: Float32Array, flaw: Flaw) -> Float32Array:
    rng = flaw.rng()
    size = len(canvas)
    at = flaws.somewhere(rng, np.full((size, size), 255, np.uint8))
    cover = paint.polygon(paint.blank(size), flaws.blob(rng, at, rng.uniform(0.02, 0.05), 0.45))
    canvas = paint.cast_shadow(canvas, cover, 0.8, 0.008, 0.35)
    canvas = paint.blend(canvas, (0.05, 0.05, 0.06), cover)
    for _ in range(7):
        edge = (at[0] + rng.normal(0, 0.02), at[1] + rng.normal(0, 0.02))
        loose = paint.stroke(paint.blank(size), flaws.wander(rng, edge, rng.uniform(0.02, 0.05), 0.2), 0.004)
        canvas = paint.blend(canvas, (0.66, 0.64, 0.6), loose, 0.8)
    return canvas


def capsules(rng: np.random.Generator, flaw: Flaw, size: int) -> Float32Array:
    """A tray of twelve capsules. Own flaws: ``missing``, ``wrong_colour``, ``broken``."""
    lamp = rng.uniform(0.6, 1.0)
    canvas = _tray(rng, size, lamp)
    red = tuple(float(c) for c in np.asarray((0.72, 0.16, 0.14)) * rng.uniform(0.92, 1.06))
    bodies, fronts, shine = _capsule_covers(rng, flaw, size)
    canvas = paint.cast_shadow(canvas, bodies, lamp, 0.012, 0.45)
    canvas = paint.blend(canvas, (0.9, 0.86, 0.74), bodies)
    canvas = paint.blend(canvas, (red[0], red[1], red[2]), fronts)
    if flaw.kind == "wrong_colour":
        canvas = _recolour(canvas, flaw, bodies, fronts)
    canvas = paint.glow(canvas, 0.4 * paint.relief(bodies, lamp, 0.016))
    canvas = paint.blend(canvas, (1.0, 1.0, 1.0), _overlap(paint.soften(shine, 0.004), bodies), 0.75)
    canvas = flaws.mar(canvas, flaw, bodies if flaw.kind == "crack" else np.full((size, size), 255, np.uint8))
    return paint.moved(canvas, rng, 0.008, 1.2)


def _pocket(index: int) -> Points:
    return np.array([0.2 + 0.3 * (index % 3), 0.155 + 0.23 * (index // 3)])


def _tray(rng: np.random.Generator, size: int, lamp: float) -> Float32Array:
    pockets = paint.blank(size)
    for index in range(12):
        paint.polygon(pockets, paint.stadium(_pocket(index), 0.26, 0.15))
    foil = paint.glow(paint.flat(size, (0.7, 0.72, 0.75)), 0.012 * paint.noise(rng, size, 0.12))
    foil = paint.blend(foil, foil * np.float32(0.78), paint.soften(pockets, 0.006))
    return paint.glow(foil, -0.3 * paint.relief(pockets, lamp, 0.01))


def _capsule_covers(rng: np.random.Generator, flaw: Flaw, size: int) -> tuple[UInt8Array, UInt8Array, UInt8Array]:
    """Where the capsules are, where their red halves are, and where they shine."""
    bodies, halves, shine = paint.blank(size), paint.blank(size), paint.blank(size)
    draw = flaw.rng()
    bad = int(draw.integers(12))
    for index in range(12):
        centre, angle = _pocket(index) + rng.normal(0, 0.005, 2), rng.normal(0, 0.09) + np.pi * rng.integers(2)
        if index == bad and flaw.kind == "missing":
            continue
        axis = np.array([np.cos(angle), np.sin(angle)])
        paint.polygon(bodies, paint.stadium(centre, 0.2, 0.09, angle))
        paint.polygon(halves, paint.box(centre + 0.06 * axis, 0.12, 0.12, angle))
        paint.stroke(shine, np.stack([centre - 0.055 * axis, centre + 0.055 * axis]) - 0.014, 0.01)
        if index == bad and flaw.kind == "broken":
            end = centre + draw.choice([-1, 1]) * 0.085 * axis
            paint.polygon_value(bodies, flaws.blob(draw, (end[0], end[1]), draw.uniform(0.03, 0.055), 0.4), 0)
    return bodies, _overlap(halves, bodies), shine


def _recolour(canvas: Float32Array, flaw: Flaw, bodies: UInt8Array, fronts: UInt8Array) -> Float32Array:
    """The pale half of one capsule in a colour of another product."""
    rng = flaw.rng()
    around = paint.polygon(paint.blank(len(canvas)), paint.box(_pocket(int(rng.integers(12))), 0.28, 0.2))
    pale = np.where(fronts > 0, 0, _overlap(bodies, around)).astype(np.uint8)
    colour = ((0.3, 0.5, 0.72), (0.85, 0.65, 0.2), (0.62, 0.3, 0.28))[int(rng.integers(3))]
    return paint.blend(canvas, colour, pale)


def _overlap(first: UInt8Array, second: UInt8Array) -> UInt8Array:
    return np.minimum(first, second)
