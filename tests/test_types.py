"""The nouns refuse what no stage may pass on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_edge import ImageSpec, MapSpec, Prediction, Threshold, Verdict, normalise
from cada_edge.errors import ConfigError
from cada_edge.types import MIN_SPREAD, from_json, to_json

THRESHOLD = Threshold(1.1, 0.01, 0.03, 0.95, 300, "order-statistic", "0" * 64)
junk = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers() | st.floats()))


def prediction(n: int = 2, **changes: Any) -> Prediction:
    """A valid batch of `n` with some arrays replaced."""
    values: dict[str, Any] = {
        "score": np.full(n, 0.5, np.float32),
        "map": np.zeros((n, 4, 4), np.float32),
        "u": np.full(n, 0.1, np.float32),
        "gamma": np.full(n, 0.3, np.float32),
        "novelty": np.full(n, 0.4, np.float32),
    }
    return Prediction(**{**values, **changes})


@pytest.mark.parametrize(
    "wrong",
    [
        {"size_hw": (256, 250)},
        {"size_hw": (256,)},
        {"size_hw": 256},
        {"size_hw": (True, 256)},
        {"size_hw": (8192, 256)},
        {"mean": (0.0, 0.0)},
        {"mean": (0.0, 0.0, math.nan)},
        {"std": (1.0, 1.0, 0.0)},
        {"std": "abc"},
        {"resize": "crop"},
    ],
)
def test_image_spec_names_the_wrong_field(wrong: dict[str, Any]) -> None:
    """A preprocessing contract that cannot be kept is refused, naming field, value and expectation."""
    with pytest.raises(ConfigError, match=rf"ImageSpec\.{next(iter(wrong))}: got .* expected"):
        ImageSpec(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size_hw": (0, 4)},
        {"smooth_taps": 4},
        {"smooth_taps": 0},
        {"smooth_taps": 33},
        {"smooth_sigma": 0.0},
        {"smooth_sigma": 10**400},
        {"top_fraction": 0.0},
        {"top_fraction": 1.1},
    ],
)
def test_map_spec_names_the_wrong_field(wrong: dict[str, Any]) -> None:
    """A post-processing contract that cannot be kept is refused by field."""
    with pytest.raises(ConfigError, match=rf"MapSpec\.{next(iter(wrong))}"):
        MapSpec(**wrong)


def test_top_k_is_never_zero() -> None:
    """However small the fraction, at least one cell makes the score."""
    assert MapSpec(size_hw=(4, 4), smooth_taps=1, top_fraction=1e-9).top_k == 1
    assert MapSpec(size_hw=(64, 64), top_fraction=0.01).top_k == 41


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": math.inf},
        {"target_frr": 0.0},
        {"target_frr": 1.0},
        {"bound_frr": 1.5},
        {"confidence": 0.0},
        {"n_images": 0},
        {"n_images": 2.0},
        {"method": None},
        {"data_sha256": 5},
    ],
)
def test_threshold_names_the_wrong_field(wrong: dict[str, Any]) -> None:
    """An operating point without meaning is refused by field."""
    with pytest.raises(ConfigError, match=rf"Threshold\.{next(iter(wrong))}"):
        Threshold(**{**to_json(THRESHOLD), **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"score": np.zeros(3, np.float32)},
        {"score": np.zeros((2, 1), np.float32)},
        {"map": np.zeros((2, 4), np.float32)},
        {"map": np.zeros((1, 4, 4), np.float32)},
        {"u": np.zeros((), np.float32)},
        {"gamma": np.zeros(2, np.float64)},
        {"novelty": np.zeros(3, np.float32)},
    ],
)
def test_prediction_shows_shapes_and_dtypes_that_disagree(wrong: dict[str, Any]) -> None:
    """Arrays that do not belong together never become a prediction."""
    with pytest.raises(ConfigError, match=r"Prediction: got .* expected"):
        prediction(**wrong)


def test_raw_values_undo_the_alignment() -> None:
    """raw_score and raw_map give back the detector's own units, at the smallest spread too."""
    u = np.array([0.1, 0.2], np.float32)
    gamma = np.array([0.5, 0.2], np.float32)  # the second spread is clamped
    maps = np.random.default_rng(0).random((2, 4, 4), np.float32)
    aligned = prediction(map=normalise(maps, u, gamma), u=u, gamma=gamma)
    np.testing.assert_allclose(aligned.raw_map, maps, atol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("field", ["score", "map", "u", "gamma", "novelty"])
def test_finite_finds_every_bad_number(field: str, bad: float) -> None:
    """One NaN or infinity anywhere in a row marks that row and no other."""
    whole = prediction(3)
    array = getattr(whole, field).copy()
    array[1] = bad
    assert prediction(3, **{field: array}).finite().tolist() == [True, False, True]


@pytest.mark.parametrize(("value", "novel"), [(0.0, False), (1.0, False), (1.001, True), (math.nan, True)])
def test_novel_is_what_lies_beyond_the_limit(value: float, novel: bool) -> None:
    """1.0 is the last known picture; a novelty that is no number is novel."""
    assert prediction(1, novelty=np.array([value], np.float32)).novel().tolist() == [novel]


@pytest.mark.parametrize("u", [1e-3, 0.1, 7.7, 300.0])
def test_guarded_sees_the_clamp_through_rounding(u: float) -> None:
    """gamma = u + MIN_SPREAD counts as clamped at every u, and the double of it does not where float32 can tell."""
    low = np.array([u, u], np.float32)
    high = low + np.array([MIN_SPREAD, 2 * MIN_SPREAD + 1e-4 * u], np.float32)
    assert prediction(u=low, gamma=high).guarded().tolist() == [True, False]


def test_take_gives_rows_in_the_order_asked() -> None:
    """Rows are picked from every array alike."""
    whole = prediction(3, score=np.array([1.0, 2.0, 3.0], np.float32))
    assert whole.take([2, 0]).score.tolist() == [3.0, 1.0]
    assert len(whole.take([])) == 0


def test_concatenate_keeps_order_and_refuses_nothing_at_all() -> None:
    """Batches join in order; an empty list is an error, not an empty prediction."""
    first = prediction(1, score=np.array([1.0], np.float32))
    second = prediction(2, score=np.array([2.0, 3.0], np.float32))
    joined = Prediction.concatenate([first, second])
    assert joined.score.tolist() == [1.0, 2.0, 3.0]
    assert len(joined) == 3
    with pytest.raises(ConfigError, match="at least one batch"):
        Prediction.concatenate([])


@pytest.mark.parametrize(
    ("score", "threshold"), [(None, 1.0), (1.0, None), (2.0, 1.0), (math.nan, 1.0), (-math.inf, 1.0), (1.0, math.inf)]
)
def test_an_ok_without_grounds_cannot_be_built(score: float | None, threshold: float | None) -> None:
    """No code path can make an ``ok`` without a finite score within a finite threshold."""
    with pytest.raises(ConfigError, match="for an ok"):
        Verdict("ok", score, threshold, "cam", 1, 0, 0, "because")


def test_only_ok_passes() -> None:
    """``undecided`` is a reject like ``ng``."""
    passed = {s: Verdict(s, 0.5, 1.0, "cam", 1, 0, 0, "").passed for s in ("ok", "ng", "undecided")}
    assert passed == {"ok": True, "ng": False, "undecided": False}


@given(cls=st.sampled_from([ImageSpec, MapSpec, Threshold]), data=st.data())
def test_no_json_value_gets_past_the_nouns(cls: type[Any], data: st.DataObject) -> None:
    """Any JSON value in any field either makes a valid object or a ConfigError, nothing else."""
    base = to_json(THRESHOLD if cls is Threshold else cls())
    field = data.draw(st.sampled_from(sorted(base)))
    try:
        made = from_json(cls, {**base, field: data.draw(junk)})
    except ConfigError:
        return
    assert from_json(cls, to_json(made)) == made


@pytest.mark.parametrize("document", [None, [], "x", {"unknown": 1}, {"size_hw": {"a": 1}}])
def test_from_json_refuses_what_is_no_such_object(document: object) -> None:
    """Wrong documents and unknown keys are named, never ignored."""
    with pytest.raises(ConfigError, match="ImageSpec"):
        from_json(ImageSpec, document)
