"""Batches by token budget from length-sorted inputs, run with one progress bar and a way out of full memory."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from raison.runs import Unfinished

T = TypeVar("T")
Indices = NDArray[np.int64]

TOKENS = 1024  # padded tokens of a batch on a CPU: larger ones fall out of its caches
TOKENS_GPU = 16384


def batches(lengths: Sequence[int] | Indices, max_tokens: int) -> list[Indices]:
    """Group inputs of like length, longest first, so that a padded batch has at most `max_tokens` tokens.

    Args:
        lengths: of the inputs, in tokens.
        max_tokens: rows times longest row; an input longer than that is a batch of its own.

    Returns:
        The indices of each batch; together every input once.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    groups: list[Indices] = []
    start = 0
    while start < len(order):
        rows = max(1, max_tokens // max(int(sizes[order[start]]), 1))
        groups.append(order[start : start + rows])
        start += rows
    return groups


def run(
    lengths: Sequence[int] | Indices,
    step: Callable[[Indices], T],
    max_tokens: int,
    progress: str | None = None,
) -> Generator[tuple[Indices, T]]:
    """Run a step on every batch and yield (indices, result); longest inputs first, so that memory fails early or never.

    Where a batch does not fit into the device's memory it is halved, and so are those that follow; a single input that
    does not fit raises.

    Args:
        lengths: of the inputs, in tokens.
        step: takes the indices of a batch.
        max_tokens: see `batches`.
        progress: what the progress bar is called; None shows none.
    """
    with bar(progress, len(lengths)) as advance:
        waiting = batches(lengths, max_tokens)[::-1]
        limit = len(lengths)
        while waiting:
            indices = waiting.pop()
            if len(indices) > limit:
                waiting += [indices[limit:], indices[:limit]]
                continue
            try:
                result = step(indices)
            except torch.OutOfMemoryError:
                if len(indices) == 1:
                    raise
                limit = len(indices) // 2
                waiting.append(indices)
                continue
            yield indices, result
            advance(len(indices))


def catch_up(advance: Callable[[int], None]) -> Callable[[int], None]:
    """Turn a function that moves a bar by steps into one that is told where it should stand."""
    done = 0

    def reach(place: int) -> None:
        nonlocal done
        advance(place - done)
        done = place

    return reach


@contextmanager
def bar(title: str | None, total: int) -> Generator[Callable[[int], None]]:
    """Show a progress bar with a rate and the time left (on a terminal), and give the function that moves it."""
    if title is None:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(title, total=total, rate="")

        def advance(steps: int) -> None:
            shown.advance(task, steps)
            speed = shown.tasks[0].speed
            shown.update(task, rate=f"{speed:.0f}/s" if speed else "")

        yield advance


def write_chunks(
    work: Unfinished, items: Sequence[T], make: Callable[[Sequence[T]], Iterable[Any]], progress: str | None = None
) -> int:
    """Make the lines of a file that are missing, chunk by chunk, and give it its name.

    Args:
        work: the file, with its chunk.
        items: what lines are made of, one for each.
        make: gives the lines of some items.
        progress: title of the progress bar.

    Returns:
        How many lines stood there before.

    Raises:
        InputError: another process has been at the file.
    """
    done = work.resume()
    with bar(progress, len(items)) as advance:
        advance(done)
        for start in range(done, len(items), work.chunk):
            part = items[start : start + work.chunk]
            work.append(make(part))
            advance(len(part))
    work.finish(len(items))
    return done
