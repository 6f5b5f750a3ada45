"""``line.yaml``: what a line consists of, checked before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from cada_edge.engine_key import Precision
from cada_edge.runtime import wiring
from cada_edge.runtime.control import CONTROL_WORDS
from cada_edge.runtime.links.config import AnyLink, LinkConfig, ModbusServerConfig
from cada_edge.runtime.page.config import PageConfig
from cada_edge.runtime.registers import WORDS
from cada_edge.runtime.runners.how import LineBackend
from cada_edge.runtime.sinks.config import SinksConfig
from cada_edge.runtime.sources.config import SourceConfig
from cada_edge.runtime.stations_config import StationConfig
from cada_edge.strict_yaml import Strict, read_mapping, validated


class LineConfig(Strict):
    """A whole line. Paths are absolute once read with `load_config`.

    Attributes:
        schema_: the file's version, 1 (``schema`` in the file).
        bundle: the model and its threshold.
        backend: what runs the model: ONNX Runtime (``ort``), OpenVINO, or an engine built with ``cada-edge engine``;
            ``auto`` takes what ``cada-edge tune`` found to be fastest here, else ONNX Runtime.
        precision: which of the bundle's graphs.
        threads: threads inside an operator of ONNX Runtime or OpenVINO; all cores where absent.
        deadline_ms: from capture to verdict; a later one is undecided, never a pass.
        max_frames: stop after so many.
        sources: taken in turn.
        batch: most frames judged in one call of the model, of whatever station; where absent, an engine takes those
            of every source, ONNX Runtime and OpenVINO one.
        recipes: bundles that a PLC may select, by number.
        stations: places where parts are judged; one in free run with every source where absent, which on a line that
            a PLC sees must be one.
        links: PLCs that see a station and drive it.
        linger_ms: how long the safe state can still be read after the line ended.
        plc_priority: real-time priority of the process that talks to PLCs, where the system grants it, so that a busy
            pipeline does not delay it; 0 for none.
        sinks: where verdicts go.
        page: the operator's page; none where absent.
    """

    schema_: Literal[1] = Field(alias="schema")
    bundle: Path = Field(strict=False)
    backend: LineBackend = "auto"
    precision: Precision = "fp32"
    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    deadline_ms: Annotated[float, Field(gt=0, le=3_600_000)] | None = None
    max_frames: Annotated[int, Field(ge=1)] | None = None
    batch: Annotated[int, Field(ge=1, le=64)] | None = None
    recipes: dict[Annotated[int, Field(ge=1, le=65535)], Annotated[Path, Field(strict=False)]] = Field(
        default_factory=dict, max_length=1000
    )
    sources: tuple[SourceConfig, ...] = Field(min_length=1, strict=False)
    stations: tuple[StationConfig, ...] = Field(default=(), max_length=32, strict=False)
    links: tuple[LinkConfig, ...] = Field(default=(), max_length=32, strict=False)
    linger_ms: int = Field(default=300, ge=0, le=10_000)
    plc_priority: int = Field(default=10, ge=0, le=49)
    sinks: SinksConfig = SinksConfig()
    page: PageConfig | None = None
    _base_dir: Path = PrivateAttr(default_factory=Path)

    @property
    def base_dir(self) -> Path:
        """Folder that relative paths in source uris are relative to."""
        return self._base_dir

    @model_validator(mode="after")
    def _consistent(self) -> LineConfig:
        wiring.check(self.sources, self.stations, self.links, self.sinks.modbus)
        if self.wired():
            wiring.check_seen(self.stations_or_one(), self.deadline_ms)
        return self

    def wired(self) -> bool:
        """Whether any PLC sees the line."""
        return bool(self.links) or self.sinks.modbus is not None

    def recorded_in(self) -> Path | None:
        """The database of results; ``None`` without one."""
        return self.sinks.records.sqlite if self.sinks.records is not None else None

    def stations_or_one(self) -> tuple[StationConfig, ...]:
        """The stations, each with its sources; where none is named, one with every source."""
        every = tuple(source.id for source in self.sources)
        modbus = self.sinks.modbus
        if modbus is not None:
            return (StationConfig(sources=every, stale_ms=modbus.stale_ms, hold_ms=modbus.min_hold_ms),)
        stations = self.stations or (StationConfig(),)
        return tuple(one if one.sources else one.model_copy(update={"sources": every}) for one in stations)

    def all_links(self) -> tuple[AnyLink, ...]:
        """The links; `sinks.modbus` is one that only shows."""
        modbus = self.sinks.modbus
        if modbus is None:
            return self.links
        unused = 0 if modbus.base >= CONTROL_WORDS else modbus.base + WORDS
        where = modbus.model_dump(include={"host", "port", "base"})
        return (ModbusServerConfig(kind="modbus-server", control=False, control_base=unused, **where),)


def load_config(path: Path) -> LineConfig:
    """Read a ``line.yaml``; relative paths in it are relative to its folder.

    Raises `ConfigError` naming the file, the field, what was found and what was expected.
    """
    document = read_mapping(path, 1, "schema, bundle, sources")
    return _absolute(parse_config(document, str(path)), path.resolve().parent)


def parse_config(document: dict[str, Any], label: str = "line") -> LineConfig:
    """Check a document already parsed. Raises `ConfigError`; `label` says where it is from."""
    return validated(LineConfig, document, label)


def _absolute(config: LineConfig, base: Path) -> LineConfig:
    """Every path joined to the folder of the file it stands in."""
    resolved = config.model_copy(
        update={
            "bundle": base / config.bundle,
            "recipes": {number: base / path for number, path in config.recipes.items()},
            "links": tuple(link.joined(base) for link in config.links),
            "sinks": config.sinks.absolute(base),
        }
    )
    resolved._base_dir = base  # noqa: SLF001  # of the model this module defines
    return resolved
