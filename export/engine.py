"""From a bundle's typed graph to a TensorRT engine beside it, under its key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cada_edge.bundle import Bundle
from cada_edge.cuda_device import compute_capability
from cada_edge.engine_key import (
    FLAVOURS,
    PRECISIONS,
    EngineKey,
    Flavour,
    Precision,
    check_batch_range,
    graph_name,
    how_to_get,
    parse_capability,
)
from cada_edge.engine_store import EngineRecord, StoredEngine, make_folder, store
from cada_edge.errors import EngineError, NoDeviceError
from cada_edge.export.trt_build import BuildOptions, Progress, build_plan
from cada_edge.export.trt_graph import for_parser
from cada_edge.trt import TensorRT
from cada_edge.types import require
from cada_edge.version import __version__


@dataclass(frozen=True)
class EngineConfig:
    """How an engine is built.

    Attributes:
        flavour: ``tensorrt`` builds for the GPU it runs on; ``tensorrt-rtx`` also for `target`.
        precision: which of the bundle's graphs.
        batch: smallest, usual and largest batch, pictures.
        target: compute capability such as ``8.6``; ``None`` for this machine's GPU.
        workspace_mib: scratch memory that kernels may use, MiB; ``None`` leaves it to TensorRT.
        dla_core: DLA core, with the GPU for what the DLA cannot do; ``None`` for the GPU alone.
        plugin: the plugin library; ``None`` leaves the normalisation to ordinary operators.
        keep_timings: keep kernel timings beside the engines, for the next build (``tensorrt`` only).
    """

    flavour: Flavour = "tensorrt"
    precision: Precision = "fp32"
    batch: tuple[int, int, int] = (1, 1, 1)
    target: str | None = None
    workspace_mib: int | None = None
    dla_core: int | None = None
    plugin: Path | None = None
    keep_timings: bool = True

    def __post_init__(self) -> None:
        require(self.flavour in FLAVOURS, "EngineConfig.flavour", self.flavour, f"one of {FLAVOURS}")
        require(self.precision in PRECISIONS, "EngineConfig.precision", self.precision, f"one of {PRECISIONS}")
        check_batch_range(self.batch, "EngineConfig.batch")
        for name, low in {"workspace_mib": 1, "dla_core": 0}.items():
            value = getattr(self, name)
            fits = value is None or (type(value) is int and value >= low)
            require(fits, f"EngineConfig.{name}", value, f"an integer >= {low}, or nothing")
        able = self.dla_core is None or self.precision != "fp32"  # else the GPU would do all of it, unasked
        require(able, "EngineConfig.dla_core", self.dla_core, "none with fp32: a DLA computes fp16 and int8")


def build_engine(
    bundle: Bundle,
    folder: Path,
    config: EngineConfig,
    progress: Progress | None = None,
    here: Callable[[], str] = compute_capability,
) -> StoredEngine:
    """Build an engine and keep it below `folder`, see `cada_edge.engine_store`.

    Args:
        bundle: exported, hence with the graph of the precision asked for.
        folder: where the bundle's engines are: `engines_folder`.
        config: what to build.
        progress: called with (phase, steps done, steps in all), from other threads.
        here: gives the compute capability of this machine's GPU.

    Raises:
        BundleError: the bundle has no graph of that precision.
        MissingDependencyError: the TensorRT asked for is not installed.
        UnsafeFileError, UnsupportedOpError, ExportError: the graph cannot be built.
        EngineError, PluginMissingError: the device, the plugin or the builder refuses.
    """
    name = graph_name(config.precision)
    content = bundle.file(name, how_to_get(config.precision))
    tensorrt = TensorRT.load(config.flavour)
    target = _target(config, here)
    graph, plugin_version = for_parser(content, name, config.plugin is not None)
    plugin = _library(config.plugin)
    key = EngineKey(
        flavour=config.flavour,
        version=tensorrt.version,
        compute_capability=target,
        precision=config.precision,
        onnx_sha256=hashlib.sha256(content).hexdigest(),
        plugin_sha256=hashlib.sha256(plugin).hexdigest() if config.plugin else "",
        batch=config.batch,
        core="gpu" if config.dla_core is None else "dla",
    )
    options = _options(bundle, folder, config, key, plugin_version)
    plan, kernels = build_plan(tensorrt, graph, options, progress)
    record = EngineRecord(
        key=key,
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        plugin_version=plugin_version,
        version=__version__,
        settings={"workspace_mib": config.workspace_mib, "dla_core": config.dla_core},
        kernels=kernels,
    )
    return store(folder, record, plan, plugin if config.plugin else None)


def _library(path: Path | None) -> bytes:
    """The plugin's bytes; none where it is absent, which the builder tells. Raises `EngineError`."""
    try:
        return path.read_bytes() if path is not None and path.is_file() else b""
    except OSError as error:
        raise EngineError(
            f"--plugin {path}: cannot read it: {error.strerror or error}; check who may read it"
        ) from error


def _target(config: EngineConfig, here: Callable[[], str]) -> str:
    """The compute capability the engine is for."""
    if config.target is None:
        return _capability_here(config, here)
    target = parse_capability(config.target)
    if config.flavour == "tensorrt" and target != (found := here()):
        raise EngineError(
            f"tensorrt builds for the GPU of this machine, {found}, asked for was {target}; build on the device itself"
        )
    return target


def _capability_here(config: EngineConfig, here: Callable[[], str]) -> str:
    try:
        return here()
    except NoDeviceError as error:
        if config.flavour == "tensorrt":
            raise
        raise NoDeviceError(f"{error}, or name the GPU to build for, such as --target 8.6") from error


def _options(bundle: Bundle, folder: Path, config: EngineConfig, key: EngineKey, plugin_version: str) -> BuildOptions:
    timings = folder / f"timings-{key.flavour}-{key.version}-{key.compute_capability}.cache"
    keep = config.keep_timings and config.flavour == "tensorrt"  # RTX compiles on the device and times nothing
    if keep:
        make_folder(folder)
    return BuildOptions(
        image_hw=bundle.manifest.spec.size_hw,
        batch=config.batch,
        target=key.compute_capability if config.flavour == "tensorrt-rtx" else None,
        workspace_bytes=config.workspace_mib << 20 if config.workspace_mib else None,
        timing_cache=timings if keep else None,
        dla_core=config.dla_core,
        plugin=(config.plugin, plugin_version) if config.plugin else None,
    )
