"""`raison annotators score`: did a model learn a person, or only how to sound like one?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from raison.cli.common import Data, Device, Format, Json, Limit, Map, Seed, Trust, annotators, console, load, quiet, say
from raison.cli.people import Without, people
from raison.records import InputError

if TYPE_CHECKING:
    from raison.annotators.responses import Response
    from raison.annotators.similarity import Encode

RESULT = "imitation.json"


@annotators.command()
def score(
    file: Data,
    responses: Annotated[
        list[str],
        Option(
            "--responses",
            help="FILE or NAME=FILE of generated responses to test items; give it for every system, and again with the "
            "same name for every seed.",
        ),
    ],
    split: Annotated[str | None, Option(help="The split file; default: 3 to 1 to 1 items, drawn by seed 13.")] = None,
    without: Without = None,
    vectors: Annotated[str, Option(help="What the attributor sees of a text: words, chars.")] = "words",
    encoder: Annotated[
        str | None, Option(help="Also measure similarity by a sentence encoder: a folder or hub id.")
    ] = None,
    divisor: Annotated[float | None, Option(help="Of the distance of ordinal labels; default: their range.")] = None,
    epsilon: Annotated[
        float, Option(min=0, max=1, help="Of the alt-test: .2 where people are experts, .15, .1 for crowd workers.")
    ] = 0.15,
    json: Json = None,
    out: Annotated[str | None, Option(help="Folder of the report: a page for all, and one for each person.")] = None,
    title: Annotated[str | None, Option(help="Its title.")] = None,
    seed: Seed = 0,
    source: Format = None,
    mapping: Map = None,
    limit: Limit = None,
    device: Device = None,
    trust: Trust = False,
) -> None:
    """Score responses given in people's names, beside four controls that need no model.

    The attributor is fitted on what people said of dev items, which no generator may have been trained on.

    Example: raison annotators score --data varierr.json --split split.json --responses sft=runs/sft/test.jsonl
    --responses capo=runs/capo/test.jsonl --out runs/imitation
    """
    from msgspec import to_builtins

    from raison.annotators.imitation import score as scored
    from raison.annotators.measuring import Options
    from raison.annotators.people import read_names
    from raison.annotators.responses import responses_of
    from raison.annotators.splits import read_split, split_items
    from raison.records import write_json
    from raison.report.imitation import imitation_table, write_imitation

    _check(divisor, vectors)
    systems = _systems(responses)
    gone = read_names(without) if without else frozenset[str]()
    records = people(load(file, source, mapping, limit), without)
    parts = read_split(split, records) if split else split_items(records)
    kept = {name: [[one for one in run if one.annotator not in gone] for run in runs] for name, runs in systems.items()}
    options = Options(vectors=vectors, divisor=divisor, epsilon=epsilon, seed=seed)
    encode = _encoder(encoder, device, trust) if encoder else None
    found = scored(parts, responses_of(records), kept, options, encode)
    if json:
        write_json(json, to_builtins(found.cells))
    if out:
        write_json(f"{out}/{RESULT}", to_builtins(found))
        write_imitation(out, found, title)
    console().print(imitation_table(found))
    if out:
        say(f"wrote {out}: index.html, a page for each person, {RESULT}")


def _check(divisor: float | None, vectors: str) -> None:
    from raison.annotators.vectors import KINDS

    if divisor is not None and not divisor > 0:
        raise InputError(f"--divisor {divisor:g}: expected a number above 0")
    if vectors not in KINDS:
        raise InputError(f"--vectors {vectors!r}: expected {', '.join(KINDS)}")


def _encoder(name: str, device: str | None, trust: Trust) -> "Encode":
    from raison.annotators.vectors import sentence_encoder

    quiet()
    return sentence_encoder(name, device=device, trust_remote_code=trust)


def _systems(given: list[str]) -> "dict[str, list[list[Response]]]":
    """Read the responses of each system, one list for each of its seeds."""
    from raison.annotators.responses import read_responses

    found: dict[str, list[list[Response]]] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or Path(text).is_file():
            name, path = Path(text).name.removesuffix(".gz").removesuffix(".jsonl"), text
        if not name:
            raise InputError(f"--responses {text}: expected FILE or NAME=FILE")
        found.setdefault(name, []).append(read_responses(path))
    return found
