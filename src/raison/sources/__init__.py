"""Sources: files of many formats become records. One reader per format, all in `SOURCES`.

`scan` yields records and faults one after the other, in constant memory; `load` gives a list, and ends at a fault.
"""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from raison.records import Fault, InputError, Record, clash
from raison.sources.argilla import read_argilla
from raison.sources.common import Item, unknown
from raison.sources.eraser import read_eraser
from raison.sources.esnli import read_esnli
from raison.sources.guess import guess
from raison.sources.hatexplain import read_hatexplain
from raison.sources.hub import read_hub
from raison.sources.label_studio import read_label_studio
from raison.sources.lewidi import read_lewidi
from raison.sources.litex import read_litex
from raison.sources.livenli import read_livenli
from raison.sources.medical_bios import read_medical_bios
from raison.sources.options import OptionsLike, read_options
from raison.sources.ours import read_ours
from raison.sources.snips import read_snips
from raison.sources.table import read_table
from raison.sources.varierr import read_varierr

__all__ = ["SOURCES", "Item", "OptionsLike", "Reader", "checked", "load", "scan"]

Reader = Callable[..., Iterator[Item]]  # (path, **options); records come with the line they start on

SOURCES: dict[str, Reader] = {
    "records": read_ours,
    "table": read_table,
    "esnli": read_esnli,
    "eraser": read_eraser,
    "hatexplain": read_hatexplain,
    "medical-bios": read_medical_bios,
    "snips": read_snips,
    "varierr": read_varierr,
    "lewidi": read_lewidi,
    "livenli": read_livenli,
    "litex": read_litex,
    "label-studio": read_label_studio,
    "argilla": read_argilla,
    "hub": read_hub,
}


def scan(path: str | Path, source: str | None = None, mapping: OptionsLike = None) -> Iterator[Record | Fault]:
    """Read a file of any known format, one record at a time; a fault never ends what can go on.

    Args:
        path: a file, a folder, or a hub id.
        source: a name in `SOURCES`; None = told from the file.
        mapping: the reader's options: a mapping, `name=value` pairs, the path of a TOML file (see
            `options.read_options`). For tables and hub data sets they say which column is what.

    Returns:
        An iterator of records and faults. Records are not compared with each other: see `checked`.

    Raises:
        InputError: there is no such file or format, or an option is unknown or wrong.
    """
    return (item if isinstance(item, Fault) else item[1] for item in _open(path, source, mapping))


def checked(path: str | Path, source: str | None = None, mapping: OptionsLike = None) -> Iterator[Item]:
    """Read as `scan` does, with lines, and with faults for records that can't stand in one data set.

    These are ids that stand there already, other fields than the first record's, and another label set. A file
    without any record is a fault too. The ids are held in memory.
    """
    name = source or guess(path, bool(mapping))
    seen: set[str] = set()
    first: Record | None = None
    empty = True
    for item in _open(path, name, mapping):
        empty = False
        if isinstance(item, Fault):
            yield item
            continue
        line, record = item
        first = first or record
        fault = clash(record, first, seen)
        if fault and record.id in seen and name in ("table", "hub"):
            fault += "; rows of one item must follow each other, or give `gather=true`"
        seen.add(record.id)
        yield Fault(str(path), line, f"record {record.id!r}: {fault}") if fault else item
    if empty:
        yield Fault(str(path), None, "the file is empty; expected at least one record")


def load(
    path: str | Path, source: str | None = None, mapping: OptionsLike = None, limit: int | None = None
) -> list[Record]:
    """Read the records of a file of any known format into a list.

    Args:
        path: a file, a folder, or a hub id.
        source: a name in `SOURCES`; None = told from the file.
        mapping: the reader's options (see `scan`).
        limit: read only so many records.

    Raises:
        InputError: at the first fault, as `file:line: message`; or as `scan` does.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit: expected at least 1, got {limit}")
    records: list[Record] = []
    for item in checked(path, source, mapping):
        if isinstance(item, Fault):
            raise InputError(item)
        records.append(item[1])
        if len(records) == limit:
            break
    return records


def _open(path: str | Path, source: str | None, mapping: OptionsLike) -> Iterator[Item]:
    """Find the reader and call it with its options."""
    name = source or guess(path, bool(mapping))
    if name not in SOURCES:
        raise InputError(unknown("format", name, SOURCES))
    reader, options = SOURCES[name], read_options(mapping)
    parameters = inspect.signature(reader).parameters
    known = [parameter for parameter in parameters if parameter != "path"]
    if "options" not in known:
        for option, value in options.items():
            if option not in known:
                raise InputError(f"format {name!r}: {unknown('option', option, known)}")
            _check_text(name, option, value)
    return reader(path, **options)


def _check_text(name: str, option: str, value: Any) -> None:
    if not isinstance(value, str):
        raise InputError(f"format {name!r}: option `{option}`: expected a text, found {type(value).__name__}")
