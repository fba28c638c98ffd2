"""Our own format: one JSON object a line (see `raison.records`)."""

from collections.abc import Iterator
from pathlib import Path

from raison.records import Fault, InputError, to_record
from raison.sources.common import Item, json_lines
from raison.sources.slots import slot_problems


def read_ours(path: str | Path) -> Iterator[Item]:
    """Yield the records of a file in our own format, in constant memory."""
    for item in json_lines(path):
        if isinstance(item, Fault):
            yield item
            continue
        number, row = item
        try:
            record = to_record(row)
        except InputError as error:
            yield Fault(str(path), number, str(error))
            continue
        fault = next(slot_problems(record), None)
        yield (number, record) if fault is None else Fault(str(path), number, fault)
