"""Whether bundle and recipes load, warm up, and answer in time for deadlines and signs of life."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from cada_edge.bundle import Bundle
from cada_edge.runtime.assembly import load_model
from cada_edge.runtime.check.dial import Dial
from cada_edge.runtime.check.finding import Finding, State, worst
from cada_edge.runtime.config import LineConfig
from cada_edge.runtime.model import Model
from cada_edge.types import Frame, ImageSpec, UInt8Array

_LOAD_S, _ROUNDS, _HOUR_NS = 120.0, 3, 3_600 * 10**9
_NEAR = 0.5  # of a limit, by the quickest call: with the line's other work a call takes up to twice as long


def model_dials(config: LineConfig) -> list[Dial]:
    """The bundle and each recipe; one after the other, for they share the processor."""
    wanted = [("bundle", config.bundle), *((f"recipe {number}", path) for number, path in config.recipes.items())]
    return [Dial("model", what, _LOAD_S, partial(_look, config, what, path)) for what, path in wanted]


def _look(config: LineConfig, what: str, path: Path) -> Finding:
    begun_s = time.monotonic()
    bundle = Bundle.read(path)
    model = load_model(config, path, bundle)
    try:
        model.judge.warm_up(batch=model.batch)
        warm_s = time.monotonic() - begun_s
        infer_ms = _infer_ms(model, bundle.manifest.spec)
    finally:
        model.close()
    height, width = bundle.manifest.spec.size_hw
    found = f"{path.name}: {width}x{height} px, {config.backend} {config.precision}, warm in {warm_s:.1f} s, "
    found += f"{infer_ms:.1f} ms a call" + (f" of {model.batch} pictures" if model.batch > 1 else "")
    return _judged(Finding("model", what, "ok", found), bundle, Speed(infer_ms, model.batch), config)


def _judged(ok: Finding, bundle: Bundle, speed: Speed, config: LineConfig) -> Finding:
    threshold = bundle.manifest.threshold
    if threshold is None:
        advice = "every part would be undecided: set a threshold with `cada-edge calibrate`"
        return replace(ok, state="fail", found=f"{ok.found}; no threshold", advice=advice)
    told = [one for one in (speed.against_deadlines(config), speed.against_silence(config)) if one is not None]
    found = f"{ok.found}, threshold {threshold.value:.4g}"
    return replace(
        ok,
        state=worst(one.state for one in told),
        found="; ".join([found, *(one.found for one in told)]),
        advice="; ".join(one.advice for one in told),
    )


@dataclass(frozen=True)
class _Told:
    """What is to be said of a speed."""

    state: State
    found: str
    advice: str


@dataclass(frozen=True)
class Speed:
    """How fast a model is on this machine.

    Attributes:
        call_ms: of the quickest call, in which the line gives no sign of life.
        batch: pictures in it, >= 1.
    """

    call_ms: float
    batch: int

    def against_deadlines(self, config: LineConfig) -> _Told | None:
        """What is to be said of parts that will not, or hardly, be judged in time; ``None`` for nothing."""
        limits = _deadlines_ms(config)
        if not limits:
            return None
        takes = [(-(-views // self.batch) * self.call_ms, ms) for views, ms in limits]
        part_ms, limit_ms = max(takes, key=lambda one: one[0] / one[1])
        allow = f"allow more than {limit_ms:g} ms, or use a smaller model or a faster device"
        if part_ms > limit_ms:
            return _Told("fail", "slower than the deadline", f"no part would be in time: {allow}")
        if part_ms > _NEAR * limit_ms:
            found = f"{part_ms:.0f} ms for the views of a part are near the deadline"
            return _Told("warn", found, f"beside exposure and transfer little is left: {allow}")
        return None

    def against_silence(self, config: LineConfig) -> _Told | None:
        """What is to be said of a call in which the PLC would see the pipeline stalled; ``None`` for nothing."""
        stale_ms = min((one.stale_ms for one in config.stations_or_one() if config.wired()), default=None)
        if stale_ms is None or self.call_ms <= _NEAR * stale_ms:
            return None
        enough_ms = int(self.call_ms / _NEAR) + 1
        advice = f"set stale_ms to {enough_ms} or more, with deadlines to match"
        if self.batch > 1:
            advice = f"set batch: 1, for there is a sign of life between two calls, or {advice}"
        if self.call_ms > stale_ms:
            return _Told("fail", f"a call is longer than stale_ms ({stale_ms}): PIPELINE_STALLED at each", advice)
        return _Told("warn", f"a call is near stale_ms ({stale_ms}): one that is held up is PIPELINE_STALLED", advice)


def _deadlines_ms(config: LineConfig) -> list[tuple[int, float]]:
    """Pictures that must be judged for a result, with the time they have, ms."""
    if not config.wired():
        return [(1, config.deadline_ms)] if config.deadline_ms else []
    limits = []
    for one in config.stations_or_one():
        if one.mode == "triggered":
            limits.append((len(one.sources), one.options(config.deadline_ms).deadline_ns / 1e6))
        elif given := [limit for limit in (one.deadline_ms, config.deadline_ms) if limit]:
            limits.append((1, min(given)))
    return limits


def _infer_ms(model: Model, spec: ImageSpec) -> float:
    """The quickest of some warm calls with as many pictures as the line's: the machine may be busy otherwise."""
    return min(_call_ms(model, np.zeros((*spec.size_hw, 3), np.uint8)) for _ in range(_ROUNDS))


def _call_ms(model: Model, picture: UInt8Array) -> float:
    now_ns = time.monotonic_ns()
    frame = Frame(picture, "check", 0, now_ns, now_ns)
    begun_s = time.monotonic()
    model.judge.judge_all([(frame, now_ns + _HOUR_NS)] * model.batch)
    return 1e3 * (time.monotonic() - begun_s)
