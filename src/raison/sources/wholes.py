"""Files that are one JSON value, an object or an array: its entries, each with the line on which it begins."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from raison.records import Fault
from raison.sources.common import checked_lines

_COMMA = re.compile(rb'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])')  # a text, or a comma before what closes


def whole(path: str | Path) -> bytes | Fault:
    """Read a file, plain or gzip, into memory; a fault where it can't be read. An empty file has no bytes."""
    data = bytearray()
    for item in checked_lines(path, blank=True):
        if isinstance(item, Fault):
            return item
        data += item[1]
    return bytes(data) if data.strip() else b""


def without_trailing_commas(data: bytes) -> bytes:
    """Take out commas that stand before a closing bracket; texts stay as they are, lines too."""
    return _COMMA.sub(lambda match: match[1] or b"", data)


def with_lines(data: bytes, entries: Iterable[msgspec.Raw]) -> Iterator[tuple[int, msgspec.Raw]]:
    """Yield (the line on which it begins, entry) of the entries of a JSON value, in their order."""
    position, line = 0, 1
    for entry in entries:
        found = data.find(bytes(entry), position)
        line += data.count(b"\n", position, found)
        position = found
        yield line, entry
        position, line = found + len(bytes(entry)), line + bytes(entry).count(b"\n")
