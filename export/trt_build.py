"""One network, one builder, one plan: the part that talks to TensorRT.

The network is strongly typed: every type is written in the graph, none is chosen here.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cada_edge.engine_store import KernelReport
from cada_edge.errors import EngineError, ExportError, UnsupportedOpError
from cada_edge.export.trt_log import kernel_report
from cada_edge.imaging import write_atomic
from cada_edge.runtime.runners.tensorrt_room import lacks_room, started
from cada_edge.trt import TensorRT

Progress = Callable[[str, int, int], None]
_ERRORS = ("INTERNAL_ERROR", "ERROR")


@dataclass(frozen=True)
class BuildOptions:
    """What the builder is told beside the graph.

    Attributes:
        image_hw: height and width of the input, pixels.
        batch: smallest, usual and largest batch.
        target: compute capability to build for (TensorRT-RTX); ``None`` for this machine's GPU.
        workspace_bytes: scratch memory that kernels may use; ``None`` leaves it to TensorRT.
        timing_cache: file of kernel timings, read where it is there and written after; ``None`` for none.
        dla_core: the DLA core to build for, with the GPU for the rest; ``None`` for the GPU alone.
        plugin: library and version of the plugin that the graph names, or ``None``.
    """

    image_hw: tuple[int, int]
    batch: tuple[int, int, int]
    target: str | None = None
    workspace_bytes: int | None = None
    timing_cache: Path | None = None
    dla_core: int | None = None
    plugin: tuple[Path, str] | None = None


@dataclass
class _Log:
    """Every message of a build, by severity."""

    messages: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warning: str = ""

    def take(self, severity: str, message: str) -> None:
        self.messages.append(message)
        if severity in _ERRORS:
            self.errors.append(message)
        elif severity == "WARNING":
            self.warning = message

    def said(self) -> str:
        """Errors; where there are none the last warning, for CUDA that cannot be set up may be one."""
        return "; ".join(dict.fromkeys(self.errors)) or self.warning or "it says nothing of why"


def build_plan(
    tensorrt: TensorRT, graph: bytes, options: BuildOptions, progress: Progress | None = None
) -> tuple[bytes, KernelReport]:
    """Compile a graph to a plan; minutes on a small device. Ctrl-C ends it at the next step.

    Raises:
        UnsupportedOpError: TensorRT has no such operator; names it and the node.
        ExportError: the parser refuses the graph for another reason.
        EngineError: no GPU where one is needed, a target or DLA core that is not there, or the build failed.
        PluginMissingError: the plugin library is absent or not the one the graph names.
    """
    log = _Log()
    logger, name = tensorrt.logger(log.take), f"{tensorrt.flavour} {tensorrt.version}"
    builder = started(lambda: tensorrt.api.Builder(logger), name, log.said)
    if options.plugin is not None:
        tensorrt.load_plugin(builder, *options.plugin)
    config = _config(tensorrt, builder, options)
    network = builder.create_network(_strongly_typed(tensorrt.api))
    _parse(tensorrt.api.OnnxParser(network, logger), graph)
    config.add_optimization_profile(_profile(builder, network, options))
    cache = _timing_cache(config, options.timing_cache)
    monitor = _Monitor.attach(tensorrt.api, config, progress)
    plan = _run(lambda: builder.build_serialized_network(network, config), monitor)
    if plan is None:
        raise EngineError(f"{name} could not build the engine: {log.said()}; {_advice(log.said(), options)}")
    if cache is not None and options.timing_cache is not None:
        write_atomic(options.timing_cache, bytes(config.get_timing_cache().serialize()))
    plugins = sum(network.get_layer(i).type == tensorrt.api.LayerType.PLUGIN_V3 for i in range(network.num_layers))
    return bytes(plan), kernel_report(log.messages, plugins)


def _advice(said: str, options: BuildOptions) -> str:
    """What to change after a failed build."""
    if not lacks_room(said):
        return "try --plugin none or another --precision, or run with --backend ort"
    given = options.workspace_bytes
    limit = f"a larger --workspace-mib than {given >> 20}, " if given else "a --workspace-mib, "
    return f"memory is short: try {limit}a smaller --batch, or end other programs on the GPU"


def _strongly_typed(api: Any) -> int:
    """The creation flag by name: its value is 1 in 10.x and 0 in 11."""
    return 1 << int(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _config(tensorrt: TensorRT, builder: Any, options: BuildOptions) -> Any:
    api, config = tensorrt.api, builder.create_builder_config()
    config.profiling_verbosity = api.ProfilingVerbosity.DETAILED
    config.clear_flag(api.BuilderFlag.TF32)  # FP32 means FP32: TF32 keeps 10 of 23 bits, and gamma - u is small
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.target is not None:
        _set_target(api, config, options.target)
    if options.dla_core is not None:
        _set_dla(api, builder, config, options.dla_core)
    return config


def _set_target(api: Any, config: Any, target: str) -> None:
    name = f"SM{target.replace('.', '')}"
    known = getattr(getattr(api, "ComputeCapability", None), "__members__", {})
    if name not in known:
        can = sorted(n for n in known if n.startswith("SM")) or "this machine's GPU only"
        raise EngineError(f"this builder cannot build for {name}, it can for {can}; build on the device itself")
    config.num_compute_capabilities = 1
    config.set_compute_capability(known[name], 0)


def _set_dla(api: Any, builder: Any, config: Any, core: int) -> None:
    cores = int(getattr(builder, "num_DLA_cores", 0))
    if core >= cores:
        raise EngineError(
            f"DLA core {core} was asked for, this device and TensorRT offer {cores}; leave --dla-core out"
        )
    config.default_device_type = api.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(api.BuilderFlag.GPU_FALLBACK)


def _parse(parser: Any, graph: bytes) -> None:
    if parser.parse(graph):
        return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    lacking = sorted({f"{e.node_operator()} (node {e.node_name()!r})" for e in errors if _lacks(parser, e)})
    if lacking:
        raise UnsupportedOpError(
            f"TensorRT has no operator for {', '.join(lacking)}; choose another detector, or run with --backend ort"
        )
    said = "; ".join(f"node {e.node_name()!r} ({e.node_operator()}): {_one_line(e.desc())}" for e in errors)
    raise ExportError(f"TensorRT cannot parse the graph: {said or 'it says nothing of why'}")


def _lacks(parser: Any, error: Any) -> bool:
    operator = error.node_operator()
    return bool(operator) and not parser.supports_operator(operator)


def _one_line(text: str) -> str:
    """The message without the cudaError 35 that a machine without a GPU adds to every failure."""
    return " ".join(line for line in text.splitlines() if "catchCudaError" not in line)


def _profile(builder: Any, network: Any, options: BuildOptions) -> Any:
    profile = builder.create_optimization_profile()
    image = network.get_input(0)
    profile.set_shape(image.name, *((size, *options.image_hw, 3) for size in options.batch))
    return profile


def _timing_cache(config: Any, path: Path | None) -> Any:
    """The cache set on `config`: of an earlier build where it fits this device and release, else a new one."""
    if path is None:
        return None
    earlier = _kept(path)
    cache = config.create_timing_cache(earlier) or config.create_timing_cache(b"")
    if cache is not None and not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _kept(path: Path) -> bytes:
    """Timings of earlier builds; none before the first. Raises `EngineError`."""
    try:
        return path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise EngineError(
            f"{path}: cannot read the timings of earlier builds: {error.strerror or error}; "
            "check who may read it, or delete it"
        ) from error


def _run(build: Callable[[], Any], monitor: Any) -> Any:
    """Build in a thread of its own, so that Ctrl-C reaches us while TensorRT works."""
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(build)
        try:
            return pending.result()
        except BaseException:
            monitor.cancelled = True
            raise


class _Monitor:
    """Passes the builder's phases on as (phase, done, steps), and ends the build when cancelled."""

    def __init__(self, progress: Progress | None) -> None:
        self.cancelled = False
        self._progress, self._steps = progress, dict[str, int]()

    @staticmethod
    def attach(api: Any, config: Any, progress: Progress | None) -> _Monitor:
        """A monitor that TensorRT calls from threads of its own."""
        ours = _Monitor(progress)

        class _Adapter(api.IProgressMonitor):  # type: ignore[misc]  # its base is known at run time only
            def __init__(self) -> None:
                api.IProgressMonitor.__init__(self)

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                del parent_phase
                ours.start(phase_name, num_steps)

            def phase_finish(self, phase_name: str) -> None:
                ours.finish(phase_name)

            def step_complete(self, phase_name: str, step: int) -> bool:
                return ours.step(phase_name, step)

        config.progress_monitor = _Adapter()
        return ours

    def start(self, phase: str, steps: int) -> None:
        self._steps[phase] = steps
        self._tell(phase, 0)

    def step(self, phase: str, step: int) -> bool:
        self._tell(phase, step + 1)
        return not self.cancelled

    def finish(self, phase: str) -> None:
        self._tell(phase, self._steps.get(phase, 0))

    def _tell(self, phase: str, done: int) -> None:
        if self._progress is not None:
            self._progress(phase, done, self._steps.get(phase, done))
