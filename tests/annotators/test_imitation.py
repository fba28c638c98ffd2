"""Imitation as a whole: on made-up people, each control fools just the numbers that it should."""

import random
from functools import cache

import msgspec
import numpy as np
import pytest

from crowd import PEOPLE, explained, records
from raison.annotators import scoring
from raison.annotators.controls import ANOTHER, CONTROLS, HUMAN, MAJORITY, NEAREST
from raison.annotators.imitation import score
from raison.annotators.measuring import Options
from raison.annotators.responses import Response, responses_of
from raison.annotators.splits import split_items
from raison.records import Annotation, InputError, Record

ITEMS = records(100)
SPLIT = split_items(ITEMS)
SAID = responses_of(ITEMS)
TEST = responses_of(SPLIT.test)
OPTIONS = Options(resamples=60)
OWN = [
    msgspec.structs.replace(one, label=TEST[(i + 1) % len(TEST)].label) for i, one in enumerate(TEST)
]  # wrong labels
SWAPPED = {"ann": "ben", "ben": "ann", "cem": "dua", "dua": "cem"}
MIXED = [msgspec.structs.replace(one, annotator=SWAPPED[one.annotator]) for one in TEST]


@cache
def found():
    return score(SPLIT, SAID, {"own": [OWN], "mixed": [MIXED]}, OPTIONS)


def value(metric, source, slice="all"):
    return found().cell(metric, source, slice).value


def test_the_person_is_the_ceiling():
    for metric in ("label", "accuracy", "macro_f1", "rouge_l", "chrf", "imitation_5_normalised"):
        assert value(metric, HUMAN) == pytest.approx(1)
    assert value("style_js", HUMAN) == pytest.approx(0, abs=1e-12)
    assert value("attribution_5", HUMAN) > 0.9


def test_each_control_fools_its_own_numbers():
    for copier in (NEAREST, MAJORITY):
        assert value("attribution_5", copier) > 0.9
        assert value("copied_whole", copier) == 1
        assert value("mrr", copier) < value("mrr", HUMAN) - 0.2
    assert value("nearest_copied", NEAREST) == 1
    assert value("attribution_5", ANOTHER) == 0
    assert value("mrr", ANOTHER) > 0.8
    assert value("composite", HUMAN) > max(value("composite", name) for name in (ANOTHER, NEAREST, MAJORITY))


def test_systems_are_told_apart():
    assert value("attribution_5", "own") > 0.9
    assert value("attribution_5", "mixed") == 0
    assert value("rouge_l_margin", "own") == pytest.approx(value("rouge_l_margin", HUMAN))
    assert value("rouge_l_margin", "mixed") < 0
    by_metric = {one.metric: one for one in found().comparisons}
    assert by_metric["imitation_5_normalised"].verdict == "a higher"
    assert by_metric["rouge_l_margin"].p == pytest.approx(1 / 61)
    assert by_metric["mrr"].verdict.startswith("not resolved")  # both are what people said of the item


def test_every_cell_has_the_four_controls_in_its_frame():
    for cell in found().cells:
        assert set(CONTROLS) <= cell.frame.keys()
        assert cell.frame[HUMAN] == found().cell(cell.metric, HUMAN, cell.slice).value


def test_values_are_means_over_the_people():
    assert value("mrr", "own") == pytest.approx(np.mean([value("mrr", "own", f"annotator={who}") for who in PEOPLE]))
    shares = [value("attribution_5", "own", f"annotator={who}") for who in PEOPLE]
    assert value("attribution_5", "own") == pytest.approx(np.mean(shares))


def test_the_attributor_sees_dev_texts_and_no_others(monkeypatch):
    seen = []
    fit = scoring.fit_attributor
    monkeypatch.setattr(
        scoring, "fit_attributor", lambda texts, people, **how: seen.extend(texts) or fit(texts, people, **how)
    )
    score(SPLIT, SAID, {}, Options(resamples=2))
    assert sorted(seen) == sorted(one.explanation for one in responses_of(SPLIT.dev))


def test_order_makes_no_difference():
    rng = random.Random(0)
    mixed = {name: [rng.sample(run, len(run))] for name, run in (("own", OWN), ("mixed", MIXED))}
    assert score(SPLIT, rng.sample(SAID, len(SAID)), mixed, OPTIONS).cells == found().cells


def test_what_could_not_be_read_is_counted_and_never_guessed():
    half = [
        Response(one.record_id, one.annotator, None, None, failure="no line `Label:`") if i % 2 else one
        for i, one in enumerate(TEST)
    ]
    half = half[:-2]  # two are missing
    odd = [msgspec.structs.replace(one, label="perhaps") for one in TEST]
    result = score(SPLIT, SAID, {"half": [half], "odd": [odd]}, OPTIONS)
    assert result.counted["half"].failures == {"no line `Label:`": sum(one.failure is not None for one in half)}
    assert result.counted["half"].missing == 2
    assert result.counted["odd"].failures == {"a label that is not one": len(odd)}
    assert result.cell("label", "half").value == 1  # of those that were read
    assert result.cell("unread", "half").value == pytest.approx(1 - (len(TEST) // 2 - 1) / len(TEST))
    assert result.cell("composite", "half").value < 0.7 * result.cell("composite", HUMAN).value
    assert result.cell("label", "odd").value is None
    assert result.cell("attribution_5", "odd").verdict == "no label to stand beside it"
    assert any("half" in note and "2 missing" in note and "no line `Label:`" in note for note in result.notes)


def test_several_seeds_are_one_system():
    twice = score(SPLIT, SAID, {"two": [OWN, OWN], "one": [OWN]}, OPTIONS)
    for metric in ("label", "mrr", "rouge_l_margin"):
        assert twice.cell(metric, "two").value == pytest.approx(twice.cell(metric, "one").value)
    assert {one.verdict for one in twice.comparisons} == {"withheld: different numbers of seeds"}


def test_several_seeds_score_the_mean_of_each():
    """What three models do wrong in different ways does not cancel in what is counted over texts."""
    wordy = [msgspec.structs.replace(one, explanation=f"{one.explanation} and more, no doubt, of it") for one in MIXED]
    runs = [OWN, MIXED, wordy]
    given = {"all": runs, **{f"{index}": [run] for index, run in enumerate(runs)}}
    scored = score(SPLIT, SAID, given, Options(resamples=1), compared=[])
    for metric in ("label", "rouge_l", "mrr", "style_js", "attribution_1", "attribution_5", "imitation_20"):
        values = {name: scored.cell(metric, name).value for name in given}
        near = 0.02 if metric.startswith(("attribution", "imitation")) else 1e-9
        assert values["all"] == pytest.approx(np.mean([values[str(index)] for index in range(3)]), abs=near), metric


def test_several_labels_of_one_person():
    more = [msgspec.structs.replace(one, label="neutral", number=1) for one in TEST if one.label != "neutral"]
    result = score(SPLIT, [*SAID, *more], {"one": [TEST]}, OPTIONS)
    share = len(more) / len(TEST) / 3  # of three labels, one is left out where there were two
    assert result.cell("label_error", "one").value == pytest.approx(share)
    assert result.cell("label", "one").value == 1


def test_ratings_have_signs_and_a_distance():
    def rated(number):
        said = [
            Annotation(who, str((number + i) % 5 - 2), None, explained(who, number)) for i, who in enumerate(PEOPLE)
        ]
        return Record(f"r{number}", {"text": f"Thing {number}."}, "", None, ("-2", "-1", "0", "1", "2"), tuple(said))

    items = [rated(number) for number in range(60)]
    split = split_items(items)
    up = [msgspec.structs.replace(one, label=str(min(2, int(one.label) + 1))) for one in responses_of(split.test)]
    real = [int(one.label) for one in responses_of(split.test)]
    for divisor in (None, 5):
        result = score(split, responses_of(items), {"up": [up]}, Options(resamples=5, divisor=divisor))
        moved = np.mean([min(2, a + 1) - a for a in real])
        assert result.cell("distance", "up").value == pytest.approx(moved / (divisor or 4))
        signs = np.mean([np.sign(min(2, a + 1)) == np.sign(a) for a in real])
        assert result.cell("label", "up").value == result.cell("sign_accuracy", "up").value == pytest.approx(signs)
        assert result.provenance["config"]["divisor"] == (divisor or 4)


def test_portraits_say_who_the_person_is_and_where_they_part():
    portrait = next(one for one in found().portraits if one.annotator == "ann")
    assert portrait.profile.answers == len(SPLIT.train)
    assert sum(sum(row.values()) for row in portrait.moves["own"].values()) == len(SPLIT.test)
    said = [one for one in found().said if one.annotator == "ann"]
    assert len(said) == len(SPLIT.test)
    assert {one.voices["mixed"].taken_for for one in said} == {"ben"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"x": [[Response("nowhere", "ann", "neutral", "x")]]}, "item 'nowhere' as 'ann': this is no test item"),
        ({"x": [[Response(SPLIT.train[0].id, "ann", "neutral", "x")]]}, "this is no test item"),
        ({"x": [[Response(SPLIT.test[0].id, "eve", "neutral", "x")]]}, "unknown; the people are ann, ben"),
        ({"x": [TEST[:1] * 2]}, "it stands there twice"),
        ({HUMAN: [TEST]}, "a control has this name"),
        ({"x": []}, "no run"),
    ],
)
def test_what_fits_nothing_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        score(SPLIT, SAID, wrong, OPTIONS)


def test_an_attributor_needs_texts():
    with pytest.raises(InputError, match="dev items: 0 explanations of 'ann'; expected at least 2"):
        score(SPLIT._replace(dev=()), responses_of([*SPLIT.train, *SPLIT.test]), {}, OPTIONS)
