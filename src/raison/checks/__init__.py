"""Checks of explanations in words: is what a model says of its answers what its answers rest on?"""

from raison.checks.ccshap import cc_shap
from raison.checks.chain import interventions
from raison.checks.insertion import insertion_test
from raison.checks.redaction import self_consistency
from raison.checks.results import Cost, Summary, run_to_file
from raison.checks.subject import Answer, Scored, Spoken, Subject
from raison.checks.wording import load_wording

__all__ = [
    "Answer",
    "Cost",
    "Scored",
    "Spoken",
    "Subject",
    "Summary",
    "cc_shap",
    "insertion_test",
    "interventions",
    "load_wording",
    "run_to_file",
    "self_consistency",
]
