"""Cases for the fused node: its inputs, its attributes, and what it must give, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cada_edge.export.normalise import Fusion
from cada_edge.types import COSINE_FLOOR, MIN_SPREAD, Float32Array, FusionMode, MapSpec

Float64 = npt.NDArray[np.float64]


@dataclass
class Case:
    """One call of the node."""

    fusion: Fusion
    inputs: list[npt.NDArray[Any]]
    u: Float32Array
    gamma: Float32Array

    @property
    def feeds(self) -> dict[str, npt.NDArray[Any]]:
        """The inputs by the node's names."""
        return dict(zip(self.fusion.inputs, [*self.inputs, self.u, self.gamma], strict=True))

    @property
    def layers_hw(self) -> list[tuple[int, int]]:
        """Height and width of each scale."""
        step = 2 if self.fusion.mode == "features" else 1
        return [(x.shape[-2], x.shape[-1]) for x in self.inputs[::step]]

    def expected(self) -> tuple[Float64, Float64]:
        """Map and score in float64, whatever the inputs' type."""
        return reference(self.fusion, self.inputs, self.u, self.gamma)


def make_case(
    shapes: list[tuple[int, int, int]],
    map_hw: tuple[int, int],
    mode: FusionMode = "features",
    *,
    batch: int = 2,
    taps: int = 5,
    top: float = 0.03,
    half: bool = False,
    seed: int = 0,
) -> Case:
    """Features of these (C, h, w), a student near its teacher, or distances of these (h, w)."""
    rng = np.random.default_rng(seed)
    kind = np.float16 if half else np.float32
    inputs: list[npt.NDArray[Any]] = []
    for shape in shapes:
        if mode == "distances":
            inputs.append(rng.gamma(2.0, 0.5, (batch, *shape[1:])).astype(np.float32))
            continue
        teacher = rng.normal(0.2, 1.0, (batch, *shape))
        student = teacher + rng.normal(0.0, 0.5, (batch, *shape))
        inputs += [teacher.astype(kind), student.astype(kind)]
    levels = tuple(0.5 + 0.25 * i for i in range(len(shapes)))
    fusion = Fusion(mode, levels, MapSpec(map_hw, smooth_taps=taps, smooth_sigma=1.5, top_fraction=top))
    u = rng.uniform(0.1, 0.3, batch).astype(np.float32)
    return Case(fusion, inputs, u, (u + rng.uniform(0.3, 0.6, batch)).astype(np.float32))


def reference(
    fusion: Fusion, inputs: list[npt.NDArray[Any]], u: npt.NDArray[Any], gamma: npt.NDArray[Any]
) -> tuple[Float64, Float64]:
    """The node's mathematics in float64."""
    tensors = [x.astype(np.float64) for x in inputs]
    if fusion.mode == "features":
        tensors = [_cosine_distance(t, s) for t, s in zip(tensors[::2], tensors[1::2], strict=True)]
    up = [_upsampled(d / level, fusion.spec.size_hw) for d, level in zip(tensors, fusion.levels, strict=True)]
    raw = _smoothed(np.mean(up, axis=0), np.array(fusion.attributes()["window"]))
    low, high = (x.astype(np.float64)[:, None, None] for x in (u, gamma))
    aligned = (raw - low) / np.maximum(high - low, MIN_SPREAD)
    flat = aligned.reshape(len(aligned), -1)
    score = np.sort(flat, axis=1)[:, -fusion.spec.top_k :].mean(axis=1)
    return aligned, np.where(np.isnan(flat).any(axis=1), np.nan, score)


def _cosine_distance(teacher: Float64, student: Float64) -> Float64:
    dot, tt, ss = ((a * b).sum(axis=1) for a, b in ((teacher, student), (teacher, teacher), (student, student)))
    return np.asarray(1.0 - dot / np.sqrt(tt * ss + np.float32(COSINE_FLOOR)))


def _upsampled(maps: Float64, size_hw: tuple[int, int]) -> Float64:
    for axis, size in ((1, size_hw[0]), (2, size_hw[1])):
        source = maps.shape[axis]
        position = np.maximum((np.arange(size) + 0.5) * source / size - 0.5, 0.0)
        low = position.astype(int)
        share = (position - low).reshape([-1 if a == axis else 1 for a in range(3)])
        high = np.minimum(low + 1, source - 1)
        maps = (1 - share) * maps.take(low, axis=axis) + share * maps.take(high, axis=axis)
    return maps


def _smoothed(maps: Float64, window: Float64) -> Float64:
    for axis in (1, 2):
        length, reach = maps.shape[axis], len(window) // 2
        index = np.arange(length)
        maps = np.sum(
            [w * maps.take(np.clip(index + t - reach, 0, length - 1), axis=axis) for t, w in enumerate(window)], axis=0
        )
    return maps
