from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from runtime_kit import make_bundle, make_frame, picture

from cada_edge.imaging import write_png
from cada_edge.protocols import Runner
from cada_edge.runtime.judge import Judge
from cada_edge.runtime.runners.ort import OrtRunner
from cada_edge.runtime.sources.config import QualityConfig, SourceConfig
from cada_edge.runtime.sources.open import open_configured
from cada_edge.runtime.sources.quality import QualityGate, measure
from cada_edge.types import UInt8Array


def textured(size: int = 256, seed: int = 0) -> UInt8Array:
    """A sharp picture of medium brightness."""
    blocks = np.random.default_rng(seed).integers(60, 190, (size // 8, size // 8, 3), np.uint8)
    return np.kron(blocks, np.ones((8, 8, 1), np.uint8)).astype(np.uint8)


def gate(**limits: float) -> QualityGate:
    """A camera's gate with these limits."""
    return QualityGate(QualityConfig.model_validate(limits), live=True)


@pytest.mark.parametrize(
    ("image", "limits", "words"),
    [
        (picture(3, 64), {}, "too dark: brightness 3 is below 8"),
        (picture(252, 64), {"max_clipped": 1.0}, "too bright: brightness 252 is above 247"),
        (np.where(textured() > 110, 255, 60).astype(np.uint8), {"max_clipped": 0.1}, "too bright: clipped"),
        (np.asarray(cv2.GaussianBlur(textured(), (0, 0), 6), np.uint8), {"min_sharpness": 100.0}, "blurred: sharpness"),
    ],
)
def test_a_poor_picture_says_why(image: UInt8Array, limits: dict[str, float], words: str) -> None:
    """Too dark, too bright and blurred are told apart, with the value and its limit."""
    frame = gate(**limits).frame(make_frame(image=image))
    assert frame.status == "poor"
    assert words in frame.note


def test_a_good_picture_passes_as_it_is() -> None:
    """The same object comes out, untouched."""
    frame = make_frame(image=textured())
    assert gate(min_sharpness=100.0).frame(frame) is frame


def test_sharpness_falls_with_focus() -> None:
    """The more a scene is blurred, the lower; at camera resolution too."""
    sharp = textured(1024)
    values = [measure(np.asarray(cv2.GaussianBlur(sharp, (0, 0), s), np.uint8)).sharpness for s in (1, 4, 12)]
    assert measure(sharp).sharpness > values[0] > values[1] > values[2]


@pytest.mark.parametrize("size", [(1, 1), (9, 700), (480, 640), (511, 513), (1080, 1921)])
def test_every_size_can_be_measured(size: tuple[int, int]) -> None:
    """No size of picture is special; brightness is that of the picture."""
    found = measure(np.full((*size, 3), 100, np.uint8))
    assert found.brightness == pytest.approx(100, abs=1)
    assert found.sharpness == pytest.approx(0)


def test_the_same_picture_again_is_frozen_and_a_new_one_is_not() -> None:
    """A stale buffer is poor, however often it comes; the next new picture is good again."""
    one = gate()
    images = [textured(seed=0), textured(seed=1), textured(seed=1), textured(seed=1), textured(seed=2)]
    frames = [one.frame(make_frame(image=image)) for image in images]
    assert [frame.status for frame in frames] == ["ok", "ok", "poor", "poor", "ok"]
    assert frames[2].note == "frozen: the same picture again"


def test_noise_of_one_grey_level_is_not_frozen() -> None:
    """A still scene seen by a camera with the least noise passes."""
    noise, one = np.random.default_rng(0), gate()
    frames = [one.frame(make_frame(image=textured() + noise.integers(0, 2, (256, 256, 3), np.uint8))) for _ in range(5)]
    assert {frame.status for frame in frames} == {"ok"}


@pytest.mark.parametrize(("quality", "expected"), [({}, "ok"), ({"frozen": True}, "poor")])
def test_a_folder_may_repeat_itself_unless_told_otherwise(
    tmp_path: Path, quality: dict[str, bool], expected: str
) -> None:
    """Equal pictures in a folder are no stale buffers; who asks for the check gets it."""
    for index in range(2):
        write_png(tmp_path / f"{index}.png", picture(100))
    config = SourceConfig.model_validate({"uri": str(tmp_path), "quality": quality})
    assert [frame.status for frame in open_configured(config).frames()] == ["ok", expected]


def test_a_poor_picture_is_never_judged_ok(tmp_path: Path) -> None:
    """A black picture, which the model would pass, becomes an undecided verdict."""
    write_png(tmp_path / "0.png", picture(0))
    config = SourceConfig.model_validate({"uri": str(tmp_path), "quality": {}})
    (frame,) = open_configured(config).frames()
    with OrtRunner(make_bundle(), threads=1) as runner:
        assert isinstance(runner, Runner)
        judge = Judge(runner, make_bundle().manifest.threshold)
        assert judge.judge(frame).verdict.status == "undecided"
        assert judge.judge(make_frame(0)).verdict.status == "ok"
