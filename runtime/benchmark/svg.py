"""Histogram, timeline and CDF as SVG text: no script, no font, no network. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from cada_edge.runtime.benchmark.stats import Float64Array

WIDTH, HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 28, 14, 40
_BINS, _COLUMNS, _STEPS = 60, 600, 200
_MARKS, _SLACK = 6, 1e-9  # steps at most; of a step, for sums that are not exact

Scale = Callable[[float], float]


@dataclass(frozen=True)
class Series:
    """One subject's samples.

    Attributes:
        name: for the legend.
        x: seconds since the first frame; only the timeline reads it.
        y: milliseconds.
    """

    name: str
    x: Float64Array
    y: Float64Array


@dataclass(frozen=True)
class _Axis:
    """Where values lie, in pixels.

    Attributes:
        scale: value to pixel.
        ends: lowest and highest value or, with `every`, each that is marked: a power of ten of the tail.
        unit: for people.
        every: mark each of `ends`.
        whole: what is counted has no halves.
    """

    scale: Scale
    ends: tuple[float, ...]
    unit: str
    every: bool = False
    whole: bool = False

    def shown(self) -> list[float]:
        """Values with a mark."""
        if self.every:
            return list(self.ends)
        return round_marks(self.ends[0], self.ends[-1], least=1.0 if self.whole else 0.0)


def round_marks(low: float, high: float, least: float = 0.0) -> list[float]:
    """At most seven multiples of 1, 2 or 5 times a power of ten from `low` to `high`, `least` apart; `low` for none."""
    span = high - low
    if span <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / _MARKS))
    step = max(least, next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= _MARKS))
    first, last = math.ceil(low / step - _SLACK), math.floor(high / step + _SLACK)
    return [number * step for number in range(first, last + 1)] or [low]


def histogram(series: Sequence[Series]) -> str:
    """How often each latency came; one bin at the right end takes what lies beyond the 99.5th percentile."""
    values = np.concatenate([one.y for one in series])
    low, high = float(values.min()), float(np.quantile(values, 0.995))
    edges = np.linspace(low, high if high > low else low + 1e-3, _BINS + 1)
    counts = [np.histogram(np.clip(one.y, edges[0], edges[-1]), edges)[0].tolist() for one in series]
    most = max(max(count) for count in counts)
    x = _scale(float(edges[0]), float(edges[-1]), _LEFT, WIDTH - _RIGHT)
    y = _scale(0, max(1, most), HEIGHT - _BOTTOM, _TOP)
    shapes = [_bars(i, edges, count, x, y) for i, count in enumerate(counts)]
    return _chart(
        shapes,
        _axes(_Axis(x, (float(edges[0]), float(edges[-1])), "ms"), _Axis(y, (0, most), "frames", whole=True)),
        series,
    )


def timeline(series: Sequence[Series]) -> str:
    """Latency over time: of each column of the picture its lowest and highest frame, so that no stall is lost."""
    end = max(float(one.x.max()) for one in series) or 1.0
    top = max(float(one.y.max()) for one in series)
    x, y = _scale(0, end, _LEFT, WIDTH - _RIGHT), _scale(0, top or 1.0, HEIGHT - _BOTTOM, _TOP)
    shapes = [_line(i, [(x(a), y(b)) for a, b in _envelope(one, end)]) for i, one in enumerate(series)]
    return _chart(shapes, _axes(_Axis(x, (0, end), "s"), _Axis(y, (0, top), "ms")), series)


def cdf(series: Sequence[Series]) -> str:
    """Share of frames at or below each latency; the upper half of the picture is the slowest tenth of the frames.

    The scale of the shares is that of 1 / (1 - share), so that p90, p99 and p99.9 are as far apart.
    """
    longest = max(one.y.size for one in series)
    depth = max(1.0, np.log10(longest))
    values = np.concatenate([one.y for one in series])
    x = _scale(float(values.min()), float(values.max()) or 1.0, _LEFT, WIDTH - _RIGHT)
    y = _scale(0, depth, HEIGHT - _BOTTOM, _TOP)
    shapes = []
    for i, one in enumerate(series):
        tails = np.linspace(0, np.log10(one.y.size), _STEPS)
        found = np.quantile(one.y, 1 - 10.0**-tails)
        shapes.append(_line(i, [(x(float(v)), y(float(t))) for v, t in zip(found, tails, strict=True)]))
    marks = tuple(range(int(depth) + 1))
    return _chart(
        shapes,
        _axes(_Axis(x, (float(values.min()), float(values.max())), "ms"), _Axis(y, marks, "share", every=True)),
        series,
    )


def _envelope(one: Series, end: float) -> list[tuple[float, float]]:
    column = np.minimum((one.x / end * _COLUMNS).astype(int), _COLUMNS - 1)
    points = []
    for number in np.unique(column):
        at = np.flatnonzero(column == number)
        ends = sorted({int(at[one.y[at].argmin()]), int(at[one.y[at].argmax()])})
        points += [(float(one.x[index]), float(one.y[index])) for index in ends]
    return points


def _bars(number: int, edges: Float64Array, counts: Sequence[int], x: Scale, y: Scale) -> str:
    base = y(0)
    parts = [f"M{x(float(edges[0])):.1f} {base:.1f}"]
    for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True):
        parts.append(f"L{x(float(left)):.1f} {y(float(count)):.1f}L{x(float(right)):.1f} {y(float(count)):.1f}")
    parts.append(f"L{x(float(edges[-1])):.1f} {base:.1f}Z")
    return f'<path class="area s{number}" d="{"".join(parts)}"/>'


def _line(number: int, points: Sequence[tuple[float, float]]) -> str:
    text = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return f'<polyline class="line s{number}" points="{text}"/>'


def _scale(low: float, high: float, first: float, last: float) -> Scale:
    span = high - low or 1.0
    return lambda value: first + (value - low) / span * (last - first)


def _axes(across: _Axis, up: _Axis) -> str:
    bottom = HEIGHT - _BOTTOM
    parts = [f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{WIDTH - _RIGHT}"/>']
    for value in across.shown():
        at = across.scale(value)
        parts.append(f'<path class="tick" d="M{at:.1f} {bottom}v4"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 17}" text-anchor="middle">{value:.6g}</text>')
    for value in up.shown():
        at = up.scale(value)
        text = f"{100 * (1 - 10.0**-value):.6g}%" if up.every else f"{value:.6g}"
        parts.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{text}</text>')
    parts.append(f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(across.unit)}</text>')
    parts.append(f'<text x="4" y="{HEIGHT - 6}">{escape(up.unit)}</text>')
    return "".join(parts)


def _chart(shapes: Sequence[str], axes: str, series: Sequence[Series]) -> str:
    names = []
    if len(series) > 1:
        for i, one in enumerate(series):
            at = f'x="{WIDTH - _RIGHT - 8}" y="{_TOP + 14 + 16 * i}"'
            names.append(f'<text class="name s{i}" {at} text-anchor="end">{escape(one.name)}</text>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{axes}{"".join(shapes)}{"".join(names)}</svg>'
