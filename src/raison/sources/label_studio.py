"""Label Studio: projects from records, and records from its JSON export.

Its offsets count UTF-16 units, as JavaScript does: they differ from ours behind characters such as emoji.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from xml.sax.saxutils import quoteattr

import msgspec

from raison.records import Annotation, InputError, Record, Span, Spans, write_json, written_whole
from raison.sources.common import Item, explain, tidy, unknown
from raison.sources.litex import collapsed
from raison.sources.tools import QUESTIONS, REASON, Asked, asked, chosen, finished, new_folder, read_elements

_OURS = "raison"  # the key in a task's data under which we find ours again
_NUMBERS = ("rating", "number")


class _Result(msgspec.Struct):
    type: str
    value: dict[str, Any] = {}
    to_name: str = ""


class _Annotation(msgspec.Struct):
    result: list[_Result]
    completed_by: int | str | dict[str, Any] | None = None
    was_cancelled: bool | None = False


class _Task(msgspec.Struct):
    data: dict[str, Any]
    annotations: list[_Annotation]
    id: int | str | None = None


class _Ours(msgspec.Struct):
    id: str
    task: str
    fields: list[str]
    label_set: list[str]
    marks: bool


# ----------------------------------------------------------------------------------------------------------- export


def write_label_studio(folder: str | Path, records: Sequence[Record], marks: bool = True) -> None:
    """Write what a Label Studio project needs: `tasks.json` to import, and `config.xml`, its labelling interface.

    People choose a label, explain it, and mark words if asked to; who has several labels gives several annotations.

    Args:
        folder: to be made.
        records: of one label set; without one, all labels that stand in them can be chosen.
        marks: whether to ask for marked words, too.

    Raises:
        InputError: there are no records or labels, a field has a name that Label Studio can't have, or the folder is
            not empty.
    """
    what = asked(records, marks)
    for name in what.fields:
        if name == _OURS or not name.replace("_", "a").replace("-", "a").isalnum():
            raise InputError(f"field {name!r}: Label Studio takes letters, digits, - and _ in names")
    tasks = [{"data": {**record.fields, _OURS: msgspec.to_builtins(_ours(record, what))}} for record in records]
    place = new_folder(folder)
    write_json(place / "tasks.json", tasks)
    with written_whole(place / "config.xml") as part:
        part.write_text(_config(what), encoding="utf-8")


def _ours(record: Record, what: Asked) -> _Ours:
    return _Ours(record.id, what.task, list(what.fields), list(what.label_set), what.marks)


def _config(what: Asked) -> str:
    """Write the labelling interface. The style keeps every space, on which the offsets depend."""
    first = quoteattr(what.fields[0])
    lines = ["<View>", "  <Style>.htx-text { white-space: pre-wrap; }</Style>"]
    lines += [f"  <Header value={quoteattr(QUESTIONS['marked'])}/>"] if what.marks else []
    for name in what.fields:
        lines += [f'  <Header value={quoteattr(name)} size="5"/>']
        if what.marks:
            lines += [f"  <Labels name={quoteattr(f'marked-{name}')} toName={quoteattr(name)}>"]
            lines += [f'    <Label value="{REASON}"/>', "  </Labels>"]
        lines += [f'  <Text name={quoteattr(name)} value={quoteattr(f"${name}")} granularity="word"/>']
    lines += [f"  <Header value={quoteattr(QUESTIONS['label'])}/>"]
    lines += [f'  <Choices name="label" toName={first} choice="single" showInline="true" required="true">']
    lines += [f"    <Choice value={quoteattr(label)}/>" for label in what.label_set]
    lines += ["  </Choices>", f"  <Header value={quoteattr(QUESTIONS['explanation'])}/>"]
    lines += [f'  <TextArea name="explanation" toName={first} rows="3" maxSubmissions="1" required="true"/>', "</View>"]
    return "\n".join(lines) + "\n"


# ----------------------------------------------------------------------------------------------------------- import


def read_label_studio(path: str | Path) -> Iterator[Item]:
    """Yield the records of Label Studio's JSON export, with an annotation for each submitted one.

    Skipped annotations are passed over, drafts and predictions too. Choices, ratings and numbers are labels, text areas
    explanations (several are joined), labelled spans rationales, whatever they are called. An annotator is the user's
    number, never an e-mail address. Of a project that was not made of records the fields are the texts of `data`, and
    a text must be called as its key in `data` (`name="text" value="$text"`), unless there is only one.

    Args:
        path: the export. It is held in memory.
    """
    return read_elements(path, _Task, _record)


def _record(task: _Task) -> Record:
    ours = _known(task)
    fields = {name: task.data.get(name) for name in ours.fields}
    for name, text in fields.items():
        if not isinstance(text, str):
            raise InputError(f"field `data.{name}`: expected a text, found {type(text).__name__}")
    texts = cast("dict[str, str]", fields)
    said = [one for one in task.annotations if not one.was_cancelled and one.result]
    annotations: list[Annotation] = []
    for index, one in enumerate(said):
        try:
            annotations.append(_annotation(one, texts, ours.marks))
        except InputError as error:
            raise InputError(f"task {ours.id!r}: field `annotations[{index}].{error}") from None
    return finished(Record(ours.id, texts, ours.task, None, tuple(ours.label_set), tuple(annotations)))


def _known(task: _Task) -> _Ours:
    """Say what the task is: as we wrote it, or as can be seen."""
    if _OURS in task.data:
        try:
            return msgspec.convert(task.data[_OURS], _Ours)
        except msgspec.ValidationError as error:
            raise InputError(f"field `data.{_OURS}`: {explain(error)}") from None
    if task.id is None:
        raise InputError("field `id`: missing; expected the number of the task")
    texts = [name for name, value in task.data.items() if isinstance(value, str)]
    marks = any("labels" in result.type for one in task.annotations for result in one.result)
    return _Ours(str(task.id), "", texts, [], marks)


def _annotation(given: _Annotation, texts: dict[str, str], marks: bool) -> Annotation:
    labels: list[str] = []
    parts: list[str] = []
    found: dict[str, list[Span]] = {name: [] for name in texts}
    for index, result in enumerate(given.result):
        try:
            if result.type in _NUMBERS:
                labels += _number(result)
            elif result.type == "choices":
                labels += _strings(result.value.get("choices"), "choices")
            elif result.type == "textarea":
                parts += _strings(result.value.get("text"), "text")
            elif result.type in ("labels", "hypertextlabels"):
                name = _field(result.to_name, texts)
                found[name].append(_span(result.value, texts[name]))
        except InputError as error:
            raise InputError(f"result[{index}].{error}") from None
    label, extra = chosen(labels)
    rationale: Spans | None = {name: tidy(texts[name], spans) for name, spans in found.items()} if marks else None
    return Annotation(_user(given.completed_by), label, rationale, collapsed(" ".join(parts)) or None, extra)


def _user(given: int | str | dict[str, Any] | None) -> str | None:
    who = given.get("id") if isinstance(given, dict) else given
    return None if who is None else str(who)


def _number(result: _Result) -> list[str]:
    value = result.value.get(result.type)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"value.{result.type}`: expected a number, found {type(value).__name__}")
    return [f"{value:g}"]


def _strings(value: Any, name: str) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(item, str) for item in cast("list[Any]", value)):
        return cast("list[str]", value)
    raise InputError(f"value.{name}`: expected a text or a list of texts, found {type(value).__name__}")


def _field(name: str, texts: Mapping[str, str]) -> str:
    if name in texts:
        return name
    if len(texts) == 1:
        return next(iter(texts))
    raise InputError(f"to_name`: {unknown('text', name, texts)}")


def _span(value: Mapping[str, Any], text: str) -> Span:
    """Read one span: UTF-16 units where the marked text lies there, else characters."""
    start, end = value.get("start"), value.get("end")
    if not isinstance(start, int) or not isinstance(end, int):
        raise InputError("value.start`: expected numbers of characters in `start` and `end`")
    marked = value.get("text")
    for span in (_from_utf16(text, start, end), Span(start, end)):
        if span is None or not 0 <= span.start < span.end <= len(text):
            continue
        if not isinstance(marked, str) or text[span.start : span.end].split() == marked.split():
            return span
    raise InputError(f"value.start`: {marked!r} does not lie at {start} to {end} of a text of {len(text)} characters")


def _from_utf16(text: str, start: int, end: int) -> Span | None:
    """Turn UTF-16 units into characters; None where they are no characters of the text."""
    units = text.encode("utf-16-le")
    if not 0 <= start < end <= len(units) // 2:
        return None
    try:
        before = units[: 2 * start].decode("utf-16-le")
        return Span(len(before), len(before) + len(units[2 * start : 2 * end].decode("utf-16-le")))
    except UnicodeDecodeError:
        return None
