"""The four controls that need no model, as answers to be scored like any other's.

A number about imitation says little by itself: a program that copies a person's old sentences is taken for them every
time. So every score stands beside these. What is random is drawn by seed, item and annotator: the order of the records
makes no difference.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from raison.annotators.grounding import input_text, nearest, tfidf
from raison.annotators.responses import Response
from raison.records import Record

HUMAN, ANOTHER, NEAREST, MAJORITY = "human", "another person", "nearest copy", "majority + random text"
CONTROLS = {  # name -> what it is
    HUMAN: "the person's own answer: the ceiling",
    ANOTHER: "what another person said of the same item, drawn at random",
    NEAREST: "label and text that the person gave to the most similar of the items the model could learn from",
    MAJORITY: "the person's commonest label with a text they gave for it, drawn at random: it never looks at the item",
}
NO_OTHER, NO_HISTORY = "nobody else answered this item", "this person answered no item to learn from"

_T = TypeVar("_T")


def controls(
    records: Sequence[Record], history: Sequence[Response], targets: Sequence[Response], seed: int = 0
) -> dict[str, list[Response]]:
    """Answer for every person and item as each of the four controls does.

    Args:
        records: the items of all responses.
        history: what people said of the items that a model could learn from; the first of several labels counts.
        targets: what they said of the items to be judged; the first of several labels counts.
        seed: of the random choices.

    Returns:
        The controls by their names in `CONTROLS`, each with an answer for every person and item of the targets, in
        their order. One that can't answer says why in `failure`.
    """
    wanted = first_of(targets)
    return {
        HUMAN: human_ceiling(wanted),
        ANOTHER: another_person(wanted, seed),
        NEAREST: nearest_copy(records, history, wanted),
        MAJORITY: majority_label(history, wanted, seed),
    }


def first_of(responses: Sequence[Response]) -> list[Response]:
    """Keep one response of a person to an item: that of the lowest number."""
    found: dict[tuple[str, str], Response] = {}
    for response in responses:
        kept = found.setdefault((response.record_id, response.annotator), response)
        if response.number < kept.number:
            found[response.record_id, response.annotator] = response
    return list(found.values())


def human_ceiling(targets: Sequence[Response]) -> list[Response]:
    """Answer what the person themself answered."""
    return [msgspec.structs.replace(target, number=0) for target in targets]


def another_person(targets: Sequence[Response], seed: int = 0) -> list[Response]:
    """Answer what one of the others said of the item, drawn at random."""
    by_item: dict[str, list[Response]] = defaultdict(list)
    for target in targets:
        by_item[target.record_id].append(target)
    found: list[Response] = []
    for target in targets:
        others = [other for other in by_item[target.record_id] if other.annotator != target.annotator]
        others.sort(key=lambda other: other.annotator)
        found.append(_spoken(target, _drawn(others, seed, target)) if others else _silent(target, NO_OTHER))
    return found


def nearest_copy(records: Sequence[Record], history: Sequence[Response], targets: Sequence[Response]) -> list[Response]:
    """Answer what the person said of the most similar item of their history (cosine of the inputs' TF-IDF)."""
    places = nearest_own(records, history, targets)
    return [
        _spoken(target, place) if place else _silent(target, NO_HISTORY)
        for target, place in zip(targets, places, strict=True)
    ]


def nearest_own(
    records: Sequence[Record], history: Sequence[Response], targets: Sequence[Response]
) -> list[Response | None]:
    """Give for each target what its person said of the most similar item of their history; None without a history."""
    texts = {record.id: input_text(record) for record in records}
    encode, own = tfidf([texts[name] for name in sorted(texts)]), _by_person(history)
    found: dict[tuple[str, str], Response] = {}
    for person in sorted({target.annotator for target in targets} & own.keys()):
        items = sorted({target.record_id for target in targets if target.annotator == person})
        near = nearest([texts[item] for item in items], [texts[said.record_id] for said in own[person]], encode)
        found |= {(item, person): own[person][place] for item, place in zip(items, near, strict=True)}
    return [found.get((target.record_id, target.annotator)) for target in targets]


def majority_label(history: Sequence[Response], targets: Sequence[Response], seed: int = 0) -> list[Response]:
    """Answer with the person's commonest label (of ties the first in the alphabet) and a random text they gave for it.

    A text of another label would contradict its own label, and be a weaker control.
    """
    own = {person: _of_commonest(said) for person, said in _by_person(history).items()}
    return [
        _spoken(target, _drawn(own[target.annotator], seed, target))
        if target.annotator in own
        else _silent(target, NO_HISTORY)
        for target in targets
    ]


def _by_person(history: Sequence[Response]) -> Mapping[str, list[Response]]:
    own: dict[str, list[Response]] = defaultdict(list)
    for said in sorted(first_of(history), key=lambda said: said.record_id):
        own[said.annotator].append(said)
    return own


def _of_commonest(said: Sequence[Response]) -> list[Response]:
    """Keep the responses of the commonest label; all, where none has a label."""
    counts = Counter(response.label for response in said if response.label is not None)
    commonest = min(counts, key=lambda label: (-counts[label], label)) if counts else None
    return [response for response in said if response.label == commonest]


def _drawn(options: Sequence[_T], seed: int, target: Response) -> _T:
    """Draw by what is asked, not by when."""
    name = f"{seed}\0{target.record_id}\0{target.annotator}"
    digest = hashlib.sha256(name.encode(errors="backslashreplace")).digest()
    return options[int.from_bytes(digest[:8]) % len(options)]


def _spoken(target: Response, said: Response) -> Response:
    return Response(target.record_id, target.annotator, said.label, said.explanation, extra=said.extra)


def _silent(target: Response, why: str) -> Response:
    return Response(target.record_id, target.annotator, None, None, failure=why)
