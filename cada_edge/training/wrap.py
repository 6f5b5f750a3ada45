"""Give a detector made elsewhere a CADA head: its maps on good images in, a bundle out.

Nothing of the foreign detector is fitted but the shift and scale of its map. The images must
be new to it: maps of images that it was trained on are biased low, and so would be the head.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from cada_edge.bundle import Bundle, Manifest, Stage, data_sha256
from cada_edge.data.dataset import Item
from cada_edge.data.split import ROLES, Role, RoleFractions
from cada_edge.errors import DataError, TrainingError
from cada_edge.models.encoder import Encoder, EncoderConfig, image_spec
from cada_edge.models.foreign import ForeignGraph, Reading, input_size
from cada_edge.models.foreign_model import ForeignDetector, ForeignModel
from cada_edge.models.head import CadaHead, CadaHeadConfig
from cada_edge.models.ranges import check_ranges
from cada_edge.models.store import components, model_files
from cada_edge.models.unified import image_score
from cada_edge.training.config import AugmentConfig, HeadFitConfig
from cada_edge.training.encode import open_describer
from cada_edge.training.features import Encoding, View, picture_numbers, views
from cada_edge.training.fit_head import HeadData, fit_head
from cada_edge.training.look_alikes import look_alike_groups
from cada_edge.training.roles import share_roles
from cada_edge.training.targets import MapStatistics
from cada_edge.types import MapSpec
from cada_edge.version import __version__

Progress = Callable[[str, int, int], None]

# The level that all but a hundredth of an image's cells exceed stands for its background.
_BACKGROUND_QUANTILE = 0.01
# Of the map's magnitude: a spread below it is rounding, not signal.
_LEAST_RELATIVE_SPREAD = 1e-6
_CHUNK = 8


@dataclass(frozen=True)
class WrapConfig:
    """How a foreign detector gets its head.

    Attributes:
        resize: ``stretch`` or ``letterbox``, see `ImageSpec`.
        encoder: what the head and the novelty measure look through; the foreign graph has its own.
        roles: shares of the images; those to ``align`` give the maps the head learns, those to
            ``fit`` only say what images look like, and ``calibrate`` is left for the threshold.
        seed: of split, initial weights of the head and augmentation.
    """

    resize: str = "stretch"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head: CadaHeadConfig = field(default_factory=CadaHeadConfig)
    map_spec: MapSpec = field(default_factory=MapSpec)
    roles: RoleFractions = field(default_factory=lambda: RoleFractions(0.25, 0.5, 0.25))
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    head_fit: HeadFitConfig = field(default_factory=HeadFitConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        check_ranges(self, seed=(0, 2**32 - 1))


def wrap(config: WrapConfig, foreign: ForeignGraph, items: Sequence[Item], progress: Progress) -> Bundle:
    """Fit a head to a foreign detector's maps of good images of any number of products.

    Images are taken by content alone, as in `cada_edge.training.train`; product names are never
    read. The same config, graph, images, versions and threads give the same bundle.

    Args:
        config: every setting.
        foreign: from `cada_edge.export.open_foreign`.
        items: good images, new to the foreign detector.
        progress: called with stage name, steps done and steps in all.

    Returns:
        The bundle, without threshold and ONNX.

    Raises:
        DataError: too few images, or one that cannot be read.
        TrainingError: maps that are not finite, or the same everywhere.
        EngineError: ONNX Runtime cannot run the graph.
    """
    by_digest = {item.sha256: item for item in sorted(items, key=lambda item: item.sha256)}
    if not by_digest:
        raise DataError("no good images to fit the head on; expected <product>/train/good/*.png or a folder of images")
    model = _build(config, foreign)
    encoding = Encoding(model, config.augment, config.seed, torch.device("cpu"))
    pictures = views(list(by_digest.values()), config.augment.copies)
    descriptors = _descriptors(encoding, pictures, lambda d, t: progress("describe images", d, t))
    groups = look_alike_groups(descriptors[: len(by_digest)])  # originals stand before their variations
    roles, results = share_roles(list(by_digest), groups, config.roles, config.seed)
    seen, held = (_rows(pictures, roles, role) for role in ("fit", "align"))
    align = [pictures[row] for row in held]
    maps = _maps(model, encoding, align, lambda d, t: progress("run the foreign detector", d, t))
    maps = _set_range(model.detector.reading, maps)
    statistics = MapStatistics(maps.mean(dim=(1, 2)), image_score(maps, model.map_spec))
    numbers = picture_numbers(pictures)
    data = HeadData(descriptors[seen], descriptors[held], torch.cat([numbers[seen], numbers[held]]), statistics)
    error = fit_head(model.head, data, config.head_fit, seed=config.seed, tick=lambda d, t: progress("fit head", d, t))
    results |= {"head_error": error, "views_align": len(align), "threads": torch.get_num_threads()}
    return _bundle(config, foreign, model, roles, results)


def _build(config: WrapConfig, foreign: ForeignGraph) -> ForeignModel:
    encoder = Encoder(config.encoder)
    torch.manual_seed(config.seed)  # here: building an encoder draws numbers too, how many depends on timm
    detector = ForeignDetector(foreign.config, encoder.strides, config.map_spec)
    detector.graph = foreign.content
    head = CadaHead(config.head, sum(encoder.channels))
    spec = image_spec(config.encoder, input_size(foreign.config.size_hw), config.resize)
    model = ForeignModel(spec, config.map_spec, encoder, detector, head)
    model.eval()
    return model


def _rows(pictures: Sequence[View], roles: dict[str, Role], role: Role) -> list[int]:
    return [row for row, view in enumerate(pictures) if roles[view.sha256] == role]


def _descriptors(encoding: Encoding, pictures: Sequence[View], tick: Callable[[int, int], None]) -> Tensor:
    """float32 (len(pictures), D)."""
    describe, rows = open_describer(encoding.model, encoding.device), []
    for start in range(0, len(pictures), _CHUNK):
        chunk = pictures[start : start + _CHUNK]
        rows.append(describe(np.stack([encoding.picture(view) for view in chunk])))
        tick(start + len(chunk), len(pictures))
    return torch.from_numpy(np.concatenate(rows))


def _maps(
    model: ForeignModel, encoding: Encoding, pictures: Sequence[View], tick: Callable[[int, int], None]
) -> Tensor:
    """Smoothed maps in the foreign detector's own units, float32 (len(pictures), h, w), finite."""
    rows = []
    for done, view in enumerate(pictures, start=1):
        with torch.inference_mode():
            raw = model.foreign_map(torch.from_numpy(encoding.picture(view))[None])
        if not bool(raw.isfinite().all()):
            raise TrainingError(
                f"{view.path}: the foreign detector's map is not finite; check how it is fed (--pixels)"
            )
        rows.append(raw.numpy())
        tick(done, len(pictures))
    return torch.from_numpy(np.concatenate(rows))


def _set_range(reading: Reading, maps: Tensor) -> Tensor:
    """Choose the shift and scale that give good images a background of 0.5 and a mean of 1; return the maps so.

    With the background above 0 the head's logarithms are tame, and a foreign map that is
    shifted or scaled gives the same scores.
    """
    cells = maps.flatten(1).numpy()
    background = float(np.quantile(cells, _BACKGROUND_QUANTILE, axis=1).min())
    mean = float(cells.mean(dtype=np.float64))
    if mean - background <= _LEAST_RELATIVE_SPREAD * float(np.abs(cells).max()):
        raise TrainingError(
            f"the foreign detector's maps of {len(maps)} good images are {mean:.6g} everywhere, so it tells nothing "
            "apart; check --map-output and how it is fed (--pixels)"
        )
    reading.scale.fill_(2 * (mean - background))
    reading.offset.fill_(2 * background - mean)
    return (maps - reading.offset) / reading.scale


def _bundle(
    config: WrapConfig, foreign: ForeignGraph, model: ForeignModel, roles: dict[str, Role], results: dict[str, object]
) -> Bundle:
    detector, head = components(model)
    stage = Stage(
        name="wrap",
        version=__version__,
        config=json.loads(json.dumps({**asdict(config), "foreign": foreign.source})),
        data_sha256=data_sha256(roles),
        seed=config.seed,
        results={
            **results,
            "images": len(roles),
            "map_offset": float(model.detector.reading.offset),
            "map_scale": float(model.detector.reading.scale),
            "versions": {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__},
        },
    )
    manifest = Manifest(model.spec, model.map_spec, detector, head, provenance=(stage,))
    by_role: dict[str, list[str]] = {role: [digest for digest, own in roles.items() if own == role] for role in ROLES}
    return Bundle(manifest, model_files(model)).with_roles(by_role)
