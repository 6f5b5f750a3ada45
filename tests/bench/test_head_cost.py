"""What the head costs: the graph without it says the same of the raw map."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cada_edge.bench.head_cost import head_cost, without_head
from cada_edge.bundle import MODEL, Bundle, Manifest
from cada_edge.export.onnx import export_onnx
from cada_edge.models import UnifiedModel
from cada_edge.models.store import components, model_files
from cada_edge.runtime.runners.ort import OrtRunner


@pytest.fixture(scope="module")
def exported(build_model: Callable[..., UnifiedModel]) -> Bundle:
    """An untrained model with its graph."""
    model = build_model()
    manifest = Manifest(model.spec, model.map_spec, *components(model))
    return Bundle(manifest, model_files(model)).with_file(MODEL, export_onnx(model))


def test_the_graph_without_head_gives_the_raw_score(exported: Bundle) -> None:
    """Cut down, the graph scores the map before alignment, and nothing of the head is left in it."""
    bare = without_head(exported.file(MODEL))
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    score, _ = ort.InferenceSession(bare, providers=["CPUExecutionProvider"]).run(None, {"image": images})
    with OrtRunner(exported) as runner:
        expected = runner.infer(images).raw_score
    np.testing.assert_allclose(score, expected, rtol=1e-3)
    whole, cut = (
        {t.name for t in onnx.load_from_string(graph).graph.initializer} for graph in (exported.file(MODEL), bare)
    )
    assert any(name.startswith("model.head.") for name in whole)
    assert not any(name.startswith("model.head.") for name in cut)


def test_the_cost_counts_what_is_stored(exported: Bundle) -> None:
    """The head's numbers are a small part of the model's, and the share of the latency is one."""
    cost = head_cost(exported, pairs=3)
    assert 0 < cost.head_numbers < 0.1 * cost.model_numbers
    assert cost.latency_share_p25 <= cost.latency_share <= cost.latency_share_p75 < 1
