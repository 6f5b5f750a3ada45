"""Good images in, a bundle out (torch)."""

from cada_edge.training.config import AugmentConfig, FitConfig, HeadFitConfig, TrainConfig, fit_config, trained_class
from cada_edge.training.train import train

__all__ = ["AugmentConfig", "FitConfig", "HeadFitConfig", "TrainConfig", "fit_config", "train", "trained_class"]
