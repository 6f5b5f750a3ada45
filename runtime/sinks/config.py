"""What ``line.yaml`` says of where verdicts go."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from cada_edge.strict_yaml import Strict


class ModbusConfig(Strict):
    """The Modbus TCP server; `base` is the zero-based address of the status block."""

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=502, ge=0, le=65535)
    base: int = Field(default=100, ge=0, le=65536 - 32)
    stale_ms: int = Field(default=1000, ge=100, le=60_000)
    linger_ms: int = Field(default=300, ge=0, le=10_000)
    min_hold_ms: int = Field(default=20, ge=0, le=10_000)


class LogConfig(Strict):
    """Every verdict as one JSON line on standard error; there is nothing to set."""


class RecordsConfig(Strict):
    """Tables that verdicts are appended to."""

    csv: Path | None = Field(default=None, strict=False)
    jsonl: Path | None = Field(default=None, strict=False)


class RejectsConfig(Strict):
    """Pictures of parts that did not pass."""

    dir: Path = Field(strict=False)
    max_files: int = Field(default=1000, ge=1)
    max_bytes: int = Field(default=1 << 30, ge=1)


class SinksConfig(Strict):
    """Where verdicts go; a sink that is not named is off."""

    modbus: ModbusConfig | None = None
    log: LogConfig | None = None
    records: RecordsConfig | None = None
    rejects: RejectsConfig | None = None
