"""`raison probe`: is what a model says of its answers what they rest on?"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import to_builtins
from rich.table import Table
from typer import Argument, Option

from raison.cli.common import (
    Cache,
    Calibrate,
    Concurrency,
    Data,
    Device,
    Dtype,
    Format,
    FourBit,
    Json,
    Limit,
    Map,
    Model,
    Patience,
    Price,
    Rate,
    ReplyTokens,
    Seed,
    Server,
    Shuffle,
    Task,
    Timeout,
    Trust,
    Words,
    app,
    console,
    expect_local,
    load,
    say,
    scorer,
    segmenter,
    server_options,
)  # fmt: skip
from raison.records import InputError

if TYPE_CHECKING:
    from raison.checks import Cost, Scored, Spoken, Summary
    from raison.models.cache import Usage
    from raison.prompting.asking import Source
    from raison.records import Record

CHECKS = ("importance", "redaction", "counterfactual", "insertion", "cc-shap", "chain")
Run = Callable[[Any, Sequence["Record"]], Sequence[Any]]


@app.command()
def probe(
    check: Annotated[str, Argument(help="importance, redaction, counterfactual, insertion, cc-shap, chain.")],
    model: Model,
    file: Data,
    out: Annotated[str, Option(help="File of what became of each record (JSON lines).")],
    server: Server = None,
    cache: Cache = None,
    reply_tokens: ReplyTokens = 256,
    concurrency: Concurrency = 8,
    rate: Rate = None,
    patience: Patience = None,
    timeout: Timeout = None,
    price: Price = None,
    wording: Annotated[str | None, Option(help="TOML file of the questions; default: raison's.")] = None,
    task: Task = None,
    calibrate: Calibrate = "none",
    shuffle: Shuffle = None,
    seed: Seed = 0,
    json: Json = None,
    source: Format = None,
    mapping: Map = None,
    limit: Limit = None,
    words: Words = "whitespace",
    device: Device = None,
    dtype: Dtype = "float32",
    four_bit: FourBit = False,
    trust: Trust = False,
) -> None:
    """Put a causal model's explanations to the test on the model itself. Interrupted, it goes on where it stopped.

    Example: raison probe insertion --model runs/lm --data test.jsonl --limit 50 --out insertion.jsonl
    """
    from raison.checks import load_wording, run_to_file
    from raison.checks.subject import expect
    from raison.prompting.asking import Source
    from raison.records import write_json
    from raison.runs import digest

    if check not in CHECKS:
        raise InputError(f"unknown check {check!r}; expected one of {', '.join(CHECKS)}")
    expect_local(server, calibrate=calibrate, device=device, dtype=dtype, four_bit=four_bit, trust_remote_code=trust)
    settings = server_options(server, price, rate=rate, patience=patience, timeout=timeout)
    said = load_wording(wording)
    records = load(file, source, mapping, limit)
    asked = {"task": task, "calibrate": calibrate, "shuffle": shuffle, "device": device, "dtype": dtype}
    behind = Source(model, None, server, cache, reply_tokens, concurrency, task, shuffle, settings)
    subject, mark, usage = _subject(behind, records, (words, trust, {**asked, "four_bit": four_bit}))
    run, kind, cost_of, summarise = _check(check, said, seed)
    expect(subject, check, cost_of(records).needs)
    say(f"{check}: {cost_of(records)}")
    config = {
        "command": "probe", "check": check, "seed": seed, "wording": digest([to_builtins(said)]),
        "reply_tokens": reply_tokens, "labels": list(subject.labels),
        "task": to_builtins(subject.task), "shuffle": subject.shuffle, "words": words,
    }  # fmt: skip
    rows = run_to_file(
        out, lambda part: run(subject, part), records, kind, config=config, models={subject.name: mark}, progress=check
    )
    found = summarise(rows)
    if json:
        write_json(json, to_builtins(found))
    console().print(_table(check, found))
    say(str(usage))
    say(f"wrote {out} ({len(records)} records) and {out}.meta.json")


def _subject(
    source: "Source", records: "list[Record]", loading: tuple[str, bool, dict[str, Any]]
) -> "tuple[Scored | Spoken, str, Usage]":
    """Load the model, or reach the one behind a server; with its hash, and a count of what it is asked."""
    from raison.checks import Scored, Spoken
    from raison.models.answerer import Answerer
    from raison.models.tasks import labels_of, task_of
    from raison.prompting.asking import generator_of

    words, trust, asked = loading
    if source.server is not None:
        task = task_of(records, source.task)
        generator, mark = generator_of(source)
        return (
            Spoken(generator, task, labels_of(task, records), segmenter(words), source.shuffle),
            mark,
            generator.usage,
        )
    found = scorer(source.model, records, words, trust, **asked)
    if not isinstance(found, Answerer):
        raise InputError(f"{source.model} is a classifier; only a causal language model explains itself in words")
    generator, mark = generator_of(source._replace(local=found))
    return Scored(found, generator), mark, generator.usage


def _check(name: str, wording: Any, seed: int) -> "tuple[Run, Any, Callable[[list[Record]], Cost], Any]":
    """Give how a check is run, its type of rows, its price, and how its rows are summed up."""
    from raison.checks import ccshap, chain, insertion, redaction

    options: dict[str, Any] = {"wording": wording, "seed": seed}
    if name == "insertion":
        run: Run = lambda subject, part: insertion.insertion_test(subject, part, every=True, **options)  # noqa: E731
        return run, insertion.Row, lambda rows: insertion.cost(len(rows), every=True), insertion.summarise
    if name == "cc-shap":
        return lambda subject, part: ccshap.cc_shap(subject, part, **options), ccshap.Row, ccshap.cost, ccshap.summarise
    if name == "chain":
        run = lambda subject, part: chain.interventions(subject, part, wording=wording)  # noqa: E731
        return run, chain.Row, lambda rows: chain.cost(len(rows)), chain.summarise
    kind: Any = name
    run = lambda subject, part: redaction.self_consistency(subject, part, kind, **options)  # noqa: E731
    return run, redaction.Row, lambda rows: redaction.cost(len(rows), kind), redaction.summarise


def _table(check: str, found: "Summary") -> Table:
    """Show the estimates with intervals, and what became of the records."""
    shown = ", ".join(f"{state}: {count}" for state, count in found.states.items())
    table = Table(title=f"{check}: {shown}", title_justify="left", caption=found.verdict)
    for name in ("number", "value", "interval", "n"):
        table.add_column(name, justify="left" if name == "number" else "right")
    for name, one in found.estimates.items():
        value = "–" if one.value is None else f"{one.value:.3f}"
        span = "" if one.low is None or one.high is None else f"[{one.low:.3f}, {one.high:.3f}]"
        table.add_row(name, value, span, str(one.n))
    return table
