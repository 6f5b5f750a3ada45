"""The main job, end to end, as `make demo` runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cada_edge.bundle import Bundle
from cada_edge.cli.demo import _Job, _line, _stop
from cada_edge.errors import ConfigError, DataError
from cada_edge.imaging import write_png
from cada_edge.runtime.config import parse_config
from cada_edge.runtime.sources.folder import FolderSource


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder a small demo leaves behind, and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "out"
    options = ["--size", "64", "--iterations", "20", "--products", "3", "--images", "56", "--verdicts", "6"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CADA_EDGE_")}
    done = subprocess.run(
        [sys.executable, "-m", "cada_edge", "demo", "--out", str(out), *options],
        env={**environment, "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return out, done.stdout


@pytest.mark.slow
def test_a_modbus_client_reads_verdicts_live(demo: tuple[Path, str]) -> None:
    """A client in another process sees numbered PASS and REJECT results."""
    lines = [line for line in demo[1].splitlines() if line.startswith(("PASS", "REJECT"))]
    assert len(lines) == 6
    numbers = [int(line.split("seq")[1].split()[0]) for line in lines]
    assert numbers == sorted(set(numbers))


@pytest.mark.slow
def test_the_bundle_it_leaves_is_complete(demo: tuple[Path, str]) -> None:
    """The bundle verifies, has a threshold and a graph, and names the stages that made it."""
    bundle = Bundle.read(demo[0] / "line.cada")
    assert bundle.manifest.threshold is not None
    assert "model.onnx" in bundle.files
    assert {stage.name for stage in bundle.manifest.provenance} == {"train", "export", "calibrate"}


@pytest.mark.slow
def test_report_records_and_figures_are_left(demo: tuple[Path, str]) -> None:
    """Report, figures and one record per verdict lie where the last line says."""
    out = demo[0]
    assert (out / "report.html").read_text().startswith("<!doctype html>")
    figures = json.loads((out / "evaluation.json").read_text())
    assert figures
    records = [json.loads(line) for line in (out / "verdicts.jsonl").read_text().splitlines()]
    assert {record["status"] for record in records} <= {"ok", "ng", "undecided"}
    assert len(records) >= 6


@pytest.mark.slow
def test_the_model_of_other_pictures_is_never_reused(demo: tuple[Path, str], tmp_path: Path) -> None:
    """Run on other pictures into the same folder, the demo stops at once and says what to do."""
    again = subprocess.run(
        [sys.executable, "-m", "cada_edge", "demo", "--out", str(demo[0]), "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert again.returncode == 1
    assert "use another --out" in again.stderr
    assert "cada-edge export" not in again.stdout


def test_a_folder_belongs_to_one_demo(tmp_path: Path) -> None:
    """The same options may go on in a folder; other ones, or a bundle of unknown making, may not."""
    job = _Job(Console(quiet=True), tmp_path, tmp_path / "parts")
    job.claim({"size": 64})
    job.claim({"size": 64})
    with pytest.raises(ConfigError, match="made otherwise"):
        job.claim({"size": 96})
    (tmp_path / "demo.json").rename(tmp_path / "line.cada")
    with pytest.raises(ConfigError, match="unknown how"):
        job.claim({"size": 64})


def test_one_camera_sees_every_product_in_turn(tmp_path: Path) -> None:
    """The line is one that a PLC may see in free run; its pictures are those of the products one after the other."""
    job = _Job(Console(quiet=True), tmp_path, tmp_path / "parts")
    job.data.mkdir()
    with pytest.raises(DataError):
        _line(job, 5020)
    for product, kinds in (("gear", ("dent", "good")), ("nut", ("good",))):
        for index, folder in enumerate(("train/good", *(f"test/{kind}" for kind in kinds))):
            (job.data / product / folder).mkdir(parents=True)
            write_png(job.data / product / folder / "0.png", np.full((8, 8, 3), 40 * index, np.uint8))
    for _ in range(2):  # the second run finds the links of the first
        config = parse_config(json.loads(json.dumps(_line(job, 5020))))
        assert (len(config.sources), config.wired()) == (1, True)
        names = [frame.name for frame in FolderSource(tmp_path / "belt").frames()]
        assert names == ["00000-gear-test-dent-0.png", "00001-nut-test-good-0.png", "00002-gear-test-good-0.png"]
    assert (job.data / "gear" / "test" / "dent" / "0.png").is_file()


@pytest.mark.parametrize("lies_there", ["link", "file", "folder"])
def test_what_lies_in_the_belts_place_is_left_alone(tmp_path: Path, lies_there: str) -> None:
    """A folder of somebody's own, also behind a link, is named and not emptied."""
    for index, kind in enumerate(("train", "test")):
        (tmp_path / "parts" / "gear" / kind / "good").mkdir(parents=True)
        write_png(tmp_path / "parts" / "gear" / kind / "good" / "0.png", np.full((8, 8, 3), index, np.uint8))
    own, belt = tmp_path / "own", tmp_path / "belt"
    place = belt if lies_there == "folder" else own
    place.mkdir()
    (place / "precious.txt").write_text("mine")
    if lies_there == "link":
        belt.symlink_to(own)
    elif lies_there == "file":
        belt.write_text("mine")
    with pytest.raises(DataError, match="another folder"):
        _line(_Job(Console(quiet=True), tmp_path, tmp_path / "parts"), 5020)
    assert (place / "precious.txt").read_text() == "mine"


def test_a_line_that_will_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process deaf to SIGTERM is gone when the demo leaves."""
    monkeypatch.setattr("cada_edge.cli.demo._STOP_TIMEOUT_S", 0.2)
    words = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    deaf = subprocess.Popen([sys.executable, "-c", words], stdout=subprocess.PIPE)
    assert deaf.stdout is not None
    with deaf.stdout as ready:
        ready.readline()
        assert _stop(deaf) == -signal.SIGKILL
