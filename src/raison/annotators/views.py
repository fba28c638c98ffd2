"""Views: what is left of an explanation, so that one can tell which layer of it knows its author.

Content words are neither function words (`function_words`) nor words for the parts of an item (premise, Q1, the names
of its fields): which of these a person says is a habit of naming, and tells nothing of the item. A word is *from the
input* if it is a content word that stands in the item's fields; all others count as not from it. Were function words
counted as from the input where it has them, that view would identify people by their "the" and "is": .34 of VariErr's
texts, not .27 (the reference figure is .28).
"""

from collections.abc import Callable, Sequence, Set
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raison.annotators.responses import Response
from raison.annotators.style import PARTS, QUOTES
from raison.annotators.vectors import Encode, function_words, normalised
from raison.records import Record

Values = NDArray[np.float64]

STATISTICS = (  # of the surface of a text, in words of a reader
    "number of words", "length of words", "commas", "full stop at the end", "double quotation marks",
    "capital at the start", "other punctuation", "space at the ends",
)  # fmt: skip


class View(NamedTuple):
    """One way to look at responses: texts for a vectoriser, or numbers as they are."""

    layer: str  # "surface", "phrasing", "content", "label", "reasoning", or "all" for texts as they stand
    kind: str | Encode  # of its vectors; "numbers" are taken as they are
    of: Callable[[Sequence[Response], Sequence[Record]], list[str] | Values | None]  # None = the data don't have it
    stands: bool = False  # for its layer in the verdict
    rest: bool = False  # also what is left of it by a ridge regression on input and label


_COUNTS = ("number of words", "commas", "double quotation marks", "other punctuation")


def surface_statistics(text: str) -> tuple[float, ...]:
    """Give the eight of `surface_counts`, words and punctuation in logarithms of 1 more than their number."""
    return tuple(
        float(np.log1p(value)) if name in _COUNTS else value
        for name, value in zip(STATISTICS, surface_counts(text), strict=True)
    )


def surface_counts(text: str) -> tuple[float, ...]:
    """Count the eight statistics of `STATISTICS`, as a reader would."""
    words = text.split()
    quotes = sum(text.count(mark) for mark in QUOTES)
    commas = text.count(",")
    others = sum(not (c.isalnum() or c.isspace()) for c in text) - quotes - commas
    return (
        float(len(words)),
        sum(map(len, words)) / max(len(words), 1),
        float(commas),
        float(text.rstrip().endswith(".")),
        float(quotes),
        float(text.strip()[:1].isupper()),
        float(others),
        float(text != text.strip()),
    )


def only(text: str, keep: Callable[[str], bool]) -> str:
    """Keep the normalised words of a text that pass."""
    return " ".join(word for word in normalised(text).split() if keep(word))


def _texts(responses: Sequence[Response], records: Sequence[Record]) -> list[str]:
    return [response.explanation or "" for response in responses]


def _plain(responses: Sequence[Response], records: Sequence[Record]) -> list[str]:
    return [normalised(text) for text in _texts(responses, records)]


def _function(responses: Sequence[Response], records: Sequence[Record]) -> list[str]:
    known = function_words()
    return [only(text, lambda word: word in known) for text in _texts(responses, records)]


def _content(responses: Sequence[Response], records: Sequence[Record]) -> list[str]:
    found: list[str] = []
    for response, record in zip(responses, records, strict=True):
        empty = _empty(record)
        found.append(only(response.explanation or "", lambda word, empty=empty: word not in empty))
    return found


def _empty(record: Record) -> Set[str]:
    """Give the words that have no content of an item: function words, and those for its parts."""
    return function_words() | PARTS | set(normalised(" ".join(record.fields).replace("_", " ")).split())


def _copied(responses: Sequence[Response], records: Sequence[Record], *, inside: bool) -> list[str]:
    found: list[str] = []
    for response, record in zip(responses, records, strict=True):
        known = set(normalised(" ".join(record.fields.values())).split()) - _empty(record)
        found.append(only(response.explanation or "", lambda word, known=known: (word in known) == inside))
    return found


def _from_input(responses: Sequence[Response], records: Sequence[Record]) -> list[str]:
    return _copied(responses, records, inside=True)


def _not_from_input(responses: Sequence[Response], records: Sequence[Record]) -> list[str]:
    return _copied(responses, records, inside=False)


def _surface(responses: Sequence[Response], records: Sequence[Record]) -> Values:
    return np.array([surface_statistics(text) for text in _texts(responses, records)])


def labels_of(responses: Sequence[Response]) -> list[str]:
    """Give the labels; ratings on both sides of 0 become their signs."""
    labels = [response.label for response in responses]
    try:
        numbers = [None if label is None else float(label) for label in labels]
    except ValueError:
        return [label or "" for label in labels]
    known = [number for number in numbers if number is not None]
    if not known or not min(known) < 0 < max(known):
        return [label or "" for label in labels]
    return ["" if number is None else "+" if number > 0 else "−" if number < 0 else "0" for number in numbers]


def one_hot(values: Sequence[str]) -> Values:
    """Give a column for each distinct value, sorted; the empty one, which is missing, is all zeros."""
    names = sorted(set(values) - {""})
    return np.array([[float(value == name) for name in names] for value in values]).reshape(len(values), len(names))


def _label(responses: Sequence[Response], records: Sequence[Record]) -> Values | None:
    found = one_hot(labels_of(responses))
    return found if found.shape[1] > 1 else None


def categories_of(responses: Sequence[Response]) -> list[str]:
    """Give the reasoning category of each (the first, where there are several); empty where there is none."""
    found = [response.extra.get("category") for response in responses]
    return [str((value[0] if value else "") if isinstance(value, list) else value or "") for value in found]


def _reasoning(responses: Sequence[Response], records: Sequence[Record]) -> Values | None:
    found = one_hot(categories_of(responses))
    return found if found.shape[1] > 1 else None


VIEWS: dict[str, View] = {
    "raw": View("all", "chars", _texts, stands=True),
    "normalised": View("phrasing", "words", _plain, rest=True),
    "function-words": View("phrasing", "words", _function),
    "content-words": View("phrasing", "words", _content),
    "not-from-input": View("phrasing", "words", _not_from_input, stands=True),
    "from-input": View("content", "words", _from_input),
    "surface": View("surface", "numbers", _surface, stands=True),
    "label": View("label", "numbers", _label, stands=True),
    "category": View("reasoning", "numbers", _reasoning, stands=True),
}
