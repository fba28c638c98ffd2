"""Cells of a study on disk, each a folder of its own that an interruption or another process can't spoil.

A cell is done when its folder holds `cell.json`. Until then whoever works on it holds a lock, which ends with the
process, however it ends; what stands in the folder by then is where the next one goes on.
"""

import fcntl
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import msgspec

from raison.records import InputError, write_json

DONE, LOCK = "cell.json", ".lock"
POLL = 2.0  # seconds between looks at what other processes do
_T = TypeVar("_T", bound=msgspec.Struct)


class Job(NamedTuple):
    """Something to be made once."""

    name: str  # of its folder
    needs: tuple[str, ...]  # names of what must be done before
    make: Callable[[Path], msgspec.Struct]  # works in the folder, and gives what the cell says


class Shelf(Generic[_T]):
    """The cells of a study.

    Args:
        folder: of all of them.
        kind: what a cell says.
    """

    def __init__(self, folder: str | Path, kind: type[_T]) -> None:
        self.folder, self.kind = Path(folder), kind

    def at(self, name: str) -> Path:
        """Give the folder of a cell."""
        return self.folder / name

    def get(self, name: str) -> _T | None:
        """Give what a cell says; None where it is not done.

        Raises:
            InputError: it can't be read.
        """
        path = self.at(name) / DONE
        try:
            return msgspec.json.decode(path.read_bytes(), type=self.kind)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise InputError(f"{path}: can't be read ({error})") from None

    def make(self, jobs: Sequence[Job], told: Callable[[str, _T], None] = lambda name, cell: None) -> None:
        """Make all that is not done. Several processes may do so at once: each takes what nobody is at.

        Args:
            jobs: each behind what it needs.
            told: is told of each cell that this process has made.
        """
        waiting = list(jobs)
        while waiting:
            left = [job for job in waiting if not self._try(job, told)]
            if len(left) == len(waiting):  # all that could be done now is in other hands
                time.sleep(POLL)
            waiting = left

    def _try(self, job: Job, told: Callable[[str, _T], None]) -> bool:
        """Make one cell if that can be done now; tell whether it is done."""
        if self.get(job.name) is not None:
            return True
        if any(self.get(name) is None for name in job.needs):
            return False
        folder = self.at(job.name)
        with _locked(folder) as mine:
            if not mine:
                return False
            if self.get(job.name) is not None:  # it was done between the look and the lock
                return True
            cell = msgspec.convert(msgspec.to_builtins(job.make(folder)), self.kind)
            write_json(folder / DONE, msgspec.to_builtins(cell))
        told(job.name, cell)
        return True


@contextmanager
def _locked(folder: Path) -> Generator[bool]:
    """Hold the lock of a folder, if nobody else does."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
