"""What a grid makes of its processes: their share of the machine, their words, their end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cada_edge.bench.spread import _cause, _environment, _event


def test_processes_share_the_cores_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process gets its part of the cores, at least one thread; what the user set stands."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert _environment(1)["OMP_NUM_THREADS"] == str(len(os.sched_getaffinity(0)))
    assert _environment(10_000)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert _environment(10_000)["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize(
    ("line", "event"), [('{"outcome": "done"}', {"outcome": "done"}), ("Downloading...", {}), ("[1]", {}), ("", {})]
)
def test_what_a_library_prints_is_no_event(line: str, event: dict[str, str]) -> None:
    """Only our own lines are read; anything else in between cannot stop the grid."""
    assert _event(line) == event


@pytest.mark.parametrize(
    ("code", "said", "words"),
    [(-9, "one\nlast words\n", "signal 9; last words"), (1, "", "left with code 1; it said nothing")],
)
def test_a_process_that_died_is_explained(code: int, said: str, words: str, tmp_path: Path) -> None:
    """Its end and its last line stand in the record, and where the rest is."""
    log = tmp_path / "a.cada.0.log"
    log.write_text(said)
    assert words in _cause(code, log)
    assert "a.cada.0.log" in _cause(code, log)
