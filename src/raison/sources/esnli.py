"""e-SNLI: CSV as its authors publish it, dev and train layouts.

Highlights come from `Sentence{1,2}_marked_k` only, where the highlighted words are wrapped in `*`;
`Sentence{1,2}_Highlighted_k` is ignored, as its authors advise.
"""

from collections.abc import Iterator
from pathlib import Path

from raison.records import Annotation, Fault, InputError, Record, Span, problems
from raison.sources.cells import Row, cell_rows
from raison.sources.common import Item, is_missing
from raison.sources.marks import starred_words

COLUMNS = (
    "pairID",
    "gold_label",
    "Sentence1",
    "Sentence2",
    "Explanation_1",
    "Sentence1_marked_1",
    "Sentence2_marked_1",
)
LABELS = ("entailment", "neutral", "contradiction")
_FIELDS = {"premise": "Sentence1", "hypothesis": "Sentence2"}


def read_esnli(path: str | Path) -> Iterator[Item]:
    """Yield the records of an e-SNLI CSV, with one annotation for each of its up to three annotators.

    Annotators are the slots `1`, `2`, `3`; in the train layout, the worker that the file names. Runs of whitespace
    in explanations become single spaces.
    """
    for item in cell_rows(path, COLUMNS):
        if isinstance(item, Fault):
            yield item
            continue
        line, row = item
        try:
            yield line, _record(row)
        except InputError as error:
            yield Fault(str(path), line, str(error))


def _record(row: Row) -> Record:
    for column in ("pairID", "Sentence1", "Sentence2"):
        if is_missing(row[column]):
            raise InputError(f"field `{column}`: empty; expected a text")
    label = row["gold_label"]
    slots = [slot for slot in "123" if f"Sentence2_marked_{slot}" in row]
    annotations = (_annotation(row, slot, label) for slot in slots)
    record = Record(
        id=row["pairID"],
        task="nli",
        fields={name: row[column] for name, column in _FIELDS.items()},
        label=label,
        label_set=LABELS,
        annotations=tuple(annotation for annotation in annotations if annotation),
    )
    if problem := next(problems(record), None):
        raise InputError(problem.replace("`label`", "`gold_label`"))
    return record


def _annotation(row: Row, slot: str, label: str) -> Annotation | None:
    """Give what one annotator said; None where the slot is empty."""
    explanation = row.get(f"Explanation_{slot}", "")
    marked = {name: f"{column}_marked_{slot}" for name, column in _FIELDS.items()}
    given = {name: column for name, column in marked.items() if not _absent(row.get(column, ""))}
    if _absent(explanation) and not given:
        return None
    if given and len(given) < len(marked):
        raise InputError(f"field `{next(c for n, c in marked.items() if n not in given)}`: empty, its pair is not")
    return Annotation(
        annotator=row.get("WorkerId") or slot if slot == "1" else slot,
        label=label,
        rationale={name: _marked(row, name, column) for name, column in given.items()} or None,
        explanation=None if _absent(explanation) else " ".join(explanation.split()),
    )


def _marked(row: Row, name: str, column: str) -> tuple[Span, ...]:
    try:
        return starred_words(row[column], row[_FIELDS[name]])
    except InputError as error:
        raise InputError(f"field `{column}`: {error}") from None


def _absent(cell: str) -> bool:
    return is_missing(cell) or cell.strip() == "NA"
