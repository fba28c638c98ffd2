"""Corpora with a planted truth: invented texts whose label follows a rule, so that the deciding words are known.

`single`: a short review. One word of praise or of blame decides, or none stands there ("neutral"); a negator in its
sentence turns it round. `pair`: a premise and a hypothesis, each with one word for what a place was like. Two words
of one meaning give entailment, of opposite meanings contradiction, of unrelated ones neutral; a negator swaps the
first two. Every concept has several words.

What looks like a cue but decides nothing: other adjectives in the same place of the sentence, adverbs in the place
of the negator, and negators in sentences (or pairs) whose label they do not change.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from raison.records import Annotation, InputError, Record, Span
from raison.testbed import lexicon
from raison.words import Mask, WordGrid, spans_of_words, whitespace_words, word_grid, words_in_spans

Kind = Literal["single", "pair"]
LABELS: dict[str, tuple[str, ...]] = {
    "single": ("positive", "neutral", "negative"),
    "pair": ("entailment", "neutral", "contradiction"),
}


class Person(msgspec.Struct, frozen=True):
    """A simulated annotator, who marks the planted words, with mistakes."""

    name: str
    miss: float = 0.0  # chance that a planted word is left out
    extra: float = 0.0  # chance that another word is marked
    extend: float = 0.0  # chance that a neighbour of a marked word is marked with it


PEOPLE = (
    Person("ann-1", miss=0.05, extra=0.01, extend=0.1),
    Person("ann-2", miss=0.15, extra=0.01, extend=0.1),
    Person("ann-3", miss=0.05, extra=0.02, extend=0.3),
)


class _Text(NamedTuple):
    """The words of a text with their punctuation, and whether each is planted."""

    words: list[str]
    planted: list[bool]


def make_corpus(
    kind: Kind,
    size: int,
    seed: int = 0,
    *,
    noise: float = 0.0,
    length: int = 2,
    people: Sequence[Person] = PEOPLE,
) -> list[Record]:
    """Write a corpus. The first records of a larger one are those of a smaller one, but for its size.

    Args:
        kind: `single` (fields: text) or `pair` (fields: premise, hypothesis).
        size: how many records.
        seed: of every draw.
        noise: share of records whose label is another than the rule gives.
        length: sentences of a review, or of a premise; one of them decides.
        people: who annotates; each gives the rule's label, and marks words with mistakes of their own.

    Returns:
        Records with `meta["truth"]`, {field: [[start, end], ...]}, one span for each planted word (none in a review
        that is neutral), and `meta["rule"]`, the label before noise.

    Raises:
        InputError: the kind is unknown, or a number is out of range.
    """
    if kind not in LABELS:
        raise InputError(f"unknown corpus {kind!r}; expected one of {', '.join(LABELS)}")
    if size < 0 or length < 1 or not 0 <= noise <= 1:
        raise InputError("expected a size of at least 0, a length of at least 1 and a noise from 0 to 1")
    return [
        _record(kind, name, random.Random(name), noise=noise, length=length, people=people)
        for name in (f"{kind}-{seed}-{index}" for index in range(size))
    ]


def _record(
    kind: Kind, identity: str, draw: random.Random, *, noise: float, length: int, people: Sequence[Person]
) -> Record:
    texts = _review(draw, length) if kind == "single" else _pair(draw, length)
    fields = {name: " ".join(text.words) for name, text in texts.items()}
    rule = rule_label(fields)
    assert rule is not None
    others = [label for label in LABELS[kind] if label != rule]
    noisy = draw.random() < noise
    truth = {name: _planted_spans(fields[name], text.planted) for name, text in texts.items()}
    record = Record(
        identity,
        fields,
        task="sentiment" if kind == "single" else "nli",
        label=draw.choice(others) if noisy else rule,
        label_set=LABELS[kind],
        meta={"truth": truth, "rule": rule},
    )
    annotations = tuple(_annotate(record, rule, person, draw) for person in people)
    return msgspec.structs.replace(record, annotations=annotations)


def _planted_spans(text: str, planted: Sequence[bool]) -> list[list[int]]:
    return [list(span) for span, decides in zip(whitespace_words(text), planted, strict=True) if decides]


# --------------------------------------------------------------------------------------------------- texts


def _review(draw: random.Random, length: int) -> dict[str, _Text]:
    label = draw.choice(LABELS["single"])
    sentences = [_aside(draw) for _ in range(length - 1)]
    if label == "neutral":
        deciding = _sentence(draw, lexicon.VERDICTS, draw.choice(lexicon.PLAIN), draw.random() < NEGATED, planted=False)
    else:
        negated = draw.random() < NEGATED
        concept = "praise" if (label == "positive") != negated else "blame"
        deciding = _sentence(draw, lexicon.VERDICTS, draw.choice(lexicon.OPINIONS[concept]), negated, planted=True)
    sentences.insert(draw.randrange(length), deciding)
    return {"text": _joined(sentences)}


NEGATED = 1 / 3  # share of the sentences with an adjective that are negated


def _aside(draw: random.Random) -> _Text:
    """Write a sentence that decides nothing."""
    if draw.random() < 0.6:
        return _sentence(draw, lexicon.VERDICTS, draw.choice(lexicon.PLAIN), draw.random() < 0.4, planted=False)
    return _sentence(draw, lexicon.ASIDES, "", False, planted=False)


def _pair(draw: random.Random, length: int) -> dict[str, _Text]:
    label = draw.choice(LABELS["pair"])
    family, other = draw.sample(lexicon.QUALITIES, 2)
    first, second = draw.sample(family, 2)
    negated = draw.random() < NEGATED
    in_premise = draw.random() < 0.5
    if label == "neutral":
        second = draw.choice(other)
    elif (label == "entailment") != negated:
        second = first
    flips = negated and label != "neutral"
    place = draw.choice(lexicon.PLACES)
    premise = [_aside_pair(draw) for _ in range(length - 1)]
    one, two = _differing(draw, first, second)
    deciding = _sentence(draw, lexicon.PREMISES, one, negated and in_premise, planted=True, flips=flips, place=place)
    premise.insert(draw.randrange(length), deciding)
    hypothesis = _sentence(
        draw, lexicon.HYPOTHESES, two, negated and not in_premise, planted=True, flips=flips, place=place
    )
    return {"premise": _joined(premise), "hypothesis": hypothesis}


def _differing(draw: random.Random, first: Sequence[str], second: Sequence[str]) -> tuple[str, str]:
    """Choose a word of each concept; two words where the concept is the same."""
    one = draw.choice(first)
    return one, draw.choice([word for word in second if word != one])


def _aside_pair(draw: random.Random) -> _Text:
    return _sentence(draw, lexicon.ASIDES, "", False, planted=False)


def _sentence(
    draw: random.Random,
    templates: Sequence[str],
    cue: str,
    negated: bool,
    *,
    planted: bool,
    flips: bool | None = None,
    place: str | None = None,
) -> _Text:
    """Fill a template; `planted` says it of the cue, `flips` of the negator (by default the same)."""
    adverb = draw.choice(lexicon.NEGATORS if negated else lexicon.ADVERBS)
    slots = {name: draw.choice(words) for name, words in lexicon.FILLERS.items()}
    slots |= {"cue": cue, "adv": adverb, **({"place": place} if place else {})}
    decides = {"{cue}": planted, "{adv}": negated and (planted if flips is None else flips)}
    words: list[str] = []
    marks: list[bool] = []
    for part in draw.choice(templates).split():
        filled = part.format(**slots).split()
        words += filled
        marks += [decides.get(part.rstrip(".,"), False)] * len(filled)
    words[0] = words[0][0].upper() + words[0][1:]
    return _Text(words, marks)


def _joined(sentences: Sequence[_Text]) -> _Text:
    return _Text([w for s in sentences for w in s.words], [p for s in sentences for p in s.planted])


# --------------------------------------------------------------------------------------------------- rule


def rule_label(fields: Mapping[str, str]) -> str | None:
    """Give the label that the rule gives to texts, read from the texts alone.

    Returns:
        The label; None where the rule says nothing (a pair in which a text has no cue).
    """
    if "text" in fields:
        concept, negated = _reading(fields["text"], lexicon.OPINIONS)
        if concept is None:
            return "neutral"
        return "positive" if (concept == "praise") != negated else "negative"
    first, here = _reading(fields["premise"], lexicon.CONCEPTS)
    second, there = _reading(fields["hypothesis"], lexicon.CONCEPTS)
    if first is None or second is None:
        return None
    if first[0] != second[0]:
        return "neutral"
    return "entailment" if (first == second) != (here != there) else "contradiction"


def _reading(text: str, concepts: Mapping[Any, Sequence[str]]) -> tuple[Any, bool]:
    """Find the concept in a text, and whether a negator stands in its sentence."""
    for sentence in text.split("."):
        words = [word.strip(",").lower() for word in sentence.split()]
        for concept, names in concepts.items():
            if any(word in names for word in words):
                return concept, any(word in lexicon.NEGATORS for word in words)
    return None, False


# --------------------------------------------------------------------------------------------------- people


def _annotate(record: Record, label: str, person: Person, draw: random.Random) -> Annotation:
    grid = word_grid(record)
    rationale: dict[str, tuple[Span, ...]] = {}
    for name, planted in grid.split(truth_mask(record, grid)).items():
        marked = [draw.random() >= person.miss if hit else draw.random() < person.extra for hit in planted]
        for index in [i for i, hit in enumerate(marked) if hit]:
            if draw.random() < person.extend:
                neighbour = index + draw.choice((-1, 1))
                if 0 <= neighbour < len(marked):
                    marked[neighbour] = True
        rationale[name] = spans_of_words(grid.words[name], np.array(marked, dtype=np.bool_))
    return Annotation(person.name, label, rationale)


def truth_mask(record: Record, grid: WordGrid) -> Mask:
    """Mark the planted words of a record on its grid: boolean (words,); nothing where none was planted.

    Raises:
        InputError: the record carries no truth, or one that is not of its fields.
    """
    try:
        truth = msgspec.convert(record.meta.get("truth"), dict[str, list[Span]])
        masks = {name: words_in_spans(grid.words[name], spans) for name, spans in truth.items()}
    except (msgspec.ValidationError, KeyError):
        message = f"record {record.id!r} has no planted truth (`meta.truth`); make it with make_corpus"
        raise InputError(message) from None
    return grid.join(masks, fill=False)
