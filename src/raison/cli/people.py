"""`raison annotators people · split · collect`: who is in the data, parts of it, and projects for annotation tools."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from raison.cli.common import Data, Format, Json, Limit, Map, annotators, console, following, listed, load, parted, say
from raison.records import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from raison.annotators.splits import Leak, Split
    from raison.records import Record

Without = Annotated[str | None, Option(help="Who opted out: a file with one name a line, or names with commas.")]
Pseudonyms = Annotated[
    str | None, Option(help="Rename people by the secret in this file, made if it isn't there. Keep it to yourself.")
]

_NEEDED = {  # what can't be done without a part
    "train": "there is nothing to learn people from",
    "dev": "`raison annotators score` can't tell who wrote what, since that is learned from dev",
    "test": "there is nothing to score imitations on",
}


def people(records: "list[Record]", without: str | None, salt: str | None = None) -> "list[Record]":
    """Leave out who opted out, and give the others pseudonyms; say so."""
    from raison.annotators import people as there

    if without is not None:
        names, known = there.read_names(without), there.people_of(records)
        absent = sorted(names - known.keys())
        records = there.opted_out(records, names)
        say(f"left out: {len(names) - len(absent):,} who opted out{_absent(absent)}")
    if salt is not None:
        records = there.renamed(records, there.pseudonyms(there.people_of(records), there.read_salt(salt)))
        say(f"people are renamed; keep {salt} to yourself: with it they can be found again")
    return records


def _absent(names: list[str]) -> str:
    return f"; not in the data: {listed(names)}" if names else ""


@annotators.command("people")
def annotators_people(
    data: Data,
    out: Annotated[str | None, Option(help="File for the records; default: none, only tell.")] = None,
    without: Without = None,
    pseudonyms: Pseudonyms = None,
    source: Format = None,
    mapping: Map = None,
    limit: Limit = None,
    json: Json = None,
) -> None:
    """Tell who is in the data and what they gave; leave out who opted out, rename the others, change formats.

    Example: raison annotators people --data varierr.json --without opted-out.txt --pseudonyms salt.txt --out mine.jsonl
    """
    from raison.annotators.roster import roster, roster_cells, roster_table
    from raison.records import write_json, write_records

    records = people(load(data, source, mapping, limit), without, pseudonyms)
    found = roster(records)
    if found:
        console().print(roster_table(found))
    else:
        said = sum(len(record.annotations) for record in records)
        say(f"none of {said:,} annotations says whose it is" if said else "there is no annotation of anybody")
    if json:
        write_json(json, roster_cells(found))
    if out:
        say(f"wrote {out} ({write_records(out, records):,} records)")
        say(following("annotators split", data=out))


@annotators.command("split")
def annotators_split(
    data: Data,
    out: Annotated[str | None, Option(help="File for the split: ids and hashes, no texts.")] = None,
    records: Annotated[str | None, Option(help="Folder for train.jsonl, dev.jsonl and test.jsonl.")] = None,
    check: Annotated[str | None, Option(help="A split file: part the data as it says, or say why not.")] = None,
    sizes: Annotated[str, Option(help="Items of train, dev and test, or their proportions.")] = "300,100,100",
    together: Annotated[str | None, Option(help="Fields; items with the same text in one stay in one part.")] = None,
    seed: Annotated[int, Option(min=0, help="Seed of the draw.")] = 13,
    without: Without = None,
    pseudonyms: Pseudonyms = None,
    source: Format = None,
    mapping: Map = None,
    limit: Limit = None,
    json: Json = None,
) -> None:
    """Part items into train, dev and test, and look for leaks between the parts: the same texts, near duplicates.

    Example: raison annotators split --data varierr.json --out split.json --records parts
    """
    from raison.annotators.splits import leak_lines, read_split, split_items, split_leaks, write_split
    from raison.records import write_json

    fields = parted(together or "")
    if check is not None and (out is not None or together is not None):
        raise InputError(
            f"--{'out' if out is not None else 'together'}: not beside --check, which takes a split as it is"
        )
    found = people(load(data, source, mapping, limit), without, pseudonyms)
    split = read_split(check, found) if check is not None else split_items(found, _sizes(sizes), seed, fields)
    leaks = split_leaks(split)
    console().print(_parts(split))
    empty = [f"{name} is empty; {_NEEDED[name]}" for name, part in split._asdict().items() if not part]
    for line in (*empty, *leak_lines(leaks)):
        say(f"warning: {line}")
    shared = {leak.kind for leak in leaks} & set(found[0].fields)
    if shared and check is None:
        say(
            f"--together {','.join(sorted(shared))} keeps items with the same {' or '.join(sorted(shared))} in one part"
        )
    if json:
        write_json(json, _cells(split, leaks))
    if out:
        write_split(out, split, seed, fields)
        say(f"wrote {out} (ids and hashes, no texts)")
    if records:
        _write_parts(records, split)


def _sizes(text: str) -> tuple[int, int, int]:
    try:
        train, dev, test = (int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--sizes {text!r}: expected three numbers, TRAIN,DEV,TEST, such as 300,100,100") from None
    return train, dev, test


def _parts(split: "Split") -> "Table":
    from rich.table import Table

    from raison.annotators.people import people_of
    from raison.annotators.responses import responses_of

    table = Table(title="Parts", title_justify="left")
    for name in ("part", "items", "responses", "people"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for name, part in zip(split._fields, split, strict=True):
        table.add_row(name, f"{len(part):,}", f"{len(responses_of(part)):,}", f"{len(people_of(part)):,}")
    return table


def _cells(split: "Split", leaks: "list[Leak]") -> list[Any]:
    """Give the sizes of the parts, and how many items of each leak and how."""
    from collections import Counter

    sizes = {name: len(part) for name, part in zip(split._fields, split, strict=True)}
    counts = Counter((leak.kind, leak.part) for leak in leaks)
    rows = [("items", name, size, size) for name, size in sizes.items()]
    rows += [(f"leak_{kind}", part, count, sizes[part]) for (kind, part), count in counts.items()]
    return [
        {"metric": metric, "source": "split", "slice": part, "value": value, "low": None, "high": None, "n": n,
         "frame": None, "verdict": None}
        for metric, part, value, n in rows
    ]  # fmt: skip


def _write_parts(folder: str, split: "Split") -> None:
    from raison.records import write_records

    for name, part in zip(split._fields, split, strict=True):
        path = Path(folder) / f"{name}.jsonl"
        say(f"wrote {path} ({write_records(path, part):,} records)")


@annotators.command("collect")
def annotators_collect(
    data: Data,
    tool: Annotated[str, Option(help="label-studio or argilla.")],
    out: Annotated[str, Option(help="Folder for the project, to be made.")],
    people: Annotated[int, Option(min=1, help="Of Argilla: how many answer each item.")] = 3,
    marks: Annotated[bool, Option(help="Ask for marked words, too.")] = True,
    source: Format = None,
    mapping: Map = None,
    limit: Limit = None,
) -> None:
    """Make a project of an annotation tool, in which people label, explain and mark words. Nothing is sent anywhere.

    Example: raison annotators collect --data items.jsonl --tool label-studio --out project
    """
    from raison.sources.argilla import write_argilla
    from raison.sources.common import unknown
    from raison.sources.label_studio import write_label_studio

    if tool not in ("label-studio", "argilla"):
        raise InputError(f"--tool: {unknown('tool', tool, ('label-studio', 'argilla'))}")
    records = load(data, source, mapping, limit)
    if tool == "argilla":
        write_argilla(out, records, people, marks)
        say(f"wrote {out} ({len(records):,} records); in Python: argilla.Dataset.from_disk({out!r})")
    else:
        write_label_studio(out, records, marks)
        say(f"wrote {out} ({len(records):,} tasks): paste config.xml as labelling interface, then import tasks.json")
    say("afterwards: raison annotators people --data EXPORT --out records.jsonl")
