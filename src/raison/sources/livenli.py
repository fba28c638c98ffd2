"""LiveNLI: `livenli.csv` as its authors publish it (Jiang, Tan and de Marneffe 2023).

Each row is one person's labels (often several), one explanation of them all, and what they highlighted.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from raison.records import Annotation, Fault, InputError, Record, Span, Spans, problems
from raison.sources.cells import Row, cell_rows
from raison.sources.common import Item, is_missing, majority, tidy
from raison.sources.litex import LABELS, Categories, collapsed, live_labels

COLUMNS = ("uid", "premise", "hypothesis", "worker_id", "multilabel", "explanation")
_PUBLISHED = (  # the columns of the file, behind which its header has one cell more that no row has
    "uid", "premise", "hypothesis", "chaos_dist", "mnli_labels", "worker_id", "multilabel", "explanation",
    "highlight_p", "highlight_h", "dist", "agg_dist", "taxonomy", "within_label_variation",
)  # fmt: skip
_HIGHLIGHTS = {"premise": "highlight_p", "hypothesis": "highlight_h"}


def read_livenli(path: str | Path, categories: str | None = None) -> Iterator[Item]:
    """Yield the records of LiveNLI: one annotation for each person.

    `labels` are all that the person chose; `label` is the only one, or null where there are several, since one
    explanation stands for them all. The label of a record is the majority of those who chose one. A highlight that
    does not lie where it says makes the rationale null: it can't be recovered.

    Args:
        path: `livenli.csv`. Its rows are held in memory.
        categories: LiTEx's `annotations_livenli.jsonl`: its categories are joined as `category`.

    Raises:
        InputError: `categories` can't be read.
    """
    joined = Categories(categories) if categories else None
    groups: dict[str, list[tuple[int, Row]]] = {}
    for item in cell_rows(path, COLUMNS, _PUBLISHED):
        if isinstance(item, Fault):
            yield item
        elif is_missing(item[1]["uid"]):
            yield Fault(str(path), item[0], "field `uid`: empty; expected a text")
        else:
            groups.setdefault(item[1]["uid"], []).append(item)
    for rows in groups.values():
        try:
            record = _record(rows)
            yield rows[0][0], joined.join(record) if joined else record
        except InputError as error:
            yield error.args[0] if len(error.args) == 1 else Fault(str(path), *cast("tuple[int, str]", error.args))
    if joined:
        yield from joined.unused()


def _record(rows: list[tuple[int, Row]]) -> Record:
    """Make one item of its rows.

    Raises:
        InputError: with a line and a message.
    """
    first = rows[0][1]
    annotations: list[Annotation] = []
    for line, row in rows:
        try:
            annotations.append(_annotation(row, first))
        except InputError as error:
            raise InputError(line, str(error)) from None
    chaos = _literal(first.get("chaos_dist", ""))
    record = Record(
        id=first["uid"],
        task="nli",
        fields={name: first[name] for name in _HIGHLIGHTS},
        label=majority([said.label for said in annotations]),
        label_set=LABELS,
        annotations=tuple(annotations),
        meta={"chaosnli": chaos} if isinstance(chaos, dict) else {},
    )
    if problem := next(problems(record), None):
        raise InputError(rows[0][0], problem)
    return record


def _annotation(row: Row, first: Row) -> Annotation:
    for name in _HIGHLIGHTS:
        if is_missing(row[name]):
            raise InputError(f"field `{name}`: empty; expected a text")
        if row[name] != first[name]:
            raise InputError(f"field `{name}`: another text than in the first row of uid {row['uid']!r}")
    try:
        labels = live_labels(row["multilabel"])
    except InputError as error:
        raise InputError(f"field `multilabel`: {error}") from None
    return Annotation(
        annotator=None if is_missing(row["worker_id"]) else row["worker_id"],
        label=labels[0] if len(labels) == 1 else None,
        rationale=_rationale(row),
        explanation=None if is_missing(row["explanation"]) else collapsed(row["explanation"]),
        extra={"labels": labels},
    )


def _rationale(row: Row) -> Spans | None:
    """Read what was highlighted; None where nothing is said of it, or where it does not lie in the texts."""
    found: Spans = {}
    for name, column in _HIGHLIGHTS.items():
        spans = _spans(_literal(row.get(column, "")), row[name])
        if spans is None:
            return None
        found[name] = tidy(row[name], spans)
    return found


def _spans(cell: Any, text: str) -> list[Span] | None:
    if not isinstance(cell, Mapping):
        return None
    spans: list[Span] = []
    for entity in cast("Mapping[str, list[dict[str, Any]]]", cell).get("entities", []):
        span = Span(entity.get("startIndex", -1), entity.get("endIndex", -1))
        marked = entity.get("text")
        if not 0 <= span.start < span.end <= len(text) or marked not in (None, text[span.start : span.end]):
            return None
        spans.append(span)
    return spans


def _literal(cell: str) -> Any:
    """Read a cell that Python wrote of a value of its own; None where it is empty or no such thing."""
    try:
        return ast.literal_eval(cell) if cell.strip() else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
