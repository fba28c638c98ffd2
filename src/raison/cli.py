"""The command line: `raison data · train · extract · evaluate · report · demo`.

Every command is a few lines over the library. What the user gave wrong is answered with one line and exit status 2.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import to_builtins
from typer import Argument, Option

from raison.records import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from raison.evaluation import Verdict
    from raison.models import Classifier
    from raison.rationales import Rationale, WordScores
    from raison.records import Record
    from raison.words import Segmenter

app = typer.Typer(
    name="raison",
    help="The reasons behind labels: extract a model's rationales, judge them, report.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="Look into a file of records.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data, name="data")

File = Annotated[str, Argument(help="Records: a file, or a Hugging Face datasets id.", show_default=False)]
Data = Annotated[str, Option("--data", help="Records: a file, or a Hugging Face datasets id.")]
Format = Annotated[str | None, Option("--format", help="Format of the data; default: seen from the file.")]
Map = Annotated[list[str] | None, Option("--map", help="A column mapping, NAME=COLUMN, or a TOML file with one.")]
Limit = Annotated[int | None, Option(min=1, help="Take only the first N records.")]
Model = Annotated[str, Option("--model", help="A model folder or hub id.")]
Device = Annotated[str | None, Option(help="cpu, cuda, cuda:1, ...; default: the first accelerator.")]
Json = Annotated[str | None, Option("--json", help="Also write the table's cells to this file.")]
Seed = Annotated[int, Option(min=0, help="Seed of everything random.")]
Words = Annotated[str, Option(help="What a word is: whitespace (between spaces), or characters.")]
Trust = Annotated[bool, Option("--trust-remote-code", help="Run code that comes with the model.")]


UsageError: Any = typer.BadParameter.__base__  # click's, or the copy of click inside newer versions of typer


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, and end the process: 0 done, 2 wrong input, 130 interrupted."""
    try:
        status = app(list(arguments) if arguments is not None else None, standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except InputError as error:
        _fail(str(error))
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            sys.exit(2)
        _fail(error.format_message())
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("raison: interrupted; start the same command again to go on\n")
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        sys.exit(0)


def _fail(message: str) -> None:
    sys.stderr.write(f"raison: {' '.join(message.split())}\n")
    sys.exit(2)


def _load(path: str, source: str | None, mapping: list[str] | None, limit: int | None) -> "list[Record]":
    from raison.sources import load

    return load(path, source, mapping, limit)


def _classifier(model: str, device: str | None, trust: bool, words: str) -> "Classifier":
    from raison.models import Classifier

    _quiet()
    return Classifier.load(model, device=device, trust_remote_code=trust, segment=_segmenter(words))


def _segmenter(words: str) -> "Segmenter":
    from raison.words import SEGMENTERS

    if words not in SEGMENTERS:
        raise InputError(f"unknown words {words!r}; expected {' or '.join(SEGMENTERS)}")
    return SEGMENTERS[words]


def _quiet() -> None:
    """Keep other libraries' bars and notices off the terminal; ours say what is needed."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _console() -> "Console":
    """Give the terminal; what is piped is 100 columns wide."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=100)


def _say(text: str) -> None:
    typer.echo(text, err=True)


# ------------------------------------------------------------------------------------------------------ data


@data.command("check")
def data_check(
    file: File, source: Format = None, mapping: Map = None, json: Json = None, words: Words = "whitespace"
) -> None:
    """Tell what is in a file, and every fault in it with line and field. Exit status 2 where there are faults.

    Example: raison data check esnli.jsonl.gz
    """
    from raison.records import write_json
    from raison.sources.describe import cells, describe
    from raison.sources.show import summary

    found = describe(file, source, mapping, _segmenter(words))
    if json:
        write_json(json, cells(found))
    _console().print(summary(found))
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

    show(_load(file, source, mapping, limit), segment=_segmenter(words))


# ----------------------------------------------------------------------------------------------------- train


@app.command()
def train(
    model: Model,
    file: Data,
    out: Annotated[str, Option(help="Folder of the trained model.")],
    dev: Annotated[str | None, Option(help="Records to watch and to stop by.")] = None,
    shots: Annotated[int | None, Option(min=1, help="Records per label; default: all.")] = None,
    epochs: Annotated[int, Option(min=1, help="Passes over the training records.")] = 3,
    lr: Annotated[float, Option(help="Highest learning rate.")] = 5e-5,
    batch: Annotated[int, Option(min=1, help="Records per step.")] = 32,
    patience: Annotated[
        int | None, Option(min=1, help="Stop after so many epochs without a better dev accuracy.")
    ] = None,
    seed: Seed = 0,
    source: Format = None,
    mapping: Map = None,
    limit: Limit = None,
    trust: Trust = False,
) -> None:
    """Fine-tune a classifier on labels. An encoder without a head gets one.

    Example: raison train --model bert-base-uncased --data train.jsonl --dev dev.jsonl --epochs 3 --out runs/base
    """
    from raison.models.batching import bar, catch_up
    from raison.training import Config, finetune

    settings = Config(epochs=epochs, lr=lr, batch=batch, shots=shots, patience=patience, seed=seed)
    records = _load(file, source, mapping, limit)
    held_out = _load(dev, source, mapping, None) if dev else []
    _quiet()
    with bar("training", 1000) as advance:
        reach = catch_up(advance)

        def progress(share: float, logs: dict[str, float]) -> None:
            reach(round(1000 * share))
            if "eval_accuracy" in logs:
                _say(f"epoch {logs['epoch']:.0f}: dev accuracy {logs['eval_accuracy']:.3f}")

        finetune(model, records, out, held_out, settings, trust_remote_code=trust, progress=progress)
    _say(f"wrote {out} (model, tokenizer, raison.json)")
    _say(f"next: raison extract --model {out} --data {dev or file} --method integrated-gradients --out scores.jsonl")


# --------------------------------------------------------------------------------------------------- extract


@app.command()
def extract(
    model: Model,
    file: Data,
    out: Annotated[str, Option(help="File of scores (JSON lines).")],
    method: Annotated[str, Option(help="random, attention, gradient, input-x-gradient, ...")] = "input-x-gradient",
    target: Annotated[
        str, Option(help="predicted, gold, a label, or a contrast: 'predicted - runner-up'.")
    ] = "predicted",
    reduction: Annotated[str | None, Option(help="Tokens to words: sum, mean, max, absmax, first.")] = None,
    steps: Annotated[str | None, Option(help="Of integrated gradients: a number, or auto.")] = None,
    baseline: Annotated[str | None, Option(help="Of integrated gradients: zero, pad, mask.")] = None,
    mask: Annotated[str | None, Option(help="Of occlusion: mask, unknown, delete, pad, unigram, text:STRING.")] = None,
    unit: Annotated[str | None, Option(help="Of occlusion: one replacement per word, run, or token.")] = None,
    window: Annotated[int | None, Option(min=1, help="Of occlusion: words taken away together.")] = None,
    seed: Annotated[int | None, Option(min=0, help="Of random scores and of the unigram operator.")] = None,
    source: Format = None,
    mapping: Map = None,
    limit: Limit = None,
    words: Words = "whitespace",
    device: Device = None,
    trust: Trust = False,
) -> None:
    """Score the words of records by one attribution method. Interrupted, it goes on where it stopped.

    Example: raison extract --model runs/base --data test.jsonl --method integrated-gradients --out ig.jsonl
    """
    from raison.attribution import extract_to_file
    from raison.attribution.extract import method_name

    name = method_name(method)
    records = _load(file, source, mapping, limit)
    classifier = _classifier(model, device, trust, words)
    given = {
        "reduction": reduction, "steps": _steps(steps), "baseline": baseline, "mask": mask, "unit": unit,
        "window": window, "seed": seed,
    }  # fmt: skip
    options = {key: value for key, value in given.items() if value is not None}
    done = extract_to_file(out, classifier, records, name, target=target, progress=name, **options)
    if done:
        _say(f"{done} of {len(records)} records had been done before")
    _say(f"wrote {out} ({len(records)} records) and {out}.meta.json")
    _say(f"next: raison evaluate --model {model} --data {file} --rationales {out} --out runs/verdict")


# -------------------------------------------------------------------------------------------------- evaluate


@app.command()
def evaluate(
    file: Data,
    rationales: Annotated[list[str], Option(help="Files of scores or rationales; several may follow.")],
    out: Annotated[str, Option(help="Folder of the result.")],
    more: Annotated[list[str] | None, Argument(hidden=True)] = None,
    model: Annotated[str | None, Option(help="The model they are of; without one, agreement with people only.")] = None,
    budget: Annotated[str, Option(help="Words chosen: human, k:N, ratio:R, mass:M, match:SOURCE.")] = "human",
    mask: Annotated[str | None, Option(help="mask, unknown, delete, pad, unigram, text:STRING.")] = None,
    unit: Annotated[str, Option(help="One replacement per word, run, or token.")] = "word",
    aggregate: Annotated[str, Option(help="Several people: each, majority, union, best.")] = "each",
    subset: Annotated[str, Option(help="Decisions looked at: all, correct, incorrect.")] = "all",
    rank: Annotated[str, Option(help="Words are chosen by value or by magnitude.")] = "value",
    draws: Annotated[int, Option(min=1, help="Random rationales beside each one.")] = 20,
    one_out: Annotated[bool, Option("--one-out", help="Also correlate scores with leaving each word out.")] = False,
    seed: Seed = 0,
    json: Json = None,
    source: Format = None,
    mapping: Map = None,
    limit: Limit = None,
    words: Words = "whitespace",
    device: Device = None,
    trust: Trust = False,
) -> None:
    """Judge rationales: do they match people's, and do they drive the model's own decision?

    Example: raison evaluate --model runs/base --data test.jsonl --rationales ig.jsonl occ.jsonl --out runs/verdict
    """
    from raison.attribution.extract import fingerprint
    from raison.evaluation.evaluate import by_source, make_options
    from raison.evaluation.files import evaluate_to_folder
    from raison.models.batching import bar, catch_up

    given = {
        "budget": budget, "aggregate": aggregate, "mask": mask, "unit": unit, "subset": subset, "rank": rank,
        "draws": draws, "words": words, "one_out": one_out, "seed": seed,
    }  # fmt: skip
    options = make_options(given)
    _expect_writable(f"{out}/report.html", *([json] if json else []))
    sources = by_source(_named_scores([*rationales, *(more or [])]))
    records = _load(file, source, mapping, limit)
    if limit:  # scores may be of more records than are judged
        kept = {record.id for record in records}
        sources = {name: {key: said[key] for key in said if key in kept} for name, said in sources.items()}
    classifier = _classifier(model, device, trust, words) if model else None
    models = {classifier.name: fingerprint(classifier)} if classifier else {}
    with bar("judging", len(records)) as advance:
        verdict = evaluate_to_folder(out, classifier, records, sources, options, models, catch_up(advance))
    _finish(verdict, out, json)


def _expect_writable(*files: str) -> None:
    """Refuse places that can't be written to before the work, not after it."""
    for file in files:
        path = Path(file)
        parent = next(folder for folder in path.absolute().parents if folder.exists())
        if path.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
            raise InputError(f"{file}: can't be written")


def _named_scores(files: list[str]) -> "dict[str, list[WordScores | Rationale]]":
    """Read files of scores; sources are named by method, or by file where two files have the same method."""
    from raison.rationales import Rationale, load_scores

    named: dict[str, dict[str, list[WordScores | Rationale]]] = {}
    for file in files:
        for item in load_scores(file):
            name = item.source if isinstance(item, Rationale) else item.method
            named.setdefault(name, {}).setdefault(file, []).append(item)
    found: dict[str, list[WordScores | Rationale]] = {}
    for name, by_file in named.items():
        for file, items in by_file.items():
            label = name if len(by_file) == 1 else f"{name} ({file})"
            found[label] = items
    return found


def _finish(verdict: "Verdict", out: str, json: str | None) -> None:
    """Write the report and the cells, print the table, and say what was written."""
    from raison.records import write_json
    from raison.report import table, write_report

    write_report(f"{out}/report.html", verdict)
    if json:
        write_json(json, [to_builtins(cell) for cell in verdict.cells])
    _console().print(table(verdict))
    _say(f"wrote {out}/metrics.json, records.parquet, items.jsonl{f' and {json}' if json else ''}")
    _say(f"next: open {out}/report.html")


# ---------------------------------------------------------------------------------------------------- report


@app.command()
def report(
    run: Annotated[str, Argument(help="Folder that `raison evaluate` wrote.")],
    out: Annotated[str | None, Option(help="The page; default: report.html in the folder.")] = None,
    title: Annotated[str, Option(help="Its title.")] = "Rationales, judged",
) -> None:
    """Write the page of a result again, with another name or title.

    Example: raison report runs/verdict --out paper/report.html --title "NLI, six methods"
    """
    from raison.evaluation.files import load
    from raison.report import write_report

    page = out or f"{run}/report.html"
    write_report(page, load(run), title)
    _say(f"wrote {page}")


# ------------------------------------------------------------------------------------------------------ demo


@app.command()
def demo(
    out: Annotated[str, Option(help="Folder of the result.")] = "raison-demo",
    kind: Annotated[str, Option(help="single texts, or pair.")] = "pair",
    seed: Seed = 0,
) -> None:
    """Run the whole loop on a corpus with a planted truth: train, extract, judge, report. Downloads nothing.

    Example: raison demo
    """
    from raison.demo import run

    _quiet()
    verdict = run(out, kind, seed, _say)
    _finish(verdict, out, None)


def _steps(text: str | None) -> int | str | None:
    """Read a number of steps, or `auto`; the method itself refuses what is neither."""
    return int(text) if text is not None and text.isdecimal() else text
