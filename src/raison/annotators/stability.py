"""Is there a person to learn? Identification by view, reduction and group size, beside chance and permutations.

What the paper says of it: single annotations carry a weak signal of who wrote them, as the input's content dominates;
after content is reduced and several annotations of one person are pooled, it is found. How it computes this is not
known; this is our reconstruction: TF-IDF terms in two texts or more, 200 dimensions fitted on training folds, columns
scaled to variance 1, a logistic regression of C = 1. It reproduces a reference table of VariErr and Paraphrase but for
cells that `tests/annotators/test_stability_real.py` lists: most of words from the input, which hardly tell people.
"""

from collections.abc import Collection, Mapping, Sequence
from math import log
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from raison.annotators import crossfit
from raison.annotators.attribution import Identification, identify_scores
from raison.annotators.crossfit import Fold, Units
from raison.annotators.responses import Response, responses_of
from raison.annotators.variance import (
    Association,
    Share,
    association,
    halves,
    permuted_people,
    split_half,
    upper_tail,
    variance_share,
)
from raison.annotators.vectors import Encode, part_vectors
from raison.annotators.verdict import Finding, Layer, conclude, traits_of
from raison.annotators.views import VIEWS, View, categories_of, labels_of
from raison.records import InputError, Record

Values = NDArray[np.float64]
Ints = NDArray[np.int64]

KS = (1, 2, 5, 10, 20, 50)
FOLDS = 5
LEAST_ITEMS = 10
REDUCTIONS = ("none", "item", "ridge")
GROUPS = 100  # of each person and k in a permutation
WANTED = 0.9  # accuracy from which a person counts as told apart
GRID = np.linspace(-8, 16, 1201)  # of unit normals, for integrals
FARTHEST = 1000  # items up to which the law of d' is followed
_MISSING = {"label": "a label", "reasoning": "a category"}


class Null(msgspec.Struct, frozen=True):
    """Accuracy at k of least squares, beside what it is where people within an item are permuted."""

    k: int
    observed: float
    low: float  # 2.5 % and 97.5 % of the permutations
    high: float
    p: float


class Looked(msgspec.Struct, frozen=True):
    """One view under one reduction of content."""

    view: str
    reduction: str  # none, item (what others said of the item is taken away), ridge (what input and label predict is)
    identified: tuple[Identification, ...]  # one for each k
    nulls: tuple[Null, ...]  # one for each k that there is
    exponent: float | None  # e of d'_k = d'_1 k^e; one half if what items tell is independent; None = too few k
    items_needed: int | None  # for accuracy .9; None = never, by the curve fitted
    split_half: float  # S
    split_half_p: float
    responses: int


class Stability(msgspec.Struct, frozen=True):
    """The whole result."""

    people: tuple[str, ...]
    items: int
    responses: int
    looked: tuple[Looked, ...]
    item_share: Share  # of the variance of the raw texts' vectors
    person_share: Share
    categories: Association | None
    finding: Finding
    notes: tuple[str, ...]
    seed: int

    def at(self, view: str, reduction: str = "none") -> Looked:
        """Give one view under one reduction.

        Raises:
            KeyError: there is none.
        """
        for looked in self.looked:
            if (looked.view, looked.reduction) == (view, reduction):
                return looked
        raise KeyError((view, reduction))


class Plan(NamedTuple):
    """How much is drawn."""

    ks: tuple[int, ...] = KS
    permutations: int = 200  # 99 or more, or no layer of five could ever be found after Holm
    resamples: int = 200
    seed: int = 0


class _Said(NamedTuple):
    """The responses that a view can see, with their items."""

    responses: list[Response]
    records: list[Record]
    units: Units


def stability(
    records: Sequence[Record],
    views: Sequence[str] = tuple(VIEWS),
    *,
    encoders: Mapping[str, Encode] | None = None,
    without: Collection[str] = (),
    plan: Plan | None = None,
) -> Stability:
    """Ask whether people can be told apart by how they label and explain, and by what.

    Args:
        records: with annotations of people; any order gives the same result.
        views: names in `VIEWS`. Those that the data don't have (no labels that differ, no category) are not tested,
            which the notes say, and the verdict where nothing was found.
        encoders: further views: a name and a function from texts to vectors, of the texts as they stand.
        without: annotators who opted out.
        plan: group sizes and draws.

    Raises:
        InputError: a view is unknown; there are fewer than two people or ten items; the data have none of the views.
    """
    plan = plan or Plan()
    unknown = [view for view in views if view not in VIEWS]
    if unknown:
        raise InputError(f"unknown view {unknown[0]!r}; expected {', '.join(VIEWS)}")
    said, notes = _known(responses_of(records, without))
    people = tuple(sorted({response.annotator for response in said}))
    by_id = {record.id: record for record in records}
    looked: list[Looked] = []
    layers: list[Layer] = []
    shares = (Share(None, None, None), Share(None, None, None))
    chosen = {name: VIEWS[name] for name in views}
    for name, encode in (encoders or {}).items():
        chosen[name] = VIEWS["raw"]._replace(kind=encode)
    for name, view in chosen.items():
        seen = _seen(said, by_id, people, view, plan.seed)
        folds = _folds(seen, view, plan.seed) if isinstance(seen, _Said) else None
        if isinstance(seen, str) or folds is None:
            notes.append(f"view {name}: not tested: {seen if isinstance(seen, str) else 'all have the same'}")
            continue
        for reduction, reduced in _reduced(folds, seen, view, plan.seed).items():
            found, layer = _look(name, view, reduction, reduced, seen, people, plan)
            looked.append(found)
            layers += layer
        if name == "raw":
            shares = _shares(seen, plan)
    if not looked:
        raise InputError(f"stability: nothing can be tested; {'; '.join(notes) or 'no view is asked for'}")
    tested = {layer.name for layer in layers}
    untested = [view.layer for view in chosen.values() if view.stands and view.layer not in tested]
    categories = association(categories_of(said), [response.annotator for response in said])
    return Stability(
        people, len({response.record_id for response in said}), len(said), tuple(looked), *shares, categories,
        conclude(layers, _needed(looked), traits_of(said, people), untested), tuple(notes), plan.seed,
    )  # fmt: skip


def _known(said: Sequence[Response]) -> tuple[list[Response], list[str]]:
    """Keep people with enough items, in an order that does not depend on the file's; and say who is left out."""
    counts = {
        person: len({response.record_id for response in said if response.annotator == person})
        for person in sorted({response.annotator for response in said})
    }
    kept = [person for person, count in counts.items() if count >= LEAST_ITEMS]
    if len(kept) < 2:
        raise InputError(
            f"stability: expected 2 people or more with {LEAST_ITEMS} items or more each, "
            f"got {len(kept)} of {len(counts)}"
        )
    notes = [f"left out: {len(counts) - len(kept)} people with fewer than {LEAST_ITEMS} items"]
    found = sorted(
        (response for response in said if counts[response.annotator] >= LEAST_ITEMS),
        key=lambda one: (one.record_id, one.annotator, one.number),
    )
    return found, notes if len(kept) < len(counts) else []


def _seen(
    said: Sequence[Response], by_id: Mapping[str, Record], people: Sequence[str], view: View, seed: int
) -> _Said | str:
    """Keep the responses that a view can see, as units; or say why there are not enough."""
    given = {"label": labels_of(said), "reasoning": categories_of(said)}
    texts = [response.explanation for response in said]
    kept = [
        response for response, value in zip(said, given.get(view.layer, texts), strict=True) if value not in (None, "")
    ]
    keys = sorted({(response.record_id, response.annotator) for response in kept})
    counts = [sum(person == name for _, person in keys) for name in people]
    if not keys:
        return f"no record has {_MISSING.get(view.layer, 'an explanation')}"
    if min(counts) < LEAST_ITEMS:
        return f"fewer than {LEAST_ITEMS} items of {people[counts.index(min(counts))]} have it"
    place = {key: index for index, key in enumerate(keys)}
    rows = np.array([place[response.record_id, response.annotator] for response in kept])
    ids = {name: index for index, name in enumerate(sorted({item for item, _ in keys}))}
    items = np.array([ids[item] for item, _ in keys])
    labels: list[set[str]] = [set() for _ in keys]
    for row, label in zip(rows, labels_of(kept), strict=True):
        labels[row].add(label)
    _, codes = np.unique(["\t".join(sorted(label)) for label in labels], return_inverse=True)
    owners = np.array([people.index(person) for _, person in keys])
    folds = crossfit.folds_of(items, FOLDS, seed)
    return _Said(kept, [by_id[response.record_id] for response in kept], Units(rows, items, owners, codes, folds))


def _folds(seen: _Said, view: View, seed: int) -> list[Fold] | None:
    table = view.of(seen.responses, seen.records)
    if table is None:
        return None
    if isinstance(table, list):
        return crossfit.text_folds(table, seen.units, view.kind, seed)
    return crossfit.number_folds(table, seen.units)


def _reduced(folds: list[Fold], seen: _Said, view: View, seed: int) -> dict[str, list[Fold]]:
    """Take content out in each way; ridge for whole texts alone, which need it and for which the reference has it."""
    found = {"none": folds, "item": crossfit.item_residuals(folds, seen.units)}
    if view.layer in ("all", "phrasing") and view.rest:
        inputs = [" ".join(record.fields.values()) for record in seen.records]
        known = crossfit.text_folds(inputs, seen.units, "words", seed)
        found["ridge"] = crossfit.ridge_residuals(folds, known, seen.units)
    return found


def _look(  # noqa: PLR0917
    name: str, view: View, reduction: str, folds: list[Fold], seen: _Said, people: Sequence[str], plan: Plan
) -> tuple[Looked, list[Layer]]:
    """Identify people at each k, and test it; the layer of a verdict where this view stands for one."""
    units, count = seen.units, len(people)
    scores = crossfit.held_out_scores(folds, units, count)
    identified = tuple(
        identify_scores(scores, units.people, k, items=units.items, resamples=plan.resamples, seed=plan.seed)
        for k in plan.ks
    )
    owners = np.vstack([units.people, permuted_people(units.people, units.items, plan.permutations, plan.seed)])
    squares = crossfit.least_squares_scores(folds, owners, count)
    nulls = tuple(_null(squares, owners, found.k, plan.seed) for found in identified if not found.undefined)
    halved = split_half(folds[0].vectors, owners, halves(units.items, plan.seed), count)
    exponent, needed = _law(identified, count)
    found = Looked(
        name, reduction, identified, nulls, exponent, needed, float(halved[0]), upper_tail(halved[0], halved[1:]),
        len(seen.responses),
    )  # fmt: skip
    return found, _layer(found, view, folds, units, count, plan) if view.stands and reduction == "item" else []


def _null(scores: NDArray[np.float32], owners: Ints, k: int, seed: int) -> Null:
    found = crossfit.accuracies(scores, owners, k, GROUPS, seed)
    low, high = np.quantile(found[1:], [0.025, 0.975])
    return Null(k, float(found[0]), float(low), float(high), upper_tail(found[0], found[1:]))


def _layer(  # noqa: PLR0917
    found: Looked, view: View, folds: list[Fold], units: Units, people: int, plan: Plan
) -> list[Layer]:
    """Test a layer for the verdict: beyond the label, unless it is the label itself or the whole.

    Among people who gave an item the same label, whose is what is permuted. Where too few did, there is no such test.
    """
    strata = units.items
    if view.layer not in ("label", "all"):
        _, strata = np.unique(units.items * (units.labels.max() + 1) + units.labels, return_inverse=True)
    if len(np.unique(strata)) == len(strata):
        return []
    owners = np.vstack([units.people, permuted_people(units.people, strata, plan.permutations, plan.seed + 1)])
    hits = crossfit.accuracies(crossfit.least_squares_scores(folds, owners, people), owners, 1, GROUPS, plan.seed)
    return [Layer(view.layer, found.view, float(hits[0]), float(hits[1:].mean()), upper_tail(hits[0], hits[1:]))]


def _shares(seen: _Said, plan: Plan) -> tuple[Share, Share]:
    texts = [response.explanation or "" for response in seen.responses]
    (vectors,) = part_vectors(texts, "chars", [np.ones(len(texts), dtype=np.bool_)], seed=plan.seed)
    units, draws = seen.units, min(plan.permutations, 100)
    return tuple(  # pyright: ignore[reportReturnType]
        variance_share(vectors, groups[units.rows], permutations=draws, seed=plan.seed)
        for groups in (units.items, units.people)
    )


# ------------------------------------------------------------------------------------------------------ d'


def accuracy_of(d_prime: float, people: int) -> float:
    """Give the accuracy of choosing one of m people by the largest of m unit normals, one moved by d'.

    P = integral of phi(x - d') Phi(x)^(m - 1) dx (Green and Swets 1966): 1 / m at d' = 0.
    """
    seen = GRID - d_prime
    return float(np.exp(-0.5 * seen**2) @ special.ndtr(GRID) ** (people - 1) * (GRID[1] - GRID[0]) / np.sqrt(2 * np.pi))


def d_prime_of(accuracy: float, people: int) -> float:
    """Invert `accuracy_of`; 0 at chance or below, infinite at 1."""
    if accuracy <= 1 / people:
        return 0.0
    if accuracy >= accuracy_of(8.0, people):
        return float("inf")
    root: Any = optimize.brentq(lambda d: accuracy_of(d, people) - accuracy, 0.0, 8.0)
    return float(root)


def _law(identified: Sequence[Identification], people: int) -> tuple[float | None, int | None]:
    """Fit log d'_k = log d'_1 + e log k, where accuracy is off chance and off 1; and find k for accuracy .9."""
    known = [(found.k, found.accuracy.value) for found in identified if found.accuracy.value is not None]
    reached = [k for k, accuracy in known if accuracy >= WANTED]
    inside = [
        (log(k), log(d_prime_of(accuracy, people))) for k, accuracy in known if 1 / people + 0.02 < accuracy < 0.995
    ]
    line = np.polyfit([x for x, _ in inside], [y for _, y in inside], 1) if len(inside) >= 2 else None
    exponent = None if line is None else float(line[0])
    if exponent is None or not exponent > 0 or not known:
        return exponent, min(reached) if reached else None
    first = np.mean([y - exponent * x for x, y in inside])
    far = min(
        (log(d_prime_of(WANTED, people)) - first) / exponent, log(FARTHEST + 1)
    )  # all but flat: beyond any number
    needed = int(np.ceil(np.exp(far) - 1e-9))
    return exponent, max(1, min([needed, *reached])) if needed <= FARTHEST or reached else None


def _needed(looked: Sequence[Looked]) -> int | None:
    """Give how many items it takes, content and all: by the whole texts; by any view where nobody looked at these."""
    needed = {found.view: found.items_needed for found in looked if found.reduction == "none" and found.items_needed}
    for whole in ("raw", "normalised"):
        if whole in needed:
            return needed[whole]
    return min(needed.values(), default=None)
