from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_kit import make_frame

from cada_edge.errors import DataError
from cada_edge.imaging import write_png
from cada_edge.runtime.sources.config import Roi, Rotation
from cada_edge.runtime.sources.prepare import MAX_GAIN, Preparation, flat_field_gain, mean_picture
from cada_edge.types import UInt8Array


def scene(height: int = 24, width: int = 32) -> UInt8Array:
    """A picture in which every pixel tells where it is: red the column, green the row."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.asarray(np.stack([columns, rows, np.full_like(rows, 7)], axis=2), np.uint8)


def shaded(height: int = 24, width: int = 32) -> UInt8Array:
    """An empty scene, lit from the right."""
    light = np.linspace(60, 180, width)[None, :, None] * np.array([1.0, 0.9, 0.7])
    return np.array(np.broadcast_to(light, (height, width, 3)), np.uint8)


def test_a_region_is_cut_in_the_cameras_pixels() -> None:
    """The first pixel of the result is the one at x, y of the camera's picture."""
    part = Preparation(Roi(x=5, y=3, width=10, height=8))(scene())
    assert part.shape == (8, 10, 3)
    assert part[0, 0].tolist() == [5, 3, 7]
    assert part[-1, -1].tolist() == [14, 10, 7]


@pytest.mark.parametrize(
    ("rotate", "corner"), [(0, [0, 0, 7]), (90, [0, 23, 7]), (180, [31, 23, 7]), (270, [31, 0, 7])]
)
def test_rotation_is_clockwise(rotate: Rotation, corner: list[int]) -> None:
    """The pixel that comes to the upper left is the one a clockwise turn brings there."""
    turned = Preparation(rotate=rotate)(scene())
    assert turned.shape == ((24, 32, 3) if rotate in (0, 180) else (32, 24, 3))
    assert turned[0, 0].tolist() == corner


def test_a_flat_field_evens_the_light_and_keeps_the_colour(tmp_path: Path) -> None:
    """The empty scene itself becomes even; each channel keeps its mean."""
    write_png(tmp_path / "flat.png", shaded())
    even = Preparation(flat_field=tmp_path / "flat.png")(shaded())
    assert np.ptp(even.reshape(-1, 3), axis=0).max() <= 2
    assert np.abs(even.mean(axis=(0, 1)) - shaded().mean(axis=(0, 1))).max() <= 1


def test_region_flat_field_and_rotation_agree_on_pixels(tmp_path: Path) -> None:
    """A region of an evened picture is even too: the flat field is cut where the picture is."""
    write_png(tmp_path / "flat.png", shaded())
    both = Preparation(Roi(x=16, y=2, width=12, height=9), 90, tmp_path / "flat.png")(shaded())
    assert both.shape == (12, 9, 3)
    assert np.ptp(both.reshape(-1, 3), axis=0).max() <= 2


@given(st.lists(st.integers(0, 255), min_size=12, max_size=12))
def test_gains_are_bounded(levels: list[int]) -> None:
    """No pixel is multiplied by more than the limit, not even one that is black; or the picture is refused."""
    picture = np.array(levels, np.uint8).reshape(2, 2, 3)
    try:
        gain = flat_field_gain(picture)
    except DataError:
        return
    assert gain.shape == picture.shape
    assert gain.min() >= 1 / MAX_GAIN
    assert gain.max() <= MAX_GAIN


@pytest.mark.parametrize("level", [3, 254])
def test_a_dark_or_burnt_flat_field_is_refused(tmp_path: Path, level: int) -> None:
    """A flat field taken with the lamp off, or overexposed, is an error that names the file."""
    write_png(tmp_path / "flat.png", np.full((24, 32, 3), level, np.uint8))
    with pytest.raises(DataError, match=r"flat\.png.*expected 16..250"):
        Preparation(flat_field=tmp_path / "flat.png")


@pytest.mark.parametrize("roi", [Roi(x=30, y=0, width=8, height=8), Roi(x=0, y=20, width=8, height=8)])
def test_a_region_beyond_the_picture_makes_an_incomplete_frame(roi: Roi) -> None:
    """A camera that suddenly gives smaller pictures ends no line; the frame says both sizes."""
    frame = Preparation(roi).frame(make_frame(image=scene()))
    assert (frame.status, frame.image) == ("incomplete", None)
    assert "32 x 24" in frame.note


def test_a_flat_field_of_another_size_makes_an_incomplete_frame(tmp_path: Path) -> None:
    """A flat field never is stretched over a picture it was not taken for."""
    write_png(tmp_path / "flat.png", shaded(24, 40))
    frame = Preparation(flat_field=tmp_path / "flat.png").frame(make_frame(image=scene()))
    assert frame.status == "incomplete"
    assert "40 x 24" in frame.note


def test_a_frame_without_picture_stays_as_it_is() -> None:
    """What the source said of a lost picture is not overwritten."""
    lost = make_frame(image=None, status="incomplete", note="packets lost")
    assert Preparation(rotate=90).frame(lost) == lost


def test_the_mean_of_pictures_has_less_noise_than_each() -> None:
    """Sixteen noisy pictures average to a quarter of the noise."""
    noise = np.random.default_rng(0)
    pictures = [np.clip(noise.normal(100, 8, (32, 32, 3)), 0, 255).astype(np.uint8) for _ in range(16)]
    assert mean_picture(pictures).std() < pictures[0].std() / 3
    with pytest.raises(DataError, match="all of one size"):
        mean_picture([scene(), shaded(30, 30)])
