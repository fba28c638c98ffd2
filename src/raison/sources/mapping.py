"""From the rows of any table to records: which column is what (`ColumnMap`), and the records of mapped rows."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import msgspec

from raison.records import Annotation, Fault, InputError, Record, Span, problems
from raison.sources.common import Item, explain, is_missing, majority, unknown
from raison.sources.marks import FORMATS, unmark
from raison.sources.options import listed
from raison.sources.scale import in_range, spelled


class ColumnMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which column of a table is what. In a nested row `a.b` is column `b` inside `a`."""

    fields: dict[str, str]  # field -> the column of its text, in the order the model reads them
    id: str | None = None  # rows of one id are one item with several annotators; without it each row is an item
    label: str | None = None  # what this row's annotator chose
    gold: str | None = None  # the item's own label, where it stands apart; else the majority of `label`
    annotator: str | None = None
    explanation: str | None = None
    rationale: dict[str, str] = {}  # field -> the column with what was marked in it
    rationale_format: str = "marked"  # or offsets, indices, flags, phrases
    marks: tuple[str, str] = ("*", "*")  # what stands before and after marked text
    extra: dict[str, str] = {}  # name -> column, kept with the annotation
    meta: dict[str, str] = {}  # name -> column, kept with the record
    task: str = ""
    label_set: tuple[str, ...] = ()
    gather: bool = False  # rows of one id may stand apart; the whole file is then held in memory

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is named, once."""
        single = (self.id, self.label, self.gold, self.annotator, self.explanation)
        groups = (self.fields, self.rationale, self.extra, self.meta)
        named = [*(name for name in single if name), *(name for group in groups for name in group.values())]
        return tuple(dict.fromkeys(named))


_NAMES = ColumnMap.__struct_fields__


def column_map(options: Mapping[str, Any]) -> ColumnMap:
    """Make a column mapping of options; a name that is no option is that of a field (`text=tweet`).

    Raises:
        InputError: no field is named, a name is nearly that of an option, or a value is of the wrong kind.
    """
    given = {name: value for name, value in options.items() if name in _NAMES}
    loose = {name: value for name, value in options.items() if name not in _NAMES}
    given["fields"] = _fields(given.get("fields", {}), loose)
    if isinstance(given.get("rationale"), str) and isinstance(given["fields"], dict):
        if len(given["fields"]) > 1:
            raise InputError("mapping: `rationale`: say of which field it is, such as `rationale.premise`")
        given["rationale"] = dict.fromkeys(given["fields"], given["rationale"])
    for name, read in {"label_set": _label_set, "marks": _marks}.items():
        if isinstance(given.get(name), str):
            given[name] = read(given[name])
    try:
        mapping = msgspec.convert(given, ColumnMap, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(f"mapping: {explain(error)}") from None
    _check(mapping)
    return mapping


def _fields(given: Any, loose: dict[str, Any]) -> Any:
    """Add names that are no option to the fields; what is malformed is left for the type check."""
    for name in loose:
        near = difflib.get_close_matches(name, _NAMES, n=1, cutoff=0.8)
        if near:
            raise InputError(f"mapping: unknown option `{name}`; did you mean `{near[0]}`? (a field: `fields.{name}`)")
    fields: Any = {"text": given} if isinstance(given, str) else given
    return {**cast("dict[str, Any]", fields), **loose} if isinstance(fields, dict) else fields


def _label_set(text: str) -> tuple[str, ...]:
    """Read labels with commas between, or a range such as `-5..5`."""
    return in_range(text) or listed(text)


def _marks(text: str) -> tuple[str, ...]:
    parts = text.split()
    return tuple(parts * 2 if len(parts) == 1 else parts)


def _check(mapping: ColumnMap) -> None:
    if not mapping.fields:
        raise InputError("mapping: name at least one field and its column, such as `text=tweet`")
    for name in mapping.rationale:
        if name not in mapping.fields:
            raise InputError(f"mapping: `rationale.{name}`: {unknown('field', name, mapping.fields)}")
    if mapping.rationale_format not in FORMATS:
        raise InputError(f"mapping: `rationale_format`: {unknown('format', mapping.rationale_format, FORMATS)}")
    if not all(mapping.marks):
        raise InputError("mapping: `marks`: expected what stands before and after marked text, such as `<b> </b>`")
    reserved = set(mapping.extra) & {*Annotation.__struct_fields__}
    if reserved:
        raise InputError(f"mapping: `extra.{min(reserved)}`: an annotation has a field of this name of its own")


# ---------------------------------------------------------------------------------------------------- rows


class _Part(NamedTuple):
    """What one row says."""

    line: int
    id: str
    fields: dict[str, str]
    gold: str | None
    annotation: Annotation
    meta: dict[str, Any]


def records_of_rows(
    file: str, rows: Iterable[tuple[int, Mapping[str, Any]] | Fault], mapping: ColumnMap
) -> Iterator[Item]:
    """Yield the records of a table's rows: rows of one id that follow each other are one record.

    Args:
        file: the name that faults carry.
        rows: (line, {column: value}), or the fault that stands in a row's place.
        mapping: which column is what.
    """
    groups: dict[str, list[_Part]] = {}
    for number, item in enumerate(rows, 1):
        part = item if isinstance(item, Fault) else _part(file, *item, number, mapping)
        if isinstance(part, Fault):
            yield part
            continue
        if part.id not in groups and not mapping.gather:
            yield from _merged(file, groups, mapping)
            groups.clear()
        group = groups.setdefault(part.id, [])
        wrong = _contradiction(part, group[0]) if group else None
        if wrong:
            yield Fault(file, part.line, wrong)
        else:
            group.append(part)
    yield from _merged(file, groups, mapping)


def _part(file: str, line: int, row: Mapping[str, Any], number: int, mapping: ColumnMap) -> _Part | Fault:
    try:
        fields = {name: _text(row, column, f"field `{name}`", mapping, name) for name, column in mapping.fields.items()}
        return _Part(
            line,
            str(number) if mapping.id is None else _needed(row, mapping.id, "field `id`"),
            fields,
            _label(row, mapping.gold, "field `gold`", mapping),
            Annotation(
                annotator=_word(row, mapping.annotator, "field `annotator`"),
                label=_label(row, mapping.label, "field `label`", mapping),
                rationale=_rationale(row, fields, mapping),
                explanation=_word(row, mapping.explanation, "field `explanation`"),
                extra=_kept(row, mapping.extra),
            ),
            _kept(row, mapping.meta),
        )
    except InputError as error:
        return Fault(file, line, str(error))


def _cell(row: Mapping[str, Any], column: str, place: str) -> Any:
    if column in row:
        return row[column]
    value: Any = row
    for name in column.split("."):
        if not isinstance(value, Mapping) or name not in value:
            raise InputError(f"{place}: {unknown('column', column, row)}")
        value = cast("Mapping[str, Any]", value)[name]
    return value


def _word(row: Mapping[str, Any], column: str | None, place: str) -> str | None:
    """Give a cell as text; None where it holds nothing."""
    if column is None:
        return None
    value = _cell(row, column, place)
    if is_missing(value):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list) and all(isinstance(word, str) for word in cast("list[Any]", value)):
        return " ".join(cast("list[str]", value))  # a text cut into words
    if not isinstance(value, str | int | float):
        raise InputError(f"{place}: column {column!r}: expected a text, found {type(value).__name__}")
    return str(value)


def _needed(row: Mapping[str, Any], column: str, place: str) -> str:
    value = _word(row, column, place)
    if value is None:
        raise InputError(f"{place}: column {column!r} is empty; expected a text")
    return value


def _label(row: Mapping[str, Any], column: str | None, place: str, mapping: ColumnMap) -> str | None:
    label = _word(row, column, place)
    label = label and spelled(label, mapping.label_set)
    if label is not None and mapping.label_set and label not in mapping.label_set:
        raise InputError(f"{place}: {label!r} is not one of {', '.join(mapping.label_set)}")
    return label


def _text(row: Mapping[str, Any], column: str, place: str, mapping: ColumnMap, name: str) -> str:
    text = _needed(row, column, place)
    if mapping.rationale_format != "marked" or mapping.rationale.get(name) != column:
        return text
    try:
        return unmark(text, mapping.marks)[0]
    except InputError as error:
        raise InputError(f"{place}: column {column!r}: {error}") from None


def _rationale(
    row: Mapping[str, Any], fields: Mapping[str, str], mapping: ColumnMap
) -> dict[str, tuple[Span, ...]] | None:
    """Read what was marked; None where all rationale columns of the row are empty, or none is named.

    Where one of several is empty, nothing was marked in its field.
    """
    read = FORMATS[mapping.rationale_format]
    found: dict[str, tuple[Span, ...]] = {}
    for name, column in mapping.rationale.items():
        place = f"field `rationale.{name}`"
        cell = _cell(row, column, place)
        if is_missing(cell):
            continue
        try:
            found[name] = read(cell, fields[name], mapping.marks)
        except InputError as error:
            raise InputError(f"{place}: column {column!r}: {error}") from None
    return {name: found.get(name, ()) for name in mapping.rationale} if found else None


def _kept(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    cells = {name: _cell(row, column, f"`{name}`") for name, column in columns.items()}
    return {name: cell for name, cell in cells.items() if not is_missing(cell)}


def _contradiction(part: _Part, first: _Part) -> str | None:
    """Say how a row contradicts its item's first row."""
    for name, text in part.fields.items():
        if text != first.fields[name]:
            return f"field `{name}`: another text than in line {first.line}, which has the same id {part.id!r}"
    if part.gold != first.gold:
        return f"field `gold`: {part.gold!r}, where line {first.line} of the same id has {first.gold!r}"
    return None


def _merged(file: str, groups: Mapping[str, list[_Part]], mapping: ColumnMap) -> Iterator[Item]:
    """Make one record of the rows of each item."""
    for parts in groups.values():
        record = _record(parts, mapping)
        wrong = next(problems(record), None)
        yield Fault(file, parts[0].line, wrong) if wrong else (parts[0].line, record)


def _record(parts: list[_Part], mapping: ColumnMap) -> Record:
    first, annotations = parts[0], tuple(part.annotation for part in parts)
    said = mapping.annotator or mapping.explanation or mapping.rationale or len(parts) > 1
    return Record(
        id=first.id,
        task=mapping.task,
        fields=first.fields,
        label=first.gold if mapping.gold else majority([annotation.label for annotation in annotations]),
        label_set=mapping.label_set,
        annotations=annotations if said else (),
        meta=first.meta,
    )
