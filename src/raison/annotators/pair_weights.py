"""How much a pair of responses counts: factors between 0 and 1, each a function of the two, multiplied.

None of them is the paper's, of which nothing is known about weights. Every factor is the same for (a, b) and (b, a), so
that the symmetric pairs of the tagged form stay symmetric.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NamedTuple, cast, get_args

from raison.annotators.preference_pair import Source
from raison.annotators.responses import Response
from raison.annotators.splits import normalised
from raison.records import InputError

Weight = Literal["per-item", "validity", "distinctiveness", "ordinal"]
WEIGHTS: tuple[str, ...] = get_args(Weight)


class Scale(NamedTuple):
    """What the weights of pairs need to know beside the two responses."""

    people: Mapping[str, int]  # item -> people with a response
    steps: Mapping[str, float] | None  # label -> number, see `ordinal_scale`; None = labels are only names

    def same(self, chosen: Response, rejected: Response) -> bool:
        """Whether two responses have one label; on a scale, labels on one side of its middle (or both on it)."""
        if self.steps is None:
            return chosen.label == rejected.label
        middle = (max(self.steps.values()) + min(self.steps.values())) / 2
        a, b = (self.steps[one.label or ""] - middle for one in (chosen, rejected))
        return (a > 0) == (b > 0) and (a < 0) == (b < 0)


def factors_of(
    names: Collection[str], chosen: Response, rejected: Response, source: Source, scale: Scale
) -> dict[str, float | None]:
    """Give the factors of a pair's weight by name; None where nothing is known, which counts as 1.

    Raises:
        InputError: `ordinal` of labels that are only names.
    """
    return {name: _FACTORS[name](chosen, rejected, source, scale) for name in names}


def words_of(text: str) -> list[str]:
    """Give the words of a text as they are compared, see `splits.normalised`; of punctuation alone, itself."""
    return normalised(text).split() or text.split()


def validity(response: Response) -> float | None:
    """Give the share of judges, without the author, to whom a response makes sense; None where nobody judged it."""
    judged = response.extra.get("judgments")
    if not isinstance(judged, dict):
        return None
    said = cast("dict[str, Any]", judged)
    peers = [verdict for name, verdict in said.items() if name != response.annotator and isinstance(verdict, bool)]
    return sum(peers) / len(peers) if peers else None


def similarity(a: str, b: str) -> float:
    """Give the Jaccard index of two texts' words; of two without words, 1."""
    some, others = set(words_of(a)), set(words_of(b))
    return len(some & others) / len(some | others) if some | others else 1.0


def _per_item(chosen: Response, _: Response, source: Source, scale: Scale) -> float:
    """1 / (n - 1) for an item with n people: as many pairs as it has, each response weighs as much as any other."""
    return 1 / (scale.people[chosen.record_id] - 1) if source == "people" else 1.0


def _validity(chosen: Response, rejected: Response, source: Source, _: Scale) -> float | None:
    """The share of peers to whom the chosen response makes sense, times the same of another person's rejected one."""
    shares = [validity(chosen), validity(rejected) if source == "people" else None]
    known = [share for share in shares if share is not None]
    return known[0] * (known[1] if len(known) > 1 else 1) if known else None


def _distinctiveness(chosen: Response, rejected: Response, _: Source, __: Scale) -> float:
    """1 - likeness of the explanations."""
    return 1 - similarity(chosen.explanation or "", rejected.explanation or "")


def _ordinal(chosen: Response, rejected: Response, _: Source, scale: Scale) -> float:
    """The distance of the labels as a share of the largest possible; so pairs with one label count nothing."""
    if scale.steps is None:
        raise InputError("weights: ordinal needs labels that are steps of a scale, and these are only names")
    steps = scale.steps.values()
    return abs(scale.steps[chosen.label or ""] - scale.steps[rejected.label or ""]) / (max(steps) - min(steps))


_FACTORS: dict[str, Callable[[Response, Response, Source, Scale], float | None]] = {
    "per-item": _per_item,
    "validity": _validity,
    "distinctiveness": _distinctiveness,
    "ordinal": _ordinal,
}
