"""`raison annotators kit · kit-results`: do people take the outputs for the person's, and are they valid?"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from msgspec import to_builtins
from typer import Argument, Option

from raison.cli.attribution_judge import Outputs, material_of, pair_lines, shown, tell_cells
from raison.cli.common import Data, Format, Json, Map, Seed, annotators, console, following, parted, say
from raison.cli.imitate import Parts, split_of
from raison.cli.people import Without

if TYPE_CHECKING:
    from raison.annotators.validation import Key
    from raison.annotators.validation_results import Agreement, Validation


@annotators.command("kit")
def annotators_kit(
    data: Data,
    out: Annotated[str, Option(help="Folder for what raters get.")],
    outputs: Outputs = None,
    key: Annotated[str | None, Option(help="File for the key, outside that folder; default: OUT.key.json.")] = None,
    raters: Annotated[str, Option(help="Names, by commas.")] = "rater-1,rater-2",
    slots: Annotated[int, Option(min=1, help="Inputs in all; each is an item for every source.")] = 24,
    shared: Annotated[int, Option(min=0, help="Of these, inputs that every rater gets.")] = 12,
    per_person: Annotated[int, Option(min=1, help="References of each of the two people.")] = 4,
    split: Parts = None,
    without: Without = None,
    seed: Seed = 0,
    source: Format = None,
    mapping: Map = None,
) -> None:
    """Make blinded items for people who validate: sheets, and projects for Label Studio. The key lies apart.

    Example: raison annotators kit --data varierr.json --outputs sft=sft.jsonl --outputs capo=capo.jsonl --out kit
    """
    from raison.annotators.validation import make_kit, write_kit

    material = material_of(split_of(data, split, without, source, mapping), outputs)
    made = make_kit(material, raters=parted(raters), slots=slots, shared=shared, per_person=per_person, seed=seed)
    for line in _fewer(made, slots, shared, per_person):
        say(line)
    place = key or f"{out.rstrip('/')}.key.json"
    for path in write_kit(out, place, made, material):
        say(f"wrote {path}")
    for rater, ids in made.raters.items():
        say(f"{rater}: {len(ids):,} items")
    say(f"keep {place} from the raters")
    say(following("annotators kit-results", key=place) + f" {out}/*.csv")


def _fewer(made: "Key", slots: int, shared: int, per_person: int) -> Iterator[str]:
    """Say where the data had less than was asked for."""
    if (inputs := len({item.slot for item in made.items})) < slots:
        yield f"{inputs:,} inputs, not {slots:,}: no other test item has a text of every source and of another person"
    if len(made.shared) < shared:
        yield f"all {inputs:,} are every rater's, as {shared:,} were to be"
    if (least := min(len(some) for item in made.items for some in item.references.values())) < per_person:
        yield f"some people are shown on {least:,} training items, not {per_person:,}: they explained no more"


@annotators.command("kit-results")
def annotators_kit_results(
    sheets: Annotated[list[str], Argument(help="Filled sheets, or Label Studio's JSON exports.", show_default=False)],
    key: Annotated[str, Option(help="The key of the kit.")],
    json: Json = None,
    seed: Seed = 0,
) -> None:
    """Tell what raters found: valid or not, whose style, whose reasoning, and how far they agree.

    Example: raison annotators kit-results --key kit.key.json rater-1.csv rater-2.csv
    """
    from raison.annotators.validation_results import summarise_ratings
    from raison.annotators.validation_sheets import load_key, read_ratings
    from raison.records import write_json

    opened = load_key(key)
    found = summarise_ratings(read_ratings(sheets, opened), opened, seed=seed)
    if json:
        write_json(json, [to_builtins(one) for one in found.cells])
    _tell_kit(found)


def _tell_kit(found: "Validation") -> None:
    tell_cells([one for one in found.cells if one.slice == "all"])
    for line in pair_lines(found.comparisons):
        console().print(line, highlight=False)
    for one in found.agreement:
        console().print(_agreement(one), highlight=False)
    for name, counts in found.states.items():
        say(f"{name}: " + ", ".join(f"{state} {count:,}" for state, count in counts.items() if count))


def _agreement(one: "Agreement") -> str:
    values = {"agreed": one.agreed, "kappa": one.kappa, "alpha": one.alpha}
    said = ", ".join(f"{name} {shown(value)}" for name, value in values.items() if value.value is not None)
    return f"{one.question}: {' and '.join(one.raters)}, {one.alpha.n} items of both: {said or 'nothing to compare'}"
