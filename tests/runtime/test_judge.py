from __future__ import annotations

import itertools
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from runtime_kit import MAP_SPEC, SPEC, THRESHOLD, make_bundle, make_frame, tiny_model

from cada_edge.errors import EngineError
from cada_edge.runtime.judge import Judge
from cada_edge.runtime.outcome import Outcome, outcome
from cada_edge.runtime.registers import WORST_SCORE, ErrorCode
from cada_edge.runtime.runners.ort import OrtRunner
from cada_edge.types import ImageSpec, MapSpec, Prediction, UInt8Array

if TYPE_CHECKING:
    from typing_extensions import Self


class Broken:
    """A runner whose device is gone."""

    spec: ImageSpec = SPEC
    map_spec: MapSpec = MAP_SPEC

    def __init__(self, error: Exception) -> None:
        self._error = error

    def infer(self, batch: UInt8Array) -> Prediction:
        """Fail as told."""
        raise self._error

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is open."""


def judge(**settings: Any) -> Judge:
    """A judge over the tiny model; `model`, `threshold`, deadline and clock may be set."""
    model = settings.pop("model", None)
    threshold = settings.pop("threshold", THRESHOLD)
    return Judge(OrtRunner(make_bundle(model), 1), threshold, **settings)


@pytest.mark.parametrize(("level", "status"), [(0, "ok"), (127, "ok"), (128, "ng"), (255, "ng")])
def test_the_score_decides(level: int, status: str) -> None:
    """A dark picture passes, a bright one does not; the limit itself passes."""
    assert judge().judge(make_frame(level)).verdict.status == status


def test_pictures_of_any_size_are_judged() -> None:
    """The frame is fitted to the model before it is judged."""
    frame = make_frame(image=np.zeros((480, 640, 3), np.uint8))
    assert judge().judge(frame).verdict.passed


@pytest.mark.parametrize("level", [0, 255])
def test_without_a_threshold_nothing_passes(level: int) -> None:
    """A bundle that was never calibrated gives undecided verdicts that say so."""
    verdict = judge(threshold=None).judge(make_frame(level)).verdict
    assert verdict.status == "undecided"
    assert "calibrate" in verdict.reason


def test_a_score_that_is_no_number_is_undecided() -> None:
    """0 / 0 in the graph is a reject."""
    assert judge(model=tiny_model(nan=True)).judge(make_frame()).verdict.status == "undecided"


@pytest.mark.parametrize("error", [EngineError("device lost"), RuntimeError("boom"), MemoryError()])
def test_a_runner_that_fails_is_undecided(error: Exception) -> None:
    """Whatever a runner raises, the frame gets its verdict and the error is handed on."""
    judgement = Judge(Broken(error), THRESHOLD).judge(make_frame())
    assert judgement.verdict.status == "undecided"
    assert judgement.error is error


@pytest.mark.parametrize(
    "changes",
    [{"image": None}, {"image": None, "status": "incomplete"}, {"status": "late"}, {"image": np.zeros((0, 4, 3))}],
)
def test_a_frame_without_a_picture_is_undecided(changes: dict[str, Any]) -> None:
    """No image, a wrong one, or one that came late: undecided."""
    assert judge().judge(make_frame(0, **changes)).verdict.status == "undecided"


@pytest.mark.parametrize("ticks", [[50e6 + 1] * 3, [0, 50e6 + 1, 50e6 + 1]])
def test_a_late_verdict_never_passes(ticks: list[float]) -> None:
    """Too old before or after the inference: undecided and marked late, whatever the score."""
    clock = itertools.chain(ticks, itertools.repeat(ticks[-1]))
    judgement = judge(deadline_ms=50, clock=lambda: int(next(clock))).judge(make_frame(0, t_capture_ns=0))
    assert judgement.verdict.status == "undecided"
    assert judgement.frame.status == "late"
    assert "deadline is 50 ms" in judgement.verdict.reason


def test_no_pass_is_dated_after_its_deadline() -> None:
    """However the clock runs between two looks at it, a pass was decided in time."""
    for start_ms in range(44, 52):
        clock = itertools.count(start_ms * 1_000_000, 1_000_000)
        verdict = judge(deadline_ms=50, clock=clock.__next__).judge(make_frame(0, t_capture_ns=0)).verdict
        assert verdict.t_decided_ns <= 50_000_000 or not verdict.passed


def test_a_verdict_in_time_passes() -> None:
    """Exactly at the deadline is in time."""
    assert judge(deadline_ms=50, clock=lambda: 50_000_000).judge(make_frame(0, t_capture_ns=0)).verdict.passed


def told(level: int, **settings: Any) -> Outcome:
    """What the PLC is told of one more picture of brightness `level`."""
    return outcome(None, [judge(**settings).judge(make_frame(level))])


def test_every_cause_of_unknown_has_its_code() -> None:
    """The PLC can tell missing threshold, broken runner, bad number, unknown part and bad frame apart."""
    assert told(0, threshold=None).error == ErrorCode.NO_THRESHOLD
    assert told(0, model=tiny_model(nan=True)).error == ErrorCode.NOT_FINITE
    assert told(100, model=tiny_model(strangeness=9.0)).error == ErrorCode.NOVEL
    broken = Judge(Broken(EngineError("gone")), THRESHOLD).judge(make_frame())
    assert outcome(None, [broken]).error == ErrorCode.ENGINE_FAILED
    assert told(0).error == ErrorCode.NONE


def test_no_score_is_shown_as_the_worst() -> None:
    """A PLC that compares the score by itself rejects an undecided part."""
    assert told(0, threshold=None).score == WORST_SCORE


def test_frames_that_came_together_are_judged_as_each_alone() -> None:
    """Good, bad, lost and late frames in one call: the same verdicts as one by one, in their order."""
    one = judge()
    frames = [make_frame(0, 0), make_frame(255, 1), make_frame(0, 2, image=None), make_frame(0, 3), make_frame(200, 4)]
    wanted = [(frame, 0 if frame.frame_id == 3 else None) for frame in frames]
    together = [judgement.verdict for judgement in one.judge_all(wanted)]
    alone = [one.judge(frame, until_ns).verdict for frame, until_ns in wanted]
    assert [v.status for v in together] == ["ok", "ng", "undecided", "undecided", "ng"]
    assert [(v.frame_id, v.status, v.score) for v in together] == [(v.frame_id, v.status, v.score) for v in alone]


def test_a_picture_that_is_none_spoils_no_other() -> None:
    """Of two frames in one call, the one with an impossible picture alone is undecided."""
    frames = [make_frame(0, 0, image=np.zeros((0, 4, 3), np.uint8)), make_frame(0, 1)]
    verdicts = [judgement.verdict.status for judgement in judge().judge_all([(frame, None) for frame in frames])]
    assert verdicts == ["undecided", "ok"]


def test_one_fault_of_the_runner_rejects_all_it_was_asked() -> None:
    """Nothing of a call that failed passes."""
    both = Judge(Broken(EngineError("gone")), THRESHOLD).judge_all([(make_frame(0, 0), None), (make_frame(0, 1), None)])
    assert [one.verdict.status for one in both] == ["undecided", "undecided"]


def test_pictures_of_one_call_and_of_the_next_do_not_mix() -> None:
    """Inputs lie in memory that is used again: each frame keeps its own score, beside a bad neighbour too."""
    with_bad = judge()
    levels = [10, 200, 30, 90]
    for shift in range(3):
        frames = [(make_frame(level + shift), None) for level in levels]
        frames.insert(1, (make_frame(image=np.zeros((0, 4, 3))), None))
        found = [one.verdict.score for one in with_bad.judge_all(frames)]
        expected = [(level + shift) / 255 for level in levels]
        assert [score for score in found if score is not None] == pytest.approx(expected, abs=1e-5)
        assert found[1] is None


@pytest.mark.parametrize("side", [32, 64, 512])
def test_a_judge_at_work_asks_python_for_no_memory(side: int) -> None:
    """Once warm, a frame costs no array: all that Python allocates for it is less than 4 KiB and its own verdict."""
    warm, frame = judge(), make_frame(image=np.full((side, side, 3), 9, np.uint8))
    for _ in range(3):
        warm.judge(frame)
    with unwatched():
        tracemalloc.start()
        try:
            warm.judge(frame)
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            warm.judge(frame)
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
    assert peak < 4096 < side * side * 3 * 2


@contextmanager
def unwatched() -> Iterator[None]:
    """Without the tracer of coverage, which notes each line in memory of its own, a kilobyte a frame."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
