"""Causal diagnosticity of metrics: by hand, turned round where lower is better, undefined where it must be."""

import numpy as np
import pytest
from msgspec import to_builtins

from raison.evaluation.diagnosticity import GRADED, LOWER, diagnosticity, grades_of, read_grades
from raison.evaluation.results import Item, SourceItem, Verdict
from raison.evaluation.statistics import bootstrap_mean, wilson
from raison.evaluation.validity import assess
from raison.records import InputError, write_json
from raison.report.glossary import METRICS


def items(**metrics):
    """Make records from metric -> [(value of the faithful, of the unfaithful), ...]; None = undefined."""
    rows = list(zip(*metrics.values(), strict=True))
    return [
        Item(
            record_id=str(index),
            texts={"text": "a b"},
            words={"text": [(0, 1), (2, 3)]},
            label=None,
            predicted="x",
            probability=0.5,
            people=[],
            sources={
                name: SourceItem(words=[], scores=None, metrics=dict(zip(metrics, values, strict=True)))
                for name, values in zip(("true", "wrong"), zip(*row, strict=True), strict=True)
            },
        )
        for index, row in enumerate(rows)
    ]


def test_by_hand():
    """Above, below, a tie up to rounding, above: (1 + 0 + 1/2 + 1) / 4."""
    pairs = [(0.6, 0.1), (0.2, 0.3), (0.5, 0.5 + 1e-9), (0.9, 0.0)]
    found = diagnosticity(items(comprehensiveness=pairs, sufficiency=pairs), "true", "wrong", resamples=500)
    assert found["comprehensiveness"].estimate.value == pytest.approx(0.625)
    assert found["sufficiency"].estimate.value == pytest.approx(0.375)  # lower is more faithful
    assert found["comprehensiveness"].ties == 0.25
    assert found["comprehensiveness"].estimate == bootstrap_mean([1, 0, 0.5, 1], resamples=500)
    assert list(found) == ["comprehensiveness", "sufficiency"]


def test_a_record_with_an_undefined_value_is_left_out():
    found = diagnosticity(items(tau_loo=[(1.0, 0.0), (None, 0.0), (0.3, None)]), "true", "wrong")["tau_loo"]
    assert found.estimate.n == 1
    assert found.estimate.value == 1.0
    nothing = diagnosticity(items(tau_loo=[(None, 0.0)]), "true", "wrong")["tau_loo"]
    assert nothing.estimate.value is None
    assert nothing.ties is None
    assert not nothing.informative


def test_informative_means_that_the_whole_interval_is_above_chance():
    rng = np.random.default_rng(0)
    coin = [(float(side), 1.0 - side) for side in rng.integers(0, 2, 100)]
    better = [(1.0, 0.0)] * 70 + [(0.0, 1.0)] * 30
    found = diagnosticity(items(aopc_comprehensiveness=coin, flip_rate=better), "true", "wrong", resamples=2000)
    assert not found["aopc_comprehensiveness"].informative
    assert found["flip_rate"].informative
    worse = diagnosticity(items(flip_rate=better), "wrong", "true", resamples=2000)
    assert not worse["flip_rate"].informative


def test_where_all_pairs_are_alike():
    """The bootstrap of equal values has no width: Wilson's interval says how few records there are."""
    few = diagnosticity(items(flip_rate=[(1.0, 0.0)] * 3), "true", "wrong")["flip_rate"]
    assert few.estimate == wilson(3, 3)
    assert not few.informative  # three of three may be luck
    assert diagnosticity(items(flip_rate=[(1.0, 0.0)] * 30), "true", "wrong")["flip_rate"].informative
    ties = diagnosticity(items(flip_rate=[(1.0, 1.0)] * 30), "true", "wrong")["flip_rate"]
    assert ties.estimate.value == 0.5
    assert ties.ties == 1.0
    assert not ties.informative


def test_directions_are_those_of_the_report():
    assert {name for name in GRADED if METRICS[name].better == "lower"} == set(LOWER)


def test_an_unknown_source_is_an_error():
    with pytest.raises(KeyError):
        diagnosticity(items(flip_rate=[(1.0, 0.0)]), "true", "other")


def judged(model="m"):
    """Make a verdict of two sources on four records, of which the model labels three right."""
    rows = items(flip_rate=[(1.0, 0.0), (0.0, 0.0), (1.0, 0.0), (1.0, 1.0)])
    validity = assess(["x"] * 4, ["x", "x", "x", "y"], ["x", "y"]) if model else None
    return Verdict(model, [], [], [], validity, [], rows, {"data": {"sha256": "abc"}})


def test_grades_of_a_verdict():
    found = grades_of(judged(), "true", ("wrong", "not there"))
    assert (found.model, found.records, found.accuracy) == ("m", 4, 0.75)
    assert found.against == {"wrong": diagnosticity(judged().items, "true", "wrong")}
    assert found.against["wrong"]["flip_rate"].estimate.value == 0.75  # 1 + 1/2 + 1 + 1/2, of 4
    with pytest.raises(ValueError, match="no model was run"):
        grades_of(judged(model=None), "true", ("wrong",))


def test_grades_come_back_from_disk(tmp_path):
    found = grades_of(judged(), "true", ("wrong",))
    write_json(tmp_path / "grades.json", to_builtins(found))
    assert read_grades(tmp_path / "grades.json") == found
    assert judged().graded(found).grades == found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file of grades"),
        (b"", "no grades as `raison grade` writes them"),
        (b"{", "no grades as"),
        (b"\xff\xfe", "no grades as"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "missing required field `model`"),
        (b'{"model": "m", "records": "many", "accuracy": 1, "against": {}}', "`$.records`"),
        (b'{"model": "m", "records": 1, "accuracy": 1, "against": {"random_words": {"f": 0.7}}}', "random_words"),
    ],
)
def test_a_bad_file_of_grades_is_one_line(tmp_path, content, message):
    path = tmp_path / "grades.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_grades(path)
    assert message in str(raised.value) or "[...]" in str(raised.value)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)
