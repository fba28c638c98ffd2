"""What is shown to whoever is to say who wrote a text, a model or a person: texts on test items, and references.

References are what people said of training items. Texts on test items come from sources: `human` (the person's own, the
ceiling), `other` (somebody else's on the same item, the floor) and each system that speaks as the person. All sources
of one question are shown on the same items with the same references, so that they can be compared in pairs.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np

from raison.annotators.responses import Response
from raison.records import InputError, Record

T = TypeVar("T")
HUMAN, OTHER = "human", "other"
Said = dict[tuple[str, str], Response]  # (annotator, record id) -> the first response that can be read


class Material(NamedTuple):
    """Responses by source, and the items they are responses to."""

    items: dict[str, dict[str, str]]  # record id -> texts
    train: Said  # references
    texts: dict[str, Said]  # source -> responses to test items; `human` first
    people: tuple[str, ...]  # with references and test texts
    unread: dict[str, int]  # source -> responses that have no text and are not shown

    def usable(self, target: str) -> list[str]:
        """Give the test items for which every source has a text of (or as) this person, sorted."""
        (first, *rest) = self.texts.values()
        return sorted(item for who, item in first if who == target and all((who, item) in said for said in rest))


class Text(msgspec.Struct, frozen=True):
    """One thing that somebody said of an item, as it is shown."""

    item: dict[str, str]
    label: str | None
    explanation: str


def make_material(
    records: Sequence[Record],
    train: Iterable[Response],
    test: Iterable[Response],
    systems: Mapping[str, Iterable[Response]],
) -> Material:
    """Put responses in order: of several by one person to one item the first that has an explanation is taken.

    Args:
        records: the items.
        train: people's responses, for references.
        test: people's responses to other items.
        systems: name -> what a system says as each person, of test items.

    Raises:
        InputError: an item of the references is shown as a text too; fewer than two people have both references and
            test texts; a system is called as a source of ours is, speaks for nobody known, or of unknown items.
    """
    items = {record.id: record.fields for record in records}
    references, own = _first(train), _first(test)
    texts = {HUMAN: own[0]}
    unread = {HUMAN: own[1]}
    for name, said in systems.items():
        if name in (HUMAN, OTHER):
            raise InputError(f"outputs {name!r}: this name is taken, as is {OTHER if name == HUMAN else HUMAN!r}")
        texts[name], unread[name] = _first(said)
    people = tuple(sorted({who for who, _ in references[0]} & {who for who, _ in own[0]}))
    if len(people) < 2:
        raise InputError(f"expected at least 2 people with explanations of train and of test items, got {len(people)}")
    seen = {item for _, item in references[0]}
    for name, said in texts.items():
        _check(name, said, seen, items, people)
    return Material(items, references[0], texts, people, unread)


def _first(responses: Iterable[Response]) -> tuple[Said, int]:
    found: Said = {}
    unread = 0
    for one in responses:
        if not (one.explanation or "").strip():
            unread += 1
        else:
            found.setdefault((one.annotator, one.record_id), one)
    return found, unread


def _check(name: str, said: Said, seen: set[str], items: Mapping[str, object], people: Sequence[str]) -> None:
    for _, item in said:
        if item in seen:
            raise InputError(f"{name}: item {item!r} is a training item, from which references are drawn")
        if item not in items:
            raise InputError(f"{name}: item {item!r} is not in the data")
    if name != HUMAN and not any(who in people for who, _ in said):
        raise InputError(f"{name}: speaks as none of the people {', '.join(people)}")


def draw(seed: int, *parts: object) -> np.random.Generator:
    """Give a source of chance that depends on the seed and on what it is for, and on nothing else."""
    key = sha256(msgspec.json.encode([seed, *map(str, parts)])).digest()
    return np.random.default_rng(int.from_bytes(key[:8], "little"))


def shuffled(things: Sequence[T], rng: np.random.Generator) -> list[T]:
    """Give things in an order drawn at random."""
    order: list[int] = rng.permutation(len(things)).tolist()
    return [things[index] for index in order]


def references_of(
    material: Material, people: Sequence[str], count: int, rng: np.random.Generator
) -> dict[str, list[str]]:
    """Draw the training items on which each person is shown, person -> record ids.

    Items that all of them responded to come first, so that people differ by what they say and not by what they speak
    of; a person who lacks such items is shown on others. Somebody with fewer than `count` is shown on all of them.
    """
    own = {who: {item for one, item in material.train if one == who} for who in people}
    shared = shuffled(sorted(set[str].intersection(*own.values())), rng)[:count]
    return {
        who: [*shared, *shuffled(sorted(own[who] - set(shared)), rng)[: count - len(shared)]] for who in sorted(people)
    }


def rival_with(material: Material, rivals: Sequence[str], items: Sequence[str]) -> str | None:
    """Give the first of some people who has a text on every one of these items."""
    own = material.texts[HUMAN]
    return next((who for who in rivals if all((who, item) in own for item in items)), None)


def shown(material: Material, response: Response, *, label: bool, plain: bool) -> Text:
    """Give a response as it is shown.

    Args:
        material: has its item.
        response: whose explanation becomes one line.
        label: whether its label is shown.
        plain: whether the explanation is shown as `normalised`.
    """
    said = response.explanation or ""
    text = normalised(said) if plain else " ".join(said.split())
    return Text(material.items[response.record_id], response.label if label else None, text)


def normalised(text: str) -> str:
    """Give a text without what is style alone: in lower case, without punctuation and signs, single spaces."""
    kept = "".join(c if unicodedata.category(c)[0] not in "PS" else "" if c in "'’" else " " for c in text.casefold())
    return " ".join(kept.split())
