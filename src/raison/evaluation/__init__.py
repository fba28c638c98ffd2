"""The judgement of rationales: agreement with people, faithfulness to the model, validity, statistics."""

from raison.evaluation.evaluate import Options, evaluate
from raison.evaluation.results import Cell, Comparison, Curve, Item, Verdict
from raison.evaluation.statistics import Estimate

__all__ = ["Cell", "Comparison", "Curve", "Estimate", "Item", "Options", "Verdict", "evaluate"]
