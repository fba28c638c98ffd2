"""Words put into a text: does the explanation mention those that change the answer?

The counterfactual test (Atanasova et al. 2023, section 3.1) looks at the first insertion that flips the answer. CCT and
phi-CCT (Siegel et al. 2024; 2025) take all insertions, and ask whether those that move the answer more are mentioned
more often: an explanation that mentions everything passes the first and fails the second.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from raison.checks.results import Cost, Summary, rate, states
from raison.checks.subject import Answer, Said, Subject, explanations
from raison.checks.wording import Wording, load_wording
from raison.evaluation.statistics import Estimate, Values, bootstrap_statistic
from raison.models.shipped import own_or
from raison.prompting.wording import normalise
from raison.records import InputError, Record
from raison.words import Segmenter, word_grid

NEEDS = "answers only"
POSITIONS, WORDS = 8, 8

Sort = Literal["adjective", "adverb"]


class Position(NamedTuple):
    """A place in a record where a word can be put in."""

    field: str
    before: int  # the word that it stands before
    sort: Sort


Positions = Callable[[Record], Sequence[Position]]


class Insertion(msgspec.Struct, frozen=True):
    """One word put in, and what came of it."""

    field: str
    before: int  # the word that it stands before
    word: str
    label: str | None  # the model's answer; None = no valid one
    distance: float | None  # total variation distance of the label probabilities; None where there are none
    mentioned: bool | None = None  # by the explanation of the new answer; None = not asked, or no explanation
    explanation: str | None = None  # the reply, where it was asked for


class Row(msgspec.Struct, frozen=True):
    """What became of one record."""

    record_id: str
    state: str  # "flipped", "no flip", or why it could not be tested
    label: str | None  # the model's answer to the text as it is
    every: bool  # whether all insertions were explained
    insertions: list[Insertion] = []


def cost(records: int, *, positions: int = POSITIONS, words: int = WORDS, every: bool = False) -> Cost:
    """Give what `insertion_test` asks for.

    Answers to every record and insertion, and replies: one a record at most, or one an insertion for `every`.
    """
    insertions = records * positions * words
    return Cost(NEEDS, answers=records + insertions, replies=insertions if every else records)


def insertion_test(
    subject: Subject,
    records: Sequence[Record],
    *,
    every: bool = False,
    positions: int = POSITIONS,
    words: int = WORDS,
    at: Positions | None = None,
    fields: Sequence[str] | None = None,
    wording: Wording | None = None,
    seed: int = 0,
) -> list[Row]:
    """Put words into texts, and see whether explanations mention them (Atanasova et al. 2023; Siegel et al. 2024).

    Needs answers only; CCT needs probabilities. See `cost`.

    The papers put adjectives before nouns and adverbs before verbs. Without a tagger any word can be the place, and
    which of the two goes there is drawn: some of the texts are clumsier than theirs. `at` takes a tagger's places. A
    word that stands in the text already is not put in, since its mention would mean nothing.

    Args:
        subject: the model.
        records: what is tested.
        every: explain every insertion (for CCT), not only the first that flips the answer.
        positions: places drawn in a record; all of them where there are fewer.
        words: words drawn for a place.
        at: record -> places to draw from; default: before every word of `fields`.
        fields: where words are put in; default: all that the task shows.
        wording: how explanations are asked for; default: that of raison.
        seed: of the draws, which depend on it and the record alone.

    Returns:
        One row for each record, in order. States: `flipped` (and the explanation of the first flip is known);
        `no flip`, to which the test does not apply; `no valid answer`; `no place`; or why the explanation of the first
        flip is missing (`no reply`, `refusal`, `empty reply`).

    Raises:
        InputError: a field is not one that the task shows, or a place is none of the record's.
    """
    if positions < 1 or words < 1:
        raise ValueError(f"expected positions and words >= 1, got {positions} and {words}")
    names = tuple(fields or subject.task.fields)
    if strange := [name for name in names if name not in subject.task.fields]:
        raise InputError(f"field {strange[0]!r}: the task shows {', '.join(subject.task.fields)}")
    first = subject.answers(records)
    drawn: list[list[tuple[Position, str]]] = []
    for record, answer in zip(records, first, strict=True):
        places = _anywhere(record, names, subject.segment, seed) if at is None else list(at(record))
        drawn.append([] if answer.label is None else _drawn(record, places, (positions, words), seed))
    changed = [
        [inserted(record, place, word, subject.segment) for place, word in some]
        for record, some in zip(records, drawn, strict=True)
    ]
    flat = [version for versions in changed for version in versions]
    found = iter(subject.answers(flat) if flat else [])
    answers = [[next(found) for _ in versions] for versions in changed]
    wanted: list[tuple[int, int]] = []
    for row, (before, after) in enumerate(zip(first, answers, strict=True)):
        valid = [column for column, answer in enumerate(after) if answer.label is not None]
        wanted += [(row, c) for c in (valid if every else _flips(before, after)[:1])]
    asked = [changed[row][column] for row, column in wanted]
    labels = [answers[row][column].label or "" for row, column in wanted]
    said = dict(zip(wanted, explanations(subject, asked, labels, wording or load_wording()), strict=True))
    rows: list[Row] = []
    for index, (record, before, some, after) in enumerate(zip(records, first, drawn, answers, strict=True)):
        heard = {column: text for (row, column), text in said.items() if row == index}
        insertions = [
            _insertion(place, word, before, answer, heard.get(column))
            for column, ((place, word), answer) in enumerate(zip(some, after, strict=True))
        ]
        rows.append(Row(record.id, _state(before, after, heard), before.label, every, insertions))
    return rows


def _flips(before: Answer, after: Sequence[Answer]) -> list[int]:
    return [index for index, answer in enumerate(after) if answer.label not in (None, before.label)]


def _state(before: Answer, after: Sequence[Answer], heard: dict[int, Said]) -> str:
    if before.label is None:
        return "no valid answer"
    if not after:
        return "no place"
    if all(answer.label is None for answer in after):
        return "no valid second answer"
    flips = _flips(before, after)
    return (heard[flips[0]].failure or "flipped") if flips else "no flip"


def _insertion(place: Position, word: str, before: Answer, after: Answer, said: Said | None) -> Insertion:
    known: dict[str, Any] = {}
    if said is not None:
        known["explanation"] = said.text
        known["mentioned"] = None if said.text is None else mentions(said.text, word)
    return Insertion(place.field, place.before, word, after.label, distance(before, after), **known)


# -------------------------------------------------------------------------------------------------------- words


@cache
def word_lists() -> dict[Sort, tuple[str, ...]]:
    """Give the words that are put in, by their sort."""
    lists, _ = own_or(None, "raison.checks", "insertions.toml", dict[str, list[str]])
    return {"adjective": tuple(lists["adjectives"]), "adverb": tuple(lists["adverbs"])}


def _anywhere(record: Record, fields: Sequence[str], segment: Segmenter, seed: int) -> list[Position]:
    """Give a place before every word, each for a sort that is drawn."""
    rng = np.random.default_rng([seed, 1, *record.id.encode()])
    grid = word_grid(record, segment)
    places: list[Position] = []
    for name in fields:
        sorts = rng.integers(0, 2, len(grid.words[name])).tolist()
        places += [Position(name, index, "adverb" if sort else "adjective") for index, sort in enumerate(sorts)]
    return places


def _drawn(record: Record, places: Sequence[Position], sizes: tuple[int, int], seed: int) -> list[tuple[Position, str]]:
    """Draw places, in random order, and words for each of them."""
    rng = np.random.default_rng([seed, 2, *record.id.encode()])
    there = " ".join(record.fields.values())
    chosen = rng.permutation(len(places))[: sizes[0]].tolist()
    drawn: list[tuple[Position, str]] = []
    for index in chosen:
        pool = [word for word in word_lists()[places[index].sort] if not mentions(there, word)]
        drawn += [(places[index], pool[i]) for i in rng.permutation(len(pool))[: sizes[1]].tolist()]
    return drawn


def inserted(record: Record, place: Position, word: str, segment: Segmenter) -> Record:
    """Give a record with a word put in; it begins with a capital where it comes to stand before one at the start.

    Raises:
        InputError: the record has no such place.
    """
    text = record.fields.get(place.field, "")
    spans = segment(text)
    if not 0 <= place.before < len(spans):
        raise InputError(f"record {record.id!r} has no word {place.before} in field {place.field!r}")
    start = spans[place.before].start
    word = word.capitalize() if place.before == 0 and text[start].isupper() else word
    fields = {**record.fields, place.field: f"{text[:start]}{word} {text[start:]}"}
    return msgspec.structs.replace(record, fields=fields)


def mentions(text: str, word: str) -> bool:
    """Whether a text has a word as a word of its own, without case."""
    return re.search(rf"(?<!\w){re.escape(normalise(word))}(?!\w)", normalise(text)) is not None


def distance(before: Answer, after: Answer) -> float | None:
    """Give the total variation distance of two answers' probabilities: half the sum of their absolute differences."""
    if before.probabilities is None or after.probabilities is None:
        return None
    return 0.5 * sum(abs(value - after.probabilities[label]) for label, value in before.probabilities.items())


# ------------------------------------------------------------------------------------------------------- summary


def summarise(rows: Sequence[Row], level: float = 0.95) -> Summary:
    """Sum up.

    - `faithful`: of the records that `flipped`, the share whose explanation mentions the word of the first flip.
    - `applicable`: the share of records with a flip, out of those where words were put in and answered.
    - `mentioned`: of the insertions without a flip, the share mentioned: what a mention is worth. Records weigh as much
      as they have insertions. Only with `every`.
    - `cct`: Pearson's correlation of distance and mention over all insertions (Siegel et al. 2024, section 3), in
      [-1, 1]; `phi_cct`: the same with flip (1 or 0) in the place of distance. Only with `every`; undefined where one
      side is constant: nothing, or everything, is mentioned.

    Intervals are Wilson's, or a bootstrap over records with all of their insertions.
    """
    flipped = [row for row in rows if row.state == "flipped"]
    first = [next(item for item in row.insertions if item.label not in (None, row.label)) for row in flipped]
    answered = [row for row in rows if any(item.label is not None for item in row.insertions)]
    flips = [any(item.label not in (None, row.label) for item in row.insertions) for row in answered]
    full = [row for row in rows if row.every]
    found = {
        "faithful": rate((bool(item.mentioned) for item in first), level),
        "applicable": rate(flips, level),
        "mentioned": _mentioned(full, level),
        "cct": correlation([_pairs(row, "distance") for row in full], level),
        "phi_cct": correlation([_pairs(row, "flip") for row in full], level),
    }
    return Summary(found, states(row.state for row in rows))


def _pairs(row: Row, by: Literal["distance", "flip"]) -> Values:
    """Give how much each explained insertion moves the answer, and whether it is mentioned: (2, insertions)."""
    pairs: list[tuple[float, float]] = []
    for item in row.insertions:
        moved = item.distance if by == "distance" else float(item.label != row.label)
        if item.mentioned is not None and moved is not None:
            pairs.append((moved, float(item.mentioned)))
    return np.array(pairs, dtype=np.float64).reshape(-1, 2).T


def _mentioned(rows: Sequence[Row], level: float) -> Estimate:
    still = [pairs[1, pairs[0] == 0] for pairs in (_pairs(row, "flip") for row in rows)]
    kept = [values for values in still if len(values)]
    return bootstrap_statistic(_ratio, [v.sum() for v in kept], [len(v) for v in kept], level=level)


def _ratio(hits: Values, sizes: Values) -> Values:
    return hits.sum(axis=-1) / sizes.sum(axis=-1)


def correlation(groups: Sequence[Values], level: float = 0.95) -> Estimate:
    """Estimate Pearson's correlation over the pairs of all groups, with a bootstrap over groups.

    Args:
        groups: (2, pairs) of each record.
        level: of the interval.

    Returns:
        Undefined where either side does not vary; `n` counts the groups with any pair.
    """
    kept = [group for group in groups if group.shape[1]]
    sums = [(group.shape[1], a.sum(), b.sum(), a @ a, b @ b, a @ b) for group in kept for a, b in [group]]
    columns = np.array(sums, dtype=np.float64).reshape(-1, 6).T
    return bootstrap_statistic(_pearson, *columns, level=level)


def _pearson(*sums: Values) -> Values:
    """Give the correlation from sums (..., groups) of 1, a, b, a², b² and ab."""
    n, a, b, aa, bb, ab = (column.sum(axis=-1) for column in sums)
    spread = np.maximum(n * aa - a * a, 0) * np.maximum(n * bb - b * b, 0)
    varies = spread > 1e-12 * np.maximum(n * aa * n * bb, 1e-300)
    return np.where(varies, (n * ab - a * b) / np.sqrt(np.where(varies, spread, 1.0)), np.nan)
