"""Which format is this file? Told from its name and its first lines."""

import itertools
import re
from pathlib import Path
from typing import Any, cast

import msgspec

from raison.records import Fault, InputError
from raison.sources.common import checked_lines, json_lines
from raison.sources.esnli import COLUMNS
from raison.sources.livenli import COLUMNS as LIVENLI
from raison.sources.snips import FILES
from raison.sources.wholes import whole

_OURS = {"fields", "annotations", "label_set"}
_KEYS = {  # format -> keys of each of its JSON lines
    "eraser": {"annotation_id", "evidences"},
    "medical-bios": {"words", "foil", "annotations"},
    "varierr": {"context", "statement", "entailment", "neutral", "contradiction"},
    "litex": {"pairID", "explanation", "explanation_category"},
}
_WORDS = {  # how the JSON value begins that the file is -> format -> what stands in its first lines
    b"{": {"hatexplain": (b'"post_tokens"',), "lewidi": (b'"annotation task"',)},
    b"[": {"label-studio": (b'"annotations"', b'"completed_by"'), "argilla": (b'"fields"', b'"responses"')},
}
_HINT = "give a `--format`, or say which column is what: `--map text=COLUMN --map label=COLUMN`"


def guess(path: str | Path, mapped: bool) -> str:
    """Name the format of a file or folder.

    Args:
        path: the file or folder, or the id of a hub data set.
        mapped: whether there is a mapping: what is none of the known formats is then a table (or a hub id).

    Raises:
        InputError: there is no such file, or no format is recognised; it says what to do.
    """
    place = Path(path)
    if place.is_dir():
        return _guess_folder(place, mapped)
    if not place.exists():
        if mapped and re.fullmatch(r"[\w-]+(/[\w.-]+)?", str(path)) and not place.suffix:
            return "hub"
        raise InputError(f"{path}: no such file (a Hugging Face data set: `--format hub` and a mapping)")
    if place.suffix == ".parquet":
        return "hub"
    first = next(checked_lines(path), None)
    if isinstance(first, Fault):
        raise InputError(first)
    if first is None:
        return "table" if mapped else "records"  # the reader says that it is empty
    line = first[1].lstrip()
    if line[:1] in (b"{", b"["):
        return _guess_json(place, line[:1], mapped)
    return _guess_cells(place, line, mapped)


def _guess_folder(folder: Path, mapped: bool) -> str:
    if all((folder / name).is_file() for name in FILES):
        return "snips"
    if (folder / ".argilla").is_dir():
        return "argilla"
    if mapped:
        return "hub"
    raise InputError(f"{folder}: a folder without {', '.join(FILES)}; expected a file, or {_HINT}")


def _guess_json(path: Path, begin: bytes, mapped: bool) -> str:
    keys = _keys(path)
    name = _told_by_keys(keys or set())
    name = name or next((name for name, words in _WORDS[begin].items() if _mentions(path, words)), None)
    if name or mapped:
        return name or "table"
    if keys is None and ".jsonl" in path.name:
        return "records"  # the reader says what is wrong with it
    if keys is None and begin == b"[" and (tasks := _tasks(path)):
        if any(task.annotations for task in tasks):  # the first of them far down
            return "label-studio"
        raise InputError(
            f"{path}: tasks of Label Studio that nobody has annotated; import them there, and read its JSON export "
            "when people are done (see `raison annotators collect --help`)"
        )
    if keys is None:
        raise InputError(f"{path}: no line of it is a JSON object; expected one object a line (`jq -c` makes it so)")
    raise InputError(f"{path}: not a format that can be recognised (it has {', '.join(sorted(keys))[:200]}); {_HINT}")


class _Task(msgspec.Struct):
    data: dict[str, Any]
    annotations: list[Any] = []


def _tasks(path: Path) -> list[_Task]:
    """Give the tasks of a file that is Label Studio's; none if it is something else."""
    data = whole(path)
    try:
        return [] if isinstance(data, Fault) else msgspec.json.decode(data, type=list[_Task])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def _told_by_keys(keys: set[str]) -> str | None:
    if keys >= _KEYS["medical-bios"]:
        return "medical-bios"  # which has annotations, too
    if keys & _OURS:
        return "records"
    return next((name for name, wanted in _KEYS.items() if keys >= wanted), None)


def _mentions(path: Path, words: tuple[bytes, ...]) -> bool:
    """Whether all words stand in the first hundred lines."""
    lines = (item[1] for item in itertools.islice(checked_lines(path), 100) if not isinstance(item, Fault))
    waiting = set(words)
    for line in lines:
        waiting -= {word for word in waiting if word in line}
    return not waiting


def _keys(path: Path) -> set[str] | None:
    """Give the keys of the first JSON object among the first twenty lines; None where there is none."""
    for item in itertools.islice(json_lines(path, nan=True), 20):
        if not isinstance(item, Fault) and isinstance(item[1], dict):
            return set(cast("dict[str, Any]", item[1]))
    return None


def _guess_cells(path: Path, header: bytes, mapped: bool) -> str:
    if COLUMNS[0].encode() in header and COLUMNS[-1].encode() in header:
        return "esnli"
    if all(column.encode() in header for column in LIVENLI):
        return "livenli"
    if mapped:
        return "table"
    if not re.search(r"\.(csv|tsv|txt)(\.gz)?$", path.name) and b"," not in header and b"\t" not in header:
        if re.search(r"\.jsonl?(\.gz)?$", path.name):
            return "records"  # the reader says what is wrong with it
        raise InputError(f"{path}: not a format that can be recognised; {_HINT}")
    columns = header.decode("utf-8", "replace").strip()[:200]
    raise InputError(f"{path}: a table with the header {columns!r}; {_HINT}")
