"""Patience with a server: what may go wrong with a request, how long to wait, and no more than so much a minute."""

import asyncio
import random
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import monotonic, time
from typing import Literal

FIRST_WAIT, LONGEST_WAIT = 0.5, 20.0  # seconds between tries: doubled from the one to the other, less up to a half

Kind = Literal["away", "late", "stumble", "refused", "final"]


class Trouble(Exception):
    """A try without a reply.

    `away`: the server can't be reached or has no time. `late`: no reply in time. `stumble`: it answered, but not well.
    `refused`: it will have nothing to do with us. `final`: it will not answer this conversation. `wait` is for how many
    seconds the server asks to be left alone.
    """

    def __init__(self, kind: Kind, reason: str, wait: float = 0) -> None:
        super().__init__(reason)
        self.kind, self.reason, self.wait = kind, reason, wait


class Tries:
    """What has been tried for one conversation."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.stumbles = 0
        self.away = 0
        self.away_since = 0.0

    def wait_after(self, trouble: Trouble) -> float:
        """Count a try and say for how many seconds to wait: what the server asks for, or longer each time."""
        if trouble.kind == "away":
            self.away_since = self.away_since if self.away else monotonic()
            self.away += 1
        else:
            self.stumbles += 1
            self.away = 0
        if trouble.kind == "late":
            self.timeout *= 2
        grown = min(FIRST_WAIT * 2 ** min(max(self.away, self.stumbles) - 1, 30), LONGEST_WAIT)
        return max(trouble.wait, grown * random.uniform(0.5, 1))


class Pace:
    """Turns at no more than so much a minute; without a limit, at once."""

    def __init__(self, per_minute: float | None) -> None:
        self.seconds = 60 / per_minute if per_minute else 0.0
        self.free = 0.0

    async def turn(self, amount: float) -> None:
        """Wait for one's turn to take an amount."""
        start = max(monotonic(), self.free)
        self.free = start + amount * self.seconds
        await asyncio.sleep(start - monotonic())

    def close(self, seconds: float) -> None:
        """Give no turn for some seconds."""
        self.free = max(self.free, monotonic() + seconds)

    def correct(self, amount: float) -> None:
        """Take more than was said, or less."""
        self.free += amount * self.seconds


def retry_after(headers: Mapping[str, str]) -> float:
    """Read for how many seconds a server asks to be left alone; 0 where it doesn't say. It may give a date."""
    said = headers.get("retry-after", "")
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time())
    except (ValueError, TypeError):
        return 0.0
