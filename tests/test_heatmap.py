from __future__ import annotations

import numpy as np
import pytest

from cada_edge import heatmap
from cada_edge.errors import ConfigError, DataError
from cada_edge.types import Float32Array, ImageSpec, Status

STRETCH, LETTERBOX = ImageSpec((64, 64)), ImageSpec((64, 64), resize="letterbox")
GREY = np.full((48, 64, 3), 120, np.uint8)


def level(value: float, side: int = 8) -> Float32Array:
    """A map of one value, float32 (side, side)."""
    return np.full((side, side), value, np.float32)


def test_colours_are_never_rescaled_per_image() -> None:
    """A value has one colour whatever else the map holds."""
    alone = heatmap.colours(level(0.7))[0, 0]
    crowd = level(0.7)
    crowd[4:] = 50.0
    assert np.array_equal(heatmap.colours(crowd)[0, 0], alone)


def test_values_beyond_the_scale_take_the_end_colours() -> None:
    """Below 0 is 0, above the limit is the limit."""
    assert np.array_equal(heatmap.colours(level(-3)), heatmap.colours(level(0)))
    assert np.array_equal(heatmap.colours(level(9)), heatmap.colours(level(heatmap.LIMIT)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_has_a_colour_of_its_own(value: float) -> None:
    """NaN and infinity are magenta, which the scale does not hold."""
    ramp = heatmap.colours(np.linspace(0, 2, 256, dtype=np.float32)[None])
    assert (heatmap.colours(level(value)) == heatmap.NAN_RGB).all()
    assert not (ramp == heatmap.NAN_RGB).all(axis=2).any()


def test_a_normal_part_shows_the_picture_itself() -> None:
    """Up to half the normal maximum nothing is laid over."""
    assert np.array_equal(heatmap.overlay(GREY, level(0.5), STRETCH), GREY)
    assert not np.array_equal(heatmap.overlay(GREY, level(1.2), STRETCH), GREY)


def test_a_broken_cell_marks_its_own_area_only() -> None:
    """One NaN covers one cell's pixels; its neighbours are still read."""
    values = level(0.0)
    values[0, 0] = np.nan
    shown = heatmap.overlay(GREY, values, STRETCH)
    assert (shown[:6, :8] == heatmap.NAN_RGB).all()
    assert np.array_equal(shown[6:], GREY[6:])
    assert np.array_equal(shown[:, 8:], GREY[:, 8:])


def test_a_hot_corner_stays_in_its_corner() -> None:
    """The map is laid over the picture without flipping or shifting."""
    values = level(0.0)
    values[:2, -2:] = 2.0
    changed = (heatmap.overlay(GREY, values, STRETCH) != GREY).any(axis=2)
    assert changed[0, -1]
    assert not changed[24:].any()
    assert not changed[:, :40].any()


@pytest.mark.parametrize("tall", [False, True])
def test_a_letterboxed_map_lies_where_the_part_is(tall: bool) -> None:
    """What the model saw in its padding is cut off; a spot at the part's end is shown there."""
    picture, values = np.full((32, 128, 3), 120, np.uint8), level(0.0)
    values[[0, 1, 6, 7]] = 9.0  # the padding of a picture four times as wide as high
    values[3:5, 7] = 2.0  # the part's right end
    if tall:
        picture, values = picture.transpose(1, 0, 2), values.T
    changed = (heatmap.overlay(picture, np.ascontiguousarray(values), LETTERBOX) != picture).any(axis=2)
    along, across = (changed.T, changed) if tall else (changed, changed.T)
    assert along[:, -8:].all()
    assert not across[:96].any()


def test_the_legend_runs_from_zero_to_the_limit() -> None:
    """Its top row shows the limit's colour, its bottom row that of 0."""
    strip = heatmap.legend(200, limit=3.0)
    assert strip.shape == (200, 64, 3)
    assert np.array_equal(strip[12, 10], heatmap.colours(level(3.0), 3.0)[0, 0])
    assert np.array_equal(strip[187, 10], heatmap.colours(level(0.0), 3.0)[0, 0])


@pytest.mark.parametrize("shape", [(48, 64), (8, 900), (900, 8), (500, 500)])
@pytest.mark.parametrize("status", ["ok", "ng", "undecided"])
def test_a_panel_takes_any_picture_and_verdict(shape: tuple[int, int], status: Status) -> None:
    """The title bar has the verdict's colour; the longer side of each picture is as asked."""
    image = np.full((*shape, 3), 60, np.uint8)
    score = None if status == "undecided" else 1.25
    shown = heatmap.panel(image, level(0.2), score, 1.1, status, spec=STRETCH, side_px=160)
    assert shown.dtype == np.uint8
    assert tuple(shown[0, 0]) == heatmap.STATUS_RGB[status]
    assert (shown[32:] == 60).all(axis=2).any(axis=1).sum() == max(1, round(shape[0] * 160 / max(shape)))


def test_wrong_settings_and_maps_are_refused() -> None:
    """Each error names what was given and what was expected."""
    with pytest.raises(ConfigError, match=r"limit: got 0\.0"):
        heatmap.overlay(GREY, level(0), STRETCH, limit=0.0)
    with pytest.raises(ConfigError, match="strength: got 2"):
        heatmap.overlay(GREY, level(0), STRETCH, strength=2)
    with pytest.raises(ConfigError, match="height: got 10"):
        heatmap.legend(10)
    with pytest.raises(ConfigError, match="side_px: got 10"):
        heatmap.panel(GREY, level(0), 0.1, 1.0, "ok", spec=STRETCH, side_px=10)
    with pytest.raises(DataError, match=r"shape \(1, 8, 8\), expected \(h, w\)"):
        heatmap.overlay(GREY, level(0)[None], STRETCH)
