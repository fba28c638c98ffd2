"""Statistics of all sources over one set of item draws, and the cells that they make."""

from collections.abc import Mapping
from math import nan

import msgspec
import numpy as np
from numpy.typing import NDArray

from raison.annotators import agreement
from raison.annotators.controls import ANOTHER, CONTROLS, HUMAN
from raison.annotators.resampling import (
    Panel,
    Values,
    bin_counts,
    centred,
    estimate,
    geometric_mean,
    identified,
    item_draws,
    label_counts,
    mean,
    weights_of,
)
from raison.annotators.scoring import Ground, signed
from raison.annotators.style import BINS, divergences
from raison.evaluation.results import Cell

KS = (1, 5, 10, 20)  # texts that are attributed together
COMPOSITE_K = 5
BY_PERSON = ("label", "rouge_l_margin", "mrr", "attribution_1", f"attribution_{COMPOSITE_K}", "style_js")


class Options(msgspec.Struct, frozen=True):
    """How systems are scored."""

    vectors: str = "words"  # what the attributor sees of a text
    divisor: float | None = None  # of the distance of ordinal labels; None = their range
    epsilon: float = 0.15  # of the alt-test: what a person's advantage may cost
    level: float = 0.95  # of intervals, and of the families of tests
    resamples: int = 1_000
    seed: int = 0


class Measured:
    """The panels of all sources with one set of item draws, so that what is compared is drawn alike."""

    def __init__(self, ground: Ground, panels: Mapping[str, Panel], options: Options) -> None:
        self.ground, self.panels, self.options = ground, panels, options
        self.chance = 1 / len(ground.people)
        self.draws = item_draws(len(ground.items), options.resamples, options.seed)
        numbers = ground.numbers
        whole = 1.0 if numbers is None else float(numbers.max() - numbers.min())
        self.divisor = None if numbers is None else options.divisor or whole
        self.found = {name: self._all(panel) for name, panel in panels.items()}
        for name in panels:
            self.found[name] |= self._relative(name)

    def _all(self, panel: Panel) -> dict[str, Values]:
        """Give every statistic of one source, (1 + resamples,), and of each person, (1 + resamples, people)."""
        weights = weights_of(panel, self.draws, self.options.seed)
        found = label_statistics(panel, weights, self.ground, self.divisor)
        found |= {name: mean(panel, weights, name) for name in panel.values}
        for k in KS:
            imitation, hits = map(centred, identified(panel, weights, k, self.options.seed))
            found |= {f"by_person.imitation_{k}": imitation, f"by_person.attribution_{k}": hits}
            found |= {f"imitation_{k}": _over_people(imitation), f"attribution_{k}": _over_people(hits)}
        apart = style_divergence(panel, weights)
        return found | {"by_person.style_js": apart, "style_js": _over_people(apart)}

    def _relative(self, name: str) -> dict[str, Values]:
        """Give what is read against the controls: normalised imitation, and the composite."""
        own, human, other = (self.found[source] for source in (name, HUMAN, ANOTHER))
        found = {
            f"imitation_{k}_normalised": _normalised(own[f"imitation_{k}"], human[f"imitation_{k}"], self.chance)
            for k in KS
        }
        parts = (
            _ratio(own["right_of_all"], other["right_of_all"]),
            _ratio(own["mrr_of_all"], human["mrr_of_all"]),
            found[f"imitation_{COMPOSITE_K}_normalised"],
        )
        return found | {"composite": geometric_mean(parts)}

    def composite(self, panel: Panel, weights: Values) -> Values:
        """Give the composite of a panel, against the controls as they are on all items."""
        human, other = self.found[HUMAN], self.found[ANOTHER]
        imitation = _over_people(identified(panel, weights, COMPOSITE_K, self.options.seed)[0])
        return geometric_mean((
            _ratio(mean(panel, weights, "right_of_all"), np.full(len(weights), other["right_of_all"][0])),
            _ratio(mean(panel, weights, "mrr_of_all"), np.full(len(weights), human["mrr_of_all"][0])),
            _normalised(imitation, np.full(len(weights), human[f"imitation_{COMPOSITE_K}"][0]), self.chance),
        ))  # fmt: skip

    def statistic(self, metric: str, panel: Panel, weights: Values) -> Values:
        """Give a statistic that systems are compared by."""
        if metric == "composite":
            return self.composite(panel, weights)
        if metric.startswith("imitation"):
            return _over_people(identified(panel, weights, COMPOSITE_K, self.options.seed)[0])
        if metric == "label":
            return label_statistics(panel, weights, self.ground, self.divisor)["label"]
        return mean(panel, weights, metric)

    def cells(self) -> list[Cell]:
        """Give the cells of every source, over all and for each person."""
        hidden = ("right_of_all", "mrr_of_all", "retrieved_of_all")
        metrics = [
            name for name in next(iter(self.found.values())) if name not in hidden and not name.startswith("by_person.")
        ]
        cells = [self._cell(metric, source, "all", None) for source in self.panels for metric in metrics]
        for place, person in enumerate(self.ground.people):
            slice = f"annotator={person}"
            by_source = {source: self._of_person(source, place) for source in self.panels}
            cells += [
                self._cell(metric, source, slice, by_source) for source in self.panels for metric in BY_PERSON
            ]  # fmt: skip
        return cells

    def _of_person(self, source: str, place: int) -> dict[str, Values]:
        panel = self.panels[source].only(place)
        weights = weights_of(panel, self.draws, self.options.seed)
        found = {
            "label": label_statistics(panel, weights, self.ground, self.divisor)["label"],
            **{name: mean(panel, weights, name) for name in ("rouge_l_margin", "mrr")},
        }
        of_people = {name: self.found[source][f"by_person.{name}"] for name in BY_PERSON[3:]}
        return found | {name: values[:, place] for name, values in of_people.items()}

    def _cell(self, metric: str, source: str, slice: str, found: Mapping[str, Mapping[str, Values]] | None) -> Cell:
        every = found or self.found
        one = estimate(every[source][metric], len(self.ground.items), self.options.level)
        frame = {name: _defined(every[name][metric][0]) for name in CONTROLS}
        return Cell(
            metric, source, slice, one.value, one.low, one.high, one.n,
            frame | self._chance(metric), self._why_not(metric, every[source]),
        )  # fmt: skip

    def _chance(self, metric: str) -> dict[str, float | None]:
        items = len(self.ground.items)
        known = {"mrr": float(np.sum(1 / np.arange(1, items + 1))) / items, "retrieved": 1 / items}
        if metric.startswith(("attribution_", "imitation_")):
            return {"chance": 0.0 if metric.endswith("normalised") else self.chance}
        if metric.endswith("_wins"):
            return {"chance": 0.5}
        return {"chance": known[metric]} if metric in known else {}

    def _why_not(self, metric: str, own: Mapping[str, Values]) -> str:
        """Say why a score of imitation can't be read: never without label and grounding."""
        if not metric.startswith(("attribution_", "imitation_", "composite")):
            return ""
        if np.isnan(own[metric][0]):
            return "too few texts that could be read"
        lacking = [name for name, key in (("label", "label"), ("grounding", "mrr")) if np.isnan(own[key][0])]
        return f"no {' and no '.join(lacking)} to stand beside it" if lacking else ""


# ---------------------------------------------------------------------------------------------- statistics


def label_statistics(panel: Panel, weights: Values, ground: Ground, divisor: float | None) -> dict[str, Values]:
    """Give the agreement of labels, each (draws,); `label` is sign accuracy for ratings around 0, else accuracy."""
    counts = label_counts(panel, weights, len(ground.labels))
    found = {
        "label": agreement.accuracy(counts),
        "accuracy": agreement.accuracy(counts),
        "macro_f1": agreement.macro_f1(counts),
        "kappa": agreement.kappa(counts),
    }
    if ground.numbers is not None and divisor is not None:
        found["distance"] = agreement.distance(counts, ground.numbers, divisor)
        if signed(ground):
            found["label"] = found["sign_accuracy"] = agreement.sign_accuracy(counts, ground.numbers)
    return found


def style_divergence(panel: Panel, weights: Values) -> Values:
    """Give the Jensen-Shannon divergence of each person's style features, their mean, (draws, people), in bits.

    Of several seeds their mean, as often as each is drawn: what models miss in opposite directions does not cancel.
    """
    runs = [panel.seeds == run for run in np.unique(panel.seeds)]
    found = np.stack([_divergence(panel, weights, own) for own in runs])  # (seeds, draws, people)
    times = np.stack([weights[:, own].sum(axis=1) for own in runs])[..., None] * ~np.isnan(found)
    return _ratio((np.nan_to_num(found) * times).sum(axis=0), times.sum(axis=0))


def _divergence(panel: Panel, weights: Values, rows: NDArray[np.bool_]) -> Values:
    kinds = (panel.wanted_bins, panel.given_bins)
    _, apart = divergences(*(bin_counts(bins[rows], weights[:, rows], BINS) for bins in kinds))
    return _over_people(apart)


def _over_people(values: Values) -> Values:
    """Give the mean over the last axis of what is defined; NaN where nothing is."""
    known = ~np.isnan(values)
    total = known.sum(axis=-1)
    return np.divide(np.nansum(values, axis=-1), total, out=np.full(total.shape, nan), where=total > 0)


def _normalised(own: Values, human: Values, chance: float) -> Values:
    """Give (own - chance) / (human - chance): 1 = as easily told as the person; NaN where the person is not told."""
    return _ratio(own - chance, human - chance)


def _ratio(part: Values, whole: Values) -> Values:
    return np.divide(part, whole, out=np.full(part.shape, nan), where=whole > 1e-9)


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
