"""Only a whole frame with finite numbers within the threshold passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_edge import Frame, Prediction, Threshold, decide
from cada_edge.decision import undecided
from cada_edge.types import FrameStatus, UInt8Array

IMAGE = np.zeros((4, 4, 3), np.uint8)
FRAME = Frame(IMAGE, "cam", 7, 100, 110, name="part.png")
THRESHOLD = Threshold(1.0, 0.01, 0.03, 0.95, 300, "order-statistic", "")
number = st.floats(width=32)


def predict(
    score: float, cell: float = 0.0, u: float = 0.1, gamma: float = 0.3, novelty: float = 0.0, *, n: int = 1
) -> Prediction:
    """A prediction for `n` equal images."""
    maps = np.zeros((n, 2, 2), np.float32)
    maps[:, 0, 0] = cell
    one, *others = (np.full(n, value, np.float32) for value in (score, u, gamma, novelty))
    return Prediction(one, maps, *others)


@given(
    numbers=st.tuples(number, number, number, number, number),
    status=st.sampled_from(["ok", "ok", "incomplete", "late"]),
    image=st.sampled_from([IMAGE, IMAGE, None]),
    threshold=st.sampled_from([THRESHOLD, None]),
    n=st.sampled_from([1, 1, 0, 2]),
)
def test_ok_needs_everything(
    numbers: tuple[float, float, float, float, float],
    status: FrameStatus,
    image: UInt8Array | None,
    threshold: Threshold | None,
    n: int,
) -> None:
    """Whatever the numbers, ``ok`` means: whole frame, threshold, one finite row of a known kind, score within it."""
    verdict = decide(replace(FRAME, status=status, image=image), predict(*numbers, n=n), threshold, 200)
    sound = status == "ok" and image is not None and threshold is not None and n == 1
    known = bool(np.isfinite(numbers).all()) and numbers[4] <= 1.0
    assert verdict.passed == (sound and known and numbers[0] <= 1.0)
    assert (verdict.status == "undecided") == (not (sound and known))


@pytest.mark.parametrize(("score", "status"), [(0.0, "ok"), (1.0, "ok"), (np.nextafter(1, 2, dtype="f4"), "ng")])
def test_a_score_at_the_threshold_passes(score: float, status: str) -> None:
    """Rejected is what is greater than the threshold, and nothing else."""
    assert decide(FRAME, predict(score), THRESHOLD, 200).status == status


def test_a_verdict_carries_its_frame() -> None:
    """Identity and times come from the frame, so that a verdict is never given to another part."""
    verdict = decide(FRAME, predict(0.5), THRESHOLD, 200)
    assert (verdict.source_id, verdict.frame_id, verdict.t_capture_ns, verdict.t_decided_ns, verdict.name) == (
        "cam",
        7,
        100,
        200,
        "part.png",
    )
    assert (verdict.score, verdict.threshold) == (0.5, 1.0)


def test_undecided_shows_no_score_and_says_why() -> None:
    """An undecided part has a reason and no number to be mistaken for a judgement."""
    verdict = undecided(FRAME, "camera lost", 200, THRESHOLD)
    assert (verdict.status, verdict.score, verdict.threshold, verdict.reason) == ("undecided", None, 1.0, "camera lost")


def test_a_bundle_without_threshold_says_what_to_do() -> None:
    """Without calibration nothing passes and the reason names the command."""
    assert "cada-edge calibrate" in decide(FRAME, predict(0.0), None, 200).reason


@pytest.mark.parametrize(("novelty", "status"), [(1.0, "ok"), (np.nextafter(1, 2, dtype="f4"), "undecided")])
def test_an_image_beyond_the_novelty_limit_is_undecided(novelty: float, status: str) -> None:
    """However low its score, a picture unlike everything known never passes."""
    assert decide(FRAME, predict(-5.0, novelty=novelty), THRESHOLD, 200).status == status


def test_a_novel_part_s_reason_holds_the_number() -> None:
    """The log says how far beyond the limit the picture was, in words."""
    verdict = decide(FRAME, predict(0.5, novelty=2.346), THRESHOLD, 200)
    assert "novelty 2.35" in verdict.reason
    assert "limit is 1" in verdict.reason


def test_a_verdict_on_the_guard_says_so() -> None:
    """Where gamma - u is clamped, the reason warns that the score is coarse; elsewhere it does not."""
    assert "guard" in decide(FRAME, predict(0.5, u=0.1, gamma=0.1), THRESHOLD, 200).reason
    assert "guard" not in decide(FRAME, predict(0.5), THRESHOLD, 200).reason
