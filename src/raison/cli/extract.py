"""`raison extract` and `raison ask`: a model's rationales, by attribution and by asking it."""

from typing import Annotated, Any

from typer import Option

from raison.cli.common import (
    Cache,
    Calibrate,
    Concurrency,
    Data,
    Device,
    Dtype,
    Form,
    Format,
    FourBit,
    Limit,
    Map,
    Model,
    Patience,
    Price,
    Rate,
    ReplyTokens,
    Server,
    Shuffle,
    Task,
    Timeout,
    Trust,
    Words,
    app,
    expect_local,
    following,
    load,
    say,
    scorer,
    segmenter,
    server_options,
)  # fmt: skip
from raison.records import InputError


@app.command()
def extract(
    model: Model,
    file: Data,
    out: Annotated[str, Option(help="File of scores (JSON lines).")],
    method: Annotated[str, Option(help="random, gradient, input-x-gradient, diffmask, ...")] = "input-x-gradient",
    target: Annotated[
        str, Option(help="predicted, gold, a label, or a contrast: 'predicted - runner-up'.")
    ] = "predicted",
    reduction: Annotated[str | None, Option(help="Tokens to words: sum, mean, max, absmax, first.")] = None,
    steps: Annotated[str | None, Option(help="Of integrated gradients: a number, or auto.")] = None,
    baseline: Annotated[str | None, Option(help="Of integrated gradients: zero, pad, mask, unknown, eos.")] = None,
    mask: Annotated[str | None, Option(help="Of occlusion: mask, unknown, delete, pad, unigram, text:STRING.")] = None,
    unit: Annotated[str | None, Option(help="Of occlusion: one replacement per word, run, or token.")] = None,
    window: Annotated[int | None, Option(min=1, help="Of occlusion: words taken away together.")] = None,
    seed: Annotated[int | None, Option(min=0, help="Of whatever is drawn at random.")] = None,
    layers: Annotated[str | None, Option(help="Of attention: last, all, or a number from 0.")] = None,
    heads: Annotated[str | None, Option(help="Of attention: mean, max, or a number from 0.")] = None,
    replacement: Annotated[
        str | None, Option(help="Of input marginalisation: uniform, mask, prior, masked-lm:MODEL.")
    ] = None,
    draws: Annotated[int | None, Option(min=1, help="Of input marginalisation: how often a word is replaced.")] = None,
    gate: Annotated[str | None, Option(help="Of diffmask: input, or hidden.")] = None,
    epochs: Annotated[int | None, Option(min=1, help="Of diffmask: passes over the records in training.")] = None,
    extractor: Annotated[str | None, Option(help="Of diffmask: a trained one, OUT.extractor.safetensors.")] = None,
    task: Task = None,
    calibrate: Calibrate = "none",
    shuffle: Shuffle = None,
    source: Format = None,
    mapping: Map = None,
    limit: Limit = None,
    words: Words = "whitespace",
    device: Device = None,
    dtype: Dtype = "float32",
    four_bit: FourBit = False,
    trust: Trust = False,
) -> None:
    """Score the words of records by one attribution method. Interrupted, it goes on where it stopped.

    Example: raison extract --model runs/base --data test.jsonl --method integrated-gradients --out ig.jsonl
    """
    from raison.attribution import extract_to_file
    from raison.attribution.extract import method_name

    name = method_name(method)
    records = load(file, source, mapping, limit)
    asked = {"task": task, "calibrate": calibrate, "shuffle": shuffle, "device": device, "dtype": dtype}
    judged = scorer(model, records, words, trust, four_bit=four_bit, **asked)
    given = {
        "reduction": reduction, "steps": _steps(steps), "baseline": baseline, "mask": mask, "unit": unit,
        "window": window, "seed": seed, "layers": layers, "heads": heads,
        "replacement": replacement, "draws": draws,
        "gate": gate, "epochs": epochs, "extractor": extractor,
    }  # fmt: skip
    options = {key: value for key, value in given.items() if value is not None}
    done = extract_to_file(out, judged, records, name, target=target, progress=name, **options)
    if done:
        say(f"{done} of {len(records)} records had been done before")
    _say_notes(out)
    say(f"wrote {out} ({len(records)} records) and {out}.meta.json")
    say(_next(model, file, out, source, mapping, limit, words=words, four_bit=four_bit, trust=trust, **asked))


def _say_notes(out: str) -> None:
    """Say what the scores note of their making: gaps of integrated gradients, and what is outside the words."""
    from raison.evaluation.notes import median_gap, median_outside, open_gaps
    from raison.rationales import WordScores, load_scores

    scores = [item for item in load_scores(out) if isinstance(item, WordScores)]
    for line in (median_gap(scores), median_outside(scores)):
        if line:
            say(line)
    if gaps := open_gaps(scores):
        say(f"warning: {gaps}; more steps or another baseline may close it")


def _next(
    model: str, file: str, out: str, source: str | None, mapping: list[str] | None, limit: int | None, **options: Any
) -> str:
    """Say how the rationales are judged, by the model as it was asked here."""
    told: dict[str, Any] = {"model": model, "data": file, "format": source, "map": mapping, "limit": limit}
    told |= {"shuffle_labels": options.pop("shuffle"), "trust_remote_code": options.pop("trust")}
    return following("evaluate", **told, **options, rationales=out, out="runs/verdict")


def _steps(text: str | None) -> int | str | None:
    """Read a number of steps, or `auto`; the method itself refuses what is neither."""
    return int(text) if text is not None and text.isdecimal() else text


@app.command()
def ask(
    model: Model,
    file: Data,
    out: Annotated[str, Option(help="File of rationales (JSON lines).")],
    budget: Annotated[str, Option(help="Words asked for: unbound, human, k:N, ratio:R, match:FILE.")] = "unbound",
    at_most: Annotated[bool, Option("--at-most", help="Ask for at most so many words, not exactly.")] = False,
    order: Annotated[
        str, Option(help="predict-then-explain, explain-then-predict, fresh-session.")
    ] = "predict-then-explain",
    form: Form = "json",
    request: Annotated[str, Option(help="Wording: words, evidence, or a TOML file.")] = "words",
    label: Annotated[str, Option(help="The answer explained: predicted, gold, or a label.")] = "predicted",
    fuzzy: Annotated[bool, Option("--fuzzy", help="Take words that differ in one letter for the same.")] = False,
    server: Server = None,
    cache: Cache = None,
    reply_tokens: ReplyTokens = 256,
    concurrency: Concurrency = 8,
    rate: Rate = None,
    patience: Patience = None,
    timeout: Timeout = None,
    price: Price = None,
    task: Task = None,
    calibrate: Calibrate = "none",
    shuffle: Shuffle = None,
    source: Format = None,
    mapping: Map = None,
    limit: Limit = None,
    words: Words = "whitespace",
    device: Device = None,
    dtype: Dtype = "float32",
    four_bit: FourBit = False,
    trust: Trust = False,
) -> None:
    """Ask a causal language model which words its answers rest on. Interrupted, it goes on where it stopped.

    Example: raison ask --model runs/tuned --data test.jsonl --budget human --out asked.jsonl
    """
    from raison.models.answerer import Answerer
    from raison.prompting.asking import Source, ask_to_file

    asked = {"task": task, "calibrate": calibrate, "shuffle": shuffle, "device": device, "dtype": dtype}
    expect_local(server, calibrate=calibrate, device=device, dtype=dtype, four_bit=four_bit, trust_remote_code=trust)
    limits = {"rate": rate, "patience": patience, "timeout": timeout}
    settings = server_options(server, price, **limits)
    records = load(file, source, mapping, limit)
    asking = {
        "budget": budget, "limit": "at-most" if at_most else "exactly", "order": order, "form": form,
        "request": request, "label": label, "fuzzy": fuzzy,
    }  # fmt: skip
    local: Answerer | None = None
    if server is None:
        found = scorer(model, records, words, trust, four_bit=four_bit, **asked)
        if not isinstance(found, Answerer):
            raise InputError(f"{model} is a classifier; only a causal language model can be asked")
        local = found
    asked_of = Source(model, local, server, cache, reply_tokens, concurrency, task, shuffle, settings)
    lines = ask_to_file(out, asked_of, records, asking, segment=segmenter(words), progress="asking")
    for line in lines:
        say(line)
    say(f"wrote {out} ({len(records)} records) and {out}.meta.json")
    replies = {"server": server, "cache": cache, "reply_tokens": reply_tokens, "concurrency": concurrency}
    there = {**replies, "price": price, **limits} if server is not None else {}
    loaded = {"words": words, "four_bit": four_bit, "trust": trust, **asked}
    say(_next(model, file, out, source, mapping, limit, **there, **loaded))
