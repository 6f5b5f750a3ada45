"""Run cells: here one after another, in several processes of this machine, or as a list for a scheduler.

A local process runs exactly the command that the job list prints for its cell, so that a crash,
a full memory or a leak ends one cell and not the grid.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TextIO

from cada_edge.bench.cell import Outcome, failure, run_cell
from cada_edge.bench.grid import Bench, Cell
from cada_edge.bench.records import finished, labels_sha256, make_folder, record_path
from cada_edge.data.dataset import Dataset

# cell, stage, steps done, steps in all
GridProgress = Callable[[Cell, str, int, int], None]
Finished = Callable[[Cell, Outcome], None]

_INTERRUPTED = (130, -signal.SIGINT)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def job_list(bench: Bench) -> list[str]:
    """One shell command per cell of the grid; any of them may run anywhere that sees grid, data and out."""
    return [shlex.join(["cada-edge", *_words(bench, cell)]) for cell in bench.cells]


def _words(bench: Bench, cell: Cell) -> list[str]:
    places = ["--data", str(bench.data), "--out", str(bench.out)]
    return ["bench-accuracy", bench.source, *places, "--cell", cell.id]


def run_grid(bench: Bench, jobs: int, progress: GridProgress, told: Finished) -> None:
    """Run every cell that is not done.

    Args:
        bench: the grid and its places.
        jobs: processes; 1 runs the cells in this one. They share the cores of the machine.
        progress: called with cell, stage, steps done and steps in all; from several threads, one at a time.
        told: called with each cell and its outcome, likewise.

    Raises `DataError` when the images cannot be read or the output folder cannot be written.
    """
    dataset = bench.dataset()
    if jobs == 1:
        for cell in bench.cells:
            told(cell, run_cell(bench, cell, dataset, partial(progress, cell)))
        return
    _Pool(bench, dataset, jobs, progress, told).run()


class _Pool:
    """Sub-processes, one per running cell, and a thread each that listens to it."""

    def __init__(self, bench: Bench, dataset: Dataset, jobs: int, progress: GridProgress, told: Finished) -> None:
        self._bench, self._data, self._jobs = bench, labels_sha256(dataset), jobs
        self._progress, self._told = progress, told
        self._lock, self._running, self._stopping = Lock(), set[subprocess.Popen[str]](), False

    def run(self) -> None:
        with ThreadPoolExecutor(self._jobs) as threads, self._stopped_on_the_way_out():
            for future in as_completed([threads.submit(self._run, cell) for cell in self._bench.cells]):
                future.result()

    @contextmanager
    def _stopped_on_the_way_out(self) -> Iterator[None]:
        try:
            yield
        finally:
            with self._lock:
                self._stopping = True
                running = tuple(self._running)
            for process in running:
                process.terminate()

    def _run(self, cell: Cell) -> None:
        before = finished(self._bench, cell)
        outcome = "kept" if before and before.data_sha256 == self._data else self._in_a_process(cell)
        if outcome is not None:
            with self._lock:
                self._told(cell, outcome)

    def _in_a_process(self, cell: Cell) -> Outcome | None:
        """Run one cell; None when it was never started because the grid is being stopped."""
        log = make_folder(self._bench.out / "cells") / f"{cell.id}.log"
        with log.open("a") as said:  # another machine may be writing to it
            process = self._start(cell, said)
            outcome = self._listen(cell, process, said) if process else None
        if process is None or outcome is not None:
            return outcome
        if self._stopping or process.returncode in _INTERRUPTED:
            return "interrupted"
        error = _cause(process.returncode, log)
        failure(self._bench, cell, self._data, error).write(record_path(self._bench, cell))
        return "failed"

    def _start(self, cell: Cell, log: TextIO) -> subprocess.Popen[str] | None:
        with self._lock:
            if self._stopping:
                return None
            process = subprocess.Popen(  # noqa: S603  # this very program
                [sys.executable, "-m", "cada_edge", *_words(self._bench, cell), "--json"],
                env=_environment(self._jobs),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            self._running.add(process)
        return process

    def _listen(self, cell: Cell, process: subprocess.Popen[str], log: TextIO) -> Outcome | None:
        """Pass on what the process says until it ends; its outcome, or None where it fell silent."""
        outcome: Outcome | None = None
        with process:
            for line in process.stdout or ():
                event = _event(line)
                outcome = event.get("outcome", outcome)
                if "stage" in event:
                    with self._lock:
                        self._progress(cell, event["stage"], event["done"], event["total"])
                elif not event:
                    log.write(line)
        with self._lock:
            self._running.discard(process)
        return outcome


def _event(line: str) -> dict[str, Any]:
    """One line of ``--cell ID --json``; empty for what a library printed in between."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _environment(jobs: int) -> dict[str, str]:
    """This process's, with each sub-process given its share of the cores unless the user said otherwise."""
    share = str(max(1, len(os.sched_getaffinity(0)) // jobs))
    return {**dict.fromkeys(_THREAD_VARIABLES, share), **os.environ}


def _cause(code: int, log: Path) -> str:
    """Why a process ended without an outcome."""
    said = log.read_text(errors="replace").strip().splitlines()[-1:]
    how = f"was ended by signal {-code}" if code < 0 else f"left with code {code}"
    return f"its process {how}; {said[0] if said else 'it said nothing'} (see {log.name})"
