"""Basler cameras against pylon's own emulator."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime_kit import wait_until
from source_kit import lost, until

from cada_edge.errors import SourceError
from cada_edge.imaging import write_png
from cada_edge.protocols import Source
from cada_edge.runtime.sources.camera import CameraOptions
from cada_edge.runtime.sources.config import SourceConfig
from cada_edge.runtime.sources.device import CameraSettings
from cada_edge.runtime.sources.open import PreparedTriggeredSource, open_configured
from cada_edge.runtime.sources.pylon import PylonDevice
from cada_edge.runtime.sources.triggered import SoftwareTriggeredSource
from cada_edge.runtime.sources.uri import open_source, parse

pytestmark = pytest.mark.peer
SERIAL = "0815-0000"
QUICK = CameraOptions(stall_s=2.0, back_off_s=0.1, back_off_max_s=0.2)


@pytest.fixture(autouse=True)
def emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cameras of the emulator, 0815-0000 and 0815-0001."""
    pytest.importorskip("pypylon", reason="needs Basler's driver: pip install 'cada-edge[pylon]'")
    monkeypatch.setenv("PYLON_CAMEMU", "2")


@pytest.fixture
def triggered() -> Iterator[SoftwareTriggeredSource]:
    """The first camera, triggered by software."""
    source = open_source(f"pylon://{SERIAL}", "cam1", None, QUICK, CameraSettings(trigger="software"))
    assert isinstance(source, SoftwareTriggeredSource)
    yield source
    source.close()


def device(source: Source) -> Any:
    """Basler's own object under a source, to ask the emulator for a fault."""
    keeper = getattr(source, "_keeper", None)
    return keeper._device._camera if keeper is not None else None


def test_a_free_running_camera_gives_whole_pictures() -> None:
    """Pictures of the sensor's size come without end, numbered; each is whole."""
    source = open_source(f"pylon://{SERIAL}?pixel_format=BayerRG8", "cam1", None, QUICK)
    frames = list(itertools.islice(source.frames(), 10))
    source.close()
    assert {frame.status for frame in frames} == {"ok"}
    assert all(frame.image is not None and frame.image.shape == (1040, 1024, 3) for frame in frames)
    assert sum(1 + frame.drops for frame in frames) == frames[-1].frame_id + 1


def test_colours_arrive_as_they_are(tmp_path: Path) -> None:
    """A red picture given to the emulator is red here: no channel is swapped."""
    red = np.zeros((1040, 1024, 3), np.uint8)
    red[:, :, 0] = 200
    write_png(tmp_path / "red.png", red)
    camera = PylonDevice(parse(f"pylon://{SERIAL}?pixel_format=BGR8Packed"), CameraSettings())
    camera._camera.StopGrabbing()
    camera._camera.ImageFilename.Value, camera._camera.ImageFileMode.Value = str(tmp_path), "On"
    camera._camera.TestImageSelector.Value = "Off"
    camera._camera.StartGrabbing()
    shot = camera.grab(5.0)
    camera.close()
    image = shot.decode() if shot is not None else None
    assert image is not None
    assert image.reshape(-1, 3).mean(axis=0) == pytest.approx([200, 0, 0], abs=2)


def test_each_software_trigger_gives_its_picture(triggered: SoftwareTriggeredSource) -> None:
    """Thirty triggers, thirty pictures that arrived after their triggers, in order, none dropped."""
    frames = triggered.frames()
    for index in range(30):
        before_ns = time.monotonic_ns()
        triggered.trigger()
        frame = next(frames)
        assert (frame.status, frame.frame_id, frame.drops) == ("ok", index, 0)
        assert before_ns <= frame.t_capture_ns


def test_a_failed_buffer_answers_its_trigger_and_the_next_is_good(triggered: SoftwareTriggeredSource) -> None:
    """Injected bad buffers are incomplete frames of their own parts; no picture slips to another part."""
    frames = triggered.frames()
    for index in range(12):
        bad = index % 3 == 1
        if bad:
            device(triggered).ForceFailedBufferCount.Value = 1
            device(triggered).ForceFailedBuffer.Execute()
        triggered.trigger()
        frame = next(frames)
        assert (frame.status, frame.frame_id) == ("incomplete" if bad else "ok", index)
        assert ("incompletely grabbed" in frame.note) == bad


def test_a_camera_that_stops_is_opened_anew(triggered: SoftwareTriggeredSource) -> None:
    """Acquisition that ends by itself is a loss; triggers are answered, and the camera comes back."""
    frames = triggered.frames()
    device(triggered).StopGrabbing()
    wait_until(lambda: not triggered.healthy())
    triggered.trigger()
    assert until(frames, lost)
    wait_until(triggered.healthy)
    triggered.trigger()
    assert next(frames).status == "ok"


def test_a_setting_reaches_the_camera(triggered: SoftwareTriggeredSource) -> None:
    """Exposure is what line.yaml says, automatic exposure off."""
    triggered.close()
    section = {"uri": f"pylon://{SERIAL}", "trigger": "software", "exposure_us": 1500.0, "rotate": 90}
    source = open_configured(SourceConfig.model_validate(section))
    assert isinstance(source, PreparedTriggeredSource)
    camera = device(source._source)
    exposure = camera.GetNodeMap().GetNode("ExposureTime") or camera.GetNodeMap().GetNode("ExposureTimeAbs")
    assert exposure.Value == pytest.approx(1500, rel=0.01)
    source.trigger()
    frame = next(source.frames())
    source.close()
    assert frame.image is not None
    assert frame.image.shape == (1024, 1040, 3)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("pylon://0000", "found serial numbers: 0815-0000, 0815-0001"),
        (f"pylon://{SERIAL}?pixel_format=Mono3", "PixelFormat cannot be set"),
        (f"pylon://{SERIAL}?pixel_format=RGB16Packed", "RGB16Packed, which is not read here"),
    ],
)
def test_a_wrong_camera_or_format_says_what_is_wrong(uri: str, words: str) -> None:
    """Each mistake has its own words."""
    with pytest.raises(SourceError, match=words):
        open_source(uri, camera=QUICK)
