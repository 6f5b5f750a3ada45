"""Encoders, detectors and the CADA head (torch)."""

from cada_edge.models.detector import Detector, detector_class, detector_kinds, register
from cada_edge.models.encoder import Encoder, EncoderConfig, image_spec
from cada_edge.models.flow import FeatureFlow, FlowConfig
from cada_edge.models.head import CadaHead, CadaHeadConfig
from cada_edge.models.patch_memory import PatchMemory, PatchMemoryConfig
from cada_edge.models.revdist import RevDist, RevDistConfig
from cada_edge.models.runner import TorchRunner
from cada_edge.models.store import load_model
from cada_edge.models.transformer import FeatureTransformer, TransformerConfig
from cada_edge.models.unified import UnifiedModel

__all__ = [
    "CadaHead",
    "CadaHeadConfig",
    "Detector",
    "Encoder",
    "EncoderConfig",
    "FeatureFlow",
    "FeatureTransformer",
    "FlowConfig",
    "PatchMemory",
    "PatchMemoryConfig",
    "RevDist",
    "RevDistConfig",
    "TorchRunner",
    "TransformerConfig",
    "UnifiedModel",
    "detector_class",
    "detector_kinds",
    "image_spec",
    "load_model",
    "register",
]
