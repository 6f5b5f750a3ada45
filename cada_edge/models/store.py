"""Models to bundle files and back: safetensors only."""

from __future__ import annotations

from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from cada_edge.bundle import Bundle, Component
from cada_edge.errors import BundleError, ConfigError
from cada_edge.models.detector import detector_class
from cada_edge.models.encoder import Encoder, EncoderConfig
from cada_edge.models.foreign import GRAPH
from cada_edge.models.foreign_model import ForeignDetector, ForeignModel
from cada_edge.models.head import CadaHead, build_head
from cada_edge.models.unified import UnifiedModel
from cada_edge.types import from_json

_PARTS = ("encoder", "detector", "head")


def model_files(model: UnifiedModel) -> dict[str, bytes]:
    """One safetensors file per part, and the graph of a foreign detector: name to content."""
    files = {f"{part}.safetensors": _dump(getattr(model, part)) for part in _PARTS}
    return {**files, GRAPH: model.detector.graph} if isinstance(model.detector, ForeignDetector) else files


def components(model: UnifiedModel) -> tuple[Component, Component]:
    """How the manifest describes detector and head."""
    return (
        Component(model.detector.kind, model.detector_config()),
        Component(CadaHead.kind, model.head.config()),
    )


def load_model(bundle: Bundle) -> UnifiedModel:
    """Rebuild the model of a bundle, in eval mode, on the CPU.

    Raises `BundleError` when kinds are unknown or weights do not fit.
    """
    manifest = bundle.manifest
    config: dict[str, Any] = dict(manifest.detector.config)
    try:
        encoder = Encoder(from_json(EncoderConfig, config["encoder"]), load_weights=False)
        build = detector_class(manifest.detector.kind).build
        detector = build(config["detector"], encoder.channels, encoder.strides, manifest.map_spec)
        head = build_head(manifest.head.kind, dict(manifest.head.config), sum(encoder.channels))
    except (ConfigError, KeyError, TypeError) as error:
        raise BundleError(f"bundle.json: detector or head cannot be rebuilt: {error}") from error
    if isinstance(detector, ForeignDetector):
        detector.graph = bundle.file(GRAPH, "wrap the foreign model again")
        model: UnifiedModel = ForeignModel(manifest.spec, manifest.map_spec, encoder, detector, head)
    else:
        model = UnifiedModel(manifest.spec, manifest.map_spec, encoder, detector, head)
    for part in _PARTS:
        _load(getattr(model, part), bundle.file(f"{part}.safetensors", "train the bundle again"), part)
    return model.eval()


def _dump(module: nn.Module) -> bytes:
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()})


def _load(module: nn.Module, content: bytes, part: str) -> None:
    try:
        module.load_state_dict(load(content))
    except (SafetensorError, RuntimeError) as error:
        raise BundleError(f"{part}.safetensors does not fit the manifest: {error}; train the bundle again") from error
