"""Before and after: differences, interaction and parts against sums done by hand."""

import numpy as np
import pytest

from raison.evaluation.contrast import contrast
from raison.evaluation.results import Cell, Item, SourceItem, Verdict
from raison.records import InputError

RNG = np.random.default_rng(5)
N = 60
SOURCES = ("gradient", "attention", "prompted/unbound", "random")


def verdict(model, table, predicted=None, cells=()):
    """Make a verdict of metrics: (source, metric) -> one value for each record."""
    items = [
        Item(
            record_id=str(index),
            texts={"text": "a"},
            words={"text": [(0, 1)]},
            label="x",
            predicted=predicted[index] if predicted else "x",
            probability=None,
            people=[],
            sources={
                source: SourceItem(
                    words=[0],
                    scores=None,
                    metrics={
                        name: None if np.isnan(column[index]) else float(column[index])
                        for (whose, name), column in table.items()
                        if whose == source
                    },
                )
                for source in SOURCES
            },
        )
        for index in range(N)
    ]
    shown = [Cell("f1", source, "all", 0.5, None, None, N) for source in SOURCES]
    return Verdict(model, [*cells, *shown], [], [], None, [], items, {})


def make(seed):
    rng = np.random.default_rng(seed)
    table = {}
    for source in SOURCES:
        table[source, "f1"] = rng.random(N)
        table[source, "flip_rate"] = (rng.random(N) < 0.5).astype(float)
        table[source, "flip_rate.random"] = rng.random(N) * 0.3
        table[source, "flip_rate.full"] = (rng.random(N) < 0.8).astype(float)
    return table


def test_changes_are_differences_of_means_paired_by_record():
    old, new = make(1), make(2)
    old["gradient", "f1"][3] = np.nan
    found = contrast(verdict("base", old), verdict("tuned", new), resamples=500)
    assert (found.before, found.after, found.records) == ("base", "tuned", N)
    by_name = {(change.metric, change.source): change for change in found.changes}
    change = by_name["f1", "gradient"]
    kept = [index for index in range(N) if index != 3]
    mean = sum(new["gradient", "f1"][i] - old["gradient", "f1"][i] for i in kept) / len(kept)
    assert change.difference.value == pytest.approx(mean)
    assert change.difference.n == N - 1
    assert change.difference.low < mean < change.difference.high
    assert 0 < change.p <= change.p_holm <= 1
    rate = by_name["flip_rate_normalised", "attention"]

    def normalised(table):
        flip, random, full = (
            table["attention", name].mean() for name in ("flip_rate", "flip_rate.random", "flip_rate.full")
        )
        return (flip - random) / (full - random)

    assert rate.before == pytest.approx(normalised(old))
    assert rate.difference.value == pytest.approx(normalised(new) - normalised(old))
    assert rate.p is None


def test_the_interaction_is_the_difference_of_the_families_changes():
    old, new = make(3), make(4)
    found = contrast(verdict("base", old), verdict("tuned", new), resamples=300)
    (interaction,) = [one for one in found.interactions if one.metric == "f1"]
    moved = {source: np.mean(new[source, "f1"] - old[source, "f1"]) for source in SOURCES}
    attributed = (moved["gradient"] + moved["attention"]) / 2
    assert interaction.attributed == pytest.approx(attributed)
    assert interaction.prompted == pytest.approx(moved["prompted/unbound"])
    assert interaction.difference.value == pytest.approx(attributed - moved["prompted/unbound"])


def test_the_parts_add_up_to_the_change():
    old, mixed, new = make(5), make(6), make(7)
    found = contrast(verdict("base", old), verdict("tuned", new), verdict("tuned", mixed), resamples=300)
    changes = {(change.metric, change.source): change.difference.value for change in found.changes}
    assert found.parts
    for part in found.parts:
        total = part.maskable.value + part.explained.value
        assert total == pytest.approx(changes[part.metric, part.source])


def test_accuracy_and_what_can_not_be_read():
    old, new = make(1), make(1)
    right, wrong = ["x"] * N, ["y"] * 30 + ["x"] * 30
    withheld = Cell("flip_rate", "gradient", "all", 0.1, None, None, N, {}, "withheld: collapsed")
    found = contrast(verdict("base", old, wrong, [withheld]), verdict("tuned", new, right), resamples=300)
    assert found.accuracy.value == pytest.approx(0.5)
    (change,) = [one for one in found.changes if (one.metric, one.source) == ("flip_rate", "gradient")]
    assert change.verdict == "before: withheld: collapsed"
    assert change.difference.value == 0


def test_nothing_in_common_is_refused():
    one, other = verdict("base", make(1)), verdict("tuned", make(1))
    with pytest.raises(InputError, match="no record in common"):
        contrast(one, Verdict("tuned", other.cells, [], [], None, [], [], {}))
