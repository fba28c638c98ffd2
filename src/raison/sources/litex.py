"""LiTEx: categories of NLI explanations (Hong et al. 2025), in the e-SNLI, LiveNLI and VariErr parts of its authors.

The file does not say whose an explanation is. It is joined with the data set that does by the item and the wording,
white space aside: whose it is then comes from there (`annotators`), or the category goes there (`categories` of the
readers of VariErr and LiveNLI).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from raison.records import Annotation, Fault, InputError, Record, Spans, problems
from raison.sources.common import Item, explain, json_lines, majority
from raison.words import spans_of_words, whitespace_words

LABELS = ("entailment", "neutral", "contradiction")
LIVE = {"true": "entailment", "either": "neutral", "false": "contradiction"}  # what LiveNLI's annotators chose from

Category = str | list[str]


class _Row(msgspec.Struct):
    pairID: str
    premise: str
    hypothesis: str
    explanation: str
    explanation_category: Category
    gold_label: str | None = None
    Sentence1_Highlighted: str | None = None
    Sentence2_Highlighted: str | None = None


def collapsed(text: str) -> str:
    """Give a text with its runs of white space as single spaces, and none at its ends."""
    return " ".join(text.split())


def live_labels(cell: str) -> list[str]:
    """Read LiveNLI's labels of one person: `true | either` are entailment and neutral.

    Raises:
        InputError: a part is none of true, either, false.
    """
    parts = [part.strip() for part in cell.split("|")]
    wrong = next((part for part in parts if part not in LIVE), None)
    if wrong is not None:
        raise InputError(f"{wrong!r} is not one of {', '.join(LIVE)}")
    return [LIVE[part] for part in parts]


def read_litex(path: str | Path, annotators: str | None = None) -> Iterator[Item]:
    """Yield the records of a LiTEx file; the rows of one item are its annotations.

    Highlights (word positions, in the e-SNLI part) become spans, and `category` is as in the file: a text, or a list
    of texts in the LiveNLI part. There `labels` are all that the person chose, and `label` only where it is one.

    Args:
        path: the file, JSON lines. Its rows are held in memory.
        annotators: data in any format that say who explained the same items; without them, or where the wording is
            nobody's or that of several people, an annotation has no annotator.

    Raises:
        InputError: `annotators` can't be read.
    """
    owners = _owners(annotators) if annotators else {}
    groups: dict[str, list[tuple[int, _Row]]] = {}
    for item in _rows(path):
        if isinstance(item, Fault):
            yield item
        else:
            groups.setdefault(item[1].pairID, []).append(item)
    for rows in groups.values():
        try:
            yield rows[0][0], _record(rows, owners)
        except InputError as error:
            yield Fault(str(path), *cast("tuple[int, str]", error.args))


def _rows(path: str | Path) -> Iterator[tuple[int, _Row] | Fault]:
    for item in json_lines(path, nan=True):
        if isinstance(item, Fault):
            yield item
            continue
        line, row = item
        if isinstance(row, dict):  # pandas writes NaN for what is not there
            row = {key: None if cell != cell else cell for key, cell in cast("dict[str, Any]", row).items()}  # noqa: PLR0124
        try:
            yield line, msgspec.convert(row, _Row)
        except msgspec.ValidationError as error:
            yield Fault(str(path), line, explain(error))


def _owners(path: str) -> dict[tuple[str, str], str | None]:
    """Say whose each wording is; None where it is that of several people."""
    from raison.sources import load  # which knows this reader in turn

    owners: dict[tuple[str, str], str | None] = {}
    for record in load(path):
        for said in record.annotations:
            if said.explanation:
                key = record.id, collapsed(said.explanation)
                owners[key] = said.annotator if owners.get(key, said.annotator) == said.annotator else None
    return owners


def _record(rows: list[tuple[int, _Row]], owners: Mapping[tuple[str, str], str | None]) -> Record:
    """Make one item of its rows.

    Raises:
        InputError: with a line and a message.
    """
    fields = {"premise": rows[0][1].premise, "hypothesis": rows[0][1].hypothesis}
    annotations: list[Annotation] = []
    for line, row in rows:
        try:
            annotations.append(_annotation(row, fields, owners))
        except InputError as error:
            raise InputError(line, str(error)) from None
    record = Record(
        id=rows[0][1].pairID,
        task="nli",
        fields=fields,
        label=majority([annotation.label for annotation in annotations]),
        label_set=LABELS,
        annotations=tuple(annotations),
    )
    if problem := next(problems(record), None):
        raise InputError(rows[0][0], problem)
    return record


def _annotation(row: _Row, fields: dict[str, str], owners: Mapping[tuple[str, str], str | None]) -> Annotation:
    for name, text in {"premise": row.premise, "hypothesis": row.hypothesis}.items():
        if text != fields[name]:
            raise InputError(f"field `{name}`: another text than in the first row of pairID {row.pairID!r}")
    label, extra = _label(row)
    explanation = collapsed(row.explanation)
    return Annotation(
        annotator=owners.get((row.pairID, explanation)),
        label=label,
        rationale=_rationale(row, fields),
        explanation=explanation or None,
        extra={**extra, "category": row.explanation_category},
    )


def _label(row: _Row) -> tuple[str | None, dict[str, Any]]:
    """Read the label; in LiveNLI's words it may be several."""
    if row.gold_label is None or row.gold_label in LABELS:
        return row.gold_label, {}
    try:
        labels = live_labels(row.gold_label)
    except InputError as error:
        raise InputError(f"field `gold_label`: {error}") from None
    return labels[0] if len(labels) == 1 else None, {"labels": labels}


def _rationale(row: _Row, fields: dict[str, str]) -> Spans | None:
    cells = {"premise": row.Sentence1_Highlighted, "hypothesis": row.Sentence2_Highlighted}
    if None in cells.values():
        return None
    rationale: Spans = {}
    for number, (name, cell) in enumerate(cells.items(), 1):
        words = whitespace_words(fields[name])
        mask = np.zeros(len(words), dtype=np.bool_)
        positions = [int(digits) for digits in re.findall(r"\d+", cell or "")]
        outside = next((position for position in positions if position >= len(words)), None)
        if outside is not None:
            raise InputError(f"field `Sentence{number}_Highlighted`: word {outside} of {len(words)}, counted from 0")
        mask[positions] = True
        rationale[name] = spans_of_words(words, mask)
    return rationale


# ------------------------------------------------------------------------------------------- joined to other sets


class Categories:
    """LiTEx's categories, to be joined to the annotations of another data set."""

    def __init__(self, path: str) -> None:
        """Read a LiTEx file.

        Raises:
            InputError: it can't be read, or gives one explanation of an item two categories.
        """
        self.path = path
        self.given: dict[str, dict[str, tuple[int, Category]]] = {}  # item -> wording -> its line and category
        self.fits: bool | None = None  # whether one of its items was among the records; None = there was no record
        for item in _rows(path):
            if isinstance(item, Fault):
                raise InputError(item)
            line, row = item
            of_item = self.given.setdefault(row.pairID, {})
            before = of_item.setdefault(collapsed(row.explanation), (line, row.explanation_category))
            if before[1] != row.explanation_category:
                message = f"field `explanation_category`: another one than in line {before[0]} for the same explanation"
                raise InputError(Fault(path, line, message))
        if not self.given:
            raise InputError(f"{path}: the file is empty; expected LiTEx's annotations, one JSON object a line")

    def join(self, record: Record) -> Record:
        """Give the record with the `category` of its explanations, where there is one.

        Raises:
            InputError: with the Fault: LiTEx has an explanation of this item that nobody in the record gave.
        """
        self.fits = self.fits or record.id in self.given
        waiting = dict(self.given.get(record.id, {}))
        annotations: list[Annotation] = []
        for said in record.annotations:
            wording = collapsed(said.explanation or "")
            found = self.given.get(record.id, {}).get(wording)
            waiting.pop(wording, None)
            extra = {**said.extra, "category": found[1]} if found else said.extra
            annotations.append(msgspec.structs.replace(said, extra=extra))
        for line, _ in waiting.values():
            message = f"field `explanation`: nobody gave this explanation of item {record.id!r}; is it the same data?"
            raise InputError(Fault(self.path, line, message))
        return msgspec.structs.replace(record, annotations=tuple(annotations))

    def unused(self) -> Iterator[Fault]:
        """Yield, after the last record, the fault that none of the file's items was among them."""
        if self.fits is False:
            yield Fault(self.path, None, "none of its items is in the data; is it the same data set?")

    def found(self, records: Iterable[Record]) -> int:
        """Count the file's items that are among the records."""
        return len(self.given.keys() & {record.id for record in records})
