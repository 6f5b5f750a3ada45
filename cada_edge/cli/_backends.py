"""Every way to run a bundle that `verify` knows, and why one is not to be had here."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from cada_edge.bundle import MODEL, Bundle
from cada_edge.engine_key import FLAVOURS, PRECISIONS, Flavour, Precision, graph_name, how_to_get
from cada_edge.engine_store import engines_folder, stored_engines
from cada_edge.export.verify import Backend
from cada_edge.protocols import Runner

_HOST_IMAGES = 8  # about a second each


def all_backends(path: Path, bundle: Bundle) -> list[Backend]:
    """Backends of the bundle at `path`, the reference first."""
    return [_torch(bundle), *(_ort(bundle, one) for one in PRECISIONS), _host(bundle), *_tensorrt(path, bundle)]


def _torch(bundle: Bundle) -> Backend:
    if not find_spec("torch"):
        return Backend("pytorch", "fp32", None, "torch is not installed; pip install 'cada-edge[train]'")

    def start() -> Runner:
        from cada_edge.models import TorchRunner  # noqa: PLC0415  # optional dependency, slow to import

        return TorchRunner(bundle, "cpu")

    return Backend("pytorch", "fp32", start)


def _ort(bundle: Bundle, precision: Precision) -> Backend:
    name = f"onnxruntime {precision}"
    if graph_name(precision) not in bundle.files:
        return Backend(name, precision, None, f"not in the bundle; {how_to_get(precision)}")

    def start() -> Runner:
        from cada_edge.runtime.runners.ort import OrtRunner  # noqa: PLC0415  # as the others: only where asked for

        return OrtRunner(bundle, precision=precision)

    return Backend(name, precision, start)


def _host(bundle: Bundle) -> Backend:
    name = "plugin on the CPU"
    if MODEL not in bundle.files:
        return Backend(name, "fp32", None, f"not in the bundle; {how_to_get('fp32')}")

    def start() -> Runner:
        from cada_edge.export.host_runner import HostPluginRunner  # noqa: PLC0415  # as above

        return HostPluginRunner(bundle)

    return Backend(name, "fp32", start, most_images=_HOST_IMAGES)


def _tensorrt(path: Path, bundle: Bundle) -> list[Backend]:
    """One per flavour and precision that has an engine; else one per flavour that says how to get it."""
    built = {(one.record.key.flavour, one.record.key.precision) for one in stored_engines(engines_folder(path))}
    found = []
    for flavour in FLAVOURS:
        precisions = [precision for precision in PRECISIONS if (flavour, precision) in built]
        found += [_engine(path, bundle, flavour, precision) for precision in precisions]
        if not precisions:
            how = f"no engine beside the bundle; on the device: `cada-edge engine build {path} --backend {flavour}`"
            found.append(Backend(flavour, "fp32", None, how))
    return found


def _engine(path: Path, bundle: Bundle, flavour: Flavour, precision: Precision) -> Backend:
    def start() -> Runner:
        from cada_edge.runtime.runners.tensorrt import (  # noqa: PLC0415  # optional dependency
            TensorRTOptions,
            TensorRTRunner,
        )

        return TensorRTRunner(bundle, path, TensorRTOptions(flavour, precision))

    return Backend(f"{flavour} {precision}", precision, start)
