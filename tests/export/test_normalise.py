"""The fused node: its body computes the model's mathematics, and a plugin finds all it needs on the node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import ModelProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

from cada_edge import alignment
from cada_edge.errors import ConfigError
from cada_edge.export import export_onnx
from cada_edge.export.normalise import DOMAIN, DOMAIN_VERSION, Fusion, normalise_function, normalise_node
from cada_edge.models import CadaHead, CadaHeadConfig, Encoder, EncoderConfig, UnifiedModel, detector_class
from cada_edge.models.detector import Detector, cosine_distance, detector_kinds
from cada_edge.models.unified import Smoother, image_score
from cada_edge.types import COSINE_FLOOR, MIN_SPREAD, FusionMode, ImageSpec, MapSpec, UInt8Array

SPEC = MapSpec((17, 23), smooth_taps=5, smooth_sigma=1.5, top_fraction=0.03)
SHAPES = [(8, 17, 23), (6, 9, 11), (5, 3, 4)]
RNG = np.random.default_rng(0)


def node_model(
    fusion: Fusion, half: bool = False, opset: int = 17, layers_hw: list[tuple[int, int]] | None = None
) -> ModelProto:
    """A graph of nothing but the node, for tensors of `SHAPES` or of the sizes given."""
    sizes = layers_hw or [SHAPES[i % len(SHAPES)][1:] for i in range(len(fusion.levels))]
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    ranks = 4 if fusion.mode == "features" else 3
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [normalise_node(fusion)],
        "node",
        [value(name, kind, [None] * ranks) for name in fusion.tensors]
        + [value(name, TensorProto.FLOAT, ["N"]) for name in ("u", "gamma")],
        [value("map", TensorProto.FLOAT, ["N", *fusion.spec.size_hw]), value("score", TensorProto.FLOAT, ["N"])],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
    proto = helper.make_model(graph, opset_imports=imports, functions=[normalise_function(fusion, opset, sizes)])
    proto.ir_version = helper.find_min_ir_version_for(imports, ignore_unknown=True)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def run(proto: ModelProto, feeds: dict[str, Any]) -> list[np.ndarray]:
    """Map and score by ONNX Runtime."""
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(["map", "score"], feeds)
    return found


def case(mode: FusionMode, scales: int = 3, spec: MapSpec = SPEC) -> tuple[Fusion, dict[str, np.ndarray]]:
    """A node of so many scales and inputs for two images."""
    fusion = Fusion(mode, tuple(0.5 + 0.25 * i for i in range(scales)), spec)
    feeds = {}
    for i in range(scales):
        channels, height, width = SHAPES[i % len(SHAPES)]
        shape = (2, channels, height, width) if mode == "features" else (2, height, width)
        for name in fusion.tensors[2 * i : 2 * i + 2] if mode == "features" else [f"layer_{i}"]:
            feeds[name] = RNG.normal(0.5, 1.0, shape).astype(np.float32)
    feeds["u"], feeds["gamma"] = np.array([0.1, 0.2], np.float32), np.array([0.5, 1.4], np.float32)
    return fusion, feeds


def by_torch(fusion: Fusion, feeds: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Map and score by the modules of the model."""
    t = {name: torch.from_numpy(np.asarray(value, np.float32)) for name, value in feeds.items()}
    numbers = range(len(fusion.levels))
    if fusion.mode == "features":
        distances = [cosine_distance(t[f"teacher_{i}"], t[f"student_{i}"]) for i in numbers]
    else:
        distances = [t[f"layer_{i}"] for i in numbers]
    up = [
        torch.nn.functional.interpolate(d[:, None] / level, size=fusion.spec.size_hw, mode="bilinear")
        for d, level in zip(distances, fusion.levels, strict=True)
    ]
    raw = Smoother(fusion.spec)(torch.cat(up, dim=1).mean(dim=1))
    spread = (t["gamma"] - t["u"]).clamp_min(MIN_SPREAD)
    aligned = (raw - t["u"][:, None, None]) / spread[:, None, None]
    return aligned.numpy(), image_score(aligned, fusion.spec).numpy()


@pytest.mark.parametrize("mode", ["features", "distances"])
@pytest.mark.parametrize("scales", [1, 3, 8])
def test_the_body_is_the_model_s_mathematics(mode: FusionMode, scales: int) -> None:
    """Cosine, levels, upsampling, mean, smoothing, alignment and score, for any number of scales."""
    fusion, feeds = case(mode, scales)
    for got, wanted in zip(run(node_model(fusion), feeds), by_torch(fusion, feeds), strict=True):
        np.testing.assert_allclose(got, wanted, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("opset", [17, 18, 21])
def test_a_later_opset_changes_nothing(opset: int) -> None:
    """The body stands in a foreign graph's opset too, and gives the same bits."""
    fusion, feeds = case("distances")
    first, again = (run(node_model(fusion, opset=o), feeds) for o in (17, opset))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_half_precision_features_are_summed_in_single() -> None:
    """float16 features give what the same numbers give as float32."""
    fusion, feeds = case("features")
    halves = {n: v.astype(np.float16) if v.ndim == 4 else v for n, v in feeds.items()}
    wide = {n: v.astype(np.float32) for n, v in halves.items()}
    for got, wanted in zip(run(node_model(fusion, half=True), halves), run(node_model(fusion), wide), strict=True):
        assert np.array_equal(got, wanted)


NUMBERS = st.floats(-10, 10, width=32)


@given(
    hnp.arrays(np.float32, (2, 3, 4), elements=NUMBERS),
    hnp.arrays(np.float32, 2, elements=NUMBERS),
    hnp.arrays(np.float32, 2, elements=NUMBERS),
)
def test_the_alignment_is_the_reference(maps: np.ndarray, u: np.ndarray, gamma: np.ndarray) -> None:
    """With nothing to resize or smooth the body is `alignment.normalise` and `alignment.image_score`."""
    spec = MapSpec((3, 4), smooth_taps=1, top_fraction=0.25)
    body = ReferenceEvaluator(node_model(Fusion("distances", (1.0,), spec), layers_hw=[(3, 4)]))
    feeds = {"layer_0": maps, "u": u, "gamma": gamma}
    aligned, score = (np.asarray(found, np.float32) for found in body.run(["map", "score"], feeds))
    np.testing.assert_allclose(aligned, alignment.normalise(maps, u, gamma), rtol=1e-6)
    np.testing.assert_allclose(score, alignment.image_score(aligned, spec), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("where", ["layer_0", "u", "gamma"])
def test_a_nan_anywhere_gives_a_nan_score(where: str) -> None:
    """One unreadable cell, or an unreadable expectation, spoils its own image's score and no other."""
    fusion, feeds = case("distances")
    feeds[where].reshape(2, -1)[1, 0] = np.nan
    _, score = run(node_model(fusion), feeds)
    assert np.isnan(score).tolist() == [False, True]


def test_a_node_whose_maps_are_smooth_does_not_smooth() -> None:
    """Without smoothing the window is one cell and the body holds no convolution."""
    fusion = Fusion("distances", (1.0,), SPEC, smooths=False)
    assert fusion.attributes()["window"] == [1.0]
    assert not {"Slice", "Pad"} & {n.op_type for n in normalise_function(fusion, 17, [SPEC.size_hw]).node}


@pytest.mark.parametrize("levels", [(), (1.0,) * 9, (0.0,), (float("nan"),)])
def test_levels_outside_their_range_are_refused(levels: tuple[float, ...]) -> None:
    """No scale, too many, or a level nothing can be divided by."""
    with pytest.raises(ConfigError, match=r"Fusion\.levels"):
        Fusion("distances", levels, SPEC)


def test_the_node_tells_a_plugin_everything(graph: ModelProto, model: UnifiedModel) -> None:
    """One node, the last, with the plugin's name and version and every number of the arithmetic."""
    node = graph.graph.node[-1]
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    assert (node.op_type, node.domain, list(node.output)) == ("CadaNormalize", "cada_edge", ["map", "score"])
    assert list(node.input) == ["teacher_0", "student_0", "teacher_1", "student_1", "u", "gamma"]
    assert (found.pop("plugin_version"), found.pop("plugin_namespace"), found.pop("mode")) == (b"2", b"", b"features")
    assert (found.pop("map_size"), found.pop("top_k")) == ([16, 16], model.map_spec.top_k)
    window = alignment.gaussian_window(model.map_spec.smooth_taps, model.map_spec.smooth_sigma)
    assert np.array_equal(np.array(found.pop("window"), np.float32), window)
    numbers = {"levels": [1.0, 1.0], "min_spread": np.float32(MIN_SPREAD), "cosine_floor": np.float32(COSINE_FLOOR)}
    assert found == numbers
    assert [(f.domain, f.name) for f in graph.functions] == [("cada_edge", "CadaNormalize")]


class Whole(Detector):
    """A detector without layers: the mean of the finest features."""

    kind = "whole"
    default_strides = (8, 16)

    @classmethod
    def create(cls, settings: Any, channels: list[int], strides: tuple[int, ...], spec: MapSpec) -> Whole:
        """One such detector."""
        return cls(settings, strides, spec)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Features to a map."""
        up = torch.nn.functional.interpolate(features[0], size=self.map_size_hw, mode="bilinear")
        return up.square().mean(dim=1)


def kinds() -> list[type[Detector]]:
    """Every detector that reads features, and one without layers."""
    return [*(detector_class(kind) for kind in detector_kinds() if kind != "onnx"), Whole]


@pytest.mark.parametrize("cls", kinds(), ids=lambda cls: cls.kind)
def test_every_detector_exports_with_its_own_numbers(
    build_model: Callable[..., UnifiedModel], batch: UInt8Array, cls: type[Detector]
) -> None:
    """Whatever a detector hands to the fused node, the graph gives the model's map and score."""
    torch.manual_seed(1)
    spec, map_spec = ImageSpec((64, 64)), MapSpec((16, 16), top_fraction=0.05)
    net = Encoder(EncoderConfig("tf_efficientnet_lite0", cls.default_strides, "random"))
    settings = None if cls is Whole else cls.settings_type()
    detector = cls.create(settings, net.channels, net.strides, map_spec)
    model = UnifiedModel(spec, map_spec, net, detector, CadaHead(CadaHeadConfig(8), sum(net.channels))).eval()
    with torch.inference_mode():
        score, aligned = (t.numpy() for t in model(torch.from_numpy(batch))[:2])
    session = ort.InferenceSession(export_onnx(model), providers=["CPUExecutionProvider"])
    found = session.run(["score", "map"], {"image": batch})
    np.testing.assert_allclose(found[0], score, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[1], aligned, rtol=1e-4, atol=1e-4)
