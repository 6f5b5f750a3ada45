"""``line.yaml``: what a line consists of, checked before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from cada_edge.engine_key import Flavour, Precision
from cada_edge.runtime.page.config import PageConfig
from cada_edge.runtime.sinks.config import SinksConfig
from cada_edge.runtime.sources.config import SourceConfig
from cada_edge.strict_yaml import Strict, read_mapping, validated

LineBackend = Literal["ort"] | Flavour


class LineConfig(Strict):
    """A whole line. Paths are absolute once read with `load_config`.

    Attributes:
        schema_: the file's version, 1 (``schema`` in the file).
        bundle: the model and its threshold.
        backend: what runs the model: ONNX Runtime, or an engine built with ``cada-edge engine``.
        precision: which of the bundle's graphs.
        threads: threads inside an operator of ONNX Runtime; all cores where absent.
        deadline_ms: from capture to verdict; a later one is undecided, never a pass.
        max_frames: stop after so many.
        sources: taken in turn.
        sinks: where verdicts go.
        page: the operator's page; none where absent.
    """

    schema_: Literal[1] = Field(alias="schema")
    bundle: Path = Field(strict=False)
    backend: LineBackend = "ort"
    precision: Precision = "fp32"
    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    deadline_ms: Annotated[float, Field(gt=0, le=3_600_000)] | None = None
    max_frames: Annotated[int, Field(ge=1)] | None = None
    sources: tuple[SourceConfig, ...] = Field(min_length=1, strict=False)
    sinks: SinksConfig = SinksConfig()
    page: PageConfig | None = None
    _base_dir: Path = PrivateAttr(default_factory=Path)

    @property
    def base_dir(self) -> Path:
        """Folder that relative paths in source uris are relative to."""
        return self._base_dir

    @field_validator("sources")
    @classmethod
    def _distinct(cls, sources: tuple[SourceConfig, ...]) -> tuple[SourceConfig, ...]:
        ids = [source.id for source in sources]
        if len(set(ids)) != len(ids):
            raise ValueError(f"ids {ids} must differ")
        return sources

    @model_validator(mode="after")
    def _deadline_before_stale(self) -> LineConfig:
        modbus = self.sinks.modbus
        if modbus and self.deadline_ms and self.deadline_ms > modbus.stale_ms:
            raise ValueError(
                f"deadline_ms {self.deadline_ms} is longer than sinks.modbus.stale_ms {modbus.stale_ms}: "
                "a frame in time would look like a hung pipeline"
            )
        return self


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
    resolved = config.model_copy(update={"bundle": base / config.bundle, "sinks": config.sinks.absolute(base)})
    resolved._base_dir = base  # noqa: SLF001  # of the model this module defines
    return resolved
