"""Looks at records for the metrics of `extras`: at the model's answers to maskings, or by asking it in other ways.

Each look takes some records and gives the metrics of every source in every one of them. What they measure stands in
`companions` and `naopc`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from raison.evaluation import companions, naopc
from raison.evaluation.faithfulness import flips as changed_labels
from raison.evaluation.faithfulness import random_masks
from raison.evaluation.measure import Metrics
from raison.evaluation.observe import Chosen, Observation, Plan, Predictor, Probabilities, Slot, answers
from raison.masking import Operator
from raison.records import InputError
from raison.words import Mask, Tokens

Values = NDArray[np.float64]
Found = list[dict[str, Metrics]]  # of each record: source -> metrics


class SoftPredictor(Protocol):
    """What soft metrics need of a model beside `Predictor`: its embeddings."""

    def predict_soft(
        self, tokens: Sequence[Tokens], keep: Sequence[NDArray[Any]], draws: int, seed: int = 0
    ) -> list[Probabilities]:
        """Give (variants, draws, labels) probabilities of each record with words taken away in part."""
        ...


class Tuned(NamedTuple):
    """The model of F-Fidelity: the one that is judged, tuned further with words masked at random."""

    model: Predictor
    operator: Operator  # as the judged model's, for the tuned one's tokenizer


@dataclass(frozen=True)
class Look:
    """Some records with all that is known of them."""

    model: Any  # a Predictor; a SoftPredictor too where weights are needed
    tuned: Tuned | None
    records: Sequence[Any]
    tokens: Sequence[Tokens]
    chosen: Sequence[Mapping[str, Chosen]]
    seen: Sequence[Observation]
    plan: Plan
    known: dict[bytes, Probabilities]

    def answer(self, row: int) -> int | None:
        """Give the label that the model predicts on a whole record; None where it gives no valid answer."""
        return answers(self.seen[row]["whole", ""])[0]

    def changes(self, row: int, slot: Slot) -> Values:
        """Say for each masking whether the answer is another (maskings,): 0 or 1, NaN without a valid answer."""
        seen = self.seen[row]
        return changed_labels(answers(seen["whole", ""]), answers(seen[slot])[None])[0]

    def probability(self, row: int, slot: Slot) -> Values:
        """Give the probability of that label under each masking: (maskings,)."""
        return self.of_answer(row, self.seen[row][slot])

    def of_answer(self, row: int, table: Values) -> Values:
        """Pick the probability of that label from (..., labels): (...), NaN where there is no such label."""
        label = self.answer(row)
        return np.full(table.shape[:-1], np.nan) if label is None else table[..., label]

    def whole(self, row: int) -> float:
        """Give the probability of that label on the whole record."""
        return float(self.probability(row, ("whole", ""))[0])


# ------------------------------------------------------------------------------------------ of what is known anyway


def normalised(look: Look) -> Found:
    """Give normalised comprehensiveness and sufficiency of each source's words; no word = every word masked."""
    return _each(look, _normalised)


def _normalised(look: Look, row: int, source: str, choice: Chosen) -> Metrics:
    del choice
    seen, whole, empty = look.seen[row], look.whole(row), look.probability(row, ("full", ""))
    found: Metrics = {}
    for kind, metric, formula in (
        ("removed", "normalised_comprehensiveness", companions.normalised_comprehensiveness),
        ("kept", "normalised_sufficiency", companions.normalised_sufficiency),
    ):
        slots = {metric: (kind, source), f"{metric}.random": (f"random_{kind}", source)}
        if kind == "removed":
            slots |= {f"{metric}.human": ("people", ""), f"{metric}.least": ("least", source)}
        for name, slot in slots.items():
            if slot in seen:
                found[name] = _mean(formula(whole, look.probability(row, slot), empty))
    return found


def log_odds(look: Look) -> Found:
    """Give the drop of the answer's log-odds when each source's words are masked."""
    return _each(look, _log_odds)


def _log_odds(look: Look, row: int, source: str, choice: Chosen) -> Metrics:
    del choice
    slots: dict[str, Slot] = {"": ("removed", source), ".random": ("random_removed", source), ".full": ("full", "")}
    slots |= {".human": ("people", ""), ".least": ("least", source)}
    return {
        f"log_odds{name}": _mean(companions.log_odds_drop(look.whole(row), look.probability(row, slot)))
        for name, slot in slots.items()
        if slot in look.seen[row]
    }


# -------------------------------------------------------------------------------------------------- rank order


def flips(look: Look) -> Found:
    """Give DFFrac and DFMIT of each source with scores; beside DFMIT, each single word alike."""
    return _each(look, _flips)


def _flips(look: Look, row: int, source: str, choice: Chosen) -> Metrics:
    if ("in_order", source) not in look.seen[row] or choice.scores is None:
        return {}
    changed, alone = look.changes(row, ("in_order", source)), look.changes(row, ("one_by_one", ""))
    return {
        "flip_fraction": np.nan if np.isnan(changed).any() else companions.flip_fraction(changed),
        "flip_top": float(changed[0]) if len(changed) else np.nan,
        "flip_top.random": _mean(alone[~np.isnan(alone)]),
    }


def _ask_order(tokens: Tokens, chosen: Mapping[str, Chosen]) -> dict[Slot, Mask]:
    return {
        ("in_order", source): companions.removal_steps(_scores(tokens, choice.scores))
        for source, choice in chosen.items()
        if choice.scores is not None
    }


def ask_flips(tokens: Tokens, chosen: Mapping[str, Chosen]) -> dict[Slot, Mask]:
    """Ask for each word alone, and for the words of every source in rank order."""
    return {("one_by_one", ""): np.diag(tokens.seen)[tokens.seen], **_ask_order(tokens, chosen)}


def normalised_area(look: Look) -> Found:
    """Give normalised AOPC of each source that scored every word seen, from the top down and from the bottom up."""
    ranked = [
        {name: choice.scores for name, choice in chosen.items() if _scored(tokens, choice.scores)}
        for tokens, chosen in zip(look.tokens, look.chosen, strict=True)
    ]
    rows = [row for row, sources in enumerate(ranked) if sources and look.answer(row) is not None]
    tokens = [look.tokens[row] for row in rows]

    def drops_of(asked: dict[int, Mask]) -> dict[int, Values]:
        some, masks = [tokens[index] for index in asked], list(asked.values())
        answers = look.model.predict_masked(some, masks, look.plan.operator, look.known)
        found = zip(asked, answers, strict=True)
        return {index: look.whole(rows[index]) - look.of_answer(rows[index], table) for index, table in found}

    bounds = naopc.run_searches([naopc.search_bounds(row.seen, look.plan.beam) for row in tokens], drops_of)
    found: Found = [{} for _ in ranked]
    for row, bound in zip(rows, bounds, strict=True):
        for source in ranked[row]:
            found[row][source] = {
                f"naopc_{name}": naopc.normalised_aopc(naopc.word_aopc(look.whole(row) - p), bound)
                for name, slot in (("comprehensiveness", "in_order"), ("sufficiency", "in_reverse"))
                for p in [look.probability(row, (slot, source))]
            }
    return found


def ask_orders(tokens: Tokens, chosen: Mapping[str, Chosen]) -> dict[Slot, Mask]:
    """Ask for every word in rank order, and in the reverse of it: what is left of an order are its last words."""
    masks = _ask_order(tokens, chosen)
    reverse = {("in_reverse", source): rows[-1:] & ~_shifted(rows)[::-1] for (_, source), rows in masks.items()}
    return masks | reverse


def _shifted(rows: Mask) -> Mask:
    """Put the empty mask first and leave the last out."""
    return np.concatenate([np.zeros_like(rows[:1]), rows[:-1]])


# ------------------------------------------------------------------------------------------- other ways to look


def soft(look: Look) -> Found:
    """Give Soft-NC and Soft-NS of each source that scored every word seen: means over the draws of the formula."""
    scaled = [
        {
            name: a
            for name, choice in chosen.items()
            if _scored(tokens, choice.scores)
            for a in [companions.unit_scores(_scores(tokens, choice.scores))]
        }
        for tokens, chosen in zip(look.tokens, look.chosen, strict=True)
    ]
    usable = [[name for name, a in sources.items() if not np.isnan(a).all()] for sources in scaled]
    keep: list[Values] = []
    for tokens, sources, names in zip(look.tokens, scaled, usable, strict=True):
        weights = [np.nan_to_num(sources[name]) for name in names]
        keep.append(np.array([row for a in weights for row in (1 - a, a)]).reshape(-1, len(tokens.grid)))
    draws, seed = look.plan.draws, look.plan.seed
    model: SoftPredictor = look.model
    tables = model.predict_soft(look.tokens, keep, draws, seed)
    none = model.predict_soft(look.tokens, [np.zeros((1, len(tokens.grid))) for tokens in look.tokens], 1, seed)
    found: Found = []
    for row, sources in enumerate(scaled):
        nothing: Metrics = {"soft_comprehensiveness": np.nan, "soft_sufficiency": np.nan}
        metrics = dict.fromkeys(sources, nothing)
        whole, empty = look.whole(row), look.of_answer(row, none[row])[0, 0]
        for index, name in enumerate(usable[row]):
            removed, kept = look.of_answer(row, tables[row][2 * index : 2 * index + 2])
            metrics[name] = {
                "soft_comprehensiveness": _mean(companions.normalised_comprehensiveness(whole, removed, empty)),
                "soft_sufficiency": _mean(companions.normalised_sufficiency(whole, kept, empty)),
            }
        found.append(metrics)
    return found


def fidelity(look: Look) -> Found:
    """Give FFid+ and FFid- of each source's words, and of random words of the same number.

    The label y is the one that the judged model predicts, as for all other metrics here, so that 1[f(x) = y] is 1; the
    authors take the gold label, by which a rationale of a wrong decision could not score.
    """
    assert look.tuned is not None, "refused before"
    tokens = look.tuned.model.encode(look.records)
    if [row.grid.sizes for row in tokens] != [row.grid.sizes for row in look.tokens]:
        raise InputError(f"{look.tuned.model.name} cuts texts into other words than {look.model.name}")
    slots: list[dict[str, slice]] = []
    masks: list[Mask] = []
    for row, chosen in zip(tokens, look.chosen, strict=True):
        asked = _ask_fidelity(row, chosen, look.plan.seed)
        ends = np.cumsum([len(rows) for rows in asked.values()]).tolist()
        slots.append({name: slice(end - companions.FIDELITY_DRAWS, end) for name, end in zip(asked, ends, strict=True)})
        masks.append(np.concatenate([*asked.values(), np.zeros((0, len(row.grid)), dtype=np.bool_)]))
    answers = look.tuned.model.predict_masked(tokens, masks, look.tuned.operator)
    labels = [label.casefold() for label in look.tuned.model.labels]
    found: Found = []
    for row, table in enumerate(answers):
        answer = look.answer(row)
        values = dict.fromkeys(slots[row], np.nan)
        if answer is not None:
            right = table.argmax(axis=1) == labels.index(look.model.labels[answer].casefold())
            values = {n: float(companions.f_fidelity([1.0], right[None, at])[0]) for n, at in slots[row].items()}
        found.append({source: _of_source(values, source, choice) for source, choice in look.chosen[row].items()})
    return found


def _ask_fidelity(tokens: Tokens, chosen: Mapping[str, Chosen], seed: int) -> dict[str, Mask]:
    """Draw the maskings of F-Fidelity: "+source" inside its words, "-source" outside; "+2" of two random words."""
    seen, record_id, draws = tokens.seen, tokens.grid.record_id, companions.FIDELITY_DRAWS
    rationales = {source: np.tile(choice.mask & seen, (draws, 1)) for source, choice in chosen.items()}
    for size in sorted({int(rows[0].sum()) for rows in rationales.values()}):
        rationales[_random(size)] = random_masks(seen, size, draws, seed=seed, record_id=record_id)
    found: dict[str, Mask] = {}
    for name, rows in rationales.items():
        for sign, inside in (("+", rows), ("-", seen & ~rows)):
            found[sign + name] = companions.fidelity_masks(
                inside, seen, alpha=companions.ALPHA, beta=companions.BETA, seed=seed, record_id=record_id
            )
    return found


def _random(size: int) -> str:
    return f"\0random {size}"  # no source is called so


def _of_source(values: Mapping[str, float], source: str, choice: Chosen) -> Metrics:
    return {
        f"f_fidelity_{name}{reference}": values[sign + key]
        for name, sign in (("plus", "+"), ("minus", "-"))
        for reference, key in (("", source), (".random", _random(int(choice.mask.sum()))))
        if sign + key in values
    }


def _each(look: Look, function: Callable[[Look, int, str, Chosen], Metrics]) -> Found:
    return [
        {source: function(look, row, source, choice) for source, choice in chosen.items()}
        for row, chosen in enumerate(look.chosen)
    ]


def _scores(tokens: Tokens, scores: NDArray[Any] | None) -> Values:
    """Give scores (words,) with NaN for words that this model does not see, whoever scored them."""
    values = np.full(len(tokens.grid), np.nan) if scores is None else scores.astype(np.float64)
    return np.where(tokens.seen, values, np.nan)


def _scored(tokens: Tokens, scores: NDArray[Any] | None) -> bool:
    """Whether every word that the model sees has a score, and there is one."""
    return bool(tokens.seen.any()) and not np.isnan(_scores(tokens, scores)[tokens.seen]).any()


def _mean(values: Values) -> float:
    """Give the mean over maskings; NaN where there is none, or where one is undefined."""
    return float(values.mean()) if values.size else np.nan
