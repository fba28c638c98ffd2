"""`raison compare`, `multiverse` and `study`: what changes when a model, or a choice, changes."""

from typing import TYPE_CHECKING, Annotated

from msgspec import to_builtins
from typer import Argument, Option

from raison.cli.common import (
    Calibrate,
    Data,
    Device,
    Dtype,
    Format,
    Json,
    Limit,
    Map,
    Model,
    Seed,
    Task,
    Trust,
    Words,
    app,
    console,
    load,
    quiet,
    say,
    scorer,
)  # fmt: skip
from raison.records import InputError

if TYPE_CHECKING:
    from raison.models.scorer import Scorer
    from raison.rationales import Rationale
    from raison.records import Record


@app.command()
def compare(
    before: Annotated[str, Argument(help="Folder that `raison evaluate` wrote: the model as it was.")],
    after: Annotated[str, Argument(help="Another: the tuned model, on the same records.")],
    crossed: Annotated[
        str | None, Option(help="A third: the tuned model, judged with the rationales of the model as it was.")
    ] = None,
    out: Annotated[str | None, Option(help="Page to write.")] = None,
    title: Annotated[str, Option(help="Its title.")] = "Before and after",
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
    draws: Annotated[int, Option(min=1, help="Random rationales beside each one.")] = 20,
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
    plan = worlds.Plan(tuple(_parted(methods)), factors, metric, draws, seed)
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


def _parted(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _factors(given: list[str]) -> dict[str, tuple[str, ...]]:
    factors: dict[str, tuple[str, ...]] = {}
    for text in given:
        name, equals, levels = text.partition("=")
        if not equals or name in factors:
            raise InputError(f"--cross {text}: expected CHOICE=LEVEL,LEVEL, each choice once")
        factors[name] = tuple(_parted(levels))
    return factors


@app.command()
def study(
    name: Annotated[str, Argument(help="rationale-evaluation.")],
    model: Model,
    file: Annotated[list[str], Option("--data", help="NAME=FILE: evaluation records; several may be given.")],
    out: Annotated[str, Option(help="Folder of everything that is made.")],
    train: Annotated[list[str] | None, Option(help="NAME=FILE: records to tune with.")] = None,
    dev: Annotated[list[str] | None, Option(help="NAME=FILE: records to choose the epoch by.")] = None,
    records: Annotated[int, Option(min=1, help="Evaluation records of each data set.")] = 300,
    methods: Annotated[str, Option(help="Attribution methods, by commas.")] = "attention,gradient,input-x-gradient",
    asked: Annotated[str, Option(help="Budgets of prompted rationales, by commas.")] = "unbound,human",
    order: Annotated[str, Option(help="Order of answer and request, see `raison ask`.")] = "predict-then-explain",
    form: Annotated[str, Option(help="Form of the reply: json, numbers, marked.")] = "json",
    reply_tokens: Annotated[int, Option(min=1, help="Longest reply.")] = 256,
    mask: Annotated[str | None, Option(help="mask, unknown, delete, pad, unigram, text:STRING.")] = None,
    draws: Annotated[int, Option(min=1, help="Random rationales beside each one.")] = 20,
    calibrate: Calibrate = "none",
    epochs: Annotated[int, Option(min=1, help="Passes of the fine-tuning.")] = 10,
    lr: Annotated[float, Option(help="Its highest learning rate.")] = 1e-4,
    train_records: Annotated[int | None, Option(min=1, help="Take only so many records to tune with.")] = None,
    seed: Seed = 0,
) -> None:
    """Run a paper's experiment on your model. Interrupted, it goes on where it stopped.

    Example: raison study rationale-evaluation --model runs/lm --data e-snli=test.jsonl --train e-snli=train.jsonl
    --out runs/study
    """
    from raison.studies import rationale_evaluation as protocol
    from raison.studies.page import study_table, write_study
    from raison.training import LoraConfig

    if name != "rationale-evaluation":
        raise InputError(f"unknown study {name!r}; there is rationale-evaluation")
    sets = [
        protocol.Dataset(key, _read(path), _part(key, train, train_records), _part(key, dev, None))
        for key, path in _named(file).items()
    ]
    settings = protocol.Settings(
        limit=records,
        methods=(*_parted(methods), "random"),
        asked=tuple(_parted(asked)),
        order=order,
        form=form,
        reply_tokens=reply_tokens,
        mask=mask,
        draws=draws,
        calibrate=calibrate,
        lora=LoraConfig(epochs=epochs, lr=lr, seed=seed),
        seed=seed,
    )
    quiet()
    outcome = protocol.run(model, sets, out, settings, say=say)
    write_study(f"{out}/study.html", outcome)
    console().print(study_table(outcome))
    say(f"wrote {out}: study.html, cells.json, and a folder for each data set")


def _named(given: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given or []:
        name, equals, path = text.partition("=")
        if not equals or name in found or not name.replace("-", "").isalnum():
            raise InputError(f"{text}: expected NAME=FILE, each name once, of letters, digits and hyphens")
        found[name] = path
    return found


def _part(name: str, given: list[str] | None, limit: int | None) -> "tuple[Record, ...]":
    path = _named(given).get(name)
    return _read(path, limit) if path else ()


def _read(path: str, limit: int | None = None) -> "tuple[Record, ...]":
    return tuple(load(path, None, None, limit))
