"""Scores per word, rationales (masks over words), and the budgets that turn the one into the other."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from raison.records import InputError, Record, read_jsonl, write_jsonl
from raison.words import Floats, Mask, WordGrid, human_masks


class WordScores(msgspec.Struct, frozen=True, eq=False):
    """What one method computed for one record: a number per word, on the grid of words.

    A word that the model did not see (cut off, or dropped by its tokenizer) has the score NaN, which is `null` on disk.
    """

    record_id: str
    method: str  # "input_x_gradient", or any name for scores made elsewhere
    target: str | None  # the label explained; "a - b" for a contrast
    scores: dict[str, Floats]  # field -> (words,) float32
    convention: dict[str, Any] = {}  # reduction, sign, baseline, special tokens, ...: what the numbers mean


class Rationale(msgspec.Struct, frozen=True, eq=False):
    """Words that someone marked or chose: a boolean per word, on the grid of words."""

    record_id: str
    source: str  # a person, a method or a model
    words: dict[str, Mask]  # field -> (words,) boolean
    budget: str | None = None  # how many words were allowed, such as "human" or "k:3"
    failure: str | None = (
        None  # why there is no rationale (a reply that could not be parsed, a refusal); its words are none
    )
    notes: dict[str, Any] = {}  # how it came about, such as the reply it was read from and what was counted in it


def save_scores(path: str | Path, items: Iterable[WordScores | Rationale]) -> int:
    """Write scores or rationales as JSON lines, and return how many there were."""
    return write_jsonl(path, (to_row(item) for item in items))


def to_row(item: WordScores | Rationale) -> dict[str, Any]:
    """Give the item as it stands on disk: lists of numbers (null = not scored), or of 0 and 1.

    Raises:
        InputError: a score is infinite, which JSON can't hold.
    """
    row = {name: getattr(item, name) for name in item.__struct_fields__}
    if isinstance(item, WordScores):
        if any(np.isinf(values).any() for values in item.scores.values()):
            raise InputError(f"record {item.record_id!r}: {item.method} gave infinite scores")
        row["scores"] = {name: _shortest(values) for name, values in item.scores.items()}
    else:
        row["words"] = {name: mask.astype(int).tolist() for name, mask in item.words.items()}
    return row


def _shortest(values: Floats) -> list[float | None]:
    """Give each float32 with as many digits as it takes to read the same float32 back."""
    return [None if text == "nan" else float(text) for text in values.astype(np.float32).astype(str).tolist()]


class _ScoresRow(msgspec.Struct, forbid_unknown_fields=True):
    record_id: str
    method: str
    scores: dict[str, list[float | None]]
    target: str | None = None
    convention: dict[str, Any] = {}


class _RationaleRow(msgspec.Struct, forbid_unknown_fields=True):
    record_id: str
    source: str
    words: dict[str, list[Literal[0, 1] | bool]]
    budget: str | None = None
    failure: str | None = None
    notes: dict[str, Any] = {}


def from_row(row: Any) -> WordScores | Rationale:
    """Make scores or a rationale of a decoded line.

    Raises:
        InputError: one line naming the field and what was expected.
    """
    if not isinstance(row, dict) or ("scores" in row) == ("words" in row):
        raise InputError("expected an object with either `scores` (numbers) or `words` (0 and 1) per field")
    try:
        if "scores" in row:
            scores = msgspec.convert(row, _ScoresRow)
            arrays = {name: _float32(name, values) for name, values in scores.scores.items()}
            return WordScores(scores.record_id, scores.method, scores.target, arrays, scores.convention)
        marked = msgspec.convert(row, _RationaleRow)
        masks = {name: np.array(values, dtype=np.bool_) for name, values in marked.words.items()}
        return Rationale(marked.record_id, marked.source, masks, marked.budget, marked.failure, marked.notes)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at ")
        raise InputError(f"{message[0].lower()}{message[1:]}{' at ' + place if place else ''}") from None


def _float32(name: str, values: list[float | None]) -> Floats:
    with np.errstate(over="ignore"):
        array = np.array(values, dtype=np.float32)
    if np.isinf(array).any():
        raise InputError(f"`scores.{name}`: a number is too large for a 32-bit float")
    return array


def load_scores(path: str | Path) -> list[WordScores | Rationale]:
    """Read scores or rationales that `save_scores` wrote, or another program in the same form.

    Raises:
        InputError: at the first fault, as `file:line: message`.
    """
    return list(read_jsonl(path, from_row))


REFUSED = "refusal"  # the failure of a reply that declines to answer; any other failure of a reply is in reading it
SILENT = "no reply"  # how the failure begins where no reply came

# -------------------------------------------------------------------------------------------------- budgets

Rank = Literal["value", "magnitude"]


def ranking(scores: Floats, rank: Rank = "value") -> NDArray[np.int64]:
    """Give the indices of the scored words, highest first, ties by position; words without a score are left out.

    Args:
        scores: (words,), NaN = not scored.
        rank: by signed value, or by magnitude.
    """
    key = np.abs(scores) if rank == "magnitude" else scores
    order = np.argsort(-key, kind="stable")  # NaN sorts last
    return order[: int((~np.isnan(scores)).sum())]


def top_k(scores: Floats, k: int, rank: Rank = "value") -> Mask:
    """Mark the k words with the highest scores (all scored words where there are fewer): (words,) boolean."""
    mask = np.zeros(len(scores), dtype=np.bool_)
    mask[ranking(scores, rank)[: max(k, 0)]] = True
    return mask


class Budget(msgspec.Struct, frozen=True):
    """How many words a rationale may have.

    `human`: as many as people marked (the mean over those who marked any; a leak of gold information, so its results
    stand beside random words of the same number). `k`: a constant. `ratio`: a share of the words, rounded up from a
    half, at least one. `mass`: the fewest words that hold this share of the positive scores. `match`: as many as
    another source chose.
    """

    kind: Literal["human", "k", "ratio", "mass", "match"]
    value: float = 0.0  # of k, ratio and mass
    source: str = ""  # of match

    def __str__(self) -> str:
        """Give the form that `parse_budget` reads."""
        if self.kind == "human":
            return "human"
        value = self.source if self.kind == "match" else f"{self.value:g}"
        return f"{self.kind}:{value}"

    def size(self, scores: Floats, human: int | None = None, matched: int | None = None) -> int | None:
        """Give the number of words for one record; None where it is undefined (nobody marked any, no match).

        Args:
            scores: (words,) of this source; NaN = not scored.
            human: how many words people marked.
            matched: how many words the matched source chose.
        """
        if self.kind == "human":
            return human
        if self.kind == "match":
            return matched
        if self.kind == "k":
            return int(self.value)
        scored = scores[~np.isnan(scores)]
        if self.kind == "ratio":
            return max(1, int(self.value * len(scored) + 0.5))
        return _mass_size(scored, self.value)


def _mass_size(scores: Floats, share: float) -> int:
    """Give the fewest top words whose positive scores sum to `share` of all positive scores; at least one."""
    positive = -np.sort(-np.maximum(scores, 0).astype(np.float64))
    total = positive.sum()
    if total <= 0:
        return 1
    return int(np.searchsorted(np.cumsum(positive), share * total * (1 - 1e-12))) + 1


def parse_budget(text: str) -> Budget:
    """Read a budget: `human`, `k:5`, `ratio:0.2`, `mass:0.9`, or `match:SOURCE`.

    Raises:
        InputError: it is none of these, or its number is out of range.
    """
    kind, _, value = text.partition(":")
    if kind == "human" and not value:
        return Budget("human")
    if kind == "match" and value:
        return Budget("match", source=value)
    if kind not in ("k", "ratio", "mass"):
        raise InputError(f"unknown budget {text!r}; expected human, k:N, ratio:R, mass:M or match:SOURCE")
    try:
        number = float(value)
    except ValueError:
        raise InputError(f"budget {text!r}: expected a number after {kind}:") from None
    if kind == "k" and not (number >= 1 and number.is_integer()):
        raise InputError(f"budget {text!r}: expected a whole number of at least 1")
    if kind != "k" and not 0 < number <= 1:
        raise InputError(f"budget {text!r}: expected a share above 0 and at most 1")
    return Budget(kind, number)


# ---------------------------------------------------------------------------------------------------- votes

VOTES = ("soft", "majority", "union")


def soft_rationale(record: Record, grid: WordGrid, annotators: Collection[str] | None = None) -> Floats | None:
    """Give, for each word, the share of the people asked who marked it: (words,) float32 in [0, 1].

    All zeros where people were asked and marked nothing; None where nobody was asked (or nobody of those named).

    Args:
        record: the record.
        grid: its words.
        annotators: who counts, by name; None = everybody.
    """
    masks = human_masks(record, grid, annotators)
    return masks.mean(axis=0, dtype=np.float32) if len(masks) else None


def voted_rationale(record: Record, grid: WordGrid, people: str = "soft") -> Floats | None:
    """Give the rationale of a record as a target for training: (words,) float32 in [0, 1].

    Args:
        record: the record.
        grid: its words.
        people: `soft` (the share of people who marked a word), `majority` (1 where more than half of them did), `union`
            (1 where anyone did), or the name of one annotator.

    Returns:
        None where nobody was asked, or not this annotator: missing, which is not the same as zeros (nothing marked).
    """
    share = soft_rationale(record, grid, None if people in VOTES else (people,))
    if share is None or people == "soft":
        return share
    return (share > (0.5 if people == "majority" else 0)).astype(np.float32)


def check_people(records: Iterable[Record], people: str) -> None:
    """Check that a choice of people means somebody.

    Raises:
        InputError: it is neither one of `VOTES` nor the name of an annotator in the records.
    """
    names = {annotation.annotator for record in records for annotation in record.annotations if annotation.annotator}
    if people not in VOTES and people not in names:
        few = ", ".join([*sorted(names)[:12], *(["..."] if len(names) > 12 else [])]) or "none"
        raise InputError(f"unknown people {people!r}; expected {', '.join(VOTES)} or an annotator (there are: {few})")


def confidence(record: Record, grid: WordGrid, annotators: Collection[str] | None = None) -> float:
    """Give how far the people asked agree on a record: the mean token F1 of every two of them, in [0, 1].

    NaN, which is no weight of 0, with fewer than two people, and where nobody marked a word.
    """
    pairs = pairwise_f1(human_masks(record, grid, annotators))
    return float(np.mean(pairs)) if pairs else float("nan")


def pairwise_f1(masks: Mask) -> list[float]:
    """Compare every two people on one record: token F1 = 2 |a and b| / (|a| + |b|).

    Args:
        masks: (people, words), what each of them marked.

    Returns:
        One value a pair, 0 where one marked nothing or both did; no pair where nobody marked a word.
    """
    marked = masks.astype(np.int64)
    both, sizes = marked @ marked.T, marked.sum(axis=1)
    first, second = np.triu_indices(len(masks) if sizes.any() else 0, 1)
    return (2 * both[first, second] / np.maximum(sizes[first] + sizes[second], 1)).tolist()
