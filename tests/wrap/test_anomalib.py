from __future__ import annotations

from typing import NamedTuple

import onnx
import pytest
import torch
from torch import Tensor, nn

from cada_edge.errors import ConfigError, ExportError
from cada_edge.export import ForeignOptions, from_anomalib
from cada_edge.export.signature import understand
from cada_edge.models.foreign_model import open_graph, run_graph


class Inference(NamedTuple):
    """What their models return."""

    pred_score: Tensor
    anomaly_map: Tensor | None


class Brightness(nn.Module):
    """A detector of bright cells, built as theirs are."""

    def __init__(self, *, with_map: bool = True) -> None:
        super().__init__()
        self.with_map = with_map

    def forward(self, images: Tensor) -> Inference:
        """Mean over channels, a fourth of the size."""
        cells = nn.functional.avg_pool2d(images.mean(dim=1, keepdim=True), 4)
        return Inference(cells.amax(dim=(1, 2, 3)), cells if self.with_map else None)


class Module(nn.Module):
    """The parts of a Lightning module that count: a model, and a clamp behind it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.pre_processor, self.model, self.post_processor = None, model, nn.Hardtanh(0, 1)


def test_a_live_model_is_exported_without_its_post_processing() -> None:
    """The map comes as the model gives it, for any number of pictures."""
    graph = understand(onnx.load_model_from_string(from_anomalib(Module(Brightness()), (64, 96))), ForeignOptions())
    assert (graph.config.size_hw, graph.config.map_hw, graph.config.one_by_one) == ((64, 96), (16, 24), False)
    assert run_graph(open_graph(graph.content), torch.full((2, 3, 64, 96), 7.0).numpy()).max() == 7


def test_a_model_without_a_map_is_refused() -> None:
    """A model that only scores images cannot be used, and the error says why."""
    with pytest.raises(ExportError, match="no anomaly_map"):
        from_anomalib(Module(Brightness(with_map=False)))


def test_something_else_is_refused() -> None:
    """A bare network is no anomalib module."""
    with pytest.raises(ConfigError, match="AnomalibModule"):
        from_anomalib(nn.Identity())


@pytest.mark.slow
def test_their_padim_gives_the_same_map_in_onnx() -> None:
    """A PaDiM of theirs, untrained encoder and all, gives the same map as in torch."""
    models = pytest.importorskip("anomalib.models", reason="needs the anomalib extra")
    torch.manual_seed(0)
    padim = models.Padim(
        backbone="resnet18",
        pre_trained=False,
        n_features=20,
        pre_processor=models.Padim.configure_pre_processor((64, 64)),
        visualizer=False,
        evaluator=False,
    )
    images = torch.rand(12, 3, 64, 64)
    padim.model.train()
    padim.model(padim.pre_processor(images))
    padim.model.fit()
    padim.eval()
    graph = understand(onnx.load_model_from_string(from_anomalib(padim)), ForeignOptions())
    expected = padim.model(padim.pre_processor(images[:1])).anomaly_map
    assert torch.allclose(
        torch.from_numpy(run_graph(open_graph(graph.content), images[:1].numpy())), expected, rtol=1e-3
    )
