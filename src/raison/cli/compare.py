"""`raison compare` and `multiverse`: what changes when a model, or a choice, changes."""

from typing import TYPE_CHECKING, Annotated

from msgspec import to_builtins
from typer import Argument, Option

from raison.cli.common import (
    Calibrate,
    Data,
    Device,
    Draws,
    Dtype,
    Format,
    Json,
    Limit,
    Map,
    Model,
    Seed,
    Task,
    Title,
    Trust,
    Words,
    app,
    console,
    load,
    parted,
    say,
    scorer,
)  # fmt: skip
from raison.records import InputError

if TYPE_CHECKING:
    from raison.models.scorer import Scorer
    from raison.rationales import Rationale


@app.command()
def compare(
    before: Annotated[str, Argument(help="Folder that `raison evaluate` wrote: the model as it was.")],
    after: Annotated[str, Argument(help="Another: the tuned model, on the same records.")],
    crossed: Annotated[
        str | None, Option(help="A third: the tuned model, judged with the rationales of the model as it was.")
    ] = None,
    out: Annotated[str | None, Option(help="Page to write.")] = None,
    title: Title = "Before and after",
    json: Json = None,
    seed: Seed = 0,
) -> None:
    """Contrast two results over the same records, such as before and after fine-tuning.

    Example: raison compare runs/base-verdict runs/tuned-verdict --out contrast.html
    """
    from raison.evaluation.contrast import contrast
    from raison.evaluation.files import load as load_verdict
    from raison.records import write_json
    from raison.report.contrast import contrast_table, write_contrast

    third = load_verdict(crossed) if crossed else None
    found = contrast(load_verdict(before), load_verdict(after), third, seed=seed)
    if json:
        write_json(json, to_builtins(found))
    if out:
        write_contrast(out, found, title)
    console().print(contrast_table(found))
    if out:
        say(f"wrote {out}")


@app.command()
def multiverse(
    model: Model,
    file: Data,
    out: Annotated[str, Option(help="File of universes (JSON lines); the page is written beside it.")],
    methods: Annotated[str, Option(help="Methods that compete, parted by commas.")] = "gradient,attention,occlusion",
    cross: Annotated[
        list[str] | None, Option(help="A choice with its levels, such as budget=human,k:3; give it several times.")
    ] = None,
    metric: Annotated[str, Option(help="What is compared: flip_rate, f1, comprehensiveness, ...")] = "flip_rate",
    rationales: Annotated[list[str] | None, Option(help="Files of rationales that compete too.")] = None,
    draws: Draws = 20,
    task: Task = None,
    calibrate: Calibrate = "none",
    seed: Seed = 0,
    source: Format = None,
    mapping: Map = None,
    limit: Limit = None,
    words: Words = "whitespace",
    device: Device = None,
    dtype: Dtype = "float32",
    trust: Trust = False,
) -> None:
    """Judge methods in every combination of choices, and show which choice changes the winner.

    Example: raison multiverse --model runs/base --data test.jsonl --cross budget=human,k:3 --cross mask=mask,delete
    --out runs/worlds.jsonl
    """
    from raison.models.batching import bar, catch_up
    from raison.report.multiverse import multiverse_table, write_multiverse
    from raison.studies import multiverse as worlds

    factors = _factors(cross or ["budget=human,k:3,ratio:0.2", "unit=word,run"])
    plan = worlds.Plan(tuple(parted(methods)), factors, metric, draws, seed)
    worlds.check(plan)
    records = load(file, source, mapping, limit)

    def prepare(prompt: str | None) -> "Scorer":
        asked = {"task": prompt or task, "calibrate": calibrate, "device": device, "dtype": dtype}
        return scorer(model, records, words, trust, **asked)

    with bar("universes", len(plan.universes())) as advance:
        found = worlds.run(prepare, records, plan, out, rationales=_more(rationales), progress=catch_up(advance))
    page = f"{out.removesuffix('.jsonl')}.html"
    write_multiverse(page, found)
    console().print(multiverse_table(found))
    say(f"wrote {out} and {page}")


def _more(files: list[str] | None) -> "dict[str, list[Rationale]]":
    from raison.rationales import Rationale, load_scores

    found: dict[str, list[Rationale]] = {}
    for file in files or []:
        for item in load_scores(file):
            if not isinstance(item, Rationale):
                raise InputError(f"{file}: expected rationales; scores are made anew in every universe")
            found.setdefault(item.source, []).append(item)
    return found


def _factors(given: list[str]) -> dict[str, tuple[str, ...]]:
    factors: dict[str, tuple[str, ...]] = {}
    for text in given:
        name, equals, levels = text.partition("=")
        if not equals or name in factors:
            raise InputError(f"--cross {text}: expected CHOICE=LEVEL,LEVEL, each choice once")
        factors[name] = tuple(parted(levels))
    return factors
