"""What ``line.yaml`` says of where verdicts go."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from cada_edge.strict_yaml import Strict

_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
_TOPIC = r"^[^+#\x00$/][^+#\x00]*$"


class ModbusConfig(Strict):
    """Short for a link of kind ``modbus-server`` that shows a single free-running station and takes no orders.

    Attributes:
        host: address to listen on.
        port: 0 lets the system choose.
        base: zero-based address of the status block.
        stale_ms: as of a station.
        linger_ms: as of the line.
        min_hold_ms: `hold_ms` of a station.
    """

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=502, ge=0, le=65535)
    base: int = Field(default=100, ge=0, le=65536 - 32)
    stale_ms: int = Field(default=1000, ge=100, le=60_000)
    linger_ms: int = Field(default=300, ge=0, le=10_000)
    min_hold_ms: int = Field(default=20, ge=0, le=10_000)


class LogConfig(Strict):
    """Every verdict as one JSON line on standard error; there is nothing to set."""


class RecordsConfig(Strict):
    """Tables that verdicts are appended to.

    Attributes:
        sqlite: a database of verdicts, results and drift; see ``docs/records.md``.
        max_days: rows of the database older than this are deleted.
        max_rows: of each of its tables; the oldest are deleted.
        csv: verdicts as comma-separated values.
        jsonl: verdicts as one JSON object a line.
    """

    sqlite: Path | None = Field(default=None, strict=False)
    max_days: float | None = Field(default=None, gt=0, le=36_500)
    max_rows: int | None = Field(default=None, ge=1)
    csv: Path | None = Field(default=None, strict=False)
    jsonl: Path | None = Field(default=None, strict=False)

    @model_validator(mode="after")
    def _limits_something(self) -> RecordsConfig:
        if self.sqlite is None and (self.max_days or self.max_rows):
            raise ValueError("max_days and max_rows limit the database: give sqlite, or leave them out")
        return self


class RejectsConfig(Strict):
    """Pictures of parts that did not pass; `ArchiveConfig` does more."""

    dir: Path = Field(strict=False)
    max_files: int = Field(default=1000, ge=1)
    max_bytes: int = Field(default=1 << 30, ge=1)


class ArchiveConfig(Strict):
    """Pictures of every reject and of some passes.

    Attributes:
        dir: made if it does not exist.
        keep_passes: 1 of so many parts that passed; absent: none.
        quality: of JPEG; absent: PNG, bit for bit what was judged.
        max_bytes: of all pictures; the oldest go first.
        max_days: age of a picture.
        min_free_bytes: below so much free space nothing is archived.
    """

    dir: Path = Field(strict=False)
    keep_passes: int | None = Field(default=None, ge=1)
    quality: int | None = Field(default=None, ge=1, le=95)
    max_bytes: int = Field(default=10 << 30, ge=1)
    max_days: float | None = Field(default=None, gt=0, le=36_500)
    min_free_bytes: int = Field(default=1 << 30, ge=0)


class OutboxConfig(Strict):
    """What records wait in until they are taken.

    Attributes:
        outbox: a database beside ``line.yaml``; each sink has its own.
        max_rows: that may wait; beyond, the oldest is dropped and counted.
        timeout_s: for an answer, after which the connection is made anew.
    """

    outbox: Path = Field(strict=False)
    max_rows: int = Field(default=100_000, ge=1, le=100_000_000)
    timeout_s: float = Field(default=5.0, ge=0.1, le=60)


class MqttConfig(OutboxConfig):
    """Records as JSON to a broker, QoS 1, below ``topic``: ``/verdict``, ``/result``, ``/drift``.

    Attributes:
        outbox: see `OutboxConfig`.
        host: of the broker.
        port: 1883, with TLS 8883, where absent.
        topic: without wildcards.
        client_id: one per line; the broker hangs up on an earlier client of the same. Absent: random.
        keepalive_s: between signs of life.
        tls: encrypt, and check the broker's certificate.
        ca_file: authorities to trust instead of the system's.
        cert_file: our certificate, where the broker wants one.
        key_file: its key.
        username: for the broker.
        password_file: holds the password; its first line.
        password_env: or the environment variable that does.
    """

    outbox: Path = Field(default=Path("mqtt-outbox.sqlite"), strict=False)
    host: str = Field(min_length=1)
    port: int | None = Field(default=None, ge=1, le=65535)
    topic: str = Field(default="cada-edge", pattern=_TOPIC, max_length=200)
    client_id: str = Field(default="", max_length=65)
    keepalive_s: int = Field(default=30, ge=2, le=3600)
    tls: bool = False
    ca_file: Path | None = Field(default=None, strict=False)
    cert_file: Path | None = Field(default=None, strict=False)
    key_file: Path | None = Field(default=None, strict=False)
    username: str | None = Field(default=None, min_length=1)
    password_file: Path | None = Field(default=None, strict=False)
    password_env: str | None = Field(default=None, pattern=_NAME)

    @model_validator(mode="after")
    def _consistent(self) -> MqttConfig:
        if (self.ca_file or self.cert_file or self.key_file) and not self.tls:
            raise ValueError("ca_file, cert_file and key_file need tls: true")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together")
        if self.password_file and self.password_env:
            raise ValueError("password_file or password_env, not both")
        if (self.password_file or self.password_env) and not self.username:
            raise ValueError("a password needs a username")
        return self


class WebhookConfig(OutboxConfig):
    """Records as JSON, each in a POST of its own.

    Attributes:
        outbox: see `OutboxConfig`.
        url: ``http://`` or ``https://``, without a user or password in it.
        ca_file: authorities to trust instead of the system's.
        token_file: holds what is sent as ``Authorization: Bearer``; its first line.
        token_env: or the environment variable that does.
    """

    outbox: Path = Field(default=Path("webhook-outbox.sqlite"), strict=False)
    url: str = Field(min_length=1, max_length=2000)
    ca_file: Path | None = Field(default=None, strict=False)
    token_file: Path | None = Field(default=None, strict=False)
    token_env: str | None = Field(default=None, pattern=_NAME)

    @model_validator(mode="after")
    def _reachable(self) -> WebhookConfig:
        # Of the whole section, so that no message repeats a url that holds a password.
        try:
            parts, port = urlsplit(self.url), urlsplit(self.url).port
        except ValueError as error:
            raise ValueError("url is none, or its port is no number") from error
        if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
            raise ValueError("url must be http:// or https:// with a host")
        if parts.username is not None or parts.password is not None:
            raise ValueError("url holds a user or password; use token_file or token_env")
        if not self.url.isascii() or not self.url.isprintable() or " " in self.url:
            raise ValueError("url holds characters that must be percent-encoded")
        if self.token_file and self.token_env:
            raise ValueError("token_file or token_env, not both")
        return self


class SinksConfig(Strict):
    """Where verdicts go; a sink that is not named is off."""

    modbus: ModbusConfig | None = None
    log: LogConfig | None = None
    records: RecordsConfig | None = None
    rejects: RejectsConfig | None = None
    archive: ArchiveConfig | None = None
    mqtt: MqttConfig | None = None
    webhook: WebhookConfig | None = None

    @model_validator(mode="after")
    def _one_file_each(self) -> SinksConfig:
        records = self.records or RecordsConfig()
        files = [records.sqlite, records.csv, records.jsonl]
        files += [sink.outbox for sink in (self.mqtt, self.webhook) if sink]
        named = [path for path in files if path is not None]
        if len(set(named)) < len(named):
            raise ValueError(f"two sinks write the same file: {', '.join(map(str, named))}")
        return self

    def absolute(self, base: Path) -> SinksConfig:
        """A copy with every path joined to `base`, the folder of ``line.yaml``."""
        sections = {name: getattr(self, name) for name in type(self).model_fields}
        return self.model_copy(update={name: section.joined(base) for name, section in sections.items() if section})
