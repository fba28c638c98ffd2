"""`raison evaluate`, `report` and `demo`: rationales, judged."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from msgspec import DecodeError, to_builtins
from msgspec.json import decode as json_decode
from typer import Argument, Option

from raison.cli.common import (
    Cache,
    Calibrate,
    Concurrency,
    Data,
    Device,
    Draws,
    Dtype,
    Format,
    FourBit,
    Json,
    Limit,
    Map,
    Mask,
    Out,
    Patience,
    Price,
    Rate,
    ReplyTokens,
    Seed,
    Server,
    Shuffle,
    Task,
    Timeout,
    Title,
    Trust,
    Tuned,
    Unit,
    Words,
    app,
    console,
    expect_local,
    load,
    quiet,
    say,
    scorer,
    segmenter,
    server_options,
)  # fmt: skip
from raison.records import InputError

if TYPE_CHECKING:
    from raison.evaluation import Options, Verdict
    from raison.evaluation.evaluate import Sources
    from raison.evaluation.observe import Predictor
    from raison.evaluation.results import Grades
    from raison.models.generator import LocalGenerator
    from raison.models.server import ServerGenerator
    from raison.prompting.asking import Source
    from raison.rationales import Rationale, WordScores
    from raison.records import Record


@app.command()
def evaluate(
    file: Data,
    rationales: Annotated[list[str], Option(help="Files of scores or rationales; several may follow.")],
    out: Out,
    more: Annotated[list[str] | None, Argument(hidden=True)] = None,
    model: Annotated[str | None, Option(help="The model they are of; without one, agreement with people only.")] = None,
    budget: Annotated[str, Option(help="Words chosen: human, k:N, ratio:R, mass:M, match:SOURCE.")] = "human",
    mask: Mask = None,
    unit: Unit = "word",
    aggregate: Annotated[str, Option(help="Several people: each, majority, union, best.")] = "each",
    subset: Annotated[str, Option(help="Decisions looked at: all, correct, incorrect.")] = "all",
    rank: Annotated[str, Option(help="Words are chosen by value or by magnitude.")] = "value",
    draws: Draws = 20,
    one_out: Annotated[bool, Option("--one-out", help="Also correlate scores with leaving each word out.")] = False,
    also: Annotated[list[str] | None, Option(help="Further metrics: normalised, log-odds, flips, ...")] = None,
    tuned: Tuned = None,
    grades: Annotated[str | None, Option(help="File of `raison grade`: how far each metric can be trusted.")] = None,
    loose: Annotated[bool, Option("--loose", help="Of written outputs: token F1 of .5 is a match.")] = False,
    server: Server = None,
    cache: Cache = None,
    reply_tokens: ReplyTokens = 256,
    concurrency: Concurrency = 8,
    rate: Rate = None,
    patience: Patience = None,
    timeout: Timeout = None,
    price: Price = None,
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
    from raison.evaluation.evaluate import make_options
    from raison.evaluation.extras import expect_possible, names_in
    from raison.prompting.asking import Source

    names, files = names_in(also or [], more or [])
    options = make_options({
        "budget": budget, "aggregate": aggregate, "mask": mask, "unit": unit, "subset": subset, "rank": rank,
        "draws": draws, "words": words, "one_out": one_out, "also": names, "seed": seed,
    })  # fmt: skip
    settings = server_options(server, price, rate=rate, patience=patience, timeout=timeout)
    local: dict[str, Any] = {"calibrate": calibrate, "device": device, "dtype": dtype, "four_bit": four_bit}
    expect_local(None if tuned else server, **local, trust_remote_code=trust)
    graded = _grades(grades, model, f"{out}/report.html", *([json] if json else []))
    records = load(file, source, mapping, limit)
    sources = _scores_of([*rationales, *files], records if limit else None)
    who = Source(model or "", None, server, cache, reply_tokens, concurrency, task, shuffle, settings)
    judges = _judges(who, tuned, records, (words, trust, {**local, "task": task, "shuffle": shuffle}))
    expect_possible(names, judges.judged, judges.tuned, one_out)
    _tell(judges, [*rationales, *files], records, sources, options)
    _finish(_judge(out, judges, records, sources, (options, loose)), out, json, graded)


def _scores_of(paths: list[str], records: "list[Record] | None") -> "dict[str, dict[str, Any]]":
    """Read what is judged, by source and record; of some records alone, where scores may be of more."""
    from raison.evaluation.evaluate import by_source

    sources = by_source(_named_scores(paths))
    kept = None if records is None else {record.id for record in records}
    return {name: {key: said[key] for key in said if kept is None or key in kept} for name, said in sources.items()}


class _Judges(NamedTuple):
    """Who judges: a model, or one behind a server; and a tuned one beside it."""

    judged: "Predictor | None"
    tuned: "Predictor | None"
    marks: dict[str, str]  # name -> hash
    generator: "LocalGenerator | ServerGenerator | None"  # of the one behind a server


def _judges(
    source: "Source", tuned: str | None, records: "list[Record]", loading: tuple[str, bool, dict[str, Any]]
) -> _Judges:
    """Load the models, or reach the one behind a server."""
    from raison.attribution.extract import fingerprint
    from raison.prompting.asking import generator_of, served
    from raison.runs import digest

    words, trust, asked = loading
    if source.server and not source.model:
        raise InputError("--server: the name that it has for the model is needed (--model)")
    other = scorer(tuned, records, words, trust, **asked) if tuned else None
    marks = {f"{other.name} (tuned)": fingerprint(other)} if other else {}
    if source.server:
        generator, mark = generator_of(source)
        spoken = served(generator, source.task, records, segmenter(words), source.shuffle)
        told = digest([spoken.convention, source.reply_tokens])
        return _Judges(spoken, other, {spoken.name: mark, f"{spoken.name} (as asked)": told, **marks}, generator)
    judged = scorer(source.model, records, words, trust, **asked) if source.model else None
    return _Judges(judged, other, ({judged.name: fingerprint(judged)} if judged else {}) | marks, None)


def _tell(judges: _Judges, files: list[str], records: "list[Record]", sources: "Sources", options: "Options") -> None:
    """Say before anything is run whose scores these are, and what judging them costs."""
    from raison.evaluation.evaluate import Judge, having_scores
    from raison.evaluation.extras import bill

    lines = [*_of_others(files, set(judges.marks.values())), *bill(options, records, len(sources))]
    if judges.generator:
        kept = having_scores(records, sources)
        count = Judge(judges.judged, kept, sources, options).questions(kept)
        known = "those that the cache knows are not asked again"
        lines.append(f"at most {count:,} questions for {len(kept):,} records; {known}")
    for line in lines:
        say(line)


def _grades(path: str | None, model: str | None, *wanted: str) -> "Grades | None":
    """Read grades, and see that the files wanted can be written, before anything is run."""
    from raison.evaluation.diagnosticity import read_grades

    _expect_writable(*wanted)
    if path and not model:
        raise InputError("--grades: grades are of metrics of faithfulness, which need a model (--model)")
    return read_grades(path) if path else None


def _judge(
    out: str,
    judges: _Judges,
    records: "list[Record]",
    sources: "Sources",
    how: "tuple[Options, bool]",
) -> "Verdict":
    """Judge a model's labels, or what it writes."""
    from raison.evaluation.answers import Rewriting
    from raison.evaluation.files import evaluate_to_folder
    from raison.evaluation.output_files import evaluate_outputs_to_folder
    from raison.models.batching import bar, catch_up
    from raison.models.writer import Writer

    options, loose = how
    with bar("judging", len(records)) as advance:
        reach = catch_up(advance)
        if isinstance(judges.judged, Writer):
            match = Rewriting(match="f1" if loose else "exact")
            return evaluate_outputs_to_folder(out, judges.judged, records, sources, options, judges.marks, match, reach)
        verdict = evaluate_to_folder(out, judges.judged, records, sources, options, judges.marks, reach, judges.tuned)
    if judges.generator:
        say(str(judges.generator.usage))
    return verdict


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


def _finish(verdict: "Verdict", out: str, json: str | None, grades: "Grades | None" = None) -> None:
    """Put grades beside the metrics, write the report and the cells, print the table, and say what was written."""
    from raison.evaluation.files import save
    from raison.records import write_json
    from raison.report import table, write_report

    if grades:
        verdict = verdict.graded(grades)
        save(verdict, out, items=False)
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
    title: Title = "Rationales, judged",
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
    out: Out = "raison-demo",
    kind: Annotated[str, Option(help="single texts, or pair.")] = "pair",
    seed: Seed = 0,
) -> None:
    """Run the whole loop on a corpus with a planted truth: train, extract, judge, report. Downloads nothing.

    Example: raison demo
    """
    from raison.demo import run
    from raison.report import grade_table

    quiet()
    verdict, grades = run(out, kind, seed, say)
    console().print(grade_table(grades))
    _finish(verdict, out, None, grades)
