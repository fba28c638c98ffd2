"""MedicalBios: biographies of five occupations, with the words that several people marked (coastalcph/medical-bios).

One JSON object a line, as `datasets` writes the configuration `rationales` with `to_json`: `words`, a list of 0 and 1
for each of the people in `annotations` ("why this occupation?") and `contrastive_annotations` ("why this one rather
than `foil`?"), `label` and `foil` as names or numbers.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from raison.records import Annotation, Fault, InputError, Record
from raison.sources.common import Item, explain, json_lines
from raison.words import spans_of_words, whitespace_words

LABELS = ("psychologist", "surgeon", "nurse", "dentist", "physician")  # in the order of their numbers
QUESTIONS = {"standard": "annotations", "contrastive": "contrastive_annotations"}


class _Bio(msgspec.Struct):
    words: list[str]
    label: int | str
    foil: int | str | None = None
    annotations: list[list[int]] | None = None
    contrastive_annotations: list[list[int]] | None = None


def read_medical_bios(path: str | Path, question: str = "standard") -> Iterator[Item]:
    """Yield the records of MedicalBios, with ids `bio-n`, n the line from 1; the foil goes into `meta.foil`.

    The annotators are not named: the first list is annotator "1" of its own record, and no person over records.

    Args:
        path: the file.
        question: whose answers the rationales are: `standard`, or `contrastive`.

    Raises:
        InputError: the question is unknown.
    """
    if question not in QUESTIONS:
        raise InputError(f"question {question!r}: expected {' or '.join(QUESTIONS)}")
    for item in json_lines(path):
        if isinstance(item, Fault):
            yield item
            continue
        number, row = item
        try:
            yield number, _record(number, msgspec.convert(row, _Bio), QUESTIONS[question])
        except msgspec.ValidationError as error:
            yield Fault(str(path), number, explain(error))
        except InputError as error:
            yield Fault(str(path), number, str(error))


def _record(number: int, bio: _Bio, field: str) -> Record:
    text = " ".join(bio.words)
    words = whitespace_words(text)
    if len(words) != len(bio.words):
        raise InputError("field `words`: a word is empty or has whitespace in it")
    notes: list[Annotation] = []
    for index, flags in enumerate(getattr(bio, field) or []):
        if len(flags) != len(words) or not {0, 1}.issuperset(flags):
            raise InputError(f"field `{field}[{index}]`: expected 0 or 1 for each of {len(words)} words")
        spans = spans_of_words(words, np.array(flags, dtype=np.bool_))
        notes.append(Annotation(annotator=str(index + 1), rationale={"text": spans}))
    return Record(
        id=f"bio-{number}",
        task="occupation",
        fields={"text": text},
        label=_name(bio.label, "label"),
        label_set=LABELS,
        annotations=tuple(notes),
        meta={} if bio.foil is None else {"foil": _name(bio.foil, "foil")},
    )


def _name(given: int | str, field: str) -> str:
    """Give the occupation, from its name or its number."""
    if isinstance(given, int) and 0 <= given < len(LABELS):
        return LABELS[given]
    if given in LABELS:
        return str(given)
    raise InputError(f"field `{field}`: expected one of {', '.join(LABELS)}, or 0 to 4, found {given!r}")
