"""What all commands share: the application, its options, and how it ends."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from raison.records import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from raison.models.scorer import Scorer
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
studies = typer.Typer(help="Run a paper's experiments on your model.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(studies, name="study")
annotators = typer.Typer(help="Learn how one person labels and explains.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(annotators, name="annotators")

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

Task = Annotated[str | None, Option(help="What a causal model is asked: nli, ..., a TOML file; default: the data's.")]
Calibrate = Annotated[str, Option(help="Of a causal model's labels: none, prior, contextual.")]
Shuffle = Annotated[int | None, Option("--shuffle-labels", min=0, help="Seed by which each prompt orders its labels.")]
Dtype = Annotated[str, Option(help="float32, bfloat16, float16.")]
FourBit = Annotated[bool, Option("--four-bit", help="Load a causal model in 4 bits.")]
Server = Annotated[str | None, Option(help="Address of an OpenAI-compatible server that has the model.")]
Cache = Annotated[str | None, Option(help="File that keeps replies, so that none is asked for twice.")]
ReplyTokens = Annotated[int, Option(min=1, help="Longest reply.")]
Form = Annotated[str, Option(help="Form of the reply: json, numbers, marked.")]
Mask = Annotated[str | None, Option(help="mask, unknown, delete, pad, unigram, text:STRING.")]
Out = Annotated[str, Option(help="Folder of the result.")]
Title = Annotated[str, Option(help="Its title.")]
Concurrency = Annotated[int, Option(min=1, help="Of a server: requests at once.")]
Rate = Annotated[float | None, Option("--rate", min=1, help="Of a server: most requests a minute.")]
Patience = Annotated[float | None, Option(min=0, help="Of a server: seconds to wait while it is away; 600.")]
Timeout = Annotated[float | None, Option(min=1, help="Of a server: seconds that a reply may take; 60.")]
Price = Annotated[str | None, Option(help="Of a server: IN,OUT of a million prompt and reply tokens; gives the cost.")]
Unit = Annotated[str, Option(help="One replacement per word, run, or token.")]
Tuned = Annotated[str | None, Option(help="Of f-fidelity: the model tuned on records with masked words.")]
Draws = Annotated[int, Option(min=1, help="Random rationales beside each one.")]

DTYPES = ("float32", "bfloat16", "float16")
DEFAULTS = {  # of options that have another than none
    "calibrate": "none", "dtype": "float32", "words": "whitespace", "reply_tokens": 256, "concurrency": 8,
}  # fmt: skip
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


def parted(text: str) -> list[str]:
    """Give the parts of a text between its commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def listed(names: Sequence[str]) -> str:
    """Name the first five in a line, and say whether there are more."""
    return ", ".join([*names[:5], *(["..."] if len(names) > 5 else [])])


def numbers(option: str, text: str) -> list[int]:
    """Read whole numbers with commas between."""
    try:
        return [int(part) for part in parted(text)]
    except ValueError:
        raise InputError(f"{option} {text!r}: expected whole numbers by commas, such as 1,5,10") from None


def given_of(**options: Any) -> dict[str, Any]:
    """Give the options that were given: those that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def load(path: str, source: str | None, mapping: list[str] | None, limit: int | None) -> "list[Record]":
    """Read records; where categories are joined, say how many items they have that the data don't."""
    from raison import sources
    from raison.sources.guess import guess
    from raison.sources.litex import Categories
    from raison.sources.options import read_options

    records = sources.load(path, source, mapping, limit)
    joined = read_options(mapping).get("categories")
    if joined is not None and (source or guess(path, mapped=True)) in ("varierr", "livenli"):
        given = Categories(joined)
        if (found := given.found(records)) < len(given.given):
            say(f"categories: {found:,} of {len(given.given):,} items of {joined} are in the data")
    return records


def scorer(model: str, records: "list[Record]", words: str, trust: bool, **options: Any) -> "Scorer":
    """Load a model that scores labels, whatever it is made of."""
    from raison.models.load import load_scorer

    quiet()
    expect_dtype(options.get("dtype", "float32"))
    return load_scorer(model, records, segment=segmenter(words), trust_remote_code=trust, **options)


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the options that say something: not None, not off, not the default."""
    return {
        name: value
        for name, value in options.items()
        if value is not None and value is not False and value != DEFAULTS.get(name)
    }


def expect_local(server: str | None, **options: Any) -> None:
    """Refuse what only loading a model could do where the model is behind a server."""
    for name in given(options) if server is not None else ():
        raise InputError(f"--{name.replace('_', '-')}: only for a model that is loaded here, not one behind --server")


def expect_dtype(dtype: str) -> None:
    """Refuse types of weights that are not offered."""
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r}: expected {', '.join(DTYPES)}")


def server_options(server: str | None, price: str | None, **options: Any) -> dict[str, Any]:
    """Give the options of a server that were set, by their names in `ServerGenerator`; refuse them without a server."""
    found = given({"price": price, **options})
    for name in found if server is None else ():
        raise InputError(f"--{name.replace('_', '-')}: only for a model behind a server (--server)")
    if price is not None:
        found["price"] = _prices(price)
    return {"requests_per_minute" if name == "rate" else name: value for name, value in found.items()}


def _prices(text: str) -> tuple[float, float]:
    """Read what a million prompt tokens and a million reply tokens cost."""
    try:
        read, written = (float(part) for part in text.split(","))
    except ValueError:
        read = written = -1.0
    if not (0 <= read < inf and 0 <= written < inf):
        raise InputError(f"--price {text!r}: expected two numbers, IN,OUT, of a million tokens each, such as 0.5,1.5")
    return read, written


def following(command: str, **options: Any) -> str:
    """Say which command comes next, with the options that were given; of a list, each of its items."""
    words = [*command.split()]
    for name, value in given(options).items():
        flag = f"--{name.replace('_', '-')}"
        values = value if isinstance(value, list) else [value]
        words += [flag] if value is True else [word for one in values for word in (flag, str(one))]
    return f"next: raison {shlex.join(words)}"


def segmenter(words: str) -> "Segmenter":
    """Give the way to cut words that has this name."""
    from raison.words import SEGMENTERS

    if words not in SEGMENTERS:
        raise InputError(f"unknown words {words!r}; expected {' or '.join(SEGMENTERS)}")
    return SEGMENTERS[words]


def quiet() -> None:
    """Keep other libraries' bars and notices off the terminal; ours say what is needed."""
    from huggingface_hub.utils import logging as hub
    from transformers.utils import logging

    hub.set_verbosity_error()  # it tells of every retry; what came of them is an error of ours
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def console() -> "Console":
    """Give the terminal; what is piped is 100 columns wide."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=100)


def say(text: str) -> None:
    """Tell something on the way; results go to standard output."""
    typer.echo(text, err=True)
