"""The verdict of stability in words: whether there is a person to learn, from how many items, and which layer tells.

Layers are tested apart and corrected by Holm: what label people choose, and, among people who gave an item the same
label, the surface of their texts, their phrasing, their kinds of reasoning; and the whole text, for what none of these
can part. A layer that tells people apart need not be what they think: who types two spaces is known by them.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from raison.annotators.responses import Response
from raison.annotators.vectors import normalised
from raison.annotators.views import STATISTICS, categories_of, labels_of, surface_counts, surface_statistics
from raison.evaluation.statistics import holm

LEVEL = 0.05
TITLES = {
    "all": "something in the text as a whole",
    "surface": "surface (length, punctuation)",
    "phrasing": "phrasing",
    "reasoning": "kind of reasoning",
    "label": "label bias",
}
TRAITS = 3  # of a person and layer
COMMON = 0.05  # share of a person's or the others' texts that a word must stand in


class Layer(msgspec.Struct, frozen=True):
    """One layer of responses, and whether it tells people apart."""

    name: str
    view: str  # that stands for it, after the item's mean is taken away
    accuracy: float  # of least squares at k = 1
    null: float  # its mean over permutations
    p: float
    p_holm: float = 1.0


class Trait(msgspec.Struct, frozen=True):
    """Something that a person does more, or less, often than others."""

    layer: str
    annotator: str
    what: str
    own: float  # share of the person's responses, or mean
    others: float
    z: float  # of the difference


class Finding(msgspec.Struct, frozen=True):
    """What to make of it all."""

    words: str
    stable: bool
    items_needed: int | None  # for accuracy .9, by the whole text if looked at; None = more than can be told
    layers: tuple[Layer, ...]  # those that tell most first
    traits: tuple[Trait, ...]  # descriptive: not tested one by one


def conclude(
    layers: Sequence[Layer], needed: int | None, traits: Sequence[Trait], untested: Sequence[str] = ()
) -> Finding:
    """Say what the layers' tests amount to.

    A layer is found where its p-value is at most .05 after Holm's correction over the layers; so nothing is found in
    shuffled people in 95 of 100 cases, or more. Layers are ordered by accuracy above their permutations, found ones
    first. Traits are kept of layers found. Where none is found it is said which were asked for and could not be tested.
    """
    adjusted = holm([layer.p for layer in layers]) if layers else []
    known = [msgspec.structs.replace(layer, p_holm=float(p)) for layer, p in zip(layers, adjusted, strict=True)]
    ordered = sorted(known, key=lambda one: (one.p_holm > LEVEL, one.null - one.accuracy))
    found = [layer for layer in ordered if layer.p_holm <= LEVEL]
    if not found:
        words = ["no stable signal"] if layers else []
        words += [f"not tested: {', '.join(TITLES[name] for name in dict.fromkeys(untested))}"] if untested else []
        told = "; ".join(words) or "not tested: these views stand for no layer"
        return Finding(told, False, None, tuple(ordered), ())
    parts = [layer for layer in found if layer.name != "all"] or found
    kept = [trait for trait in traits if trait.layer in {layer.name for layer in parts}]
    only = "only" if len(parts) == 1 else "mostly"
    told = f"{only} {_named(parts[0], kept)}"
    if len(parts) > 1:
        told += f"; also {', '.join(_named(layer, kept) for layer in parts[1:])}"
    start = f"learnable from about {needed} item{'s' * (needed != 1)}" if needed else "a signal, but a weak one"
    return Finding(f"{start}; {told}", True, needed, tuple(ordered), tuple(kept))


def _named(layer: Layer, traits: Sequence[Trait]) -> str:
    """Name a layer, of the surface with the statistic that tells most."""
    own = [trait for trait in traits if trait.layer == layer.name]
    if layer.name != "surface" or not own:
        return TITLES.get(layer.name, layer.name)
    top = max(own, key=lambda trait: abs(trait.z)).what
    return f"{'length' if top.startswith(('number', 'length')) else 'punctuation'} ({top})"


def traits_of(said: Sequence[Response], people: Sequence[str]) -> list[Trait]:
    """List what sets each person apart from the others in each layer, the most telling first.

    Labels, categories and words are shares of a person's responses that have them; surface statistics are means. z is
    the difference over its standard error, of counts in the logarithms that the view compares. Words are those in at
    least 5 % of the person's or of the others' texts.
    """
    written = [response for response in said if response.explanation is not None]
    words = [set(normalised(response.explanation or "").split()) for response in written]
    labels, categories = labels_of(said), categories_of(said)
    found = _shares(
        "label", [({label}, one.annotator) for label, one in zip(labels, said, strict=True) if label], people
    )
    pairs = [({value}, one.annotator) for value, one in zip(categories, said, strict=True) if value]
    found += _shares("reasoning", pairs, people)
    found += _shares("phrasing", [(value, one.annotator) for value, one in zip(words, written, strict=True)], people)
    return found + _means(written, people)


def _shares(layer: str, given: Sequence[tuple[set[str], str]], people: Sequence[str]) -> list[Trait]:
    totals = Counter(person for _, person in given)
    counts: dict[str, Counter[str]] = {person: Counter() for person in people}
    for values, person in given:
        counts[person].update(values)
    whole: Counter[str] = sum(counts.values(), Counter())

    def of(person: str, value: str) -> Trait | None:
        n, m = totals[person], sum(totals.values()) - totals[person]
        if not n or not m:
            return None
        own, others = counts[person][value] / n, (whole[value] - counts[person][value]) / m
        if max(own, others) < COMMON:
            return None
        rate = whole[value] / (n + m)
        error = float(np.sqrt(rate * (1 - rate) * (1 / n + 1 / m)))
        return Trait(layer, person, value, own, others, (own - others) / error) if error else None

    return _most(people, sorted(whole), of)


def _means(written: Sequence[Response], people: Sequence[str]) -> list[Trait]:
    if not written:
        return []
    table = np.array([surface_statistics(response.explanation or "") for response in written])
    counts = np.array([surface_counts(response.explanation or "") for response in written])
    whose = np.array([response.annotator for response in written])

    def of(person: str, what: str) -> Trait | None:
        place = STATISTICS.index(what)
        column, shown = table[:, place], counts[:, place]
        own, others = column[whose == person], column[whose != person]
        if len(own) < 2 or len(others) < 2:
            return None
        error = float(np.sqrt(column.var() * (1 / len(own) + 1 / len(others))))
        values = float(shown[whose == person].mean()), float(shown[whose != person].mean())
        return Trait("surface", person, what, *values, float(own.mean() - others.mean()) / error) if error > 0 else None

    return _most(people, STATISTICS, of)


def _most(people: Sequence[str], values: Sequence[str], of: Callable[[str, str], Trait | None]) -> list[Trait]:
    found: list[Trait] = []
    for person in people:
        known = [trait for value in values if (trait := of(person, value)) is not None]
        found += sorted(known, key=lambda trait: (-abs(trait.z), trait.what))[:TRAITS]
    return found
