"""Comma- and tab-separated files, row by row, whatever is wrong in them."""

import csv
from collections import deque
from collections.abc import Collection, Iterator
from pathlib import Path

from raison.records import Fault
from raison.sources.common import checked_lines, unknown

_LONGEST_CELL = 1 << 20  # characters; a longer cell is a quotation mark left open

Row = dict[str, str]


class _Lines:
    """The lines of a file, of which some can be given back to be read again."""

    def __init__(self, path: str | Path) -> None:
        self.source = checked_lines(path, blank=True)
        self.waiting: deque[tuple[int, str]] = deque()
        self.fault: Fault | None = None  # the one that ended the stream

    def next(self) -> tuple[int, str] | None:
        if self.waiting:
            return self.waiting.popleft()
        item = next(self.source, None)
        if isinstance(item, Fault):
            self.fault = item
            return None
        return item and (item[0], item[1].decode("utf-8", "surrogateescape"))


def cell_rows(
    path: str | Path, needed: Collection[str] | None = None, published: Collection[str] = ()
) -> Iterator[tuple[int, Row] | Fault]:
    """Yield (line number, {column: cell}) for each row after the header, or the fault that stands in its place.

    The delimiter is the one of comma, tab and semicolon that is most frequent in the header. A row that can't be read
    (cells missing, a quotation mark left open, bytes that are not UTF-8) costs itself only: reading goes on at the
    next line of the file.

    Args:
        path: the file, plain or gzip.
        needed: columns that must be there; where one is missing, a fault on line 1 is all there is.
        published: all columns of a set whose header has one cell more behind them, for which no row has a cell: where
            the first row has none, that cell is no column.
    """
    lines = _Lines(path)
    first = lines.next()
    if first is not None:
        delimiter = max(",\t;", key=first[1].count)
        header = _split(first, lines, delimiter)
        faults = [Fault(str(path), 1, message) for message in _header_problems(header, needed or ())]
        if faults:
            yield from faults
            return
        assert not isinstance(header, str)
        spare = bool(published) and header[:-1] == [*published]
        yield from _body(str(path), lines, header, delimiter, spare)
    if lines.fault:
        yield lines.fault


def _header_problems(header: list[str] | str, needed: Collection[str]) -> Iterator[str]:
    if isinstance(header, str):
        yield f"the header: {header}"
        return
    for name in dict.fromkeys(header):
        if name and header.count(name) > 1:
            yield f"column {name!r} stands in the header twice"
        elif _undecodable(name):
            yield f"the header: {_NOT_UTF8}"
    for name in needed:
        if name not in header:
            yield unknown("column", name, dict.fromkeys(name for name in header if name))


def _body(
    file: str, lines: _Lines, header: list[str], delimiter: str, spare: bool
) -> Iterator[tuple[int, Row] | Fault]:
    """Read what stands below the header, whose last cell is `spare` if the first row may have none for it."""
    while (line := lines.next()) is not None:
        if not line[1].strip().strip(delimiter):  # a blank line, also as spreadsheets write it
            continue
        cells = _split(line, lines, delimiter, len(header))
        if spare and isinstance(cells, str):
            shorter = _split(line, lines, delimiter, len(header) - 1)
            if not isinstance(shorter, str):
                cells, header = shorter, header[:-1]
        spare = spare and isinstance(cells, str)
        if isinstance(cells, str):
            yield Fault(file, line[0], cells)
            continue
        wrong = next((name for name, cell in zip(header, cells, strict=True) if _undecodable(cell)), None)
        if wrong is not None:
            yield Fault(file, line[0], f"column {wrong!r}: {_NOT_UTF8}")
        else:
            yield line[0], dict(zip(header, cells, strict=True))


_NOT_UTF8 = "not UTF-8 text; convert the file first, for instance with `iconv -f cp1252 -t utf-8`"


def _undecodable(cell: str) -> bool:
    return not cell.isascii() and any("\udc80" <= character <= "\udcff" for character in cell)


def _split(line: tuple[int, str], lines: _Lines, delimiter: str, width: int | None = None) -> list[str] | str:
    """Cut one row into cells, taking more lines where a cell goes on; give a message where that fails.

    Of a row that fails only the first line is used up.
    """
    taken: list[tuple[int, str]] = []

    def feed() -> Iterator[str]:
        yield line[1]
        while (another := lines.next()) is not None:
            taken.append(another)
            yield another[1]

    result = _parse(feed(), delimiter)
    if isinstance(result, list) and width in (None, len(result)):
        return result
    lines.waiting.extendleft(reversed(taken))
    plain = line[1].rstrip("\r\n").split(delimiter)
    if delimiter == "\t" and len(plain) == width:  # tab-separated files are often written without quoting
        return plain
    return result if isinstance(result, str) else f"expected {width} cells, as in the header, found {len(result)}"


def _parse(lines: Iterator[str], delimiter: str) -> list[str] | str:
    before = csv.field_size_limit(_LONGEST_CELL)  # global to the process: set for this row only
    try:
        return next(csv.reader(lines, delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        if "unexpected end" in str(error) or "field limit" in str(error):
            return "a quotation mark is left open"
        return f"not valid CSV: {error} (a quotation mark inside a quoted cell is doubled)"
    finally:
        csv.field_size_limit(before)
