"""Train: folders of good images in, a bundle out. Product names are never read."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cada_edge.bundle import Bundle, Manifest, Stage, data_sha256
from cada_edge.data.dataset import Item
from cada_edge.data.split import ROLES, Role
from cada_edge.errors import ConfigError, DataError
from cada_edge.models.detector import GradientDetector, LayeredDetector, class_of_settings
from cada_edge.models.encoder import Encoder, image_spec
from cada_edge.models.head import CadaHead, describe
from cada_edge.models.patch_memory import PatchMemory
from cada_edge.models.store import components, model_files
from cada_edge.models.unified import UnifiedModel
from cada_edge.training.checkpoint import Checkpoint
from cada_edge.training.config import TrainConfig
from cada_edge.training.distributed import World, world
from cada_edge.training.extend import Base
from cada_edge.training.features import Encoding, FeatureStore, Tick, encode_views, picture_numbers, views
from cada_edge.training.fit_detector import fit_detector, set_layer_levels
from cada_edge.training.fit_head import fit_head
from cada_edge.training.fit_memory import fit_memory
from cada_edge.training.head_data import LeavingOut, groups_of, head_data
from cada_edge.training.lock import work_lock
from cada_edge.training.look_alikes import leave_out_groups, look_alike_groups
from cada_edge.training.roles import share_roles
from cada_edge.version import __version__

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Stores:
    """Encoded images by role; the calibration images are left alone.

    Attributes:
        fit: features the detector learns from.
        align: features of held-out images the head learns from.
        group_of: sha256 of each picture to its group of look-alikes.
        key: digest of all that determines the features.
    """

    fit: FeatureStore
    align: FeatureStore
    group_of: Mapping[str, int]
    key: str


@dataclass(frozen=True)
class _Run:
    """Where this process works, beside whom, and whom it tells."""

    work: Path
    features: Path
    world: World
    progress: Progress
    base: Base | None = None

    def tick(self, stage: str) -> Tick:
        return lambda done, total: self.progress(stage, done, total)


def train(
    config: TrainConfig,
    items: tuple[Item, ...],
    work: Path,
    progress: Progress,
    *,
    features: Path | None = None,
    base: Base | None = None,
) -> Bundle | None:
    """Train one model on good images of any number of products.

    Images are taken by content alone: names, folders, order and byte-identical copies make no
    difference. On a CPU the same config, images, versions, threads
    and processes give the same bundle, byte for byte.

    Args:
        config: every setting.
        items: good images (`cada_edge.data.scan(...).train()`).
        work: folder for features and checkpoints; an interrupted run started again goes on from there.
        progress: called with stage name, steps done and steps in all.
        features: folder for the features alone, where several trainings share them; see `encode`.
        base: go on from this earlier training; `config` is then from `Base.settings`.

    Returns:
        The bundle, without threshold and ONNX; ``None`` on processes other than the first.

    Raises:
        DataError, ConfigError, TrainingError.
    """
    different = _different(items)
    if base is not None:
        base.check(items)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)  # some GPU gradients have no such form
    with world(config.device) as here, work_lock(work) if here.leads else nullcontext():
        model, detector = _build(config, base)
        run = _Run(work, features or work / "features", here, progress, base)
        store = _encode(config, model, different, run)
        group_of = _look_alikes(store, run)
        known = base.roles if base else None
        roles, split = share_roles(list(group_of), np.array(list(group_of.values())), config.roles, config.seed, known)
        if not split["look_alikes_share_roles"]:  # groups too coarse to split by are too coarse to leave out
            group_of = {digest: number for number, digest in enumerate(group_of)}
        fit, align = (store.select({d for d, r in roles.items() if r == role}) for role in ("fit", "align"))
        key = store.key if base is None else f"{store.key} after {base.sha256}"
        results = _fit(config, model, detector, Stores(fit, align, group_of, key), run)
        origin = {} if base is None else {"extends": base.sha256}
        return _bundle(config, model, roles, {**results, **split, **origin}) if here.leads else None


def encode(config: TrainConfig, items: tuple[Item, ...], features: Path, progress: Progress) -> None:
    """Encode the images into a folder that any number of trainings may then read at the same time.

    They must agree in everything but detector, head, roles and how these are fitted. Two
    processes must not fill one folder at once.
    """
    with world(config.device) as here:
        _encode(config, _build(config)[0], _different(items), _Run(features, features, here, progress))


def discard_work(work: Path) -> None:
    """Remove features and checkpoints once the bundle is safe."""
    shutil.rmtree(work, ignore_errors=True)


def _different(items: tuple[Item, ...]) -> list[Item]:
    """One item per content, in an order that names and folders do not change. Raises `DataError` for none."""
    by_digest = {item.sha256: item for item in sorted(items, key=lambda item: item.sha256)}
    if not by_digest:
        raise DataError("no good images to train on; expected <product>/train/good/*.png or a folder of images")
    return list(by_digest.values())


def _build(config: TrainConfig, base: Base | None = None) -> tuple[UnifiedModel, LayeredDetector]:
    encoder = Encoder(config.encoder) if base is None else base.model.encoder
    torch.manual_seed(config.seed)  # here: building an encoder draws numbers too, how many depends on timm
    kind = class_of_settings(config.detector)
    detector = kind.create(config.detector, encoder.channels, encoder.strides, config.map_spec)
    if not isinstance(detector, LayeredDetector):
        raise ConfigError(f"detector {kind.kind!r} is not one that cada-edge trains")
    if base is not None and isinstance(detector, GradientDetector):
        detector.load_state_dict(base.model.detector.state_dict())
    head = CadaHead(config.head, sum(encoder.channels))
    spec = base.model.spec if base else image_spec(config.encoder, config.size_hw, config.resize)
    return UnifiedModel(spec, config.map_spec, encoder, detector, head).eval(), detector


def _encode(config: TrainConfig, model: UnifiedModel, items: list[Item], run: _Run) -> FeatureStore:
    """Encode the images on one process per machine; the others wait, then read."""
    encoding = Encoding(model, config.augment, config.seed, run.world.device)

    def encode() -> FeatureStore:
        return encode_views(
            _features_folder(run),
            views(items, config.augment.copies),
            encoding,
            run.tick("encode images"),
        )

    if run.world.local_rank == 0:
        store = encode()
        run.world.barrier()
        return store
    run.world.barrier()
    return encode()


def _features_folder(run: _Run) -> Path:
    """One per machine, so that machines may share the work folder or not."""
    machine = run.world.machine
    return run.features if machine == 0 else run.features.with_name(f"{run.features.name}-{machine}")


def _look_alikes(store: FeatureStore, run: _Run) -> dict[str, int]:
    """Digest of each picture to its group of look-alikes; every process goes by the first one's groups."""
    digests = [view.sha256 for view in store.views if view.copy == 0]
    count = len(digests)  # originals stand before their variations
    originals = FeatureStore(store.views[:count], store.maps, store.index[:count])
    groups = look_alike_groups(_descriptors(originals))
    shared: list[int] = run.world.from_first(torch.from_numpy(groups)).tolist()
    return dict(zip(digests, shared, strict=True))


def _fit(
    config: TrainConfig, model: UnifiedModel, detector: LayeredDetector, stores: Stores, run: _Run
) -> dict[str, Any]:
    """Fit detector, then head; return figures for the provenance."""
    # The weights of an extended detector belong to the statistics they grew with.
    if run.base is None or isinstance(detector, PatchMemory):
        detector.scaler.set_statistics(*stores.fit.channel_statistics())
    results, leaving_out = _fit_detector(config, detector, stores, run)
    set_layer_levels(detector, stores.align, run.world)
    if not run.world.leads:
        return {}
    device = run.world.device
    tick = run.tick("map good images")
    data = head_data(model.to(device), stores.fit, stores.align, device=device, tick=tick, leaving_out=leaving_out)
    error = fit_head(model.cpu().head, data, config.head_fit, seed=config.seed, tick=run.tick("fit head"))
    return {
        **results,
        "head_error": error,
        "views_fit": len(stores.fit.views),
        "views_align": len(stores.align.views),
        "views_left_out": len(stores.fit.views) if leaving_out else 0,
        "processes": run.world.size,
        "threads": torch.get_num_threads(),
    }


def _fit_detector(
    config: TrainConfig, detector: LayeredDetector, stores: Stores, run: _Run
) -> tuple[dict[str, Any], LeavingOut | None]:
    """Fit by whatever the detector learns by; figures of it, and how it does without an image, if it can."""
    checkpoint = Checkpoint(run.work / "detector.safetensors", _run_key(config, stores, run.world))
    tick = run.tick("fit detector")
    if isinstance(detector, PatchMemory):
        origins = fit_memory(detector, stores.fit, seed=config.seed, world=run.world, checkpoint=checkpoint, tick=tick)
        leaving_out = LeavingOut(detector, origins, _left_out_together(stores))
        return {"patches": len(detector.bank(0))}, leaving_out
    if not isinstance(detector, GradientDetector):
        raise ConfigError(f"detector {detector.kind!r} has no way to be fitted")
    loss = fit_detector(
        detector, stores.fit, config.fit, seed=config.seed, world=run.world, checkpoint=checkpoint, tick=tick
    )
    return {"detector_loss": loss}, None


def _left_out_together(stores: Stores) -> Tensor:
    groups = groups_of(stores.fit, stores.group_of)
    return leave_out_groups(_descriptors(stores.fit), groups, picture_numbers(stores.fit.views))


def _descriptors(store: FeatureStore) -> Tensor:
    return torch.cat([describe(features) for features in store.batches(torch.device("cpu"))])


def _run_key(config: TrainConfig, stores: Stores, here: World) -> str:
    """Digest of what determines the detector's course."""
    facts: list[Any] = [__version__, class_of_settings(config.detector).kind, asdict(config.detector)]
    facts += [asdict(config.fit), asdict(config.encoder)]
    facts += [asdict(config.augment), config.size_hw, config.resize, config.seed, here.size, here.device.type]
    facts.append([(view.sha256, view.copy) for view in stores.fit.views])
    facts.append(stores.key)
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _bundle(config: TrainConfig, model: UnifiedModel, roles: Mapping[str, Role], results: dict[str, Any]) -> Bundle:
    detector, head = components(model)
    stage = Stage(
        name="train",
        version=__version__,
        config=json.loads(json.dumps(asdict(config))),
        data_sha256=data_sha256(roles),
        seed=config.seed,
        results={**results, "images": len(roles), "torch": torch.__version__},
    )
    manifest = Manifest(model.spec, model.map_spec, detector, head, provenance=(stage,))
    by_role: dict[str, list[str]] = {role: [digest for digest, own in roles.items() if own == role] for role in ROLES}
    return Bundle(manifest, model_files(model)).with_roles(by_role)
