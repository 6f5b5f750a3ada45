"""GigE Vision against Aravis' fake camera, an independent program."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest
from runtime_kit import wait_until
from source_kit import FakeCamera, fake_camera, lost, need_namespace, until, whole

from cada_edge.errors import SourceError
from cada_edge.protocols import Source
from cada_edge.runtime.sources.camera import CameraOptions
from cada_edge.runtime.sources.config import SourceConfig
from cada_edge.runtime.sources.device import CameraSettings
from cada_edge.runtime.sources.open import PreparedTriggeredSource, open_configured
from cada_edge.runtime.sources.triggered import SoftwareTriggeredSource
from cada_edge.runtime.sources.uri import open_source

pytestmark = pytest.mark.peer
QUICK = CameraOptions(stall_s=1.0, back_off_s=0.1, back_off_max_s=0.2)


@pytest.fixture
def camera() -> Iterator[FakeCamera]:
    """A camera of serial number GV01 at 127.0.0.1."""
    with fake_camera() as one:
        yield one


def opened(settings: CameraSettings | None = None, options: str = "?fps=50") -> Source:
    """The camera by its address."""
    return open_source(f"aravis://127.0.0.1{options}", "cam1", None, QUICK, settings)


def test_a_camera_is_found_by_serial_number(camera: FakeCamera) -> None:
    """``aravis://GV01`` gives whole pictures with the camera's time, dated before they arrived."""
    source = open_source("aravis://GV01", "cam1", None, QUICK)
    every = source.frames()
    frames = [until(every, whole) for _ in range(5)]
    source.close()
    assert all(frame.image is not None and frame.image.shape == (512, 512, 3) for frame in frames)
    assert all(frame.t_capture_ns <= frame.t_arrival_ns for frame in frames)
    times = [frame.t_device_ns or 0 for frame in frames]
    assert times == sorted(set(times))
    assert times[0] > 0


def test_an_unknown_camera_names_those_that_are_there(camera: FakeCamera) -> None:
    """A wrong serial number is answered with the right ones."""
    with pytest.raises(SourceError, match="found serial numbers: GV01"):
        open_source("aravis://GV02", camera=QUICK)


def test_pixel_formats_exposure_and_frame_rate_are_set(camera: FakeCamera) -> None:
    """What the uri and the settings say reaches the camera: Bayer pictures become RGB."""
    settings = CameraSettings(exposure_us=3000)
    source = opened(settings, "?pixel_format=BayerRG8&fps=40&packet_size=1400")
    frame = until(source.frames(), whole)
    source.close()
    assert frame.image is not None
    assert frame.image.shape == (512, 512, 3)


@pytest.mark.parametrize(
    ("settings", "options", "words"),
    [
        (CameraSettings(lock_white_balance=True), "", "no BalanceWhiteAuto"),
        (CameraSettings(gain_db=2), "", "no Gain"),
        (CameraSettings(trigger="hardware", trigger_line="Line9"), "", "TriggerSource cannot be set to 'Line9'"),
        (None, "?pixel_format=Mono10Packed", "PixelFormat cannot be set"),
    ],
)
def test_what_the_camera_cannot_do_is_said(
    camera: FakeCamera, settings: CameraSettings | None, options: str, words: str
) -> None:
    """A setting that the camera does not have, or refuses, is an error that names the feature."""
    with pytest.raises(SourceError, match=words):
        opened(settings, options)


def test_each_software_trigger_gives_its_picture(camera: FakeCamera) -> None:
    """Thirty triggers, thirty frames, each exposed after its trigger; one may be incomplete on a busy machine."""
    config = SourceConfig.model_validate({"uri": "aravis://127.0.0.1", "trigger": "software", "stall_s": 2.0})
    source = open_configured(config)
    assert isinstance(source, PreparedTriggeredSource)
    frames, good = source.frames(), 0
    for index in range(30):
        before_ns = time.monotonic_ns()
        source.trigger()
        frame = next(frames)
        assert (frame.frame_id, frame.drops) == (index, 0), frame.note
        assert before_ns <= frame.t_capture_ns <= frame.t_arrival_ns
        good += bool(frame.status == "ok" and frame.t_device_ns)
    source.close()
    assert good >= 20


def test_lost_packets_make_incomplete_frames_and_no_wrong_picture() -> None:
    """With packets lost on the way, a picture is whole, or it says so; the camera is not given up."""
    with fake_camera("GV01", "-r", "40"):
        source = opened(options="?fps=100&packet_size=1400")
        frames = list(itertools.islice(source.frames(), 60))
        source.close()
    broken = [frame for frame in frames if frame.status == "incomplete"]
    assert sum(1 + frame.drops for frame in frames) == frames[-1].frame_id + 1
    assert broken or sum(frame.drops for frame in frames)
    assert all(frame.image is None and "incomplete buffer" in frame.note for frame in broken)


def test_a_camera_that_is_gone_is_told_and_comes_back(camera: FakeCamera) -> None:
    """Killed, the camera gives one incomplete frame within the stall; restarted, pictures again."""
    source = opened()
    frames = source.frames()
    next(frames)
    camera.kill()
    gone = until(frames, lost)
    assert not source.healthy()
    assert "no picture for 1 s" in gone.note
    camera.restart()
    assert until(frames, whole).frame_id > gone.frame_id
    assert source.healthy()
    source.close()


def test_a_frozen_camera_comes_back(camera: FakeCamera) -> None:
    """Frozen beyond the time it keeps control, the camera is opened anew after the thaw."""
    source = opened()
    frames = source.frames()
    next(frames)
    camera.freeze()
    until(frames, lost)
    camera.thaw()
    until(frames, whole)
    source.close()


def test_control_lost_is_noticed_without_a_trigger(camera: FakeCamera) -> None:
    """A triggered camera that dies in silence is unhealthy once its heartbeat fails, and each trigger is answered."""
    source = opened(CameraSettings(trigger="software"))
    assert isinstance(source, SoftwareTriggeredSource)
    frames = source.frames()
    camera.kill()
    wait_until(lambda: not source.healthy(), timeout_s=30)
    source.trigger()
    frame = next(frames)
    assert frame.status == "incomplete"
    camera.restart()
    wait_until(source.healthy, timeout_s=30)
    answers = []
    for _ in range(5):
        source.trigger()
        answers.append(next(frames).status)
    source.close()
    assert "ok" in answers


def test_a_trigger_the_camera_cannot_hear_is_answered(camera: FakeCamera) -> None:
    """A camera killed between two parts answers the next trigger by an incomplete frame, not by silence."""
    source = opened(CameraSettings(trigger="software"))
    assert isinstance(source, SoftwareTriggeredSource)
    camera.kill()
    source.trigger()
    assert next(source.frames()).status == "incomplete"
    source.close()


def test_the_loader_leaves_nothing_else_of_the_system_importable() -> None:
    """PyGObject from the system's folder brings no other package of that folder."""
    import sys

    need_namespace("Aravis", "0.8", "gir1.2-aravis-0.8")
    assert "/usr/lib/python3/dist-packages" not in sys.path
