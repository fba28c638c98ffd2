"""`raison data`: what is in a file, and rationales made by rules or from explanations."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from raison.cli.common import File, Format, Json, Limit, Map, Seed, Words, console, data, load, say, segmenter
from raison.records import InputError

if TYPE_CHECKING:
    from raison.records import Record
    from raison.sources.rules import Rule, Rules
    from raison.words import Segmenter


@data.command("check")
def data_check(
    file: File, source: Format = None, mapping: Map = None, json: Json = None, words: Words = "whitespace"
) -> None:
    """Tell what is in a file, and every fault in it with line and field. Exit status 2 where there are faults.

    Warns where labels can be read off rationales or texts.

    Example: raison data check esnli.jsonl.gz
    """
    from raison.records import write_json
    from raison.sources.describe import cells, describe
    from raison.sources.show import summary

    found = describe(file, source, mapping, segmenter(words))
    if json:
        write_json(json, cells(found))
    console().print(summary(found))
    for warning in found.warnings:
        say(f"warning: {warning}")
    for fault in found.faults:
        typer.echo(str(fault), err=True)
    if found.faults:
        raise typer.Exit(2)


@data.command("show")
def data_show(
    file: File,
    source: Format = None,
    mapping: Map = None,
    limit: Annotated[int, Option("-n", "--limit", min=1, help="How many records.")] = 5,
    words: Words = "whitespace",
) -> None:
    """Print records with the highlights in colour.

    Example: raison data show esnli.jsonl.gz -n 3
    """
    from raison.sources.show import show

    show(load(file, source, mapping, limit), segment=segmenter(words))


@data.command("rationales")
def data_rationales(
    file: File,
    rules: Annotated[str | None, Option(help="A TOML file of rules: word lists per label, patterns.")] = None,
    explained: Annotated[
        bool, Option("--from-explanations", help="Mark the words of the texts that each explanation names.")
    ] = False,
    noise: Annotated[str | None, Option(help="KIND:RATE; kinds: drop, shift, swap, replace.")] = None,
    annotator: Annotated[
        list[str] | None, Option(help="Whose rationales are counted and made noisy; default: the new ones, or all.")
    ] = None,
    out: Annotated[str | None, Option(help="File for the records; default: none, only tell.")] = None,
    source: Format = None,
    mapping: Map = None,
    limit: Limit = None,
    words: Words = "whitespace",
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Make rationales by rules or from explanations, add noise to them, and tell what they cover.

    Example: raison data rationales train.jsonl --rules rules.toml --out marked.jsonl
    """
    from raison.records import write_json, write_records
    from raison.sources import coverage
    from raison.sources import explained as explanations
    from raison.sources import rules as rule_files

    segment = segmenter(words)
    given = rule_files.read_rules(rules) if rules else {}
    used: Counter[Rule] = Counter()
    records = [rule_files.apply_rules(given, one, segment, used) for one in load(file, source, mapping, limit)]
    records = _from_explanations(records, segment) if explained else records
    agreement = explanations.own_agreement(records, segment) if explained else []
    people = _known(annotator, records) or _new(records, given, explained)
    if noise:
        records = _with_noise(records, noise, people, seed, segment)
    found = coverage.coverage(records, people, segment)
    console().print(coverage.coverage_table(found))
    if given:
        console().print(coverage.rules_table(given, used))
    if agreement:
        console().print(coverage.agreement_table(agreement))
    for line in rule_files.idle_rules(given, used, [record.label for record in records if record.label]):
        say(f"warning: {line}")
    if json:
        write_json(json, coverage.coverage_cells(found, given, used, agreement))
    if out:
        say(f"wrote {out} ({write_records(out, records):,} records)")


def _from_explanations(records: "list[Record]", segment: "Segmenter") -> "list[Record]":
    """Mark what explanations name; say so if there are none."""
    from raison.sources.explained import from_explanations

    if not any(note.explanation for record in records for note in record.annotations):
        say("warning: no record has an explanation; nothing was marked")
    return from_explanations(records, segment=segment)


def _known(annotators: list[str] | None, records: "list[Record]") -> list[str] | None:
    """Give the annotators asked for.

    Raises:
        InputError: one of them is not in the records.
    """
    from raison.sources.common import unknown

    names = dict.fromkeys(a.annotator for record in records for a in record.annotations if a.annotator)
    for name in annotators or ():
        if name not in names:
            raise InputError(unknown("annotator", name, list(names)[:12]))
    return annotators


def _new(records: "list[Record]", rules: "dict[str, Rules]", explained: bool) -> list[str] | None:
    """Name the annotators that were added; None where there are none."""
    from raison.sources.explained import is_derived

    said = (annotation for record in records for annotation in record.annotations) if explained else ()
    return list(dict.fromkeys([*rules, *(a.annotator for a in said if a.annotator and is_derived(a))])) or None


def _with_noise(
    records: "list[Record]", noise: str, people: list[str] | None, seed: int, segment: "Segmenter"
) -> "list[Record]":
    """Put noise into rationales, and tell how many records it changed."""
    from raison.sources.noise import noisy

    kind, _, rate = noise.partition(":")
    try:
        share = float(rate)
    except ValueError:
        raise InputError(f"noise {noise!r}: expected KIND:RATE, such as swap:0.2") from None
    result = noisy(records, kind, share, seed, people, segment)
    say(
        f"noise: {kind} in {result.affected:,} of {result.with_rationale:,} records with a rationale"
        f" ({result.changed:,} changed by it)"
    )
    return result.records
