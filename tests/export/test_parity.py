"""The parity gate: it sees every kind of disagreement and says where."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType

import numpy as np
import pytest
from typing_extensions import Self

from cada_edge.errors import ConfigError, ParityError
from cada_edge.export import Tolerance, check_parity
from cada_edge.types import ImageSpec, MapSpec, Prediction, UInt8Array

SPEC, MAP_SPEC = ImageSpec((32, 32)), MapSpec((8, 8), smooth_taps=1)
Change = Callable[[Prediction], Prediction]


class Brightness:
    """A runner whose score is the mean brightness, 0..1, then changed by `change`."""

    spec, map_spec = SPEC, MAP_SPEC

    def __init__(self, change: Change | None = None) -> None:
        self.change = change
        self.sizes: list[int] = []

    def infer(self, batch: UInt8Array) -> Prediction:
        """Judge by brightness."""
        self.sizes.append(len(batch))
        score = (batch.mean(axis=(1, 2, 3)) / 255).astype(np.float32)
        maps = np.repeat(score, 64).reshape(-1, 8, 8)
        prediction = Prediction(score, maps, np.zeros_like(score), np.ones_like(score), np.zeros_like(score))
        return self.change(prediction) if self.change else prediction

    def close(self) -> None:
        """Nothing to free."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def pictures(count: int = 6) -> Iterator[tuple[str, UInt8Array]]:
    """Grey pictures, each brighter than the last."""
    for i in range(count):
        yield f"picture-{i}", np.full((32, 32, 3), 40 * i, np.uint8)


def shifted(by: float) -> Change:
    """Scores and maps moved by a constant."""
    return lambda p: replace(p, score=p.score + np.float32(by), map=p.map + np.float32(by))


def test_equal_runners_pass() -> None:
    """No difference is a passing, truthy report over all images."""
    report = check_parity(Brightness(), Brightness(), pictures())
    assert report
    assert (report.images, report.score.max, report.flips) == (6, 0.0, 0)


def test_batches_of_one_and_of_several_are_both_tried() -> None:
    """The first image goes alone, the rest together."""
    candidate = Brightness()
    check_parity(Brightness(), candidate, pictures(6), batch_size=3)
    assert candidate.sizes == [1, 3, 2]


def test_a_difference_past_the_tolerance_fails() -> None:
    """The error names the output, both values and the image."""
    report = check_parity(Brightness(), Brightness(shifted(0.01)), pictures())
    assert not report
    with pytest.raises(ParityError, match=r"score 0\.01 \(allowed 0\.001\).*picture-"):
        report.require()


def test_a_difference_within_the_tolerance_passes() -> None:
    """Rounding is let through, and measured."""
    report = check_parity(Brightness(), Brightness(shifted(1e-5)), pictures())
    assert report
    assert report.score.max == pytest.approx(1e-5, rel=0.1)


@pytest.mark.parametrize(("level", "passes"), [(0.0, True), (1.0, False)])
def test_novelty_is_compared_where_it_decides(level: float, passes: bool) -> None:
    """Rounding at a prototype, enlarged by the root, passes; the same difference at the limit does not."""
    reference, candidate = (
        Brightness(lambda p, at=at: replace(p, novelty=np.full_like(p.score, at)))  # type: ignore[misc]  # bound now
        for at in (level, level + 2e-3)
    )
    assert bool(check_parity(reference, candidate, pictures())) is passes


def test_one_wrong_cell_of_one_image_is_found() -> None:
    """A single deviating map cell fails the gate and its image is named."""

    def spoil(p: Prediction) -> Prediction:
        maps = p.map.copy()
        maps[p.score > 0.7, 3, 3] += 1
        return replace(p, map=maps)

    report = check_parity(Brightness(), Brightness(spoil), pictures())
    assert not report
    assert (report.worst_image, report.worst_output) == ("picture-5", "map")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_candidate_that_is_not_finite_fails(value: float) -> None:
    """NaN never passes for a small difference."""
    broken = Brightness(lambda p: replace(p, gamma=np.full_like(p.gamma, value)))
    report = check_parity(Brightness(), broken, pictures())
    assert not report
    assert report.gamma.max == np.inf
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["gamma"]["max"] is None


def test_a_model_that_gives_nan_is_blamed_itself() -> None:
    """When the reference is broken the error says so, and does not blame the graph."""
    broken = Brightness(lambda p: replace(p, score=p.score * np.float32(np.nan)))
    with pytest.raises(ParityError, match="the model itself"):
        check_parity(broken, broken, pictures())


def test_flips_at_the_threshold_are_counted() -> None:
    """A score that lies on the threshold may flip within the tolerance; it is reported, not failed."""
    limit = float(np.float32(80 / 255))
    report = check_parity(Brightness(), Brightness(shifted(1e-5)), pictures(), threshold=limit)
    assert report
    assert report.flips == 1


def test_no_image_is_no_proof() -> None:
    """An empty comparison is refused, not passed."""
    with pytest.raises(ConfigError, match="images"):
        check_parity(Brightness(), Brightness(), iter(()))


def test_runners_of_different_contracts_are_not_compared() -> None:
    """Another map size is another model."""
    other = Brightness()
    other.map_spec = MapSpec((4, 4), smooth_taps=1)
    with pytest.raises(ConfigError, match="contracts"):
        check_parity(Brightness(), other, pictures())


@pytest.mark.parametrize("value", [-1e-3, 1.0, float("nan"), True, "0.1"])
def test_a_senseless_tolerance_is_refused(value: object) -> None:
    """A tolerance is a number from 0 to below 1."""
    with pytest.raises(ConfigError, match=r"Tolerance\.score"):
        Tolerance(score=value)  # type: ignore[arg-type]  # the mistake under test
