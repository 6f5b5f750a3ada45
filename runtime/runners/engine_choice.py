"""Which of a bundle's engines runs here, or why none does."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from pathlib import Path

from cada_edge.bundle import Bundle
from cada_edge.engine_key import EngineKey, Flavour, Precision, build_command, difference, graph_name, how_to_get
from cada_edge.engine_store import StoredEngine, Survey, engines_folder, survey
from cada_edge.errors import EngineError, EngineMismatchError


@dataclass(frozen=True)
class Wanted:
    """What an engine must have been built for to run here.

    Attributes:
        flavour: of TensorRT.
        version: of the TensorRT installed here.
        compute_capability: of the GPU here.
        precision: asked for.
        batch: pictures in one call, or ``None`` for the engine's usual number.
    """

    flavour: Flavour
    version: str
    compute_capability: str
    precision: Precision
    batch: int | None = None


def choose_engine(bundle: Bundle, path: Path, wanted: Wanted) -> StoredEngine:
    """The engine beside the bundle at `path` that runs here; with a plugin before one without.

    Raises:
        EngineMismatchError: there are engines, all foreign; names the field of the nearest, both
            values and the command that builds one here, and an engine whose sidecar cannot be read.
        EngineError: there is none, or none whose sidecar can be read.
    """
    graph = bundle.file(graph_name(wanted.precision), how_to_get(wanted.precision))
    onnx = hashlib.sha256(graph).hexdigest()
    found = survey(engines_folder(path))
    if not found.engines:
        size = wanted.batch or 1
        key = EngineKey(
            wanted.flavour, wanted.version, wanted.compute_capability, wanted.precision, onnx, "0" * 64, (size,) * 3
        )
        raise EngineError(f"{path} has no engine yet{_besides(found)}; build one here: {build_command(path, key)}")
    ranked = sorted(
        found.engines, key=lambda e: (_distance(e.record.key, wanted, onnx), not e.record.key.plugin_sha256)
    )
    best, here = ranked[0], _here(ranked[0].record.key, wanted, onnx)
    if told := difference(best.record.key, here):
        command = build_command(path, here)
        raise EngineMismatchError(
            f"the engine {best.folder} cannot run here: {told}{_besides(found)}; build one here: {command}"
        )
    return best


def _besides(found: Survey) -> str:
    """The first engine whose sidecar cannot be read: it may have been the one."""
    return f" ({next(iter(found.unreadable.values()))})" if found.unreadable else ""


def _here(key: EngineKey, wanted: Wanted, onnx: str) -> EngineKey:
    """The key an engine of `key`'s kind would have here."""
    size = wanted.batch
    return replace(
        key,
        flavour=wanted.flavour,
        version=wanted.version,
        compute_capability=wanted.compute_capability,
        precision=wanted.precision,
        onnx_sha256=onnx,
        batch=key.batch if size is None or key.runs(size) else (size, size, size),
    )


def _distance(key: EngineKey, wanted: Wanted, onnx: str) -> int:
    """Number of fields in which an engine is foreign."""
    here = _here(key, wanted, onnx)
    return sum(getattr(key, field.name) != getattr(here, field.name) for field in fields(EngineKey))
