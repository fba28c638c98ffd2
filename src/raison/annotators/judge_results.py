"""What a judge's answers say: attribution beside its references, position bias, failures, and what it cost.

The instance is a group of texts: its rotations are questions about the same texts, so their mean is one value. An
answer that could not be read is missing: it is counted, and neither right nor wrong.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from raison.annotators.judge_positions import Position, position
from raison.annotators.judging import Judged
from raison.annotators.material import HUMAN, OTHER
from raison.annotators.rates import Group, How, paired, share
from raison.evaluation.results import Cell, Comparison
from raison.evaluation.statistics import Estimate, bootstrap_mean


class Spent(msgspec.Struct, frozen=True):
    """What the questions took, each conversation counted once, whether it was answered now or in an earlier run."""

    conversations: int
    prompt_tokens: int
    reply_tokens: int
    uncounted: int  # answers of which the tokens are not known
    cost: float | None  # None = no price, or not all answers are counted


class Findings(msgspec.Struct, frozen=True):
    """The whole result of a judge."""

    cells: list[Cell]
    comparisons: list[Comparison]
    positions: list[Position]
    failures: dict[str, dict[str, int]]  # "SOURCE, SLICE" -> cause -> answers that could not be read
    asked: dict[str, int]  # "SOURCE, SLICE" -> questions
    spent: Spent


class _Slice(NamedTuple):
    variant: str
    texts: int

    def __str__(self) -> str:
        return f"texts={self.texts}" if self.variant == "plain" else f"texts={self.texts}, {self.variant}"


def summarise_judge(
    rows: Sequence[Judged],
    *,
    price: tuple[float, float] | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Findings:
    """Sum up a judge's answers.

    Cells (`source` is whose texts were shown, `slice` the number of texts, the variant, and the target if it is one's):

    - `judge_accuracy`: how often the target is named, mean over groups of the share of their rotations. Its frame is
      chance (one over the people), `ceiling` (the target's own texts) and `floor` (another person's, of the same
      items); `relative` is (value - chance) / (ceiling - chance), 1 = as recognisable as the person. BCa interval;
      Wilson's where all groups are right or all wrong.
    - `judge_probability`, `judge_log_loss`: of the target, from judges that have probabilities; chance is log K.

    Where the ceiling is not above chance the judge knows nobody, and every cell of the slice says so.

    Comparisons are of each pair of sources but the floor, on the same groups, with Holm's correction in each slice.

    Args:
        rows: from `judge_to_file`.
        price: of a million prompt tokens and of a million reply tokens.
        level: of intervals.
        resamples: of intervals and tests.
        seed: of the draws.
    """
    slices = dict.fromkeys(_Slice(row.question.variant, row.question.texts) for row in rows)
    cells: list[Cell] = []
    comparisons: list[Comparison] = []
    failures: dict[str, dict[str, int]] = {}
    asked: dict[str, int] = {}
    how = How(level, resamples, seed)
    for one in slices:
        part = [row for row in rows if (row.question.variant, row.question.texts) == one]
        by_source = _by(part, lambda row: row.question.source)
        cells += _cells(by_source, str(one), how)
        comparisons += _comparisons(by_source, str(one), how)
        for source, found in by_source.items():
            name = f"{source}, {one}"
            asked[name] = len(found)
            failures[name] = dict(Counter(row.heard.failure for row in found if row.heard.failure).most_common())
    variants = _by(rows, lambda row: row.question.variant)
    positions = [position(name, part, how) for name, part in variants.items()]
    return Findings(cells, comparisons, positions, failures, asked, _spent(rows, price))


def _by(rows: Iterable[Judged], key: Callable[[Judged], str]) -> dict[str, list[Judged]]:
    found: dict[str, list[Judged]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


# ---------------------------------------------------------------------------------------------------- attribution


def _groups(rows: Iterable[Judged], value: Callable[[Judged], float | None]) -> dict[Group, float]:
    """Give the mean of each group over the rotations that have a value; NaN where none has."""
    found: dict[Group, list[float]] = {}
    for row in rows:
        known = value(row)
        group = found.setdefault((row.question.target, row.question.group), [])
        if known is not None:
            group.append(known)
    return {group: sum(values) / len(values) if values else math.nan for group, values in found.items()}


def right(row: Judged) -> float | None:
    """Say whether an answer names the target: 1 or 0, None for no answer."""
    return None if row.choice is None else float(row.choice == row.question.target)


def _probability(row: Judged) -> float | None:
    if row.heard.probabilities is None:
        return None
    return row.heard.probabilities[row.question.letters[row.question.options.index(row.question.target)]]


def _log_loss(row: Judged) -> float | None:
    known = _probability(row)
    return None if known is None else -math.log(max(known, 1e-12))


def _cells(by_source: dict[str, list[Judged]], slice: str, how: How) -> list[Cell]:
    """Make the cells of one slice, and of each target in it."""
    targets = sorted({row.question.target for rows in by_source.values() for row in rows})
    found = _framed(by_source, slice, how)
    for target in targets:
        own = {name: [row for row in rows if row.question.target == target] for name, rows in by_source.items()}
        found += _framed({name: rows for name, rows in own.items() if rows}, f"{slice}, target={target}", how)
    return found


def _framed(by_source: dict[str, list[Judged]], slice: str, how: How) -> list[Cell]:
    first = next(iter(by_source.values()))[0].question
    chance = 1 / len(first.options)
    accuracy = {name: share(_groups(rows, right).values(), how) for name, rows in by_source.items()}
    empty = Estimate(value=None, low=None, high=None, n=0)
    ceiling, floor = accuracy.get(HUMAN, empty), accuracy.get(OTHER, empty)
    verdict = knows_nobody(ceiling, chance)
    cells: list[Cell] = []
    for name, rows in by_source.items():
        one = accuracy[name]
        frame = {"chance": chance, "ceiling": ceiling.value, "floor": floor.value}
        frame["relative"] = None if verdict else _relative(one.value, ceiling.value, chance)
        cells.append(_cell("judge_accuracy", (name, slice), one, frame, verdict))
        if any(row.heard.probabilities for row in rows):
            probability = bootstrap_mean([*_groups(rows, _probability).values()], level=how.level, seed=how.seed)
            loss = bootstrap_mean([*_groups(rows, _log_loss).values()], level=how.level, seed=how.seed)
            cells.append(_cell("judge_probability", (name, slice), probability, {"chance": chance}, verdict))
            cells.append(_cell("judge_log_loss", (name, slice), loss, {"chance": -math.log(chance)}, verdict))
    return cells


def knows_nobody(ceiling: Estimate, chance: float) -> str:
    """Say why no attribution can be read where people's own texts are not recognised; empty where they are."""
    if ceiling.value is None:
        return "nobody's own texts were judged: there is no ceiling to read this against"
    if ceiling.low is not None and ceiling.low > chance:
        return ""
    return f"people's own texts are not told apart either (ceiling {ceiling.value:.2f}, chance {chance:.2f})"


def _relative(value: float | None, ceiling: float | None, chance: float) -> float | None:
    return None if value is None or ceiling is None else (value - chance) / (ceiling - chance)


def _cell(metric: str, place: tuple[str, str], one: Estimate, frame: dict[str, float | None], verdict: str) -> Cell:
    return Cell(metric, *place, one.value, one.low, one.high, one.n, frame, verdict)


# ---------------------------------------------------------------------------------------------------- comparisons


def _comparisons(by_source: dict[str, list[Judged]], slice: str, how: How) -> list[Comparison]:
    found = {name: _groups(rows, right) for name, rows in by_source.items() if name != OTHER}
    first = next(iter(by_source.values()))[0].question
    own = share(found.get(HUMAN, {}).values(), how)
    return paired(f"judge_accuracy, {slice}", found, how, knows_nobody(own, 1 / len(first.options)))


# ----------------------------------------------------------------------------------------------------------- cost


def _spent(rows: Sequence[Judged], price: tuple[float, float] | None) -> Spent:
    each = [*{row.asked: row.heard for row in rows}.values()]
    read, written = sum(one.prompt_tokens or 0 for one in each), sum(one.reply_tokens or 0 for one in each)
    uncounted = sum(one.prompt_tokens is None or one.reply_tokens is None for one in each)
    cost = (read * price[0] + written * price[1]) / 1e6 if price is not None and not uncounted else None
    return Spent(len(each), read, written, uncounted, cost)
