"""What the model does when words are taken away: every masking that any metric needs, each distinct one run once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from raison.evaluation.faithfulness import least_mask, random_masks, ratio_masks
from raison.masking import Operator
from raison.words import Floats, Mask, Tokens

Probabilities = NDArray[np.float64]


class Predictor(Protocol):
    """What an evaluation needs of a model."""

    name: str
    labels: tuple[str, ...]
    tokenizer: Any

    def encode(self, records: Sequence[Any]) -> list[Tokens]:
        """Tokenize records and align tokens with words."""
        ...

    def predict_masked(
        self,
        tokens: Sequence[Tokens],
        masks: Sequence[Mask],
        operator: Operator,
        known: dict[bytes, Probabilities] | None = None,
    ) -> list[Probabilities]:
        """Give (masks, labels) probabilities of each record with words taken away; a row of NaN = no valid answer."""
        ...


def gives_probabilities(model: Predictor) -> bool:
    """Whether a model says how probable its labels are: one with `answers_only` gives rows of 0 and a single 1."""
    return not getattr(model, "answers_only", False)


def answers(probabilities: Probabilities) -> NDArray[Any]:
    """Give the index of the label answered to each masking (maskings,), None where there is no valid answer."""
    found = probabilities.argmax(axis=1).astype(object)
    found[np.isnan(probabilities).any(axis=1)] = None
    return found


@dataclass(frozen=True)
class Chosen:
    """What one source chose in one record, on the flat word axis."""

    mask: Mask  # (words,): the words under the budget
    scores: Floats | None  # (words,), NaN = not seen; None for a rationale without scores


# What the model answers for one record: (kind of masking, source) -> (maskings, labels) probabilities. The kinds are
#   whole, full, people            nothing, every word, what each person marked is taken away; the source is ""
#   one_out                        each word by itself is taken away (for rank correlations); the source is ""
#   removed, kept, least           the source's words are taken away; only they are kept; as many of its lowest go
#   removed_steps, kept_steps      its highest words at each ratio
#   random_removed, random_kept    random words, as many as the source chose: one masking for each draw
#   in_order, in_reverse           its 1, 2, ... highest (lowest) words; one_by_one: each word alone (see `looks`)
Slot = tuple[str, str]
Observation = dict[Slot, Probabilities]


@dataclass(frozen=True)
class Plan:
    """How records are observed."""

    operator: Operator
    ratios: tuple[float, ...]  # none = the model gives no probabilities, and none of what needs them is asked
    draws: int  # random maskings of the same size, for each record and size
    one_out: bool  # also take away each word by itself
    seed: int
    beam: int = 5  # orders of words that a search for the best one keeps in mind, see `naopc`


Ask = Callable[[Tokens, Mapping[str, Chosen]], Mapping[Slot, Mask]]  # further maskings of one record


class _Masks:
    """The maskings of one record, gathered by kind and source."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.rows: list[Mask] = []
        self.count = 0
        self.slots: dict[Slot, slice] = {}
        self.drawn: dict[int, tuple[slice, slice]] = {}  # size -> where its random maskings are

    def ask(self, kind: str, source: str, masks: Mask) -> None:
        """Ask for one masking (words,), or several (maskings, words)."""
        rows = np.atleast_2d(masks)
        self.slots[kind, source] = slice(self.count, self.count + len(rows))
        self.rows.append(rows)
        self.count += len(rows)

    def ask_random(self, source: str, size: int, plan: Plan) -> None:
        """Ask for random maskings of a size; sources that choose as many words share them."""
        if size not in self.drawn:
            seen, record_id = self.tokens.seen, self.tokens.grid.record_id
            masks = random_masks(seen, size, plan.draws, seed=plan.seed, record_id=record_id)
            self.ask("random_removed", source, masks)
            self.ask("random_kept", source, seen & ~masks)
            self.drawn[size] = self.slots["random_removed", source], self.slots["random_kept", source]
        self.slots["random_removed", source], self.slots["random_kept", source] = self.drawn[size]


def observe(
    model: Predictor,
    tokens: Sequence[Tokens],
    people: Sequence[Mask],
    chosen: Sequence[Mapping[str, Chosen]],
    plan: Plan,
    *,
    known: dict[bytes, Probabilities] | None = None,
    further: Sequence[Ask] = (),
) -> list[Observation]:
    """Run the model on every masking of every record that the metrics ask for.

    Args:
        model: what predicts.
        tokens: the encoded records.
        people: of each record (people, words) boolean.
        chosen: of each record, what each source chose; a source that chose nothing for want of a rationale is absent.
        plan: operator, ratios, random draws.
        known: answers that earlier calls have given, see `Predictor.predict_masked`.
        further: give more maskings of a record, by their slots; a slot that several give is asked once.
    """
    asked = _gathered(tokens, people, chosen, plan, further)
    found = model.predict_masked(tokens, [np.concatenate(masks.rows) for masks in asked], plan.operator, known)
    return [{slot: rows[at] for slot, at in masks.slots.items()} for masks, rows in zip(asked, found, strict=True)]


def count_maskings(
    tokens: Sequence[Tokens],
    people: Sequence[Mask],
    chosen: Sequence[Mapping[str, Chosen]],
    plan: Plan,
    further: Sequence[Ask] = (),
) -> int:
    """Count the distinct maskings that `observe` would run the model on, the records as they are among them."""
    asked = _gathered(tokens, people, chosen, plan, further)
    return sum(len(np.unique(np.concatenate(masks.rows), axis=0)) for masks in asked)


def _gathered(
    tokens: Sequence[Tokens],
    people: Sequence[Mask],
    chosen: Sequence[Mapping[str, Chosen]],
    plan: Plan,
    further: Sequence[Ask],
) -> list[_Masks]:
    """Gather the maskings of every record."""
    asked = [_ask(row, marked, sources, plan) for row, marked, sources in zip(tokens, people, chosen, strict=True)]
    for masks, sources in zip(asked, chosen, strict=True):
        more = {slot: rows for ask in further for slot, rows in ask(masks.tokens, sources).items()}
        for slot, rows in more.items():
            masks.ask(*slot, rows)
    return asked


def _ask(tokens: Tokens, people: Mask, sources: Mapping[str, Chosen], plan: Plan) -> _Masks:
    """Gather the maskings of one record; only words that the model sees are ever taken away."""
    masks, seen = _Masks(tokens), tokens.seen
    masks.ask("whole", "", np.zeros_like(seen))
    masks.ask("full", "", seen)
    marked = people & seen
    masks.ask("people", "", marked[marked.any(axis=1)])
    if plan.one_out:
        masks.ask("one_out", "", np.eye(len(seen), dtype=np.bool_) & seen)
    for source, choice in sources.items():
        mask = choice.mask & seen
        masks.ask("removed", source, mask)
        masks.ask("kept", source, seen & ~mask)
        masks.ask_random(source, int(mask.sum()), plan)
        if choice.scores is not None:
            masks.ask("least", source, least_mask(choice.scores, int(mask.sum())))
        if choice.scores is not None and plan.ratios:
            steps = ratio_masks(choice.scores, plan.ratios)
            masks.ask("removed_steps", source, steps)
            masks.ask("kept_steps", source, seen & ~steps)
    return masks
