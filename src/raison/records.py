"""Records: texts with a label and with people's reasons for it, and their form on disk (JSON lines).

A record on disk is one line of JSON (gzip allowed):

    {"id": "1", "task": "nli", "fields": {"premise": "...", "hypothesis": "..."}, "label": "neutral",
     "label_set": ["entailment", "neutral", "contradiction"],
     "annotations": [{"annotator": "a", "label": "neutral", "rationale": {"hypothesis": [[4, 11]]},
                      "explanation": "..."}], "meta": {}}

`rationale: null` (not asked) and `rationale: {"text": []}` (asked, nothing marked) are different things. Unknown keys
of an annotation are kept in `Annotation.extra`; at the top of a record they are a fault: they belong under `meta`.
"""

import contextlib
import gzip
import os
import secrets
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import msgspec

T = TypeVar("T")


class InputError(Exception):
    """Something the user gave is wrong. The message is one line that says what, where and what was expected.

    Its one argument is that line, or the `Fault` that reads as it.
    """


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong in a file."""

    file: str  # as the user named it
    line: int | None  # 1 is the first; None where the fault is the file's as a whole
    message: str  # names the field and what was expected

    def __str__(self) -> str:
        """Give `file:line: message`, as compilers do: one line of at most about 600 visible characters."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        message = self.message if len(self.message) <= 600 else f"{self.message[:600]} …"
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in f"{place}: {message}")


class Span(NamedTuple):
    """Characters `start` to `end` (half open) of one field, as Python string indices."""

    start: int
    end: int


Spans = dict[str, tuple[Span, ...]]


class Annotation(msgspec.Struct, frozen=True, omit_defaults=False):
    """What one person said about one record."""

    annotator: str | None = None  # stable inside a data set; None where the source does not say whose it is
    label: str | None = None  # what this person chose
    rationale: Spans | None = None  # marked spans per field; None = not asked
    explanation: str | None = None  # free text
    extra: dict[str, Any] = {}  # every further key of the annotation on disk


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One item: its texts, its label, and what people said about it."""

    id: str  # unique in its file
    fields: dict[str, str]  # name -> text, in the order the model reads them
    task: str = ""  # a word such as "nli"
    label: str | None = None  # gold where there is one
    label_set: tuple[str, ...] = ()  # what could be chosen; empty = not stated
    annotations: tuple[Annotation, ...] = ()
    meta: dict[str, Any] = {}


class Prediction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one model (or person) answered for one record."""

    record_id: str
    source: str  # the model's name
    label: str | None = None  # None = no valid answer
    probabilities: dict[str, float] | None = None  # label -> probability
    text: str | None = None  # the raw reply of a generating model


_ANNOTATION_KEYS = frozenset({"annotator", "label", "rationale", "explanation", "extra"})


def to_record(row: Any) -> Record:
    """Make a checked record of a decoded JSON object.

    Raises:
        InputError: one line naming the field and what was expected.
    """
    if isinstance(row, dict):
        row = _gather_extras(cast("dict[str, Any]", row))
    try:
        record = msgspec.convert(row, Record)
    except msgspec.ValidationError as error:
        raise InputError(_explain(error)) from None
    problem = next(problems(record), None)
    if problem:
        raise InputError(problem)
    return record


def _gather_extras(row: dict[str, Any]) -> dict[str, Any]:
    """Move unknown keys of each annotation into its `extra`; anything malformed is left for the type check."""
    annotations = row.get("annotations")
    if not isinstance(annotations, list | tuple):
        return row
    gathered: list[Any] = []
    for annotation in cast("list[Any]", annotations):
        if isinstance(annotation, dict) and not annotation.keys() <= _ANNOTATION_KEYS:
            known = {key: value for key, value in annotation.items() if key in _ANNOTATION_KEYS}
            rest = {key: value for key, value in annotation.items() if key not in _ANNOTATION_KEYS}
            given: Any = known.get("extra", {})
            known["extra"] = {**cast("dict[str, Any]", given), **rest} if isinstance(given, dict) else given
            gathered.append(known)
        else:
            gathered.append(annotation)
    return {**row, "annotations": gathered}


def _explain(error: msgspec.ValidationError) -> str:
    """Turn msgspec's message and path into one that names our field first."""
    message, _, path = str(error).partition(" - at `")
    place = path.rstrip("`").removeprefix("$").lstrip(".")
    if "unknown field" in message:
        return f"{message[0].lower()}{message[1:]} (extra information belongs under `meta`)"
    message = f"{message[0].lower()}{message[1:]}"
    return f"field `{place}`: {message}" if place else message


def problems(record: Record) -> Iterator[str]:
    """Yield every contradiction inside one record, each as a line that names the field."""
    if not record.id:
        yield "field `id`: expected a text that is not empty"
    if not record.fields:
        yield "field `fields`: expected at least one text"
    if record.label_set and len(set(record.label_set)) < len(record.label_set):
        yield "field `label_set`: a label stands in it twice"
    yield from _label_problems("label", record.label, record.label_set)
    for index, annotation in enumerate(record.annotations):
        place = f"annotations[{index}]"
        yield from _label_problems(f"{place}.label", annotation.label, record.label_set)
        for name, spans in (annotation.rationale or {}).items():
            yield from _span_problems(f"{place}.rationale.{name}", spans, record.fields.get(name))


def _label_problems(place: str, label: str | None, label_set: tuple[str, ...]) -> Iterator[str]:
    if label is not None and label_set and label not in label_set:
        yield f"field `{place}`: {label!r} is not one of {', '.join(label_set)}"


def _span_problems(place: str, spans: tuple[Span, ...], text: str | None) -> Iterator[str]:
    if text is None:
        yield f"field `{place}`: the record has no field of this name"
        return
    last = 0
    for start, end in spans:
        if not 0 <= start < end <= len(text):
            yield f"field `{place}`: span [{start}, {end}] does not lie in a text of {len(text)} characters"
        elif start < last:
            yield f"field `{place}`: span [{start}, {end}] overlaps the one before it, or is out of order"
        last = max(last, end)


def from_record(record: Record) -> dict[str, Any]:
    """Give the record as it stands on disk: builtins only, annotation extras beside the other keys, no empty `meta`."""
    row = cast("dict[str, Any]", msgspec.to_builtins(record))
    for annotation in row["annotations"]:
        annotation.update(annotation.pop("extra"))
    if not row["meta"]:
        del row["meta"]
    return row


# ---------------------------------------------------------------------------------------------------- files


def open_lines(path: str | Path, blank: bool = False) -> Iterator[tuple[int, bytes]]:
    """Yield (line number, line) of a text file, gzip or not; never more than a line in memory.

    Args:
        path: the file.
        blank: yield blank lines too.

    Raises:
        InputError: with a Fault: the file is missing, a folder, or UTF-16, or its gzip stream is cut short or damaged.
    """
    number = 0
    try:
        with _open_binary(path) as stream:
            for number, line in enumerate(stream, 1):
                content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if number == 1 and content[:2] in (b"\xff\xfe", b"\xfe\xff"):
                    raise InputError(Fault(str(path), 1, "UTF-16 text; expected UTF-8"))
                if blank or content.strip():
                    yield number, content
    except FileNotFoundError:
        raise InputError(Fault(str(path), None, "no such file")) from None
    except IsADirectoryError:
        raise InputError(Fault(str(path), None, "a folder; expected a file")) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(Fault(str(path), number + 1, f"the gzip stream is damaged ({error})")) from None
    except OSError as error:
        message = f"not readable ({(error.strerror or str(error)).lower()})"
        raise InputError(Fault(str(path), None, message)) from None


@contextlib.contextmanager
def _open_binary(path: str | Path) -> Generator[Iterable[bytes]]:
    with open(path, "rb") as raw:
        gzipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if gzipped:
            with gzip.open(raw, "rb") as stream:
                yield stream
        else:
            yield raw


def decode_line(line: bytes) -> Any:
    """Decode one line of JSON.

    Raises:
        InputError: it is not UTF-8, or not JSON.
    """
    try:
        return msgspec.json.decode(line)
    except RecursionError:
        raise InputError("not valid JSON: nested too deeply") from None
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            raise InputError("not UTF-8 text") from None
        message = str(error).removeprefix("JSON is malformed: ")
        raise InputError(f"not valid JSON: {message[0].lower()}{message[1:]}") from None


def scan_jsonl(path: str | Path, convert: Callable[[Any], T]) -> Iterator[T | Fault]:
    """Yield an item for each line of a JSON-lines file, or the fault that stands in its place.

    Args:
        path: the file, plain or gzip.
        convert: makes an item of a decoded line and raises InputError where it can't.
    """
    lines = open_lines(path)
    while True:
        try:
            number, line = next(lines)
        except StopIteration:
            return
        except InputError as error:  # the stream itself broke: nothing can follow
            yield error.args[0]
            return
        try:
            yield convert(decode_line(line))
        except InputError as error:
            yield Fault(str(path), number, str(error))


def read_jsonl(path: str | Path, convert: Callable[[Any], T]) -> Iterator[T]:
    """Yield the items of a JSON-lines file, one at a time.

    Raises:
        InputError: at the first fault, as `file:line: message`; or where the file has no line at all.
    """
    empty = True
    for item in scan_jsonl(path, convert):
        empty = False
        if isinstance(item, Fault):
            raise InputError(item)
        yield item
    if empty:
        raise InputError(f"{path}: the file is empty; expected one JSON object a line")


def read_records(path: str | Path) -> Iterator[Record]:
    """Yield the records of a file in our format, in constant memory (ids are not compared: see `distinct`).

    Raises:
        InputError: at the first fault, as `file:line: message`.
    """
    return read_jsonl(path, to_record)


def distinct(records: Iterable[Record], name: str = "records") -> Iterator[Record]:
    """Yield records, as long as they can stand in one data set: distinct ids, the same fields, one label set.

    Raises:
        InputError: naming the first record that can't.
    """
    seen: set[str] = set()
    first: Record | None = None
    for record in records:
        first = first or record
        fault = clash(record, first, seen)
        if fault:
            raise InputError(f"{name}: record {record.id!r}: {fault}")
        seen.add(record.id)
        yield record


def clash(record: Record, first: Record, seen: set[str]) -> str | None:
    """Say why `record` can't stand in one data set with `first` and the ids `seen`; None where it can."""
    if record.id in seen:
        return "field `id`: this id stands in the file already"
    if list(record.fields) != list(first.fields):  # the order is that in which a model reads them
        return f"field `fields`: has {', '.join(record.fields)}, where the first record has {', '.join(first.fields)}"
    if set(record.label_set) != set(first.label_set):
        return (
            f"field `label_set`: has {', '.join(record.label_set)}, "
            f"where the first record has {', '.join(first.label_set)}"
        )
    return None


@contextlib.contextmanager
def written_whole(path: str | Path) -> Generator[Path]:
    """Give a temporary path beside `path` that takes its place at the end, or is removed if anything fails.

    Raises:
        InputError: the folder can't be made or written to.
    """
    target = Path(path)
    if target.is_dir():
        raise InputError(f"{path}: a folder; expected a file to write")
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, target)
    except OSError as error:
        raise InputError(f"{path}: can't be written ({error.strerror or error})") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_jsonl(path: str | Path, items: Iterable[Any]) -> int:
    """Write items (structs or builtins) as JSON lines, gzip where the name ends in `.gz`; all of them or no file.

    Returns:
        How many were written.
    """
    encoder = msgspec.json.Encoder()
    count = 0
    with written_whole(path) as part, _create(part, str(path).endswith(".gz")) as stream:
        for item in items:
            stream.write(encoder.encode(item) + b"\n")
            count += 1
    return count


@contextlib.contextmanager
def _create(part: Path, gzipped: bool) -> Generator[Any]:
    with open(part, "wb") as raw:
        if gzipped:  # no name and no time in its header: the same records give the same bytes
            with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as stream:
                yield stream
        else:
            yield raw


def write_records(path: str | Path, records: Iterable[Record]) -> int:
    """Write records in our format (see `write_jsonl`)."""
    return write_jsonl(path, (from_record(record) for record in records))


def write_json(path: str | Path, value: Mapping[str, Any] | list[Any]) -> None:
    """Write one JSON value, indented, whole or not at all."""
    with written_whole(path) as part:
        part.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1))
