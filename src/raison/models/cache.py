"""Replies kept on disk by the hash of what was asked, so that nothing is asked twice, and a count of what was asked."""

import hashlib
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from raison.models.batching import bar
from raison.models.chat import Reply
from raison.records import InputError

Keep = Callable[[int, Reply], None]

MARK = 0x72616973  # "rais": what SQLite calls the application of a file
PATIENCE = 60  # seconds for another process to finish writing


class Usage(msgspec.Struct):
    """What a generator was asked since it was made, and what that took."""

    conversations: int = 0  # asked for by the caller
    cached: int = 0  # of these, answered from the disk
    repeated: int = 0  # of these, the same as another of the same call
    failed: int = 0  # of the others, without an answer
    requests: int = 0  # sent to the model, with those that were sent again
    retries: int = 0  # sent again
    prompt_tokens: int = 0  # read by the model
    reply_tokens: int = 0  # written by the model
    uncounted: int = 0  # answers without a number of tokens
    price: tuple[float, float] | None = None  # of a million prompt tokens and of a million reply tokens

    @property
    def cost(self) -> float | None:
        """Give prompt and reply tokens times their prices; None without prices, or where an answer was not counted."""
        if self.price is None or self.uncounted:
            return None
        return (self.prompt_tokens * self.price[0] + self.reply_tokens * self.price[1]) / 1e6

    def count(self, prompt_tokens: int | None, reply_tokens: int | None) -> None:
        """Add the tokens of one answer."""
        self.prompt_tokens += prompt_tokens or 0
        self.reply_tokens += reply_tokens or 0
        self.uncounted += prompt_tokens is None or reply_tokens is None

    def __str__(self) -> str:
        """Give one line for people."""
        cost = "" if self.cost is None else f", cost {self.cost:.4f}"
        unknown = f" ({self.uncounted} answers uncounted)" if self.uncounted else ""
        return (
            f"{self.conversations} conversations ({self.cached} cached, {self.repeated} repeated, "
            f"{self.failed} failed), {self.requests} requests ({self.retries} retries), "
            f"{self.prompt_tokens} prompt and {self.reply_tokens} reply tokens{unknown}{cost}"
        )


def content_hash(content: Any) -> str:
    """Give the SHA-256 of a value that can be written as JSON; the order of keys makes no difference."""
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


def ask_once(
    keys: Sequence[str],
    ask: Callable[[list[int], Keep], None],
    *,
    usage: Usage,
    path: str | Path | None = None,
    progress: str | None = None,
) -> list[Reply]:
    """Answer conversations from the disk where they were answered before, and ask the others, each once.

    A reply is written to the disk before the next is waited for; one that failed is not written, so that it is asked
    again another time.

    Args:
        keys: what tells one conversation from another, see `content_hash`.
        ask: takes the places of the conversations that are to be asked, and a function to be called with each place
            and its reply as soon as it is there.
        usage: counted on.
        path: a SQLite file, made if it is not there; None keeps nothing. Several processes may share it, on one
            machine.
        progress: what the progress bar is called; None shows none.

    Returns:
        One reply for each key, in their order.

    Raises:
        InputError: the file can't be read or written, or is not a cache.
    """
    times = Counter(keys)
    with closing(_Table(path)) as table, bar(progress, len(keys)) as advance:
        known = table.get(times)
        waiting = {key: place for place, key in reversed([*enumerate(keys)]) if key not in known}
        usage.conversations += len(keys)
        usage.cached += sum(times[key] for key in known)
        usage.repeated += sum(times[key] - 1 for key in waiting)
        advance(sum(times[key] for key in known))

        def keep(place: int, reply: Reply) -> None:
            key = keys[place]
            known[key] = reply
            if reply.finish == "failed":
                usage.failed += 1
            else:
                table.put(key, reply)
            advance(times[key])

        if waiting:
            ask(sorted(waiting.values()), keep)
    return [known[key] for key in keys]


class _Table:
    """The replies on disk, by key; without a path, none. A file that is not there is made for its first reply."""

    def __init__(self, path: str | Path | None) -> None:
        self.path = path
        self.connection: sqlite3.Connection | None = None
        if path is not None and Path(path).exists():
            self._open(path)
        elif path is not None and not os.access(Path(path).absolute().parent, os.W_OK):
            raise InputError(f"{path}: can't be used as a cache of replies (its folder can't be written to)")

    def _open(self, path: str | Path) -> sqlite3.Connection:
        with self._errors():
            # a caller inside an event loop has its replies written from another thread, while it waits
            connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        self.connection = connection
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the table in a new file; refuse a file of somebody else's."""
        if connection.execute("PRAGMA application_id").fetchone()[0] == MARK:
            return
        connection.execute("BEGIN IMMEDIATE")  # another process may be making it now
        if connection.execute("PRAGMA application_id").fetchone()[0] != MARK:
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise InputError(f"{self.path}: a database, but not a cache of replies; choose another name")
            connection.execute("CREATE TABLE replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID")
            connection.execute(f"PRAGMA application_id = {MARK}")
        connection.execute("COMMIT")
        with suppress(sqlite3.OperationalError):  # it is busy: then it stays in the other mode, which is as safe
            connection.execute("PRAGMA journal_mode = WAL")

    def get(self, keys: Counter[str]) -> dict[str, Reply]:
        """Give the replies that are there."""
        found: dict[str, Reply] = {}
        if self.connection is None:
            return found
        with self._errors():
            for key in keys:
                row = self.connection.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
                if row:
                    found[key] = msgspec.json.decode(row[0], type=Reply)
        return found

    def put(self, key: str, reply: Reply) -> None:
        """Write a reply; it is on the disk when this returns."""
        if self.path is None:
            return
        connection = self.connection or self._open(self.path)
        with self._errors():
            row = (key, msgspec.json.encode(reply).decode())
            connection.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", row)

    def close(self) -> None:
        """Let the file go."""
        if self.connection is not None:
            self.connection.close()

    @contextmanager
    def _errors(self) -> Generator[None]:
        try:
            yield
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise InputError(f"{self.path}: can't be used as a cache of replies ({error})") from None
