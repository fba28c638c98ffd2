"""`raison study`: the papers' experiments, on anyone's model and data."""

from typing import TYPE_CHECKING, Annotated

from msgspec import to_builtins
from typer import Option

from raison.cli.common import (
    Calibrate,
    Draws,
    Form,
    Json,
    Mask,
    Model,
    ReplyTokens,
    Seed,
    console,
    load,
    parted,
    quiet,
    say,
    studies,
)
from raison.records import InputError
from raison.runs import processes

if TYPE_CHECKING:
    from raison.records import Record


@studies.command()
def rationale_evaluation(
    model: Model,
    file: Annotated[list[str], Option("--data", help="NAME=FILE: evaluation records; several may be given.")],
    out: Annotated[str, Option(help="Folder of everything that is made.")],
    train: Annotated[list[str] | None, Option(help="NAME=FILE: records to tune with.")] = None,
    dev: Annotated[list[str] | None, Option(help="NAME=FILE: records to choose the epoch by.")] = None,
    records: Annotated[int, Option(min=1, help="Evaluation records of each data set.")] = 300,
    methods: Annotated[str, Option(help="Attribution methods, by commas.")] = "attention,gradient,input-x-gradient",
    asked: Annotated[str, Option(help="Budgets of prompted rationales, by commas.")] = "unbound,human",
    order: Annotated[str, Option(help="Order of answer and request, see `raison ask`.")] = "predict-then-explain",
    form: Form = "json",
    reply_tokens: ReplyTokens = 256,
    mask: Mask = None,
    draws: Draws = 20,
    calibrate: Calibrate = "none",
    epochs: Annotated[int, Option(min=1, help="Passes of the fine-tuning.")] = 10,
    lr: Annotated[float, Option(help="Its highest learning rate.")] = 1e-4,
    train_records: Annotated[int | None, Option(min=1, help="Take only so many records to tune with.")] = None,
    seed: Seed = 0,
) -> None:
    """Run the protocol of Fayyaz et al.: a causal model's rationales, attributed and prompted, before and after LoRA.

    Interrupted, it goes on where it stopped.

    Example: raison study rationale-evaluation --model runs/lm --data e-snli=test.jsonl --train e-snli=train.jsonl
    --out runs/study
    """
    from raison.studies import rationale_evaluation as protocol
    from raison.studies.page import study_table, write_study
    from raison.training import LoraConfig

    sets = [
        protocol.Dataset(key, _read(path), _part(key, train, train_records), _part(key, dev, None))
        for key, path in _named(file).items()
    ]
    settings = protocol.Settings(
        limit=records,
        methods=(*parted(methods), "random"),
        asked=tuple(parted(asked)),
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


@studies.command()
def uimer(
    model: Model,
    train: Annotated[str, Option(help="Training records, of which few are drawn.")],
    dev: Annotated[str, Option(help="Records by which settings are chosen.")],
    test: Annotated[str, Option(help="Records of the results.")],
    out: Annotated[str, Option(help="Folder of the cells and the page.")],
    task: Annotated[str, Option(help="intent, slots, nli.")] = "intent",
    shots: Annotated[str, Option(help="Records per label or slot, of nli in all, by commas; 0 = all.")] = "1",
    seeds: Annotated[int, Option(min=2, help="Trainings of each variant.")] = 10,
    tuning_seeds: Annotated[int, Option(min=1, help="Trainings by which each setting is tried.")] = 3,
    people: Annotated[str, Option(help="Whose rationales: soft, majority, union, or an annotator's name.")] = "soft",
    parts: Annotated[str, Option(help="main, warm-up, rounds, strength, source, noise, by commas.")] = "main",
    only: Annotated[str | None, Option(help="Families, by commas; default: all.")] = None,
    masked_lm: Annotated[str | None, Option(help="A masked language model with the same tokenizer.")] = None,
    batch: Annotated[int, Option(min=1, help="Records per step.")] = 24,
    bf16: Annotated[bool, Option("--bf16", help="Train in bfloat16, where the device can.")] = False,
    json: Json = None,
) -> None:
    """Run the experiments of UIMER: does training with rationales help, with which attribution, and how much.

    Interrupted, it goes on where it stopped. Several processes (`accelerate launch -m raison study
    uimer ...`) share the records of each training.

    Example: raison study uimer --task intent --model bert-base-uncased --train train.jsonl --dev dev.jsonl
    --test test.jsonl --out runs/uimer
    """
    from raison.records import write_json
    from raison.studies import uimer as protocol
    from raison.studies import variants
    from raison.studies.uimer_page import lines_of, uimer_table, write_uimer

    settings = variants.settings_of(
        task=task,
        shots=parted(shots),
        seeds=seeds,
        tuning_seeds=tuning_seeds,
        batch=batch,
        people=people,
        parts=parted(parts),
        only=parted(only) if only else [],
        masked_lm=masked_lm,
        bf16=bf16,
    )
    quiet()
    records = protocol.Data(_read(train), _read(dev), _read(test))
    first = processes()[0] == 0
    found = protocol.Study(model, records, out, settings, say if first else lambda _: None).run()
    if not first:
        return
    write_uimer(f"{out}/study.html", found, settings)
    if json:
        write_json(json, [to_builtins(line._asdict()) for line in lines_of(found)])
    console().print(uimer_table(found))
    say(f"wrote {out}: study.html, cells.jsonl")


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
