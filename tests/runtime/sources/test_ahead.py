from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from runtime_kit import picture, wait_until

from cada_edge.imaging import read_image, write_png
from cada_edge.runtime.sources import ahead as module
from cada_edge.runtime.sources.ahead import ReadAhead
from cada_edge.runtime.sources.folder import FolderSource

READS = list[Path]


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures of levels 0, 1 and 2, written long enough ago to be trusted on this file system."""
    monkeypatch.setattr(module, "_SETTLED_NS", 50_000_000)
    for level in range(3):
        write_png(tmp_path / f"{level}.png", picture(level))
    time.sleep(0.1)
    return tmp_path


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> READS:
    """Every file of this test that is read, in order; a thread of the test before may still be at one of its own."""
    found = READS()

    def note(path: Path) -> np.ndarray:
        image = read_image(path)
        if path.parent == tmp_path:
            found.append(path)
        return image

    monkeypatch.setattr(module, "read_image", note)
    return found


def level(image: np.ndarray | None) -> int | None:
    """The one grey level of a picture."""
    return None if image is None else int(image[0, 0, 0])


def threads() -> Iterator[threading.Thread]:
    """Those that read ahead."""
    return (one for one in threading.enumerate() if one.name == "cada-edge-read-ahead")


def test_one_picture_is_read_before_it_is_asked_for_and_no_more(images: Path, reads: READS) -> None:
    """While the first picture is inspected the second is read, the third is not; none is read twice."""
    frames = FolderSource(images).frames()
    assert level(next(frames).image) == 0
    wait_until(lambda: len(reads) == 2)
    time.sleep(0.05)
    assert [path.name for path in reads] == ["0.png", "1.png"]
    assert [level(frame.image) for frame in frames] == [1, 2]
    assert len(reads) == 3


def test_a_picture_is_captured_when_it_is_asked_for(images: Path, reads: READS) -> None:
    """A triggered station takes no picture from before its trigger: what was read ahead is of now."""
    frames = FolderSource(images).frames()
    next(frames)
    wait_until(lambda: len(reads) == 2)
    trigger_ns = time.monotonic_ns()
    frame = next(frames)
    assert frame.t_arrival_ns >= frame.t_capture_ns >= trigger_ns


@pytest.mark.parametrize("in_place", [False, True])
def test_a_file_replaced_after_it_was_read_ahead_is_read_again(images: Path, reads: READS, in_place: bool) -> None:
    """The picture given is the one that lies there when it is asked for, though its time of writing is the same."""
    before, other = (images / "1.png").stat(), images / "other"
    write_png(other, picture(77))
    frames = FolderSource(images).frames()
    next(frames)
    wait_until(lambda: len(reads) == 2)
    if in_place:
        (images / "1.png").write_bytes(other.read_bytes())
    else:
        other.replace(images / "1.png")
    os.utime(images / "1.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert level(next(frames).image) == 77


def test_a_file_that_vanishes_or_is_cut_short_is_an_incomplete_frame(images: Path, reads: READS) -> None:
    """What was read ahead of a file that is gone or damaged by now is not judged."""
    frames = FolderSource(images).frames()
    next(frames)
    wait_until(lambda: len(reads) == 2)
    (images / "1.png").unlink()
    assert next(frames).status == "incomplete"
    wait_until(lambda: len(reads) == 3)
    with (images / "2.png").open("r+b") as stream:
        stream.truncate(40)
    assert next(frames).status == "incomplete"


def test_a_file_that_is_completed_meanwhile_is_given_whole(images: Path) -> None:
    """A picture that was half there when it was read ahead is read again when it is whole."""
    whole = (images / "1.png").read_bytes()
    (images / "1.png").write_bytes(whole[:40])
    frames = FolderSource(images).frames()
    next(frames)
    time.sleep(0.1)
    (images / "1.png").write_bytes(whole)
    assert level(next(frames).image) == 1


@pytest.mark.parametrize("age_s", [0.0, 1.0])
def test_a_file_written_a_moment_ago_is_not_trusted(tmp_path: Path, reads: READS, age_s: float) -> None:
    """Within the steps of a file system's clock, 2 s for FAT, a second change would not show: it is read again."""
    write_png(tmp_path / "0.png", picture(5))
    time.sleep(age_s)
    ahead = ReadAhead()
    ahead.want(tmp_path / "0.png")
    wait_until(lambda: len(reads) == 1)
    assert level(ahead.take(tmp_path / "0.png")) == 5
    assert len(reads) == 2
    ahead.close()


def test_an_unexpected_error_arises_at_its_own_picture(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no picture should cause is told to who asks for that picture, not lost in a thread."""

    def fail(path: Path) -> np.ndarray:
        if path.name == "1.png":
            raise MemoryError("no room")
        return read_image(path)

    monkeypatch.setattr(module, "read_image", fail)
    frames = FolderSource(images).frames()
    assert level(next(frames).image) == 0
    with pytest.raises(MemoryError):
        next(frames)


def test_no_thread_is_left(images: Path) -> None:
    """Whether the pictures end, the source is closed or nobody asks any more: reading ahead ends too."""
    list(FolderSource(images).frames())
    closed = FolderSource(images, loop=True)
    frames = closed.frames()
    next(frames)
    closed.close()
    assert next(frames, None) is None
    dropped = FolderSource(images, loop=True).frames()
    next(dropped)
    del dropped
    wait_until(lambda: not list(threads()))
