"""Run a multiverse: the same records and methods, judged in every combination of the choices that one has to make."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import msgspec

from raison.attribution.extract import extract, fingerprint, method_name
from raison.evaluation.evaluate import Judge, Options, by_source, conclude, make_options
from raison.evaluation.multiverse import DIGITS, Multiverse, Universe, analyse, compete
from raison.evaluation.observe import Probabilities
from raison.evaluation.results import Verdict
from raison.models.scorer import Scorer
from raison.models.tasks import load_task
from raison.rationales import Rationale, WordScores, to_row
from raison.records import InputError, Record, read_jsonl
from raison.report.glossary import describe
from raison.runs import Unfinished, digest, provenance

# choice -> what it is an option of; those of extraction come first, since scores are made once for each of them
EXTRACTION = ("target", "reduction")
EVALUATION = ("budget", "mask", "unit", "subset", "aggregate", "rank")
FACTORS = ("prompt", *EXTRACTION, *EVALUATION)
Said = dict[str, list[WordScores | Rationale]]


class Plan(msgspec.Struct, frozen=True):
    """What is crossed. A choice that is not named keeps its default."""

    methods: tuple[str, ...]
    factors: dict[str, tuple[str, ...]]  # choice -> its levels
    metric: str = "flip_rate"
    draws: int = 20
    seed: int = 0

    def universes(self) -> list[dict[str, str]]:
        """Give every combination of levels, those of one prompt, target and reduction after each other."""
        names = [name for name in FACTORS if name in self.factors]
        return [dict(zip(names, levels, strict=True)) for levels in product(*(self.factors[name] for name in names))]


def run(
    load: Callable[[str | None], Scorer],
    records: Sequence[Record],
    plan: Plan,
    out: str | Path,
    *,
    rationales: Mapping[str, Sequence[Rationale]] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Multiverse:
    """Judge the methods in every universe, and write one line for each; interrupted, it goes on.

    Args:
        load: gives the model for a level of `prompt` (a task), or for None where prompts are not crossed.
        records: what is judged.
        plan: what is crossed.
        out: file of universes (JSON lines).
        rationales: more sources, that no choice of extraction changes, such as prompted rationales.
        progress: called with the number of universes done.

    Raises:
        InputError: a choice, level or method is unknown, nothing competes, or the file was made from something else.
    """
    check(plan)
    compete([*map(method_name, plan.methods), *(rationales or {})])
    worlds = plan.universes()
    contents = _contents(plan, rationales or {})
    model = load(worlds[0].get("prompt"))
    config = {"command": "multiverse", **msgspec.to_builtins(plan), **contents}
    frame = provenance(config, records, {model.name: fingerprint(model)})
    work = Unfinished(out, frame, 1)
    if not work.finished:
        done = work.resume()
        maker = _Maker(load, records, plan, rationales or {})
        for index, choices in enumerate(worlds):
            progress(index)
            if index >= done:
                work.append([msgspec.to_builtins(maker(choices))])
        work.finish(len(worlds))
    universes = list(read_jsonl(out, lambda row: msgspec.convert(row, Universe)))
    return analyse(plan.metric, universes, describe(plan.metric).better or "higher")


def _contents(plan: Plan, rationales: Mapping[str, Sequence[Rationale]]) -> dict[str, dict[str, str]]:
    """Give hashes of what stands behind names: the wording of each prompt, and the rationales of each source."""
    prompts = plan.factors.get("prompt", ())
    return {
        "prompts": {name: digest([msgspec.to_builtins(load_task(name))]) for name in prompts},
        "rationales": {source: digest(map(to_row, items)) for source, items in rationales.items()},
    }


def check(plan: Plan) -> None:
    """Refuse a plan that can't be run, before anything is.

    Raises:
        InputError: a choice, level or method is unknown.
    """
    strange = sorted(plan.factors.keys() - set(FACTORS))
    if strange:
        raise InputError(f"unknown choice {strange[0]!r}; expected one of {', '.join(FACTORS)}")
    for name, levels in plan.factors.items():
        if not levels or len(set(levels)) < len(levels):
            raise InputError(f"choice {name}: expected levels, each of them once")
        for level in levels if name in EVALUATION else ():
            make_options({name: level})
    for method in plan.methods:
        method_name(method)


class _Maker:
    """Makes one universe after the other; scores and the model's answers are kept as long as they serve."""

    def __init__(
        self,
        load: Callable[[str | None], Scorer],
        records: Sequence[Record],
        plan: Plan,
        rationales: Mapping[str, Sequence[Rationale]],
    ) -> None:
        self.load, self.records, self.plan, self.rationales = load, records, plan, rationales
        self.prompt: str | None = None
        self.model: Scorer | None = None
        self.made: tuple[dict[str, str], Said] | None = None
        self.known: dict[bytes, Probabilities] = {}

    def __call__(self, choices: Mapping[str, str]) -> Universe:
        model = self._model(choices.get("prompt"))
        said = self._said(model, {name: choices[name] for name in EXTRACTION if name in choices})
        given: dict[str, Any] = {name: choices[name] for name in EVALUATION if name in choices}
        options = make_options({**given, "draws": self.plan.draws, "seed": self.plan.seed, "resamples": 100})
        return _universe(choices, self._judged(model, said, options), self.plan.metric)

    def _model(self, prompt: str | None) -> Scorer:
        if self.model is None or prompt != self.prompt:
            self.model, self.prompt, self.made, self.known = self.load(prompt), prompt, None, {}
        return self.model

    def _said(self, model: Scorer, choices: dict[str, str]) -> Said:
        if self.made is None or self.made[0] != choices:
            said: Said = {name: list(items) for name, items in self.rationales.items()}
            for method in map(method_name, self.plan.methods):
                options = {"reduction": choices["reduction"]} if _takes_reduction(method, choices) else {}
                target = choices.get("target", "predicted")
                said[method] = list(extract(model, self.records, method, target=target, **options))
            self.made = (choices, said)
        return self.made[1]

    def _judged(self, model: Scorer, said: Said, options: Options) -> Verdict:
        judge = Judge(model, self.records, by_source(said), options)
        items = judge(self.records, self.known)
        return conclude(items, options, model=model, frame={}, said={})


def _takes_reduction(method: str, choices: Mapping[str, str]) -> bool:
    return "reduction" in choices and method not in ("random", "occlusion")


def _universe(choices: Mapping[str, str], verdict: Verdict, metric: str) -> Universe:
    cells = [cell for cell in verdict.cells if (cell.metric, cell.slice) == (metric, "all")]
    if not cells:
        raise InputError(
            f"metric {metric!r} was not measured; there are {', '.join({c.metric for c in verdict.cells})}"
        )
    values = {cell.source: None if cell.value is None else round(cell.value, DIGITS) for cell in cells}
    return Universe(dict(choices), values, next((cell.verdict for cell in cells if cell.verdict), ""))
