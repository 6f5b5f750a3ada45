"""Whether records, pictures and messages would find their place, without leaving any there."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

from cada_edge.errors import SinkError
from cada_edge.runtime.check.dial import Dial
from cada_edge.runtime.check.finding import Finding
from cada_edge.runtime.sinks.config import MqttConfig, RecordsConfig, SinksConfig, WebhookConfig
from cada_edge.runtime.sinks.mqtt import MqttTransport
from cada_edge.runtime.sinks.webhook import WebhookTransport

_LITTLE_BYTES = 1 << 30
_ANSWERS = 4  # waits that one dial may consist of


def sink_dials(config: SinksConfig, timeout_s: float) -> list[Dial]:
    """Every file, folder and receiver of a line's sinks."""
    dials = [Dial("sink", name, timeout_s, partial(_look_at_file, name, path)) for name, path in _files(config)]
    dials += [
        Dial("sink", name, timeout_s, partial(_look_at_folder, name, path, most, spare))
        for name, path, most, spare in _folders(config)
    ]
    if config.mqtt is not None:
        limit_s = max(timeout_s, _ANSWERS * config.mqtt.timeout_s)
        dials.append(Dial("sink", f"mqtt {config.mqtt.host}", limit_s, partial(_look_at_broker, config.mqtt)))
    if config.webhook is not None:
        limit_s = max(timeout_s, _ANSWERS * config.webhook.timeout_s)
        dials.append(Dial("sink", "webhook", limit_s, partial(_look_at_receiver, config.webhook)))
    return dials


def _files(config: SinksConfig) -> list[tuple[str, Path]]:
    records, mqtt, webhook = config.records or RecordsConfig(), config.mqtt, config.webhook
    named = [
        ("records.sqlite", records.sqlite),
        ("records.csv", records.csv),
        ("records.jsonl", records.jsonl),
        ("mqtt.outbox", mqtt.outbox if mqtt else None),
        ("webhook.outbox", webhook.outbox if webhook else None),
    ]
    return [(name, path) for name, path in named if path is not None]


def _folders(config: SinksConfig) -> list[tuple[str, Path, int, int]]:
    """Name, folder, most bytes it may grow to, bytes that must stay free."""
    archive, rejects = config.archive, config.rejects
    return [
        *([("archive", archive.dir, archive.max_bytes, archive.min_free_bytes)] if archive else []),
        *([("rejects", rejects.dir, rejects.max_bytes, 0)] if rejects else []),
    ]


def _look_at_file(name: str, path: Path) -> Finding:
    folder = path.parent
    if not folder.is_dir():
        raise SinkError(f"{folder} is not a folder; make it, for the line does not")
    _must_be_writable(folder)
    if path.exists():
        _must_be_writable(path)
        if not path.is_file():
            raise SinkError(f"{path} is no file; give another name")
    free = shutil.disk_usage(folder).free
    found = f"{path}: {'goes on' if path.exists() else 'will be made'}, {_size(free)} free"
    if free < _LITTLE_BYTES:
        return Finding("sink", name, "warn", found, "free some space, or set max_days or max_rows")
    return Finding("sink", name, "ok", found)


def _look_at_folder(name: str, folder: Path, most: int, spare: int) -> Finding:
    there = _nearest(folder)
    _must_be_writable(there)
    if not there.is_dir():
        raise SinkError(f"{there} is no folder; give another place")
    free = shutil.disk_usage(there).free
    found = f"{folder}: {'there' if there == folder else 'will be made'}, {_size(free)} free"
    if free < spare:
        raise SinkError(f"{found}, below min_free_bytes {_size(spare)}: nothing would be kept; free some space")
    used = sum(entry.stat().st_size for entry in folder.rglob("*") if entry.is_file()) if there == folder else 0
    if free - spare < most - used:
        advice = f"it may grow to {_size(most)} and holds {_size(used)}: lower max_bytes, or free some space"
        return Finding("sink", name, "warn", found, advice)
    return Finding("sink", name, "ok", found)


def _look_at_broker(config: MqttConfig) -> Finding:
    # Under our own client id the broker would hang up on the line that runs.
    transport = MqttTransport(config.model_copy(update={"client_id": ""}))
    try:
        transport.dial()
    finally:
        transport.hang_up()
    return Finding("sink", f"mqtt {config.host}", "ok", "the broker takes us; nothing published")


def _look_at_receiver(config: WebhookConfig) -> Finding:
    transport = WebhookTransport(config, lambda _error: None)
    try:
        transport.dial()
    finally:
        transport.hang_up()
    return Finding("sink", "webhook", "ok", f"{config.url.partition('?')[0]} takes connections; nothing posted")


def _nearest(path: Path) -> Path:
    """The path itself, or the folder nearest above it that exists."""
    return next(one for one in (path, *path.parents) if one.exists())


def _must_be_writable(path: Path) -> None:
    rights = os.W_OK | os.X_OK if path.is_dir() else os.W_OK
    if not os.access(path, rights):
        raise SinkError(f"{path} cannot be written by this user; change its owner or rights")


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
