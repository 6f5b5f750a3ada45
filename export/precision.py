"""A bundle's graph in float16 and INT8, each kept only if it decides as the float32 graph does.

::

    good images --+-- seen in training --> cover --> activation histograms --> ranges (four rules)
                  |                                                             |
                  |                         scores of a few of them --> rule, layers to leave out
                  `-- held out, as they are and damaged --> the gate: fp32 against fp16 and int8
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import onnx
import onnxruntime

from cada_edge.bundle import MODEL, Bundle, Stage, data_sha256
from cada_edge.data.dataset import Item
from cada_edge.engine_key import PRECISIONS, Precision, graph_name, how_to_get
from cada_edge.errors import ConfigError, DataError
from cada_edge.export.cases import Case, cases_of
from cada_edge.export.emulate import Typed, in_half
from cada_edge.export.foreign import parse
from cada_edge.export.gate import compare, judge_cases
from cada_edge.export.gate_report import GateReport
from cada_edge.export.int8 import Int8Report, make_int8
from cada_edge.export.onnx import serialised
from cada_edge.export.precision_config import (
    MIN_CALIBRATION_IMAGES,
    PRECISION_STAGE,
    OpenRunner,
    PrecisionConfig,
    Progress,
    Work,
    spread,
)
from cada_edge.export.precision_report import PrecisionReport
from cada_edge.export.zones import find_zones
from cada_edge.types import Prediction, require
from cada_edge.version import __version__

SEEN_ROLES = ("fit", "align")
LOWER: tuple[Precision, ...] = ("fp16", "int8")


def add_precisions(
    bundle: Bundle,
    precisions: Collection[Precision],
    items: Sequence[Item],
    open_runner: OpenRunner,
    config: PrecisionConfig | None = None,
    *,
    progress: Progress | None = None,
    on_report: Callable[[PrecisionReport], None] | None = None,
) -> tuple[Bundle, PrecisionReport]:
    """Add graphs of lower precision to an exported bundle, if they decide as the float32 graph does.

    Args:
        bundle: with ``model.onnx``; calibrated or not.
        precisions: ``fp16``, ``int8`` or both.
        items: good images, those of training among them or not; defects are left out.
        open_runner: opens a bundle's graph of one precision the way the line will, e.g.
            ``lambda bundle, precision: OrtRunner(bundle, precision=precision)``.
        config: default `PrecisionConfig()`.
        progress: called with (stage, done, total).
        on_report: is given the report before a failed gate raises.

    Returns:
        The bundle with the graphs and a ``precision`` line of provenance, and the report.

    Raises:
        BundleError: no ``model.onnx``, or the bundle does not say what it was trained on.
        ConfigError: an unknown precision.
        DataError: too few images, or one that cannot be read.
        ExportError: weights or activations that are not finite or too large.
        UnsupportedOpError: the detector holds nothing that can be converted.
        ParityError: a gate failed; there is then no new bundle.
    """
    wanted = _wanted(precisions)
    config = config or PrecisionConfig()
    proto = parse(bundle.file(MODEL, how_to_get("fp32")), MODEL)
    work = Work(bundle, proto, find_zones(proto), config, open_runner, progress or (lambda *_: None))
    gate_items, pool = split_items(bundle, items, config)
    graphs, int8 = _graphs(work, wanted, pool)
    candidate = bundle
    for precision, made in graphs.items():
        candidate = candidate.with_file(graph_name(precision), serialised(made.graph, f"the {precision} graph"))
    gates = _gates(work, candidate, graphs, cases_of(gate_items))
    report = PrecisionReport(gates, int8, _sizes(candidate))
    if on_report:
        on_report(report)
    for gate in gates:
        gate.require()
    return candidate.with_stage(_stage(bundle, config, report, gate_items)), report


def split_items(
    bundle: Bundle, items: Sequence[Item], config: PrecisionConfig
) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Held-out good images for the gate, and others, which may have trained the model, for the ranges.

    Raises `DataError` when there are too few of either.
    """
    by_role = bundle.roles()
    seen = frozenset().union(*(by_role.get(role, frozenset()) for role in SEEN_ROLES))
    good = list({item.sha256: item for item in items if item.defect is None}.values())
    held = [item for item in good if item.sha256 not in seen]
    known = [item for item in good if item.sha256 in seen]
    if not held:
        raise DataError(
            f"all {len(good)} good images were used in training, so none is left to judge accuracy on; "
            "give some that the model has not seen as well"
        )
    most = len(held) if len(known) >= MIN_CALIBRATION_IMAGES else (len(held) + 1) // 2
    gate = spread(held, min(config.gate_images, most))
    taken = {item.sha256 for item in gate}
    pool = [*known, *(item for item in held if item.sha256 not in taken)]
    return gate, spread(pool, config.pool_images)


def _wanted(precisions: Collection[Precision]) -> tuple[Precision, ...]:
    for name in precisions:
        require(name in LOWER, "precision", name, f"one of {LOWER}")
    if not precisions:
        raise ConfigError(f"precision: got none, expected some of {LOWER}")
    return tuple(name for name in LOWER if name in precisions)


def _graphs(
    work: Work, wanted: Sequence[Precision], pool: Sequence[Item]
) -> tuple[dict[Precision, Typed], Int8Report | None]:
    graphs: dict[Precision, Typed] = {}
    int8 = None
    if "fp16" in wanted:
        graphs["fp16"] = in_half(work.proto, work.zones.network)
    if "int8" in wanted:
        graphs["int8"], int8 = make_int8(work, pool)
    return graphs, int8


def _gates(
    work: Work, candidate: Bundle, graphs: Mapping[Precision, Typed], cases: Sequence[Case]
) -> tuple[GateReport, ...]:
    size, threshold = work.config.batch_size, candidate.manifest.threshold

    def judged(bundle: Bundle, precision: Precision, some: Sequence[Case]) -> Prediction:
        with work.open_runner(bundle, precision) as runner:
            what = f"the {precision} graph"
            return judge_cases(runner, some, size, what, progress=work.tell(f"judge in {precision}"))

    before = judged(candidate, "fp32", cases)
    found = []
    for precision, made in graphs.items():
        judged(candidate, precision, cases[:size])  # the very file, once: it must run
        content = made.judged.SerializeToString(deterministic=True)
        after = judged(candidate.with_file(graph_name(precision), content), precision, cases)
        allowed = work.config.tolerances[precision]
        found.append(compare(precision, cases, before, after, threshold=threshold, tolerance=allowed))
    return tuple(found)


def _sizes(bundle: Bundle) -> dict[Precision, int]:
    return {name: len(bundle.files[graph_name(name)]) for name in PRECISIONS if graph_name(name) in bundle.files}


def _stage(bundle: Bundle, config: PrecisionConfig, report: PrecisionReport, gate: Sequence[Item]) -> Stage:
    """The record, with what an earlier call said of a graph that is still there."""
    earlier = next((dict(s.results) for s in bundle.manifest.provenance if s.name == PRECISION_STAGE), {})
    made = report.to_json()
    kept: dict[str, Any] = {
        name: earlier[name] for name in LOWER if name in earlier and graph_name(name) in bundle.files
    }
    used = [item.sha256 for item in gate] + list(report.int8.images if report.int8 else ())
    versions = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    settings = {**asdict(config), "tolerances": {name: asdict(one) for name, one in config.tolerances.items()}}
    return Stage(
        PRECISION_STAGE, __version__, settings, data_sha256(used), None, {"versions": versions, **kept, **made}
    )
