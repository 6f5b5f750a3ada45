"""Three protocols, one code path: metrics, tables and the report."""

from cada_edge.evaluation.classify import Describe
from cada_edge.evaluation.evaluate import evaluate
from cada_edge.evaluation.operating import OperatingPoint, ProductRates
from cada_edge.evaluation.results import EvaluateConfig, Evaluation, Measure, Metrics

__all__ = [
    "Describe",
    "EvaluateConfig",
    "Evaluation",
    "Measure",
    "Metrics",
    "OperatingPoint",
    "ProductRates",
    "evaluate",
]
