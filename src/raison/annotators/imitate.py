"""A model answers as a person would: prompts in, responses out, into a file that an interruption does not lose."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from raison.annotators.prompts import Prompts
from raison.annotators.responses import Response, read_responses
from raison.annotators.wording import Wording
from raison.models.batching import write_chunks
from raison.models.chat import Reply
from raison.models.generator import Generator
from raison.models.server import GIVEN_UP
from raison.records import InputError, Record
from raison.runs import Unfinished, provenance

CHUNK = 64  # answers made together; an interrupted run goes on after the last whole chunk

Speakers = Callable[[str, int], Generator]  # person, number of the sample -> who speaks


class _Ask(NamedTuple):
    """One answer to be had."""

    annotator: str
    number: int
    record: Record


def imitate(
    speakers: Speakers, prompts: Prompts, records: Sequence[Record], annotators: Sequence[str], samples: int = 1
) -> list[Response]:
    """Have a model answer every item as every person would.

    Args:
        speakers: gives the generator for a person and a sample: mostly one and the same; another for each person where
            each has an adapter, and of another seed for each sample where answers are drawn.
        prompts: make the prompts.
        records: the items.
        annotators: who is imitated.
        samples: answers for each person and item.

    Returns:
        Person by person, sample by sample, in the order of the items; `number` is the sample. A reply that can't be
        read says why in `failure` and has neither label nor explanation; `extra` keeps the reply as it came.

    Raises:
        InputError: a prompt can't be made, or a server was away for too long: then start again to go on.
    """
    return [*_answers(speakers, prompts, _asks(records, annotators, samples))]


def imitate_to_file(
    path: str | Path,
    speakers: Speakers,
    prompts: Prompts,
    records: Sequence[Record],
    annotators: Sequence[str],
    *,
    models: dict[str, str],
    config: dict[str, Any],
    samples: int = 1,
    progress: str | None = None,
) -> list[Response]:
    """Do `imitate` into a file of JSON lines, chunk by chunk, and go on where an interrupted run stopped.

    The file appears when it is whole; until then its lines are in `PATH.part`. Beside it, `PATH.meta.json` says what it
    was made with. What a generator keeps in its cache is not asked for again even inside a chunk that was broken off.

    Args:
        path: the file.
        speakers: see `imitate`, also for the rest.
        prompts: see `imitate`.
        records: see `imitate`.
        annotators: see `imitate`.
        models: name -> hash of each model that takes part.
        config: what else was settled, such as temperature and seed.
        samples: see `imitate`.
        progress: title of the progress bar.

    Returns:
        All responses, those that were there before among them.

    Raises:
        InputError: as `imitate`; there is nothing to do; or the file, or an unfinished one, was made with something
            else.
    """
    asks = _asks(records, annotators, samples)
    if not asks:
        raise InputError("nothing to answer: there are no items, or nobody to imitate")
    settled = {**config, **prompts.config, "annotators": [*annotators], "samples": samples}
    work = Unfinished(path, provenance(settled, records, models), CHUNK)
    if not work.finished:
        write_chunks(work, asks, lambda part: [*_answers(speakers, prompts, part)], progress)
    return read_responses(path)


def failures(responses: Sequence[Response]) -> dict[str, int]:
    """Count the replies that could not be read by the kind of failure, most frequent first."""
    return dict(Counter(one.failure.partition(": ")[0] for one in responses if one.failure is not None).most_common())


def to_response(reply: Reply, wording: Wording, record_id: str, annotator: str, number: int = 0) -> Response:
    """Read a reply as the response of the person that was imitated."""
    if reply.text is None:
        return Response(record_id, annotator, None, None, number, reply.failure or "no reply")
    read = wording.read(reply.text, cut=reply.finish == "length")
    kept: dict[str, Any] = {"reply": reply.text} | ({"unread": read.unread} if read.unread else {})
    return Response(record_id, annotator, read.label, read.explanation, number, read.failure, kept)


def _asks(records: Sequence[Record], annotators: Sequence[str], samples: int) -> list[_Ask]:
    return [
        _Ask(annotator, number, record) for annotator in annotators for number in range(samples) for record in records
    ]


def _answers(speakers: Speakers, prompts: Prompts, asks: Sequence[_Ask]) -> Iterator[Response]:
    """Answer; what one generator answers is asked for together."""
    for (annotator, number), group in groupby(asks, key=lambda ask: ask[:2]):
        items = [ask.record for ask in group]
        talks = [[{"role": "user", "content": prompts(record, annotator)}] for record in items]
        generator = speakers(annotator, number)
        replies = generator.generate(talks)
        gone = next((reply.failure for reply in replies if (reply.failure or "").startswith(GIVEN_UP)), None)
        if gone is not None:
            raise InputError(f"{generator.name}: {gone}; start again to go on")
        for record, reply in zip(items, replies, strict=True):
            yield to_response(reply, prompts.wording, record.id, annotator, number)
