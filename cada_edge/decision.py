"""From a score to a verdict: the one place where ``ok`` can arise."""

from __future__ import annotations

from cada_edge.types import MIN_SPREAD, NOVELTY_LIMIT, Frame, Prediction, Threshold, Verdict


def undecided(frame: Frame, reason: str, t_decided_ns: int, threshold: Threshold | None = None) -> Verdict:
    """The verdict when nothing can be said of the part; the line treats it as a reject."""
    return Verdict(
        status="undecided",
        score=None,
        threshold=threshold.value if threshold else None,
        source_id=frame.source_id,
        frame_id=frame.frame_id,
        t_capture_ns=frame.t_capture_ns,
        t_decided_ns=t_decided_ns,
        reason=reason,
        name=frame.name,
    )


def decide(frame: Frame, prediction: Prediction, threshold: Threshold | None, t_decided_ns: int) -> Verdict:
    """Judge one frame. `prediction` holds that frame alone (N = 1).

    ``ok`` needs a whole frame, a threshold, finite numbers, an image like something known and
    ``score <= threshold``. Whatever falls short of that is ``ng`` or ``undecided``, never ``ok``.
    """
    if threshold is None:
        why = _unfit(frame) or "bundle has no threshold; run `cada-edge calibrate`"
        return undecided(frame, why, t_decided_ns)
    if why := _unfit(frame) or _untrusted(prediction):
        return undecided(frame, why, t_decided_ns, threshold)
    score = float(prediction.score[0])
    passed = score <= threshold.value
    return Verdict(
        status="ok" if passed else "ng",
        score=score,
        threshold=threshold.value,
        source_id=frame.source_id,
        frame_id=frame.frame_id,
        t_capture_ns=frame.t_capture_ns,
        t_decided_ns=t_decided_ns,
        reason=("score within threshold" if passed else "score above threshold") + _guard(prediction),
        name=frame.name,
    )


def _unfit(frame: Frame) -> str:
    """Why `frame` cannot be judged; empty when it can."""
    if frame.status != "ok":
        return f"frame is {frame.status}"
    return "frame has no image" if frame.image is None else ""


def _untrusted(prediction: Prediction) -> str:
    """Why `prediction` says nothing of the part, whatever its score; empty when it does."""
    if len(prediction) != 1:
        return f"prediction holds {len(prediction)} images, expected 1"
    if not prediction.finite()[0]:
        return "score or map is not finite"
    if prediction.novel()[0]:
        novelty = float(prediction.novelty[0])
        return f"unlike everything the model knows: novelty {novelty:.3g}, the limit is {NOVELTY_LIMIT:g}"
    return ""


def _guard(prediction: Prediction) -> str:
    return f"; gamma - u is at its guard of {MIN_SPREAD:g}, the score is coarse" if prediction.guarded()[0] else ""
