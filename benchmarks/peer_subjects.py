"""What is timed: cada-edge's graphs and their bare encoder, and the peers', each by every way it can run.

Every way takes the same picture, uint8 (1, H, W, 3), and gives at least a score. A peer's ways in torch,
ONNX Runtime and OpenVINO are its torch model behind cada-edge's preprocessing, traced by cada-edge's
exporter: what it would cost in our place. "its own inferencer" is its own export, preprocessing and calls.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnx
import onnx.inliner
import torch
import torchvision
from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel
from anomalib_peers import Benchmark
from peer_anomavision import Judge, enter, quiet, their_padim
from peer_encoder import FromPixels, Peer
from peer_inferencers import anomalib_inferencers, anomavision_inferencers
from peer_latency import in_onnxruntime, in_openvino, in_torch
from peer_models import fit
from peer_settings import ANOMAVISION, NAMES, PeerSettings
from peer_stage import Stage, Timed, attempt
from peer_table import FLOOR, Subject
from torch import nn

from cada_edge.bundle import MODEL, Bundle
from cada_edge.data.split import RoleFractions
from cada_edge.export.graph import simplify
from cada_edge.export.onnx import trace
from cada_edge.models import UnifiedModel, load_model
from cada_edge.types import ImageSpec

MODELS = (*NAMES, "efficient_ad", *ANOMAVISION, "anomavision_resnet18")
_RESNET18_WIDTHS = [64, 128, 256, 512]


class Features(nn.Module):
    """Pixels to the encoder's maps."""

    def __init__(self, model: UnifiedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Images uint8 (N, H, W, 3) to one float32 (N, C, H/s, W/s) per stride."""
        return tuple(self.model.encoder(self.model.standardise(images)))


def ours(bundles: Sequence[Path], stage: Stage) -> Timed:
    """Floor first, then each bundle's own graph."""
    read = {path: Bundle.read(path) for path in bundles}
    yield from in_both(FLOOR, encoder_graph(read[bundles[0]]), stage)
    for path, bundle in read.items():
        model = f"cada-edge {bundle.manifest.detector.kind} ({path.stem})"
        yield from in_both(Subject(model, "", bundle.sha256, ours=True), bundle.file(MODEL), stage)


def encoder_graph(bundle: Bundle) -> bytes:
    """The encoder of a bundle alone, cleaned by the same passes as the whole graph."""
    model = load_model(bundle)
    example = torch.zeros(2, *model.spec.size_hw, 3, dtype=torch.uint8)
    proto = trace(Features(model), example, [f"features{stride}" for stride in model.encoder.strides])
    simplify(proto)
    return bytes(proto.SerializeToString())


def in_both(who: Subject, graph: bytes, stage: Stage) -> Timed:
    """The graph in ONNX Runtime and, where it is installed, OpenVINO."""
    arguments = (stage.image, stage.threads)
    yield from attempt(replace(who, way="ONNX Runtime"), partial(in_onnxruntime, graph, *arguments))
    if importlib.util.find_spec("openvino"):
        inlined = onnx.inliner.inline_local_functions(onnx.load_from_string(graph)).SerializeToString()
        yield from attempt(replace(who, way="OpenVINO"), partial(in_openvino, inlined, *arguments))


def in_all(who: Subject, net: nn.Module, spec: ImageSpec, stage: Stage) -> Timed:
    """A peer's torch model behind `spec`, eager and as a graph."""
    whole = FromPixels(net, spec).eval()
    yield from attempt(replace(who, way="torch"), partial(in_torch, whole, stage.example, stage.threads))
    with torch.inference_mode():
        outputs = [f"out{i}" for i in range(len(whole(stage.example)))]
    yield from in_both(who, trace(whole, stage.example, outputs).SerializeToString(), stage)


def peer(name: str, source: Benchmark, bank: int, stage: Stage) -> Timed:
    """One peer by every way it has, on `source`'s images; `bank` patches in PatchCore's."""
    if name == "efficient_ad":
        who, net, spec = Subject("anomalib EfficientAD-S, untrained", ""), *efficient_ad(source.settings.spec)
    elif name == "anomavision_resnet18":
        who, net, spec = Subject("AnomaVision PaDiM, ResNet-18, untrained", ""), *untrained_resnet(source.settings)
    else:
        who, net, spec = (
            Subject(PeerSettings().title(name), "", name),
            fitted(name, source, bank).net,
            source.settings.spec,
        )
    yield from in_all(who, net, spec, stage)
    own = anomavision_inferencers if name.startswith("anomavision") else anomalib_inferencers
    yield from own(who, net, spec, stage)


def fitted(name: str, source: Benchmark, bank: int) -> Peer:
    """A peer on all good images of `source`, PatchCore's bank brought to `bank` patches by repeating them.

    How long a search takes depends on their number, not on what they are.
    """
    found = fit(name, source.settings, source.store.select([item.sha256 for item in source.train]), lambda *_: None)
    if name == "patchcore":
        patches = found.net.get_buffer("memory_bank")
        found.net.register_buffer("memory_bank", patches[torch.arange(bank) % len(patches)].clone())
    return found


def bank_size(settings: PeerSettings, good_images: int) -> int:
    """Patches in PatchCore's bank where accuracy is measured: of the images that the rule of roles gives it."""
    candidates = RoleFractions().counts(good_images)["fit"] * settings.patchcore_patches_per_image
    return int(candidates * settings.patchcore_coreset_ratio)


def efficient_ad(spec: ImageSpec) -> tuple[nn.Module, ImageSpec]:
    """anomalib's EfficientAD, small, with random weights, and what it wants for pixels: 0 to 1.

    Its teacher's weights and the pictures of other things it learns from are downloads; its time depends on
    neither. Statistics and quantiles have values, as after training, so that nothing it does is left out.
    """
    torch.manual_seed(0)
    net = EfficientAdModel()
    for name, value in (*net.mean_std.items(), *net.quantiles.items()):
        nn.init.constant_(value, 1.0 if name in {"std", "qb_st", "qb_ae"} else 0.5)
    return net.eval(), replace(spec, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))


def untrained_resnet(settings: PeerSettings) -> tuple[nn.Module, ImageSpec]:
    """AnomaVision's PaDiM as it comes, but for the weights of its ResNet-18, which are a download; fitted to noise."""
    torch.manual_seed(0)
    defaults = PeerSettings()
    backbone = enter("resnet18_untrained", torchvision.models.resnet18(weights=None).eval(), _RESNET18_WIDTHS)
    padim = their_padim(backbone, defaults.anomavision_default_layers, defaults.anomavision_default_features)
    with quiet():
        padim.fit([torch.randn(8, 3, *settings.spec.size_hw) for _ in range(2)])
    mean, std = ((255 * r, 255 * g, 255 * b) for r, g, b in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return Judge(padim).eval(), replace(settings.spec, mean=mean, std=std)
