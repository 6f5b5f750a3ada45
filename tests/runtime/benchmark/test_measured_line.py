from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import pytest
from runtime_kit import picture, write_line

from cada_edge.errors import ConfigError, SourceError
from cada_edge.imaging import write_png
from cada_edge.runtime.benchmark.line import line_target, measure_line
from cada_edge.runtime.benchmark.result import STAGES, TOTAL, Samples
from cada_edge.runtime.benchmark.schedule import Begun, ScheduledSource
from cada_edge.runtime.benchmark.setting import Setting
from cada_edge.runtime.config import LineConfig, load_config
from cada_edge.runtime.sources.folder import FolderSource


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> str:
    """The uri of a camera of Basler's emulator."""
    if not find_spec("pypylon"):
        pytest.skip("needs Basler's driver: pip install 'cada-edge[pylon]'")
    monkeypatch.setenv("PYLON_CAMEMU", "1")
    return "pylon://0815-0000"


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def line(folder: Path, *uris: str, settings: dict[str, Any] | None = None, **more: Any) -> LineConfig:
    """A line of these sources, a station with a Modbus server for each."""
    names = [f"cam{i}" for i in range(len(uris))]
    sources = [{"uri": uri, "id": name, **(settings or {})} for uri, name in zip(uris, names, strict=True)]
    stations = [{"id": f"st-{name}", "sources": [name]} for name in names]
    links = [{"kind": "modbus-server", "port": free_port(), "station": f"st-{name}"} for name in names]
    return load_config(write_line(folder, **{"sources": sources, "stations": stations, "links": links, **more}))


def measured(config: LineConfig, **changes: Any) -> Samples:
    """A short measurement, complete."""
    setting = Setting(**{"n": 12, "warmup": 2, "threads": 1, "cameras": len(config.sources), **changes})
    return measure_line(config, line_target(config, setting), lambda _done, _total: None)


def write_video(path: Path) -> None:
    """Six pictures of one grey level each."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for level in range(0, 240, 40):
        writer.write(cv2.resize(picture(level), (64, 48)))
    writer.release()


def test_folder_and_video_of_two_stations_are_measured_together(tmp_path: Path) -> None:
    """Every stage of frames of both sources, although a video of six pictures has to play again."""
    write_video(tmp_path / "clip.avi")
    found = measured(line(tmp_path, "folder:images", "video:clip.avi?fps=5"), n=20)
    assert sum(found.verdicts.values()) == 20
    assert len(found.stages[TOTAL]) > 18
    for parts in zip(*(found.stages[stage] for stage in STAGES), found.stages[TOTAL], strict=True):
        assert sum(parts[:-1]) == parts[-1]


def test_a_line_is_measured_with_its_region(tmp_path: Path) -> None:
    """Settings of a source hold: a bright region passes no part."""
    wide = picture(0, 64)
    wide[:32, :32] = 255
    (tmp_path / "one").mkdir()
    write_png(tmp_path / "one" / "0.png", wide)
    roi = {"roi": {"x": 32, "y": 32, "width": 32, "height": 32}}
    assert measured(line(tmp_path, "folder:one")).verdicts == {"ng": 12}
    assert measured(line(tmp_path, "folder:one", settings=roi)).verdicts == {"ok": 12}


def test_a_rate_holds_for_each_camera(tmp_path: Path) -> None:
    """Two sources at 50 a second: each gives a frame every 20 ms."""
    found = measured(line(tmp_path, "folder:images", "folder:images?fps=60"), rate_fps=50, n=20)
    starts = Counter(start % 20_000_000 for start in found.starts_ns)
    assert len(starts) == 2
    assert max(starts.values()) <= 11


def _refused(folder: Path) -> Iterator[tuple[LineConfig, dict[str, Any], str]]:
    """Lines that cannot be measured so, and what must be said."""
    soft = {"trigger": "software"}
    yield line(folder, "folder:images?fps=10"), {"rate_fps": 50.0}, "cam0 gives 10 frames a second"
    yield line(folder, "rtsp://192.0.2.1/x"), {"rate_fps": 5.0}, "keeps its own time"
    yield line(folder, "folder:images", "v4l2:///dev/video9"), {"rate_fps": 5.0}, "cam1"
    yield line(folder, "pylon://1?fps=20", settings=soft), {"rate_fps": 25.0}, "cam0 gives 20 frames"
    yield line(folder, "pylon://1", settings=soft), {}, "say how often: --rate"
    waiting = [{"id": "st-cam0", "sources": ["cam0"], "mode": "triggered"}]
    yield line(folder, "folder:images", stations=waiting), {}, "plc-sim"


def test_what_cannot_be_measured_is_said_before_anything_opens(tmp_path: Path) -> None:
    """A source that cannot be paced, gives less than the rate or waits for a PLC: one message with its name."""
    for config, changes, said in _refused(tmp_path):
        with pytest.raises(ConfigError, match=said):
            measured(config, **changes)


def test_a_source_that_falls_silent_ends_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emulated: str
) -> None:
    """A camera that nobody triggers is an error that says how far it came, not a benchmark without end."""
    monkeypatch.setattr("cada_edge.runtime.benchmark.line.SILENCE_S", 0.5)
    with pytest.raises(SourceError, match="after 0 of 14"):
        measured(line(tmp_path, emulated, settings={"trigger": "hardware"}))


def test_a_line_that_judges_nothing_is_not_measured(tmp_path: Path) -> None:
    """Pictures that cannot be read give verdicts, but no times: that is said in place of empty tables."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "0.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match="none of 12 frames"):
        measured(line(tmp_path, "folder:broken"))


def test_a_schedule_is_kept_by_late_pictures_too(tmp_path: Path) -> None:
    """A picture fetched late was captured when it was due, waited until it was fetched, and the next is not put off."""
    write_png(tmp_path / "0.png", picture(1))
    begun: Begun = {}
    source = ScheduledSource(FolderSource(tmp_path, loop=True), 1000, begun)
    frames = source.frames()
    first = next(frames)
    late = [next(frames) for _ in range(30)]
    assert [frame.t_capture_ns - first.t_capture_ns for frame in late] == [n * 1_000_000 for n in range(1, 31)]
    for frame in late:
        assert frame.t_capture_ns <= begun[frame.source_id, frame.t_capture_ns] <= frame.t_arrival_ns
    source.close()
    assert next(frames, None) is None


def test_a_camera_that_waits_for_triggers_is_paced_by_them(tmp_path: Path, emulated: str) -> None:
    """With a rate, a software-triggered camera of a free-running station takes a picture at every due time."""
    found = measured(line(tmp_path, emulated, settings={"trigger": "software"}), rate_fps=10)
    assert {b - a for a, b in zip(found.starts_ns, found.starts_ns[1:], strict=False)} == {100_000_000}
