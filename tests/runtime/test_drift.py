from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from records_kit import judged
from runtime_kit import THRESHOLD, make_bundle

from cada_edge.calibration.record import with_scores
from cada_edge.errors import ConfigError
from cada_edge.runtime.drift import DriftMonitor, DriftReport, Reference
from cada_edge.types import Prediction, Verdict

LIMIT = 0.5


def part(score: float, novelty: float = 0.1, source: str = "cam1") -> tuple[Verdict, Prediction]:
    """A judged part; above `LIMIT` it does not pass."""
    status = "ok" if score <= LIMIT else "ng"
    verdict = Verdict(status, score, LIMIT, source, 0, 0, 0, "")  # type: ignore[arg-type]  # one of the statuses
    return verdict, prediction(novelty)


@cache
def prediction(novelty: float) -> Prediction:
    """Of one part; its score is read from the verdict."""
    zero, one, novelties = (np.array([value], np.float32) for value in (0.0, 1.0, novelty))
    return Prediction(zero, np.zeros((1, 1, 1), np.float32), zero, one, novelties)


def run(monitor: DriftMonitor, scores: np.ndarray, novelty: float = 0.1, source: str = "cam1") -> list[DriftReport]:
    """Show the monitor parts of these scores; returns its reports."""
    reports = (monitor.add(*part(float(score), novelty, source)) for score in scores)
    return [report for report in reports if report is not None]


def sample(rng: np.random.Generator, n: int, shift: float = 0.0) -> np.ndarray:
    """Scores around 0.2 + shift, deviation 0.1; about one in a thousand is rejected."""
    return np.asarray(0.2 + shift + 0.1 * rng.standard_normal(n))


def reference(scores: np.ndarray, novelty_limit: float = 1.0) -> Reference:
    """Of those scores that pass."""
    return Reference(scores[scores <= LIMIT].astype(np.float32), novelty_limit)


def test_a_line_that_does_not_drift_alarms_no_more_often_than_stated() -> None:
    """At one in a thousand per test, of 200 lines of 1,000 parts (20 tests each) at most 2 % + chance ever alarm."""
    alarmed = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        monitor = DriftMonitor(reference(sample(rng, 150)), alpha=1e-3)
        alarmed += any(report.drifted for report in run(monitor, sample(rng, 1000)))
    assert alarmed / 200 <= 0.02 + 3 * np.sqrt(0.02 * 0.98 / 200)


def test_the_default_seldom_alarms_and_still_sees_a_shift() -> None:
    """None of 30 steady lines alarms in 1,000 parts; scores a deviation higher alarm within two windows on each."""
    for seed in range(30):
        rng = np.random.default_rng(1000 + seed)
        monitor = DriftMonitor(reference(sample(rng, 200)))
        assert not any(report.drifted for report in run(monitor, sample(rng, 1000)))
        assert run(monitor, sample(rng, 400, shift=0.1))[-1].drifted


def test_defects_are_no_drift() -> None:
    """A fifth of all parts defective: those that pass are as before, so nothing is told."""
    rng = np.random.default_rng(5)
    scores = sample(rng, 2000)
    scores[rng.random(2000) < 0.2] = 3.0
    assert not any(report.drifted for report in run(DriftMonitor(reference(sample(rng, 200))), scores))


def test_drift_ends_when_the_scores_come_back() -> None:
    """A report is of the last window only."""
    rng = np.random.default_rng(6)
    monitor = DriftMonitor(reference(sample(rng, 200)))
    assert run(monitor, sample(rng, 400, shift=0.12))[-1].drifted
    assert not run(monitor, sample(rng, 400))[-1].drifted


def test_each_source_is_watched_by_itself() -> None:
    """One camera drifts, the other does not; both have a report."""
    rng = np.random.default_rng(7)
    monitor = DriftMonitor(reference(sample(rng, 200)))
    run(monitor, sample(rng, 400), source="left")
    run(monitor, sample(rng, 400, shift=0.12), source="right")
    assert {report.source_id: report.drifted for report in monitor.reports()} == {"left": False, "right": True}


def test_a_window_that_is_not_full_tells_nothing() -> None:
    """However far away, fewer parts than the window are not tested."""
    rng = np.random.default_rng(8)
    reports = run(DriftMonitor(reference(sample(rng, 200)), window=200, every=50), sample(rng, 199, shift=0.2))
    assert [(report.n > 0, report.distance, report.drifted) for report in reports] == [(True, None, False)] * 3


def test_novel_features_are_drift() -> None:
    """Half of a full window beyond the limit of novelty is; fewer are not, and neither is a window not yet full."""
    monitor = DriftMonitor(reference(np.full(100, 0.2), novelty_limit=0.4))
    scores = np.full(199, 0.2)
    assert not any(report.feature_drifted for report in run(monitor, scores, novelty=0.6))
    assert run(monitor, np.full(50, 0.2), novelty=0.6)[-1].feature_drifted
    assert not run(monitor, np.full(150, 0.2), novelty=0.1)[-1].feature_drifted


def test_parts_that_nobody_could_judge_are_passed_over() -> None:
    """No picture, no prediction: nothing to compare."""
    monitor = DriftMonitor(reference(np.full(50, 0.2)), window=20, every=1)
    lost = judged(0, image=None)
    assert monitor.add(lost.verdict, lost.prediction) is None
    assert monitor.reports()[0].n == 0


def test_the_reference_is_what_calibration_left() -> None:
    """Scores that pass, and the novelty that 99 % of its images stay within; of few images the highest."""
    digests = [f"{number:064d}" for number in range(200)]
    scores = {digest: None if number == 0 else number / 200 for number, digest in enumerate(digests)}
    bundle = with_scores(make_bundle(), scores, {digest: number / 400 for number, digest in enumerate(digests)})
    found = Reference.of(bundle)
    assert len(found.scores) == 100
    assert found.scores.max() == pytest.approx(THRESHOLD.value)
    assert found.novelty_limit == pytest.approx(198 / 400)
    assert Reference.of(with_scores(make_bundle(), scores, {"a": 0.3})).novelty_limit == 0.3


def test_a_bundle_without_calibration_figures_never_alarms_by_scores() -> None:
    """Nothing is compared with nothing; features are held to the model's own limit."""
    found = Reference.of(make_bundle())
    assert (len(found.scores), found.novelty_limit) == (0, 1.0)
    (report,) = run(DriftMonitor(found, window=50, every=50), np.full(50, 0.4), novelty=1.5)
    assert (report.distance, report.drifted, report.feature_drifted) == (None, False, True)
    assert report.median == pytest.approx(0.4)


@pytest.mark.parametrize("wrong", [{"window": 19}, {"every": 0}, {"every": 201}, {"alpha": 0.0}, {"alpha": 1.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    """Named, with what was expected."""
    settings = {"window": 200, "every": 50, "alpha": 1e-5, **wrong}
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        DriftMonitor(reference(np.zeros(9)), **settings)  # type: ignore[arg-type]  # wrong on purpose


def test_a_threshold_moves_the_end_of_both_samples() -> None:
    """Calibration scores beyond the threshold are not compared with parts that passed."""
    bundle = make_bundle(threshold=replace(THRESHOLD, value=0.25))
    scores: dict[str, float | None] = {f"{number:064d}": number / 200 for number in range(200)}
    assert Reference.of(with_scores(bundle, scores)).scores.max() == pytest.approx(0.25)
