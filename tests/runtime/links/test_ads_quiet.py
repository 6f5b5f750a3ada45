"""Beckhoff's library and the log of the line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from runtime_kit import python_env

_SCRIPT = """
from ads_peer import Memory
from cada_edge.runtime.links.ads import AdsLink
from cada_edge.runtime.links.config import AdsConfig
memory = Memory("ads", "127.0.0.1")
link = AdsLink(AdsConfig(kind="ads", host="127.0.0.1", net_id="127.0.0.1.1.1"))
link.open()
link.write_status([7] * 32)
assert memory.status()[0] == 7
link.close()
"""


def test_the_library_prints_nothing_between_the_lines_of_the_log() -> None:
    """Standard error is JSON lines; the library's own "connection closed by remote" is none."""
    ads_peer = pytest.importorskip("ads_peer", reason="pyads is not installed")
    environment = python_env()
    environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], str(Path(ads_peer.__file__).parent)])
    done = subprocess.run([sys.executable, "-c", _SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
