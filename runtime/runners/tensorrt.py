"""Runs a bundle's TensorRT engine on an NVIDIA GPU, with no allocation per frame.

::

    pictures -> page-locked input -> GPU -> engine -> page-locked outputs -> Prediction

The shape is fixed when the runner opens: fewer pictures are filled up with black ones, more
are judged in several calls. So every address and size is known, and copies, engine and
copies back are one CUDA graph, recorded once and replayed for each call.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cada_edge.bundle import Bundle
from cada_edge.bundle_runner import BundleRunner
from cada_edge.engine_key import Flavour, Precision, build_command
from cada_edge.engine_store import StoredEngine
from cada_edge.errors import EngineError, EngineMismatchError, PluginMissingError
from cada_edge.runtime.runners.engine_choice import Wanted, choose_engine
from cada_edge.runtime.runners.memory import Buffer, Memory, MemoryName, Replay, open_memory
from cada_edge.runtime.runners.tensorrt_room import FREE_ROOM, lacks_room, started, what_to_do
from cada_edge.trt import TensorRT, file_sha256
from cada_edge.types import Prediction, UInt8Array

Graphs = Literal["auto", "never", "require"]
_IMAGE, _OUTPUTS = "image", ("score", "map", "u", "gamma", "novelty")


@dataclass(frozen=True)
class TensorRTOptions:
    """How an engine is run.

    Attributes:
        flavour: whose engine.
        precision: which of the bundle's engines.
        batch: pictures in one call; ``None`` for the number the engine was tuned for.
        memory: the package that moves memory; ``None`` for what CADA_EDGE_GPU_MEMORY names, else cuda-python.
        graphs: ``auto`` replays a CUDA graph where it can be recorded and queues each call
            anew where not, as `TensorRTRunner.execution` says; ``require`` makes that an error.
    """

    flavour: Flavour = "tensorrt"
    precision: Precision = "fp32"
    batch: int | None = None
    memory: MemoryName | None = None
    graphs: Graphs = "auto"


class TensorRTRunner(BundleRunner):
    """A `Runner` over TensorRT. A context manager that owns engine, stream and buffers.

    The arrays that `infer` returns are the caller's; page-locked and GPU memory never leave
    the runner. To be used by the thread that opened it.

    Args:
        bundle: read with `Bundle.read`, hence verified.
        path: where it was read from; its engines are beside it.
        options: default `TensorRTOptions()`.
        tensorrt: the module; loaded where it is not given.
        memory: the GPU's memory, closed with the runner; opened where it is not given.

    Raises:
        ConfigError: CADA_EDGE_GPU_MEMORY names no package that moves memory.
        MissingDependencyError: TensorRT or the memory package is not installed.
        BundleError: the bundle has no graph of that precision.
        EngineMismatchError: the engines there were built for something else.
        PluginMissingError: the engine's plugin library is missing, changed or of another version.
        EngineError: no driver, no engine, a truncated plan, or not enough memory.
    """

    def __init__(
        self,
        bundle: Bundle,
        path: Path,
        options: TensorRTOptions | None = None,
        tensorrt: TensorRT | None = None,
        memory: Memory | None = None,
    ) -> None:
        options = options or TensorRTOptions()
        super().__init__(bundle)
        tensorrt = tensorrt or TensorRT.load(options.flavour)
        with ExitStack() as opened:
            self._memory = memory or open_memory(options.memory)
            opened.callback(self._memory.close)
            capability = self._memory.compute_capability
            wanted = Wanted(options.flavour, tensorrt.version, capability, options.precision, options.batch)
            self._stored = choose_engine(bundle, path, wanted)
            self._batch = options.batch or self._stored.record.key.batch[1]
            self._session = _Session(tensorrt, self._stored, path)
            opened.callback(self._session.close)
            self._buffers = self._bind()
            self._replay, self._execution = self._record(options.graphs)
            opened.pop_all()

    @property
    def engine(self) -> StoredEngine:
        """The engine that runs, with its key."""
        return self._stored

    @property
    def execution(self) -> str:
        """``CUDA graph``, or ``stream`` and why: for people and logs."""
        return self._execution

    def _infer(self, batch: UInt8Array) -> Prediction:
        parts = [self._call(batch[at : at + self._batch]) for at in range(0, len(batch), self._batch)]
        return parts[0] if len(parts) == 1 else Prediction.concatenate(parts)

    def _release(self) -> None:
        self._session.close()
        self._memory.close()

    def _bind(self) -> dict[str, Buffer]:
        """Allocate every buffer, once, and tell the engine where they are."""
        height, width = self._spec.size_hw
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(_OUTPUTS, (self._batch,))
        shapes["map"] = (self._batch, *self._map_spec.size_hw)
        self._shapes = shapes
        self._session.set_batch((self._batch, height, width, 3), shapes)
        sizes = {_IMAGE: self._batch * height * width * 3}
        sizes.update({name: 4 * int(np.prod(shape)) for name, shape in shapes.items()})
        buffers = {name: self._memory.allocate(size) for name, size in sizes.items()}
        for name, buffer in buffers.items():
            self._session.set_address(name, buffer.address)
        return buffers

    def _record(self, graphs: Graphs) -> tuple[Replay, str]:
        """What runs one call, after one has run: TensorRT sets itself up in the first."""
        self._buffers[_IMAGE].host[:] = 0
        self._queue()
        self._memory.synchronize()
        if graphs == "never":
            return self._queue, "stream: graphs are switched off"
        try:
            return self._memory.capture(self._queue), "CUDA graph"
        except EngineError as error:
            if graphs == "require":
                raise EngineError(f"no CUDA graph can be recorded: {error}; use graphs=auto to run without") from error
            self._memory.synchronize()  # a GPU that failed for good says so here
            return self._queue, f"stream: {error}"

    def _queue(self) -> None:
        """Copies, engine, copies back, in the order of the stream."""
        self._memory.upload(self._buffers[_IMAGE])
        self._session.enqueue(self._memory.stream)
        for name in _OUTPUTS:
            self._memory.download(self._buffers[name])

    def _call(self, pictures: UInt8Array) -> Prediction:
        """One call for at most `self._batch` pictures."""
        count = len(pictures)
        host = self._buffers[_IMAGE].host.reshape(self._batch, *self._spec.size_hw, 3)
        host[:count] = pictures
        host[count:] = 0
        self._replay()
        self._memory.synchronize()
        return Prediction(*(self._output(name)[:count].copy() for name in _OUTPUTS))

    def _output(self, name: str) -> npt.NDArray[np.float32]:
        return self._buffers[name].host.view(np.float32).reshape(self._shapes[name])


class _Session:
    """A deserialised engine and its one execution context."""

    def __init__(self, tensorrt: TensorRT, stored: StoredEngine, bundle: Path) -> None:
        self._errors: list[str] = []
        self._warning = ""
        self._logger = tensorrt.logger(self._take)
        name = f"{tensorrt.flavour} {tensorrt.version}"
        self._runtime = started(lambda: tensorrt.api.Runtime(self._logger), name, self._said)
        _load_plugin(tensorrt, self._runtime, stored, bundle)
        plan = stored.plan()
        self._errors.clear()
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        again = f"build it again here: {build_command(bundle, stored.record.key)}"
        if self._engine is None and lacks_room(self._said()):
            raise EngineError(f"there is no room for the engine {stored.folder}: {self._said()}; {FREE_ROOM}")
        if self._engine is None:
            raise EngineMismatchError(f"TensorRT cannot read the engine {stored.folder}: {self._said()}; {again}")
        found = {self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)}
        if found != {_IMAGE, *_OUTPUTS}:
            raise EngineError(
                f"the engine has inputs and outputs {sorted(found)}, expected {sorted((_IMAGE, *_OUTPUTS))}; {again}"
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"the engine cannot be set up: {self._said()}; {what_to_do(self._said(), again)}")

    def set_batch(self, image: tuple[int, ...], outputs: dict[str, tuple[int, ...]]) -> None:
        """Fix the shape of the input, and compare those of the outputs with the bundle's contract."""
        if not self._context.set_input_shape(_IMAGE, image):
            raise EngineError(f"the engine refuses an input of {image}: {self._said()}; use another batch")
        for name, shape in outputs.items():
            found = tuple(self._context.get_tensor_shape(name))
            kind = str(self._engine.get_tensor_dtype(name)).rpartition(".")[2]
            if found != shape or kind != "FLOAT":
                raise EngineError(
                    f"the engine gives {name} as {kind} {found}, the bundle says FLOAT {shape}; build it again"
                )

    def set_address(self, name: str, address: int) -> None:
        """Where the tensor is on the GPU; its buffer must outlive the session."""
        if not self._context.set_tensor_address(name, address):
            raise EngineError(f"the engine refuses the address of {name}: {self._said()}")

    def enqueue(self, stream: int) -> None:
        """Queue one execution on the stream."""
        self._errors, self._warning = [], ""  # what was said before, at the start say, explains no failure of now
        if not self._context.execute_async_v3(stream):
            restart = "if it goes on, restart the program, then the device"
            raise EngineError(f"TensorRT failed on a batch: {self._said()}; {what_to_do(self._said(), restart)}")

    def close(self) -> None:
        """Let go of context, engine and runtime, in this order: each needs the next."""
        self._context = self._engine = self._runtime = None

    def _take(self, severity: str, message: str) -> None:
        if severity in ("INTERNAL_ERROR", "ERROR"):
            self._errors = [*self._errors[-7:], message]
        elif severity == "WARNING":
            self._warning = message

    def _said(self) -> str:
        """Errors; where there are none the last warning, for CUDA that cannot be set up may be one."""
        return "; ".join(self._errors) or self._warning or "it says nothing of why"


def _load_plugin(tensorrt: TensorRT, runtime: Any, stored: StoredEngine, bundle: Path) -> None:
    """Register the engine's plugin, which must be there before the plan is read; a new one needs a new engine."""
    library = stored.plugin
    if library is None:
        return
    try:
        stored.check_plugin(file_sha256(library))
        tensorrt.load_plugin(runtime, library, stored.record.plugin_version)
    except PluginMissingError as error:
        command = build_command(bundle, stored.record.key)
        raise PluginMissingError(f"{error}, and then the engine: {command}") from error
