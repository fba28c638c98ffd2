"""Ask a model that is here, or one behind a server, for its rationales: into a file, with what it cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from raison.attribution.extract import fingerprint
from raison.models.answerer import Answerer
from raison.models.generator import Generator, LocalGenerator
from raison.models.server import ServerGenerator
from raison.models.tasks import labels_of, task_of
from raison.prompting.extract import explain_to_file
from raison.prompting.served import Served
from raison.rationales import Rationale, load_scores
from raison.records import InputError, Record
from raison.runs import digest
from raison.words import Segmenter, whitespace_words


class Source(NamedTuple):
    """Who is asked."""

    model: str  # name, folder or hub id
    local: Answerer | None  # the model itself, where it is here
    server: str | None = None  # else the address of the server that has it
    cache: str | None = None  # file that keeps replies
    reply_tokens: int = 256
    concurrency: int = 8
    task: str | None = None  # default: what the records say
    shuffle: int | None = None  # of a server, see `Served`
    settings: Mapping[str, Any] = MappingProxyType({})  # of a server, see `ServerGenerator`


def generator_of(source: Source) -> tuple[LocalGenerator | ServerGenerator, str]:
    """Give what speaks for a model, and a hash that tells the model from others."""
    if source.local is None:
        mark = digest([source.server, source.model])
        return ServerGenerator(
            source.model,
            base_url=source.server,
            max_tokens=source.reply_tokens,
            concurrency=source.concurrency,
            cache=source.cache,
            **source.settings,
        ), mark
    local, mark = source.local, fingerprint(source.local)
    return LocalGenerator(
        local.model,
        local.tokenizer,
        name=local.name,
        max_new_tokens=source.reply_tokens,
        cache=source.cache,
        identity=mark if source.cache else None,
    ), mark


def served(
    generator: Generator,
    task: str | None,
    records: Sequence[Record],
    segment: Segmenter = whitespace_words,
    shuffle: int | None = None,
) -> Served:
    """Make a model of what speaks for it, for the task of some records.

    Args:
        generator: gives the replies.
        task: default: what the records say.
        records: tell the labels, where the task does not.
        segment: how texts are cut into words.
        shuffle: see `Served`.

    Raises:
        InputError: the task is not known, or neither it nor the records name labels.
    """
    found = task_of(records, task)
    return Served(generator, found, labels_of(found, records), segment, shuffle)


def ask_to_file(
    path: str | Path,
    source: Source,
    records: Sequence[Record],
    options: dict[str, Any],
    *,
    segment: Segmenter = whitespace_words,
    progress: str | None = None,
) -> list[str]:
    """Ask for the rationales of records, into a file; interrupted, it goes on. See `explain_to_file`.

    A model behind a server is first asked for its answers, by the same prompt.

    Args:
        path: the file.
        source: who is asked.
        records: what is explained.
        options: of `raison.prompting.extract.Asking`; the budget `match:FILE` takes sizes from a file of rationales.
        segment: how texts are cut into words.
        progress: title of the progress bar.

    Returns:
        Lines that say what was asked, what it cost, and how many answers were no label.

    Raises:
        InputError: as `explain_to_file`.
    """
    sizes = _sizes(options["budget"])
    generator, mark = generator_of(source)
    if source.local is not None:
        models = {source.local.name: mark}
        said = explain_to_file(
            path, source.local, generator, records, models=models, sizes=sizes, progress=progress, **options
        )
        return [*_done(said, records), str(generator.usage)]
    model = served(generator, source.task, records, segment, source.shuffle)
    given = model.predict(records, "answering")
    lost = sum(one.label is None for one in given)
    said = explain_to_file(
        path,
        given,
        generator,
        records,
        models={source.model: mark},
        task=model.task,
        sizes=sizes,
        segment=segment,
        progress=progress,
        shuffle=source.shuffle,
        **options,
    )
    return [*_done(said, records), f"{lost} of {len(records)} answers name no label", str(generator.usage)]


def _done(before: int, records: Sequence[Record]) -> list[str]:
    return [f"{before} of {len(records)} records had been done before"] if before else []


def _sizes(budget: str) -> dict[str, int] | None:
    """Give how many words a file's rationales have, for the budget `match:FILE`."""
    kind, _, file = budget.partition(":")
    if kind != "match":
        return None
    items = load_scores(file)
    if not all(isinstance(item, Rationale) for item in items):
        raise InputError(f"{file}: expected rationales, which have a size; these are scores")
    return {item.record_id: _size(item) for item in items if isinstance(item, Rationale)}


def _size(item: Rationale) -> int:
    return int(sum(mask.sum() for mask in item.words.values()))
