from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from runtime_kit import picture

from cada_edge.errors import CadaEdgeError, ConfigError, SourceError
from cada_edge.imaging import write_png
from cada_edge.protocols import Source
from cada_edge.runtime.sources.camera import CameraOptions, CameraSource
from cada_edge.runtime.sources.device import CameraSettings, Shot
from cada_edge.runtime.sources.folder import FolderSource
from cada_edge.runtime.sources.opencv import OPEN_TIMEOUT_MS, CaptureDevice, VideoSource, _controls, to_rgb
from cada_edge.runtime.sources.uri import open_source, redact

QUICK = CameraOptions(stall_s=0.5, back_off_s=0.01, back_off_max_s=0.02)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two good pictures and a broken one between them."""
    (tmp_path / "sub").mkdir()
    write_png(tmp_path / "a.png", picture(1))
    (tmp_path / "b.png").write_bytes(b"\x89PNG but no more")
    write_png(tmp_path / "sub" / "c.png", picture(3))
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A video of 12 frames whose brightness grows by 20 each."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for index in range(12):
        writer.write(np.full((48, 64, 3), 20 * index, np.uint8))
    writer.release()
    return path


class Script:
    """A camera by script: each step is a grey level, or what happens instead."""

    def __init__(self, steps: Iterator[Any]) -> None:
        self._steps, self.released = steps, False

    def isOpened(self) -> bool:  # noqa: N802  # OpenCV's name
        """True, as OpenCV says even of a dead stream."""
        return True

    def read(self) -> tuple[bool, Any]:
        """Play the next step."""
        step = next(self._steps, "end")
        if step == "end":
            return False, None
        if isinstance(step, threading.Event):
            step.wait(30)
            return False, None
        time.sleep(0.002)
        return True, np.full((4, 4, 3), step, np.uint8)

    def release(self) -> None:
        """Remember it."""
        self.released = True


def scripts(*takes: Any) -> tuple[Callable[[], Script], list[Script]]:
    """An opener that plays one script after the other, for ever the last."""
    opened: list[Script] = []

    def open_next() -> Script:
        steps = takes[min(len(opened), len(takes) - 1)]
        opened.append(Script(iter(steps)))
        return opened[-1]

    return open_next, opened


def camera(open_next: Callable[[], Script], options: CameraOptions = QUICK, name: str = "cam") -> CameraSource:
    """A camera that plays scripts."""
    return CameraSource(partial(CaptureDevice, open_next, name), name, options=options)


def test_a_folder_gives_its_pictures_in_order(images: Path) -> None:
    """Pictures come sorted, sub-folders included, other files left out, ids without a gap."""
    frames = list(FolderSource(images, "cam1").frames())
    assert [f.name for f in frames] == ["a.png", "b.png", "sub/c.png"]
    assert [f.frame_id for f in frames] == [0, 1, 2]
    assert {f.source_id for f in frames} == {"cam1"}


def test_a_broken_picture_is_an_incomplete_frame(images: Path) -> None:
    """A damaged file gives a frame without image; the next one comes as usual."""
    frames = list(FolderSource(images).frames())
    assert [(f.status, f.image is None) for f in frames] == [("ok", False), ("incomplete", True), ("ok", False)]


def test_a_folder_can_loop(images: Path) -> None:
    """With `loop` the pictures start again and frame ids go on."""
    source = FolderSource(images, loop=True)
    frames = list(itertools.islice(source.frames(), 7))
    assert [f.frame_id for f in frames] == list(range(7))
    assert source.healthy()


def test_closing_ends_a_paced_source_at_once(images: Path) -> None:
    """A source waiting for its next slot does not wait it out after `close`."""
    source = FolderSource(images, fps=0.001)
    frames = source.frames()
    next(frames)
    threading.Timer(0.05, source.close).start()
    assert next(frames, None) is None
    assert not source.healthy()


@pytest.mark.parametrize("make", [lambda p: p / "absent", lambda p: p])
def test_a_folder_without_pictures_is_refused(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """An absent and an empty folder are errors that name the path."""
    with pytest.raises(SourceError, match=str(tmp_path)):
        FolderSource(make(tmp_path))


def test_a_video_gives_every_frame_in_order(video: Path) -> None:
    """Twelve frames in, twelve out, RGB, ascending in brightness as recorded."""
    source = open_source(str(video))
    frames = list(source.frames())
    levels = [int(f.image.mean()) for f in frames if f.image is not None]
    assert len(levels) == 12
    assert levels == sorted(levels)
    assert not source.healthy()


def test_a_truncated_video_ends_without_a_crash(video: Path) -> None:
    """What can be read of a video cut short is given; each frame is whole or marked."""
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    try:
        frames = list(open_source(str(video)).frames())
    except SourceError:
        return
    assert 0 < len(frames) < 12


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    """An empty or foreign file is an error that names it."""
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"x\.mp4"):
        list(open_source(str(path)).frames())


def test_a_video_can_loop() -> None:
    """At its end the file is opened anew, and frame ids go on."""
    open_next, opened = scripts([1, 2], [3, 4], [5])
    frames = list(itertools.islice(VideoSource(open_next, "clip", loop=True).frames(), 5))
    assert [int(f.image[0, 0, 0]) for f in frames if f.image is not None] == [1, 2, 3, 4, 5]
    assert [f.frame_id for f in frames] == [0, 1, 2, 3, 4]
    assert opened[0].released


def test_a_camera_gives_the_newest_frame() -> None:
    """A slow reader gets what the camera saw last; ids and drops account for the rest."""
    open_next, _ = scripts(range(200))
    source = camera(open_next)
    frames = source.frames()
    first = next(frames)
    time.sleep(0.1)
    next(frames)
    later = next(frames)
    assert later.image is not None
    assert later.frame_id == int(later.image[0, 0, 0]) > first.frame_id + 1
    source.close()


def test_a_camera_opened_long_ago_starts_with_its_newest_frame() -> None:
    """What it saw while the model was loading is a drop, not the first part of the line."""
    open_next, _ = scripts(range(200))
    source = camera(open_next)
    time.sleep(0.1)
    first = next(source.frames())
    assert first.frame_id > 0
    assert first.drops == first.frame_id
    source.close()


def test_every_frame_a_camera_saw_is_delivered_or_counted() -> None:
    """Deliveries and drops add up to the last frame id."""
    open_next, _ = scripts(range(100))
    source = camera(open_next)
    seen = []
    for frame in source.frames():
        seen.append(frame)
        time.sleep(0.005)
        if frame.status == "incomplete":
            source.close()
    assert sum(1 + f.drops for f in seen) == seen[-1].frame_id + 1


def test_a_lost_camera_is_told_once_and_opened_anew() -> None:
    """The end of a stream gives one incomplete frame; a new object brings the picture back."""
    open_next, opened = scripts([10], [], [20] * 1000)
    source = camera(open_next)
    frames = list(itertools.islice(source.frames(), 3))
    assert [f.status for f in frames] == ["ok", "incomplete", "ok"]
    assert frames[2].image is not None
    assert frames[2].image[0, 0, 0] == 20
    ids = [f.frame_id for f in frames]
    assert ids == sorted(set(ids))
    assert len(opened) == 3
    assert source.healthy()
    source.close()


def test_a_frozen_camera_does_not_freeze_the_line() -> None:
    """A read that blocks is noticed after `stall_s` and left behind; health falls meanwhile."""
    frozen = threading.Event()
    open_next, opened = scripts([1, frozen], [2] * 1000)
    source = camera(open_next)
    frames = source.frames()
    assert [next(frames).status, next(frames).status] == ["ok", "incomplete"]
    assert not source.healthy()
    assert next(frames).status == "ok"
    frozen.set()
    source.close()
    assert len(opened) == 2


def test_a_camera_that_gives_nothing_is_refused() -> None:
    """No first frame: an error that says what to check."""
    open_next, _ = scripts([])
    with pytest.raises(SourceError, match="cam7: the stream has ended"):
        camera(open_next, name="cam7")


def test_closing_ends_a_camera_that_is_lost() -> None:
    """`close` is noticed while a camera is being waited for."""
    open_next, _ = scripts([1], [])
    source = camera(open_next, CameraOptions(stall_s=0.2, back_off_s=30, back_off_max_s=30))
    frames = source.frames()
    next(frames)
    next(frames)
    threading.Timer(0.05, source.close).start()
    assert next(frames, None) is None


def test_a_camera_that_is_back_is_soon_asked() -> None:
    """However long it was away, and even if an attempt hung on it, the next one comes within three seconds."""
    assert CameraOptions().back_off_max_s <= 3
    assert OPEN_TIMEOUT_MS <= 3000


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [((4, 5), np.uint8, True), ((4, 5, 3), np.uint8, True), ((4, 5, 4), np.uint8, True),
     ((4, 5, 2), np.uint8, False), ((4, 5, 3), np.uint16, False), ((0, 5, 3), np.uint8, False)],
)  # fmt: skip
def test_only_clear_pictures_become_rgb(shape: tuple[int, ...], dtype: Any, expected: bool) -> None:
    """Grey, BGR and BGRA of 8 bit become RGB; anything else is no picture."""
    rgb = to_rgb(np.zeros(shape, dtype))
    assert (rgb is not None) == expected
    assert rgb is None or rgb.shape == (4, 5, 3)


def test_a_picture_that_cannot_be_read_leaves_its_part_undecided() -> None:
    """Pixels that no decoder takes do not end the source: the frame is incomplete and says why."""

    def wrong() -> None:
        raise ValueError("odd width")

    frame = Shot(wrong, 2, 1).frame("cam1", 7, drops=0)
    assert (frame.status, frame.image, frame.note) == ("incomplete", None, "the picture cannot be read: odd width")


def test_blue_stays_blue() -> None:
    """OpenCV's channel order is turned into RGB."""
    rgb = to_rgb(np.array([[[255, 0, 0]]], np.uint8))
    assert rgb is not None
    assert rgb[0, 0].tolist() == [0, 0, 255]


def test_every_kind_of_uri_opens_its_source(images: Path, video: Path) -> None:
    """Folder and video open by uri and by plain path, also relative to a folder given."""
    for uri in (f"folder://{images}?fps=500&loop=0", "folder:sub", str(images), "sub", f"video://{video}", "clip.avi"):
        source = open_source(uri, "cam9", base_dir=images)
        assert isinstance(source, Source)
        frame = next(source.frames())
        assert (frame.source_id, frame.status) == ("cam9", "ok")
        source.close()


def test_a_plain_path_may_hold_odd_characters(tmp_path: Path) -> None:
    """``?`` and ``%`` in a plain path are part of the name."""
    odd = tmp_path / "50% a?b.d"
    odd.mkdir()
    write_png(odd / "a.png", picture(1))
    assert len(list(open_source(str(odd)).frames())) == 1


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("ftp://host/x", "unknown scheme 'ftp'"),
        ("folder:.?speed=3", "unknown options"),
        ("folder:.?fps=fast", "fps is 'fast'"),
        ("folder:.?fps=0", "fps: got 0.0"),
        ("folder:.?fps=nan", "fps: got nan"),
        ("folder:.?loop=maybe", "loop is 'maybe'"),
        ("v4l2:///dev/video99", "no such camera"),
        ("video:absent.mp4", "no such video"),
        ("", "empty"),
    ],
)
def test_a_wrong_uri_says_what_is_wrong(images: Path, uri: str, words: str) -> None:
    """Each mistake has its own words."""
    with pytest.raises(CadaEdgeError, match=words):
        open_source(uri, base_dir=images)


def test_a_password_never_reaches_a_message() -> None:
    """User, password and query of a camera's address are cut out of what people see."""
    secret = "rtsp://admin:hunter2@10.0.0.9:554/s1?token=abc"
    assert redact(secret) == "rtsp://***@10.0.0.9:554/s1"
    with pytest.raises(ConfigError) as caught:
        open_source("http://admin:hunter2@host/x")
    assert "hunter2" not in str(caught.value)


def test_a_v4l2_camera_is_told_in_its_own_units() -> None:
    """Exposure goes to the driver in units of 100 us after automatic exposure is off; white balance is locked."""
    told = _controls(CameraSettings(exposure_us=3000, lock_white_balance=True))
    assert [(name, value) for name, _, value in told] == [
        ("auto_exposure", 1),
        ("exposure_time_absolute", 30),
        ("white_balance_automatic", 0),
    ]
