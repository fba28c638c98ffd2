"""CSV, TSV or JSON lines with a column mapping: anybody's table of labelled texts."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raison.records import Fault
from raison.sources.cells import cell_rows
from raison.sources.common import Item, checked_lines, json_lines
from raison.sources.mapping import column_map, records_of_rows


def read_table(path: str | Path, **options: Any) -> Iterator[Item]:
    """Yield the records of a CSV, TSV or JSON-lines file (told apart by its first character; gzip allowed).

    Args:
        path: the file. A CSV or TSV has a header.
        options: the column mapping, see `mapping.ColumnMap`; a name that is no option is that of a field.

    Raises:
        InputError: the mapping is wrong in itself. What is wrong in the file is yielded as faults.
    """
    mapping = column_map(options)
    first = next(checked_lines(path), None)
    if isinstance(first, Fault):
        yield first
    elif first is not None and first[1].lstrip()[:1] == b"[":
        yield Fault(str(path), first[0], "a JSON array; expected one JSON object a line (`jq -c '.[]'` makes it so)")
    elif first is not None and first[1].lstrip()[:1] == b"{":
        yield from records_of_rows(str(path), _objects(path), mapping)
    else:
        yield from records_of_rows(str(path), cell_rows(path, mapping.columns), mapping)


def _objects(path: str | Path) -> Iterator[tuple[int, Mapping[str, Any]] | Fault]:
    for item in json_lines(path, nan=True):
        if isinstance(item, Fault) or isinstance(item[1], dict):
            yield item
        else:
            yield Fault(str(path), item[0], f"expected a JSON object, found {type(item[1]).__name__}")
