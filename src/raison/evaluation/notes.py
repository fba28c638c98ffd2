"""What a reader must know of a verdict beside its numbers: what was left out, how often, and why."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from raison.evaluation.observe import Predictor, gives_probabilities
from raison.evaluation.results import Item
from raison.evaluation.summarise import UNGRADED, are_alternatives
from raison.rationales import Rationale, WordScores

if TYPE_CHECKING:
    from raison.evaluation.evaluate import Options

OPEN = 0.01  # completeness gaps above it are open, where the scores were made with no tolerance of their own


def notes_of(items: Sequence[Item], options: "Options") -> list[str]:
    """Say what a reader must know of any verdict: nothing missing becomes a zero unseen."""
    counts = Counter(what for item in items for what in _missing(item))
    notes = [f"{count} of {len(items)} records: {what}" for what, count in counts.items()]
    if are_alternatives(items):
        notes.append("the masks of one record never share a word: alternatives, so there is no human ceiling")
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


def notes_of_scores(sources: Mapping[str, Mapping[str, WordScores | Rationale]]) -> list[str]:
    """Say of each source with scores what is known against them: gaps left open, and what lies outside the words.

    Args:
        sources: source -> record id -> what it said.
    """
    notes: list[str] = []
    for name, said in sources.items():
        scores = [item for item in said.values() if isinstance(item, WordScores)]
        if gap := open_gaps(scores):
            notes.append(f"{name}: {gap}")
        if share := median_outside(scores):
            notes.append(f"{name}: {share}")
    return notes


def open_gaps(scores: Iterable[WordScores]) -> str:
    """Say in how many records the gap of integrated gradients stayed open; empty where it did in none.

    A gap is open above the `tolerance` that the scores were made with (`steps` auto), else above 0.01.
    """
    scores = list(scores)
    gaps = noted(scores, "completeness_gap")
    limits = noted(scores, "tolerance")
    limit = limits[0] if limits else OPEN
    count = sum(gap > limit for gap in gaps)
    return f"the completeness gap is above {limit:g} in {count} of {len(gaps)} records" if count else ""


def median_gap(scores: Iterable[WordScores]) -> str:
    """Give the median and the largest completeness gap in words; empty where there is none."""
    gaps = noted(scores, "completeness_gap")
    return f"completeness gap: median {median(gaps):.2g}, largest {max(gaps):.2g}" if gaps else ""


def median_outside(scores: Iterable[WordScores]) -> str:
    """Give the share of the scores' magnitude on tokens of no word, in words; empty where it is not known."""
    shares = noted(scores, "outside")
    return f"{median(shares):.0%} of the scores' magnitude (median) is on tokens of no word" if shares else ""


def noted(scores: Iterable[WordScores], key: str) -> list[float]:
    """Give the numbers that stand under a key in the scores' conventions."""
    found = (item.convention.get(key) for item in scores)
    return [float(value) for value in found if isinstance(value, int | float)]
