"""Bilinear upsampling and Gaussian smoothing in ONNX operators of one rounding each, in one order.

``Resize`` and ``Conv`` leave open in which order they add, and where they contract. Gathers,
products and sums leave nothing open: any runtime that rounds float32 to nearest gives the
bits that docs/plugin.md specifies, and the plugin's kernels give the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from onnx import helper

from cada_edge.export.function_body import FunctionBody
from cada_edge.types import Float32Array


def add_upsampling(
    body: FunctionBody, value: str, source_hw: tuple[int, int], target_hw: tuple[int, int], name: str
) -> str:
    """(N, h, w) to (N, H, W): along the rows, then down the columns. An axis of the same size is left alone."""
    for way, axis in (("across", 2), ("down", 1)):
        source, target = source_hw[axis - 1], target_hw[axis - 1]
        if source != target:
            value = _add_blend(body, value, source, target, axis=axis, name=f"{name}_{way}")
    return value


def _add_blend(body: FunctionBody, value: str, source: int, target: int, *, axis: int, name: str) -> str:
    """``share == 0 ? low : (1 - share) * low + share * high`` along one axis."""
    low, high, share = between(source, target)
    weights = np.concatenate([np.float32(1) - share, share]).reshape((-1, 1) if axis == 1 else (-1,))
    near = body.constant(f"{name}_index", np.concatenate([low, high]))
    value = body.add("Gather", [value, near], f"{name}_cells", axis=axis)
    # A neighbour without a share has no say, be it infinite.
    has_share, zero = body.constant(f"{name}_has_share", weights != 0), body.constant(f"{name}_zero", 0.0)
    value = body.add("Where", [has_share, value, zero], f"{name}_shared")
    value = body.add("Mul", [value, body.constant(f"{name}_weights", weights)], f"{name}_weighted")
    halves, sizes = [f"{name}_low", f"{name}_high"], body.constant(f"{name}_sizes", [target, target])
    body.nodes.append(helper.make_node("Split", [value, sizes], halves, axis=axis))
    return body.add("Add", halves, name)


def between(source: int, target: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Float32Array]:
    """Where each of `target` cells lies between two of `source`: low, high and the share of high, each (target,).

    Half-pixel centres in whole numbers, hence without rounding; edges replicated.
    """
    position = np.maximum((2 * np.arange(target, dtype=np.int64) + 1) * source - target, 0)
    low, rest = np.divmod(position, 2 * target)
    share = rest.astype(np.float32) / np.float32(2 * target)
    return low, np.minimum(low + 1, source - 1), share.astype(np.float32)


def add_smoothing(body: FunctionBody, value: str, size_hw: tuple[int, int], taps: int) -> str:
    """Weighted with ``window`` down the columns, then along the rows, edges replicated: (N, H, W) to the same."""
    if taps == 1:
        return value
    reach = taps // 2
    body.attribute("window", "value_floats")
    weights = [
        body.add("Gather", ["window", body.constant(f"tap_{t}", [t])], f"weight_{t}", axis=0) for t in range(taps)
    ]
    value = body.add("Pad", [value, body.constant("edges", [0, reach, reach] * 2)], "padded", mode="edge")
    for way, axis in (("down", 1), ("across", 2)):
        value = _add_window(body, value, weights, size_hw[axis - 1], axis=axis, name=f"smoothed_{way}")
    return value


def _add_window(body: FunctionBody, value: str, weights: list[str], size: int, *, axis: int, name: str) -> str:
    """``window[0] * cell[0] + window[1] * cell[1] + ...``, added in this order."""
    along = body.constant(f"{name}_axis", [axis])
    products = []
    for t, weight in enumerate(weights):
        bounds = [body.constant(f"{name}_{end}_{t}", [at]) for end, at in (("from", t), ("to", t + size))]
        cells = body.add("Slice", [value, *bounds, along], f"{name}_cells_{t}")
        products.append(body.add("Mul", [cells, weight], f"{name}_product_{t}"))
    return body.total(products, f"{name}_sum")
