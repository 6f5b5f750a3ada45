"""``tune.json``: what was found to be fastest, for which bundle, machine and libraries.

::

    line.cada
    line.cada.tune.json        beside the bundle; in the user's cache where its folder cannot be written

Never in the bundle, which is the same bytes on every device. The file chooses among ways that
were found to decide alike; it can name no file and no code.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from cada_edge.bundle import Bundle
from cada_edge.engine_key import Precision
from cada_edge.errors import ConfigError, DataError
from cada_edge.imaging import write_atomic
from cada_edge.runtime.benchmark.machine import machine
from cada_edge.runtime.log import make_logger
from cada_edge.runtime.runners.how import How, Level, LocalBackend, LocalOptions
from cada_edge.strict_yaml import Strict, validated
from cada_edge.version import __version__

KIND: Final = "cada-edge tune"
MAX_BYTES, MOST = 1 << 18, 64
_SHA = r"^[0-9a-f]{64}$"


class Key(Strict):
    """What a choice holds for.

    Attributes:
        bundle_sha256: of the bundle.
        precision: of its graphs.
        processor: its name.
        cores: that the process may use.
        onnxruntime: its version.
        openvino: its version; ``None`` where it is not installed.
        cada_edge: our own.
    """

    bundle_sha256: str = Field(pattern=_SHA)
    precision: Precision
    processor: str = Field(max_length=200)
    cores: int = Field(ge=1, le=4096)
    onnxruntime: str = Field(max_length=100)
    openvino: str | None = Field(default=None, max_length=100)
    cada_edge: str = Field(max_length=100)

    @staticmethod
    def here(bundle: Bundle, precision: Precision) -> Key:
        """Of this machine, for this process."""
        return Key(
            bundle_sha256=bundle.sha256,
            precision=precision,
            processor=_processor(),
            cores=len(os.sched_getaffinity(0)),
            onnxruntime=_version("onnxruntime") or "none",
            openvino=_version("openvino"),
            cada_edge=__version__,
        )


class Choice(Strict):
    """The fastest way, and how much faster it is than ONNX Runtime as it comes.

    Attributes:
        backend: what runs the graph.
        threads: inside an operator; ``None`` for every core.
        level: see `LocalOptions`.
        inline: see `LocalOptions`.
        spin: see `LocalOptions`.
        p50_ms: of one call.
        ratio: of p50 to that of ONNX Runtime as it comes, with the ends of its 95 % interval.
        made_at: UTC, ISO 8601.
    """

    backend: LocalBackend
    threads: Annotated[int, Field(ge=1, le=256)] | None
    level: Level
    inline: bool
    spin: bool
    p50_ms: float = Field(gt=0)
    ratio: tuple[float, float, float] = Field(strict=False)
    made_at: str = Field(max_length=40)

    def applied(self, how: How) -> How:
        """`how`, run so; threads that were asked for stay."""
        return replace(
            how,
            backend=self.backend,
            threads=how.threads or self.threads,
            graph=LocalOptions(self.level, self.inline, self.spin),
        )


class Entry(Strict):
    """A choice and what it holds for."""

    key: Key
    choice: Choice


class TuneFile(Strict):
    """The whole file, newest entry last."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    kind: Literal["cada-edge tune"] = KIND
    entries: Annotated[tuple[Entry, ...], Field(max_length=MOST, strict=False)] = ()


def places(bundle: Bundle, path: Path) -> tuple[Path, Path]:
    """Where the file of the bundle at `path` may be: beside it, and in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or f"{os.environ.get('HOME', '')}/.cache")
    return path.with_name(f"{path.name}.tune.json"), cache / "cada-edge" / "tune" / f"{bundle.sha256[:32]}.json"


def tuned(bundle: Bundle, path: Path, how: How) -> How:
    """How ``auto`` runs the bundle at `path` here: as it was tuned, else with ONNX Runtime as it comes.

    A choice made for other bytes, another machine or other libraries, and a file that cannot be
    read, are left alone, with a line in the log that says why.
    """
    found = kept(bundle, path, how.precision)
    return replace(how, backend="ort") if found is None else found.applied(how)


def kept(bundle: Bundle, path: Path, precision: Precision) -> Choice | None:
    """What `cada-edge tune` chose for the bundle at `path` here; ``None`` where it never ran. Logs as `tuned`."""
    for place in places(bundle, path):
        try:
            found = choice(place, Key.here(bundle, precision))
        except ConfigError as error:
            make_logger().warning("tune ignored", file=str(place), reason=str(error), advice=_ADVICE)
            continue
        if found is not None:
            return found
    return None


_ADVICE = "run `cada-edge tune` again"


def choice(place: Path, key: Key) -> Choice | None:
    """What the file at `place` says for `key`; ``None`` where there is no file, or nothing of this precision in it.

    Raises `ConfigError` for a file that is not ours, and for one that holds for something else.
    """
    try:
        place.stat()
    except OSError:
        return None
    entries = [one for one in read(place).entries if one.key.precision == key.precision]
    for entry in reversed(entries):
        if entry.key == key:
            return entry.choice
    if not entries:
        return None
    raise ConfigError(f"stale: {_difference(entries[-1].key, key)}")


def read(place: Path) -> TuneFile:
    """A file that `keep` wrote. Raises `ConfigError` for any other."""
    try:
        with place.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(f"{place}: larger than {MAX_BYTES} bytes; this is no file of `cada-edge tune`")
        document = json.loads(content)
    except OSError as error:
        raise ConfigError(f"{place}: cannot read: {error.strerror}; check its permissions") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{place}: not JSON: {error}; {_ADVICE}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{place}: holds {type(document).__name__}, expected an object; {_ADVICE}")
    return validated(TuneFile, document, str(place))


def keep(bundle: Bundle, path: Path, entry: Entry) -> Path:
    """Write `entry` in place of one with its key; the file it is in now: beside the bundle, else in the cache.

    Raises `DataError` where neither can be written.
    """
    beside, cached = places(bundle, path)
    try:
        return _keep(beside, entry)
    except DataError as refused:
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{refused}; nor can {cached.parent} be made: {error.strerror}") from error
        return _keep(cached, entry)


def _keep(place: Path, entry: Entry) -> Path:
    try:
        before = read(place).entries
    except ConfigError:
        before = ()
    others = [one for one in before if one.key != entry.key]
    document = TuneFile(schema=1, entries=(*others, entry)[-MOST:]).model_dump(mode="json", by_alias=True)
    write_atomic(place, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
    return place


def _difference(theirs: Key, ours: Key) -> str:
    pairs = [(name, getattr(theirs, name), getattr(ours, name)) for name in Key.model_fields]
    return ", ".join(f"{name} was {old}, is {new}" for name, old, new in pairs if old != new)


@lru_cache(maxsize=1)
def _processor() -> str:
    return str(machine()["cpu"])[:200]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
