"""One cell: train, export, evaluate, weigh the head, and leave a record whatever happens."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import onnxruntime
import torch

from cada_edge.bench.claims import claim
from cada_edge.bench.descriptors import SharedDescriptors
from cada_edge.bench.figures import figures
from cada_edge.bench.grid import Bench, Cell
from cada_edge.bench.head_cost import head_cost
from cada_edge.bench.records import (
    CellRecord,
    code_sha256,
    config_sha256,
    finished,
    labels_sha256,
    make_folder,
    record_path,
    settings,
)
from cada_edge.bundle import Bundle
from cada_edge.data.dataset import Dataset
from cada_edge.errors import CadaEdgeError, ConfigError
from cada_edge.evaluation import EvaluateConfig, evaluate
from cada_edge.export.stage import export
from cada_edge.models import load_model
from cada_edge.runtime.runners.ort import OrtRunner
from cada_edge.training import train
from cada_edge.training.encode import open_describer
from cada_edge.training.train import encode
from cada_edge.version import __version__

Progress = Callable[[str, int, int], None]
Outcome = Literal["done", "kept", "failed", "elsewhere", "interrupted"]

# What a training's features and its fitted detector do not depend on; everything else keeps them apart.
_NOT_IN_DETECTOR = frozenset({"head", "head_fit"})
_NOT_IN_FEATURES = _NOT_IN_DETECTOR | {"detector", "map_spec", "roles", "fit"}
_NOT_IN_DESCRIPTORS = _NOT_IN_FEATURES | {"augment", "seed", "device"}


def run_cell(bench: Bench, cell: Cell, dataset: Dataset, progress: Progress) -> Outcome:
    """Run one cell unless it is done or another process is at it.

    What a cell needs beyond its head (features, fitted detector) is kept in ``out`` for the other
    cells, and an interrupted cell goes on from there.

    Args:
        bench: the grid and its places.
        cell: one of its cells.
        dataset: the grid's images.
        progress: called with stage, steps done and steps in all.

    Returns:
        ``done``; ``kept`` where it was done before under the same settings, version and images;
        ``failed``, with the error in the record; ``elsewhere`` where another process runs it.

    Raises `DataError` when the output folder cannot be written.
    """
    with claim(bench.out / "locks" / f"{cell.id}.lock", wait=False) as mine:
        if not mine:
            return "elsewhere"
        data = labels_sha256(dataset)
        found = finished(bench, cell)
        if found is not None and found.data_sha256 == data:
            return "kept"
        record = _outcome(bench, cell, dataset, data, progress)
        record.write(record_path(bench, cell))
        return record.status


def failure(bench: Bench, cell: Cell, data_sha256: str, error: str, trace: str = "") -> CellRecord:
    """The record of a cell that came to nothing."""
    return CellRecord(
        cell.id, "failed", config_sha256(bench, cell), data_sha256, _provenance(cell, {}), error=error, trace=trace
    )


def _outcome(bench: Bench, cell: Cell, dataset: Dataset, data: str, progress: Progress) -> CellRecord:
    clock = _Clock(progress)
    try:
        found = _measure(bench, cell, dataset, clock)
    except CadaEdgeError as error:
        return failure(bench, cell, data, str(error))
    except Exception as error:  # noqa: BLE001  # hours of other cells must not fall with one; it is recorded and reported
        return failure(bench, cell, data, f"{type(error).__name__}: {error}", traceback.format_exc())
    return CellRecord(cell.id, "done", config_sha256(bench, cell), data, _provenance(cell, clock.seconds), found)


def _measure(bench: Bench, cell: Cell, dataset: Dataset, progress: Progress) -> dict[str, Any]:
    threads = torch.get_num_threads()
    open_graph = partial(OrtRunner, threads=threads)
    trained = _train(bench, cell, dataset, progress)
    bundle, _ = export(trained, open_graph, progress=partial(progress, "check the graph"))
    if bench.grid.keep_bundles:
        bundle.write(make_folder(bench.out / "bundles") / f"{cell.id}.cada")
    config = EvaluateConfig("absolute", bench.grid.targets_frr)
    describe = _describer(bench, cell, bundle)
    with open_graph(bundle) as runner:
        evaluation = evaluate(bundle, runner, dataset, config, progress, describe=describe)
    describe.save()
    progress("weigh the head", 0, 1)
    cost = head_cost(bundle, bench.grid.latency_runs)
    progress("weigh the head", 1, 1)
    return {**figures(evaluation), "head_cost": asdict(cost), "bundle_sha256": bundle.sha256}


def _describer(bench: Bench, cell: Cell, bundle: Bundle) -> SharedDescriptors:
    """What a classifier of products reads; the same for all cells with the same encoder and size."""
    name = _digest(cell, [], _NOT_IN_DESCRIPTORS)
    path = make_folder(bench.out / "descriptors") / f"{name}.npz"
    return SharedDescriptors(path, lambda: open_describer(load_model(bundle), torch.device("cpu")))


def _train(bench: Bench, cell: Cell, dataset: Dataset, progress: Progress) -> Bundle:
    """Train in folders that cells with the same features and the same detector share, one at a time."""
    items = dataset.train()
    digests = sorted(item.sha256 for item in items)
    work = make_folder(bench.out / "detectors" / _digest(cell, digests, _NOT_IN_DETECTOR))
    features = make_folder(bench.out / "features") / _digest(cell, digests, _NOT_IN_FEATURES)
    with _alone(bench, features, progress):
        encode(cell.config, items, features, progress)
    with _alone(bench, work, progress):
        bundle = train(cell.config, items, work, progress, features=features)
    if bundle is None:
        raise ConfigError("a cell is trained in one process; start bench-accuracy without torchrun")
    return bundle


@contextmanager
def _alone(bench: Bench, folder: Path, progress: Progress) -> Iterator[None]:
    """Wait until no other cell fills `folder`."""
    progress("wait for another cell", 0, 1)
    with claim(bench.out / "locks" / f"{folder.parent.name}-{folder.name}.lock", wait=True):
        progress("wait for another cell", 1, 1)
        yield


def _digest(cell: Cell, digests: list[str], apart: frozenset[str]) -> str:
    """Name for what depends on these images and on every setting that is not `apart`."""
    kept = {name: value for name, value in settings(cell).items() if name not in apart}
    return hashlib.sha256(json.dumps([code_sha256(), kept, digests], sort_keys=True).encode()).hexdigest()[:16]


def _provenance(cell: Cell, seconds: dict[str, float]) -> dict[str, Any]:
    return {
        "version": __version__,
        "settings": settings(cell),
        "detector": cell.detector,
        "head": cell.head,
        "seed": cell.seed,
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        "threads": torch.get_num_threads(),
        "machine": {"cpu": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "packages": {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__},
    }


class _Clock:
    """Passes progress on and adds up the wall time of each stage.

    A stage that finds its work done by another cell reports nothing and is not listed.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._last = time.monotonic()
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now
        self._progress(stage, done, total)
