"""Which of a person's earlier answers a model is shown before it is asked to answer as that person would."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from raison.annotators.responses import Response
from raison.annotators.wording import Example
from raison.records import InputError, Record

Select = Literal["random", "stratified", "nearest", "mmr"]
SELECTS: tuple[str, ...] = get_args(Select)
TRADE = 0.5  # of MMR: likeness to the item against unlikeness to the examples chosen before


class Examples:
    """The answers of each person to training items, to choose from. No other item is ever looked at but the asked one.

    Texts are compared by the cosine of their TF-IDF vectors (words and signs in lower case; fitted on training items).

    Args:
        train: the training items, without those who opted out.
        responses: answers to them; those that lack a label or an explanation are passed over.
        seed: of what is drawn.

    Raises:
        ValueError: an answer is to none of the training items.
    """

    def __init__(self, train: Sequence[Record], responses: Iterable[Response], seed: int = 0) -> None:
        self.items = {record.id: record for record in sorted(train, key=lambda record: record.id)}
        self.places = {name: place for place, name in enumerate(self.items)}
        self.seed = seed
        self.said: dict[str, list[Response]] = defaultdict(list)
        for response in responses:
            if response.record_id not in self.items:
                raise ValueError(f"{response.record_id!r} is no training item")
            if response.label is not None and response.explanation:
                self.said[response.annotator].append(response)
        for annotator, own in self.said.items():
            own.sort(key=lambda one: draw(self.seed, annotator, one.record_id, one.number))

    def choose(self, record: Record, annotator: str, k: int, select: str = "stratified") -> list[Example]:
        """Choose k answers of a person, or all if there are fewer; never one to the item itself.

        random: the same draw for every item. stratified: the same, but labels in the person's own shares (largest
        remainders), each label at least once where k allows. nearest: those to the items most like the asked one.
        mmr: one after another, that with the largest TRADE * likeness to the item - (1 - TRADE) * largest likeness to
        one chosen before (Carbonell and Goldstein 1998, "The Use of MMR").

        Args:
            record: the item that is asked about.
            annotator: whose answers.
            k: how many.
            select: "random", "stratified", "nearest" or "mmr".

        Returns:
            Items and answers; the likest, or first drawn, last: next to the question. None of a person without any.

        Raises:
            InputError: there is no such way to choose.
        """
        if select not in SELECTS:
            raise InputError(f"select {select!r}: expected {', '.join(SELECTS)}")
        able = [one for one in self.said.get(annotator, []) if one.record_id != record.id]
        if select in ("random", "stratified"):
            chosen = able[:k] if select == "random" else _stratified(able, k)
        else:
            chosen = [able[place] for place in self._like(record, able, k, 1.0 if select == "nearest" else TRADE)]
        return [(self.items[one.record_id], one) for one in reversed(chosen)]

    def _like(self, record: Record, able: list[Response], k: int, trade: float) -> list[int]:
        """Give the places of the answers that MMR chooses, in its order; with a trade of 1, the nearest."""
        if not able:
            return []
        vectors = self._vectors[[self.places[one.record_id] for one in able]]
        worth = trade * _cosines(vectors, self._vectorizer.transform([_text(record)]))
        nearest_chosen = np.zeros(len(able))
        chosen: list[int] = []
        while len(chosen) < min(k, len(able)):
            gain = np.round(worth - (1 - trade) * nearest_chosen, 9)  # ties are ties, whatever the last digit
            gain[chosen] = -np.inf
            best = int(gain.argmax())  # of equals the one drawn first
            chosen.append(best)
            if trade < 1:
                nearest_chosen = np.maximum(nearest_chosen, _cosines(vectors, vectors[best]))
        return chosen

    @cached_property
    def _vectorizer(self) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        made: Any = TfidfVectorizer(token_pattern=r"(?u)\w+|[^\w\s]")
        return made.fit([_text(record) for record in self.items.values()])

    @cached_property
    def _vectors(self) -> Any:
        return self._vectorizer.transform([_text(record) for record in self.items.values()])


def draw(*parts: object) -> bytes:
    """Give a number, as bytes, that stands for a draw: by it things are ordered at random, and always alike."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).digest()


def _cosines(vectors: Any, one: Any) -> NDArray[np.float64]:
    return (vectors @ one.T).toarray()[:, 0]


def _text(record: Record) -> str:
    return "\n".join(record.fields.values())


def _stratified(able: list[Response], k: int) -> list[Response]:
    """Take the first of each label in the shares that the labels have, in the order of the draw."""
    k = min(k, len(able))
    by_label: dict[str | None, list[Response]] = defaultdict(list)
    for one in able:
        by_label[one.label].append(one)
    order = sorted(by_label, key=lambda label: (-len(by_label[label]), label or ""))
    exact = {label: k * len(by_label[label]) / len(able) for label in order}
    least = 1 if k >= len(order) else 0
    counts = {label: max(int(exact[label]), least) for label in order}
    while sum(counts.values()) != k:
        step = 1 if sum(counts.values()) < k else -1
        lacking = {label: step * (exact[label] - counts[label]) for label in order}
        open_ones = [label for label in order if (least < counts[label] if step < 0 else counts[label] < exact[label])]
        counts[max(open_ones, key=lacking.__getitem__)] += step
    kept = {id(one) for label in order for one in by_label[label][: counts[label]]}
    return [one for one in able if id(one) in kept]
