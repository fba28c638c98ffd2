"""Argilla (2.x): datasets from records, and records from what its `dataset.to_disk` or `records.to_json` writes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from raison.records import Annotation, InputError, Record, Span, Spans, write_json
from raison.sources.common import Item, explain, tidy
from raison.sources.litex import collapsed
from raison.sources.tools import QUESTIONS, REASON, Asked, asked, chosen, finished, new_folder, read_elements

_NAME = re.compile(r"(?=.*[a-z0-9])[a-z0-9_-]+")  # what Argilla takes as the name of a field or question
_MARKED = "marked-"  # before the name of the field in which words are marked
_VISIBLE = 3  # options that are shown at once, at least


class _Said(msgspec.Struct):
    value: Any
    user_id: str | None = None
    status: str = "submitted"  # Argilla's own export leaves it out


class _Given(msgspec.Struct):
    id: str
    fields: dict[str, Any]
    responses: dict[str, list[_Said]] = {}
    metadata: dict[str, Any] = {}


class _Settings(msgspec.Struct):
    type: str
    field: str | None = None
    options: list[dict[str, Any]] = []


class _Question(msgspec.Struct):
    name: str
    settings: _Settings


class _Configuration(msgspec.Struct):
    questions: list[_Question]


class _Questions(msgspec.Struct, frozen=True):
    """Which question asks for what."""

    label: str = "label"
    explanation: str = "explanation"
    marked: dict[str, str] = {}  # question -> field
    label_set: tuple[str, ...] = ()


# ----------------------------------------------------------------------------------------------------------- export


def write_argilla(folder: str | Path, records: Sequence[Record], people: int, marks: bool = True) -> None:
    """Write a dataset as Argilla's `Dataset.from_disk(folder)` reads it, with questions for label and explanation.

    Args:
        folder: to be made; its name is that of the dataset.
        records: of one label set; without one, all labels that stand in them can be chosen.
        people: how many are to answer each record; Argilla shows it to nobody else afterwards.
        marks: whether to ask for marked words, too.

    Raises:
        InputError: there are no records or labels, a field has a name that Argilla can't have, or the folder is not
            empty.
    """
    what = asked(records, marks)
    wrong = next((name for name in what.fields if not _NAME.fullmatch(name)), None)
    if wrong is not None:
        raise InputError(f"field {wrong!r}: Argilla takes lower-case letters, digits, - and _ in names")
    place = new_folder(folder)
    common: dict[str, Any] = {
        "guidelines": None,
        "allow_extra_metadata": True,
        "distribution": {"strategy": "overlap", "min_submitted": people},
    }
    write_json(place / "records.json", [_row(record) for record in records])
    write_json(place / ".argilla" / "dataset.json", {"name": place.resolve().name, "status": "draft", **common})
    write_json(place / ".argilla" / "settings.json", {**common, **_settings(what)})


def _row(record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "fields": record.fields,
        "metadata": {"task": record.task} if record.task else {},
        "suggestions": {},
        "responses": {},
        "vectors": {},
    }


def _settings(what: Asked) -> dict[str, Any]:
    marked = [
        _question(
            f"{_MARKED}{name}",
            "marked",
            False,
            type="span",
            field=name,
            allow_overlapping=False,
            options=[_option(REASON)],
        )
        for name in (what.fields if what.marks else ())
    ]
    options = [_option(label) for label in what.label_set]
    visible = len(options) if len(options) >= _VISIBLE else None
    fields = [
        {"name": name, "title": name, "required": True, "settings": {"type": "text", "use_markdown": False}}
        for name in what.fields
    ]
    questions = [
        *marked,
        _question("label", "label", True, type="label_selection", options=options, visible_options=visible),
        _question("explanation", "explanation", True, type="text", use_markdown=False),
    ]
    return {"fields": fields, "questions": questions, "vectors": [], "metadata": []}


def _question(name: str, kind: str, required: bool, **settings: Any) -> dict[str, Any]:
    return {"name": name, "title": QUESTIONS[kind], "required": required, "settings": settings}


def _option(label: str) -> dict[str, Any]:
    return {"value": label, "text": label, "description": None}


# ----------------------------------------------------------------------------------------------------------- import


def read_argilla(path: str | Path) -> Iterator[Item]:
    """Yield the records of an Argilla dataset, with an annotation for each user who answered.

    Args:
        path: the folder of `to_disk`, whose settings say which question asks for what (the first of labels or a
            rating, the first for a text, those for spans); or `records.json` alone, with questions called `label`,
            `explanation` and `marked-FIELD`, as `write_argilla` makes them. It is held in memory.

    Raises:
        InputError: the folder has no settings that can be read.
    """
    place = Path(path)
    file = place / "records.json" if place.is_dir() else place
    beside = place / ".argilla" / "settings.json" if place.is_dir() else None
    questions = _read_settings(beside) if beside else None
    yield from read_elements(file, _Given, lambda given: _record(given, questions))


def _read_settings(path: Path) -> _Questions:
    try:
        questions = msgspec.json.decode(path.read_bytes(), type=_Configuration).questions
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}; expected Argilla's settings") from None
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: {explain(error)}") from None
    kinds = {one.name: one.settings for one in questions}
    label = next((name for name, it in kinds.items() if it.type.endswith("label_selection") or it.type == "rating"), "")
    text = next((name for name, it in kinds.items() if it.type == "text"), "")
    marked = {name: it.field for name, it in kinds.items() if it.type == "span" and it.field}
    options = kinds[label].options if label else []
    return _Questions(label, text, marked, tuple(str(option["value"]) for option in options if "value" in option))


def _record(given: _Given, known: _Questions | None) -> Record:
    for name, text in given.fields.items():
        if not isinstance(text, str):
            raise InputError(
                f"record {given.id!r}: field `fields.{name}`: expected a text, found {type(text).__name__}"
            )
    texts = cast("dict[str, str]", given.fields)
    questions = known or _Questions(marked={f"{_MARKED}{name}": name for name in texts if _asks(given, name)})
    annotations = tuple(_annotation(given, who, questions, texts) for who in _users(given))
    task = given.metadata.get("task")
    record = Record(given.id, texts, task if isinstance(task, str) else "", None, questions.label_set, annotations)
    try:
        return finished(record)
    except InputError as error:
        raise InputError(f"record {given.id!r}: {error}") from None


def _asks(given: _Given, field: str) -> bool:
    return f"{_MARKED}{field}" in given.responses


def _users(given: _Given) -> list[str | None]:
    """Give who answered, in the order of their first answers; a discarded record has answers without a value."""
    said = (one for answers in given.responses.values() for one in answers if one.status == "submitted")
    return list(dict.fromkeys(one.user_id for one in said if one.value is not None))


def _annotation(given: _Given, who: str | None, questions: _Questions, texts: dict[str, str]) -> Annotation:
    said = {
        name: one.value
        for name, answers in given.responses.items()
        for one in answers
        if one.user_id == who and one.status == "submitted"
    }
    labels = said.get(questions.label)
    label, extra = chosen([str(one) for one in (labels if isinstance(labels, list) else [labels]) if one is not None])
    text = said.get(questions.explanation)
    if text is not None and not isinstance(text, str):
        raise InputError(f"record {given.id!r}: field `responses.{questions.explanation}`: expected a text")
    marked: Spans | None = None
    if questions.marked:
        marked = dict.fromkeys(texts, ())
        for question, field in questions.marked.items():
            marked[field] = _spans(given.id, question, said.get(question) or [], texts.get(field, ""))
    name = None if who in (None, "None") else who
    return Annotation(name, label, marked, collapsed(text or "") or None, extra)


def _spans(record_id: str, question: str, value: Any, text: str) -> tuple[Span, ...]:
    place = f"record {record_id!r}: field `responses.{question}`"
    if not isinstance(value, list):
        raise InputError(f"{place}: expected a list of spans, found {type(value).__name__}")
    spans: list[Span] = []
    for one in cast("list[Any]", value):
        ends = (one.get("start"), one.get("end")) if isinstance(one, Mapping) else (None, None)  # pyright: ignore
        start, end = cast("tuple[Any, Any]", ends)
        if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start < end <= len(text):
            raise InputError(f"{place}: span [{start}, {end}] does not lie in a text of {len(text)} characters")
        spans.append(Span(start, end))
    return tidy(text, spans)
