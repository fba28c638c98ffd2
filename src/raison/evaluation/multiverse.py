"""The multiverse: how often the conclusion changes with choices that nobody would report.

Every evaluation of rationales fixes a budget, a mask operator, a prompt, a rule for sub-tokens, a subset of records, a
target. Cross them, look in every universe which method wins, and see which choice changes the winner (Steegen et al.
2016, Increasing transparency through a multiverse analysis).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import msgspec
import numpy as np

from raison.records import InputError

DIGITS = 6  # after the point, to which values are compared; universes are written so


class Universe(msgspec.Struct, frozen=True):
    """One way to do the evaluation, and what came of it."""

    choices: dict[str, str]  # factor -> level
    values: dict[str, float | None]  # source -> value of the metric; None = undefined
    withheld: str = ""  # empty, or why the sources can't be ranked here

    def winner(self, better: str = "higher") -> str | None:
        """Give the best source; None where several are, or where none can be named."""
        best = self._best(better)
        return best[0] if len(best) == 1 else None

    def tied(self, better: str = "higher") -> bool:
        """Whether two or more sources are best, equal to 6 digits after the point."""
        return len(self._best(better)) > 1

    def _best(self, better: str) -> list[str]:
        sign = 1 if better == "higher" else -1
        known = {source: sign * value for source, value in self.values.items() if value is not None}
        if self.withheld or not known:
            return []
        top = max(known.values())
        return [source for source, value in known.items() if round(top - value, DIGITS) == 0]


class Factor(msgspec.Struct, frozen=True):
    """What one choice does to the conclusion."""

    name: str
    levels: list[str]
    switched: float | None  # share of pairs of universes, alike but for this choice, that have different winners
    pairs: int  # how many such pairs could be looked at
    spread: float | None  # share of the variance of the lead that this choice explains by itself (eta squared)
    winners: dict[str, dict[str, int]]  # level -> winner -> universes


class Multiverse(msgspec.Struct, frozen=True):
    """The result of crossing choices."""

    metric: str
    better: str  # "higher" or "lower"
    universes: list[Universe]
    winners: dict[str, int]  # source -> universes that it wins, most first
    tied: int  # universes in which the best are equal, so that nobody wins
    withheld: int  # universes that rank nobody
    factors: list[Factor]  # the choice that changes the winner most comes first


def analyse(metric: str, universes: Sequence[Universe], better: str = "higher") -> Multiverse:
    """Say how often each source wins, and which choice changes the winner.

    Universes that are tied have no winner, and like those that are withheld stand in no pair.

    The lead of a universe, whose variance is explained, is the value of the source that wins most often minus the best
    of the others.

    Args:
        metric: what the values are of.
        universes: with the same factors, each combination of levels at most once.
        better: "higher" or "lower".

    Raises:
        InputError: there is no universe, they have different factors, a combination is there twice, or no two sources
            compete.
    """
    if not universes:
        raise InputError("a multiverse needs at least one universe")
    names = list(universes[0].choices)
    seen = Counter(tuple(sorted(universe.choices.items())) for universe in universes)
    if any(set(universe.choices) != set(names) for universe in universes):
        raise InputError("the universes differ in which choices they make")
    if seen.most_common(1)[0][1] > 1:
        raise InputError(f"a universe is there twice: {dict(seen.most_common(1)[0][0])}")
    compete(source for universe in universes for source in universe.values)
    won = [universe.winner(better) for universe in universes]
    tied = sum(universe.tied(better) for universe in universes)
    winners = dict(Counter(name for name in won if name is not None).most_common())
    lead = _lead(universes, next(iter(winners), ""), better)
    factors = [_factor(name, universes, won, lead) for name in names]
    return Multiverse(
        metric=metric,
        better=better,
        universes=list(universes),
        winners=winners,
        tied=tied,
        withheld=won.count(None) - tied,
        factors=sorted(factors, key=lambda factor: -(factor.switched or 0)),
    )


def compete(sources: Iterable[str]) -> None:
    """Refuse fewer than two sources.

    Raises:
        InputError: nothing competes.
    """
    if len(names := set(sources)) < 2:
        raise InputError(f"nothing competes with {names.pop() if names else 'nothing'}; name at least two methods")


def _lead(universes: Sequence[Universe], source: str, better: str) -> list[float]:
    """Give by how much one source is ahead of the best other in each universe; NaN where that is undefined."""
    sign = 1 if better == "higher" else -1
    found: list[float] = []
    for universe in universes:
        own = universe.values.get(source)
        others = [sign * value for name, value in universe.values.items() if value is not None and name != source]
        defined = own is not None and others and not universe.withheld
        found.append(sign * own - max(others) if defined and own is not None else np.nan)
    return found


def _factor(name: str, universes: Sequence[Universe], won: Sequence[str | None], lead: Sequence[float]) -> Factor:
    levels = list(dict.fromkeys(universe.choices[name] for universe in universes))
    alike: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for universe, winner in zip(universes, won, strict=True):
        rest = tuple(sorted((key, level) for key, level in universe.choices.items() if key != name))
        alike.setdefault(rest, []).extend([winner] if winner is not None else [])
    pairs = [one != other for group in alike.values() for one, other in combinations(group, 2)]
    winners = {
        level: dict(
            Counter(
                winner
                for universe, winner in zip(universes, won, strict=True)
                if universe.choices[name] == level and winner is not None
            ).most_common()
        )
        for level in levels
    }
    groups = {level: [x for u, x in zip(universes, lead, strict=True) if u.choices[name] == level] for level in levels}
    return Factor(name, levels, float(np.mean(pairs)) if pairs else None, len(pairs), eta_squared(groups), winners)


def eta_squared(groups: Mapping[str, Sequence[float]]) -> float | None:
    """Give the share of the variance of all values that lies between groups; NaN values are left out.

    None where all values are equal or fewer than two.
    """
    known = [np.array([value for value in values if not np.isnan(value)]) for values in groups.values()]
    known = [values for values in known if len(values)]
    together = np.concatenate(known) if known else np.empty(0)
    total = float(((together - together.mean()) ** 2).sum()) if len(together) > 1 else 0.0
    if total == 0:
        return None
    return float(sum(len(values) * (values.mean() - together.mean()) ** 2 for values in known)) / total
