"""Good images in, a bundle out (torch)."""

from cada_edge.training.config import AugmentConfig, FitConfig, HeadFitConfig, TrainConfig
from cada_edge.training.train import train

__all__ = ["AugmentConfig", "FitConfig", "HeadFitConfig", "TrainConfig", "train"]
