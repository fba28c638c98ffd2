"""`raison annotators pairs`: what a person said, before what is less theirs."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from raison.cli.common import Data, Format, Json, Map, Seed, annotators, following, given_of, parted, say
from raison.cli.imitate import Known, Order, Parts, Select, Shots, Tag, Wording, asked_of, prompts_of, split_of
from raison.cli.people import Without
from raison.records import InputError

if TYPE_CHECKING:
    from raison.annotators.pairs import PairOptions, Pairs
    from raison.annotators.prompts import Prompts
    from raison.annotators.splits import Split


@annotators.command("pairs")
def annotators_pairs(
    data: Data,
    out: Annotated[str, Option(help="Folder of the pairs, their audit, and what is exported.")],
    split: Parts = None,
    scope: Annotated[str, Option(help="all, same-label, different-label, mixed.")] = "all",
    same_share: Annotated[float, Option(help="Of mixed: share of the pairs with one label.")] = 0.5,
    rejected: Annotated[str, Option(help="people, sft-sample, own-other-item; with commas.")] = "people",
    others: Annotated[int, Option(min=1, help="Of own-other-item: texts rejected for each response.")] = 1,
    samples: Annotated[str | None, Option(help="Of sft-sample: file of responses to training items.")] = None,
    weigh: Annotated[str, Option(help="Factors: per-item, validity, distinctiveness, ordinal; with commas.")] = "",
    tag: Tag = False,
    how: Annotated[str, Option(help="Prompt: zero-shot, persona, profile, in-context.")] = "zero-shot",
    shots: Shots = 16,
    select: Select = "stratified",
    known: Known = None,
    wording: Wording = None,
    order: Order = None,
    export: Annotated[str, Option(help="Also for: trl, trl-plain, llama-factory; with commas.")] = "",
    without: Without = None,
    seed: Seed = 0,
    source: Format = None,
    mapping: Map = None,
    json: Json = None,
) -> None:
    """Make preference pairs of training items: what a person said, before what others said of the same item.

    Example: raison annotators pairs --data varierr.json --split split.json --tag --export trl --out runs/pairs
    """
    from raison.annotators.pairs import make_options, make_pairs
    from raison.annotators.people import read_names
    from raison.annotators.responses import read_responses

    options = make_options({
        "scope": scope, "same_share": same_share, "rejected": parted(rejected), "others": others,
        "weights": parted(weigh), "seed": seed,
    })  # fmt: skip
    forms = _forms(export)
    if samples is not None and "sft-sample" not in options.rejected:
        raise InputError("--samples: only beside --rejected sft-sample")
    if samples is None and "sft-sample" in options.rejected:
        raise InputError("--rejected sft-sample: the samples are needed (--samples)")
    parts = split_of(data, split, without, source, mapping)
    asked = {"tag": tag, "k": shots, "select": select, "seed": seed}
    prompts = prompts_of(parts, how, known, asked_of(None, parts, wording, order), asked)
    gone = read_names(without) if without else ()
    made = make_pairs(prompts, options, read_responses(samples, gone) if samples else ())
    _expect_no_leak(made, parts, prompts)
    read = given_of(data=data, split=split, source=source, map=mapping)
    _write(out, made, prompts, options, json, read)
    _export(out, made, forms, tag)
    way, model = ("capo-tag", "runs/sft-tag") if tag else ("capo-person", "runs/sft-person/{annotator}")
    say(following("annotators train", how=way, model=model, pairs=f"{out}/pairs.jsonl", out=f"runs/{way}"))


def _forms(text: str) -> list[str]:
    from raison.annotators.export import FORMS

    for form in parted(text):
        if form not in FORMS:
            raise InputError(f"--export {form!r}: expected {', '.join(FORMS)}")
    return parted(text)


def _expect_no_leak(made: "Pairs", parts: "Split", prompts: "Prompts") -> None:
    """Look through the pairs for held-out items, and what anybody said of them."""
    from raison.annotators.audit import leaks

    held_out = [*parts.dev, *parts.test]
    words = prompts.wording.prompt(parts.train[0], "", persona=" ", profile=" ")  # no text of an item
    if found := leaks(made.pairs, parts.train, held_out, [words]):
        raise InputError(f"{found[0]}, which no pair may hold ({len(found):,} such leaks)")
    say(f"no text of the {len(held_out):,} held-out items is in any pair")


def _write(
    out: str, made: "Pairs", prompts: "Prompts", options: "PairOptions", json: str | None, read: dict[str, Any]
) -> None:
    """Write the pairs, their books and what they are made from, and say what pairs there are."""
    from msgspec import to_builtins

    from raison.annotators.audit import counts
    from raison.annotators.pairs import write_pairs
    from raison.records import write_json, write_jsonl
    from raison.runs import provenance

    folder, told = Path(out), counts(made.pairs, made.entries)
    config = {"command": "annotators pairs", "pairs": to_builtins(options), **prompts.config}
    write_jsonl(folder / "audit.jsonl", made.entries)
    frame = provenance(config, prompts.train, {}) | {"counts": told, "read": read}
    write_json(folder / "pairs.jsonl.meta.json", frame)
    write_pairs(folder / "pairs.jsonl", made.pairs)
    if json:
        write_json(json, told)
    for line in _told(told):
        say(line)
    say(f"wrote {out}/pairs.jsonl, pairs.jsonl.meta.json and audit.jsonl")


def _export(out: str, made: "Pairs", forms: list[str], tag: bool) -> None:
    from raison.annotators.export import export_pairs, lost_weights

    for form in forms:
        files = export_pairs(Path(out) / form, made.pairs, form, together=tag)
        say(f"wrote {out}/{form}/{files[0].name}{f' and {len(files) - 1} more' if len(files) > 1 else ''}")
    if forms and (lost := lost_weights(made.pairs)):
        say(f"warning: the weights of {lost:,} pairs are lost in the export; only raison's own training knows them")


def _told(told: dict[str, Any]) -> Iterator[str]:
    """Say what pairs there are."""
    same = "" if told["same_label"] is None else f", {told['same_label']:.0%} with one label"
    yield f"{told['pairs']:,} pairs of {told['items']:,} items{same}"
    yield "by person: " + ", ".join(f"{name} {count:,}" for name, count in told["annotators"].items())
    if told["dropped"]:
        yield "left out: " + "; ".join(f"{reason} {count:,}" for reason, count in told["dropped"].items())
