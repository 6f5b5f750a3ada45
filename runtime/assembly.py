"""From a `LineConfig` to an open runner, sources, links and sinks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from cada_edge.bundle import Bundle
from cada_edge.protocols import Runner, Source
from cada_edge.runtime.board import StatusBoard
from cada_edge.runtime.config import LineConfig
from cada_edge.runtime.lookout import Lookout
from cada_edge.runtime.page.publisher import PagePublisher
from cada_edge.runtime.publisher import Publisher
from cada_edge.runtime.registers import model_checksum
from cada_edge.runtime.runners.ort import OrtRunner
from cada_edge.runtime.runners.tensorrt import TensorRTOptions, TensorRTRunner
from cada_edge.runtime.sinks.isolated import IsolatedSink
from cada_edge.runtime.sinks.modbus import ModbusSink
from cada_edge.runtime.sinks.modbus_server import ServerOptions
from cada_edge.runtime.sinks.open import isolated_sinks
from cada_edge.runtime.sources.camera import CameraOptions
from cada_edge.runtime.sources.uri import open_source
from cada_edge.runtime.watchdog import Watchdog


def open_line_runner(config: LineConfig, bundle: Bundle, stack: ExitStack) -> Runner:
    """What runs the model, closed by `stack`. Raises `BundleError`, `EngineError` or `MissingDependencyError`."""
    if config.backend == "ort":
        return stack.enter_context(OrtRunner(bundle, config.threads, precision=config.precision))
    options = TensorRTOptions(config.backend, config.precision, batch=1)  # a line judges frame by frame
    return stack.enter_context(TensorRTRunner(bundle, config.bundle, options))


def open_sources(config: LineConfig, stack: ExitStack) -> list[tuple[str, Source]]:
    """Every source with its id, closed by `stack`. Raises `SourceError` or `ConfigError`."""
    opened: list[tuple[str, Source]] = []
    for entry in config.sources:
        source = open_source(entry.uri, entry.id, config.base_dir, CameraOptions(stall_s=entry.stall_s))
        stack.callback(source.close)
        opened.append((entry.id, source))
    return opened


def open_links(config: LineConfig, bundle: Bundle, stack: ExitStack) -> list[ModbusSink]:
    """What PLCs watch, closed by `stack`. Raises `SinkError`."""
    modbus = config.sinks.modbus
    if modbus is None:
        return []
    threshold = bundle.manifest.threshold
    checksum = model_checksum(bundle.sha256, threshold.value if threshold else None)
    options = ServerOptions(**modbus.model_dump(exclude={"min_hold_ms"}))
    return [stack.enter_context(ModbusSink(options, Publisher(checksum, modbus.min_hold_ms)))]


def open_sinks(
    config: LineConfig, bundle: Bundle, on_error: Callable[[str, Exception], None], stack: ExitStack
) -> list[IsolatedSink]:
    """Everything else that takes verdicts, each isolated, closed by `stack`. Raises `SinkError`."""
    return isolated_sinks(config.sinks, bundle, on_error, stack)


def open_lookout(
    config: LineConfig, bundle: Bundle, on_error: Callable[[str, Exception], None], stack: ExitStack
) -> Lookout:
    """What people and systemd are told, closed by `stack`. Raises `MissingDependencyError` for a page without h11."""
    watchdog = Watchdog.from_environment()
    stack.callback(watchdog.close)
    if config.page is None:
        return Lookout(None, watchdog)
    threshold = bundle.manifest.threshold
    value = threshold.value if threshold else None
    board = StatusBoard(config.bundle.name, bundle.sha256, value, bundle.manifest.spec, config.base_dir)
    stack.enter_context(PagePublisher(board, config.page, on_error))
    return Lookout(board, watchdog)
