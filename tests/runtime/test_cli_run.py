from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from runtime_kit import THRESHOLD, Plc, make_bundle, picture, python_env, wait_until, write_line

from cada_edge.cli.app import run as program
from cada_edge.imaging import write_png
from cada_edge.runtime.registers import OfflineReason, ResultFlag, StatusFlag

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Done:
    """What a user gets: exit code, standard output, standard error."""

    returncode: int
    stdout: str
    stderr: str


Program = Callable[..., Done]


@pytest.fixture
def cada_edge(capsys: pytest.CaptureFixture[str]) -> Program:
    """The program, run to its end in this process."""

    def call(*arguments: str | Path) -> Done:
        with pytest.raises(SystemExit) as left:
            program([str(argument) for argument in arguments])
        code = left.value.code
        return Done(code if isinstance(code, int) else 0, *capsys.readouterr())

    return call


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def running(config: Path) -> Iterator[subprocess.Popen[str]]:
    """`cada-edge run` in its own process, killed at the end."""
    command = [sys.executable, "-m", "cada_edge", "run", str(config), "--json"]
    process = subprocess.Popen(
        command, env=python_env(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def endless(folder: Path, port: int) -> Path:
    """A line over four pictures, for ever, with every sink."""
    sinks = {
        "modbus": {"port": port, "min_hold_ms": 0, "linger_ms": 2000},
        "records": {"jsonl": "v.jsonl", "csv": "v.csv"},
        "rejects": {"dir": "rejects", "max_files": 20},
    }
    return write_line(folder, sources=[{"uri": "folder:images?loop=1&fps=100"}], sinks=sinks)


def test_run_prints_a_summary_for_scripts(tmp_path: Path, cada_edge: Program) -> None:
    """`--json` puts one object on standard output and nothing else."""
    done = cada_edge("run", write_line(tmp_path, sinks={"log": {}}), "--json", "--max-frames", "3")
    summary = json.loads(done.stdout)
    assert (done.returncode, summary["frames"], summary["stopped_by"]) == (0, 3, "max_frames")
    assert done.stderr.count('"event": "verdict"') == 3


def test_run_prints_a_summary_for_people(tmp_path: Path, cada_edge: Program) -> None:
    """Without `--json` the counts are in words."""
    done = cada_edge("run", write_line(tmp_path))
    assert "2 ok, 2 ng, 0 undecided" in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 0)])
def test_a_signal_ends_the_line_in_the_safe_state(
    tmp_path: Path, plc: Callable[[int], Plc], name: str, code: int
) -> None:
    """The PLC sees verdicts live, then REJECT and Offline; every file is whole; the exit code is right."""
    port = free_port()
    with running(endless(tmp_path, port)) as process:
        wait_until(lambda: listening(port))
        view = plc(port)
        wait_until(lambda: view.block().seq > 20)
        process.send_signal(signal.Signals[name])
        wait_until(lambda: view.block().offline == OfflineReason.STOPPED)
        block = view.block()
        assert block.result == ResultFlag.UNKNOWN | ResultFlag.REJECT
        assert StatusFlag.RESULTS_VALID not in block.flags
        output, _ = process.communicate(timeout=60)
    summary = json.loads(output)
    assert (process.returncode, summary["stopped_by"]) == (code, name)
    records = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert len(records) == summary["frames"] == block.seq
    assert (tmp_path / "v.csv").read_text().endswith("\n")
    assert not [p for p in tmp_path.rglob("*") if p.suffix == ".part"]


def test_a_bundle_without_a_threshold_is_told_once(tmp_path: Path, cada_edge: Program) -> None:
    """The line runs in the safe direction, and says at its start why every part is rejected."""
    done = cada_edge("run", write_line(tmp_path, make_bundle(threshold=None)), "--json")
    assert (done.returncode, json.loads(done.stdout)["undecided"]) == (0, 4)
    (told,) = [line for line in map(json.loads, done.stderr.splitlines()) if line["component"] == "model"]
    assert told["message"].startswith("line.cada has no threshold")


def test_a_reload_is_logged_with_what_judged_before_and_after(tmp_path: Path, plc: Callable[[int], Plc]) -> None:
    """One line a change of the model: digests, checksums as the PLC sees them, thresholds."""
    port, after = free_port(), make_bundle(threshold=replace(THRESHOLD, value=0.9))
    with running(endless(tmp_path, port)) as process:
        wait_until(lambda: listening(port))
        view = plc(port)
        wait_until(lambda: view.block().seq > 3)
        after.write(tmp_path / "line.cada")
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: view.block().threshold == pytest.approx(0.9))
        checksum = view.block().checksum
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    (told,) = [line for line in map(json.loads, log.splitlines()) if line["event"] == "reload"]
    assert (told["threshold_before"], told["threshold_after"]) == (THRESHOLD.value, 0.9)
    assert (told["sha256_before"], told["sha256_after"]) == (make_bundle().sha256, after.sha256)
    assert (told["level"], told["checksum_after"]) == ("info", checksum)


def listening(port: int) -> bool:
    """True if somebody answers on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_busy_port_is_one_line_and_exit_1(tmp_path: Path, cada_edge: Program) -> None:
    """Nothing starts, and the message names the setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = cada_edge("run", write_line(tmp_path, sinks={"modbus": {"port": port}}))
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda d: (d / "line.yaml").write_text("schema: 1\ntypo: 2\n"), "typo: unknown key"),
        (lambda d: (d / "line.yaml").unlink(), "cannot read"),
        (lambda d: (d / "line.cada").write_bytes((d / "line.cada").read_bytes()[:500]), "line.cada"),
        (lambda d: (d / "line.cada").unlink(), "line.cada"),
        (lambda d: [p.unlink() for p in (d / "images").iterdir()], "no picture"),
    ],
)
def test_bad_input_is_one_clear_error(
    tmp_path: Path, cada_edge: Program, spoil: Callable[[Path], object], words: str
) -> None:
    """A wrong file ends `run` with exit code 1 and a message that names it."""
    config = write_line(tmp_path)
    spoil(tmp_path)
    done = cada_edge("run", config)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_predict_judges_images_and_draws_panels(tmp_path: Path, cada_edge: Program) -> None:
    """One row an image, a panel for each, exit code 3 because one is not ok."""
    write_line(tmp_path)
    images = [tmp_path / "images" / "0.png", tmp_path / "images" / "1.png"]
    done = cada_edge("predict", tmp_path / "line.cada", *images, "--out", tmp_path / "out", "--json")
    rows = json.loads(done.stdout)
    assert (done.returncode, [row["status"] for row in rows]) == (3, ["ok", "ng"])
    assert sorted(str(p) for p in (tmp_path / "out").iterdir()) == [row["panel"] for row in rows]


def test_predict_of_good_images_leaves_with_0(tmp_path: Path, cada_edge: Program) -> None:
    """All ok: exit code 0 and a table for people."""
    write_line(tmp_path)
    done = cada_edge("predict", tmp_path / "line.cada", tmp_path / "images" / "0.png")
    assert (done.returncode, "ok" in done.stdout) == (0, True)


def test_predict_before_calibration_shows_scores_without_a_verdict(tmp_path: Path, cada_edge: Program) -> None:
    """Without a threshold an image is undecided, and its score is still there to look at."""
    make_bundle(threshold=None).write(tmp_path / "b.cada")
    write_png(tmp_path / "a.png", picture(51))
    done = cada_edge("predict", tmp_path / "b.cada", tmp_path / "a.png", "--json")
    (row,) = json.loads(done.stdout)
    assert (done.returncode, row["status"]) == (3, "undecided")
    assert row["score"] == pytest.approx(0.2)


def test_predict_judges_the_others_beside_an_image_it_cannot_read(tmp_path: Path, cada_edge: Program) -> None:
    """An unreadable picture is undecided and an error, not a bad part; the pictures beside it still get verdicts."""
    write_line(tmp_path)
    (tmp_path / "x.png").write_bytes(b"x")
    good = tmp_path / "images" / "0.png"
    done = cada_edge("predict", tmp_path / "line.cada", tmp_path / "x.png", good, "--json")
    broken, judged = json.loads(done.stdout)
    assert done.returncode == 1
    assert f"error: 1 of 2 images could not be judged: {tmp_path / 'x.png'}: " in done.stderr
    assert (broken["status"], "x.png" in broken["reason"]) == ("undecided", True)
    assert judged["score"] is not None


def test_a_line_on_an_engine_that_cannot_run_here_says_why(cada_edge: Program, tmp_path: Path) -> None:
    """It ends before any source is opened; it does not go on with ONNX Runtime."""
    done = cada_edge("run", write_line(tmp_path, backend="tensorrt", precision="fp16"))
    assert done.returncode == 1
    assert "tensorrt" in done.stderr
    assert "Traceback" not in done.stderr
