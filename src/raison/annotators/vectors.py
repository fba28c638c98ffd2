"""Texts as vectors: TF-IDF of words or characters, reduced or not, or the states of any sentence encoder.

A vectoriser is fitted on the texts it may know and then takes any; nothing of a text that it does not know enters it.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
Encode = Callable[[Sequence[str]], NDArray[Any]]  # texts -> vectors (n, d)

DIMENSIONS = 200
EXACT = 3000  # texts up to which the projection is exact
RARE = 2  # a term that stands in fewer texts tells nothing of a habit
KINDS = ("words", "chars")
CONTRACTED = frozenset({  # but not "won", which is a word of its own
    "s", "t", "d", "m", "ll", "re", "ve", "ain", "aren", "couldn", "didn", "doesn", "don", "hadn", "hasn", "haven",
    "isn", "mightn", "mustn", "needn", "shan", "shouldn", "wasn", "weren", "wouldn",
})  # fmt: skip


def normalised(text: str) -> str:
    """Write a text in lower case, without punctuation, one space between words."""
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())


@cache
def function_words() -> frozenset[str]:
    """Give scikit-learn's 318 English stop words, and what `normalised` leaves of contractions (doesn't: doesn, t).

    In another language hardly a word is among them: there all words count as content.
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return ENGLISH_STOP_WORDS | CONTRACTED


def fit_vectors(texts: Sequence[str], kind: str | Encode = "words") -> Encode:
    """Fit a function that turns texts into vectors: TF-IDF (smoothed, of unit length) of all terms, not reduced.

    `words` are 1- and 2-grams of normalised words, `chars` runs of 2 to 5 characters, in lower case.

    Args:
        texts: to fit on. Where they have no term at all, every vector is one zero.
        kind: `words`, `chars`, or a function that needs no fitting, such as that of `sentence_encoder`.

    Raises:
        ValueError: the kind is unknown, or there is no text.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    if callable(kind):
        return kind
    terms: Any = TfidfVectorizer(**_settings(kind))
    if not texts:
        raise ValueError("vectors: there is no text to fit on")
    try:
        terms.fit(texts)
    except ValueError:  # there is no term
        return lambda given: np.zeros((len(given), 1))
    return lambda given: terms.transform(given).toarray() if len(given) else np.zeros((0, len(terms.vocabulary_)))


def part_vectors(
    texts: Sequence[str], kind: str | Encode, parts: Sequence[Mask], *, dimensions: int = DIMENSIONS, seed: int = 0
) -> list[Values]:
    """Turn all texts into vectors once for each part of them, by what is fitted on the part alone.

    As `fit_vectors`, of the terms in two texts of the part or more (in one, where no term is in two), projected on the
    first right singular vectors of the part's table. Terms are counted once for all parts: counting knows nothing of
    other texts.

    Args:
        texts: all of them, n.
        kind: `words`, `chars`, or a function that needs no fitting.
        parts: whether a text is known, (n,) each.
        dimensions: after the projection; fewer where a part has as few texts or terms.
        seed: of the decomposition, which is random for more than 3,000 texts.

    Returns:
        (n, d) for each part; d differs. Where a part has no term, every vector is one zero.

    Raises:
        ValueError: the kind is unknown.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    if callable(kind):
        return [np.asarray(kind(texts), dtype=np.float64)] * len(parts)
    counter: Any = CountVectorizer(**_settings(kind))
    try:
        counts = counter.fit_transform(texts)
    except ValueError:  # there is no term
        return [np.zeros((len(texts), 1)) for _ in parts]
    return [_projected(counts, part, dimensions, seed) for part in parts]


def _settings(kind: str) -> dict[str, Any]:
    if kind not in KINDS:
        raise ValueError(f"unknown vectors {kind!r}; expected {', '.join(KINDS)}, or a function")
    if kind == "chars":
        return {"analyzer": "char", "ngram_range": (2, 5)}
    return {"preprocessor": normalised, "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"}


def _projected(counts: Any, part: Mask, dimensions: int, seed: int) -> Values:
    from sklearn.feature_extraction.text import TfidfTransformer

    texts_with = np.bincount(counts[part].indices, minlength=counts.shape[1])
    kept = texts_with >= min(RARE, texts_with.max())
    if not texts_with.any():
        return np.zeros((counts.shape[0], 1))
    weights: Any = TfidfTransformer().fit(counts[part][:, kept])
    table = weights.transform(counts[:, kept])
    width = min(dimensions, int(part.sum()) - 1, int(kept.sum()) - 1)
    if width < 1:
        return table.toarray()
    return np.asarray(table @ _directions(table[part], width, seed))


def _directions(table: Any, width: int, seed: int) -> Values:
    """Give the first right singular vectors (terms, width) of a sparse table (texts, terms).

    Exactly, by the eigenvectors of the texts' products with each other, which of a few thousand texts is the faster way
    too: X'u / s, where X X' u = s^2 u. Of more texts they are found by random projections.
    """
    if table.shape[0] > EXACT:
        from sklearn.decomposition import TruncatedSVD

        project: Any = TruncatedSVD(width, random_state=seed).fit(table)
        return project.components_.T
    products = (table @ table.T).toarray()
    squares, left = linalg.eigh(products, subset_by_index=[len(products) - width, len(products) - 1])
    told = squares > 1e-10 * squares[-1]  # what is left is rounding
    return (table.T @ left[:, told] / np.sqrt(squares[told]))[:, ::-1]


def sentence_encoder(model: str, *, device: str | None = None, trust_remote_code: bool = False) -> Encode:
    """Load an encoder whose vector of a text is the mean of its last states over the text's tokens, of unit length.

    This is what sentence-transformers does for models such as MiniLM. A text longer than the model takes is cut.

    Args:
        model: a folder or hub id of an encoder.
        device: cpu, cuda, ...; None = the first accelerator.
        trust_remote_code: run code that comes with the model.

    Raises:
        InputError: it can't be loaded, or there is no such device.
    """
    from raison.annotators.encoder import load_encoder

    return load_encoder(model, device=device, trust_remote_code=trust_remote_code)
