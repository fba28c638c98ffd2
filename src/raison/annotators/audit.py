"""The books of preference pairs: why each is there, from which responses, what was left out; and a search for leaks."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean
from typing import Any

import msgspec

from raison.annotators.preference_pair import PreferencePair, Source
from raison.annotators.responses import Response, responses_of, texts_of
from raison.annotators.splits import normalised
from raison.records import Record


class Ref(msgspec.Struct, frozen=True):
    """Which response it was."""

    record_id: str
    annotator: str
    number: int


class Entry(msgspec.Struct, frozen=True):
    """What became of two responses, or of one that no pair could be made with."""

    pair: int | None  # place of the pair, from 0; None = there is none
    record_id: str  # the item that the prompt shows
    annotator: str  # whose preference it is
    chosen: Ref
    rejected: Ref | None = None  # None = the chosen one itself was left out
    source: Source | None = None
    why: str | None = None  # the pair is there
    dropped: str | None = None  # why there is none
    factors: dict[str, float | None] = {}  # of the weight; None = nothing is known, counted as 1
    weight: float | None = None


def ref(response: Response) -> Ref:
    """Say which response it is."""
    return Ref(response.record_id, response.annotator, response.number)


def counts(pairs: Sequence[PreferencePair], entries: Iterable[Entry]) -> dict[str, Any]:
    """Sum up: pairs in all, by person and by source, the share with one label, weights, and drops by reason."""
    weights = [pair.weight for pair in pairs]
    known = [pair.same_label for pair in pairs if pair.same_label is not None]
    return {
        "pairs": len(pairs),
        "items": len({pair.record_id for pair in pairs}),
        "annotators": dict(sorted(Counter(pair.annotator for pair in pairs).items())),
        "sources": dict(sorted(Counter(pair.source for pair in pairs).items())),
        "same_label": fmean(known) if known else None,
        "weight": {"mean": fmean(weights), "least": min(weights), "most": max(weights)} if weights else None,
        "dropped": dict(Counter(entry.dropped for entry in entries if entry.dropped).most_common()),
    }


def leaks(
    pairs: Sequence[PreferencePair], train: Sequence[Record], held_out: Sequence[Record], known: Iterable[str] = ()
) -> list[str]:
    """Search pairs for what they must not hold: held-out items, and what anybody said of them.

    Texts are compared line by line, `normalised`, a text in a line from word to word. One counts where it stands in no
    training item and in no answer to one: "different topics", which a person wrote a hundred times, is no leak.

    Args:
        pairs: the pairs.
        train: the training items.
        held_out: development and test items.
        known: further texts that are no leak, such as the wording of the prompts.

    Returns:
        A line for each leak: the item, and where it stands.
    """
    ids = {record.id for record in held_out}
    found = [f"pair {n}: of the held-out item {one.record_id!r}" for n, one in enumerate(pairs) if one.record_id in ids]
    places: dict[str, str] = {}
    for text, place in _parts(pairs):
        for line in text.splitlines():
            places.setdefault(line, place)
    shown = {f" {normalised(line)} ": place for line, place in places.items()}
    common = "\n".join(_lines([*known, *(text for record in train for text in _texts(record))]))
    for record in held_out:
        for line in _lines(_texts(record)):
            if line.strip() and line not in common:
                where = next((place for text, place in shown.items() if line in text), None)
                found += [f"{where}: a text of the held-out item {record.id!r}"] if where else []
    return found


def _parts(pairs: Sequence[PreferencePair]) -> Iterator[tuple[str, str]]:
    """Yield each different text of the pairs, and where it first stands."""
    seen: set[str] = set()
    for number, pair in enumerate(pairs):
        for name in ("prompt", "chosen", "rejected"):
            text: str = getattr(pair, name)
            if text not in seen:
                seen.add(text)
                yield text, f"pair {number}, {name}"


def _texts(record: Record) -> list[str]:
    return [*record.fields.values(), *texts_of(responses_of([record]))]


def _lines(texts: Iterable[str]) -> list[str]:
    """Give the different lines of texts as they are compared, in their order."""
    return list(dict.fromkeys(f" {normalised(line)} " for text in texts for line in text.splitlines()))
