"""CADA's arithmetic as pure numpy functions: the reference for every backend.

The method (Guo et al., arXiv 2404.00724): a head predicts, for any image, the mean ``u``
and the maximum ``gamma`` that the anomaly map S of a *normal* image of its kind would
have; ``S' = (S - u) / (gamma - u)`` then has one scale for every product.
"""

from __future__ import annotations

import numpy as np

from cada_edge.types import Float32Array, MapSpec

# Below this, gamma - u is noise and the division would only amplify it. In units of the
# raw map (cosine distances: 0..2). The head and every backend clamp to the same value.
MIN_SPREAD = 1e-3


def spread(u: Float32Array, gamma: Float32Array) -> Float32Array:
    """``max(gamma - u, MIN_SPREAD)``: float32 (N,), > 0. NaN stays NaN."""
    return np.maximum(gamma - u, np.float32(MIN_SPREAD))


def normalise(maps: Float32Array, u: Float32Array, gamma: Float32Array) -> Float32Array:
    """Align raw maps: ``(S - u) / max(gamma - u, MIN_SPREAD)``.

    Args:
        maps: float32 (N, h, w), raw anomaly maps, >= 0.
        u: float32 (N,), predicted mean of the normal map.
        gamma: float32 (N,), predicted maximum of the normal map.

    Returns:
        float32 (N, h, w); 0 is the normal mean, 1 the normal maximum.
    """
    return (maps - u[:, None, None]) / spread(u, gamma)[:, None, None]


def gaussian_window(taps: int, sigma: float) -> Float32Array:
    """One-dimensional Gaussian, float32 (taps,), summing to 1. `sigma` in cells."""
    offsets = np.arange(taps, dtype=np.float64) - taps // 2
    window = np.exp(-(offsets**2) / (2.0 * sigma**2))
    return (window / window.sum()).astype(np.float32)


def smooth(maps: Float32Array, spec: MapSpec) -> Float32Array:
    """Separable Gaussian smoothing with replicated edges: float32 (N, h, w) to the same."""
    window = gaussian_window(spec.smooth_taps, spec.smooth_sigma)
    reach = spec.smooth_taps // 2
    for axis in (1, 2):
        pad = [(0, 0), (0, 0), (0, 0)]
        pad[axis] = (reach, reach)
        padded = np.pad(maps, pad, mode="edge")
        length = maps.shape[axis]
        shifted = (np.take(padded, range(i, i + length), axis=axis) for i in range(spec.smooth_taps))
        maps = sum((w * part for w, part in zip(window, shifted)), np.zeros_like(maps))
    return maps


def image_score(maps: Float32Array, spec: MapSpec) -> Float32Array:
    """Mean of the `spec.top_k` highest cells of each map: float32 (N, h, w) to (N,).

    A NaN anywhere gives NaN: a map that cannot be read must not give a low score.
    """
    flat = maps.reshape(len(maps), -1)
    k = min(spec.top_k, flat.shape[1])
    score = np.partition(flat, flat.shape[1] - k, axis=1)[:, -k:].mean(axis=1, dtype=np.float64)
    return np.where(np.isnan(flat).any(axis=1), np.nan, score).astype(np.float32)
