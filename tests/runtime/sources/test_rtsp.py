"""Network cameras against GStreamer's RTSP server, which writes the time into each picture."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import campaign_camera
import pytest
from campaign_camera import RUBBISH
from campaign_rig import Program, free_port
from source_kit import RtspCamera, lost, rtsp_camera, until, whole, written_ms

from cada_edge.errors import SourceError
from cada_edge.runtime.sources.camera import CameraOptions
from cada_edge.runtime.sources.rtsp import StreamDevice
from cada_edge.runtime.sources.uri import open_source

pytestmark = pytest.mark.peer
QUICK = CameraOptions(stall_s=1.0, back_off_s=0.1, back_off_max_s=0.2)


@pytest.fixture
def camera() -> Iterator[RtspCamera]:
    """A camera of 25 pictures a second."""
    with rtsp_camera() as one:
        yield one


def test_a_stream_gives_its_pictures_in_order(camera: RtspCamera) -> None:
    """Each frame is younger than the one before; what was not given is counted."""
    source = open_source(camera.url, "cam1", camera=QUICK)
    frames = list(itertools.islice(source.frames(), 25))
    source.close()
    times = [written_ms(frame) for frame in frames]
    assert times == sorted(set(times))
    assert {frame.status for frame in frames} == {"ok"}
    assert sum(1 + frame.drops for frame in frames) == frames[-1].frame_id + 1


def test_pictures_from_before_the_stream_was_open_are_not_taken_for_new(camera: RtspCamera) -> None:
    """FFmpeg opens for a second, then hands out that second: no frame is dated so much later than it was made."""
    source = open_source(camera.url, "cam1", camera=QUICK)
    frames = list(itertools.islice(source.frames(), 10))
    source.close()
    for frame in frames:
        made_ms = written_ms(frame)
        assert frame.t_capture_ns // 1_000_000 - made_ms < 600  # 80 by the encoder; 1100 without the care
        assert frame.t_device_ns


def test_a_slow_line_is_never_behind(camera: RtspCamera) -> None:
    """After two seconds of pause the next picture was made after the pause began; the others are drops."""
    source = open_source(camera.url, "cam1", camera=QUICK)
    frames = source.frames()
    next(frames)
    began_ms = time.monotonic_ns() // 1_000_000 & 0xFFFFFFFF
    time.sleep(2)
    frame = next(frames)
    source.close()
    assert written_ms(frame) > began_ms
    assert frame.drops > 10


def test_a_frozen_camera_is_told_and_comes_back(camera: RtspCamera) -> None:
    """Standing still with the connection open, it is lost; after the thaw come new pictures, none of before."""
    source = open_source(camera.url, "cam1", camera=QUICK)
    frames = source.frames()
    next(frames)
    camera.freeze()
    until(frames, lost)
    assert not source.healthy()
    thawed_ms = time.monotonic_ns() // 1_000_000 & 0xFFFFFFFF
    camera.thaw()
    assert written_ms(until(frames, whole)) >= thawed_ms
    assert source.healthy()
    source.close()


def test_a_restarted_camera_comes_back(camera: RtspCamera) -> None:
    """Killed, it gives one incomplete frame; restarted at the same address, pictures again."""
    source = open_source(camera.url, "cam1", camera=QUICK)
    frames = source.frames()
    next(frames)
    camera.kill()
    gone = until(frames, lost)
    camera.restart()
    assert until(frames, whole).frame_id > gone.frame_id
    source.close()


def test_what_connects_and_sends_no_pictures_is_given_up_when_opening_ends(tmp_path: Path) -> None:
    """FFmpeg calls such a stream open; a read of it would wait two seconds more, and the camera be away for longer."""
    scene, port = tmp_path / "scene", free_port()
    scene.write_bytes(bytes([64, RUBBISH]))
    server = Program([sys.executable, campaign_camera.__file__, str(port), str(scene)], port, tmp_path / "log")
    server.start()
    try:
        with pytest.raises(SourceError, match="no picture within 3 s of connecting"):
            StreamDevice(f"rtsp://127.0.0.1:{port}/part", "cam1")
    finally:
        server.kill()
