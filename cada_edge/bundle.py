"""The artefact: everything one line needs, in one verified directory or zip.

::

    line.cada
    |- bundle.json           the manifest: schema, contracts, detector, head, threshold, provenance
    |- encoder.safetensors   weights, one file per part
    |- detector.safetensors
    |- head.safetensors
    |- images.json           sha256 of every image used, by role; never a picture or a name
    |- model.onnx            after `cada-edge export`
    `- SHA256SUMS            digest of every file above

A bundle read from disk is hostile until checked: names, kinds and sizes first, then every
digest, then the manifest. Nothing in it is ever unpickled or executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import struct
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from cada_edge.errors import (
    BundleError,
    BundleIntegrityError,
    BundleSchemaError,
    ConfigError,
    DataError,
    UnsafeFileError,
)
from cada_edge.types import ImageSpec, MapSpec, Threshold, from_json, to_json

SCHEMA = 1
MANIFEST, SUMS, IMAGES, MODEL = "bundle.json", "SHA256SUMS", "images.json", "model.onnx"
MAX_FILES = 64
MAX_BYTES = 4 << 30

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_SUFFIXES = frozenset({".json", ".safetensors", ".onnx", ""})
_ZIP_MAGIC = b"PK\x03\x04"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Stage:
    """One line of provenance: which stage made what, from what, how.

    Attributes:
        name: ``train``, ``calibrate`` or ``export``.
        version: of cada-edge.
        config: every setting of the stage, plain JSON.
        data_sha256: digest over the sorted digests of the images used; empty for none.
        seed: of the stage's random numbers, or ``None`` where it draws none.
        results: figures worth keeping, plain JSON.
    """

    name: str
    version: str
    config: Mapping[str, Any]
    data_sha256: str = ""
    seed: int | None = None
    results: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Component:
    """A detector or head by registered name, with the settings that rebuild it."""

    kind: str
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Manifest:
    """What ``bundle.json`` holds. Each stage writes its own fields and no other's."""

    spec: ImageSpec
    map_spec: MapSpec
    detector: Component
    head: Component
    threshold: Threshold | None = None
    provenance: tuple[Stage, ...] = ()

    def to_json(self) -> bytes:
        """UTF-8 JSON, keys in order, ending in a newline."""
        document = {
            "schema": SCHEMA,
            "spec": to_json(self.spec),
            "map_spec": to_json(self.map_spec),
            "detector": to_json(self.detector),
            "head": to_json(self.head),
            "threshold": to_json(self.threshold) if self.threshold else None,
            "provenance": [to_json(stage) for stage in self.provenance],
        }
        return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()

    @staticmethod
    def from_json(data: bytes) -> Manifest:
        """Parse and check. Raises `BundleSchemaError` or `BundleError`."""
        try:
            document = json.loads(data)
            schema = document.pop("schema")
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
            raise BundleError(f"{MANIFEST} is not a bundle manifest: {error!r}") from error
        if schema != SCHEMA:
            raise BundleSchemaError(
                f"bundle has schema {schema!r}, this cada-edge reads schema {SCHEMA}; install a newer cada-edge"
            )
        try:
            return _manifest(document)
        except (ConfigError, KeyError, TypeError) as error:
            raise BundleError(f"{MANIFEST} does not fit schema {SCHEMA}: {error}") from error


def _manifest(document: dict[str, Any]) -> Manifest:
    threshold = document.pop("threshold")
    manifest = Manifest(
        spec=from_json(ImageSpec, document.pop("spec")),
        map_spec=from_json(MapSpec, document.pop("map_spec")),
        detector=from_json(Component, document.pop("detector")),
        head=from_json(Component, document.pop("head")),
        threshold=None if threshold is None else from_json(Threshold, threshold),
        provenance=tuple(from_json(Stage, stage) for stage in document.pop("provenance")),
    )
    if document:
        raise ConfigError(f"unknown keys {sorted(document)}")
    return manifest


@dataclass(frozen=True)
class Bundle:
    """A manifest and the bytes of the other files, all held in memory.

    Attributes:
        manifest: the parsed ``bundle.json``.
        files: file name to content, without the manifest and the digests.
    """

    manifest: Manifest
    files: Mapping[str, bytes]

    def __post_init__(self) -> None:
        for name, content in self.files.items():
            _check_name(name)
            _check_content(name, content)
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))

    def with_file(self, name: str, content: bytes) -> Bundle:
        """A copy with one file added or replaced."""
        return replace(self, files={**self.files, name: content})

    def with_stage(self, stage: Stage, **changes: Any) -> Bundle:
        """A copy with manifest fields changed and the stage that changed them on record.

        An earlier record of the same stage is replaced: it no longer describes the bundle.
        """
        kept = tuple(s for s in self.manifest.provenance if s.name != stage.name)
        return replace(self, manifest=replace(self.manifest, provenance=(*kept, stage), **changes))

    def file(self, name: str, hint: str = "") -> bytes:
        """Content of one file. Raises `BundleError` with `hint` when it is not there."""
        try:
            return self.files[name]
        except KeyError:
            raise BundleError(f"bundle has no {name}{'; ' + hint if hint else ''}") from None

    def sums(self) -> bytes:
        """The content of ``SHA256SUMS``, in the format of sha256sum(1)."""
        everything = {MANIFEST: self.manifest.to_json(), **self.files}
        lines = (f"{hashlib.sha256(everything[n]).hexdigest()}  {n}\n" for n in sorted(everything))
        return "".join(lines).encode()

    @property
    def sha256(self) -> str:
        """Digest of the whole bundle: of its ``SHA256SUMS``. Same bytes, same digest."""
        return hashlib.sha256(self.sums()).hexdigest()

    def write(self, path: str | Path) -> None:
        """Write as a zip, or as a directory where `path` is one, all or nothing.

        Raises `DataError` when the disk is full or the place cannot be written; what was
        there before is then untouched.
        """
        target = Path(path)
        content = {MANIFEST: self.manifest.to_json(), **self.files, SUMS: self.sums()}
        try:
            if target.is_dir():
                _write_directory(target, content)
            else:
                _write_zip(target, content)
        except OSError as error:
            raise DataError(f"{target}: cannot write the bundle: {error.strerror or error}") from error

    @staticmethod
    def read(path: str | Path) -> Bundle:
        """Read and verify a bundle; nothing unchecked is returned.

        Raises:
            DataError: `path` does not exist or cannot be read.
            UnsafeFileError: a name, link, size or content a bundle never has.
            BundleIntegrityError: a file is missing, extra, truncated or changed.
            BundleSchemaError: written by a newer version.
            BundleError: not a bundle.
        """
        source = Path(path)
        try:
            content = _read_directory(source) if source.is_dir() else _read_zip(source)
        except OSError as error:
            raise DataError(f"{source}: cannot read the bundle: {error.strerror or error}") from error
        _verify(source, content)
        del content[SUMS]
        manifest = Manifest.from_json(content.pop(MANIFEST))
        return Bundle(manifest, content)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or ".." in name:
        raise UnsafeFileError(f"bundle file name {name!r} is not allowed; expected letters, digits, '.', '_', '-'")
    if PurePosixPath(name).suffix not in _SUFFIXES:
        raise UnsafeFileError(f"bundle file {name!r} is of a kind no bundle holds; expected {sorted(_SUFFIXES)}")


def _check_content(name: str, content: bytes) -> None:
    """Refuse weights that are not safetensors: 8 bytes of length, then a JSON header."""
    if not name.endswith(".safetensors"):
        return
    length = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else len(content) + 1
    if 8 + length > len(content) or not content[8:9] == b"{":
        kind = "a pickle" if content[:1] == b"\x80" or content[:4] == _ZIP_MAGIC else "something else"
        raise UnsafeFileError(
            f"{name} looks like {kind}, expected safetensors; weights in other formats are never loaded"
        )


def _verify(source: Path, content: Mapping[str, bytes]) -> None:
    """Every file listed, every listed file there, every digest right."""
    for name in (SUMS, MANIFEST):
        if name not in content:
            raise BundleError(f"{source} is not a cada-edge bundle: it has no {name}")
    try:
        pairs = [line.split("  ", 1) for line in content[SUMS].decode("ascii").splitlines()]
        expected = {name: digest for digest, name in pairs}
    except ValueError as error:
        raise BundleIntegrityError(f"{source}: {SUMS} is damaged: {error}") from error
    differ = sorted(expected.keys() ^ (content.keys() - {SUMS}))
    if differ:
        raise BundleIntegrityError(f"{source}: files and {SUMS} disagree about {differ}; copy the bundle again")
    for name, digest in expected.items():
        found = hashlib.sha256(content[name]).hexdigest()
        if found != digest:
            raise BundleIntegrityError(
                f"{source}: {name} was changed or damaged: sha256 is {found[:12]}..., {SUMS} says {digest[:12]}...; "
                "copy the bundle again or make it anew"
            )


def _check_totals(source: Path, count: int, size: int) -> None:
    if count > MAX_FILES:
        raise UnsafeFileError(f"{source}: {count} files, a bundle has at most {MAX_FILES}")
    if size > MAX_BYTES:
        raise UnsafeFileError(f"{source}: {size} bytes unpacked, a bundle has at most {MAX_BYTES}")


def _read_directory(source: Path) -> dict[str, bytes]:
    entries = sorted(source.iterdir())
    for entry in entries:
        _check_name(entry.name)
        if not stat.S_ISREG(entry.lstat().st_mode):
            raise UnsafeFileError(f"{entry} is not a regular file; a bundle holds no links and no folders")
    _check_totals(source, len(entries), sum(entry.lstat().st_size for entry in entries))
    return {entry.name: entry.read_bytes() for entry in entries}


def _read_zip(source: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(source) as archive:
            infos = archive.infolist()
            for info in infos:
                _check_entry(source, info)
            _check_totals(source, len(infos), sum(info.file_size for info in infos))
            content = {info.filename: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise BundleIntegrityError(f"{source} is not a whole bundle: {error}; copy it again") from error
    if len(content) != len(infos):
        raise UnsafeFileError(f"{source}: a file name stands twice in the zip")
    return content


def _check_entry(source: Path, info: zipfile.ZipInfo) -> None:
    _check_name(info.filename)
    mode = info.external_attr >> 16
    if mode and not stat.S_ISREG(mode):
        raise UnsafeFileError(
            f"{source}: {info.filename} is not a regular file; a bundle holds no links and no folders"
        )
    if info.compress_type != zipfile.ZIP_STORED:
        raise UnsafeFileError(f"{source}: {info.filename} is compressed; a bundle stores its files as they are")


def _write_zip(target: Path, content: Mapping[str, bytes]) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
                for name in sorted(content):
                    info = zipfile.ZipInfo(name, _EPOCH)  # a fixed time: same content, same bytes
                    info.external_attr = (stat.S_IFREG | 0o644) << 16
                    archive.writestr(info, content[name])
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _write_directory(target: Path, content: Mapping[str, bytes]) -> None:
    """Fill a directory beside `target`, then swap the two."""
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        for name, data in content.items():
            (fresh / name).write_bytes(data)
        old = fresh.with_suffix(".old")
        os.replace(target, old)
        os.replace(fresh, target)
        shutil.rmtree(old)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
