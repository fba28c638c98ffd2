"""The command line: `raison data · train · extract · evaluate · report · demo`.

Every command is a few lines over the library. What the user gave wrong is answered with one line and exit status 2.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from raison.records import InputError

if TYPE_CHECKING:
    from raison.models import Classifier
    from raison.records import Record

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
Seed = Annotated[int, Option(help="Seed of everything random.")]
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


def _classifier(model: str, device: str | None, trust: bool) -> "Classifier":
    from raison.models import Classifier

    _quiet()
    return Classifier.load(model, device=device, trust_remote_code=trust)


def _quiet() -> None:
    """Keep other libraries' bars and notices off the terminal; ours say what is needed."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _say(text: str) -> None:
    typer.echo(text, err=True)


# ------------------------------------------------------------------------------------------------------ data


@data.command("check")
def data_check(file: File, source: Format = None, mapping: Map = None) -> None:
    """Tell what is in a file, and every fault in it with line and field. Exit status 2 where there are faults.

    Example: raison data check esnli.jsonl.gz
    """
    from raison.sources.describe import describe, summary

    found = describe(file, source, mapping)
    typer.echo(summary(found))
    if found.faults:
        raise typer.Exit(2)


@data.command("show")
def data_show(
    file: File,
    source: Format = None,
    mapping: Map = None,
    limit: Annotated[int, Option("-n", "--limit", min=1, help="How many records.")] = 5,
) -> None:
    """Print records with the highlights in colour.

    Example: raison data show esnli.jsonl.gz -n 3
    """
    from raison.sources.describe import show

    show(_load(file, source, mapping, limit))


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
    seed: Seed = 0,
    source: Format = None,
    mapping: Map = None,
    limit: Limit = None,
    trust: Trust = False,
) -> None:
    """Fine-tune a classifier on labels. An encoder without a head gets one.

    Example: raison train --model bert-base-uncased --data train.jsonl --dev dev.jsonl --epochs 3 --out runs/base
    """
    raise NotImplementedError


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
    seed: Annotated[int | None, Option(help="Of random scores and of the unigram operator.")] = None,
    source: Format = None,
    mapping: Map = None,
    limit: Limit = None,
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
    classifier = _classifier(model, device, trust)
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


def _steps(text: str | None) -> int | str | None:
    """Read a number of steps, or `auto`; the method itself refuses what is neither."""
    return int(text) if text is not None and text.isdecimal() else text
