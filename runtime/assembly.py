"""From a `LineConfig` to an open model, sources, stations and sinks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cada_edge.bundle import Bundle
from cada_edge.engine_key import FLAVOURS
from cada_edge.errors import ConfigError
from cada_edge.protocols import Runner, Source
from cada_edge.runtime.board import StatusBoard
from cada_edge.runtime.changes import OnChange
from cada_edge.runtime.config import LineConfig
from cada_edge.runtime.drift import DriftMonitor, Reference
from cada_edge.runtime.feed import Feeds
from cada_edge.runtime.judge import Judge
from cada_edge.runtime.leftover import journal_of
from cada_edge.runtime.lookout import Lookout
from cada_edge.runtime.model import Model
from cada_edge.runtime.page.publisher import PagePublisher
from cada_edge.runtime.plc.wire import Setup, StationSetup
from cada_edge.runtime.registers import model_checksum
from cada_edge.runtime.runners.how import How
from cada_edge.runtime.runners.open import open_runner
from cada_edge.runtime.sinks.isolated import IsolatedSink
from cada_edge.runtime.sinks.open import isolated_sinks
from cada_edge.runtime.sources.config import SourceConfig
from cada_edge.runtime.sources.open import open_configured
from cada_edge.runtime.stations import OnDemand, Stations
from cada_edge.runtime.watchdog import Watchdog

OpenOne = Callable[[SourceConfig, Path], Source]
open_patiently = partial(open_configured, required=False)  # one camera that is off must not keep the others' line down
Around = Callable[[Runner], Runner]


@dataclass(frozen=True)
class Taps:
    """Where somebody who measures looks into a line that is otherwise the one of ``line.yaml``.

    Attributes:
        runner: is given the runner and returns what is used in its place; ``None`` for the runner itself.
        source: opens a source.
        sinks: take verdicts beside the line's own; the line closes them.
    """

    runner: Around | None = None
    source: OpenOne = open_patiently
    sinks: Sequence[IsolatedSink] = ()


def how(config: LineConfig) -> How:
    """How the line runs a model: unless it says so, an engine judges the pictures of every source in one call, for it
    takes them in nearly the time of one. On a processor each takes its time: together they would gain little, and
    the first would wait for the last.
    """
    usual = len(config.sources) if config.backend in FLAVOURS else 1
    return How(config.backend, config.precision, config.threads, config.batch or usual)


def load_model(config: LineConfig, path: Path, bundle: Bundle | None = None, around: Around | None = None) -> Model:
    """The model in `path`, not warm yet. Raises `BundleError`, `EngineError` or `MissingDependencyError`.

    `around` is given the runner and returns what is used in its place.
    """
    bundle = bundle or Bundle.read(path)
    threshold = bundle.manifest.threshold
    used = how(config)
    runner = open_runner(bundle, path, used)
    if around is not None:
        runner = around(runner)
    return Model(
        judge=Judge(runner, threshold, config.deadline_ms),
        bundle=bundle,
        checksum=model_checksum(bundle.sha256, threshold.value if threshold else None),
        recipe=next((number for number, known in config.recipes.items() if known == path), 0),
        drift=DriftMonitor(Reference.of(bundle)),
        batch=used.batch,
        name=path.name,
        close=runner.close,
    )


class ModelFiles:
    """Where the model of each recipe is, and which one is used; loads it warm."""

    def __init__(self, config: LineConfig) -> None:
        self._config, self._path = config, config.bundle

    def load(self, recipe: int) -> Model:
        """The model of a recipe, warm; 0: the one loaded last, as it is on disk now.

        Raises `ConfigError` for a recipe that ``line.yaml`` does not name, and as `load_model`.
        """
        path = self._config.recipes.get(recipe) if recipe else self._path
        if path is None:
            known = sorted(self._config.recipes)
            raise ConfigError(f"recipe {recipe} was asked for; line.yaml names {known or 'none'}; add it to `recipes`")
        model = load_model(self._config, path)
        try:
            model.judge.warm_up(batch=model.batch)
        except BaseException:
            model.close()
            raise
        self._path = path
        return model


def open_feeds(config: LineConfig, stack: ExitStack, open_one: OpenOne = open_patiently) -> Feeds:
    """Every source, opened by `open_one`, in its thread, closed by `stack`. Raises as `open_configured`."""
    opened: list[tuple[str, Source]] = []
    for entry in config.sources:
        source = open_one(entry, config.base_dir)
        stack.callback(source.close)
        opened.append((entry.id, source))
    delays_ns = {entry.id: int(entry.latency_ms * 1e6) for entry in config.sources}
    feeds = Feeds(opened, delays_ns, {entry.id for entry in config.sources if entry.trigger == "hardware"})
    stack.callback(feeds.close)
    return feeds


def open_stations(
    config: LineConfig, on_demand: OnDemand, on_problem: Callable[[Exception], None], stack: ExitStack
) -> Stations | None:
    """The stations and their links, closed by `stack`; ``None`` where no PLC is. Raises `LinkError`."""
    if not config.wired():
        return None
    named = config.stations_or_one()
    setups = tuple(StationSetup(one.id, one.options(config.deadline_ms), sources=one.sources) for one in named)
    modbus = config.sinks.modbus
    linger_ms = config.linger_ms if modbus is None else modbus.linger_ms
    journal = "" if (records := config.recorded_in()) is None else str(journal_of(records))
    setup = Setup(setups, config.all_links(), linger_ms, config.plc_priority, journal)
    stations = Stations(setup, on_demand, on_problem)
    stack.callback(stations.close)
    return stations


def open_sinks(
    config: LineConfig, bundle: Bundle, on_error: Callable[[str, Exception], None], stack: ExitStack
) -> list[IsolatedSink]:
    """Everything else that takes verdicts, each isolated, closed by `stack`. Raises `SinkError`."""
    stations = {source: one.id for one in config.stations_or_one() for source in one.sources} if config.wired() else {}
    return isolated_sinks(config.sinks, bundle, on_error, stack, stations)


def open_lookout(
    config: LineConfig,
    bundle: Bundle,
    on_error: Callable[[str, Exception], None],
    stack: ExitStack,
    on_change: OnChange | None = None,
) -> Lookout:
    """What people and systemd are told, closed by `stack`. Raises `MissingDependencyError` for a page without h11."""
    watchdog = Watchdog.from_environment()
    stack.callback(watchdog.close)
    if config.page is None:
        return Lookout(None, watchdog, on_change=on_change)
    threshold = bundle.manifest.threshold
    value = threshold.value if threshold else None
    board = StatusBoard(config.bundle.name, bundle.sha256, value, bundle.manifest.spec, config.base_dir)
    stack.enter_context(PagePublisher(board, config.page, on_error))
    return Lookout(board, watchdog, on_change=on_change)
