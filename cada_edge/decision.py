"""From a score to a verdict: the one place where ``ok`` can arise."""

from __future__ import annotations

from cada_edge.types import Frame, Prediction, Threshold, Verdict


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

    ``ok`` needs a whole frame, a threshold, finite numbers and ``score <= threshold``.
    Whatever falls short of that is ``ng`` or ``undecided``, never ``ok``.
    """
    if frame.status != "ok":
        return undecided(frame, f"frame is {frame.status}", t_decided_ns, threshold)
    if frame.image is None:
        return undecided(frame, "frame has no image", t_decided_ns, threshold)
    if threshold is None:
        return undecided(frame, "bundle has no threshold; run `cada-edge calibrate`", t_decided_ns)
    if len(prediction) != 1:
        return undecided(frame, f"prediction holds {len(prediction)} images, expected 1", t_decided_ns, threshold)
    if not bool(prediction.finite()[0]):
        return undecided(frame, "score or map is not finite", t_decided_ns, threshold)
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
        reason="score within threshold" if passed else "score above threshold",
        name=frame.name,
    )
