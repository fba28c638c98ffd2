"""Grades by the planted truth: do scores find the planted words, does a metric know a true rationale from another?"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from raison.rationales import Rationale, WordScores, top_k
from raison.records import InputError, Record
from raison.testbed import lexicon
from raison.testbed.corpus import truth_mask
from raison.words import Mask, Segmenter, WordGrid, whitespace_words, word_grid


class Grade(msgspec.Struct, frozen=True):
    """How one explainer or metric did, record by record."""

    values: tuple[float, ...]  # of each record that has planted words
    chance: float  # mean that choosing at random would reach

    @property
    def value(self) -> float:
        """The mean over records; NaN without one."""
        return float(np.mean(self.values)) if self.values else float("nan")


def grade_scores(
    scores: Sequence[WordScores], records: Sequence[Record], segment: Segmenter = whitespace_words
) -> Grade:
    """Give the recall of the planted words among as many highest words: 1 where all of them are found.

    Args:
        scores: of the records, in any order.
        records: of a corpus with a planted truth; those without a planted word are left out.
        segment: the words that the scores are for.

    Returns:
        Recalls; chance is planted words over words.

    Raises:
        InputError: a record has no scores.
    """
    by_id = {item.record_id: item for item in scores}
    recalls: list[float] = []
    chances: list[float] = []
    for record in records:
        grid = word_grid(record, segment)
        truth = truth_mask(record, grid)
        if record.id not in by_id:
            raise InputError(f"record {record.id!r} has no scores")
        if truth.any():
            chosen = top_k(grid.join(by_id[record.id].scores, fill=np.nan), int(truth.sum()))
            recalls.append(float((chosen & truth).sum() / truth.sum()))
            chances.append(float(truth.mean()))
    return Grade(tuple(recalls), float(np.mean(chances)) if chances else float("nan"))


def grade_metric(
    metric: Callable[[Sequence[Mask]], Sequence[float]],
    records: Sequence[Record],
    seed: int = 0,
    segment: Segmenter = whitespace_words,
) -> Grade:
    """Give the share of records where a metric sets the true rationale above a random one of equal size.

    Args:
        metric: takes one mask (words,) for each record, and gives a value for each; higher is better.
        records: of a corpus with a planted truth; those without a planted word count for nothing.
        seed: of the random rationales.
        segment: what a word is.

    Returns:
        1 where the true one is above, 0 where it is below, 1/2 where they are equal; chance is 1/2.
    """
    rng = np.random.default_rng(seed)
    true = [truth_mask(record, word_grid(record, segment)) for record in records]
    wrong = [rng.permutation(mask) for mask in true]
    pairs = zip(true, metric(true), metric(wrong), strict=True)
    values = [0.5 + 0.5 * float(np.sign(above - below)) for mask, above, below in pairs if mask.any()]
    return Grade(tuple(values), 0.5)


CUES = {
    *lexicon.PLAIN,
    *lexicon.NEGATORS,
    *filter(None, lexicon.ADVERBS),
    *(word for words in lexicon.OPINIONS.values() for word in words),
    *(word for words in lexicon.CONCEPTS.values() for word in words),
}
NOISE = 0.01  # of rival scores: enough for an order of the words that are marked alike


def rivals(
    records: Sequence[Record], seed: int = 0, segment: Segmenter = whitespace_words
) -> dict[str, list[WordScores | Rationale]]:
    """Make rationales of which it is known whether they are true, to grade metrics of faithfulness with.

    Args:
        records: of a corpus with a planted truth; those without a planted word are left out.
        seed: of the draws.
        segment: what a word is.

    Returns:
        Four sources, for `evaluate(..., budget="match:truth")`: `truth`, the planted words as a rationale; as scores
        `planted`, the planted words on top; and against it, with as many other words on top, `random_words`, drawn
        from all words that are not planted, and `distractors`, drawn first from those that look like a cue but
        decide nothing (adjectives, adverbs and negators elsewhere). Where they are too few, random words fill up; a
        record without any has no scores of `distractors`. Scores are 1 on top and 0 below, plus a little noise (the
        same for all sources of a record) that gives the words an order.
    """
    found: dict[str, list[WordScores | Rationale]] = {
        name: [] for name in ("truth", "planted", "random_words", "distractors")
    }
    for record in records:
        grid = word_grid(record, segment)
        truth = truth_mask(record, grid)
        if not truth.any():
            continue
        rng = np.random.default_rng([seed, *record.id.encode()])
        order, noise = rng.random(len(grid)), NOISE * rng.random(len(grid))
        cues = _cues(record, grid) & ~truth
        found["truth"].append(Rationale(record.id, "truth", grid.split(truth)))
        tops = {"planted": truth, "random_words": _drawn(order, ~truth, truth.sum())}
        if cues.any():
            tops["distractors"] = _drawn(order + cues, ~truth, truth.sum())
        for name, top in tops.items():
            scores = (top + noise).astype(np.float32)
            found[name].append(WordScores(record.id, name, None, grid.split(scores)))
    return found


def _drawn(order: NDArray[np.float64], eligible: Mask, size: int) -> Mask:
    """Mark the eligible words that come first, from the highest number down."""
    return top_k(np.where(eligible, order, np.nan).astype(np.float32), int(size))


def _cues(record: Record, grid: WordGrid) -> Mask:
    """Mark the words that stand in the places of planted words, whether they decide or not."""
    words = {
        name: [record.fields[name][start:end].strip(".,").lower() in CUES for start, end in spans]
        for name, spans in grid.words.items()
    }
    return grid.join({name: np.array(marks, dtype=np.bool_) for name, marks in words.items()}, fill=False)
