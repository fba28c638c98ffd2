"""`raison study capo`: which way learns annotators, on anyone's model and data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from raison.cli.common import (
    Dtype,
    Json,
    Model,
    Seed,
    console,
    expect_dtype,
    given_of,
    load,
    numbers,
    parted,
    quiet,
    say,
    studies,
)
from raison.cli.people import Without, people
from raison.records import InputError
from raison.runs import processes

if TYPE_CHECKING:
    from raison.annotators.splits import Split
    from raison.studies.capo import Field
    from raison.studies.capo_plan import Settings

FULL = {"rank": 0, "lr": 2e-3, "epochs": 6, "batch": 4, "capo_lr": 5e-4}  # of a small model without pretraining
ENDINGS = ("", ".jsonl", ".json", ".jsonl.gz", ".csv")


@studies.command()
def capo(
    model: Model,
    data: Annotated[list[str], Option("--data", help="NAME=FILE or a file; by commas, or given again.")],
    out: Annotated[str, Option(help="Folder of everything that is made.")],
    parts: Annotated[str, Option(help="main, ablations, growing; by commas.")] = "main",
    form: Annotated[str, Option(help="tag, person; by commas. Ablations are of the first.")] = "tag,person",
    seeds: Annotated[int, Option(min=1, help="Trainings of each system.")] = 3,
    split: Annotated[list[str] | None, Option(help="NAME=FILE: a split file; default: 300,100,100 by seed 13.")] = None,
    train_items: Annotated[int | None, Option(min=2, help="Learn from the first N items of train alone.")] = None,
    test_items: Annotated[int | None, Option(min=2, help="Judge on the first N items of test alone.")] = None,
    full: Annotated[bool, Option("--full", help="Train all weights: for small models without pretraining.")] = False,
    rank: Annotated[int | None, Option(min=0, help="Of the adapters; 16. 0 trains all weights.")] = None,
    epochs: Annotated[int | None, Option(min=1, help="Of SFT; 3, with --full 6.")] = None,
    lr: Annotated[float | None, Option(help="Of SFT; 1e-4, with --full 2e-3.")] = None,
    capo_epochs: Annotated[int | None, Option(min=1, help="Of CAPO; 2.")] = None,
    capo_lr: Annotated[float | None, Option(help="Of CAPO; 1e-5, with --full 5e-4.")] = None,
    batch: Annotated[int | None, Option(min=1, help="Items per step; 16, with --full 4.")] = None,
    patience: Annotated[int | None, Option(min=1, help="Keep the best epoch by dev; end after N without one.")] = None,
    beta: Annotated[float | None, Option(help="How dear it is to leave the reference; 0.1.")] = None,
    anchor: Annotated[float | None, Option(help="Weight of what is chosen by itself; 1.")] = None,
    scope: Annotated[str, Option(help="Of the pairs: all, same-label, different-label, mixed.")] = "all",
    rejected: Annotated[str, Option(help="Of the pairs: people, own-other-item; with commas.")] = "people",
    shots: Annotated[int, Option(min=1, help="In context: answers of the person that are shown.")] = 16,
    select: Annotated[str, Option(help="In context: random, stratified, nearest, mmr.")] = "stratified",
    reply_tokens: Annotated[int, Option(min=1, help="Longest reply.")] = 128,
    temperature: Annotated[float, Option(min=0, help="Of the answers; 0 = the most probable tokens.")] = 0.0,
    dtype: Dtype = "float32",
    wording: Annotated[str | None, Option(help="nli, paraphrase, generic, bare, or a TOML file.")] = None,
    sizes: Annotated[str, Option(help="Growing: items of somebody new, by commas.")] = "10,25,50,100",
    new_epochs: Annotated[int | None, Option(min=1, help="Growing: passes over the items of somebody new; 10.")] = None,
    crowd: Annotated[str | None, Option(help="Growing: file of many people; default: made-up ones.")] = None,
    crowd_sizes: Annotated[str, Option(help="Growing: people in one model, by commas.")] = "4,8,16,32,50",
    views: Annotated[str | None, Option(help="Views of stability, by commas; default: all that the data have.")] = None,
    permutations: Annotated[int, Option(min=99, help="Of the tests of stability.")] = 200,
    resamples: Annotated[int, Option(min=20, help="Of intervals and tests.")] = 1000,
    without: Without = None,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Stability of annotators, all baselines, CAPO in both forms and its ablations, and how they grow.

    Interrupted, it goes on where it stopped; started several times at once, the processes share the work. Nothing of
    the paper's figures is claimed: its prompts, losses and settings are not known.

    Example: raison study capo --data varierr,paraphrase --model ID --out runs/capo
    """
    if processes()[1] > 1:
        raise InputError("study capo: no launcher is needed; start the same command several times")
    settings = _settings(
        {
            "seeds": seeds, "parts": parted(parts), "forms": parted(form), "wording": wording, "shots": shots,
            "select": select, "reply_tokens": reply_tokens, "train_items": train_items, "test_items": test_items,
            "scope": scope, "dtype": dtype, "temperature": temperature, "permutations": permutations,
            "views": parted(views or ""), "rejected": parted(rejected),
        },
        {
            **(FULL if full else {}),
            **given_of(rank=rank, epochs=epochs, lr=lr, capo_lr=capo_lr, batch=batch, patience=patience,
                     capo_epochs=capo_epochs, beta=beta, anchor=anchor),
        },
        {"sizes": numbers("--sizes", sizes), **given_of(epochs=new_epochs)},
        numbers("--crowd-sizes", crowd_sizes),
    )  # fmt: skip
    quiet()
    fields = _fields(data, split, without, settings)
    many = _crowd(crowd, without, settings) if "growing" in settings.parts else None
    _run(model, fields, out, settings, many, resamples, seed, json)


def _run(
    model: str,
    fields: "list[Field]",
    out: str,
    settings: "Settings",
    many: "Field | None",
    resamples: int,
    seed: int,
    json: str | None,
) -> None:
    from raison.annotators.measuring import Options
    from raison.records import write_json
    from raison.report.annotator_study import annotator_study_cells, annotator_study_table
    from raison.studies.capo import Study
    from raison.studies.capo_results import write_results

    study = Study(model, fields, out, settings, many, say)
    study.run()
    blocks = write_results(study, out, Options(resamples=resamples, seed=seed))
    if json:
        write_json(json, annotator_study_cells(blocks))
    console().print(annotator_study_table(blocks))
    say(f"wrote {out}: study.html, and a folder of pages for each data set")


def _settings(
    given: dict[str, Any], training: dict[str, Any], newcomer: dict[str, Any], crowd: list[int]
) -> "Settings":
    from msgspec.structs import replace

    from raison.studies.capo_plan import Settings, settings_of

    expect_dtype(given["dtype"])
    of_sft = {name: training[name] for name in ("rank", "epochs", "lr", "batch", "patience") if name in training}
    of_sft |= {"rank": None} if of_sft.get("rank") == 0 else {}
    of_capo = {name: training[name] for name in ("batch", "beta", "anchor", "patience") if name in training}
    of_capo |= {name: training[f"capo_{name}"] for name in ("epochs", "lr") if f"capo_{name}" in training}
    plain = Settings()
    return settings_of(
        **given,
        sft=replace(plain.sft, **of_sft),
        capo=replace(plain.capo, **of_capo),
        newcomer=newcomer,
        crowd={"sizes": crowd},
    )


def _fields(data: list[str], split: list[str] | None, without: str | None, settings: "Settings") -> "list[Field]":
    from raison.annotators.splits import read_split, split_items
    from raison.studies.capo import Data, Field

    files = _named([part for text in data for part in parted(text)])
    splits = _named(split or [])
    if strange := sorted(splits.keys() - files.keys()):
        raise InputError(f"--split {strange[0]}: no data set of this name; there are {', '.join(files)}")
    found: list[Field] = []
    for name, path in files.items():
        records = people(load(_found(path), None, None, None), without)
        parts: Split = read_split(splits[name], records) if name in splits else split_items(records)
        found.append(Field(Data(name, parts), settings))
    return found


def _crowd(file: str | None, without: str | None, settings: "Settings") -> "Field":
    from raison.annotators.splits import split_items
    from raison.studies.capo import Data, Field, made_up

    name = Path(file).name.partition(".")[0] if file else "made-up-people"
    records = people(load(_found(file), None, None, None), without) if file else made_up(settings.crowd)
    return Field(Data(name, split_items(records)), settings, min(settings.crowd.sizes))


def _named(given: list[str]) -> dict[str, str]:
    """Read NAME=FILE, or a file, whose name is then that of the data set."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, path = text.partition("=")
        name, path = (name, path) if equals else (Path(text).name.partition(".")[0], text)
        if not name.replace("-", "").replace("_", "").isalnum() or name in found or not path:
            raise InputError(f"{text}: expected NAME=FILE, each name once, of letters, digits and hyphens")
        found[name] = path
    return found


def _found(path: str) -> str:
    """Find a file by its name without its ending."""
    return next((path + ending for ending in ENDINGS if Path(path + ending).is_file()), path)
