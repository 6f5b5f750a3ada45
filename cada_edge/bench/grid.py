"""``grid.yaml``: which detectors, heads and seeds, on which images; every cell is one training.

::

    schema: 1
    data: ../line_images        # relative to this file; --data replaces it
    out: runs/first             # relative to this file; --out replaces it
    seeds: [0, 1, 2]
    size: 256
    detectors:
      - {name: revdist, kind: revdist, settings: {width: 64}, fit: {iterations: 2000}}
      - {name: memory, kind: patch-memory, strides: [8, 16]}
    heads:
      - {name: cada}
      - {name: own-targets, fit: {target: own}}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, field_validator

from cada_edge.data.dataset import Dataset
from cada_edge.data.readers import LAYOUTS, read_dataset
from cada_edge.data.split import RoleFractions
from cada_edge.errors import CadaEdgeError, ConfigError
from cada_edge.models.encoder import EncoderConfig
from cada_edge.models.head import CadaHeadConfig
from cada_edge.strict_yaml import Strict, read_mapping, validated
from cada_edge.training.config import AugmentConfig, FitConfig, HeadFitConfig, TrainConfig, fit_config
from cada_edge.types import MapSpec, ResizeRule, from_json

SCHEMA = 1
_NAME = r"^[A-Za-z0-9_-]{1,40}$"
_T = TypeVar("_T")


class DetectorEntry(Strict):
    """One detector: what is not given is what suits its kind.

    Attributes:
        name: its row in the table.
        kind: registered name, for instance ``revdist``.
        settings: of the detector itself.
        strides: feature maps it reads.
        fit: changes to `FitConfig`.
        encoder: in place of the grid's.
        size: in place of the grid's, pixels.
    """

    name: str = Field(pattern=_NAME)
    kind: str = "revdist"
    settings: dict[str, Any] = Field(default_factory=dict)
    strides: tuple[int, ...] | None = Field(default=None, strict=False)
    fit: dict[str, Any] = Field(default_factory=dict)
    encoder: str | None = None
    size: int | None = None


class HeadEntry(Strict):
    """One CADA head: changes to `CadaHeadConfig` (settings) and `HeadFitConfig` (fit)."""

    name: str = Field(pattern=_NAME)
    settings: dict[str, Any] = Field(default_factory=dict)
    fit: dict[str, Any] = Field(default_factory=dict)


class Grid(Strict):
    """The whole file.

    Attributes:
        schema_: the file's version, 1 (``schema`` in the file).
        data: folder of labelled images.
        layout: of that folder, see `cada_edge.data.readers`.
        out: folder for records, features and the table.
        size: model input, pixels a side.
        resize: ``stretch`` or ``letterbox``.
        encoder: any timm model name.
        encoder_weights: ``pretrained``, ``random`` or a .safetensors file.
        augment: changes to `AugmentConfig`.
        roles: changes to `RoleFractions`.
        map: changes to `MapSpec`.
        targets_frr: false-reject rates; the first one is the table's.
        device: ``auto``, ``cpu`` or ``cuda[:N]``; of training.
        latency_runs: timed pairs behind the head's share of the latency.
        keep_bundles: keep each cell's bundle under ``out/bundles``.
    """

    schema_: Literal[1] = Field(alias="schema")
    data: Path | None = Field(default=None, strict=False)
    layout: str = "auto"
    out: Path | None = Field(default=None, strict=False)
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1, strict=False)
    size: int = 256
    resize: ResizeRule = "stretch"
    encoder: str = "tf_efficientnet_lite0"
    encoder_weights: str = "pretrained"
    augment: dict[str, Any] = Field(default_factory=dict)
    roles: dict[str, Any] = Field(default_factory=dict)
    map: dict[str, Any] = Field(default_factory=dict)
    detectors: tuple[DetectorEntry, ...] = Field(min_length=1, strict=False)
    heads: tuple[HeadEntry, ...] = Field(default=(HeadEntry(name="cada"),), min_length=1, strict=False)
    targets_frr: tuple[float, ...] = Field(default=(0.05, 0.01), min_length=1, strict=False)
    device: str = "auto"
    latency_runs: int = Field(default=100, ge=1, le=100_000)
    keep_bundles: bool = False

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        return _distinct(seeds, seeds)

    @field_validator("detectors", "heads")
    @classmethod
    def _distinct_names(cls, entries: tuple[Any, ...]) -> tuple[Any, ...]:
        return _distinct(entries, [entry.name for entry in entries])

    @field_validator("layout")
    @classmethod
    def _known_layout(cls, layout: str) -> str:
        if layout not in LAYOUTS:
            raise ValueError(f"one of {', '.join(LAYOUTS)}")
        return layout

    @field_validator("targets_frr")
    @classmethod
    def _rates(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < rate < 1 for rate in rates):
            raise ValueError(f"numbers in (0, 1), got {rates}")
        return rates


def _distinct(entries: tuple[_T, ...], names: Sequence[object]) -> tuple[_T, ...]:
    if len(set(names)) != len(names):
        raise ValueError(f"different ones, got {list(names)}")
    return entries


@dataclass(frozen=True)
class Cell:
    """One training: a detector, a head and a seed.

    Attributes:
        detector: name of the detector's entry.
        head: name of the head's entry.
        seed: of everything drawn.
        config: the whole training configuration.
    """

    detector: str
    head: str
    seed: int
    config: TrainConfig

    @property
    def id(self) -> str:
        """Its name in job lists and files."""
        return f"{self.detector}.{self.head}.{self.seed}"


@dataclass(frozen=True)
class Bench:
    """A grid tied to its images and its output folder.

    Attributes:
        source: the grid as it was named on the command line.
        grid: what it says.
        data: folder of images.
        out: folder for everything made.
    """

    source: str
    grid: Grid
    data: Path
    out: Path

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell. Seeds alternate fastest, heads slowest: neighbours in the list share the least work in progress.

        Raises `ConfigError` naming the entries whose settings do not fit.
        """
        grid = self.grid
        return tuple(
            Cell(detector.name, head.name, seed, replace(config, seed=seed))
            for head in grid.heads
            for detector in grid.detectors
            for config in [_train_config(self.source, grid, detector, head)]
            for seed in grid.seeds
        )

    def cell(self, cell_id: str) -> Cell:
        """The cell of that id. Raises `ConfigError` when the grid has none."""
        found = next((cell for cell in self.cells if cell.id == cell_id), None)
        if found is None:
            ids = ", ".join(cell.id for cell in self.cells[:3])
            raise ConfigError(f"{self.source} has no cell {cell_id!r}; its {len(self.cells)} cells are {ids}, ...")
        return found

    def dataset(self) -> Dataset:
        """Find and hash the images. Raises `DataError`."""
        return read_dataset(self.data, self.grid.layout)


def packaged_grids() -> dict[str, Path]:
    """Grids that come with the program, by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}


def load_bench(source: str, data: Path | None = None, out: Path | None = None) -> Bench:
    """Read a grid: the path of a YAML, or the name of one that comes with the program.

    Args:
        source: path or name.
        data: in place of the file's.
        out: in place of the file's.

    Raises `ConfigError` naming the file, the field, what was found and what was expected;
    also when the settings of any cell do not fit.
    """
    path = packaged_grids().get(source, Path(source))
    grid = validated(Grid, read_mapping(path, SCHEMA, "schema, data, out, detectors"), source)
    base = path.resolve().parent
    bench = Bench(
        source=source,
        grid=grid,
        data=_place(source, "data", data, base, grid.data),
        out=_place(source, "out", out, base, grid.out),
    )
    bench.cells  # noqa: B018  # settings that do not fit are told now, not after hours
    return bench


def _place(source: str, name: str, given: Path | None, base: Path, written: Path | None) -> Path:
    """The folder given on the command line, else the one in the file, relative to the file."""
    if given is not None:
        return given
    if written is None:
        raise ConfigError(f"{source}: {name}: missing; name the folder in the file or with --{name}")
    return base / written


def _train_config(source: str, grid: Grid, detector: DetectorEntry, head: HeadEntry) -> TrainConfig:
    """The training of one detector and head, whatever the seed."""
    try:
        suited = TrainConfig.of_kind(detector.kind, detector.settings)
        side = detector.size or grid.size
        strides = detector.strides or suited.encoder.strides
        return replace(
            suited,
            size_hw=(side, side),
            resize=grid.resize,
            encoder=EncoderConfig(detector.encoder or grid.encoder, strides, grid.encoder_weights),
            fit=from_json(FitConfig, {**vars(fit_config(detector.kind)), **detector.fit}),
            head=from_json(CadaHeadConfig, head.settings),
            head_fit=from_json(HeadFitConfig, head.fit),
            augment=from_json(AugmentConfig, grid.augment),
            roles=from_json(RoleFractions, grid.roles),
            map_spec=from_json(MapSpec, grid.map),
            device=grid.device,
        )
    except CadaEdgeError as error:
        raise ConfigError(f"{source}: detector {detector.name}, head {head.name}: {error}") from error
