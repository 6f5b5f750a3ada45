"""Runs a bundle's ONNX graph with ONNX Runtime, on the CPU unless told otherwise."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime as ort

from cada_edge.bundle import Bundle
from cada_edge.bundle_runner import BundleRunner
from cada_edge.engine_key import Precision, graph_name, how_to_get
from cada_edge.errors import EngineError
from cada_edge.onnx_wire import refuse_external_data
from cada_edge.runtime.runners.how import Level, LocalOptions
from cada_edge.types import ImageSpec, MapSpec, Prediction, UInt8Array

CPU = "CPUExecutionProvider"
_OUTPUTS = ("score", "map", "u", "gamma", "novelty")
_ERRORS_ONLY = 3
_LEVELS: dict[Level, Any] = {
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


class OrtRunner(BundleRunner):
    """A `Runner` over ONNX Runtime. A context manager that owns its session.

    Args:
        bundle: read with `Bundle.read`, hence verified.
        threads: threads inside an operator; ``None`` for every core that the process may use.
        providers: execution providers in order of preference. Every one must be there:
            nothing falls back to another device in silence.
        precision: which of the bundle's graphs: ``model.onnx``, or its float16 or INT8 form.
        graph: what is done to it first.

    Raises:
        BundleError: the bundle holds no such graph.
        UnsafeFileError: the graph refers to other files.
        EngineError: the graph does not fit the bundle's contract, or cannot be loaded.
    """

    def __init__(
        self,
        bundle: Bundle,
        threads: int | None = None,
        providers: Sequence[str] = (CPU,),
        precision: Precision = "fp32",
        graph: LocalOptions = LocalOptions(),  # noqa: B008  # immutable
    ) -> None:
        model, name = _checked(bundle, precision)
        self._session: Any = _session(model, name, _options(threads, graph), list(providers))
        manifest = bundle.manifest
        super().__init__(bundle, _check_graph(self._session, name, manifest.spec, manifest.map_spec))

    def _infer(self, batch: UInt8Array) -> Prediction:
        try:
            outputs = self._session.run(_OUTPUTS, {"image": np.ascontiguousarray(batch)})
        except Exception as error:  # ONNX Runtime's exceptions share no base but Exception
            raise EngineError(f"ONNX Runtime failed on a batch of {len(batch)}: {error}") from error
        return Prediction(*outputs)

    def _release(self) -> None:
        self._session = None


def without_functions(bundle: Bundle, precision: Precision, *, folded: bool) -> tuple[bytes, int | None]:
    """The graph with the body of every function written out, and its fixed batch size, if any.

    Args:
        bundle: read with `Bundle.read`.
        precision: which of its graphs.
        folded: also fold constants and drop what does nothing.

    Raises as `OrtRunner`.
    """
    model, name = _checked(bundle, precision)
    options = _options(1, LocalOptions("basic"))
    if not folded:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    with TemporaryDirectory(prefix="cada-edge-graph-") as folder:
        written = Path(folder) / name
        options.optimized_model_filepath = str(written)
        session = _session(model, name, options, [CPU])
        manifest = bundle.manifest
        return written.read_bytes(), _check_graph(session, name, manifest.spec, manifest.map_spec)


def _checked(bundle: Bundle, precision: Precision) -> tuple[bytes, str]:
    """The graph, which is all there is of it, and its name."""
    name = graph_name(precision)
    model = bundle.file(name, how_to_get(precision))
    refuse_external_data(model, name)
    return model, name


def _every_core() -> int:
    """Threads for every core that this process may use; 0 where that is all: ONNX Runtime counts them itself.

    It would count those of the machine, and threads that share a core wait for each other.
    """
    usable = len(os.sched_getaffinity(0))
    return 0 if usable == os.cpu_count() else usable


def _options(threads: int | None, graph: LocalOptions) -> Any:
    options = ort.SessionOptions()
    options.graph_optimization_level = _LEVELS[graph.level]
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads or _every_core()
    # Bytes that also read as ONNX Runtime's own format would not be those that were checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Without it, INT8 sums saturate on x86 processors that lack VNNI: other scores, in silence.
    options.add_session_config_entry("session.x64quantprecision", "1")
    if not graph.spin:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not graph.inline:
        options.add_session_config_entry("session.disable_aot_function_inlining", "1")
    return options


def _session(model: bytes, name: str, options: Any, providers: list[str]) -> Any:
    missing = sorted(set(providers) - set(ort.get_available_providers()))
    if missing or not providers:
        raise EngineError(
            f"execution providers {missing or providers} are not available; this onnxruntime has "
            f"{ort.get_available_providers()}"
        )
    if CPU not in providers:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(model, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no base but Exception
        raise EngineError(f"ONNX Runtime cannot load {name}: {error}; export it again") from error
    session.disable_fallback()
    if session.get_providers()[: len(providers)] != providers:
        raise EngineError(f"asked for {providers}, ONNX Runtime took {session.get_providers()}")
    return session


def _check_graph(session: Any, graph: str, spec: ImageSpec, map_spec: MapSpec) -> int | None:
    """Compare the graph's signature with the bundle's contract; its fixed batch size, or ``None``."""
    found = {i.name: (i.type, list(i.shape)) for i in (*session.get_inputs(), *session.get_outputs())}
    expected: dict[str, tuple[str, list[int]]] = {
        "image": ("tensor(uint8)", [*spec.size_hw, 3]),
        "score": ("tensor(float)", []),
        "map": ("tensor(float)", [*map_spec.size_hw]),
        "u": ("tensor(float)", []),
        "gamma": ("tensor(float)", []),
        "novelty": ("tensor(float)", []),
    }
    if found.keys() != expected.keys():
        raise EngineError(
            f"{graph} has inputs and outputs {sorted(found)}, expected {sorted(expected)}; export it again"
        )
    for name, (kind, shape) in expected.items():
        if found[name][0] != kind or not _fits(found[name][1], shape):
            raise EngineError(
                f"{graph} has {name} of {found[name][0]} {found[name][1]}, the bundle says {kind} {['N', *shape]}; "
                "export it again"
            )
    batch = found["image"][1][0]
    return batch if isinstance(batch, int) else None


def _fits(found: list[int | str | None], expected: list[int]) -> bool:
    """Same rank, and every size that the graph fixes is the expected one (the batch is free)."""
    pairs = zip(found[1:], expected, strict=False)
    return len(found) == 1 + len(expected) and all(not isinstance(f, int) or f == e for f, e in pairs)
