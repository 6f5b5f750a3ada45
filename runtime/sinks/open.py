"""From the ``sinks:`` of a line to open sinks, each in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from cada_edge.bundle import Bundle
from cada_edge.protocols import Sink
from cada_edge.runtime.records.ledger import Tell
from cada_edge.runtime.sinks.archive import ArchiveOptions, ImageArchive
from cada_edge.runtime.sinks.config import OutboxConfig, RecordsConfig, SinksConfig
from cada_edge.runtime.sinks.courier import Courier, Transport
from cada_edge.runtime.sinks.images import RejectImages
from cada_edge.runtime.sinks.isolated import IsolatedSink
from cada_edge.runtime.sinks.log import LogSink
from cada_edge.runtime.sinks.mqtt import MqttTransport
from cada_edge.runtime.sinks.outbox import Outbox
from cada_edge.runtime.sinks.outbox_sink import OutboxSink
from cada_edge.runtime.sinks.records import KeepLimits, RecordSink
from cada_edge.runtime.sinks.table import TableSink
from cada_edge.runtime.sinks.webhook import WebhookTransport

OnError = Callable[[str, Exception], None]


class Named(NamedTuple):
    """A sink and how to isolate it.

    Attributes:
        name: for messages.
        sink: open.
        depth: verdicts that may wait for it.
        pictures: whether it wants the frames' pictures.
    """

    name: str
    sink: Sink
    depth: int
    pictures: bool = False


def isolated_sinks(
    config: SinksConfig,
    bundle: Bundle,
    on_error: OnError,
    stack: ExitStack,
    stations: Mapping[str, str] | None = None,
) -> list[IsolatedSink]:
    """Everything of `config` but what PLCs watch, each in its thread, closed by `stack`.

    Args:
        config: with absolute paths, see `SinksConfig.absolute`.
        bundle: that judges.
        on_error: called with a sink's name and each failure, from any thread; must be quick.
        stack: closes the sinks, last to first.
        stations: source id to station id, for the records.

    Raises:
        SinkError: a place cannot be written, or a secret or certificate not be read.
        MissingDependencyError: a sink's package is not installed.
    """
    with ExitStack() as until_isolated:
        named = record_sinks(config, bundle, on_error, until_isolated, stations or {})
        opened = [IsolatedSink(sink, name, on_error, depth, pictures=wanted) for name, sink, depth, wanted in named]
        until_isolated.pop_all()  # from here on each is closed by its own thread, so that one that hangs stops nobody
    for sink in opened:
        stack.callback(sink.close)
    return opened


def record_sinks(
    config: SinksConfig, bundle: Bundle, on_error: OnError, stack: ExitStack, stations: Mapping[str, str]
) -> list[Named]:
    """The sinks themselves; `stack` closes what was opened, also where a later one cannot be. Raises as above."""
    opened: list[Named] = []

    def add(name: str, sink: Sink, depth: int, pictures: bool = False) -> None:
        stack.callback(sink.close)
        opened.append(Named(name, sink, depth, pictures))

    if config.log is not None:
        add("log", LogSink(), 256)
    if config.records is not None:
        for name, table in _tables(config.records, bundle, partial(on_error, "records"), stations):
            add(name, table, 4096)
    if config.rejects is not None:
        limits = config.rejects
        add("rejects", RejectImages(limits.dir, bundle.manifest.spec, limits.max_files, limits.max_bytes), 16, True)
    if config.archive is not None:
        options = ArchiveOptions(**config.archive.model_dump(exclude={"dir"}))
        add("archive", ImageArchive(config.archive.dir, bundle, options), 16, True)
    if config.mqtt is not None:
        add("mqtt", _outbox(config.mqtt, MqttTransport(config.mqtt), partial(on_error, "mqtt"), stations), 4096)
    if config.webhook is not None:
        tell = partial(on_error, "webhook")
        add("webhook", _outbox(config.webhook, WebhookTransport(config.webhook, tell), tell, stations), 4096)
    return opened


def _tables(config: RecordsConfig, bundle: Bundle, tell: Tell, stations: Mapping[str, str]) -> list[tuple[str, Sink]]:
    tables: list[tuple[str, Sink]] = []
    if config.sqlite is not None:
        limits = KeepLimits(config.max_days, config.max_rows)
        tables.append(("records", RecordSink(config.sqlite, bundle.sha256, tell, stations=stations, limits=limits)))
    if config.csv is not None:
        tables.append(("csv", TableSink(config.csv, "csv")))
    if config.jsonl is not None:
        tables.append(("jsonl", TableSink(config.jsonl, "jsonl")))
    return tables


def _outbox(config: OutboxConfig, transport: Transport, tell: Tell, stations: Mapping[str, str]) -> OutboxSink:
    outbox = Outbox(config.outbox, config.max_rows, tell)
    return OutboxSink(outbox, Courier(outbox, transport, tell), stations)
