"""The testbed: corpora with a planted truth, and the grades of explainers and metrics that follow from it."""

from raison.testbed.corpus import LABELS, PEOPLE, Kind, Person, make_corpus, rule_label, truth_mask
from raison.testbed.grade import Grade, grade_metric, grade_scores, rivals
from raison.testbed.shortcut import SHORTCUTS, with_shortcut

__all__ = [
    "LABELS",
    "PEOPLE",
    "SHORTCUTS",
    "Grade",
    "Kind",
    "Person",
    "grade_metric",
    "grade_scores",
    "make_corpus",
    "rivals",
    "rule_label",
    "truth_mask",
    "with_shortcut",
]
