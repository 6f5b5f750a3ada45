"""Three protocols, one code path: metrics, tables and the report."""

from cada_edge.evaluation.evaluate import evaluate
from cada_edge.evaluation.results import EvaluateConfig, Evaluation, Measure, Metrics, OperatingPoint

__all__ = ["EvaluateConfig", "Evaluation", "Measure", "Metrics", "OperatingPoint", "evaluate"]
