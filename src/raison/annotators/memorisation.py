"""Memorisation: how much of what is written in a person's name is copied from what they wrote before."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raison.annotators.similarity import words_of

Values = NDArray[np.float64]


class Copying(NamedTuple):
    """How far texts repeat a history, one number each."""

    longest: Values  # words in the longest run that stands in one text of the history
    share: Values  # that run as a share of the text's words; 0 for a text without words
    whole: Values  # 1 where the text, without case and punctuation, is one of the history


def longest_run(text: str, history: Sequence[str]) -> int:
    """Give how many words the longest run of a text has that stands, in this order, in one text of the history.

    Words are compared without case and punctuation. Time grows with the words of the text times the history's length.
    """
    return _longest(words_of(text), _joined(history))


def copying(texts: Sequence[str], history: Sequence[str]) -> Copying:
    """Measure how far texts of one person repeat what they wrote before."""
    joined, known = _joined(history), {" ".join(words_of(text)) for text in history}
    cut = [words_of(text) for text in texts]
    longest = np.array([_longest(words, joined) for words in cut], dtype=np.float64)
    lengths = np.array([len(words) for words in cut], dtype=np.float64)
    whole = np.array([bool(words) and " ".join(words) in known for words in cut], dtype=np.float64)
    return Copying(longest, np.divide(longest, lengths, out=np.zeros_like(longest), where=lengths > 0), whole)


def same_text(text: str, others: Collection[str]) -> bool:
    """Tell whether a text is, without case and punctuation, one of others; a text without words is none."""
    words = words_of(text)
    return bool(words) and words in [words_of(other) for other in others]


def _joined(history: Sequence[str]) -> str:
    """Write the words of all texts with a space around each, a line for each text."""
    return "\n".join(f" {' '.join(words_of(text))} " for text in history)


def _longest(words: Sequence[str], joined: str) -> int:
    """Move a window over the words that only ever grows: it shifts where it is not found."""
    size = 0
    for end in range(1, len(words) + 1):
        if f" {' '.join(words[end - size - 1 : end])} " in joined:
            size += 1
    return size
