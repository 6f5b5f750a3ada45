"""Two trainings never share a work folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cada_edge.errors import DataError, TrainingError
from cada_edge.training.lock import work_lock

HOLD = """
import sys, time
from pathlib import Path
from cada_edge.training.lock import work_lock
with work_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_training_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    """Another process holds the folder: one error that names it and what to do; once killed, the folder is free."""
    work = tmp_path / "line.cada.work"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(work)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(TrainingError, match=f"in use by another training, process {holder.pid}; .* another --out"):
            work_lock(work).__enter__()
        holder.send_signal(signal.SIGKILL)
    with work_lock(work):
        assert (work / "lock").read_text() == str(os.getpid())


def test_an_interrupted_training_leaves_the_folder_free(tmp_path: Path) -> None:
    """An exception inside gives the folder back, and what lies in it stays."""
    (tmp_path / "detector.safetensors").write_bytes(b"kept")
    with pytest.raises(KeyboardInterrupt), work_lock(tmp_path):
        raise KeyboardInterrupt
    with work_lock(tmp_path):
        assert (tmp_path / "detector.safetensors").read_bytes() == b"kept"


def test_the_folder_may_vanish_while_held(tmp_path: Path) -> None:
    """A finished training removes its work folder with the lock in it."""
    with work_lock(tmp_path / "work"):
        (tmp_path / "work" / "lock").unlink()
        (tmp_path / "work").rmdir()
    assert not (tmp_path / "work").exists()


def test_a_place_that_is_no_folder_is_named(tmp_path: Path) -> None:
    """A file where the folder should be is one error of ours."""
    (tmp_path / "work").write_bytes(b"")
    with pytest.raises(DataError, match=r"work: cannot keep"):
        work_lock(tmp_path / "work").__enter__()
