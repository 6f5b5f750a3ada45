"""Whether bundle and recipes load, warm up, and answer within the deadline."""

from __future__ import annotations

import time
from functools import partial
from itertools import pairwise
from pathlib import Path

from cada_edge.bundle import Bundle
from cada_edge.runtime.assembly import load_model
from cada_edge.runtime.check.dial import Dial
from cada_edge.runtime.check.finding import Finding
from cada_edge.runtime.config import LineConfig
from cada_edge.runtime.model import Model

_LOAD_S, _ROUNDS = 120.0, 3


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
        infer_ms = _infer_ms(model)
    finally:
        model.close()
    height, width = bundle.manifest.spec.size_hw
    found = f"{path.name}: {width}x{height} px, {config.backend} {config.precision}, warm in {warm_s:.1f} s, "
    found += f"{infer_ms:.1f} ms a call"
    return _judged(Finding("model", what, "ok", found), bundle, infer_ms, config)


def _judged(ok: Finding, bundle: Bundle, infer_ms: float, config: LineConfig) -> Finding:
    threshold = bundle.manifest.threshold
    if threshold is None:
        advice = "every part would be undecided: set a threshold with `cada-edge calibrate`"
        return Finding(ok.area, ok.what, "fail", f"{ok.found}; no threshold", advice)
    found = f"{ok.found}, threshold {threshold.value:.4g}"
    limit_ms = _tightest_ms(config)
    if limit_ms is not None and infer_ms > limit_ms:
        advice = f"no part would be in time: allow more than {limit_ms:g} ms, or use a smaller model or a faster device"
        return Finding(ok.area, ok.what, "fail", f"{found}; slower than the deadline", advice)
    return Finding(ok.area, ok.what, "ok", found)


def _tightest_ms(config: LineConfig) -> float | None:
    limits = [limit for limit in (config.deadline_ms, *(one.deadline_ms for one in config.stations)) if limit]
    return min(limits, default=None)


def _infer_ms(model: Model) -> float:
    """The quickest of some warm calls: the machine may be busy with something else."""
    begun_s = [time.monotonic()]
    for _ in range(_ROUNDS):
        model.judge.warm_up(1, model.batch)
        begun_s.append(time.monotonic())
    return 1e3 * min(later - earlier for earlier, later in pairwise(begun_s))
