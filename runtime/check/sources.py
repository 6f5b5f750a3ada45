"""Whether a source opens as the line opens it, and what its frames are."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from cada_edge.errors import SourceError
from cada_edge.runtime.assembly import open_feeds
from cada_edge.runtime.check.dial import Dial
from cada_edge.runtime.check.finding import Finding, State, worst
from cada_edge.runtime.config import LineConfig
from cada_edge.runtime.feed import Demand, Feeds
from cada_edge.runtime.sources.config import SourceConfig
from cada_edge.runtime.sources.open import open_configured
from cada_edge.runtime.sources.uri import CAMERAS, parse
from cada_edge.types import Frame, UInt8Array

_CLOSE_S = 3.0
_UNTIMED = (
    "a picture that arrives right after a trigger can be of the part before: set how long one takes from the begin of "
    "its exposure to its arrival, exposure, readout and transfer together"
)
_STILL = "1 where parts stand still for that long before the trigger"


def source_dials(config: LineConfig, frames: int, timeout_s: float) -> list[Dial]:
    """Every source, each as a line of its own would open it."""
    return [
        Dial("source", one.id, timeout_s + _CLOSE_S, partial(_look, config, one, frames, timeout_s))
        for one in config.sources
    ]


def _look(config: LineConfig, source: SourceConfig, count: int, timeout_s: float) -> Finding:
    until_s = time.monotonic() + timeout_s
    alone = config.model_copy(update={"sources": (source,)})
    with ExitStack() as stack:
        feeds = open_feeds(alone, stack, open_configured)
        frames = _frames(feeds, source, count, until_s)
    if not frames:
        return _silent(source, timeout_s)
    state, found, advice = _judged(frames, count, live=_is_raw_camera(source, config.base_dir))
    if delay := delay_advice(config, source):
        found, advice = f"{found}; trigger: free without latency_ms", "; ".join(filter(None, (advice, delay)))
        state = worst((state, "warn"))
    return Finding("source", source.id, state, found, advice)


def delay_advice(config: LineConfig, source: SourceConfig) -> str:
    """What to do where a trigger could be answered by a picture of before, and nobody has said that it cannot.

    That holds for every camera that takes pictures by itself: even one with a clock of its own tells only how much
    later than its quickest picture one came, not how long that one took.
    """
    camera = CAMERAS.get(parse(source.uri, config.base_dir).scheme)
    triggered = any(one.mode == "triggered" and source.id in one.sources for one in config.stations_or_one())
    if camera is None or not triggered or source.trigger != "free" or source.latency_ms:
        return ""
    if "trigger" in camera.able:
        return f"{_UNTIMED}, as latency_ms, or let it be triggered (trigger: software or hardware)"
    return f"{_UNTIMED}, as latency_ms (rtsp: 100 to 300 is usual), or {_STILL}"


def _frames(feeds: Feeds, source: SourceConfig, count: int, until_s: float) -> list[Frame]:
    """At most `count` frames, each asked for as the line asks. Raises what the source raised."""
    seen: list[Frame] = []
    while len(seen) < count:
        triggered = source.trigger == "software"
        feeds.ask(source.id, Demand(len(seen) + 1, time.monotonic_ns()) if triggered else Demand())
        arrivals = feeds.take(max(0.0, until_s - time.monotonic()))
        if arrivals and arrivals[0].error is not None:
            raise arrivals[0].error
        if not arrivals or arrivals[0].frame is None:
            return seen
        seen.append(arrivals[0].frame)
    return seen


def _silent(source: SourceConfig, timeout_s: float) -> Finding:
    if source.trigger == "hardware":
        found = f"opens; no picture within {timeout_s:g} s"
        return Finding("source", source.id, "warn", found, "nothing triggered it: send a part past its sensor")
    raise SourceError(f"opens, but gives no picture within {timeout_s:g} s; look at the camera and at its trigger")


def _judged(frames: list[Frame], count: int, *, live: bool) -> tuple[State, str, str]:
    """State, what was seen and what to do."""
    pictures = [frame.image for frame in frames if frame.image is not None]
    bad = [frame for frame in frames if frame.status != "ok"]
    found = f"{len(frames)} frames, {_size(pictures)}{_rate(frames)}"
    if drops := sum(frame.drops for frame in frames[1:]):
        found += f", {drops} dropped"
    if bad:
        noted = Counter(f"{frame.status}{f' ({frame.note})' if frame.note else ''}" for frame in bad)
        told = ", ".join(f"{times} x {note}" for note, times in noted.items())
        advice = "parts with such pictures are rejected; see light, lens and limits with `cada-edge source --quality`"
        return "fail" if 2 * len(bad) > len(frames) else "warn", f"{found}; {told}", advice
    if live and _repeats(pictures):
        return "fail", f"{found}; equal pictures", "a camera never takes the same picture twice: its stream is frozen"
    if len(frames) < count:
        return "warn", f"{found}; {count} were wanted", "it ended or is slow; allow more with --timeout-s"
    return "ok", found, ""


def _size(pictures: list[UInt8Array]) -> str:
    sizes = sorted({(picture.shape[1], picture.shape[0]) for picture in pictures})
    if not sizes:
        return "no picture"
    grey = all(np.array_equal(picture[..., 0], picture[..., 1]) for picture in pictures)
    return f"{' and '.join(f'{width}x{height}' for width, height in sizes)} px, {'grey' if grey else 'colour'}"


def _rate(frames: list[Frame]) -> str:
    span_s = (frames[-1].t_arrival_ns - frames[0].t_arrival_ns) / 1e9
    return f", {(len(frames) - 1) / span_s:.1f} a second" if span_s > 0 else ""


def _repeats(pictures: list[UInt8Array]) -> bool:
    return any(np.array_equal(one, other) for one, other in pairwise(pictures))


def _is_raw_camera(source: SourceConfig, base: Path) -> bool:
    """Whether its pictures come with the sensor's noise, so that two are never equal."""
    kind = CAMERAS.get(parse(source.uri, base).scheme)
    return kind is not None and kind.raw
