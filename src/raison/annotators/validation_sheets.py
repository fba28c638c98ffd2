"""Filled sheets of a kit and exports of its Label Studio projects, read back: one clear line for each fault."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from raison.annotators.validation import QUESTIONS, UNSURE, Key
from raison.records import Fault, InputError, open_lines
from raison.sources.cells import cell_rows
from raison.sources.tools import read_elements


class Rating(msgspec.Struct, frozen=True):
    """What one rater answered to one item; None = nothing, "unsure" = that it can't be told."""

    item: str
    rater: str
    answers: dict[str, str | None]
    place: str  # file and line


def load_key(path: str | Path) -> Key:
    """Read a kit's key.

    Raises:
        InputError: there is none, or it is damaged.
    """
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=Key)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not the key of a kit ({' '.join(str(error).split())})") from None


def read_ratings(paths: Sequence[str | Path], key: Key) -> list[Rating]:
    """Read filled sheets (CSV, however a spreadsheet saved it) and Label Studio's JSON exports.

    Args:
        paths: in any number and order; a rater's items may be spread over several.
        key: of the kit.

    Raises:
        InputError: at the first fault, with file and line: an unknown item or rater, an item of another rater, an
            answer that is none, or an item that a rater has answered twice; or a file has no answers at all.
    """
    found: dict[tuple[str, str], Rating] = {}
    given = {rater: {*ids} for rater, ids in key.raters.items()}
    for path in paths:
        empty = True
        for line, row in _rows(path):
            empty = False
            try:
                rating = _rating(row, given, f"{path}:{line}")
                before = found.setdefault((rating.rater, rating.item), rating)
                if before is not rating:
                    raise InputError(f"{rating.rater} has answered item {rating.item!r} already ({before.place})")
            except InputError as error:
                raise InputError(Fault(str(path), line, str(error))) from None
        if empty:
            raise InputError(f"{path}: no answers in it; expected a filled sheet, or Label Studio's JSON export")
    return list(found.values())


def _rows(path: str | Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, cells) of a sheet or an export."""
    first = next(open_lines(path), (1, b""))[1]
    if first.lstrip().startswith(b"["):
        yield from _exported(path)
        return
    for row in cell_rows(path, ("item", "rater", *QUESTIONS)):
        if isinstance(row, Fault):
            raise InputError(row)
        yield row


class _Result(msgspec.Struct):
    from_name: str = ""
    value: dict[str, Any] = {}


class _Annotation(msgspec.Struct):
    result: list[_Result] = []
    was_cancelled: bool | None = False


class _Task(msgspec.Struct):
    data: dict[str, Any]
    annotations: list[_Annotation] = []


def _exported(path: str | Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the submitted annotations of Label Studio's JSON export; skipped ones are no answers."""
    for found in read_elements(path, _Task, lambda task: task):
        if isinstance(found, Fault):
            raise InputError(found)
        line, task = found
        for one in task.annotations:
            if not one.was_cancelled:
                cells = {name: str(task.data.get(name, "")) for name in ("item", "rater")}
                yield line, {**cells, **{result.from_name: _choice(result) for result in one.result}}


def _choice(result: _Result) -> str:
    chosen: Any = result.value.get("choices", "")
    return ", ".join(map(str, cast("list[Any]", chosen))) if isinstance(chosen, list) else str(chosen)


def _rating(row: dict[str, str], given: dict[str, set[str]], place: str) -> Rating:
    item, rater = row["item"].strip(), row["rater"].strip()
    if rater not in given:
        raise InputError(f"unknown rater {rater!r}; the kit was made for {', '.join(given)}")
    if item not in given[rater]:
        known = any(item in ids for ids in given.values())
        raise InputError(f"item {item!r} is not one of {rater}'s" if known else f"unknown item {item!r}")
    answers = {name: _answer(name, row.get(name, "")) for name in QUESTIONS}
    return Rating(item, rater, answers, place)


def _answer(name: str, cell: str) -> str | None:
    said = cell.strip().casefold()
    if said in ("", UNSURE):
        return said or None
    for answer in QUESTIONS[name][1]:
        if said == answer.casefold():
            return answer
    raise InputError(f"column {name!r}: {cell.strip()!r}; expected {', '.join(QUESTIONS[name][1])} or {UNSURE}")
