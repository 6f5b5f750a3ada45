"""Claims: one holder at a time, and none outlives its process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cada_edge.bench.claims import claim
from cada_edge.errors import DataError

HOLD = """
import sys, time
from pathlib import Path
from cada_edge.bench.claims import claim
with claim(Path(sys.argv[1]), wait=False) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


def test_a_claim_is_exclusive_and_dies_with_its_process(tmp_path: Path) -> None:
    """While another process holds a claim nobody gets it; killed without warning, it leaves none behind."""
    lock = tmp_path / "locks" / "cell"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with claim(lock, wait=False) as mine:
            assert not mine
        holder.kill()
    with claim(lock, wait=True) as mine:
        assert mine


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file where the folder should be is told with its path."""
    (tmp_path / "locks").write_text("")
    with pytest.raises(DataError, match="locks"), claim(tmp_path / "locks" / "cell", wait=False):
        pass
