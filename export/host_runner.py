"""The float32 graph with its fused node computed by the plugin's own kernels, on the CPU."""

from __future__ import annotations

from onnx import helper

from cada_edge.bundle import MODEL, Bundle
from cada_edge.bundle_runner import BundleRunner
from cada_edge.engine_key import how_to_get
from cada_edge.export.foreign import parse
from cada_edge.export.plugin.host import HostPlugin
from cada_edge.export.taps import Taps
from cada_edge.export.zones import fused_node
from cada_edge.types import Prediction, UInt8Array


class HostPluginRunner(BundleRunner):
    """A `Runner`: ONNX Runtime up to the fused node, the plugin's source from there. For checks: it is slow.

    Raises:
        BundleError: the bundle holds no ``model.onnx``.
        MissingDependencyError: no C++ compiler, or the plugin's sources cannot be compiled here.
        EngineError: ONNX Runtime cannot load the graph.
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        proto = parse(bundle.file(MODEL, how_to_get("fp32")), MODEL)
        node = fused_node(proto.graph)
        self._inputs = list(node.input)
        values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self._attributes = {name: v.decode() if isinstance(v, bytes) else v for name, v in values.items()}
        self._plugin = HostPlugin.build()
        self._taps = Taps(proto, [*self._inputs, "novelty"])

    def _infer(self, batch: UInt8Array) -> Prediction:
        found = self._taps(batch)
        *tensors, u, gamma = (found[name] for name in self._inputs)
        maps, score = self._plugin.run(tensors, u, gamma, self._attributes)
        return Prediction(score, maps, u, gamma, found["novelty"])

    def _release(self) -> None:
        del self._taps
