"""What a reader must know of a verdict beside its numbers: what was left out, how often, and why."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from raison.evaluation.observe import Predictor, gives_probabilities
from raison.evaluation.results import Item
from raison.evaluation.summarise import UNGRADED

if TYPE_CHECKING:
    from raison.evaluation.evaluate import Options


def notes_of(items: Sequence[Item], options: "Options") -> list[str]:
    """Say what a reader must know of any verdict: nothing missing becomes a zero unseen."""
    counts = Counter(what for item in items for what in _missing(item))
    notes = [f"{count} of {len(items)} records: {what}" for what, count in counts.items()]
    if options.subset != "all":
        notes.append(f"faithfulness is measured on {options.subset} predictions alone")
    if options.budget == "human":
        notes.append("the budget human uses how many words people marked; random words of that number stand beside it")
    return notes


def notes_of_model(items: Sequence[Item], model: Predictor | None) -> list[str]:
    """Say what this model can't give: probabilities, an answer that can be read, or some of the gold labels."""
    if model is None:
        return []
    notes: list[str] = []
    if not gives_probabilities(model):
        notes.append(f"comprehensiveness, sufficiency and AOPC are undefined: {UNGRADED}")
    if lost := sum(item.predicted is None for item in items):
        notes.append(f"{lost} of {len(items)} records: the model's answer names no label, so there is none to flip")
    known = {label.casefold() for label in model.labels}
    strange = Counter(item.label for item in items if item.label and item.label.casefold() not in known)
    return [*notes, *(f"{n} of {len(items)} records: the model has no label {label!r}" for label, n in strange.items())]


def _missing(item: Item) -> Iterator[str]:
    if not any(words for _, words in item.people):
        nobody = "nobody marked a word" if item.people else "nobody was asked for a rationale"
        yield f"{nobody}, so they are left out of the agreement with people"
    if item.unseen:
        yield "some words are not seen by the model; they are never chosen or taken away"
    for name, found in item.sources.items():
        if found.failure:
            yield f"{name}: {found.failure}"
