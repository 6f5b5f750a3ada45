"""Engines on disk: beside their bundle, each in the folder of its key.

::

    line.cada
    line.cada.engines/
    `- 3f0c9b1e5d2a7788/        digest of the key
       |- model.engine          the plan, TensorRT's own format
       |- model.engine.json     the key, the plan's sha256, what the builder reported
       `- plugin.so             the plugin library it needs, where it needs one

Never in the bundle: a bundle is the same bytes on every device, and its digest is what a PLC
shows as the model; an engine fits one device, and can be made again there. A plan and a
plugin are code: whoever may write to this folder decides what the line runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cada_edge.engine_key import EngineKey, check_digest
from cada_edge.errors import ConfigError, DataError, EngineError, EngineMismatchError
from cada_edge.imaging import write_atomic
from cada_edge.types import from_json, require, to_json

SCHEMA = 1
PLAN, SIDECAR, PLUGIN = "model.engine", "model.engine.json", "plugin.so"
MAX_SIDECAR_BYTES = 1 << 20


@dataclass(frozen=True)
class KernelReport:
    """What the builder's log says of the engine.

    Attributes:
        layers: layer type to number of them.
        convolutions: data type that a convolution reads (``Float``, ``Half``, ``Int8``) to number of them.
        products: likewise for matrix products.
        plugins: plugin layers.
    """

    layers: Mapping[str, int] = field(default_factory=dict)
    convolutions: Mapping[str, int] = field(default_factory=dict)
    products: Mapping[str, int] = field(default_factory=dict)
    plugins: int = 0

    def __post_init__(self) -> None:
        for name in ("layers", "convolutions", "products"):
            table = getattr(self, name)
            fits = isinstance(table, Mapping) and all(isinstance(k, str) and _count(v) for k, v in table.items())
            require(fits, f"KernelReport.{name}", table, "an object of names and numbers")
        require(_count(self.plugins), "KernelReport.plugins", self.plugins, "an integer >= 0")


@dataclass(frozen=True)
class EngineRecord:
    """What the sidecar holds.

    Attributes:
        key: where the engine may run.
        plan_sha256: of the plan's bytes.
        plan_bytes: their number.
        plugin_version: of the plugin that it calls, as its creator says; empty for none.
        version: of the cada-edge that built it.
        settings: every setting of the build that is not in the key, plain JSON.
        kernels: what the builder reported.
    """

    key: EngineKey
    plan_sha256: str
    plan_bytes: int
    plugin_version: str
    version: str
    settings: Mapping[str, Any]
    kernels: KernelReport

    def __post_init__(self) -> None:
        for name in ("plugin_version", "version"):
            require(isinstance(getattr(self, name), str), f"EngineRecord.{name}", getattr(self, name), "text")
        check_digest(self.plan_sha256, "EngineRecord.plan_sha256")
        require(_count(self.plan_bytes), "EngineRecord.plan_bytes", self.plan_bytes, "an integer >= 0")
        require(isinstance(self.settings, Mapping), "EngineRecord.settings", self.settings, "an object")

    def to_json(self) -> bytes:
        """UTF-8 JSON, keys in order, ending in a newline."""
        document = {"schema": SCHEMA, **to_json(self)}
        document["key"] = to_json(self.key)
        document["kernels"] = to_json(self.kernels)
        return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()

    @staticmethod
    def from_json(data: bytes, name: str = SIDECAR) -> EngineRecord:
        """Parse and check hostile bytes. Raises `EngineError` naming the file `name`."""
        try:
            document = json.loads(data, parse_constant=_refuse_constant)
            schema = document.pop("schema")
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
            raise EngineError(f"{name} is not an engine's sidecar: {error!r}; build the engine again") from error
        if type(schema) is not int or schema != SCHEMA:  # True and 1.0 equal 1
            raise EngineError(f"{name} has schema {schema!r}, this cada-edge reads schema {SCHEMA}; build again")
        try:
            parts = {
                "key": from_json(EngineKey, document.pop("key")),
                "kernels": from_json(KernelReport, document.pop("kernels")),
            }
            return from_json(EngineRecord, {**document, **parts})
        except (ConfigError, KeyError) as error:
            raise EngineError(f"{name} does not fit schema {SCHEMA}: {error}; build the engine again") from error


@dataclass(frozen=True)
class StoredEngine:
    """An engine's folder and what its sidecar says; the plan itself is not read yet."""

    folder: Path
    record: EngineRecord

    def plan(self) -> bytes:
        """The plan's bytes, whole. Raises `EngineError` when they are missing or not those that were built."""
        content = _read(self.folder / PLAN)
        found, expected = hashlib.sha256(content).hexdigest(), self.record.plan_sha256
        if found != expected:
            raise EngineError(
                f"{self.folder / PLAN} is truncated or changed: {len(content)} bytes with sha256 {found[:12]}..., "
                f"built were {self.record.plan_bytes} with {expected[:12]}...; build it again"
            )
        return content

    @property
    def plugin(self) -> Path | None:
        """The plugin library that this engine needs, or None where it needs none."""
        return self.folder / PLUGIN if self.record.key.plugin_sha256 else None

    def check(self) -> None:
        """Hold plan and plugin to the sidecar; needs neither TensorRT nor a GPU.

        Raises:
            EngineError: one of them is missing, or the plan is not the one that was built.
            EngineMismatchError: the plugin library is another one.
        """
        self.plan()
        if self.plugin is not None:
            self.check_plugin(hashlib.sha256(_read(self.plugin)).hexdigest())

    def check_plugin(self, found: str) -> None:
        """Raise `EngineMismatchError` unless `found` is the sha256 of the plugin library this engine was built with."""
        expected = self.record.key.plugin_sha256
        if found != expected:
            raise EngineMismatchError(
                f"{self.folder / PLUGIN} has sha256 {found[:12]}..., the engine was built with {expected[:12]}...; "
                "build the engine again"
            )


@dataclass(frozen=True)
class Survey:
    """What lies in a bundle's folder of engines.

    Attributes:
        engines: those with a sidecar that can be read, in order of their names; their plans are not looked at.
        unreadable: every other engine's folder, and what is wrong with it. None of them can run.
    """

    engines: tuple[StoredEngine, ...] = ()
    unreadable: Mapping[Path, str] = field(default_factory=dict)


def engines_folder(bundle: Path) -> Path:
    """Where the engines of the bundle at `bundle` are."""
    return bundle.with_name(f"{bundle.name}.engines")


def store(folder: Path, record: EngineRecord, plan: bytes, plugin: bytes | None = None) -> StoredEngine:
    """Write an engine below `folder`: plugin, plan, then the sidecar that vouches for both.

    Each file is whole or absent. Cut off between two of them, what is left does not match
    the sidecar, or has none, and is refused. Raises `DataError` when a file cannot be written.
    """
    target = folder / record.key.digest
    make_folder(target)
    if plugin is not None:
        write_atomic(target / PLUGIN, plugin)
    write_atomic(target / PLAN, plan)
    write_atomic(target / SIDECAR, record.to_json())
    return StoredEngine(target, record)


def make_folder(folder: Path) -> None:
    """Make it and what it stands in. Raises `DataError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot make the folder: {error.strerror or error}") from error


def survey(folder: Path) -> Survey:
    """Look at every engine below `folder`; nothing where there is no such folder.

    One that cannot be read hides no other. Raises `EngineError` when the folder itself cannot be read.
    """
    engines, unreadable = list[StoredEngine](), dict[Path, str]()
    for one in _engine_folders(folder):
        try:
            engines.append(StoredEngine(one, EngineRecord.from_json(_sidecar(one), str(one / SIDECAR))))
        except EngineError as error:  # noqa: PERF203  # a handful of folders
            unreadable[one] = str(error)
    return Survey(tuple(engines), unreadable)


def _engine_folders(folder: Path) -> list[Path]:
    """Folders below `folder` with a plan or a sidecar, by name."""
    try:
        if not folder.is_dir():
            return []
        return [one for one in sorted(folder.iterdir()) if (one / SIDECAR).exists() or (one / PLAN).exists()]
    except OSError as error:
        raise EngineError(f"{folder}: cannot read the folder: {error.strerror or error}; may you read it?") from error


def _sidecar(folder: Path) -> bytes:
    if not (folder / SIDECAR).exists():  # the sidecar is written last: its build was cut off
        raise EngineError(f"{folder} has a plan and no {SIDECAR} that vouches for it; build the engine again")
    return _read(folder / SIDECAR, MAX_SIDECAR_BYTES)


def _read(path: Path, most: int | None = None) -> bytes:
    try:
        if most is not None and path.stat().st_size > most:
            raise EngineError(
                f"{path} has {path.stat().st_size} bytes, at most {most} are read; build the engine again"
            )
        return path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path}: cannot read it: {error.strerror or error}; build the engine again") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _count(value: object) -> bool:
    return type(value) is int and value >= 0
