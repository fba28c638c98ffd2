"""Grounding: can the item that an explanation is about be found by it, among all that were asked about?

A text that ignores its item may sound like the person all the same, so nothing about style is told without this.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from raison.annotators.similarity import Encode, words_of
from raison.annotators.vectors import function_words
from raison.records import Record

Values = NDArray[np.float64]


class Retrieval(NamedTuple):
    """What a search for the items gave."""

    reciprocal: Values  # (n,): expected reciprocal rank of the item; its mean is MRR
    first: Values  # (n,): probability that the item comes first
    chance: float  # the mean reciprocal rank of a random order, sum(1 / r) / items
    chance_first: float  # 1 / items


def input_text(record: Record) -> str:
    """Give the texts of an item as one."""
    return "\n".join(record.fields.values())


def tfidf(corpus: Sequence[str]) -> Encode:
    """Make an encoder: TF-IDF of the content words of a corpus, rows of length 1; other words are passed over.

    Function words tell no item from another, and a text that shares them with an item is not about it.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    cut: Any = _content_words
    vectorizer = TfidfVectorizer(analyzer=cut)
    vectorizer.fit(corpus if any(map(_content_words, corpus)) else ["word"])
    return vectorizer.transform  # pyright: ignore[reportReturnType]


def _content_words(text: str) -> list[str]:
    known = function_words()
    return [word for word in words_of(text) if word not in known]


def retrieve(texts: Sequence[str], items: Sequence[str], targets: Sequence[int], encode: Encode) -> Retrieval:
    """Rank all items by their cosine with each text, and see where the text's own item comes.

    Items that tie are in random order: the rank is not drawn, but its expectation taken, so that a text that is alike
    to every item (an empty one, say) gets exactly chance.

    Args:
        texts: explanations, (n,).
        items: the texts of the items to choose from.
        targets: place of each text's item in `items`.
        encode: makes vectors of both.
    """
    if not items or not all(0 <= target < len(items) for target in targets):
        raise ValueError(f"targets: expected places among {len(items)} items, got {list(targets)}")
    scores = _cosines(encode(list(texts)), encode(list(items))) if texts else np.zeros((0, len(items)))
    own = scores[np.arange(len(texts)), np.asarray(targets, dtype=np.int64)][:, None]
    before, not_after = (scores > own + 1e-12).sum(axis=1), (scores >= own - 1e-12).sum(axis=1)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, len(items) + 1))])
    reciprocal = (harmonic[not_after] - harmonic[before]) / (not_after - before)
    first = np.where(before == 0, 1 / not_after, 0.0)
    return Retrieval(reciprocal, first, float(harmonic[-1]) / len(items), 1 / len(items))


def nearest(texts: Sequence[str], others: Sequence[str], encode: Encode) -> list[int]:
    """Give for each text the place of the other text whose cosine with it is highest; of ties the first.

    Raises:
        ValueError: there are no other texts.
    """
    if not others:
        raise ValueError("nearest: there is nothing to choose from")
    if not texts:
        return []
    return [int(place) for place in np.round(_cosines(encode(list(texts)), encode(list(others))), 12).argmax(axis=1)]


def _cosines(one: object, other: object) -> Values:
    """Give the cosines (n, m) of the rows of two arrays, dense or sparse; 0 with a row of zeros."""
    product = _rows(one) @ _rows(other).T
    return np.asarray(product.toarray() if sparse.issparse(product) else product, dtype=np.float64)


def _rows(vectors: object) -> Any:
    """Scale rows to length 1, sparse or dense as they came."""
    from sklearn.preprocessing import normalize

    return normalize(vectors)
