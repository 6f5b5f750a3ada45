"""A model whose detector is a foreign graph, run by ONNX Runtime on the CPU, one picture at a time.

It is the reference that the exported graph is compared with, see `cada_edge.export.compose`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor

from cada_edge.errors import EngineError
from cada_edge.models.detector import Detector, Strides, register
from cada_edge.models.encoder import Encoder
from cada_edge.models.foreign import GRAPH, Feed, ForeignConfig, Reading
from cada_edge.models.head import CadaHead, describe
from cada_edge.models.unified import UnifiedModel
from cada_edge.onnx_wire import refuse_external_data
from cada_edge.types import ImageSpec, MapSpec

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` only from 3.11


@register
class ForeignDetector(Detector):
    """A foreign graph and the reading of its map. It looks at pictures, not at features.

    Attributes:
        settings: how the graph is fed and read.
        graph: the ONNX file: one input, one output, as `cada_edge.export.foreign` leaves it.
    """

    kind: ClassVar[str] = "onnx"
    settings_type: ClassVar[type[Any]] = ForeignConfig
    default_strides: ClassVar[Strides] = (8, 16, 32)
    settings: ForeignConfig

    def __init__(self, settings: ForeignConfig, strides: Strides, spec: MapSpec) -> None:
        super().__init__(settings, strides, spec)
        self.reading = Reading(settings, spec)
        self.graph = b""

    @classmethod
    def create(
        cls,
        settings: ForeignConfig,
        channels: list[int],  # noqa: ARG003  # it takes no features
        strides: Strides,
        spec: MapSpec,
    ) -> Self:
        """A detector without its graph, which is filled in afterwards."""
        return cls(settings, strides, spec)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Refuse: the map comes from the picture, see `ForeignModel.foreign_map`."""
        raise EngineError(
            f"detector {self.kind!r} takes pictures, not {len(features)} feature maps; use a ForeignModel"
        )


class ForeignModel(UnifiedModel):
    """A `UnifiedModel` whose raw map comes from a foreign graph."""

    detector: ForeignDetector

    def __init__(
        self, spec: ImageSpec, map_spec: MapSpec, encoder: Encoder, detector: ForeignDetector, head: CadaHead
    ) -> None:
        super().__init__(spec, map_spec, encoder, detector, head)
        self.feed = Feed(detector.settings, spec)
        self._session: Any = None

    def core(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images uint8 (N, H, W, 3) to raw map (N, h, w), u, gamma and novelty (N,): all but the alignment."""
        return (self.foreign_map(images), *self.expectation(images))

    def expectation(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images uint8 (N, H, W, 3) to u, gamma and novelty (N,): what our encoder and head say."""
        descriptor = describe(self.encoder(self.standardise(images)))
        u, gamma = self.head(descriptor).unbind(dim=1)
        return u, gamma, self.head.novelty(descriptor)

    def foreign_map(self, images: Tensor) -> Tensor:
        """Images uint8 (N, H, W, 3) to the smoothed raw map, float32 (N, h, w). Raises `EngineError`."""
        fed = self.feed(images).cpu().numpy()
        maps = [self._run(np.ascontiguousarray(fed[i : i + 1])) for i in range(len(fed))]
        raw: Tensor = self.detector.reading(torch.from_numpy(np.concatenate(maps)).to(images.device))
        return raw

    def _run(self, picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The map of one fed picture, a leading 1 in both shapes."""
        if self._session is None:
            self._session = open_graph(self.detector.graph)
        maps = run_graph(self._session, picture)
        rows, columns = self.detector.settings.map_hw
        if maps.size != rows * columns:
            raise EngineError(
                f"{GRAPH} gave a map of shape {maps.shape}, expected {rows} x {columns} values; wrap it again"
            )
        return maps


def open_graph(graph: bytes) -> Any:
    """An ONNX Runtime session on the CPU, the same answers on every run.

    Raises `EngineError`, or `UnsafeFileError` when the graph points to other files.
    """
    refuse_external_data(graph, GRAPH)
    options = onnxruntime.SessionOptions()
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors only: advice is for whoever exported the graph
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base but Exception
        raise EngineError(f"ONNX Runtime cannot load the foreign graph: {error}") from error


def run_graph(session: Any, fed: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The first output for one batch. Raises `EngineError`."""
    try:
        output: npt.NDArray[Any] = session.run(None, {session.get_inputs()[0].name: fed})[0]
    except Exception as error:  # ONNX Runtime's exceptions share no base but Exception
        raise EngineError(f"the foreign graph failed on an input of {fed.dtype} {fed.shape}: {error}") from error
    return output
