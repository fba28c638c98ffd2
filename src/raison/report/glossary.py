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
    "chance": ("chance", "what a random choice of as many words (for AUPRC: a random order of the words) reaches on "
               "average; computed, not drawn"),
    "select_all": ("select all", "what a source reaches that chooses every word"),
    "human": ("human", "people: for agreement, each person judged against the others (leave one out); for "
              "faithfulness, the words that people marked taken as the rationale"),
    "random": ("random words", "as many words as the source chose, drawn at random (mean of the draws); for AOPC, the "
               "source of random scores"),
    "least": ("least words", "as many words as the source chose, but those that it scored lowest"),
    "full": ("every word", "every word masked: about the most that taking words away can do"),
}  # fmt: skip

_PEOPLE = "Chance, select all, and people judged against each other."
_POOLED = "It has no references of its own: read it beside F1."
_NO_HUMAN = (
    "A record on which nobody marked a word is left out and counted. A source that chose no word gets 0, and so does "
    "the comparison with a person who marked none where others did."
)
_REMOVED = "Random words of the same number, the words people marked, the lowest-scored words, and every word."
_KEPT = "Random words of the same number kept, and no word kept."
_EMPTY = "A record without a rationale is left out and counted; one with no words in it changes nothing."
_UNSCORED = "Undefined for sources without scores."

_METRICS = (
    Metric("f1", "F1", "alignment", True, "higher",
           "How well the words chosen match the words that people marked.",
           "twice the words in common, divided by the words chosen plus the words marked; the mean over records",
           _PEOPLE, _NO_HUMAN),
    Metric("f1_normalised", "Normalised F1", "alignment", True, "higher",
           "Where F1 lies between chance (0) and people (1). Comparable between data sets; above 1 is possible.",
           "F1 minus chance, divided by human F1 minus chance",
           "It has its references inside: 0 is chance, 1 is people.",
           "Undefined where fewer than two people were asked, or where people agree no better than chance."),
    Metric("iou", "IoU", "alignment", True, "higher",
           "The overlap of chosen and marked words: F1 with a stricter scale.",
           "words in common, divided by words in either; the mean over records", _PEOPLE, _NO_HUMAN),
    Metric("auprc", "AUPRC", "alignment", True, "higher",
           "Whether high scores fall on marked words, whatever the number of words chosen.",
           "area under precision against recall, as the words are taken from the highest score down",
           "Chance, and people judged against each other.",
           f"{_UNSCORED} A person who marked every word or none is left out."),
    Metric("precision", "Precision", "alignment", False, "higher",
           "Of the words chosen, the share that people marked.",
           "words in common, divided by words chosen; the mean over records", _PEOPLE, _NO_HUMAN),
    Metric("recall", "Recall", "alignment", False, "higher",
           "Of the words that people marked, the share that was chosen.",
           "words in common, divided by words marked; the mean over records", _PEOPLE, _NO_HUMAN),
    Metric("f1_micro", "Pooled F1", "alignment", False, "higher",
           "F1 with the words of all records counted together, so that long records weigh more.",
           "twice all words in common, divided by all words chosen plus all words marked", _POOLED, _NO_HUMAN),
    Metric("span_iou_f1", "Span F1", "alignment", False, "higher",
           "Whether stretches of words are found as stretches (ERASER’s IoU-F1).",
           "a stretch chosen is a hit if it overlaps a marked stretch with an IoU of at least one half; twice the "
           "hits, divided by stretches chosen plus stretches marked, counted over all records", _POOLED, _NO_HUMAN),
    Metric("flip_rate", "Flip rate", "faithfulness", True, "higher",
           "How often the model changes its label when the chosen words are masked.",
           "records whose predicted label differs without these words, divided by all records",
           _REMOVED, f"{_EMPTY} A model that always answers the same can’t flip: see the validity verdict."),
    Metric("flip_rate_normalised", "Normalised flip rate", "faithfulness", True, "higher",
           "Where the flip rate lies between random words (0) and every word (1).",
           "flip rate minus that of random words, divided by that of every word minus that of random words",
           "It has its references inside: 0 is random words, 1 is every word.",
           "Undefined where masking every word flips no more than masking random ones does."),
    Metric("comprehensiveness", "Comprehensiveness", "faithfulness", True, "higher",
           "How much of the model’s confidence goes when the chosen words are masked.",
           "probability of the predicted label minus its probability without these words; the mean over records",
           _REMOVED, _EMPTY),
    Metric("sufficiency", "Sufficiency", "faithfulness", True, "lower",
           "How much of the model’s confidence is lost when only the chosen words are kept. Near 0, they suffice.",
           "probability of the predicted label minus its probability with only these words; the mean over records",
           _KEPT, "A record without a rationale is left out and counted."),
    Metric("aopc_comprehensiveness", "AOPC comprehensiveness", "faithfulness", True, "higher",
           "Comprehensiveness without a choice of budget: averaged over growing shares of the best-scored words.",
           "mean of comprehensiveness over the shares of words on the curve’s axis",
           "The source of random scores, where one was judged.", _UNSCORED),
    Metric("aopc_sufficiency", "AOPC sufficiency", "faithfulness", True, "lower",
           "Sufficiency without a choice of budget: averaged over growing shares of the best-scored words.",
           "mean of sufficiency over the shares of words on the curve’s axis",
           "The source of random scores, where one was judged.", _UNSCORED),
    Metric("tau_loo", "Leave-one-out τ", "faithfulness", True, "higher",
           "Whether the order of the scores is the order in which single words matter to the model.",
           "Kendall’s τ-b between the scores and the drop of confidence when each word alone is masked; the mean over "
           "records", "0 is no relation, 1 the same order, −1 the reverse.",
           f"{_UNSCORED} A record of fewer than two words, or with all scores or all drops alike, is left out."),
    Metric("sufficiency_flip_rate", "Kept-only flip rate", "faithfulness", False, "lower",
           "How often the model changes its label when only the chosen words are kept.",
           "records whose predicted label differs with only these words, divided by all records",
           _KEPT, "A record without a rationale is left out and counted."),
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
