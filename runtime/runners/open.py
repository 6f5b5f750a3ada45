"""From the name of a backend to an open runner: the one place that knows them all."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from cada_edge.bundle import Bundle
from cada_edge.errors import MissingDependencyError
from cada_edge.protocols import Runner
from cada_edge.runtime.runners.how import How
from cada_edge.runtime.tune.store import tuned


def open_runner(bundle: Bundle, path: Path, how: How) -> Runner:
    """A runner of `bundle`, read from `path`; the caller closes it.

    Raises `BundleError`, `EngineError` or `MissingDependencyError` for what is not here.
    """
    how = tuned(bundle, path, how) if how.backend == "auto" else how
    if how.backend == "ort":
        from cada_edge.runtime.runners.ort import OrtRunner  # noqa: PLC0415  # only where asked for: slow to import

        return OrtRunner(bundle, how.threads, precision=how.precision, graph=how.graph)
    if how.backend == "openvino":
        if not find_spec("openvino"):
            raise MissingDependencyError("openvino is not installed; run: pip install 'cada-edge[openvino]'")
        from cada_edge.runtime.runners.openvino import OpenVinoRunner  # noqa: PLC0415  # as above

        return OpenVinoRunner(bundle, how)
    from cada_edge.runtime.runners.tensorrt import TensorRTOptions, TensorRTRunner  # noqa: PLC0415  # as above

    assert how.backend != "auto"  # `tuned` has chosen
    return TensorRTRunner(bundle, path, TensorRTOptions(how.backend, how.precision, batch=how.batch))
