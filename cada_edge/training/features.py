"""Encode every image once and keep the features on disk.

The encoder is frozen, so its features never change while the detector learns. They are
kept as float16 in one file per stride and read through memory maps: memory stays flat
however many images there are, and an interrupted run finds them again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cada_edge.data.dataset import Item
from cada_edge.errors import DataError, TrainingError
from cada_edge.imaging import prepare, read_image
from cada_edge.models.unified import UnifiedModel
from cada_edge.training.augment import augment
from cada_edge.training.config import AugmentConfig
from cada_edge.training.encode import open_encoder
from cada_edge.types import UInt8Array
from cada_edge.version import __version__

_CHUNK, _FLUSH_EVERY = 8, 128
Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class View:
    """One picture to encode: an image as it is (`copy` 0) or its n-th variation."""

    path: Path
    sha256: str
    copy: int = 0


def views(items: Sequence[Item], copies: int) -> list[View]:
    """The originals, then every variation, in the order of `items`."""
    return [View(item.path, item.sha256, copy) for copy in range(copies + 1) for item in items]


def picture_numbers(views: Sequence[View]) -> Tensor:
    """Which picture each view shows, int64 (len(views),): variations of one share its number."""
    numbers = {digest: i for i, digest in enumerate(sorted({view.sha256 for view in views}))}
    return torch.tensor([numbers[view.sha256] for view in views])


class FeatureStore:
    """Features of a list of views, on disk.

    Attributes:
        views: what each row is.
        maps: per stride, float16 (M, C, h, w), memory-mapped.
        index: int64 (len(views),), where in `maps` each row lies.
        key: digest of all that determines the stored features.
    """

    def __init__(
        self,
        views: Sequence[View],
        maps: Sequence[npt.NDArray[np.float16]],
        index: npt.NDArray[np.int64] | None = None,
        key: str = "",
    ) -> None:
        self.views, self.maps = list(views), list(maps)
        self.index = np.arange(len(self.views)) if index is None else index
        self.key = key

    def select(self, digests: Collection[str]) -> FeatureStore:
        """The rows that show pictures of these digests, all their variations included."""
        chosen = [i for i, view in enumerate(self.views) if view.sha256 in digests]
        return FeatureStore([self.views[i] for i in chosen], self.maps, self.index[chosen])

    def rows(self, indices: npt.NDArray[np.int64], device: torch.device) -> list[Tensor]:
        """Features of some rows: per stride float32 (n, C, h, w)."""
        stored = self.index[indices]
        return [torch.from_numpy(m[stored].astype(np.float32)).to(device) for m in self.maps]

    def batches(self, device: torch.device, size: int = 16) -> Iterator[list[Tensor]]:
        """All rows in order, `size` at a time."""
        for start in range(0, len(self.views), size):
            yield self.rows(np.arange(start, min(start + size, len(self.views))), device)

    def channel_statistics(self) -> tuple[list[Tensor], list[Tensor]]:
        """Per-channel mean and standard deviation over all rows: per stride (C,), (C,)."""
        sums = [
            [torch.stack([x.double().mean((0, 2, 3)), x.double().square().mean((0, 2, 3))]) * len(x) for x in batch]
            for batch in self.batches(torch.device("cpu"))
        ]
        totals = [torch.stack(layer).sum(0) / len(self.views) for layer in zip(*sums, strict=True)]
        means = [t[0] for t in totals]
        stds = [(t[1] - t[0] ** 2).clamp_min(0).sqrt() for t in totals]
        return [m.float() for m in means], [s.float() for s in stds]


@dataclass(frozen=True)
class Encoding:
    """How pictures become features.

    Attributes:
        model: its preprocessing and frozen encoder are used.
        augment: the variations asked for.
        seed: of the variations.
        device: where the encoder runs.
    """

    model: UnifiedModel
    augment: AugmentConfig
    seed: int
    device: torch.device

    def key(self, pictures: Sequence[View]) -> str:
        """Digest of all that determines the features of `pictures`."""
        weights = hashlib.sha256()
        for name, tensor in self.model.encoder.state_dict().items():
            weights.update(name.encode() + tensor.cpu().numpy().tobytes())
        facts = [
            __version__,
            asdict(self.model.encoder.config),
            self.device.type,
            asdict(self.model.spec),
            asdict(self.augment),
            self.seed,
            self.model.encoder.strides,
            weights.hexdigest(),
        ]
        facts.append([(view.sha256, view.copy) for view in pictures])
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def shapes(self, count: int) -> dict[int, tuple[int, ...]]:
        """Stride to the shape of its feature file, (count, C, h, w)."""
        height, width = self.model.spec.size_hw
        pairs = zip(self.model.encoder.strides, self.model.encoder.channels, strict=True)
        return {stride: (count, channels, height // stride, width // stride) for stride, channels in pairs}

    def picture(self, view: View) -> UInt8Array:
        """Read and, for a variation, vary: uint8 (H, W, 3)."""
        image = prepare(read_image(view.path), self.model.spec)
        if view.copy == 0:
            return image
        rng = np.random.default_rng([self.seed, view.copy, int(view.sha256[:16], 16)])
        return augment(image, self.augment, rng)


def encode_views(folder: Path, pictures: Sequence[View], encoding: Encoding, tick: Tick) -> FeatureStore:
    """Fill, or go on filling, the store in `folder`; return it.

    Raises `TrainingError` when `folder` holds the features of other data or settings, and
    `DataError` when the disk is full or an image cannot be read.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _fill(folder, pictures, encoding, tick)
    except OSError as error:
        raise DataError(f"{folder}: cannot keep features on disk: {error.strerror or error}") from error


def _fill(folder: Path, pictures: Sequence[View], encoding: Encoding, tick: Tick) -> FeatureStore:
    state_file, key = folder / "state.json", encoding.key(pictures)
    done = _resume_point(state_file, key)
    shapes = encoding.shapes(len(pictures))
    maps = [_open_map(folder / f"stride{stride}.npy", shape, fresh=done == 0) for stride, shape in shapes.items()]
    if done == len(pictures):
        return FeatureStore(pictures, maps, key=key)
    encode = open_encoder(encoding.model, encoding.device)
    for start in range(done, len(pictures), _CHUNK):
        chunk = pictures[start : start + _CHUNK]
        features = encode(np.stack([encoding.picture(view) for view in chunk]))
        _require_finite(chunk, features)
        done = start + len(chunk)
        for target, values in zip(maps, features, strict=True):
            target[start:done] = values
        tick(done, len(pictures))
        if done % _FLUSH_EVERY == 0 or done == len(pictures):
            for target in maps:
                target.flush()
            _write_state(state_file, key, done)
    return FeatureStore(pictures, maps, key=key)


def _require_finite(chunk: Sequence[View], features: Sequence[npt.NDArray[np.float16]]) -> None:
    """Features beyond float16's 65504 would end as a puzzling loss much later."""
    whole = np.logical_and.reduce([np.isfinite(x).all(axis=(1, 2, 3)) for x in features])
    if not whole.all():
        path = chunk[int(np.argmin(whole))].path
        raise TrainingError(f"{path}: its features are not finite in float16; check --encoder and --encoder-weights")


def _open_map(path: Path, shape: tuple[int, ...], *, fresh: bool) -> np.memmap[Any, np.dtype[np.float16]]:
    if fresh:
        created = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        with path.open("r+b") as stream:  # now, as an error: a full disk would kill the process at a later write
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
        return created
    try:
        found: np.memmap[Any, np.dtype[np.float16]] = np.load(path, mmap_mode="r+", allow_pickle=False)
    except ValueError as error:
        raise TrainingError(f"{path} is damaged ({error}); delete its folder to start afresh") from error
    if found.shape != shape or found.dtype != np.float16:
        raise TrainingError(f"{path} holds {found.dtype} {found.shape}, expected float16 {shape}; delete its folder")
    return found


def _resume_point(state_file: Path, key: str) -> int:
    """Rows already there. Raises `TrainingError` when they belong to another run."""
    if not state_file.exists():
        return 0
    try:
        state = json.loads(state_file.read_text())
        found, rows = state["key"], int(state["rows"])
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{state_file} is damaged ({error}); delete its folder to start afresh") from error
    if found != key:
        raise TrainingError(
            f"{state_file.parent} holds features of other images or settings ({found[:12]}, now {key[:12]}); "
            "finish that run, delete the folder, or use another --out"
        )
    return rows


def _write_state(state_file: Path, key: str, rows: int) -> None:
    temporary = state_file.with_suffix(".part")
    temporary.write_text(json.dumps({"key": key, "rows": rows}))
    temporary.replace(state_file)
