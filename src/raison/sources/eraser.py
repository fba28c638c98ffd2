"""ERASER: a JSON-lines file of items, and the documents they cite in a folder beside it.

Each evidence group is an annotation `evidence-k`: any one of them suffices for the label. Token offsets are
those of the document's whitespace words.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from raison.records import Annotation, Fault, InputError, Record, Span, Spans, problems
from raison.sources.common import Item, explain, json_lines
from raison.words import spans_of_words, whitespace_words

_FEVER = ("SUPPORTS", "REFUTES")


class _Evidence(msgspec.Struct):
    docid: str
    start_token: int
    end_token: int
    text: str | None = None


class _Row(msgspec.Struct):
    annotation_id: str
    classification: str
    evidences: list[list[_Evidence]]
    query: str | None = None
    docids: list[str] | None = None

    @property
    def documents(self) -> tuple[str, ...]:
        """Give the documents it cites, once each, in order."""
        cited = self.docids or [evidence.docid for group in self.evidences for evidence in group]
        return tuple(dict.fromkeys(cited))


class _Frame(NamedTuple):
    """What is the same for all records of a file."""

    query: str  # the name of its field
    task: str
    label_set: tuple[str, ...]


def read_eraser(
    path: str | Path, docs: str | None = None, query: str | None = None, task: str | None = None
) -> Iterator[Item]:
    """Yield the records of an ERASER file: fields `query` (if there is one) and `document`.

    An item that cites several documents has them one after the other, a line break between. Where the first item is
    labelled as in FEVER, the query is the field `claim` and task and label set are FEVER's.

    Args:
        path: the JSON-lines file.
        docs: the folder of documents; by default `docs` beside the file.
        query: the name of the query's field.
        task: the records' task.
    """
    folder = Path(docs) if docs else Path(path).parent / "docs"
    read = lru_cache(maxsize=64)(lambda docid: _document(folder, docid))  # neighbours cite the same document
    frame: _Frame | None = None
    for item in json_lines(path):
        if isinstance(item, Fault):
            yield item
            continue
        try:
            row = msgspec.convert(item[1], _Row)
            frame = frame or _frame(row.classification in _FEVER, query, task)
            yield item[0], _record(row, [read(docid) for docid in row.documents], frame)
        except msgspec.ValidationError as error:
            yield Fault(str(path), item[0], explain(error))
        except InputError as error:
            yield Fault(str(path), item[0], str(error))


def _frame(fever: bool, query: str | None, task: str | None) -> _Frame:
    if fever:
        return _Frame(query or "claim", "fact_verification" if task is None else task, _FEVER)
    return _Frame(query or "query", task or "", ())


def _record(row: _Row, documents: Sequence[str], frame: _Frame) -> Record:
    text = "\n".join(documents)
    starts = dict(zip(row.documents, _starts(documents), strict=True))
    record = Record(
        id=row.annotation_id,
        task=frame.task,
        fields={**({frame.query: row.query} if row.query else {}), "document": text},
        label=row.classification,
        label_set=frame.label_set,
        annotations=_annotations(row, text, starts),
        meta={"docids": list(row.documents)},
    )
    if problem := next(problems(record), None):
        raise InputError(problem.replace("`label`", "`classification`"))
    return record


def _document(folder: Path, docid: str) -> str:
    file = folder / docid
    if not file.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"field `docids`: {docid!r} lies outside {folder}")
    try:
        return file.read_bytes().decode("utf-8").removesuffix("\n")
    except OSError:
        raise InputError(f"field `docids`: no document {docid!r} in {folder}") from None
    except UnicodeDecodeError:
        raise InputError(f"field `docids`: document {docid!r} is not UTF-8 text") from None


def _starts(documents: Sequence[str]) -> list[int]:
    """Give the number of the first word of each document."""
    return [0, *np.cumsum([len(whitespace_words(text)) for text in documents]).tolist()][: len(documents)]


def _annotations(row: _Row, text: str, starts: dict[str, int]) -> tuple[Annotation, ...]:
    words = whitespace_words(text)
    return tuple(
        Annotation(f"evidence-{number}", row.classification, _rationale(number - 1, group, text, words, starts))
        for number, group in enumerate(row.evidences, 1)
    )


def _rationale(
    number: int, group: Sequence[_Evidence], text: str, words: Sequence[Span], starts: dict[str, int]
) -> Spans:
    mask = np.zeros(len(words), dtype=np.bool_)
    for index, evidence in enumerate(group):
        place = f"field `evidences[{number}][{index}]`"
        if evidence.docid not in starts:
            raise InputError(f"{place}: document {evidence.docid!r} is not among `docids`")
        start, end = starts[evidence.docid] + evidence.start_token, starts[evidence.docid] + evidence.end_token
        if not 0 <= evidence.start_token < evidence.end_token or end > len(words):
            tokens = f"[{evidence.start_token}, {evidence.end_token}]"
            raise InputError(f"{place}: tokens {tokens} do not lie in a document of {len(words)} words")
        found = " ".join(text[slice(*word)] for word in words[start:end])
        if evidence.text is not None and found != " ".join(evidence.text.split()):
            raise InputError(f"{place}: its `text` is not what stands there: {found[:60]!r}")
        mask[start:end] = True
    return {"document": spans_of_words(words, mask)}
