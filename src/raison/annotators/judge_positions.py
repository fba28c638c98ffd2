"""Whether a judge's answers hang on where a person stands: a test, and how much."""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from raison.annotators.judging import Judged
from raison.annotators.rates import How
from raison.evaluation.statistics import Estimate, Values, bootstrap_statistic, wilson

DRAWS = 1_000  # of the permutation test


class Position(msgspec.Struct, frozen=True):
    """Whether a judge's answers hang on where a person stands, over all questions of a variant."""

    variant: str
    chosen: dict[str, int]  # letter -> how often
    bias: dict[str, Estimate]  # letter -> share of answers that name it whoever it is (below 0: it is avoided)
    p: float | None  # of no bias at all; None = no group has two answers
    agreement: Estimate  # groups in which all rotations name the same person
    n: int  # groups


def position(variant: str, rows: Sequence[Judged], how: How) -> Position:
    """Test and measure position bias.

    Were positions nothing to the judge, the people named in a group's rotations could have been named in any order of
    them. So the expected count of a letter is its mean over these orders, the test permutes the people named among the
    rotations of each group, and its statistic is the sum over letters of (count - expected)^2 / expected.

    A judge that names letter l with probability b_l whoever it is, and else looks at the texts, names it in
    b_l + (1 - sum b) / K of balanced questions. Of one such letter (count - expected) / answers / (1 - 1 / K) is b_l.
    """
    letters = rows[0].question.letters
    groups: dict[tuple[str, str, int, int], list[Judged]] = {}
    for row in rows:
        key = (row.question.source, row.question.target, row.question.texts, row.question.group)
        answered = groups.setdefault(key, [])
        if row.choice is not None:
            answered.append(row)
    kept = [answered for answered in groups.values() if answered]
    tables = [_places(answered) for answered in kept]
    expected = np.array([_counts(table, len(letters)).mean(axis=0) for table in tables]).reshape(-1, len(letters))
    sizes = np.array([len(table) for table in tables])
    observed = np.array([np.bincount(np.diag(table), minlength=len(letters)) for table in tables])
    observed = observed.reshape(-1, len(letters))
    bias: dict[str, Estimate] = {}
    for index, letter in enumerate(letters):
        excess = (observed[:, index] - expected[:, index] * sizes) / (1 - 1 / len(letters))
        bias[letter] = bootstrap_statistic(
            _ratio, excess, sizes, level=how.level, resamples=min(how.resamples, 2_000), seed=how.seed
        )
    same = [len({row.choice for row in answered}) == 1 for answered in kept if len(answered) > 1]
    chosen = dict(zip(letters, observed.sum(axis=0).tolist(), strict=True))
    p = _position_p(tables, observed.sum(axis=0), (expected * sizes[:, None]).sum(axis=0), how.seed)
    return Position(variant, chosen, bias, p, wilson(sum(same), len(same), level=how.level), len(kept))


def _ratio(excess: Values, sizes: Values) -> Values:
    return excess.sum(axis=-1) / sizes.sum(axis=-1)


def _places(answered: Sequence[Judged]) -> NDArray[np.int64]:
    """Give (rotations, rotations): where the person named in rotation j stands in rotation i."""
    return np.array([[row.question.options.index(other.choice or "") for other in answered] for row in answered])


def _counts(table: NDArray[np.int64], letters: int) -> Values:
    """Give (answers, letters): the shares of letters at each rotation, if people were named in any order."""
    return np.array([np.bincount(row, minlength=letters) / len(row) for row in table])


def _position_p(tables: Sequence[NDArray[np.int64]], observed: Values, expected: Values, seed: int) -> float | None:
    """Permute the people named among the rotations of each group."""
    if not any(len(table) > 1 for table in tables):
        return None
    rng, letters = np.random.default_rng(seed), len(observed)
    drawn = np.zeros((DRAWS, letters))
    for size in {len(table) for table in tables}:
        stack = np.array([table for table in tables if len(table) == size])  # (groups, rotations, rotations)
        for index in range(DRAWS):
            order = rng.random(stack.shape[:2]).argsort(axis=1)
            named = np.take_along_axis(stack, order[:, :, None], axis=2)
            drawn[index] += np.bincount(named.ravel(), minlength=letters)
    safe = np.where(expected > 0, expected, 1.0)
    statistic = ((observed - expected) ** 2 / safe).sum()
    extreme = int((((drawn - expected) ** 2 / safe).sum(axis=1) >= statistic - 1e-9).sum())
    return (1 + extreme) / (DRAWS + 1)
