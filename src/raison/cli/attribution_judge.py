"""`raison annotators judge`: does a model take the outputs for the person's?"""

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from msgspec import to_builtins
from rich.table import Table
from typer import Option

from raison.cli.common import (
    Cache,
    Concurrency,
    Data,
    Device,
    Dtype,
    Format,
    FourBit,
    Json,
    Map,
    Out,
    Patience,
    Price,
    Rate,
    Seed,
    Server,
    Timeout,
    Trust,
    annotators,
    console,
    expect_dtype,
    expect_local,
    numbers,
    parted,
    quiet,
    say,
    server_options,
)  # fmt: skip
from raison.cli.imitate import Parts, split_of
from raison.cli.people import Without
from raison.records import InputError

if TYPE_CHECKING:
    from raison.annotators.judge import Question, Wording
    from raison.annotators.judge_positions import Position
    from raison.annotators.judge_results import Findings, Spent
    from raison.annotators.judging import Judge
    from raison.annotators.material import Material
    from raison.annotators.splits import Split
    from raison.evaluation.results import Cell, Comparison
    from raison.evaluation.statistics import Estimate
    from raison.prompting.asking import Source

Outputs = Annotated[list[str] | None, Option(help="What a system says as each person: NAME=FILE of responses.")]
Variants = Annotated[str, Option(help="plain, no-label, normalised, pairwise, or sums, as no-label+pairwise.")]
VERDICTS, RESULT, REPLIES = "verdicts.jsonl", "findings.json", "replies.db"


@annotators.command("judge")
def annotators_judge(
    data: Data,
    out: Out,
    outputs: Outputs = None,
    model: Annotated[str | None, Option(help="The judge: a model folder or hub id, or a server's name of it.")] = None,
    dry_run: Annotated[
        str | None, Option("--dry-run", help="ACCURACY,BIAS of an oracle that judges instead: tries out the design.")
    ] = None,
    texts: Annotated[str, Option(help="How many texts are judged together, by commas.")] = "1,5,10",
    per_person: Annotated[int, Option(min=1, help="References of each person, from training items.")] = 5,
    groups: Annotated[int, Option(min=1, help="Most groups of texts of each person.")] = 20,
    variants: Annotated[
        str, Option(help="plain, no-label, normalised, pairwise, sums of them (no-label+pairwise).")
    ] = ("plain"),
    wording: Annotated[str | None, Option(help="TOML file of what the judge is told; default: raison's.")] = None,
    replies: Annotated[bool, Option("--replies", help="Let a model that is loaded here reply in words.")] = False,
    reply_tokens: Annotated[int, Option(min=1, help="Longest reply.")] = 256,
    split: Parts = None,
    without: Without = None,
    server: Server = None,
    cache: Cache = None,
    concurrency: Concurrency = 8,
    rate: Rate = None,
    patience: Patience = None,
    timeout: Timeout = None,
    price: Price = None,
    seed: Seed = 0,
    json: Json = None,
    source: Format = None,
    mapping: Map = None,
    device: Device = None,
    dtype: Dtype = "float32",
    four_bit: FourBit = False,
    trust: Trust = False,
) -> None:
    """Let a model say who wrote texts: each person's own, other people's, and what systems say as them.

    Example: raison annotators judge --data varierr.json --outputs sft=sft.jsonl --model ID --out runs/judge
    """
    from raison.annotators.judge import load_judge_wording, make_questions
    from raison.prompting.asking import Source
    from raison.runs import provenance

    expect_dtype(dtype)
    expect_local(server, replies=replies, device=device, dtype=dtype, four_bit=four_bit, trust_remote_code=trust)
    priced = server if dry_run is None else "a dry run"
    settings = server_options(priced, price, rate=rate, patience=patience, timeout=timeout)
    parts = split_of(data, split, without, source, mapping)
    material, told = material_of(parts, outputs), load_judge_wording(wording)
    design: dict[str, Any] = {"texts": numbers("--texts", texts) or [0], "per_person": per_person, "groups": groups}
    design |= {"variants": parted(variants), "seed": seed}
    asked = _Asked(make_questions(material, **design), material, told)
    store = cache or f"{_folder(out)}/{REPLIES}"
    behind = Source(model or "", None, server, store, reply_tokens, concurrency, settings=settings)
    loading = {"device": device, "dtype": dtype, "four_bit": four_bit, "trust_remote_code": trust}
    judge, models = _judge(behind, dry_run, loading, (replies, seed))
    _announce(asked, settings.get("price"))
    config = {"command": "annotators judge", **design, "wording": to_builtins(told), "dry_run": dry_run}
    config |= {"replies": replies, "reply_tokens": reply_tokens}
    _run(out, judge, asked, provenance(config, parts.test, models), json, settings.get("price"))


class _Asked(NamedTuple):
    questions: "list[Question]"
    material: "Material"
    wording: "Wording"


def _run(
    out: str,
    judge: "Judge",
    asked: _Asked,
    frame: dict[str, Any],
    json: str | None,
    price: tuple[float, float] | None,
) -> None:
    """Judge, sum up, write and tell."""
    from raison.annotators.judge_results import summarise_judge
    from raison.annotators.judging import judge_to_file
    from raison.records import write_json

    rows = judge_to_file(f"{out}/{VERDICTS}", judge, *asked, frame, "judging")
    found = summarise_judge(rows, price=price, seed=frame["config"]["seed"])
    write_json(f"{out}/{RESULT}", to_builtins(found))
    _tell(found, json)
    say(f"wrote {out}/{VERDICTS} ({len(rows):,} answers) and {out}/{RESULT}")


def _folder(out: str) -> str:
    from pathlib import Path

    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: not a folder that can be made ({error.strerror})") from None
    return out


def material_of(parts: "Split", outputs: list[str] | None) -> "Material":
    """Read what systems say, and put it beside what people said."""
    from raison.annotators.material import make_material
    from raison.annotators.responses import read_responses, responses_of

    systems: dict[str, Any] = {}
    for given in outputs or []:
        name, _, file = given.partition("=")
        if not (name and file) or name in systems:
            raise InputError(f"--outputs {given!r}: expected NAME=FILE, each name once")
        systems[name] = read_responses(file)
    records = [*parts.train, *parts.dev, *parts.test]
    made = make_material(records, responses_of(parts.train), responses_of(parts.test), systems)
    for name, count in made.unread.items():
        if count:
            say(f"{name}: {count:,} responses have no explanation; their items are left out for everybody")
    return made


def _announce(asked: _Asked, price: tuple[float, float] | None) -> None:
    """Say before anything is asked how much it is."""
    from raison.annotators.judge import conversation

    questions, material, wording = asked
    step = max(1, len(questions) // 200)  # the lengths of some tell those of all
    some = [conversation(question, material, wording) for question in questions[::step]]
    characters = sum(len(message["content"]) for talk in some for message in talk)
    tokens = characters / len(some) / 4 * len(questions)
    cost = "" if price is None else f", cost about {tokens * price[0] / 1e6:.2f} and that of the replies"
    say(f"{len(questions):,} questions, about {tokens:,.0f} prompt tokens{cost}")


def _judge(
    behind: "Source", dry_run: str | None, loading: dict[str, Any], how: tuple[bool, int]
) -> "tuple[Judge, dict[str, str]]":
    """Make the judge, and give name and hash of what it is."""
    from raison.annotators.judging import oracle, scoring, speaking
    from raison.models.answerer import Answerer
    from raison.models.tasks import Task
    from raison.prompting.asking import generator_of

    replies, seed = how
    if bool(behind.model) == (dry_run is not None):
        raise InputError("expected a judge: either --model or --dry-run")
    if dry_run is not None:
        accuracy, bias = _shares(dry_run)
        return oracle(accuracy, bias, seed=seed), {"oracle": dry_run}
    quiet()
    if behind.server is None:
        task = Task(("text",), "{text} {labels}", {"A": "A", "B": "B"}, name="judge")
        behind = behind._replace(local=Answerer.load(behind.model, task, **loading))
    generator, mark = generator_of(behind)
    judge = speaking(generator) if behind.local is None or replies else scoring(behind.local)
    return judge, {generator.name: mark}


def _shares(text: str) -> tuple[float, float]:
    try:
        accuracy, bias = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--dry-run {text!r}: expected ACCURACY,BIAS, such as 0.8,0.1") from None
    return accuracy, bias


def _tell(found: "Findings", json: str | None) -> None:
    """Print what was found."""
    from raison.records import write_json

    if json:
        write_json(json, [to_builtins(one) for one in found.cells])
    whole = [one for one in found.cells if "target=" not in one.slice]
    tell_cells(whole)
    for line in pair_lines(found.comparisons):
        console().print(line, highlight=False)
    for place in found.positions:
        console().print(_position(place), highlight=False)
    for name, causes in found.failures.items():
        if causes:
            said = ", ".join(f"{cause} {count:,}" for cause, count in causes.items())
            say(f"no answer ({name}): {sum(causes.values()):,} of {found.asked[name]:,} ({said})")
    say(_spent(found.spent))


def _position(place: "Position") -> str:
    shares = ", ".join(f"{letter} {shown(bias)}" for letter, bias in place.bias.items())
    p = "–" if place.p is None else f"{place.p:.3f}"
    agreed = f"all rotations agree in {shown(place.agreement)} of groups"
    return f"positions ({place.variant}): named whoever it is {shares}; p = {p}; {agreed}"


def _spent(spent: "Spent") -> str:
    cost = "" if spent.cost is None else f", cost {spent.cost:.4f}"
    unknown = f" ({spent.uncounted:,} answers uncounted)" if spent.uncounted else ""
    tokens = f"{spent.prompt_tokens:,} prompt and {spent.reply_tokens:,} reply tokens"
    return f"{spent.conversations:,} conversations, {tokens}{unknown}{cost}"


def shown(one: "Estimate") -> str:
    """Give a value with its interval."""
    if one.value is None:
        return "–"
    span = "" if one.low is None or one.high is None else f" [{one.low:.2f}, {one.high:.2f}]"
    return f"{one.value:.2f}{span}"


def tell_cells(cells: "list[Cell]") -> None:
    """Print a table for each metric, with what its values must be read beside, and once each why some can't be read."""
    for metric in dict.fromkeys(one.metric for one in cells):
        own = [one for one in cells if one.metric == metric]
        beside = list(dict.fromkeys(name for one in own for name in one.frame))
        table = Table(title=metric, title_justify="left")
        for name in ("source", "slice", "value", "interval", "n", *beside):
            table.add_column(name, justify="left" if name in ("source", "slice") else "right")
        for one in own:
            span = "" if one.low is None or one.high is None else f"{one.low:.2f}, {one.high:.2f}"
            values = (_plain(value) for value in (one.frame.get(name) for name in beside))
            table.add_row(one.source, one.slice, _plain(one.value), span, str(one.n), *values)
        console().print(table)
    for said in dict.fromkeys(f"{one.slice}: {one.verdict}" for one in cells if one.verdict):
        console().print(said, highlight=False)


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def pair_lines(comparisons: "list[Comparison]") -> list[str]:
    """Give a line for each pair of sources."""
    return [f"{one.metric}: {one.a} – {one.b} = {_difference(one)}: {one.verdict}" for one in comparisons]


def _difference(one: "Comparison") -> str:
    if one.difference is None or one.p_holm is None:
        return "–"
    return f"{one.difference:+.2f}, p = {one.p_holm:.3f} (Holm)"
