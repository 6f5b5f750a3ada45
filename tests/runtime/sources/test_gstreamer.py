"""GStreamer pipelines against GStreamer's own elements."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from runtime_kit import wait_until
from source_kit import lost, need_namespace, until

from cada_edge.errors import ConfigError, SourceError
from cada_edge.protocols import Source
from cada_edge.runtime.sources.camera import CameraOptions
from cada_edge.runtime.sources.device import CameraSettings
from cada_edge.runtime.sources.gstreamer import csi_pipeline
from cada_edge.runtime.sources.uri import open_source, parse, redact

QUICK = CameraOptions(stall_s=1.0, back_off_s=0.05, back_off_max_s=0.1)


@pytest.fixture
def gst() -> None:
    """Skip without GStreamer."""
    need_namespace("GstApp", "1.0", "gir1.2-gst-plugins-base-1.0")


def opened(pipeline: str) -> Source:
    """A pipeline as a source."""
    return open_source(f"gst://{pipeline}", "cam1", camera=QUICK)


@pytest.mark.peer
def test_a_pipeline_gives_its_pictures(gst: None) -> None:
    """Size, colour and order of bytes are right, also where rows are padded; times lie before the arrival."""
    source = opened("videotestsrc is-live=true pattern=red ! video/x-raw,width=322,height=240,framerate=50/1")
    frames = list(itertools.islice(source.frames(), 5))
    source.close()
    for frame in frames:
        assert frame.image is not None
        assert frame.image.shape == (240, 322, 3)
        assert np.unique(frame.image.reshape(-1, 3), axis=0).tolist() == [[255, 0, 0]]
        assert frame.t_capture_ns <= frame.t_arrival_ns


@pytest.mark.peer
def test_a_slow_reader_gets_a_young_picture_and_the_drops(gst: None) -> None:
    """After a pause the picture is one taken since, not one from a queue; what passed is counted."""
    source = opened("videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=100/1")
    frames = source.frames()
    next(frames)
    time.sleep(0.5)
    asked_ns = time.monotonic_ns()
    next(frames)
    frame = next(frames)
    source.close()
    assert frame.t_capture_ns > asked_ns - 200_000_000
    assert frame.frame_id >= 20


@pytest.mark.peer
def test_a_pipeline_that_ends_is_started_anew(gst: None) -> None:
    """The end of a stream gives one incomplete frame that says so; then pictures again."""
    source = opened("videotestsrc is-live=true num-buffers=5 ! video/x-raw,width=64,height=48,framerate=100/1")
    frames = source.frames()
    assert "the pipeline has ended" in until(frames, lost).note
    assert next(frames).status == "ok"
    assert source.healthy()
    source.close()


@pytest.mark.peer
def test_a_pipeline_that_stands_still_is_noticed(gst: None) -> None:
    """A pipeline without a picture for `stall_s` is lost, although it reports no error."""
    source = opened(
        "videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=50/1 ! valve name=v drop-mode=drop-all"
    )
    device = source._grabber  # type: ignore[attr-defined]  # to close the valve as a hung camera would
    frames = source.frames()
    next(frames)
    wait_until(lambda: device._device is not None)
    device._device._pipeline.get_by_name("v").set_property("drop", True)
    assert "no picture for 1 s" in until(frames, lost).note
    source.close()


@pytest.mark.peer
@pytest.mark.parametrize(
    ("pipeline", "words"),
    [
        ("nosuchelement", "nosuchelement"),
        ("videotestsrc ! ! x", "try the pipeline with gst-launch-1.0"),
        ("filesrc location=/nonexistent.ts ! decodebin", "filesrc0: Resource not found"),
    ],
)
def test_a_pipeline_that_cannot_run_says_why(gst: None, pipeline: str, words: str) -> None:
    """A wrong element, a wrong syntax and an absent file have GStreamer's own words."""
    with pytest.raises(SourceError, match=words):
        opened(pipeline)


@pytest.mark.peer
def test_a_csi_camera_needs_a_jetson(gst: None) -> None:
    """Without the Jetson's element the error names it."""
    with pytest.raises(SourceError, match="nvarguscamerasrc"):
        open_source("csi://0", camera=QUICK)


def test_the_csi_pipeline_is_what_the_settings_say() -> None:
    """Exposure in nanoseconds, gain as a factor, size and rate as caps; white balance locked."""
    address = parse("csi://1?width=1920&height=1080&fps=30")
    text = csi_pipeline(address, CameraSettings(exposure_us=2000, gain_db=6, lock_white_balance=True))
    assert text == (
        'nvarguscamerasrc sensor-id=1 exposuretimerange="2000000 2000000" gainrange="1.995 1.995" '
        'ispdigitalgainrange="1 1" awblock=true ! video/x-raw(memory:NVMM),width=1920,height=1080,'
        "framerate=30000/1000 ! nvvidconv ! video/x-raw,format=BGRx"
    )


@pytest.mark.parametrize("uri", ["csi://front", "csi://0 ! filesink location=x", "gst://", "csi://0?width=-3"])
def test_an_odd_address_is_refused(gst: None, uri: str) -> None:
    """A sensor is a number, a pipeline is not empty, a size is positive."""
    with pytest.raises(ConfigError):
        open_source(uri, camera=QUICK)


def test_a_password_in_a_pipeline_reaches_no_message() -> None:
    """Of a pipeline, people see the first element alone."""
    assert redact("gst://rtspsrc location=rtsp://h user-pw=hunter2 ! decodebin") == "gst://rtspsrc"
