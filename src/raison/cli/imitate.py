"""`raison annotators imitate`: a model answers as a person would."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from typer import Option

from raison.cli.common import (
    Cache,
    Concurrency,
    Data,
    Device,
    Dtype,
    Format,
    FourBit,
    Map,
    Patience,
    Price,
    Rate,
    Seed,
    Server,
    Timeout,
    Trust,
    annotators,
    expect_dtype,
    expect_local,
    following,
    listed,
    load,
    parted,
    quiet,
    say,
    server_options,
)  # fmt: skip
from raison.cli.people import Without, people
from raison.records import InputError

if TYPE_CHECKING:
    from raison.annotators.prompts import Prompts
    from raison.annotators.responses import Response
    from raison.annotators.speakers import Source
    from raison.annotators.splits import Split
    from raison.annotators.teach import Asked
    from raison.records import Record

Parts = Annotated[str | None, Option("--split", help="A split file; default: 300,100,100 in proportion, seed 13.")]
Wording = Annotated[str | None, Option(help="nli, paraphrase, generic, bare, or a TOML file; default: the data's.")]
Order = Annotated[str | None, Option(help="Which line is first: label-first (default), explanation-first.")]
Shots = Annotated[int, Option(min=1, help="Of in-context: answers of the person that are shown.")]
Select = Annotated[str, Option(help="Of in-context: random, stratified, nearest, mmr.")]
Known = Annotated[str | None, Option(help="Of persona: JSON file {person: {name: value}}; default: the data's own.")]
Tag = Annotated[bool, Option("--tag", help="Name the annotator in the prompt: one model for all.")]


@annotators.command("imitate")
def annotators_imitate(
    model: Annotated[str, Option(help="A model folder or hub id; {annotator} in it stands for the person.")],
    data: Data,
    out: Annotated[str, Option(help="File of responses (JSON lines).")],
    split: Parts = None,
    part: Annotated[str, Option(help="Items that are answered: train, dev, test.")] = "test",
    how: Annotated[str, Option(help="zero-shot, persona, profile, in-context.")] = "zero-shot",
    who: Annotated[str | None, Option("--annotators", help="Who is imitated, with commas; default: all.")] = None,
    items: Annotated[int | None, Option(min=1, help="Take only the first N items of the part.")] = None,
    samples: Annotated[int, Option(min=1, help="Answers for each person and item.")] = 1,
    temperature: Annotated[float, Option(min=0, help="0 = the most probable tokens.")] = 0.0,
    tag: Tag = False,
    shots: Shots = 16,
    select: Select = "stratified",
    known: Known = None,
    wording: Wording = None,
    order: Order = None,
    server: Server = None,
    cache: Cache = None,
    reply_tokens: Annotated[int, Option(min=1, help="Longest reply.")] = 128,
    concurrency: Concurrency = 8,
    rate: Rate = None,
    patience: Patience = None,
    timeout: Timeout = None,
    price: Price = None,
    without: Without = None,
    seed: Seed = 0,
    source: Format = None,
    mapping: Map = None,
    device: Device = None,
    dtype: Dtype = "float32",
    four_bit: FourBit = False,
    trust: Trust = False,
) -> None:
    """Have a model answer items as each person would. Interrupted, it goes on where it stopped.

    A model that `raison annotators train` made is asked as it was taught, with its wording and tag.

    Example: raison annotators imitate --model ID --data varierr.json --how in-context --out icl.jsonl
    """
    from raison.annotators.speakers import Source

    if samples > 1 and not temperature:
        raise InputError("--samples: without --temperature all samples are the same")
    expect_dtype(dtype)
    expect_local(server, device=device, dtype=dtype, four_bit=four_bit, trust_remote_code=trust)
    settings = server_options(server, price, rate=rate, patience=patience, timeout=timeout)
    parts = split_of(data, split, without, source, mapping)
    if part not in parts._fields:
        raise InputError(f"--part {part!r}: expected {', '.join(parts._fields)}")
    names = _people(parts, who)
    asked = asked_of(None if server else model, parts, wording, order, names)
    prompts = prompts_of(
        parts, how, known, asked, {"tag": tag or asked.tag, "k": shots, "select": select, "seed": seed}
    )
    loading = {"device": device, "dtype": dtype, "four_bit": four_bit, "trust_remote_code": trust}
    behind = Source(model, server, cache, reply_tokens, temperature, seed, concurrency, loading, settings)
    config = {"command": "annotators imitate", "part": part, "seed": seed if temperature else None}
    _imitate(out, behind, prompts, _Asking(getattr(parts, part)[:items], names, samples, config))
    say(following("annotators score", data=data, split=split, format=source, map=mapping, responses=out))


class _Asking(NamedTuple):
    """What is asked."""

    records: "tuple[Record, ...]"
    people: list[str]
    samples: int
    config: dict[str, Any]


def _imitate(out: str, source: "Source", prompts: "Prompts", asking: _Asking) -> None:
    """Load who speaks, ask, and say what came of it."""
    from raison.annotators.imitate import failures, imitate_to_file
    from raison.annotators.speakers import Cast

    quiet()
    _tell_of_strangers(source, asking.people)
    cast = Cast(source, asking.people)
    config = {**asking.config, "temperature": source.temperature, "reply_tokens": source.reply_tokens}
    given = imitate_to_file(
        out, cast.speaker, prompts, asking.records, asking.people,
        models=cast.models, config=config, samples=asking.samples, progress="imitating",
    )  # fmt: skip
    for line in (*_heard(given, failures(given)), str(cast.usage)):
        say(line)
    say(f"wrote {out} ({len(given):,} responses) and {out}.meta.json")


def _people(parts: "Split", who: str | None) -> list[str]:
    """Give who is imitated: those asked for, or all who answered a training item."""
    from raison.annotators.responses import responses_of

    there = sorted({one.annotator for one in responses_of(parts.train)})
    names = parted(who) if who else there
    for name in names:
        if name not in there:
            raise InputError(f"--annotators {name!r}: answered no training item; there are {', '.join(there[:20])}")
    return list(dict.fromkeys(names))


def _tell_of_strangers(source: "Source", names: list[str]) -> None:
    """Warn where a model is to answer as somebody whom it never learned, as far as its folder tells."""
    from raison.annotators.teach import read_asked

    taught = None if source.server else read_asked(source.model)
    if strangers := [name for name in names if taught and taught.people and name not in taught.people]:
        say(f"warning: {source.model} was never taught to answer as {listed(strangers)}")


def _heard(given: "list[Response]", failed: dict[str, int]) -> Iterator[str]:
    """Say how many replies could be read, and what labels they have."""
    lost = sum(failed.values())
    reasons = f" ({', '.join(f'{reason}: {count:,}' for reason, count in failed.items())})" if failed else ""
    yield f"{lost:,} of {len(given):,} replies can't be read{reasons}"
    labels = Counter(one.label for one in given if one.label is not None)
    if labels:
        yield "labels: " + ", ".join(f"{label} {count:,}" for label, count in labels.most_common())


# ---------------------------------------------------------------------------------------- shared with its neighbours


def split_of(
    file: str, split: str | None, without: str | None, source: str | None, mapping: list[str] | None
) -> "Split":
    """Read records without who opted out, and part them."""
    from raison.annotators.splits import read_split, split_items

    records = people(load(file, source, mapping, None), without)
    return read_split(split, records) if split is not None else split_items(records)


def asked_of(
    model: str | None, parts: "Split", wording: str | None, order: str | None, names: list[str] | None = None
) -> "Asked":
    """Give the wording: as a model was taught, if it says so and no other is asked for, else that of the data."""
    from raison.annotators.export import file_name
    from raison.annotators.speakers import PERSON
    from raison.annotators.teach import Asked, read_asked
    from raison.annotators.wording import wording_for

    if model is not None and wording is None and order is None:
        first = file_name(names[0]) if names else ""
        if (taught := read_asked(model.replace(PERSON, first))) is not None:
            return taught
    return Asked(wording_for(parts.train, wording, order), tag=False)


def prompts_of(parts: "Split", how: str, known: str | None, asked: "Asked", options: dict[str, Any]) -> "Prompts":
    """Give what makes the prompts, from the training items."""
    from raison.annotators.people import people_of
    from raison.annotators.prompts import Prompts, told_of
    from raison.sources.lewidi import read_annotators

    if known is not None and how != "persona":
        raise InputError("--known: only beside --how persona")
    told = read_annotators(known) if known else told_of([*parts.train, *parts.dev, *parts.test])
    kept = {who: told[who] for who in people_of(parts.train) if who in told}  # a file may tell of who opted out
    return Prompts(asked.wording, parts.train, how, people=kept if how == "persona" else None, **options)
