"""Encoders, detectors and the CADA head (torch)."""

from cada_edge.models.detector import Detector, register
from cada_edge.models.encoder import Encoder, EncoderConfig, image_spec
from cada_edge.models.head import CadaHead, CadaHeadConfig
from cada_edge.models.revdist import RevDist, RevDistConfig
from cada_edge.models.runner import TorchRunner
from cada_edge.models.store import load_model
from cada_edge.models.unified import UnifiedModel

__all__ = [
    "CadaHead",
    "CadaHeadConfig",
    "Detector",
    "Encoder",
    "EncoderConfig",
    "RevDist",
    "RevDistConfig",
    "TorchRunner",
    "UnifiedModel",
    "image_spec",
    "load_model",
    "register",
]
