"""Highlights derived from explanations: the words of a text that a person's explanation names."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from statistics import fmean

import msgspec
import numpy as np

from raison.rationales import pairwise_f1
from raison.records import Annotation, InputError, Record, Span, Spans
from raison.sources.common import bare
from raison.words import Mask, Segmenter, WordGrid, human_masks, spans_of_words, whitespace_words, word_grid

PREFIX = "explanation:"  # before the name of the person; `explanation` alone for a person without one
COMMON = 0.15  # share of explanations above which a word says nothing about the text
_FEW = 20  # a word of no more explanations than this is never common


def from_explanations(
    records: Collection[Record], common: float = COMMON, segment: Segmenter = whitespace_words
) -> list[Record]:
    """Add to each explanation an annotator `explanation:NAME` who marks the words of the texts that it names.

    Words are compared without case and without the punctuation around them. Words that stand in more than a share of
    all explanations (`the`, `is`, `because`) are left out; so the records are needed together, but no list of stop
    words in any language. A word that stands in no more than 20 explanations is never left out.

    Args:
        records: the records. An annotation without an explanation gives none; an explanation that names no word of the
            texts has marked nothing (`{field: ()}`).
        common: the share of explanations above which a word is left out; 1 leaves none out.
        segment: what a word is.

    Raises:
        InputError: a record has derived annotations already.
    """
    stop = common_words(records, common, segment)
    return [
        msgspec.structs.replace(record, annotations=(*record.annotations, *_derived(record, stop, segment)))
        for record in records
    ]


def common_words(records: Iterable[Record], common: float = COMMON, segment: Segmenter = whitespace_words) -> set[str]:
    """Give the words that stand in more than a share of all explanations, and in more than 20 of them."""
    counts: Counter[str] = Counter()
    total = 0
    for record in records:
        for annotation in record.annotations:
            if annotation.explanation:
                total += 1
                counts.update(_named(annotation.explanation, segment))
    return {word for word, count in counts.items() if count > max(common * total, _FEW)}


def _named(explanation: str, segment: Segmenter) -> set[str]:
    return {bare(explanation[start:end]) for start, end in segment(explanation)}


def derived_name(annotator: str | None) -> str:
    """Name the annotator whose highlights are derived from this person's explanations."""
    return PREFIX.rstrip(":") if annotator is None else f"{PREFIX}{annotator}"


def is_derived(annotation: Annotation) -> bool:
    """Whether an annotation was derived from an explanation."""
    return f"{annotation.annotator}:".startswith(PREFIX)


def _derived(record: Record, stop: set[str], segment: Segmenter) -> list[Annotation]:
    found: list[Annotation] = []
    if any(is_derived(annotation) for annotation in record.annotations):
        raise InputError(f"record {record.id!r} has annotations derived from explanations already")
    for annotation in record.annotations:
        if not annotation.explanation:
            continue
        named = _named(annotation.explanation, segment) - stop
        rationale = {name: _spans(text, named, segment) for name, text in record.fields.items()}
        found.append(Annotation(derived_name(annotation.annotator), annotation.label, rationale))
    return found


def _spans(text: str, named: Collection[str], segment: Segmenter) -> tuple[Span, ...]:
    words = segment(text)
    mask = np.array([bare(text[start:end]) in named for start, end in words], dtype=np.bool_)
    return spans_of_words(words, mask)


# ------------------------------------------------------------------------------------------------ agreement


class Agreement(msgspec.Struct, frozen=True):
    """How far the rationales derived from a person's explanations agree with what the person highlighted.

    Means over the records where one of the two marks a word.
    """

    source: str  # the derived annotator
    records: int  # over which the mean goes
    f1: float  # token F1, 2 |a and b| / (|a| + |b|)
    chance: float  # expected for as many words, chosen at random
    select_all: float  # of all words of the record
    people: float | None  # of the highlights of two people, over all pairs in the records; None without any

    @property
    def frame(self) -> dict[str, float | None]:
        """The references beside which the F1 stands."""
        return {"chance": self.chance, "select_all": self.select_all, "people": self.people}


def own_agreement(records: Iterable[Record], segment: Segmenter = whitespace_words) -> list[Agreement]:
    """Compare derived rationales with the highlights of the same people, where they gave both.

    Args:
        records: what `from_explanations` gave.
        segment: what a word is.

    Returns:
        One item for each derived annotator, where one of the two marks a word in a record that has both.
    """
    values: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    pairs: list[float] = []
    for record in records:
        grid = word_grid(record, segment)
        people, derived = _parted(record)
        pairs += pairwise_f1(_masks(grid, [annotation.rationale for annotation in people]))
        explained = [annotation for annotation in people if annotation.explanation]
        for person, own in zip(explained, derived, strict=False):
            if person.rationale is not None and own.rationale is not None:
                found, wanted = _masks(grid, [own.rationale, person.rationale])
                if found.any() or wanted.any():
                    values[own.annotator or ""].append(_with_references(found, wanted))
    return [
        Agreement(source, len(rows), *(fmean(column) for column in zip(*rows, strict=True)), people=_mean(pairs))
        for source, rows in values.items()
    ]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _parted(record: Record) -> tuple[list[Annotation], list[Annotation]]:
    """Part the annotations into people's and derived ones, which stand in the order of the explanations."""
    derived = [annotation for annotation in record.annotations if is_derived(annotation)]
    return [annotation for annotation in record.annotations if not is_derived(annotation)], derived


def _masks(grid: WordGrid, rationales: Sequence[Spans | None]) -> Mask:
    rows = tuple(Annotation(rationale=rationale) for rationale in rationales)
    return human_masks(Record("", {}, annotations=rows), grid)


def _with_references(found: Mask, wanted: Mask) -> tuple[float, float, float]:
    """Give token F1; that expected of as many words drawn at random (their overlap is a b / n); that of all words."""
    a, b, n = int(found.sum()), int(wanted.sum()), len(found)
    return 2 * int((found & wanted).sum()) / (a + b), 2 * a * b / n / (a + b), 2 * b / (n + b)
