"""How much of explanations is the item and how much the person: variance shares, split halves, exact permutations.

The unit is what one person said of one item (the mean of their vectors, where they gave several responses). Permuting
people within an item keeps what was said of it, and its labels, and changes only whose it is: under the hypothesis that
people don't differ, every such permutation is as likely as the data. So its p-values are exact: p = (1 + number of
permutations at least as extreme) / (1 + permutations) (Phipson and Smyth 2010).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]
Ints = NDArray[np.int64]


class Share(NamedTuple):
    """A share of variance beside what it is by chance."""

    value: float | None  # None = there is no variance
    null: float | None  # mean over permutations
    p: float | None


def variance_share(vectors: Values, groups: Ints, *, permutations: int = 200, seed: int = 0) -> Share:
    """Give eta squared of groups: sum over groups of n |mean - grand mean|^2, over the whole sum of squares.

    The null permutes the vectors over all groups. Its mean is about (groups - 1) / (n - 1): with four people to an item
    a quarter, which is why it must stand beside.

    Args:
        vectors: (n, d).
        groups: of each, 0, 1, ...
        permutations: drawn; 0 = no null.
        seed: of the draws.
    """
    centred = vectors - vectors.mean(axis=0)
    whole = float((centred**2).sum())
    if whole <= 1e-12 * max(1.0, float((vectors**2).sum())):
        return Share(None, None, None)
    counts = np.bincount(groups)

    def share(order: Ints) -> float:
        return (
            float((group_sums(centred[order], groups, len(counts)) ** 2 / np.maximum(counts, 1)[:, None]).sum()) / whole
        )

    value, rng = share(np.arange(len(groups))), np.random.default_rng(seed)
    draws = [share(rng.permutation(len(groups))) for _ in range(permutations)]
    if not draws:
        return Share(value, None, None)
    return Share(value, float(np.mean(draws)), upper_tail(value, np.array(draws)))


def group_sums(vectors: Values, groups: Ints, count: int) -> Values:
    """Sum the vectors of each group, (count, d)."""
    from scipy.sparse import csr_array

    places = np.arange(len(groups))
    table = csr_array((np.ones(len(groups)), (groups, places)), shape=(count, len(groups)))
    return np.asarray(table @ vectors)


def without_item(vectors: Values, items: Ints) -> Values:
    """Take from each vector the mean of the item's others (one vector for each person): eq. item_mean of the spec.

    Leaving oneself out matters: with the whole mean the residual shrinks by (n - 1) / n, and knows itself. An item with
    one person has no others: its residual is 0, which says nothing.
    """
    counts = np.bincount(items)
    others = group_sums(vectors, items, len(counts))[items] - vectors
    left = (counts[items] - 1)[:, None]
    return np.where(left > 0, vectors - others / np.maximum(left, 1), 0.0)


def permuted_people(people: Ints, items: Ints, permutations: int, seed: int = 0) -> Ints:
    """Permute people within each item, (permutations, n). Each item keeps its people, each person their count."""
    rng = np.random.default_rng(seed)
    order = np.argsort(items, kind="stable")
    found = np.empty((permutations, len(people)), dtype=np.int64)
    for row in found:
        shuffled = order[np.lexsort((rng.random(len(order)), items[order]))]
        row[order] = people[shuffled]
    return found


def upper_tail(value: float, draws: Values) -> float:
    """Give the p-value of a value that is large under the alternative; equal ones but for rounding count as equal."""
    return float((1 + (draws >= value - 1e-9 * max(1.0, abs(value))).sum()) / (1 + len(draws)))


def halves(items: Ints, seed: int = 0) -> NDArray[np.bool_]:
    """Part items at random into halves; tells of each unit whether it is in the first."""
    names, places = np.unique(items, return_inverse=True)
    first = np.zeros(len(names), dtype=np.bool_)
    first[np.random.default_rng(seed).permutation(len(names))[: len(names) // 2]] = True
    return first[places]


def split_half(vectors: Values, owners: Ints, first: NDArray[np.bool_], people: int) -> Values:
    """Give S = mean_a cos(c_a1, c_a2) - mean_{a != b} cos(c_a1, c_b2) of people's centroids in two halves of the items.

    Args:
        vectors: (n, d); content should be taken out of them, or the common part of all centroids makes S small.
        owners: (draws, n): the data, and permutations of them.
        first: whether a unit is in the first half.
        people: how many there are.

    Returns:
        (draws,), in [-2, 2]. A centroid of length 0 has cosine 0 with all.
    """
    found = np.empty(len(owners))
    off = ~np.eye(people, dtype=np.bool_)
    for place, whose in enumerate(owners):
        sums = group_sums(vectors, whose + people * first, 2 * people)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        unit = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 1e-12)
        cosines = unit[people:] @ unit[:people].T
        found[place] = np.diag(cosines).mean() - cosines[off].mean()
    return found


class Association(NamedTuple):
    """A table of counts and whether its rows differ."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]  # people
    counts: tuple[tuple[int, ...], ...]
    chi2: float
    df: int
    p: float
    v: float  # Cramér's V, in [0, 1]
    n: int


def association(values: list[str], people: list[str]) -> Association | None:
    """Test whether people differ in a category: Pearson's chi squared, Cramér's V = sqrt(chi2 / (n (min(r, c) - 1))).

    Responses without a category (empty) are left out. None where fewer than two categories or people are left. The test
    takes responses as independent; the permutation test of the view `category` does not need that.
    """
    known = [(value, person) for value, person in zip(values, people, strict=True) if value]
    rows, columns = sorted({value for value, _ in known}), sorted({person for _, person in known})
    if len(rows) < 2 or len(columns) < 2:
        return None
    counts = np.zeros((len(rows), len(columns)), dtype=np.int64)
    np.add.at(counts, ([rows.index(v) for v, _ in known], [columns.index(p) for _, p in known]), 1)
    found: Any = stats.chi2_contingency(counts, correction=False)
    chi2, p, df = (float(value) for value in (found.statistic, found.pvalue, found.dof))
    v = float(np.sqrt(chi2 / (len(known) * (min(counts.shape) - 1))))
    table = tuple(tuple(row) for row in counts.tolist())
    return Association(tuple(rows), tuple(columns), table, chi2, int(df), p, v, len(known))
