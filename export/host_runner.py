"""The float32 graph with its fused node computed by the plugin's own kernels, on the CPU."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from onnx import helper

from cada_edge.bundle import MODEL, Bundle
from cada_edge.errors import EngineError
from cada_edge.export.foreign import parse
from cada_edge.export.plugin.host import HostPlugin
from cada_edge.export.taps import Taps
from cada_edge.export.zones import fused_node
from cada_edge.protocols import check_batch
from cada_edge.types import ImageSpec, MapSpec, Prediction, UInt8Array

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` only from 3.11


class HostPluginRunner:
    """A `Runner`: ONNX Runtime up to the fused node, the plugin's source from there. For checks: it is slow.

    Raises:
        BundleError: the bundle holds no ``model.onnx``.
        MissingDependencyError: no C++ compiler, or the plugin's sources cannot be compiled here.
        EngineError: ONNX Runtime cannot load the graph.
    """

    def __init__(self, bundle: Bundle) -> None:
        proto = parse(bundle.file(MODEL, "run `cada-edge export` on it first"), MODEL)
        node = fused_node(proto.graph)
        self._spec, self._map_spec = bundle.manifest.spec, bundle.manifest.map_spec
        self._inputs = list(node.input)
        values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self._attributes = {name: v.decode() if isinstance(v, bytes) else v for name, v in values.items()}
        self._plugin = HostPlugin.build()
        self._taps: Taps | None = Taps(proto, [*self._inputs, "novelty"])

    @property
    def spec(self) -> ImageSpec:
        """Preprocessing the graph expects."""
        return self._spec

    @property
    def map_spec(self) -> MapSpec:
        """Shape of the maps it returns."""
        return self._map_spec

    def infer(self, batch: UInt8Array) -> Prediction:
        """Judge uint8 (N, H, W, 3) RGB; the arrays belong to the caller. Raises `EngineError`."""
        if self._taps is None:
            raise EngineError("the runner is closed; open a new one")
        check_batch(batch, self._spec)
        found = self._taps(batch)
        *tensors, u, gamma = (found[name] for name in self._inputs)
        maps, score = self._plugin.run(tensors, u, gamma, self._attributes)
        return Prediction(score, maps, u, gamma, found["novelty"])

    def close(self) -> None:
        """Free the session. Safe to call twice."""
        self._taps = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
