"""`raison evaluate`, `report` and `demo`: rationales, judged."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import DecodeError, to_builtins
from msgspec.json import decode as json_decode
from typer import Argument, Option

from raison.cli.common import (
    Calibrate,
    Data,
    Device,
    Dtype,
    Format,
    FourBit,
    Json,
    Limit,
    Map,
    Seed,
    Shuffle,
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
    from raison.evaluation import Options, Verdict
    from raison.evaluation.evaluate import Sources
    from raison.models.scorer import Scorer
    from raison.rationales import Rationale, WordScores
    from raison.records import Record


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
    also: Annotated[list[str] | None, Option(help="Further metrics: normalised, log-odds, flips, ...")] = None,
    tuned: Annotated[str | None, Option(help="Of f-fidelity: the model tuned on records with masked words.")] = None,
    loose: Annotated[bool, Option("--loose", help="Of written outputs: token F1 of .5 is a match.")] = False,
    seed: Seed = 0,
    json: Json = None,
    source: Format = None,
    mapping: Map = None,
    limit: Limit = None,
    task: Task = None,
    calibrate: Calibrate = "none",
    shuffle: Shuffle = None,
    words: Words = "whitespace",
    device: Device = None,
    dtype: Dtype = "float32",
    four_bit: FourBit = False,
    trust: Trust = False,
) -> None:
    """Judge rationales: do they match people's, and do they drive the model's own decision?

    Example: raison evaluate --model runs/base --data test.jsonl --rationales ig.jsonl occ.jsonl --out runs/verdict
    """
    from raison.attribution.extract import fingerprint
    from raison.evaluation.evaluate import by_source, make_options
    from raison.evaluation.extras import bill, expect_possible, names_in

    names, files = names_in(also or [], more or [])
    given = {
        "budget": budget, "aggregate": aggregate, "mask": mask, "unit": unit, "subset": subset, "rank": rank,
        "draws": draws, "words": words, "one_out": one_out, "also": names, "seed": seed,
    }  # fmt: skip
    options = make_options(given)
    _expect_writable(f"{out}/report.html", *([json] if json else []))
    sources = by_source(_named_scores([*rationales, *files]))
    records = load(file, source, mapping, limit)
    kept = {record.id for record in records}
    if limit:  # scores may be of more records than are judged
        sources = {name: {key: said[key] for key in said if key in kept} for name, said in sources.items()}
    asked: dict[str, Any] = {"task": task, "calibrate": calibrate, "shuffle": shuffle, "device": device, "dtype": dtype}
    asked["four_bit"] = four_bit
    judged, other = (scorer(path, records, words, trust, **asked) if path else None for path in (model, tuned))
    expect_possible(names, judged, other)
    models = {one.name + mark: fingerprint(one) for one, mark in ((judged, ""), (other, " (tuned)")) if one}
    for line in (*_of_others([*rationales, *files], set(models.values())), *bill(options, records, len(sources))):
        say(line)
    verdict = _judge(out, (judged, other), records, sources, (options, loose), models)
    _finish(verdict, out, json)


def _judge(
    out: str,
    models: "tuple[Scorer | None, Scorer | None]",
    records: "list[Record]",
    sources: "Sources",
    how: "tuple[Options, bool]",
    marks: dict[str, str],
) -> "Verdict":
    """Judge a model's labels, or what it writes."""
    from raison.evaluation.answers import Rewriting
    from raison.evaluation.files import evaluate_to_folder
    from raison.evaluation.output_files import evaluate_outputs_to_folder
    from raison.models.batching import bar, catch_up
    from raison.models.writer import Writer

    (judged, tuned), (options, loose) = models, how
    with bar("judging", len(records)) as advance:
        reach = catch_up(advance)
        if isinstance(judged, Writer):
            match = Rewriting(match="f1" if loose else "exact")
            return evaluate_outputs_to_folder(out, judged, records, sources, options, marks, match, reach)
        return evaluate_to_folder(out, judged, records, sources, options, marks, reach, tuned)


def _of_others(files: list[str], models: set[str]) -> list[str]:
    """Say which files of scores were made by another model than the one that judges them."""
    found: list[str] = []
    for file in files if models else []:
        try:
            made = json_decode(Path(f"{file}.meta.json").read_bytes())["models"]
        except (OSError, DecodeError, KeyError, TypeError):
            continue  # scores made elsewhere say nothing of it
        if made and not models & set(made.values()):
            found.append(f"note: {file} was made by another model ({', '.join(made)}), or one that was asked otherwise")
    return found


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
    console().print(table(verdict))
    say(f"wrote {out}/metrics.json, records.parquet, items.jsonl{f' and {json}' if json else ''}")
    say(f"next: open {out}/report.html")


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
    say(f"wrote {page}")


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

    quiet()
    verdict = run(out, kind, seed, say)
    _finish(verdict, out, None)
