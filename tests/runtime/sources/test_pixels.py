from __future__ import annotations

import cv2
import numpy as np
import pytest

from cada_edge.errors import SourceError
from cada_edge.runtime.sources.pixels import FORMATS, decode, find_format

RED = (220, 40, 10)
_RED_AT = {"RG": (0, 0), "GR": (0, 1), "GB": (1, 0), "BG": (1, 1)}  # row and column in a cell of 2 x 2


def mosaic(order: str) -> bytes:
    """Bayer bytes of an even red picture, 16 x 16; the two letters name the first row of the cell."""
    row, column = _RED_AT[order]
    cell = np.full((2, 2), RED[1], np.uint8)
    cell[row, column], cell[1 - row, 1 - column] = RED[0], RED[2]
    return np.tile(cell, (8, 8)).tobytes()


@pytest.mark.parametrize("order", ["RG", "GR", "GB", "BG"])
def test_every_bayer_order_gives_the_colour(order: str) -> None:
    """Red stays red whichever pixel of the sensor is first."""
    image = decode(mosaic(order), 16, 16, FORMATS[f"Bayer{order}8"])
    assert image is not None
    assert image[4:12, 4:12].reshape(-1, 3).mean(axis=0) == pytest.approx(RED, abs=2)


@pytest.mark.parametrize(("name", "order"), [("RGB8", (0, 1, 2)), ("BGR8", (2, 1, 0)), ("RGBa8", (0, 1, 2, 1))])
def test_channel_orders_give_the_colour(name: str, order: tuple[int, ...]) -> None:
    """Packed colours arrive as RGB."""
    data = np.full((4, 6, len(order)), [RED[i] for i in order], np.uint8).tobytes()
    image = decode(data, 6, 4, FORMATS[name])
    assert image is not None
    assert image.shape == (4, 6, 3)
    assert image[0, 0].tolist() == list(RED)


@pytest.mark.parametrize(
    ("name", "code"), [("YUV422_8", cv2.COLOR_RGB2YUV_YUYV), ("YUV422_8_UYVY", cv2.COLOR_RGB2YUV_UYVY)]
)
def test_yuv_gives_the_colour(name: str, code: int) -> None:
    """Both orders of YUV 4:2:2 arrive as the colour they were made of."""
    data = cv2.cvtColor(np.full((4, 6, 3), RED, np.uint8), code).tobytes()
    image = decode(data, 6, 4, FORMATS[name])
    assert image is not None
    assert image[1, 1].tolist() == pytest.approx(RED, abs=6)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_deep_pixels_keep_their_high_byte(bits: int) -> None:
    """White of any depth is 255; half of it is 127: never a stretch to the picture's own range."""
    values = np.array([[0, (1 << bits) // 2 - 1, (1 << bits) - 1]], "<u2")
    image = decode(values.tobytes(), 3, 1, FORMATS[f"Mono{bits}"])
    assert image is not None
    assert image[0, :, 0].tolist() == [0, 127, 255]


@pytest.mark.parametrize(("size", "count"), [((4, 4), 15), ((0, 4), 100), ((4, -1), 100)])
def test_too_few_bytes_are_no_picture(size: tuple[int, int], count: int) -> None:
    """A camera that says one size and sends less gives no picture, and nothing is read beyond it."""
    assert decode(bytes(count), *size, FORMATS["Mono8"]) is None


def test_an_unknown_format_says_what_to_do() -> None:
    """The error names the format and the option that changes it."""
    with pytest.raises(SourceError, match=r"Mono12p.*\?pixel_format="):
        find_format("Mono12p", "aravis://GV01")
