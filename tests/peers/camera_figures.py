"""Measure how old frames are, what is dropped, and how long a lost camera stays lost: the table in docs/cameras.md.

``python tests/peers/camera_figures.py`` needs the peers that `source_kit` names; about two minutes.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kits"))
os.environ.setdefault("PYLON_CAMEMU", "1")

from runtime_kit import Plc, wait_until, write_line
from source_kit import FakeCamera, RtspCamera, fake_camera, lost, rtsp_camera, true_age_ms, until, whole
from whole_line import free_port, line_running, until_listening

from cada_edge.protocols import Source
from cada_edge.runtime.registers import ResultFlag
from cada_edge.runtime.sources.camera import CameraOptions
from cada_edge.runtime.sources.device import CameraSettings
from cada_edge.runtime.sources.triggered import SoftwareTriggeredSource
from cada_edge.runtime.sources.uri import open_source
from cada_edge.types import Frame

FRAMES, WARM_UP, TIMES, OPTIONS = 250, 10, 10, CameraOptions(back_off_s=0.2, back_off_max_s=1.0)
SOFTWARE = CameraSettings(trigger="software")
Row = tuple[str, str, str, str]


def host_age_ms(frame: Frame) -> float:
    """From capture, by the frame's own record, to now."""
    return (time.monotonic_ns() - frame.t_capture_ns) / 1e6


def ages(source: Source, age_ms: Callable[[Frame], float], work_s: float = 0.0) -> tuple[list[float], int, int]:
    """Ages as frames are handed over, then drops and incomplete frames, of a reader that works `work_s` on each."""
    found, drops, broken = [], 0, 0
    for index, frame in enumerate(itertools.islice(source.frames(), WARM_UP + FRAMES)):
        if index < WARM_UP:
            continue
        drops += frame.drops
        if frame.image is None:
            broken += 1
        else:
            found.append(age_ms(frame))
        time.sleep(work_s)
    return found, drops, broken


def spread(values: list[float]) -> str:
    """Median and 99th percentile."""
    return f"{np.percentile(values, 50):.1f} / {np.percentile(values, 99):.1f}"


def free_running(name: str, uri: str, age_ms: Callable[[Frame], float], work_s: float = 0.0) -> Row:
    """A row about the newest frames of a camera."""
    with closing(open_source(uri, camera=OPTIONS)) as source:
        found, drops, broken = ages(source, age_ms, work_s)
    return name, f"age {spread(found)} ms", f"{drops} of {drops + FRAMES}", f"{broken} incomplete"


def triggered(name: str, uri: str) -> Row:
    """A row about software triggers: from `trigger` to the frame in hand."""
    with closing(open_source(uri, camera=OPTIONS, settings=SOFTWARE)) as source:
        assert isinstance(source, SoftwareTriggeredSource)
        frames, found, broken, drops = source.frames(), [], 0, 0
        for index in range(WARM_UP + FRAMES):
            began_s = time.monotonic()
            source.trigger()
            frame = next(frames)
            assert frame.image is None or frame.t_capture_ns >= began_s * 1e9
            if index >= WARM_UP:
                found.append((time.monotonic() - began_s) * 1e3)
                broken, drops = broken + (frame.image is None), drops + frame.drops
    return name, f"trigger to frame {spread(found)} ms", f"{drops} of {FRAMES}", f"{broken} incomplete"


def lost_and_back(name: str, camera: RtspCamera | FakeCamera, uri: str, *, frozen_s: float = 0.0) -> Row:
    """A row about a camera frozen for `frozen_s`, or killed and restarted: until told, and until pictures again."""
    with closing(open_source(uri, camera=OPTIONS)) as source:
        frames = source.frames()
        next(itertools.islice(frames, WARM_UP, None))
        began_s = time.monotonic()
        (camera.freeze if frozen_s else camera.kill)()
        until(frames, lost)
        told_s = time.monotonic() - began_s
        time.sleep(max(0.0, frozen_s - told_s))
        (camera.thaw if frozen_s else camera.restart)()
        back_s = time.monotonic()
        until(frames, whole)
        return name, f"told after {told_s:.1f} s", f"back after {time.monotonic() - back_s:.1f} s", "1 incomplete"


def seen_by_plc(name: str, camera: RtspCamera | FakeCamera, uri: str) -> Row:
    """A row about a camera of a free-running line as it is without any setting: until its PLC sees no station online
    or an undecided part, and until it is online again.
    """
    with TemporaryDirectory() as folder, ExitStack() as opened:
        sources, links = [{"uri": uri, "id": "cam1"}], [{"kind": "modbus-server", "port": (port := free_port())}]
        path = write_line(Path(folder), sources=sources, links=links)
        line = opened.enter_context(line_running(path))
        until_listening(line, port)
        plc = Plc(port)
        opened.callback(plc.close)
        wait_until(lambda: plc.block().total > WARM_UP)
        seen, back = [], []
        for _ in range(TIMES):
            began_s = time.monotonic()
            camera.freeze()
            wait_until(lambda: bool(plc.block().offline or plc.block().result & ResultFlag.UNKNOWN))
            seen.append(time.monotonic() - began_s)
            camera.thaw()
            began_s, total = time.monotonic(), plc.block().total
            wait_until(lambda total=total: not plc.block().offline and plc.block().total > total)  # type: ignore[misc]  # this turn's
            back.append(time.monotonic() - began_s)
        times = [f"{np.median(one):.2f} (most {max(one):.2f}) s" for one in (seen, back)]
        return f"{name} ({TIMES} times)", f"seen after {times[0]}", f"back after {times[1]}", ""


def rows() -> Iterator[Row]:
    """Every row, each camera alone."""
    with rtsp_camera() as camera:
        yield free_running("RTSP, H.264, 25 fps", camera.url, true_age_ms)
        yield free_running("the same, 200 ms of work per frame", camera.url, true_age_ms, work_s=0.2)
        yield lost_and_back("RTSP frozen 4 s", camera, camera.url, frozen_s=4.0)
        yield lost_and_back("RTSP killed and restarted", camera, camera.url)
        yield seen_by_plc("RTSP frozen, by the PLC of a line in free run", camera, camera.url)
    uri = "aravis://127.0.0.1?packet_size=1400"
    with fake_camera() as fake:
        yield free_running("GigE Vision, 512 x 512, 50 fps", f"{uri}&fps=50", host_age_ms)
        yield triggered("GigE Vision, software trigger", uri)
        yield lost_and_back("GigE Vision frozen 7 s", fake, uri, frozen_s=7.0)
        yield lost_and_back("GigE Vision killed and restarted", fake, uri)
        yield seen_by_plc("GigE Vision frozen, by the PLC of a line in free run", fake, uri)
    with fake_camera("GV01", "-r", "1"):
        yield free_running("GigE Vision, packets lost", f"{uri}&fps=50", host_age_ms)
        yield triggered("GigE Vision, packets lost, software trigger", uri)
    yield free_running("pylon emulator, 1024 x 1040", "pylon://", host_age_ms)
    yield triggered("pylon emulator, software trigger", "pylon://")
    test = "gst://videotestsrc is-live=true ! video/x-raw,width=640,height=480,framerate=50/1"
    yield free_running("GStreamer test source, 640 x 480, 50 fps", test, host_age_ms)


def main() -> None:
    """Print the table as Markdown, row by row."""
    sys.stdout.write(f"n = {FRAMES} each; p50 / p99\n\n| camera | time | drops, or back | else |\n|---|---|---|---|\n")
    for row in rows():
        sys.stdout.write(f"| {' | '.join(row)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
