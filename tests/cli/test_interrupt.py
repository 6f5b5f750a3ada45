"""Ctrl-C at any stage: one line, exit code 130, nothing half-written, and training goes on later."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cada_edge.bundle import Bundle
from cada_edge.data.dataset import Dataset

SMALL = ["--size", "64", "--width", "8", "--strides", "8,16", "--augment-copies", "0"]


def start(*words: str) -> subprocess.Popen[str]:
    """One command in a process of its own, deaf to nothing."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CADA_EDGE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "cada_edge", *words],
        env={**environment, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def interrupt(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Send Ctrl-C; exit code and what was said."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    return process.returncode, out + err


@pytest.fixture(scope="module")
def bundle(tiny_line: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trained bundle, exported."""
    path = tmp_path_factory.mktemp("bundle") / "line.cada"
    for words in (
        ["train", str(tiny_line.root), "--out", str(path), "--iterations", "5", *SMALL],
        ["export", str(path)],
    ):
        process = start(*words)
        output = process.communicate(timeout=300)
        assert process.returncode == 0, output
    return path


@pytest.mark.slow
def test_interrupted_training_says_how_to_go_on(tiny_line: Dataset, tmp_path: Path) -> None:
    """Ctrl-C in the middle of the fit: no bundle, the work kept, one sentence that says so."""
    out = tmp_path / "line.cada"
    process = start("train", str(tiny_line.root), "--out", str(out), "--iterations", "100000", *SMALL)
    checkpoint = tmp_path / "line.cada.work" / "detector.safetensors"
    give_up = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.1)
    code, said = interrupt(process)
    assert code == 130, said
    assert "the same command goes on from there" in " ".join(said.split())
    assert "Traceback" not in said
    assert checkpoint.exists()
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("command", ["synthesize", "export", "calibrate", "evaluate"])
def test_interrupted_command_leaves_nothing_half_written(
    command: str, seconds: float, bundle: Path, tiny_line: Dataset, tmp_path: Path
) -> None:
    """Whenever Ctrl-C comes, the bundle on disk is a whole one and no temporary file is left."""
    mine = tmp_path / "line.cada"
    shutil.copy(bundle, mine)
    words = {
        "synthesize": ["synthesize", str(tmp_path / "parts")],
        "export": ["export", str(mine), "--images", str(tiny_line.root)],
        "calibrate": ["calibrate", str(mine), str(tiny_line.root), "--allow-small"],
        "evaluate": ["evaluate", str(mine), str(tiny_line.root), "--report", str(tmp_path / "report.html")],
    }[command]
    process = start(*words)
    time.sleep(seconds)
    code, said = interrupt(process)
    early = code == -signal.SIGINT or "init_import_site" in said  # before Python could take the signal
    assert early or code in (0, 130), said
    assert code != 130 or "Traceback" not in said
    Bundle.read(mine)
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"line.cada", *({"parts", "report.html"} if code == 0 else set())}
