"""Style: countable habits of texts, and how far two sets of texts differ in them.

The paper compares distributions of features such as length and reuse of the input by their divergence; which features
it has, and how it smooths, is not known: this choice is ours.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from math import nan

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from raison.annotators.profile import HEDGES, NEGATIONS
from raison.annotators.similarity import words_of

Values = NDArray[np.float64]

QUOTES = '"“”«»'
PARTS = frozenset({  # words for the parts of an item, beside the names of its fields
    "premise", "hypothesis", "context", "statement", "sentence", "sentences", "text", "question", "questions", "q1",
    "q2", "qs", "s1", "s2", "p", "h",
})  # fmt: skip
META = PARTS | {  # and for its task
    "entailment", "neutral", "contradiction", "entail", "entails", "contradicts", "paraphrase", "paraphrases",
}  # fmt: skip
FEATURES = {  # name -> what is counted in a text
    "length": "words",
    "input_reuse": "share of its words that stand in the input",
    "quotes": "double quotation marks",
    "hedges": "words of doubt (may, probably, seems)",
    "negations": "words that negate (not, no, n't)",
    "meta_words": "words for the parts of the item (premise, statement, Q1)",
    "full_stop": "1 if it ends with a full stop",
}
BINS = 10
PRIOR = 0.5  # added to every bin, so that a feature seen in one set alone has a finite divergence


def features(texts: Sequence[str], inputs: Sequence[str], names: Collection[str] = ()) -> dict[str, Values]:
    """Count the features of texts.

    Args:
        texts: explanations.
        inputs: the text of the item of each.
        names: of the items' fields, which count as words for their parts.

    Returns:
        Feature -> (n,), in the order of `FEATURES`. Of a text without words the share of the input's is NaN.
    """
    meta = META | {word for name in names for word in words_of(name)}
    rows = [_row(text, source, meta) for text, source in zip(texts, inputs, strict=True)]
    table = np.array(rows, dtype=np.float64).reshape(len(texts), len(FEATURES))
    return dict(zip(FEATURES, table.T, strict=True))


def _row(text: str, source: str, meta: Collection[str]) -> tuple[float, ...]:
    words, known = words_of(text), set(words_of(source))
    return (
        len(words),
        sum(word in known for word in words) / len(words) if words else nan,
        sum(text.count(mark) for mark in QUOTES),
        sum(word in HEDGES for word in words),
        sum(word in NEGATIONS for word in words) + text.lower().replace("’", "'").count("n't"),
        sum(word in meta for word in words),
        text.rstrip().endswith("."),
    )


def edges_of(values: ArrayLike) -> Values:
    """Give inner edges of at most ten bins: between the deciles of the values, or between all where they are few."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    distinct = np.unique(known)
    if len(distinct) > BINS:
        distinct = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1], method="inverted_cdf"))
    return (distinct[1:] + distinct[:-1]) / 2


def binned(values: ArrayLike, edges: ArrayLike) -> NDArray[np.int64]:
    """Give the bin of each value, 0 to len(edges); -1 for NaN."""
    known = np.asarray(values, dtype=np.float64)
    return np.where(np.isnan(known), -1, np.searchsorted(np.asarray(edges), known, side="right"))


def divergences(theirs: ArrayLike, given: ArrayLike) -> tuple[Values, Values]:
    """Give KL(theirs | given) and their Jensen-Shannon divergence, in bits, of counts smoothed by one half each.

    `theirs` and `given` are (..., bins) counts; both results are (...). KL is 0 or more, the other in [0, 1]. NaN
    where either has no counts.
    """
    one, other = (np.asarray(counts, dtype=np.float64) for counts in (theirs, given))
    known = (one.sum(axis=-1) > 0) & (other.sum(axis=-1) > 0)
    p, q = ((counts + PRIOR) / (counts + PRIOR).sum(axis=-1, keepdims=True) for counts in (one, other))
    middle = (p + q) / 2
    shannon = (_relative(p, middle) + _relative(q, middle)) / 2
    return np.where(known, _relative(p, q), nan), np.where(known, shannon, nan)


def _relative(p: Values, q: Values) -> Values:
    return (p * np.log2(p / q)).sum(axis=-1)


def template_rate(texts: Sequence[str]) -> float:
    """Give the share of texts that stand among them more than once, without case and punctuation; NaN for none."""
    known = [" ".join(words_of(text)) for text in texts]
    counts = Counter(known)
    return sum(counts[text] > 1 for text in known) / len(known) if known else nan


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Give the distinct runs of n words divided by all of them (Li et al. 2016); NaN where there are none."""
    runs = [tuple(words[i : i + n]) for words in map(words_of, texts) for i in range(len(words) - n + 1)]
    return len(set(runs)) / len(runs) if runs else nan


class Habit(msgspec.Struct, frozen=True):
    """One habit of one person, in what they wrote and in what was written in their name."""

    annotator: str
    source: str
    feature: str  # of `FEATURES`; "category", whose means are empty; or a rate of the whole set, without divergences
    theirs: float | None  # mean; None = undefined
    given: float | None
    kl: float | None = None  # bits
    js: float | None = None  # bits
    wasserstein: float | None = None  # in the feature's own unit


def habit(annotator: str, source: str, feature: str, theirs: ArrayLike, given: ArrayLike) -> Habit:
    """Compare the values of a feature, NaN = undefined, in bins of the person's own."""
    from scipy.stats import wasserstein_distance

    one, other = (values[~np.isnan(values)] for values in (np.asarray(theirs, float), np.asarray(given, float)))
    if not len(one) or not len(other):
        return Habit(annotator, source, feature, _mean(one), _mean(other))
    edges = edges_of(one)
    counts = [np.bincount(binned(values, edges), minlength=len(edges) + 1) for values in (one, other)]
    kl, js = divergences(*counts)
    away = float(wasserstein_distance(one, other))
    return Habit(annotator, source, feature, _mean(one), _mean(other), float(kl), float(js), away)


def corpus_habits(annotator: str, source: str, theirs: Sequence[str], given: Sequence[str]) -> list[Habit]:
    """Compare what only a whole set of texts has: the share of templates, and how varied its words are."""
    rates = {
        "template_rate": (template_rate(theirs), template_rate(given)),
        "distinct_1": (distinct_n(theirs, 1), distinct_n(given, 1)),
        "distinct_2": (distinct_n(theirs, 2), distinct_n(given, 2)),
    }
    return [Habit(annotator, source, name, *map(_defined, pair)) for name, pair in rates.items()]


def category_habit(annotator: str, source: str, theirs: Sequence[str], given: Sequence[str]) -> Habit | None:
    """Compare the kinds of reasoning of two sets of texts; None where either knows none."""
    if not theirs or not given:
        return None
    names = sorted({*theirs, *given})
    counts = [[column.count(name) for name in names] for column in (list(theirs), list(given))]
    kl, js = divergences(*counts)
    return Habit(annotator, source, "category", None, None, float(kl), float(js))


def _mean(values: Values) -> float | None:
    return float(values.mean()) if len(values) else None


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else value
