"""What a finished or failed cell leaves behind: one JSON file, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import cada_edge
from cada_edge.bench.grid import Bench, Cell
from cada_edge.data.dataset import Dataset
from cada_edge.errors import DataError
from cada_edge.imaging import write_atomic
from cada_edge.version import __version__

SCHEMA = 1
Status = Literal["done", "failed"]


@dataclass(frozen=True)
class CellRecord:
    """One cell's outcome.

    Attributes:
        cell: its id.
        status: ``done`` or ``failed``.
        config_sha256: digest of code and every setting, see `config_sha256`.
        data_sha256: digest of images and labels, see `labels_sha256`.
        provenance: settings, versions, machine, seconds per stage; plain JSON.
        figures: what was measured, see `cada_edge.bench.figures`; empty for a failure.
        error: why it failed, in words.
        trace: where, for a bug report; empty for errors of ours.
    """

    cell: str
    status: Status
    config_sha256: str
    data_sha256: str
    provenance: Mapping[str, Any]
    figures: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    trace: str = ""

    def write(self, path: Path) -> None:
        """Raises `DataError` when the place cannot be written."""
        text = json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, allow_nan=False)
        make_folder(path.parent)
        write_atomic(path, f"{text}\n".encode())

    @staticmethod
    def read(path: Path) -> CellRecord | None:
        """The record at `path`, or None where there is none. Raises `DataError` when it is damaged."""
        try:
            document = json.loads(path.read_bytes())
            schema = document.pop("schema")
            if schema != SCHEMA:
                raise DataError(f"{path} has schema {schema!r}, this cada-edge reads schema {SCHEMA}; delete it")
            return CellRecord(**document)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is no record of a cell ({error!r}); delete it to run the cell again") from error


def record_path(bench: Bench, cell: Cell) -> Path:
    """Where the record of `cell` lies."""
    return bench.out / "cells" / f"{cell.id}.json"


def finished(bench: Bench, cell: Cell) -> CellRecord | None:
    """The record of `cell` if it is done under the very settings and code of now."""
    record = CellRecord.read(record_path(bench, cell))
    fits = record is not None and record.status == "done" and record.config_sha256 == config_sha256(bench, cell)
    return record if fits else None


def config_sha256(bench: Bench, cell: Cell) -> str:
    """Digest of what determines a cell's figures, but for the images."""
    facts = [SCHEMA, code_sha256(), bench.grid.layout, settings(cell), bench.grid.targets_frr]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@cache
def code_sha256() -> str:
    """Digest of the version and of cada-edge's own sources: figures of other code are other figures."""
    sources = hashlib.sha256(__version__.encode())
    root = Path(cada_edge.__file__).parent
    files = (Path(folder, name) for folder, _, names in os.walk(root, followlinks=True) for name in names)
    for path in sorted(path for path in files if path.suffix == ".py"):
        sources.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return sources.hexdigest()


def settings(cell: Cell) -> dict[str, Any]:
    """Every setting of a cell's training, plain JSON; the detector's kind shows as its settings' type."""
    config: dict[str, Any] = json.loads(json.dumps(asdict(cell.config)))
    return {**config, "detector": {"type": type(cell.config.detector).__name__, **config["detector"]}}


def labels_sha256(dataset: Dataset) -> str:
    """Digest of images and what is said of them: another label is another measurement."""
    rows = sorted([i.sha256, i.split, i.product, i.defect or "", *(m.name for m in i.masks)] for i in dataset.items)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def make_folder(path: Path) -> Path:
    """Make it and its parents where they are not there. Raises `DataError`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be made: {error.strerror or error}; name another --out") from error
    return path
