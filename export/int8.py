"""The INT8 graph: images, ranges, layers, in this order; each choice by what it does to scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from onnx import ModelProto

from cada_edge.calibration.choice import cover_choice
from cada_edge.calibration.ranges import RANGE_METHODS, Histogram, RangeMethod, collect, ranges_of
from cada_edge.data.dataset import Item
from cada_edge.engine_key import graph_name
from cada_edge.errors import DataError, ExportError, UnsupportedOpError
from cada_edge.export.cases import Case, batches, cases_of
from cada_edge.export.emulate import Typed, in_half
from cada_edge.export.gate import level_of
from cada_edge.export.precision_config import MIN_CALIBRATION_IMAGES, Work, spread
from cada_edge.export.qdq import Layer, find_layers, int8_island, quantise
from cada_edge.export.sensitivity import Judge, MethodEffect, Selection, compare_methods, select_layers
from cada_edge.export.taps import Taps, describe, descriptor_tensors
from cada_edge.types import Float32Array, Prediction, UInt8Array


@dataclass(frozen=True)
class Int8Report:
    """How the INT8 graph came about.

    Attributes:
        images: digests of the images that set the ranges.
        method: rule of the ranges.
        methods: what each rule tried does to scores of the probe, the mildest first.
        selection: which layers are INT8, and what each does alone.
        candidates: how many layers could be INT8.
        convolutions: how many the encoder and detector have.
    """

    images: tuple[str, ...]
    method: RangeMethod
    methods: tuple[MethodEffect, ...]
    selection: Selection
    candidates: int
    convolutions: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "images": list(self.images),
            "method": self.method,
            "methods": [asdict(one) for one in self.methods],
            "int8_layers": [one.name for one in self.selection.chosen],
            "left_out": list(self.selection.kept),
            "layer_effects": [asdict(one) for one in self.selection.effects],
            "probe_score_rms": self.selection.score_rms,
            "candidates": self.candidates,
            "convolutions": self.convolutions,
        }


def make_int8(work: Work, pool: Sequence[Item]) -> tuple[Typed, Int8Report]:
    """The graph with the layers in INT8 that bear it, and how it came about.

    Args:
        work: the bundle and its graph.
        pool: good images to choose calibration images from.

    Raises:
        UnsupportedOpError: no layer could be INT8.
        DataError: too few images, or one that cannot be read.
        ExportError: weights or activations are not finite, or no layer bears INT8.
    """
    ready = prepare_int8(work, pool)
    layers, items, histograms, judge = ready.layers, ready.items, ready.histograms, ready.judge
    level = level_of(work.bundle.manifest.threshold, judge(work.proto).score[::2])
    asked = work.config.range_method
    tried = RANGE_METHODS if asked == "auto" else (asked,)
    methods = compare_methods(work.proto, layers, histograms, judge, threshold=level, methods=tried)
    ranges = ranges_of(histograms, methods[0].method)
    budget, tell = work.config.score_budget, work.tell("try layers in INT8")
    selection = select_layers(work.proto, layers, ranges, judge, budget=budget, progress=tell)
    require_some(selection, budget)
    report = Int8Report(
        images=tuple(item.sha256 for item in items),
        method=methods[0].method,
        methods=methods,
        selection=selection,
        candidates=len(layers),
        convolutions=sum(n.op_type == "Conv" and n.output[0] in work.zones.network for n in work.proto.graph.node),
    )
    return with_rest(work, selection.chosen, ranges), report


@dataclass(frozen=True)
class Ready:
    """What every choice of INT8 ranges and layers starts from.

    Attributes:
        layers: candidates.
        items: the calibration images.
        histograms: of the candidates' tensors, on these images.
        judge: runs a graph on a few of these images, as they are and damaged.
    """

    layers: tuple[Layer, ...]
    items: tuple[Item, ...]
    histograms: Mapping[str, Histogram]
    judge: Judge


def prepare_int8(work: Work, pool: Sequence[Item]) -> Ready:
    """Choose calibration images from `pool` and collect activations on them. Raises as `make_int8`."""
    layers = find_layers(work.proto, work.zones, depthwise=work.config.depthwise)
    _require_layers(layers)
    _require_images(pool)
    items = _choose(work, pool)
    histograms = _histograms(work, layers, items)
    judge = open_judge(work, cases_of(spread(items, work.config.probe_images)))
    return Ready(tuple(layers), tuple(items), histograms, judge)


def _require_layers(layers: Sequence[Layer]) -> None:
    if not layers:
        raise UnsupportedOpError(
            "encoder and detector have no convolution that INT8 can take up (the first and last layers stay in higher "
            "precision); export with --precision fp16"
        )


def _require_images(pool: Sequence[Item]) -> None:
    if len(pool) < MIN_CALIBRATION_IMAGES:
        raise DataError(
            f"INT8 ranges: {len(pool)} good images are left to calibrate on, at least {MIN_CALIBRATION_IMAGES} are "
            "needed, beside those that judge accuracy; give more with --images"
        )


def _histograms(work: Work, layers: Sequence[Layer], items: Sequence[Item]) -> dict[str, Histogram]:
    taps = Taps(work.proto, sorted({name for layer in layers for name in layer.tensors}))
    stream = _counted(work, "collect INT8 ranges", [Case(item) for item in items])
    return collect((([case.name for case in chunk], pictures) for chunk, pictures in stream), taps)


def open_judge(work: Work, cases: Sequence[Case]) -> Judge:
    """Runs any graph on the pictures of `cases`, which are read once and stay in memory."""
    pictures = [batch for _, batch in batches(cases, work.bundle.manifest.spec, work.config.batch_size)]

    def judge(proto: ModelProto) -> Prediction:
        content = proto.SerializeToString(deterministic=True)
        with work.open_runner(work.bundle.with_file(graph_name("int8"), content), "int8") as runner:
            return Prediction.concatenate([runner.infer(batch) for batch in pictures])

    return judge


def _choose(work: Work, pool: Sequence[Item]) -> list[Item]:
    """Images that cover the pool, by what the head reads of them."""
    taps = Taps(work.proto, descriptor_tensors(work.proto, work.zones))
    stream = _counted(work, "choose calibration images", [Case(item) for item in pool])
    rows: Float32Array = np.concatenate([describe(taps, pictures) for _, pictures in stream])
    if not np.isfinite(rows).all():
        name = pool[int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])].path.name
        raise ExportError(
            f"the encoder gives NaN or infinity on {name!r}: the weights are broken; train the bundle again"
        )
    return [pool[row] for row in cover_choice(rows, work.config.calibration_images)]


def _counted(work: Work, stage: str, cases: Sequence[Case]) -> Iterator[tuple[Sequence[Case], UInt8Array]]:
    """Batches of `cases`, told to the progress."""
    done = 0
    for chunk, pictures in batches(cases, work.bundle.manifest.spec, work.config.batch_size):
        yield chunk, pictures
        done += len(chunk)
        work.progress(stage, done, len(cases))


def require_some(selection: Selection, budget: float) -> None:
    """Raise `ExportError` when no layer is left."""
    if not selection.chosen:
        mildest = selection.effects[-1].score_rms
        raise ExportError(
            f"no layer bears INT8: the mildest alone moves scores by {mildest:.3g} (root mean square), the budget is "
            f"{budget:g}; raise --score-budget or export with --precision fp16"
        )


def with_rest(work: Work, layers: Sequence[Layer], ranges: Mapping[str, float]) -> Typed:
    """The graph with `layers` in INT8 and the other ones in the type that the settings ask for."""
    quantised = quantise(work.proto, layers, ranges)
    if work.config.rest == "fp32":
        return Typed(quantised, quantised)
    return in_half(quantised, work.zones.network - int8_island(quantised, layers))
