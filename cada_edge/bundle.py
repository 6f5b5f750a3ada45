"""The artefact: everything one line needs, in one verified directory or zip.

::

    line.cada
    |- bundle.json           the manifest: schema, contracts, detector, head, threshold, provenance
    |- encoder.safetensors   weights, one file per part
    |- detector.safetensors
    |- head.safetensors
    |- images.json           sha256 of every image used, by role; never a picture or a name
    |- calibration.json      after `cada-edge calibrate`: its scores, by sha256 of the image
    |- model.onnx            after `cada-edge export`
    `- SHA256SUMS            digest of every file above

A bundle read from disk is hostile until checked: names, kinds and sizes first, then every
digest, then the manifest. Nothing in it is ever unpickled or executed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cada_edge import container
from cada_edge.container import MANIFEST, SUMS
from cada_edge.errors import BundleError, BundleSchemaError, ConfigError, UnsafeFileError
from cada_edge.types import ImageSpec, MapSpec, Threshold, from_json, require, to_json

SCHEMA = 1
IMAGES, MODEL = "images.json", "model.onnx"


def data_sha256(digests: Iterable[str]) -> str:
    """Digest of a set of images: of their different digests, sorted, one per line. Order and copies do not count."""
    return hashlib.sha256("\n".join(sorted(set(digests))).encode()).hexdigest()


@dataclass(frozen=True)
class Stage:
    """One line of provenance: which stage made what, from what, how.

    Attributes:
        name: ``train`` or ``wrap``, ``calibrate``, ``export``.
        version: of cada-edge.
        config: every setting of the stage, plain JSON.
        data_sha256: of the images used, see `data_sha256`; empty for none.
        seed: of the stage's random numbers, or ``None`` where it draws none.
        results: figures worth keeping, plain JSON.
    """

    name: str
    version: str
    config: Mapping[str, Any]
    data_sha256: str = ""
    seed: int | None = None
    results: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        texts = {"name": self.name, "version": self.version, "data_sha256": self.data_sha256}
        for key, value in texts.items():
            require(isinstance(value, str), f"Stage.{key}", value, "text")
        for key, mapping in {"config": self.config, "results": self.results}.items():
            require(isinstance(mapping, Mapping), f"Stage.{key}", mapping, "an object")
        require(self.seed is None or isinstance(self.seed, int), "Stage.seed", self.seed, "an integer or null")


@dataclass(frozen=True)
class Component:
    """A detector or head by registered name, with the settings that rebuild it."""

    kind: str
    config: Mapping[str, Any]

    def __post_init__(self) -> None:
        require(isinstance(self.kind, str) and bool(self.kind), "Component.kind", self.kind, "a registered name")
        require(isinstance(self.config, Mapping), "Component.config", self.config, "an object")


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
            document = json.loads(data, parse_constant=_refuse_constant, parse_float=_finite_float)
            schema = document.pop("schema")
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
            raise BundleError(f"{MANIFEST} is not a bundle manifest: {error!r}") from error
        if type(schema) is not int or schema != SCHEMA:  # True and 1.0 equal 1
            raise BundleSchemaError(
                f"bundle has schema {schema!r}, this cada-edge reads schema {SCHEMA}; install a newer cada-edge"
            )
        try:
            return _manifest(document)
        except (ConfigError, KeyError, TypeError) as error:
            raise BundleError(f"{MANIFEST} does not fit schema {SCHEMA}: {error}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _finite_float(text: str) -> float:
    """A JSON number; one beyond a float's range would become infinity, which JSON cannot hold again."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a number that a float holds")
    return value


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
            if name in {MANIFEST, SUMS}:
                raise UnsafeFileError(f"{name} is written from the manifest and cannot be given as a file")
            container.check_file(name, content)
        container.check_totals("bundle", len(self.files) + 2, sum(map(len, self.files.values())))
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))

    def with_file(self, name: str, content: bytes) -> Bundle:
        """A copy with one file added or replaced."""
        return replace(self, files={**self.files, name: content})

    def roles(self) -> dict[str, frozenset[str]]:
        """Role to sha256 digests of the images that had it, from ``images.json``.

        Raises `BundleError` when the bundle does not say.
        """
        content = self.file(IMAGES, "without it nobody can tell which images are held out; train again")
        try:
            document = json.loads(content)
            if document["schema"] != 1:
                raise BundleError(f"{IMAGES} has schema {document['schema']!r}, this cada-edge reads schema 1")
            return {str(role): frozenset(map(str, digests)) for role, digests in document["roles"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BundleError(f"{IMAGES} does not list images by role: {error!r}; train again") from error

    def with_roles(self, roles: Mapping[str, Collection[str]]) -> Bundle:
        """A copy whose ``images.json`` lists these digests by role."""
        listing = {"schema": 1, "roles": {role: sorted(digests) for role, digests in roles.items()}}
        return self.with_file(IMAGES, (json.dumps(listing, indent=0) + "\n").encode())

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
        return container.sums(self._content())

    def _content(self) -> dict[str, bytes]:
        return {MANIFEST: self.manifest.to_json(), **self.files}

    @property
    def sha256(self) -> str:
        """Digest of the whole bundle: of its ``SHA256SUMS``. Same bytes, same digest."""
        return hashlib.sha256(self.sums()).hexdigest()

    def write(self, path: str | Path) -> None:
        """Write as a zip, or as a directory where `path` is one, all or nothing.

        Raises `DataError` when the disk is full, the place cannot be written or is a
        directory of something else; what was there before is then untouched.
        """
        container.write(Path(path), self._content())

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
        content = container.read(Path(path))
        manifest = Manifest.from_json(content.pop(MANIFEST))
        return Bundle(manifest, content)
