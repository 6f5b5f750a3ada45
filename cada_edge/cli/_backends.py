"""Every way to run a bundle that `verify` knows, and why one is not to be had here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from cada_edge.bundle import MODEL, Bundle
from cada_edge.engine_key import FLAVOURS, PRECISIONS, Flavour, Precision, difference, graph_name, how_to_get
from cada_edge.engine_store import StoredEngine, engines_folder, survey
from cada_edge.errors import EngineError, EngineMismatchError
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
    """One per flavour and precision that has an engine; else one per flavour that says how to get it.

    An engine whose sidecar cannot be read is one of its own, that fails.
    """
    there = survey(engines_folder(path))
    found = [_unreadable(folder, why) for folder, why in there.unreadable.items()]
    for flavour in FLAVOURS:
        mine = [one for one in there.engines if one.record.key.flavour == flavour]
        kinds = {precision: [one for one in mine if one.record.key.precision == precision] for precision in PRECISIONS}
        found += [_engine(path, bundle, flavour, precision, kin) for precision, kin in kinds.items() if kin]
        if not mine:
            how = f"no engine beside the bundle; on the device: `cada-edge engine build {path} --backend {flavour}`"
            found.append(Backend(flavour, "fp32", None, how))
    return found


def _unreadable(folder: Path, why: str) -> Backend:
    def start() -> Runner:
        raise EngineError(why)

    return Backend(f"engine {folder.name}", "fp32", start)


def _engine(path: Path, bundle: Bundle, flavour: Flavour, precision: Precision, kin: Sequence[StoredEngine]) -> Backend:
    """`kin`: all engines of the kind, for this device and for others."""

    def start() -> Runner:
        _check(kin, bundle, precision)
        from cada_edge.runtime.runners.tensorrt import (  # noqa: PLC0415  # optional dependency
            TensorRTOptions,
            TensorRTRunner,
        )

        return TensorRTRunner(bundle, path, TensorRTOptions(flavour, precision))

    return Backend(f"{flavour} {precision}", precision, start)


def _check(kin: Sequence[StoredEngine], bundle: Bundle, precision: Precision) -> None:
    """What shows on any machine, without TensorRT or a GPU: damaged files, and engines of another graph alone.

    Raises `EngineError`, `BundleError`.
    """
    for one in kin:
        one.check()
    graph = bundle.file(graph_name(precision), how_to_get(precision))
    here = [replace(one.record.key, onnx_sha256=hashlib.sha256(graph).hexdigest()) for one in kin]
    told = [difference(one.record.key, key) for one, key in zip(kin, here, strict=True)]
    if all(told):
        raise EngineMismatchError(f"the engine {kin[0].folder} is of another graph: {told[0]}; build it again")
