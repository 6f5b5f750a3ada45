"""The sources of a line under measurement: files over and over and, with a rate, everything by a fixed schedule."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from cada_edge.errors import ConfigError
from cada_edge.protocols import Source
from cada_edge.runtime.feed import Triggered
from cada_edge.runtime.sources.address import Address, number
from cada_edge.runtime.sources.config import SourceConfig
from cada_edge.runtime.sources.open import open_configured
from cada_edge.runtime.sources.uri import parse
from cada_edge.types import Frame

FILES = frozenset({"folder", "video"})
Begun = dict[tuple[str, int], int]  # source and when its frame was due to when somebody began to fetch it, ns


class ScheduledSource:
    """A source whose pictures are each due at a time of a fixed schedule, however late they are fetched.

    Args:
        source: gives a picture whenever it is asked to, or takes one when it is triggered.
        rate_fps: pictures a second, > 0.
        begun: is told when each was begun to be fetched.
    """

    def __init__(self, source: Source, rate_fps: float, begun: Begun | None = None) -> None:
        self._source, self._period_ns = source, round(1e9 / rate_fps)
        self._begun: Begun = {} if begun is None else begun
        self._stop = threading.Event()

    def frames(self) -> Iterator[Frame]:
        """The source's pictures, captured when they were due; until it ends."""
        start_ns, frames = time.monotonic_ns(), self._source.frames()
        for turn in itertools.count(1):
            due_ns = start_ns + turn * self._period_ns
            if self._stop.wait(max(0.0, (due_ns - time.monotonic_ns()) / 1e9)):
                return
            begun_ns = max(time.monotonic_ns(), due_ns)
            if isinstance(self._source, Triggered):
                self._source.trigger()
            frame = next(frames, None)  # fetched after it was due: that takes part of its time
            if frame is None:
                return
            self._begun[frame.source_id, due_ns] = begun_ns
            yield replace(frame, t_capture_ns=due_ns, t_arrival_ns=max(time.monotonic_ns(), due_ns))

    def healthy(self) -> bool:
        """As the source, until `close`."""
        return not self._stop.is_set() and self._source.healthy()

    def close(self) -> None:
        """End `frames` and close the source. Safe to call twice."""
        self._stop.set()
        self._source.close()


def check_source(config: SourceConfig, base_dir: Path, rate_fps: float | None) -> None:
    """Raise `ConfigError` for a source that cannot be measured so; nothing is opened."""
    address = parse(config.uri, base_dir)
    if rate_fps is None:
        if config.trigger == "software":
            raise ConfigError(f"--line: source {config.id} takes a picture when it is told to; say how often: --rate")
        return
    if address.scheme not in FILES and config.trigger != "software":
        raise ConfigError(
            f"--rate: got {rate_fps:g}, but source {config.id} ({address.label}) is a camera that keeps its own time; "
            "leave --rate out, or let it wait for triggers with `trigger: software`"
        )
    most_fps = number(address, "fps")
    if most_fps is not None and rate_fps > most_fps:
        raise ConfigError(f"--rate: got {rate_fps:g}, but source {config.id} gives {most_fps:g} frames a second")


def open_scheduled(config: SourceConfig, base_dir: Path, rate_fps: float | None, begun: Begun | None = None) -> Source:
    """The source as the line opens it, with region, light and quality; files play for ever, as fast as they are asked.

    Raises as `open_configured`.
    """
    address = parse(config.uri, base_dir)
    if address.scheme in FILES:
        config = config.model_copy(update={"uri": _for_ever(address)})
    source = open_configured(config, base_dir)
    return source if rate_fps is None else ScheduledSource(source, rate_fps, begun)


def _for_ever(address: Address) -> str:
    return f"{address.scheme}://{quote(address.target)}?loop=1"
