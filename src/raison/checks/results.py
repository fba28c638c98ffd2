"""What a check gives: a row for each record, estimates, a count of every state; and what it needs and costs before."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from raison.evaluation.statistics import Estimate, wilson
from raison.models.batching import write_chunks
from raison.records import Record, read_jsonl
from raison.runs import Unfinished, provenance

Row = TypeVar("Row", bound=msgspec.Struct)
Needs = Literal["answers only", "probabilities", "weights"]

CHUNK = 16  # records checked together; an interrupted run goes on after the last whole chunk


class Cost(msgspec.Struct, frozen=True):
    """What a check asks of a model, known before it runs: no more than these numbers."""

    needs: Needs
    answers: int = 0  # labels scored, or read from short replies
    replies: int = 0  # texts written by the model
    passes: int = 0  # further forward passes, each over a prompt with an explanation at most

    def __str__(self) -> str:
        """Give one line for people."""
        counts = {"answers": self.answers, "replies": self.replies, "passes": self.passes}
        parts = [f"{count:,} {name}" for name, count in counts.items() if count]
        return f"needs {self.needs}; at most {', '.join(parts) or 'nothing'}"


class Summary(msgspec.Struct, frozen=True):
    """A check's numbers over all records."""

    estimates: dict[str, Estimate]
    states: dict[str, int]  # what became of the records: how many were tested, and why the others were not
    verdict: str | None = None  # why the estimates say nothing here; None = nothing is known against them


def states(names: Iterable[str]) -> dict[str, int]:
    """Count states, most frequent first."""
    return dict(Counter(names).most_common())


def rate(hits: Iterable[bool], level: float = 0.95) -> Estimate:
    """Estimate a rate, with Wilson's interval."""
    seen = list(hits)
    return wilson(sum(seen), len(seen), level=level)


def run_to_file(
    path: str | Path,
    check: Callable[[Sequence[Record]], Sequence[Row]],
    records: Sequence[Record],
    kind: type[Row],
    *,
    config: Mapping[str, Any],
    models: Mapping[str, str],
    progress: str | None = None,
) -> list[Row]:
    """Run a check into a file of JSON lines, chunk by chunk, and go on where an interrupted run stopped.

    The file appears when it is whole; until then its lines are in `PATH.part`. Beside it, `PATH.meta.json` says what it
    was made with. The result equals that of a run that was not interrupted, as far as the generator repeats itself.

    Args:
        path: the file.
        check: gives one row for each record, such as `lambda part: early_answering(subject, part)`.
        records: what is checked.
        kind: type of the rows.
        config: the resolved options of the check.
        models: name -> hash (or version) of each model that takes part.
        progress: title of the progress bar.

    Returns:
        One row for each record, in order, those that were there before among them.

    Raises:
        InputError: the file, or an unfinished one, was made with something else.
    """
    work = Unfinished(path, provenance(config, records, models), CHUNK)
    if not work.finished and records:
        write_chunks(work, records, check, progress)
    return list(read_jsonl(path, lambda row: msgspec.convert(row, kind))) if records else []
