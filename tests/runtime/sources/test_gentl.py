"""GenTL through harvesters, against the producers inside EMVA's genicam wheels."""

from __future__ import annotations

import itertools
import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from cada_edge.errors import SourceError
from cada_edge.runtime.sources.camera import CameraOptions
from cada_edge.runtime.sources.device import CameraSettings
from cada_edge.runtime.sources.triggered import SoftwareTriggeredSource
from cada_edge.runtime.sources.uri import open_source

pytestmark = pytest.mark.peer
QUICK = CameraOptions(stall_s=2.0, back_off_s=0.1, back_off_max_s=0.2)


def producer(name: str, variable: str = "") -> Path:
    """A producer inside the genicam wheel, or where a variable says; skips where there is none."""
    pytest.importorskip("harvesters.core", reason="needs harvesters: pip install 'cada-edge[gentl]'")
    found = find_spec("genicam")
    folder = Path(found.origin).parent if found is not None and found.origin else Path()
    path = Path(os.environ[variable]) if os.environ.get(variable) else folder / name
    if not path.is_file():
        pytest.skip(f"{name} is not in the genicam wheel installed{f'; {variable} may name one' if variable else ''}")
    return path


def test_a_camera_is_chosen_by_serial_number() -> None:
    """``gentl:///viky.cti?serial=1`` gives whole pictures of the second of three cameras."""
    source = open_source(f"gentl://{producer('viky.cti')}?serial=1", "cam1", camera=QUICK)
    frames = list(itertools.islice(source.frames(), 3))
    source.close()
    assert [(frame.status, frame.image is not None and frame.image.shape) for frame in frames] == [
        ("ok", (400, 400, 3))
    ] * 3


@pytest.mark.parametrize(
    ("options", "settings", "words"),
    [
        ("?serial=9", None, "no camera of serial number 9; found: 0, 1, 2"),
        ("", CameraSettings("software"), "no TriggerMode"),
        ("?pixel_format=Mono3", None, "PixelFormat cannot be set"),
    ],
)
def test_what_the_camera_cannot_do_is_said(options: str, settings: CameraSettings | None, words: str) -> None:
    """A wrong serial number, trigger or format has its own words, and the camera can be opened afterwards."""
    path = producer("viky.cti")
    with pytest.raises(SourceError, match=words):
        open_source(f"gentl://{path}{options}", camera=QUICK, settings=settings)
    source = open_source(f"gentl://{path}", camera=QUICK)
    assert next(source.frames()).status == "ok"
    source.close()


def test_each_software_trigger_gives_its_picture() -> None:
    """With the producer that simulates triggers: ten triggers, ten pictures, with the camera's own time."""
    path = producer("TLSimu.cti", "CADA_EDGE_TLSIMU")
    source = open_source(f"gentl://{path}", "cam1", camera=QUICK, settings=CameraSettings("software"))
    assert isinstance(source, SoftwareTriggeredSource)
    frames = source.frames()
    for index in range(10):
        source.trigger()
        frame = next(frames)
        assert (frame.status, frame.frame_id, bool(frame.t_device_ns)) == ("ok", index, True)
    source.close()


def test_an_absent_producer_is_named(tmp_path: Path) -> None:
    """A path without a file, and a file that is no producer, are errors that name it."""
    producer("viky.cti")
    with pytest.raises(SourceError, match=r"absent\.cti"):
        open_source(f"gentl://{tmp_path}/absent.cti", camera=QUICK)
    (tmp_path / "no.cti").write_bytes(b"no library")
    with pytest.raises(SourceError, match=r"no\.cti"):
        open_source(f"gentl://{tmp_path}/no.cti", camera=QUICK)
