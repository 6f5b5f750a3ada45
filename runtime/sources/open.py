"""From what ``line.yaml`` says of a source to the source, with region, light and quality in one place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cada_edge.protocols import Source
from cada_edge.runtime.sources.camera import CameraOptions
from cada_edge.runtime.sources.config import SourceConfig
from cada_edge.runtime.sources.prepare import Preparation
from cada_edge.runtime.sources.quality import QualityGate
from cada_edge.runtime.sources.triggered import SoftwareTriggeredSource
from cada_edge.runtime.sources.uri import CAMERAS, open_source, parse
from cada_edge.types import Frame


class PreparedSource:
    """A source whose frames are prepared, then checked; otherwise as the source it is made of."""

    def __init__(self, source: Source, preparation: Preparation, gate: QualityGate | None) -> None:
        self._source, self._preparation, self._gate = source, preparation, gate

    def frames(self) -> Iterator[Frame]:
        """Yield the source's frames; one that does not fit the settings or is poor says so in its status."""
        for frame in self._source.frames():
            prepared = self._preparation.frame(frame)
            yield prepared if self._gate is None else self._gate.frame(prepared)

    def healthy(self) -> bool:
        """As the source."""
        return self._source.healthy()

    def close(self) -> None:
        """Close the source. Safe to call twice."""
        self._source.close()


class PreparedTriggeredSource(PreparedSource):
    """A prepared source that takes a picture when told to."""

    def __init__(self, source: SoftwareTriggeredSource, preparation: Preparation, gate: QualityGate | None) -> None:
        super().__init__(source, preparation, gate)
        self._triggered = source

    def trigger(self) -> None:
        """Expose now; the next frame of `frames` is the answer. Safe from any thread."""
        self._triggered.trigger()


def open_configured(config: SourceConfig, base_dir: Path | None = None, *, required: bool = True) -> Source:
    """Open a source with everything its section says; with ``trigger()`` where it is triggered by software.

    Args:
        config: the section.
        base_dir: what its relative paths are relative to; the working directory by default.
        required: a camera that is not there is an error; else it counts as lost, and is looked for.

    Raises:
        ConfigError: a wrong uri, or a setting that such a source does not have.
        DataError: the flat field cannot be read or used.
        MissingDependencyError: the package for such a camera is not installed.
        SourceError: the folder, file or required camera cannot be opened.
    """
    base = base_dir or Path()
    flat_field = None if config.flat_field is None else base / config.flat_field
    preparation = Preparation(config.roi, config.rotate, flat_field)
    kind = CAMERAS.get(parse(config.uri, base).scheme)
    gate = None if config.quality is None else QualityGate(config.quality, live=kind is not None and kind.raw)
    options = CameraOptions(stall_s=config.stall_s, required=required)
    source = open_source(config.uri, config.id, base, options, config.settings())
    if isinstance(source, SoftwareTriggeredSource):
        return PreparedTriggeredSource(source, preparation, gate)
    return PreparedSource(source, preparation, gate)
