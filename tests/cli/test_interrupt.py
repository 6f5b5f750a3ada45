"""Ctrl-C at any stage: one line, exit code 130, nothing half-written, and training goes on later."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cada_edge.bundle import Bundle
from cada_edge.data.dataset import Dataset

SMALL = ["--size", "64", "--set", "width=8", "--strides", "8,16", "--augment-copies", "0"]


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


def outside_main(code: int, said: str) -> bool:
    """Whether Python itself died of the signal: while starting, before `main` was called, or while closing down."""
    return code == -signal.SIGINT or ("Traceback" in said and not re.search(r'__main__\.py", line \d+, in main', said))


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


def _fake(folder: Path, module: str, body: str) -> dict[str, str]:
    """An environment in which `module` is a fake whose import runs `body` while a Ctrl-C arrives."""
    source = "import os, signal\ndef ctrl_c(): os.kill(os.getpid(), signal.SIGINT)\n"
    (folder / f"{module}.py").write_text(source + body)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


def run_program(environment: dict[str, str], *words: str, before: str = "pass") -> subprocess.CompletedProcess[str]:
    """`cada-edge` in a process of its own that runs the code `before` first."""
    code = f"import signal, sys; {before}; from cada_edge.__main__ import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


SWALLOWED = """
try: ctrl_c()
except KeyboardInterrupt: pass
"""
AS_IMPORT_ERROR = """
try: ctrl_c()
except KeyboardInterrupt as stop: raise ImportError("initialization failed") from stop
"""
AS_ANOTHER_ERROR = SWALLOWED + 'raise RuntimeError("half initialised")'
AS_ABSENT = SWALLOWED + "raise ModuleNotFoundError(name='thing')"
IN_A_FINALISER = """
class Callback:
    def __del__(self): ctrl_c()
Callback()
raise ModuleNotFoundError(name="thing")
"""


@pytest.mark.parametrize("module", ["typer", "yaml"])  # before the command line is there, and inside a command
@pytest.mark.parametrize("body", ["ctrl_c()", AS_IMPORT_ERROR, AS_ANOTHER_ERROR, AS_ABSENT, IN_A_FINALISER])
def test_an_import_cannot_hide_a_ctrl_c(module: str, body: str, tmp_path: Path) -> None:
    """Whatever a C extension makes of the interrupt that hits its import, the program says interrupted, 130."""
    done = run_program(_fake(tmp_path, module, body), "run", "absent.yaml")
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1] == "interrupted"
    assert "Traceback" not in done.stderr or body == IN_A_FINALISER  # Python reports those by itself


def test_debug_shows_what_became_of_a_ctrl_c(tmp_path: Path) -> None:
    """With --debug the traceback stands before the word, and the exit code is the same."""
    done = run_program(_fake(tmp_path, "yaml", AS_IMPORT_ERROR), "--debug", "run", "absent.yaml")
    assert done.returncode == 130
    assert done.stderr.index("Traceback") < done.stderr.index("interrupted")


def test_a_ctrl_c_during_an_import_breaks_nothing(tmp_path: Path) -> None:
    """Put off until the import is done, it ends the program as interrupted, or comes after its end."""
    then_the_real_one = (
        "import sys\nsys.path.remove(os.path.dirname(__file__))\ndel sys.modules['typer']\nimport typer\n"
    )
    done = run_program(_fake(tmp_path, "typer", SWALLOWED + then_the_real_one), "--version")
    assert done.returncode in (0, 130), done.stderr
    assert "Traceback" not in done.stderr


def test_where_ctrl_c_is_ignored_it_stays_ignored(tmp_path: Path) -> None:
    """Under nohup the signal changes nothing: the program goes on to its own answer."""
    deaf = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    environment = _fake(tmp_path, "yaml", "ctrl_c()\nraise ModuleNotFoundError(name='thing')")
    done = run_program(environment, "run", "absent.yaml", before=deaf)
    assert done.returncode == 1
    assert "needs the package 'thing'" in done.stderr


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
    assert code in (0, 130) or outside_main(code, said), said
    assert code != 130 or "Traceback" not in said
    Bundle.read(mine)
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"line.cada", *({"parts", "report.html"} if code == 0 else set())}
