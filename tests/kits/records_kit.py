"""Judgements to record, files to record them in, and a disk that can be filled."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from runtime_kit import THRESHOLD, make_bundle, make_frame

from cada_edge.protocols import Sink
from cada_edge.runtime.judge import Judge, Judgement
from cada_edge.runtime.records.rows import ResultRecord
from cada_edge.runtime.registers import ResultFlag
from cada_edge.runtime.runners.ort import OrtRunner


@cache
def _judge() -> Judge:
    return Judge(OrtRunner(make_bundle(), 1), THRESHOLD)


def judged(level: int, frame_id: int = 0, **changes: Any) -> Judgement:
    """A judgement on a picture of brightness `level`; above 127 it is a reject."""
    return _judge().judge(make_frame(level, frame_id, **changes))


def send(sink: Sink, judgement: Judgement) -> None:
    """Hand a judgement to a sink."""
    sink.send(judgement.verdict, judgement.frame, judgement.prediction)


def result(seq: int = 1, **changes: Any) -> ResultRecord:
    """A PASS shown 9 ms after its trigger, of part 10 + `seq`."""
    values: dict[str, Any] = {
        "station": "s1", "seq": seq, "trigger_id": 700 + seq, "result": int(ResultFlag.PASS), "status": "ok",
        "score": 0.2, "threshold": 0.5, "t_trigger_ns": 10**9, "t_decided_ns": 10**9 + 7_000_000,
        "t_published_ns": 10**9 + 9_000_000, "part": 10 + seq, "encoder": 5000 + seq,
    }  # fmt: skip
    return ResultRecord(**{**values, **changes})


def fetch(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Rows, read by SQLite alone."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


@contextmanager
def small_disk(folder: Path, size_kb: int = 512) -> Iterator[Path]:
    """A disk of so many KiB mounted on `folder`; skips where nobody may mount one."""
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take the last byte of a disk; returns the file to delete again."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as stream:
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    stream.write(bytes(size))
    return ballast
