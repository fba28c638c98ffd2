"""What every number about imitation means, and in which table it stands."""

from typing import NamedTuple

from raison.report.glossary import Better, Metric


class Group(NamedTuple):
    """A table of the report."""

    title: str
    about: str
    metrics: tuple[Metric, ...]


def _metric(name: str, title: str, better: Better, meaning: str, *words: str) -> Metric:
    formula, edges = (*words, "")[:2]
    return Metric(name, title, "", True, better, meaning, formula, "the four controls", edges)


_K = "k texts of one person are judged together"
_UNREAD = "An answer that can’t be read is left out here and counted as unread."
_COPIES = "People repeat themselves too: read it beside the person’s own."

LABELS = (
    _metric("label", "Label", "higher", "How often the label is the person’s; of ratings around 0, how often their "
            "sign is.", "equal labels divided by labels that were read", _UNREAD),
    _metric("accuracy", "Exact label", "higher", "How often the label is exactly the person’s.",
            "equal labels divided by labels that were read", _UNREAD),
    _metric("sign_accuracy", "Sign", "higher", "How often a rating lies on the person’s side of 0.",
            "ratings of the same sign divided by ratings that were read", _UNREAD),
    _metric("macro_f1", "Macro-F1", "higher", "Agreement in which rare labels count as much as common ones.",
            "the mean over labels of 2 tp / (wanted + given)", "Labels that nobody gave are left out."),
    _metric("kappa", "κ", "higher", "Agreement beyond what the two would reach by chance.",
            "(observed − expected) / (1 − expected), Cohen’s", "Undefined where both always give one label."),
    _metric("distance", "Distance", "lower", "How far a rating lies from the person’s.",
            "mean |wanted − given|, divided by the divisor that the provenance names", _UNREAD),
    _metric("label_error", "Label errors", "lower", "Where people give several labels: how many of the possible "
            "labels are wrongly given or left out.", "labels in one set but not in the other, divided by all labels",
            _UNREAD),
    _metric("unread", "Unread", "lower", "The share of answers without a label that could be read.",
            "missing or unread labels divided by answers of people"),
)  # fmt: skip

GROUNDING = (
    _metric("mrr", "Grounding", "higher", "Whether the item can be found by its explanation, among all test items.",
            "mean reciprocal rank of the item by TF-IDF cosine; ties in random order", _UNREAD),
    _metric("retrieved", "Found first", "higher", "How often the item comes first in that search.",
            "items that come first, divided by explanations", _UNREAD),
)  # fmt: skip

ATTRIBUTION = (
    *(
        _metric(f"attribution_{k}", f"As them, k\u00a0=\u00a0{k}", "higher",
                f"How often an attributor that never saw the generator’s training texts takes the texts for the "
                f"person’s; {_K}.", "groups taken for their person divided by groups",
                "Withheld where label or grounding can’t be told.")
        for k in (1, 5, 10, 20)
    ),
    *(
        _metric(f"imitation_{k}_normalised", f"Imi, k\u00a0=\u00a0{k}", "higher",
                f"Where the attributor’s belief lies between chance (0) and the person’s own texts (1); {_K}.",
                "(Imi − chance) / (Imi of the person − chance), Imi = mean probability of the person",
                "Our definition: the paper’s is not known.")
        for k in (1, 5, 10, 20)
    ),
)  # fmt: skip

TEXT = tuple(
    metric
    for name, title, what in (
        ("rouge_l", "ROUGE-L", "the longest common subsequence of words"), ("rouge_1", "ROUGE-1", "common words"),
        ("chrf", "chrF", "common runs of characters"), ("embedding", "Embedding", "the cosine of two vectors"),
    )
    for metric in (
        _metric(name, title, "higher", f"How like the text is to the person’s, by {what}.", "the mean over answers",
                _UNREAD),
        _metric(f"{name}_margin", f"{title} margin", "higher", "How much more like the person’s text than like those "
                "of the others on the same item.", "similarity to the person minus mean similarity to the others"),
        _metric(f"{name}_wins", f"{title} wins", "higher", "How often it is more like the person’s than like another’s "
                "text; one half is chance.", "pairs won (ties count half) divided by pairs"),
    )
)  # fmt: skip

STYLE = (
    _metric("style_js", "Style apart", "lower", "How far the person’s style features and those given in their name "
            "are apart: length, words of the input, quotes, hedges, negation, …", "Jensen-Shannon divergence in bits; "
            "mean over features and people"),
    _metric("longest_run", "Longest run", "", "How many words in a row are copied from one text of the person’s "
            "history.", "words of the longest run, the mean over texts", _COPIES),
    _metric("copied_share", "Run’s share", "", "The longest copied run as a share of the text.",
            "its words divided by the text’s words", _COPIES),
    _metric("copied_whole", "Copied whole", "", "How many texts stand in the person’s history word for word.",
            "such texts divided by texts", _COPIES),
    _metric("nearest_copied", "Nearest copied", "", "How many are the text that the person gave to the most similar "
            "item they could be learnt from.", "such texts divided by texts", _COPIES),
)  # fmt: skip

POPULATION = (
    _metric("population_manhattan", "Labels apart", "lower", "How far the labels of all stand-ins on an item are from "
            "those of all people.", "sum of absolute differences of their shares, in [0, 2]; the mean over items"),
    _metric("population_jsd", "Labels’ JSD", "lower", "The same, as a divergence.",
            "Jensen-Shannon divergence in bits, in [0, 1]; the mean over items"),
)  # fmt: skip

COMPOSITE = _metric(
    "composite", "Composite", "higher", "One number to choose among systems by, which no control reaches by one trick.",
    "geometric mean of label relative to another person, grounding relative to the person, and Imi at k = 5; "
    "an unread answer counts as wrong", "0 where a part is 0 or less.",
)  # fmt: skip

_AT = {metric.name: metric for metric in ATTRIBUTION}
MAIN = Group(
    "Did it learn the person?",
    "attribution only ever beside label, grounding and the four controls",
    (
        LABELS[0],
        GROUNDING[0],
        *(_AT[name] for name in ("attribution_1", "attribution_5", "attribution_20", "imitation_5_normalised")),
        TEXT[1],
        STYLE[3],
        COMPOSITE,
    ),
)
GROUPS = (
    Group("Labels", "agreement with each person", LABELS),
    Group("Texts", "similarity to the person, and to the person more than to others", TEXT),
    Group("Attribution and grounding", "who is it taken for, and of which item", (LABELS[0], *GROUNDING, *ATTRIBUTION)),
    Group("Style and memory", "habits, and what is copied from the history", STYLE),
    Group("The panel as a whole", "all stand-ins together beside all people", POPULATION),
)
METRICS = {
    metric.name: metric
    for metrics in (LABELS, GROUNDING, ATTRIBUTION, TEXT, STYLE, POPULATION, (COMPOSITE,))
    for metric in metrics
}
FEATURES = {
    "length": "words",
    "input_reuse": "share of words from the input",
    "quotes": "quotation marks",
    "hedges": "words of doubt",
    "negations": "negations",
    "meta_words": "words for the item’s parts",
    "full_stop": "a full stop at the end",
    "template_rate": "share of texts used again",
    "distinct_1": "distinct words",
    "distinct_2": "distinct pairs of words",
    "category": "kinds of reasoning",
}
