"""Which backend runs a bundle on this machine: shared by `predict`, `calibrate` and `evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from cada_edge.bundle import MODEL, Bundle
from cada_edge.engine_key import Precision
from cada_edge.errors import MissingDependencyError
from cada_edge.protocols import Runner
from cada_edge.types import Float32Array, UInt8Array, require

Chosen = Literal["ort", "openvino", "torch", "tensorrt", "tensorrt-rtx"]
Backend = Literal["auto", "ort", "openvino", "torch", "tensorrt", "tensorrt-rtx"]


def pick_backend(bundle: Bundle, backend: Backend) -> Chosen:
    """Resolve ``auto``: ONNX Runtime where the bundle is exported and it is installed, else torch.

    Raises `MissingDependencyError` when neither can run the bundle.
    """
    if backend != "auto":
        return backend
    if MODEL in bundle.files and find_spec("onnxruntime"):
        return "ort"
    if find_spec("torch"):
        return "torch"
    if MODEL in bundle.files:
        raise MissingDependencyError("onnxruntime is not installed; run: pip install 'cada-edge[runtime]'")
    raise MissingDependencyError(
        f"bundle has no {MODEL} and torch is not installed; run `cada-edge export` where it was trained, "
        "or: pip install 'cada-edge[train]'"
    )


def open_runner(
    bundle: Bundle, backend: Backend = "auto", path: Path | None = None, precision: Precision = "fp32"
) -> Runner:
    """A runner for `bundle`; the caller closes it.

    Args:
        bundle: read from `path`.
        backend: what runs it; ``auto`` never takes an engine.
        path: beside which engines are looked for; needed for those.
        precision: which of the bundle's graphs; the torch model is FP32.

    Raises:
        ConfigError: torch was asked for in another precision, or an engine without `path`.
        MissingDependencyError: the package of the backend asked for is not installed.
        BundleError: a graph was asked for that the bundle does not hold.
        EngineError: the backend cannot load the bundle, or has no engine that runs here.
    """
    chosen = pick_backend(bundle, backend)
    if chosen == "torch":
        require(precision == "fp32", "precision", precision, "fp32 with the torch backend")
        return _open_torch(bundle)
    if chosen == "ort":
        return _open_ort(bundle, precision)
    if chosen == "openvino":
        return _open_openvino(bundle, precision)
    require(path is not None, "backend", chosen, "a bundle with a path, beside which its engines are")
    from cada_edge.runtime.runners.tensorrt import TensorRTOptions, TensorRTRunner  # noqa: PLC0415  # optional

    return TensorRTRunner(bundle, path or Path(), TensorRTOptions(chosen, precision))


def _open_ort(bundle: Bundle, precision: Precision) -> Runner:
    bundle.file(MODEL, "run `cada-edge export` first, or use --backend torch")
    if not find_spec("onnxruntime"):
        raise MissingDependencyError("onnxruntime is not installed; run: pip install 'cada-edge[runtime]'")
    from cada_edge.runtime.runners.ort import OrtRunner  # noqa: PLC0415  # optional dependency

    return OrtRunner(bundle, precision=precision)


def _open_openvino(bundle: Bundle, precision: Precision) -> Runner:
    if not find_spec("openvino"):
        raise MissingDependencyError("openvino is not installed; run: pip install 'cada-edge[openvino]'")
    from cada_edge.runtime.runners.how import How  # noqa: PLC0415  # only where asked for: slow to import
    from cada_edge.runtime.runners.openvino import OpenVinoRunner  # noqa: PLC0415  # as above

    return OpenVinoRunner(bundle, How("openvino", precision))


def _open_torch(bundle: Bundle) -> Runner:
    if not find_spec("torch"):
        raise MissingDependencyError("torch is not installed; run: pip install 'cada-edge[train]'")
    from cada_edge.models import TorchRunner  # noqa: PLC0415  # optional dependency, slow to import

    return TorchRunner(bundle)


def open_describer(bundle: Bundle) -> Callable[[UInt8Array], Float32Array] | None:
    """What the head reads of pictures, for a classifier of products; None where torch is not installed.

    Raises `BundleError` when the bundle's model cannot be rebuilt.
    """
    if not find_spec("torch"):
        return None
    from cada_edge.models.runner import pick_device  # noqa: PLC0415  # optional dependency, slow to import
    from cada_edge.models.store import load_model  # noqa: PLC0415  # as above
    from cada_edge.training.encode import open_describer as open_on  # noqa: PLC0415  # as above

    return open_on(load_model(bundle), pick_device("auto"))
