"""Pictures in and out: one way to read, one way to resize, one way to write.

Training, calibration, the line and the tests all read through `read_image` and resize
through `prepare`, so that a score never depends on who opened the file.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import tempfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from cada_edge.errors import ConfigError, DataError
from cada_edge.files import is_special
from cada_edge.types import ImageSpec, UInt8Array

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
MAX_PIXELS = 100_000_000
MIN_SIDE_PX = 8

_DEEP_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_FLAT_MODES = frozenset({"1", "L", "P", "RGB", "RGBX"})
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_ADVICE = {
    "CMYK": "inks have no fixed colour without a profile; convert it to RGB and save it again",
    "F": "floating-point pixels have no fixed range; scale them to 8 or 16 bit and save it again",
}
# Everything Pillow's decoders are known to raise on damaged files.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> UInt8Array:
    """Read one picture as uint8 (H, W, 3) RGB, upright.

    The EXIF orientation is applied. Grey, 1-bit and palette pictures become RGB. 16-bit
    pictures keep their high byte (full range, ``>> 8``), never a per-image stretch. An
    alpha channel is dropped only if it is opaque everywhere.

    Args:
        path: a PNG, JPEG, BMP, TIFF or WEBP file with one frame.
        max_pixels: larger pictures are refused from their header, before any pixel is
            decoded. Pillow's own limit of about 178 million holds as well.

    Raises:
        DataError: the file is missing, no picture, damaged, too large, smaller than 8 px,
            animated, or in a mode without one clear meaning (CMYK, float, transparency).
    """
    return _to_rgb(path, _load(path, max_pixels))


def read_mask(path: Path, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.bool_]:
    """Read a ground-truth mask as bool (H, W): True wherever a pixel is not black.

    Raises `DataError` as `read_image` does.
    """
    image = _load(path, max_pixels)
    if image.mode in _DEEP_MODES:  # the high byte alone would lose small labels
        return np.asarray(np.asarray(image) != 0, np.bool_)
    return np.asarray(_to_rgb(path, image).any(axis=2))


def image_digest(path: Path) -> str:
    """sha256 of the file's bytes, 64 hex digits. Raises `DataError`."""
    try:
        with path.open("rb") as stream:
            digest = hashlib.sha256()
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror or error}") from error
    return digest.hexdigest()


def as_rgb(image: npt.NDArray[np.generic]) -> UInt8Array:
    """View or copy of uint8 (H, W), (H, W, 1) or (H, W, 3) as (H, W, 3).

    Raises `DataError` for any other dtype or shape, and for an empty picture.
    """
    rank_ok = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))
    if image.dtype != np.uint8 or not rank_ok or 0 in image.shape:
        raise DataError(
            f"picture has shape {image.shape} and dtype {image.dtype}, "
            "expected uint8 (H, W), (H, W, 1) or (H, W, 3) with no empty side"
        )
    planes = image if image.ndim == 3 else image[:, :, None]
    if planes.shape[2] == 1:
        planes = np.repeat(planes, 3, axis=2)
    return np.ascontiguousarray(planes, dtype=np.uint8)


def prepare(image: UInt8Array, spec: ImageSpec, out: UInt8Array | None = None) -> UInt8Array:
    """Fit a picture of any size into the model's input.

    Args:
        image: uint8 (H, W, 3) RGB; grey (H, W) or (H, W, 1) is accepted.
        spec: its `size_hw` and `resize` rule decide; letterbox pads with `mean`.
        out: uint8 (size_hw[0], size_hw[1], 3), contiguous, to write into; a new array where absent.

    Returns:
        `out`, or uint8 (size_hw[0], size_hw[1], 3), contiguous, which may be `image` itself
        when it already fits.
    """
    rgb = as_rgb(image)
    if spec.resize == "stretch":
        return _resize(rgb, *spec.size_hw, out)
    top, left, height, width = placement((rgb.shape[0], rgb.shape[1]), spec)
    canvas = np.empty((*spec.size_hw, 3), np.uint8) if out is None else out
    canvas[:] = np.clip(np.rint(spec.mean), 0, 255).astype(np.uint8)
    _resize(rgb, height, width, canvas[top : top + height, left : left + width])
    return canvas


def placement(image_hw: tuple[int, int], spec: ImageSpec) -> tuple[int, int, int, int]:
    """Where `prepare` puts a picture of `image_hw` in the input: top, left, height, width, in input pixels."""
    height, width = spec.size_hw
    if spec.resize == "stretch":
        return 0, 0, height, width
    scale = min(height / image_hw[0], width / image_hw[1])
    inner_h, inner_w = (
        min(side, max(1, round(length * scale))) for side, length in zip(spec.size_hw, image_hw, strict=True)
    )
    return (height - inner_h) // 2, (width - inner_w) // 2, inner_h, inner_w


def write_png(path: Path, image: UInt8Array, compress_level: int = 3) -> None:
    """Write uint8 (H, W) or (H, W, 3) RGB as PNG, whole or not at all.

    `compress_level` is zlib's, 0..9. Raises `DataError` when the disk is full or the
    place cannot be written; a file that was there before is then untouched.
    """
    _write_image(path, image, "PNG", compress_level=compress_level)


def write_jpeg(path: Path, image: UInt8Array, quality: int = 90) -> None:
    """Write uint8 (H, W) or (H, W, 3) RGB as JPEG, whole or not at all; `quality` 1..95.

    Raises `DataError` as `write_png` does.
    """
    if not 1 <= quality <= 95:
        raise ConfigError(f"quality: got {quality!r}, expected an integer in 1..95")
    _write_image(path, image, "JPEG", quality=quality)


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to a temporary file beside `path`, then rename it into place.

    Raises `DataError`; nothing half-written stays behind, and a device or pipe is never replaced.
    """
    if is_special(path):
        raise DataError(f"{path}: cannot write the file: it is a device or a pipe; name a file")
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise DataError(f"{path}: cannot write the file: {error.strerror or error}") from error


def _write_image(path: Path, image: UInt8Array, kind: str, **options: int) -> None:
    grey = image.ndim == 2
    pixels = as_rgb(image)[:, :, 0] if grey else as_rgb(image)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    write_atomic(path, buffer.getvalue())


def _resize(image: UInt8Array, height: int, width: int, out: UInt8Array | None = None) -> UInt8Array:
    """Average where an axis shrinks, then interpolate where it grows; into `out` where there is one.

    In two steps because cv2's INTER_AREA averages only if neither axis grows: a long
    thin picture would otherwise be sampled at single pixels.
    """
    small_h, small_w = min(height, image.shape[0]), min(width, image.shape[1])
    grows = (small_h, small_w) != (height, width)
    if (small_h, small_w) != image.shape[:2]:
        image = _scaled(image, small_h, small_w, cv2.INTER_AREA, None if grows else out)
    if grows:
        image = _scaled(image, height, width, cv2.INTER_LINEAR, out)
    if out is None or np.shares_memory(image, out):
        return image
    out[:] = image
    return out


def _scaled(image: UInt8Array, height: int, width: int, how: int, out: UInt8Array | None) -> UInt8Array:
    return np.asarray(cv2.resize(image, (width, height), dst=out, interpolation=how), np.uint8)


def _load(path: Path, max_pixels: int) -> Image.Image:
    """Open, check the header, decode and turn upright; every failure is a `DataError`."""
    _check_file(path)
    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_header(path, image, max_pixels)
            image.load()
            return ImageOps.exif_transpose(image)
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not a picture; expected {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: {error}; at most {max_pixels} pixels are read; scale it down") from error
    except _DECODE_ERRORS as error:
        raise DataError(f"{path}: damaged or truncated picture: {error}; copy or record it again") from error


def _check_file(path: Path) -> None:
    """A regular file with at least one byte; a pipe or device would block the reader."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot read the file: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise DataError(f"{path}: is {kind}, expected a picture file")
    if status.st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes); copy or record it again")
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: no permission to read the file; check its owner and mode")


def _check_header(path: Path, image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise DataError(
            f"{path}: {width} x {height} px are {width * height} pixels, at most {max_pixels} are read; scale it down"
        )
    if min(width, height) < MIN_SIDE_PX:
        raise DataError(f"{path}: {width} x {height} px, expected at least {MIN_SIDE_PX} px on each side")
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise DataError(f"{path}: holds {frames} frames or pages, expected 1; save each as its own file")


def _to_rgb(path: Path, image: Image.Image) -> UInt8Array:
    if image.mode in _DEEP_MODES:
        return as_rgb(_high_byte(path, image))
    if image.mode not in _FLAT_MODES | _ALPHA_MODES:
        advice = _ADVICE.get(image.mode, "convert it to RGB or grey and save it again")
        raise DataError(f"{path}: colour mode is {image.mode}, expected RGB or grey; {advice}")
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        image = _opaque(path, image)
    return np.array(image.convert("RGB"), np.uint8)


def _high_byte(path: Path, image: Image.Image) -> UInt8Array:
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise DataError(f"{path}: pixel values span {low}..{high}, expected 16 bit (0..65535); save it as 16 bit")
    return (values >> 8).astype(np.uint8)


def _opaque(path: Path, image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    lowest = int(np.asarray(rgba.getchannel("A")).min())
    if lowest < 255:
        raise DataError(
            f"{path}: partly transparent (alpha down to {lowest}, expected 255 everywhere); "
            "flatten it onto its background and save it again"
        )
    return rgba
