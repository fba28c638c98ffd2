"""What every number of a verdict means, and in which direction it is better.

A metric or reference that does not stand here is shown under its own name, with no direction claimed for it.
"""

from typing import Literal, NamedTuple

Better = Literal["higher", "lower", ""]


class Metric(NamedTuple):
    """What a reader must know of one metric."""

    name: str  # as in Cell.metric
    title: str  # as shown
    group: str  # a key of GROUPS
    main: bool  # shown at once, or only with all metrics
    better: Better  # empty = no direction is claimed
    meaning: str
    formula: str
    frame: str  # what it stands beside
    edges: str  # what happens where it is undefined


GROUPS = {
    "alignment": "Agreement with people",
    "faithfulness": "Faithfulness to the model",
    "other": "Other metrics",
}

REFERENCES = {
    "chance": ("chance", "what as many words, drawn at random, reach on average (exact, not simulated)"),
    "select_all": ("select all", "what a source reaches that chooses every word"),
    "human": ("human", "people: for agreement, each person judged against the others (leave one out); for "
              "faithfulness, the words that people marked taken as the rationale"),
    "random": ("random words", "as many words as the source chose, drawn at random (mean of the draws)"),
    "least": ("least words", "as many words as the source chose, but those that it scored lowest"),
    "full": ("every word", "every word masked: the most that any rationale of this model could reach"),
}  # fmt: skip

_FRAME = "Chance, select all, and people judged against each other."
_NO_HUMAN = "A record on which nobody marked a word is left out and counted; a source that chose no word gets 0."
_DRIVEN = "Random words of the same number, the words people marked, the lowest-scored words, and every word."

_METRICS = (
    Metric("f1", "F1", "alignment", True, "higher",
           "How well the words chosen match the words that people marked.",
           "twice the words in common, divided by the words chosen plus the words marked; the mean over records",
           _FRAME, _NO_HUMAN),
    Metric("f1_normalised", "F1, normalised", "alignment", True, "higher",
           "Where F1 lies between chance (0) and people (1). Comparable between data sets; above 1 is possible.",
           "F1 minus chance, divided by human F1 minus chance",
           "It has its references inside: 0 is chance, 1 is people.",
           "Undefined where fewer than two people marked words, or where people agree no better than chance."),
    Metric("iou", "IoU", "alignment", True, "higher",
           "The overlap of chosen and marked words. Stricter than F1, in the same order for a single record.",
           "words in common, divided by words in either; the mean over records", _FRAME, _NO_HUMAN),
    Metric("auprc", "AUPRC", "alignment", True, "higher",
           "Whether high scores fall on marked words, whatever the number of words chosen.",
           "area under precision against recall, as the words are taken from the highest score down",
           "Chance is the share of words that people marked.",
           "Undefined for sources without scores, and for records where all words or none are marked."),
    Metric("precision", "Precision", "alignment", False, "higher",
           "Of the words chosen, the share that people marked.",
           "words in common, divided by words chosen; the mean over records", _FRAME, _NO_HUMAN),
    Metric("recall", "Recall", "alignment", False, "higher",
           "Of the words that people marked, the share that was chosen.",
           "words in common, divided by words marked; the mean over records", _FRAME, _NO_HUMAN),
    Metric("f1_micro", "F1, pooled", "alignment", False, "higher",
           "F1 with the words of all records counted together, so that long records weigh more.",
           "twice all words in common, divided by all words chosen plus all words marked", _FRAME, _NO_HUMAN),
    Metric("span_iou_f1", "Span F1", "alignment", False, "higher",
           "Whether stretches of words are found as stretches (ERASER's IoU-F1).",
           "a stretch chosen is a hit if it overlaps a marked stretch with an IoU of at least one half; "
           "F1 of hits over stretches", _FRAME, _NO_HUMAN),
    Metric("flip_rate", "Flip rate", "faithfulness", True, "higher",
           "How often the model changes its label when the chosen words are masked.",
           "records whose predicted label differs without these words, divided by all records",
           _DRIVEN, "A record without a rationale is left out and counted. A model that answers always the same can't "
           "flip: see the validity verdict."),
    Metric("flip_rate_normalised", "Flip rate, normalised", "faithfulness", True, "higher",
           "Where the flip rate lies between random words (0) and every word (1).",
           "flip rate minus that of random words, divided by that of every word minus that of random words",
           "It has its references inside: 0 is random words, 1 is every word.",
           "Undefined where masking every word flips hardly more than masking random ones (a gap under 0.05)."),
    Metric("comprehensiveness", "Comprehensiveness", "faithfulness", True, "higher",
           "How much of the model's confidence goes when the chosen words are masked.",
           "probability of the predicted label minus its probability without these words; the mean over records",
           _DRIVEN, "A record without a rationale is left out and counted."),
    Metric("sufficiency", "Sufficiency", "faithfulness", True, "lower",
           "How much of the model's confidence is lost when only the chosen words are kept. Near 0, they suffice.",
           "probability of the predicted label minus its probability with only these words; the mean over records",
           _DRIVEN, "A record without a rationale is left out and counted."),
    Metric("aopc_comprehensiveness", "AOPC comprehensiveness", "faithfulness", True, "higher",
           "Comprehensiveness without a choice of budget: averaged over growing shares of the best-scored words.",
           "mean of comprehensiveness over the shares of words on the curve's axis",
           _DRIVEN, "Undefined for sources without scores."),
    Metric("aopc_sufficiency", "AOPC sufficiency", "faithfulness", True, "lower",
           "Sufficiency without a choice of budget: averaged over growing shares of the best-scored words.",
           "mean of sufficiency over the shares of words on the curve's axis",
           _DRIVEN, "Undefined for sources without scores."),
    Metric("sufficiency_flip_rate", "Flip rate, only kept", "faithfulness", False, "lower",
           "How often the model changes its label when only the chosen words are kept.",
           "records whose predicted label differs with only these words, divided by all records",
           _DRIVEN, "A record without a rationale is left out and counted."),
)  # fmt: skip

METRICS = {metric.name: metric for metric in _METRICS}


def describe(name: str) -> Metric:
    """Give what is known of a metric; an unknown one has its name as title and no direction."""
    known = METRICS.get(name)
    if known:
        return known
    meaning = "No description: this metric is not one of raison’s."
    return Metric(name, name.replace("_", " "), "other", True, "", meaning, "", "", "")


def ordered(names: list[str]) -> list[Metric]:
    """Describe metrics in the order of the glossary, unknown ones last in the order given; each once."""
    known = [metric for metric in _METRICS if metric.name in names]
    return known + [describe(name) for name in dict.fromkeys(names) if name not in METRICS]


def reference_title(name: str) -> str:
    """Give the name of a reference as shown."""
    return REFERENCES.get(name, (name.replace("_", " "), ""))[0]
