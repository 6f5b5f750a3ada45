from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cada_edge import imaging
from cada_edge.errors import ConfigError, DataError
from cada_edge.types import ImageSpec, UInt8Array

STRETCH = ImageSpec(size_hw=(64, 96))
LETTERBOX = ImageSpec(size_hw=(64, 96), mean=(10.0, 20.0, 30.0), resize="letterbox")


def picture(height: int = 24, width: int = 32) -> UInt8Array:
    """Reproducible uint8 (height, width, 3)."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    """Save and give the path back."""
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
def test_a_lossless_picture_reads_back_exactly(tmp_path: Path, suffix: str) -> None:
    """Every lossless format gives the very pixels that were saved, as RGB."""
    options = {"lossless": True} if suffix == ".webp" else {}
    path = saved(tmp_path / f"a{suffix}", Image.fromarray(picture()), **options)
    assert np.array_equal(imaging.read_image(path), picture())


def test_grey_one_bit_and_palette_become_rgb(tmp_path: Path) -> None:
    """Pictures with one plane come out with three equal ones, palettes with their colours."""
    grey = picture()[:, :, 0]
    for mode in ("L", "1"):
        image = Image.fromarray(grey).convert(mode)
        read = imaging.read_image(saved(tmp_path / f"{mode}.png", image))
        assert np.array_equal(read, np.asarray(image.convert("RGB")))
    indexed = Image.fromarray(picture()).quantize(16)
    read = imaging.read_image(saved(tmp_path / "p.png", indexed))
    assert np.array_equal(read, np.asarray(indexed.convert("RGB")))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_keeps_the_high_byte(tmp_path: Path, suffix: str) -> None:
    """16-bit grey is scaled by its full range, not by what one picture happens to span."""
    deep = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    read = imaging.read_image(saved(tmp_path / f"deep{suffix}", Image.fromarray(deep)))
    assert np.array_equal(read, np.repeat((deep >> 8).astype(np.uint8)[:, :, None], 3, axis=2))


def test_thirty_two_bit_values_beyond_sixteen_bit_are_refused(tmp_path: Path) -> None:
    """Integers whose range is unknown are not guessed at."""
    path = saved(tmp_path / "i.tif", Image.fromarray(np.full((16, 16), 70_000, np.int32)))
    with pytest.raises(DataError, match=r"span 70000\.\.70000"):
        imaging.read_image(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    """A picture tagged as turned is read upright, in all eight orientations."""
    upright = np.zeros((24, 48, 3), np.uint8)
    upright[:12, :24] = 255
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that stores it turned
    image = Image.fromarray(upright)
    if orientation in undo:
        image = image.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "turned.png", image, exif=exif)
    assert np.array_equal(imaging.read_image(path), upright)


def test_an_opaque_alpha_channel_is_dropped(tmp_path: Path) -> None:
    """Alpha that hides nothing does not matter."""
    rgba = np.dstack([picture(), np.full((24, 32), 255, np.uint8)])
    assert np.array_equal(imaging.read_image(saved(tmp_path / "a.png", Image.fromarray(rgba))), picture())


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_refused(tmp_path: Path, mode: str) -> None:
    """What shows through a transparent picture is unknown, so it is not invented."""
    rgba = np.dstack([picture(), np.full((24, 32), 128, np.uint8)])
    path = saved(tmp_path / "t.png", Image.fromarray(rgba).convert(mode))
    with pytest.raises(DataError, match=r"alpha down to 128.*flatten"):
        imaging.read_image(path)


def test_a_transparent_palette_is_refused(tmp_path: Path) -> None:
    """Transparency can hide in a palette entry, too."""
    path = saved(tmp_path / "t.png", Image.fromarray(picture()).quantize(4), transparency=0)
    with pytest.raises(DataError, match="flatten"):
        imaging.read_image(path)


@pytest.mark.parametrize(("mode", "suffix"), [("CMYK", ".jpg"), ("CMYK", ".tif"), ("F", ".tif"), ("LAB", ".tif")])
def test_modes_without_one_meaning_are_refused(tmp_path: Path, mode: str, suffix: str) -> None:
    """Inks, floats and other colour spaces are refused with the mode and what to do."""
    image = Image.fromarray(picture())
    path = saved(tmp_path / f"m{suffix}", image.convert(mode) if mode != "LAB" else Image.new("LAB", (32, 24)))
    with pytest.raises(DataError, match=f"mode is {mode}.*save it again"):
        imaging.read_image(path)


@pytest.mark.parametrize("suffix", [".tif", ".webp", ".png"])
def test_several_frames_are_refused(tmp_path: Path, suffix: str) -> None:
    """An animation or a stack of pages is not one picture of one part."""
    frames = [Image.fromarray(picture()), Image.fromarray(255 - picture())]
    path = saved(tmp_path / f"many{suffix}", frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="2 frames"):
        imaging.read_image(path)


@pytest.mark.parametrize("size", [(1, 1), (7, 100), (100, 7)])
def test_a_picture_too_small_to_judge_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    """1 x 1 px and the like are named with the size found and the size needed."""
    path = saved(tmp_path / "small.png", Image.new("RGB", size))
    with pytest.raises(DataError, match=f"{size[0]} x {size[1]} px, expected at least 8 px"):
        imaging.read_image(path)


def test_a_huge_picture_is_refused_from_its_header(tmp_path: Path) -> None:
    """20,000 x 20,000 px are refused before a byte of pixels is decoded or allocated."""
    path = tmp_path / "bomb.bmp"
    Image.new("1", (16, 16)).save(path)
    header = bytearray(path.read_bytes())
    header[18:26] = (20_000).to_bytes(4, "little") * 2
    path.write_bytes(header)
    with pytest.raises(DataError, match="at most 100000000"):
        imaging.read_image(path)


def test_the_pixel_limit_is_the_callers_to_set(tmp_path: Path) -> None:
    """One pixel over the limit is refused with both values."""
    path = saved(tmp_path / "a.png", Image.fromarray(picture()))
    assert imaging.read_image(path, max_pixels=24 * 32).shape == (24, 32, 3)
    with pytest.raises(DataError, match="768 pixels, at most 767"):
        imaging.read_image(path, max_pixels=24 * 32 - 1)


@pytest.mark.parametrize("shape", [(16, 20_000), (20_000, 16)])
@pytest.mark.parametrize("spec", [STRETCH, LETTERBOX])
def test_a_long_thin_picture_is_read_and_fitted(tmp_path: Path, shape: tuple[int, int], spec: ImageSpec) -> None:
    """20,000 px on one side is no trouble within the pixel limit."""
    path = saved(tmp_path / "long.png", Image.new("RGB", shape[::-1], (200, 100, 50)))
    fitted = imaging.prepare(imaging.read_image(path), spec)
    assert fitted.shape == (64, 96, 3)
    assert (fitted == (200, 100, 50)).all(axis=2).any()


@pytest.mark.parametrize("content", [b"", b"GIF89a not allowed", b"hello, world" * 50, b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    """Zero bytes, text and a bare signature are named as what they are."""
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.png: (the file is empty|not a picture|damaged)"):
        imaging.read_image(path)


def test_formats_off_the_list_are_never_opened(tmp_path: Path) -> None:
    """A GIF under a PNG's name is refused: only the listed decoders ever see a file."""
    path = tmp_path / "x.png"
    Image.fromarray(picture()).save(path, format="GIF")
    with pytest.raises(DataError, match="not a picture; expected PNG"):
        imaging.read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=25)
@given(share=st.floats(0.0, 0.9))
def test_a_truncated_picture_is_refused(tmp_path_factory: pytest.TempPathFactory, suffix: str, share: float) -> None:
    """Cut anywhere in its first nine tenths, a file raises DataError, never half a picture."""
    path = saved(tmp_path_factory.mktemp("cut") / f"a{suffix}", Image.fromarray(picture(64, 64)))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=r"damaged|not a picture|empty"):
        imaging.read_image(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=150)
@given(suffix=st.sampled_from([".png", ".jpg", ".tif", ".webp", ".bmp"]), data=st.data())
def test_damaged_bytes_give_a_picture_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    """Whatever bytes are changed, no other exception comes out of the decoder."""
    path = saved(tmp_path_factory.mktemp("bits") / f"a{suffix}", Image.fromarray(picture()))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        assert imaging.read_image(path).dtype == np.uint8


def test_missing_files_folders_and_pipes_are_refused(tmp_path: Path) -> None:
    """Each is told apart, and a pipe does not make the reader wait."""
    os.mkfifo(tmp_path / "pipe.png")
    for name, message in (("none.png", "No such file"), ("", "is a folder"), ("pipe.png", "not a regular file")):
        with pytest.raises(DataError, match=message):
            imaging.read_image(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read any file")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    """The message says it is the permission, not the picture."""
    path = saved(tmp_path / "a.png", Image.fromarray(picture()))
    path.chmod(0)
    with pytest.raises(DataError, match="permission"):
        imaging.read_image(path)


@pytest.mark.parametrize("top", [1, 255])
def test_a_mask_is_true_where_it_is_not_black(tmp_path: Path, top: int) -> None:
    """Masks of 0/1 and of 0/255 mean the same."""
    truth = picture()[:, :, 0] > 127
    path = saved(tmp_path / "m.png", Image.fromarray(truth.astype(np.uint8) * np.uint8(top)))
    assert np.array_equal(imaging.read_mask(path), truth)


def test_a_sixteen_bit_mask_keeps_small_labels(tmp_path: Path) -> None:
    """Label 1 in a 16-bit mask is not shifted away."""
    truth = picture()[:, :, 0] > 127
    path = saved(tmp_path / "m.png", Image.fromarray(truth.astype(np.uint16)))
    assert np.array_equal(imaging.read_mask(path), truth)


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    """`image_digest` is what sha256sum prints."""
    path = saved(tmp_path / "a.png", Image.fromarray(picture()))
    assert imaging.image_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(DataError, match=r"none\.png"):
        imaging.image_digest(tmp_path / "none.png")


@settings(max_examples=60)
@given(height=st.integers(1, 300), width=st.integers(1, 300), spec=st.sampled_from([STRETCH, LETTERBOX]))
def test_any_size_fits_any_input(height: int, width: int, spec: ImageSpec) -> None:
    """`prepare` gives the input's size and keeps a flat colour flat."""
    fitted = imaging.prepare(np.full((height, width, 3), (10, 20, 30), np.uint8), spec)
    assert fitted.shape == (64, 96, 3)
    assert (fitted == (10, 20, 30)).all()


@settings(max_examples=60)
@given(height=st.integers(1, 300), width=st.integers(1, 300), spec=st.sampled_from([STRETCH, LETTERBOX]))
def test_a_picture_is_prepared_in_place(height: int, width: int, spec: ImageSpec) -> None:
    """Written into an array of the caller's, the input is the same, whatever was there before."""
    image = np.random.default_rng(height * 300 + width).integers(0, 256, (height, width, 3), np.uint8)
    rows = np.full((2, *spec.size_hw, 3), 77, np.uint8)
    assert np.shares_memory(imaging.prepare(image, spec, rows[1]), rows)
    assert np.array_equal(rows[1], imaging.prepare(image, spec))
    assert (rows[0] == 77).all()


def test_letterbox_centres_the_picture_on_the_mean_colour() -> None:
    """The aspect ratio stays; what is left over is the mean colour, equal on both sides."""
    fitted = imaging.prepare(np.full((50, 50, 3), 255, np.uint8), LETTERBOX)
    assert (fitted[:, 16:80] == 255).all()
    assert (fitted[:, :16] == (10, 20, 30)).all()
    assert (fitted[:, 80:] == (10, 20, 30)).all()


def test_shrinking_one_axis_averages_even_while_the_other_grows() -> None:
    """Fine stripes become their mean, not whichever column was hit."""
    stripes = np.zeros((16, 9600, 3), np.uint8)
    stripes[:, ::2] = 200
    fitted = imaging.prepare(stripes, STRETCH)
    assert np.abs(fitted.astype(int) - 100).max() <= 1


def test_grey_arrays_are_accepted_and_odd_ones_refused() -> None:
    """(H, W) and (H, W, 1) become RGB; wrong ranks, dtypes and empty pictures do not pass."""
    grey = picture()[:, :, 0]
    assert np.array_equal(imaging.prepare(grey, STRETCH), imaging.prepare(grey[:, :, None], STRETCH))
    odd: tuple[Any, ...] = (
        picture().astype(np.float32),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        grey[0],
    )
    for bad in odd:
        with pytest.raises(DataError, match="expected uint8"):
            imaging.prepare(bad, STRETCH)


def test_written_pictures_read_back(tmp_path: Path) -> None:
    """PNG exactly, JPEG nearly; grey stays grey; no temporary file stays behind."""
    imaging.write_png(tmp_path / "a.png", picture())
    imaging.write_png(tmp_path / "g.png", picture()[:, :, 0])
    imaging.write_jpeg(tmp_path / "a.jpg", np.full((24, 32, 3), 90, np.uint8))
    assert np.array_equal(imaging.read_image(tmp_path / "a.png"), picture())
    assert Image.open(tmp_path / "g.png").mode == "L"
    assert np.abs(imaging.read_image(tmp_path / "a.jpg").astype(int) - 90).max() <= 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jpg", "a.png", "g.png"]
    with pytest.raises(ConfigError, match="quality"):
        imaging.write_jpeg(tmp_path / "b.jpg", picture(), quality=0)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from cada_edge import imaging
from cada_edge.errors import DataError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
try:
    imaging.write_png(Path(sys.argv[1]), noise)
except DataError as error:
    sys.exit(str(error))
"""


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """When the write fails half-way, what was there before is still there, whole."""
    path = tmp_path / "a.png"
    imaging.write_png(path, picture())
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "a.png: cannot write the file: File too large" in done.stderr
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_or_pipe_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    """Root who writes to /dev/null would otherwise rename a file over it."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="it is a device or a pipe; name a file"):
        imaging.write_png(tmp_path / "pipe", np.zeros((8, 8, 3), np.uint8))
    assert (tmp_path / "pipe").is_fifo()


def test_writing_into_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """The message names the file that could not be written."""
    with pytest.raises(DataError, match=r"b\.png: cannot write"):
        imaging.write_png(tmp_path / "none" / "b.png", picture())


def test_the_core_does_not_import_imaging() -> None:
    """`import cada_edge` needs neither Pillow nor OpenCV."""
    code = "import sys, cada_edge; sys.exit(bool({'PIL', 'cv2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
