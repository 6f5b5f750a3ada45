"""CADA's arithmetic as pure numpy functions: the reference for every backend.

The method (Guo et al., arXiv 2404.00724): a head predicts, for any image, the mean ``u``
and the maximum ``gamma`` that the anomaly map S of a *normal* image of its kind would
have; ``S' = (S - u) / (gamma - u)`` then has one scale for every product.
"""

from __future__ import annotations

import numpy as np

from cada_edge.types import MIN_SPREAD, Float32Array, MapSpec

__all__ = ["MIN_SPREAD", "gaussian_window", "image_score", "normalise", "smooth", "spread"]


def spread(u: Float32Array, gamma: Float32Array) -> Float32Array:
    """``max(gamma - u, MIN_SPREAD)``: float32 (N,), > 0. NaN stays NaN."""
    return np.asarray(np.maximum(gamma - u, np.float32(MIN_SPREAD)), dtype=np.float32)


def normalise(maps: Float32Array, u: Float32Array, gamma: Float32Array) -> Float32Array:
    """Align raw maps: ``(S - u) / max(gamma - u, MIN_SPREAD)``.

    Args:
        maps: float32 (N, h, w), raw anomaly maps, >= 0.
        u: float32 (N,), predicted mean of the normal map.
        gamma: float32 (N,), predicted maximum of the normal map.

    Returns:
        float32 (N, h, w); 0 is the normal mean, 1 the normal maximum.
    """
    aligned = (maps - u[:, None, None]) / spread(u, gamma)[:, None, None]
    return np.asarray(aligned, dtype=np.float32)


def gaussian_window(taps: int, sigma: float) -> Float32Array:
    """One-dimensional Gaussian, float32 (taps,), summing to 1. `sigma` in cells."""
    offsets = np.arange(taps, dtype=np.float64) - taps // 2
    window = np.exp(-(offsets**2) / (2.0 * sigma**2))
    return np.asarray(window / window.sum(), dtype=np.float32)


def smooth(maps: Float32Array, spec: MapSpec) -> Float32Array:
    """Separable Gaussian smoothing with replicated edges: float32 (N, h, w) to the same."""
    window = gaussian_window(spec.smooth_taps, spec.smooth_sigma)
    reach = spec.smooth_taps // 2
    for axis in (1, 2):
        pad = [(0, 0), (0, 0), (0, 0)]
        pad[axis] = (reach, reach)
        padded = np.pad(maps, pad, mode="edge")
        length = maps.shape[axis]
        maps = np.zeros_like(maps)
        for offset, weight in enumerate(window):
            maps += weight * np.take(padded, range(offset, offset + length), axis=axis)
    return maps


def image_score(maps: Float32Array, spec: MapSpec) -> Float32Array:
    """Mean of the `spec.top_k` highest cells of each map: float32 (N, h, w) to (N,).

    A NaN anywhere gives NaN: a map that cannot be read must not give a low score.
    """
    flat = maps.reshape(len(maps), maps.shape[1] * maps.shape[2])
    k = min(spec.top_k, flat.shape[1])
    score = np.partition(flat, flat.shape[1] - k, axis=1)[:, -k:].mean(axis=1, dtype=np.float64)
    return np.where(np.isnan(flat).any(axis=1), np.nan, score).astype(np.float32)
