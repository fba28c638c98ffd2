"""Preference pairs: what a person said of an item, before what is less theirs (CAPO, Chen et al. 2026).

The paper prefers the target's response to those of other annotators. All the rest here (scopes, other sources of what
is rejected, weights, symmetric pairs under a tag) is a reconstruction of ours.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from raison.annotators.audit import Entry, ref
from raison.annotators.examples import draw
from raison.annotators.pair_weights import WEIGHTS, Scale, Weight, factors_of, validity, words_of
from raison.annotators.preference_pair import PreferencePair, Source
from raison.annotators.prompts import Prompts
from raison.annotators.responses import Response, ordinal_scale
from raison.annotators.wording import Wording
from raison.records import InputError, read_jsonl, write_jsonl

Scope = Literal["all", "same-label", "different-label", "mixed"]
SCOPES: tuple[str, ...] = get_args(Scope)
SOURCES: tuple[str, ...] = get_args(Source)
WHY: dict[str, str] = {
    "people": "what another person said of the item",
    "sft-sample": "what a model says of the item that knows all people but no one in particular",
    "own-other-item": "what the person said of another item",
}


class PairOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which pairs are made, and what they weigh."""

    scope: Scope = "all"  # by label; on an ordinal scale by the side of its middle, see `Scale.same`
    same_share: float = 0.5  # of `mixed`: share of the pairs with one label
    rejected: tuple[Source, ...] = ("people",)
    others: int = 1  # of `own-other-item`: texts rejected for each response
    weights: tuple[Weight, ...] = ()  # factors; none = every pair weighs 1
    seed: int = 0


class Pairs(NamedTuple):
    """Pairs, and the books of how they came about."""

    pairs: list[PreferencePair]
    entries: list[Entry]


class _Candidate(NamedTuple):
    """Two responses that a pair might be made of."""

    chosen: Response
    rejected: Response
    source: Source
    same_label: bool
    factors: dict[str, float | None]

    @property
    def weight(self) -> float:
        return float(prod(factor for factor in self.factors.values() if factor is not None))


def make_options(options: dict[str, Any]) -> PairOptions:
    """Make options of values by name.

    Raises:
        InputError: one is unknown or impossible.
    """
    for name, known in (("rejected", SOURCES), ("weights", WEIGHTS)):
        for value in options.get(name, ()):
            if value not in known:
                raise InputError(f"{name} {value!r}: expected {', '.join(known)}")
    if options.get("scope", "all") not in SCOPES:
        raise InputError(f"scope {options['scope']!r}: expected {', '.join(SCOPES)}")
    try:
        made = msgspec.convert(options, PairOptions)
    except msgspec.ValidationError as error:
        raise InputError(str(error)) from None
    if not 0 < made.same_share < 1:
        raise InputError(f"same share {made.same_share}: expected more than 0 and less than 1")
    if made.others < 1 or not made.rejected:
        raise InputError("expected at least one source of what is rejected, and at least one text of it")
    return made


def make_pairs(prompts: Prompts, options: PairOptions | None = None, samples: Iterable[Response] = ()) -> Pairs:
    """Make the pairs of all people, from the training items of the prompts and nothing else.

    Two responses of one person to one item are never a pair. With tags (`prompts.tag`) the pairs of people are
    symmetric: a before b under a's tag, b before a under b's, of one weight; so nothing but the tag can tell which is
    chosen. Without tags, a pair that repeats another of the same person, item and texts is dropped.

    Args:
        prompts: make each pair's prompt; for a model that is trained, mostly `zero-shot`.
        options: which pairs.
        samples: a pooled model's responses, for `sft-sample`. One that speaks as one of the people is rejected for
            that person, any other for everybody.

    Returns:
        The pairs in the order of person, item and response; and an entry for each of them and for each that was not
        made. All of it depends on seed and content alone, not on the order of the records.

    Raises:
        InputError: there are no samples though they are asked for, `ordinal` is asked for labels that are only names
            or `validity` where nobody judged a response of somebody else, or no pair is left.
    """
    options = options or PairOptions()
    entries: list[Entry] = []
    said = _usable(prompts.responses, entries, prompts)
    drawn = _usable(samples, entries, prompts)
    if "sft-sample" in options.rejected and not drawn:
        raise InputError("rejected sft-sample: none of the samples can be read and is of a training item")
    if "validity" in options.weights and all(validity(one) is None for one in said):
        raise InputError("weights: validity needs people's judgments of each other's responses, and there are none")
    people = {name: len({one.annotator for one in group}) for name, group in _by_item(said).items()}
    scale = Scale(people, ordinal_scale([*prompts.wording.labels]))
    found = sorted(_candidates(said, drawn, options, scale), key=_place)
    for reason, drops in _rules(options, prompts.tag):
        dropped = {_place(one) for one in drops(found)}
        entries += [_entry(one, dropped=reason) for one in found if _place(one) in dropped]
        found = [one for one in found if _place(one) not in dropped]
    if not found:
        raise InputError(f"no pair can be made ({_reasons(entries)})")
    made = [_entry(one, pair, why=WHY[one.source]) for pair, one in enumerate(found)]
    ask = cache(lambda name, annotator: prompts(prompts.examples.items[name], annotator))
    return Pairs([_pair(one, prompts.wording, ask) for one in found], [*made, *entries])


# --------------------------------------------------------------------------------------------------- candidates


def _usable(responses: Iterable[Response], entries: list[Entry], prompts: Prompts) -> list[Response]:
    """Give the responses that can be written, once each; enter why the others are left out."""
    found: list[Response] = []
    seen: set[Hashable] = set()
    for one in responses:
        key = (one.record_id, one.annotator, _normal(one))
        reason = _unusable(one, prompts) or ("the person said it of this item before" if key in seen else None)
        if reason:
            entries.append(Entry(None, one.record_id, one.annotator, ref(one), dropped=reason))
        else:
            seen.add(key)
            found.append(one)
    return found


def _unusable(response: Response, prompts: Prompts) -> str | None:
    if response.record_id not in prompts.examples.items:
        return "of no training item"
    if response.failure is not None:
        return "a reply that could not be read"
    if response.label is None or not (response.explanation or "").strip():
        return "no label" if response.label is None else "no explanation"
    if response.label not in prompts.wording.labels:
        return "a label that is none of the data's"
    return None


def _candidates(
    said: list[Response], drawn: list[Response], options: PairOptions, scale: Scale
) -> Iterator[_Candidate]:
    """Yield every two responses that a pair might be made of."""
    known = {one.annotator for one in said}
    people, models = _by_item(said), _by_item(drawn)
    own = defaultdict[str, list[Response]](list)
    for one in sorted(said, key=lambda one: draw(options.seed, one.annotator, one.record_id, one.number)):
        own[one.annotator].append(one)
    for chosen in said:
        others = known - {chosen.annotator}
        found: dict[Source, list[Response]] = {
            "people": [one for one in people[chosen.record_id] if one.annotator in others],
            "sft-sample": [one for one in models.get(chosen.record_id, ()) if one.annotator not in others],
            "own-other-item": _others(chosen, own[chosen.annotator], options, scale),
        }
        for source in dict.fromkeys(options.rejected):
            for one in found[source]:
                factors = factors_of(options.weights, chosen, one, source, scale)
                yield _Candidate(chosen, one, source, scale.same(chosen, one), factors)


def _others(chosen: Response, own: list[Response], options: PairOptions, scale: Scale) -> list[Response]:
    """Draw what a person said of other items and not of this one, in the scope: a drawn order from a drawn place."""
    start = int.from_bytes(draw(options.seed, "from", chosen.record_id, chosen.number)[:8]) % len(own)
    found: list[Response] = []
    for one in own[start:] + own[:start] if "own-other-item" in options.rejected else ():
        if len(found) == options.others:
            break
        fits = _in_scope(scale.same(chosen, one), options.scope) and _normal(one) != _normal(chosen)
        if one.record_id != chosen.record_id and fits:
            found.append(one)
    return found


def _by_item(responses: Iterable[Response]) -> dict[str, list[Response]]:
    found: dict[str, list[Response]] = defaultdict(list)
    for one in responses:
        found[one.record_id].append(one)
    return found


def _place(one: _Candidate) -> tuple[Any, ...]:
    a, b = one.chosen, one.rejected
    return (a.annotator, a.record_id, a.number, SOURCES.index(one.source), b.annotator, b.record_id, b.number)


def _normal(one: Response) -> Hashable:
    return one.label, tuple(words_of(one.explanation or ""))


# -------------------------------------------------------------------------------------------------------- rules


def _rules(options: PairOptions, tag: bool) -> list[tuple[str, Callable[[list[_Candidate]], list[_Candidate]]]]:
    """Give, in their order, why candidates are dropped, and the function that finds them."""

    def alike(found: list[_Candidate]) -> list[_Candidate]:
        return [one for one in found if _normal(one.chosen) == _normal(one.rejected)]

    def outside(found: list[_Candidate]) -> list[_Candidate]:
        return [one for one in found if not _in_scope(one.same_label, options.scope)]

    def weightless(found: list[_Candidate]) -> list[_Candidate]:
        return [one for one in found if one.weight <= 0]

    return [
        ("both say the same", alike),
        (f"outside the scope {options.scope}", outside),
        ("it weighs nothing", weightless),
        *([] if tag else [("repeats another pair", _repeated)]),
        *([("too many of its kind in the mixture", _mixing(options, tag))] if options.scope == "mixed" else []),
    ]


def _in_scope(same_label: bool, scope: Scope) -> bool:
    return scope in ("all", "mixed") or same_label == (scope == "same-label")


def _repeated(found: list[_Candidate]) -> list[_Candidate]:
    """Give the candidates that have the person, item and texts of one before."""
    seen: set[Hashable] = set()
    again: list[_Candidate] = []
    for one in found:
        key = (one.chosen.annotator, one.chosen.record_id, _normal(one.chosen), _normal(one.rejected))
        again += [one] if key in seen else []
        seen.add(key)
    return again


def _mixing(options: PairOptions, tag: bool) -> Callable[[list[_Candidate]], list[_Candidate]]:
    return lambda found: _surplus(found, options, tag)


def _surplus(found: list[_Candidate], options: PairOptions, tag: bool) -> list[_Candidate]:
    """Give the candidates to be left out so that the share with one label is right, as many as possible kept.

    Without tags each person has the share; with tags all together, and the two of a symmetric pair stay together.
    """
    people: dict[str | None, list[_Candidate]] = defaultdict(list)
    for one in found:
        people[None if tag else one.chosen.annotator].append(one)
    return [one for own in people.values() for one in _surplus_of(own, options)]


def _surplus_of(own: list[_Candidate], options: PairOptions) -> list[_Candidate]:
    kinds = {same: [one for one in own if one.same_label == same] for same in (True, False)}
    share = {True: options.same_share, False: 1 - options.same_share}
    whole = min(len(kinds[same]) / share[same] for same in kinds)
    return [one for same, group in kinds.items() for one in _beyond(group, whole * share[same], options.seed)]


def _beyond(group: list[_Candidate], limit: float, seed: int) -> list[_Candidate]:
    """Give the candidates that a drawn order puts beyond a limit; mirror images are one in the draw."""
    twins: dict[bytes, list[_Candidate]] = defaultdict(list)
    for one in group:
        ends = sorted((part.record_id, part.annotator, part.number) for part in (one.chosen, one.rejected))
        twins[draw(seed, one.source, ends)].append(one)
    kept = 0
    beyond: list[_Candidate] = []
    for _, both in sorted(twins.items()):
        if kept + len(both) <= limit + 1e-9:
            kept += len(both)
        else:
            beyond += both
    return beyond


# -------------------------------------------------------------------------------------------------------- pairs


def _pair(one: _Candidate, wording: Wording, ask: Callable[[str, str], str]) -> PreferencePair:
    return PreferencePair(
        one.chosen.record_id,
        one.chosen.annotator,
        ask(one.chosen.record_id, one.chosen.annotator),
        wording.write_response(one.chosen),
        wording.write_response(one.rejected),
        one.rejected.annotator if one.source == "people" else None,
        one.source,
        one.weight,
        None,
        one.same_label,
    )


def _entry(one: _Candidate, pair: int | None = None, why: str | None = None, dropped: str | None = None) -> Entry:
    chosen, rejected = ref(one.chosen), ref(one.rejected)
    of_pair = (pair, chosen.record_id, chosen.annotator, chosen, rejected, one.source)
    return Entry(*of_pair, why, dropped, one.factors, one.weight)


def _reasons(entries: Sequence[Entry]) -> str:
    counted = Counter(entry.dropped for entry in entries if entry.dropped)
    return "; ".join(f"{reason}: {count}" for reason, count in counted.most_common()) or "nobody said anything"


def write_pairs(path: str | Path, pairs: Iterable[PreferencePair]) -> int:
    """Write pairs as JSON lines, whole or not at all; give how many."""
    return write_jsonl(path, pairs)


def read_pairs(path: str | Path) -> list[PreferencePair]:
    """Read pairs from JSON lines.

    Raises:
        InputError: with file, line and field.
    """
    return list(read_jsonl(path, _to_pair))


def _to_pair(row: Any) -> PreferencePair:
    try:
        return msgspec.convert(row, PreferencePair)
    except msgspec.ValidationError as error:
        raise InputError(f"not a preference pair ({error})") from None
