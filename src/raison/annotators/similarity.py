"""How near a text comes to what a person said, and how much nearer than to what others said of the same item.

Similarity alone says little: two explanations of one item share its words, and a person who always writes the same is
matched by repeating it. So each measure goes with its specificity margin and its win rate.
"""

import re
from collections.abc import Callable, Sequence
from math import nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Measure = Callable[[Sequence[str], Sequence[str]], Values]  # two texts in each place -> how alike they are, in [0, 1]
Encode = Callable[[Sequence[str]], NDArray[Any]]  # texts -> vectors (n, d)

_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """Give the words of a text in lower case, without punctuation: letters and digits of any script."""
    return _WORD.findall(text.lower())


class _Words:
    """Cuts as rouge-score does, but keeps letters that are not a to z."""

    def tokenize(self, text: str) -> list[str]:
        return words_of(text)


def rouge_1(texts: Sequence[str], others: Sequence[str]) -> Values:
    """Give ROUGE-1 F1 of the texts in each place (Lin 2004), by rouge-score without stemming; 0 for an empty text."""
    return _rouge("rouge1", texts, others)


def rouge_l(texts: Sequence[str], others: Sequence[str]) -> Values:
    """Give ROUGE-L F1, of the longest common subsequence of words (Lin 2004), by rouge-score without stemming."""
    return _rouge("rougeL", texts, others)


def _rouge(kind: str, texts: Sequence[str], others: Sequence[str]) -> Values:
    from rouge_score.rouge_scorer import RougeScorer  # pyright: ignore[reportMissingTypeStubs]

    scorer: Any = RougeScorer([kind], tokenizer=_Words())
    return _paired(lambda text, other: float(scorer.score(other, text)[kind].fmeasure), texts, others)


def chrf(texts: Sequence[str], others: Sequence[str]) -> Values:
    """Give chrF2 of each text against the other in its place (Popović 2015), by sacrebleu, divided by 100."""
    from sacrebleu.metrics.chrf import CHRF

    scorer = CHRF()
    return _paired(lambda text, other: scorer.sentence_score(text, [other]).score / 100, texts, others)


def cosine(encode: Encode) -> Measure:
    """Make a measure of any encoder of texts: the cosine of two vectors, 0 where one of them is all zeros."""

    def measure(texts: Sequence[str], others: Sequence[str]) -> Values:
        one, other = (_unit(encode(column)) for column in (texts, others))
        return (one * other).sum(axis=1)

    return measure


def _unit(vectors: NDArray[Any]) -> Values:
    rows = np.asarray(vectors, dtype=np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)


def _paired(score: Callable[[str, str], float], texts: Sequence[str], others: Sequence[str]) -> Values:
    """Score each pair; equal pairs once, since templates come back often."""
    known: dict[tuple[str, str], float] = {}
    for pair in zip(texts, others, strict=True):
        if pair not in known:
            known[pair] = score(*pair)
    return np.array([known[pair] for pair in zip(texts, others, strict=True)], dtype=np.float64)


MEASURES: dict[str, Measure] = {"rouge_1": rouge_1, "rouge_l": rouge_l, "chrf": chrf}


class Specificity(NamedTuple):
    """Of texts written in a person's name, one number each; NaN where it is undefined."""

    target: Values  # similarity to what the person said
    margin: Values  # that minus the mean similarity to what the others said of the item; NaN without others
    wins: Values  # share of the others to whose text it is less similar than to the person's; a tie counts half


def specificity(
    measure: Measure, texts: Sequence[str | None], targets: Sequence[str | None], others: Sequence[Sequence[str]]
) -> Specificity:
    """Measure whether texts come nearer to their person than to the others.

    Args:
        measure: compares texts in pairs.
        texts: what was written in somebody's name; None = could not be read, undefined throughout.
        targets: what that person said of the item; None = nothing.
        others: what the others said of it.

    Returns:
        `target`, `margin` and `wins`, each (n,). Of a text the margin for one person is minus that for another where
        the two are the only ones.
    """
    rows = [row for row, (text, target) in enumerate(zip(texts, targets, strict=True)) if None not in (text, target)]
    pairs = [(row, texts[row] or "", other) for row in rows for other in (targets[row] or "", *others[row])]
    scores = measure([text for _, text, _ in pairs], [other for *_, other in pairs])
    found = np.full((3, len(texts)), nan)
    start = 0
    for row in rows:
        own, rest = scores[start], scores[start + 1 : start + 1 + len(others[row])]
        found[0, row] = own
        if len(rest):
            found[1:, row] = own - rest.mean(), (np.mean(own > rest) + np.mean(own >= rest)) / 2
        start += 1 + len(rest)
    return Specificity(*found)
