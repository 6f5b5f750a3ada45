"""Pixels as industrial cameras send them, named as in the Pixel Format Naming Convention, to RGB."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cada_edge.errors import SourceError
from cada_edge.types import UInt8Array


@dataclass(frozen=True)
class PixelFormat:
    """How the bytes of a format are read.

    Attributes:
        channels: per pixel.
        bits: significant ones; more than 8 come as little-endian uint16 and keep their high byte.
        conversion: OpenCV's code to RGB, or ``None`` where it is RGB.
    """

    channels: int
    bits: int
    conversion: int | None


_BAYER = {
    "RG": cv2.COLOR_BayerRGGB2RGB,
    "GR": cv2.COLOR_BayerGRBG2RGB,
    "GB": cv2.COLOR_BayerGBRG2RGB,
    "BG": cv2.COLOR_BayerBGGR2RGB,
}
FORMATS: dict[str, PixelFormat] = {
    **{f"Mono{bits}": PixelFormat(1, bits, cv2.COLOR_GRAY2RGB) for bits in (8, 10, 12, 14, 16)},
    **{f"Bayer{o}{bits}": PixelFormat(1, bits, code) for o, code in _BAYER.items() for bits in (8, 10, 12, 14, 16)},
    **dict.fromkeys(("RGB8", "RGB8Packed"), PixelFormat(3, 8, None)),
    **dict.fromkeys(("BGR8", "BGR8Packed"), PixelFormat(3, 8, cv2.COLOR_BGR2RGB)),
    **dict.fromkeys(("RGBa8", "RGBA8Packed"), PixelFormat(4, 8, cv2.COLOR_RGBA2RGB)),
    **dict.fromkeys(("BGRa8", "BGRA8Packed"), PixelFormat(4, 8, cv2.COLOR_BGRA2RGB)),
    **dict.fromkeys(("YUV422_8", "YCbCr422_8", "YUV422_YUYV_Packed"), PixelFormat(2, 8, cv2.COLOR_YUV2RGB_YUY2)),
    **dict.fromkeys(("YUV422_8_UYVY", "YUV422Packed"), PixelFormat(2, 8, cv2.COLOR_YUV2RGB_UYVY)),
}


def find_format(name: str, label: str) -> PixelFormat:
    """The format of that name. Raises `SourceError` for one that is not read here."""
    if name not in FORMATS:
        raise SourceError(
            f"{label}: sends pixel format {name}, which is not read here; "
            "add ?pixel_format= to its uri with one that both know: Mono8, BayerRG8 and the like, RGB8, BGR8"
        )
    return FORMATS[name]


def decode(data: bytes | bytearray, width: int, height: int, pixel_format: PixelFormat) -> UInt8Array | None:
    """The picture as uint8 (`height`, `width`, 3) RGB, or ``None`` where the bytes are too few for it."""
    dtype = np.dtype(np.uint8 if pixel_format.bits == 8 else "<u2")
    count = width * height * pixel_format.channels
    if min(width, height) < 1 or len(data) < count * dtype.itemsize:
        return None
    raw: npt.NDArray[np.uint8 | np.uint16] = np.frombuffer(data, dtype, count)
    values = raw.reshape(height, width, pixel_format.channels)
    if pixel_format.bits > 8:
        values = (values >> (pixel_format.bits - 8)).astype(np.uint8)
    if pixel_format.conversion is None:
        return np.array(values, np.uint8)
    return np.asarray(cv2.cvtColor(values, pixel_format.conversion), np.uint8)
