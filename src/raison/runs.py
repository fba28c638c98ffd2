"""Runs: what every result says of its making, and files that an interruption does not lose."""

import fcntl
import hashlib
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from raison.records import InputError, Record, from_record, write_json

PACKAGES = ("raison", "torch", "transformers", "tokenizers", "numpy", "scipy")


def provenance(config: Mapping[str, Any], records: Sequence[Record], models: Mapping[str, str]) -> dict[str, Any]:
    """Give the frame of a result file.

    Args:
        config: the resolved configuration.
        records: the data.
        models: name -> hash of each model that took part.

    Returns:
        `config`, `data` (number of records and a hash of their content), `models`, `versions`.
    """
    return {
        "config": dict(config),
        "data": {"records": len(records), "sha256": hash_records(records)},
        "models": dict(models),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    }


def hash_records(records: Sequence[Record]) -> str:
    """Give a hash of the records' content, in order."""
    return digest(from_record(record) for record in records)


def digest(rows: Iterable[Any]) -> str:
    """Give a hash of values that can be written as JSON, in order; the order of keys makes no difference."""
    found = hashlib.sha256()
    for row in rows:
        found.update(msgspec.json.encode(row, order="sorted") + b"\n")
    return found.hexdigest()[:16]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"


def processes() -> tuple[int, int]:
    """Give the number of this process and how many a launcher (`accelerate launch`, `torchrun`) started: 0, 1 alone."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


class Unfinished:
    """A file of JSON lines that is written in chunks and may be interrupted at any point.

    Until it is whole its lines are in `PATH.part`; `PATH.meta.json` says what it is made from.

    Args:
        path: the file.
        frame: what it is made from, see `provenance`.
        chunk: lines that are made together; what was begun is cut back to whole chunks.

    Raises:
        InputError: the file, or an unfinished one, is there and was made from something else.
    """

    def __init__(self, path: str | Path, frame: dict[str, Any], chunk: int) -> None:
        self.path = Path(path)
        self.chunk = chunk
        if self.path.is_dir():
            raise InputError(f"{path}: a folder; expected a file to write")
        self.part = self.path.with_name(self.path.name + ".part")
        self.meta = self.path.with_name(self.path.name + ".meta.json")
        self.frame = frame
        self.stream: BinaryIO | None = None
        if (self.path.exists() or self.part.exists()) and not self._same():
            state = "exists already" if self.path.exists() else "was begun"
            raise InputError(f"{path}: {state}, made from something else (see {self.meta.name}); choose another name")

    @property
    def finished(self) -> bool:
        """Whether the whole file is there."""
        return self.path.exists()

    def _same(self) -> bool:
        """Whether what is there was made with the same configuration, data and model."""
        try:
            return msgspec.json.decode(self.meta.read_bytes()) == msgspec.json.decode(msgspec.json.encode(self.frame))
        except (OSError, msgspec.DecodeError):
            return False

    def resume(self) -> int:
        """Cut what was written back to whole chunks, and give how many lines stand."""
        if not self.part.exists():
            return 0
        stream = self._locked()
        content = self.part.read_bytes()
        ends = np.flatnonzero(np.frombuffer(content, dtype=np.uint8) == ord("\n")) + 1
        lines = len(ends) // self.chunk * self.chunk
        stream.truncate(int(ends[lines - 1]) if lines else 0)
        return lines

    def append(self, rows: Iterable[Any]) -> None:
        """Write one chunk."""
        content = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
        if not self.part.exists():
            write_json(self.meta, self.frame)
        stream = self._locked()
        stream.write(content)
        stream.flush()

    def finish(self, lines: int) -> None:
        """Give the file its name, if it has as many lines as it should.

        Raises:
            InputError: it has not; another process has been at it.
        """
        stream = self._locked()
        stream.close()
        if self.part.read_bytes().count(b"\n") != lines:
            raise InputError(f"{self.part}: another process has written to it; remove it and start again")
        os.replace(self.part, self.path)

    def _locked(self) -> BinaryIO:
        """Open the unfinished file for this process alone; the lock ends with the process, however it ends."""
        if self.stream is None:
            self.stream = open(self.part, "ab")  # noqa: SIM115 (held until the file is finished)
            try:
                fcntl.flock(self.stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(f"{self.part}: another process is writing to it") from None
        return self.stream
