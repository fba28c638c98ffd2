"""Our own format: one JSON object a line (see `raison.records`)."""

from collections.abc import Iterator
from pathlib import Path

from raison.records import Fault, InputError, to_record
from raison.sources.common import Item, json_lines


def read_ours(path: str | Path) -> Iterator[Item]:
    """Yield the records of a file in our own format, in constant memory."""
    for item in json_lines(path):
        if isinstance(item, Fault):
            yield item
            continue
        number, row = item
        try:
            yield number, to_record(row)
        except InputError as error:
            yield Fault(str(path), number, str(error))
