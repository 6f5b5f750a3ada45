"""Every rule of INT8 ranges, by what it does to scores and verdicts on labelled images.

The export chooses on a few good images; this says whether that choice holds on real defects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from onnx import ModelProto

from cada_edge.bundle import MODEL, Bundle
from cada_edge.calibration.ranges import RANGE_METHODS, RangeMethod, ranges_of
from cada_edge.data.dataset import Dataset, Item
from cada_edge.engine_key import Precision, how_to_get
from cada_edge.errors import DataError, ParityError
from cada_edge.export.cases import Case
from cada_edge.export.emulate import Typed, in_half
from cada_edge.export.foreign import parse
from cada_edge.export.gate import compare
from cada_edge.export.gate_report import GateReport
from cada_edge.export.int8 import Ready, open_judge, prepare_int8, require_some, with_rest
from cada_edge.export.onnx import serialised
from cada_edge.export.precision_config import OpenRunner, PrecisionConfig, Progress, Work, spread
from cada_edge.export.qdq import quantise
from cada_edge.export.sensitivity import score_rms, select_layers
from cada_edge.export.zones import find_zones
from cada_edge.types import Prediction


@dataclass(frozen=True)
class StudyRow:
    """One graph against the float32 one.

    Attributes:
        name: what it is.
        layers: convolutions in INT8.
        probe_rms: what it does to scores of the export's probe images, root mean square; None for float16.
        size: of the graph that a bundle would hold, bytes.
        gate: the comparison on the labelled images; `damaged` counts the defective ones.
    """

    name: str
    layers: int
    probe_rms: float | None
    size: int
    gate: GateReport

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, without pictures."""
        gate = {name: value for name, value in self.gate.to_json().items() if name != "worst"}
        return {"name": self.name, "layers": self.layers, "probe_rms": self.probe_rms, "bytes": self.size, "gate": gate}


@dataclass(frozen=True)
class RangeStudy:
    """All graphs of one bundle, compared.

    Attributes:
        rows: float16 first, then each rule in every candidate layer, then within the budget.
        candidates: convolutions that could be INT8.
        calibration_images: how many set the ranges.
        budget: the score budget of the rows that leave layers out.
        fp32_bytes: size of the float32 graph.
    """

    rows: tuple[StudyRow, ...]
    candidates: int
    calibration_images: int
    budget: float
    fp32_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**plain, "rows": [row.to_json() for row in self.rows]}


@dataclass(frozen=True)
class _Variant:
    name: str
    precision: Precision
    layers: int
    probe_rms: float | None
    made: Typed


def study_ranges(
    bundle: Bundle,
    data: Dataset,
    open_runner: OpenRunner,
    config: PrecisionConfig | None = None,
    *,
    methods: Sequence[RangeMethod] = RANGE_METHODS,
    max_images: int = 300,
    progress: Progress | None = None,
) -> RangeStudy:
    """Compare float16 and INT8 by every rule with float32 on labelled test images.

    Args:
        bundle: with ``model.onnx``.
        data: its good images that are no test images set the ranges; its test images judge.
        open_runner: as for `cada_edge.export.precision.add_precisions`.
        config: default `PrecisionConfig()`.
        methods: rules to compare.
        max_images: at most so many test images, at even steps.
        progress: called with (stage, done, total).

    Raises:
        BundleError: no ``model.onnx``.
        DataError: no test images of both kinds, or too few others.
        ExportError, UnsupportedOpError: as `add_precisions`.
        ParityError: a graph gives NaN or infinity.
    """
    config = config or PrecisionConfig()
    proto = parse(bundle.file(MODEL, how_to_get("fp32")), MODEL)
    work = Work(bundle, proto, find_zones(proto), config, open_runner, progress or (lambda *_: None))
    judged, pool = _images(data, config, max_images)
    ready = prepare_int8(work, pool)
    cases = [Case(item) for item in judged]
    judge = open_judge(work, cases)
    before = _finite(judge(proto), "fp32")
    tell, total = work.tell("compare graphs"), 1 + 2 * len(methods)
    rows = []
    for variant in _variants(work, ready, methods):
        rows.append(_row(work, variant, cases, before, judge))
        tell(len(rows), total)
    fp32_bytes = len(bundle.files[MODEL])
    return RangeStudy(tuple(rows), len(ready.layers), len(ready.items), config.score_budget, fp32_bytes)


def _images(data: Dataset, config: PrecisionConfig, most: int) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Labelled images that judge, and good ones that set ranges; none is in both."""
    test = data.test()
    good = [item for item in test if item.defect is None]
    bad = [item for item in test if item.defect is not None]
    if not good or not bad:
        raise DataError(
            f"{data.root}: {len(good)} good and {len(bad)} defective test images, expected some of each; "
            "give a folder with PRODUCT/test/good and PRODUCT/test/<defect>"
        )
    tested = {item.sha256 for item in test}
    pool = [item for item in data.items if item.defect is None and item.sha256 not in tested]
    share = max(1, round(min(most, len(test)) * len(good) / len(test)))
    judged = (*spread(good, share), *spread(bad, max(1, min(most, len(test)) - share)))
    return judged, spread(pool, config.pool_images)


def _variants(work: Work, ready: Ready, methods: Sequence[RangeMethod]) -> Iterator[_Variant]:
    yield _Variant("fp16", "fp16", 0, None, in_half(work.proto, work.zones.network))
    plain = ready.judge(work.proto)
    for method in methods:
        graph = quantise(work.proto, ready.layers, ranges_of(ready.histograms, method))
        rms = score_rms(ready.judge(graph), plain)
        yield _Variant(f"{method}, every candidate", "int8", len(ready.layers), rms, Typed(graph, graph))
    for method in methods:
        ranges, tell = ranges_of(ready.histograms, method), work.tell(f"layers, {method}")
        found = select_layers(
            work.proto, ready.layers, ranges, ready.judge, budget=work.config.score_budget, progress=tell
        )
        require_some(found, work.config.score_budget)
        made = with_rest(work, found.chosen, ranges)
        yield _Variant(f"{method}, within the budget", "int8", len(found.chosen), found.score_rms, made)


def _row(
    work: Work,
    variant: _Variant,
    cases: Sequence[Case],
    before: Prediction,
    judge: Callable[[ModelProto], Prediction],
) -> StudyRow:
    after = _finite(judge(variant.made.judged), variant.name)
    gate = compare(
        variant.precision,
        cases,
        before,
        after,
        threshold=work.bundle.manifest.threshold,
        tolerance=work.config.tolerances[variant.precision],
    )
    size = len(serialised(variant.made.graph, variant.name))
    return StudyRow(variant.name, variant.layers, variant.probe_rms, size, gate)


def _finite(prediction: Prediction, name: str) -> Prediction:
    broken = int((~prediction.finite()).sum())
    if broken:
        raise ParityError(f"the graph {name!r} gives NaN or infinity on {broken} of {len(prediction)} images")
    return prediction
