"""The kit for people: what raters get and must not get, how sheets come back, and what is made of them."""

import csv
import io
import json
import math
import re
from collections import Counter
from xml.etree import ElementTree

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from crowd import PEOPLE, imitated, parted, records
from raison.annotators.material import HUMAN, OTHER, make_material
from raison.annotators.responses import Response
from raison.annotators.validation import COLUMNS, QUESTIONS, item_columns, make_kit, write_kit
from raison.annotators.validation_results import cohen_kappa, summarise_ratings, wilson_mean
from raison.annotators.validation_sheets import Rating, load_key, read_ratings
from raison.evaluation.statistics import mcnemar, sign_flip, wilson
from raison.records import InputError


def material(count=60, systems=("one",), said=None):
    rows = records(count)
    train, test, items = parted(rows)
    return make_material(rows, train, test, {name: said or imitated(items) for name in systems})


def sheet_rows(path):
    return [*csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")))]


def fill(path, answer):
    """Fill a sheet in; `answer(row)` gives the cells."""
    rows = [{**row, **answer(row)} for row in sheet_rows(path)]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return rows


# ------------------------------------------------------------------------------------------------------ the design


def test_every_slot_has_every_source_and_everything_else_is_the_same():
    key = make_kit(material(systems=("one", "two")), slots=12, shared=4)
    slots = {}
    for item in key.items:
        slots.setdefault(item.slot, []).append(item)
    assert len(slots) == 12
    for items in slots.values():
        assert [item.source for item in items] == [HUMAN, "one", "two", OTHER]
        assert (
            len({(item.target, item.rival, item.letter, item.record_id, str(item.references)) for item in items}) == 1
        )
        assert items[0].target != items[0].rival
    assert Counter(items[0].target for items in slots.values()) == dict.fromkeys(PEOPLE, 3)
    assert Counter(items[0].letter for items in slots.values()) == {"A": 6, "B": 6}
    assert len({(items[0].target, items[0].rival) for items in slots.values()}) == 12  # every pair of people once
    assert len({(items[0].target, items[0].record_id) for items in slots.values()}) == 12


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 15), st.integers(0, 15), st.integers(2, 4), st.integers(0, 1000))
def test_raters_share_what_they_should_and_no_more(slots, shared, count, seed):
    raters = [f"r{number}" for number in range(count)]
    if shared > slots:
        with pytest.raises(InputError, match=f"0 to {slots} shared, got {shared}"):
            make_kit(material(), raters=raters, slots=slots, shared=shared)
        return
    key = make_kit(material(), raters=raters, slots=slots, shared=shared, seed=seed)
    slot_of = {item.id: item.slot for item in key.items}
    times = Counter(name for ids in key.raters.values() for name in ids)
    assert set(times) == {*slot_of}
    assert {name for name, number in times.items() if number == count} == {
        name for name, slot in slot_of.items() if slot in key.shared
    }
    assert all(number in (1, count) for number in times.values())
    own = [len({slot_of[name] for name in ids}) for ids in key.raters.values()]
    assert max(own) - min(own) <= 1


def test_orders_are_each_raters_own_and_ids_say_nothing():
    key = make_kit(material(), slots=12, shared=12)
    first, second = key.raters.values()
    assert sorted(first) == sorted(second)
    assert first != second
    numbers = [int(item.id[1:]) for item in key.items]
    assert sorted(numbers) == [*range(1, len(numbers) + 1)]
    assert abs(np.corrcoef(numbers, [item.source == HUMAN for item in key.items])[0, 1]) < 0.5
    assert make_kit(material(), slots=12, shared=12) == key
    assert make_kit(material(), slots=12, shared=12, seed=1) != key


def test_what_raters_get(tmp_path):
    items = parted(records(60))[2]
    source = material(said=imitated(items, text="so says {item}"))
    key = make_kit(source, slots=8, shared=4)
    written = write_kit(tmp_path / "kit", tmp_path / "key.json", key, source)
    assert sorted(path.name for path in (tmp_path / "kit").iterdir()) == [
        "label-studio.xml", "rater-1.csv", "rater-1.label-studio.json", "rater-2.csv", "rater-2.label-studio.json",
    ]  # fmt: skip
    assert len(written) == 6
    assert load_key(tmp_path / "key.json") == key
    given = "".join(path.read_text(encoding="utf-8-sig") for path in (tmp_path / "kit").iterdir())
    assert not {*re.findall(r"\w+", given)} & {*PEOPLE, HUMAN, OTHER, "one", "source", "target", "rival", "slot"}
    items = {item.id: item for item in key.items}
    for rater, ids in key.raters.items():
        rows = sheet_rows(tmp_path / "kit" / f"{rater}.csv")
        tasks = json.loads((tmp_path / "kit" / f"{rater}.label-studio.json").read_text())
        assert [row["item"] for row in rows] == ids == [task["data"]["item"] for task in tasks]
        for row, task in zip(rows, tasks, strict=True):
            item = items[row["item"]]
            wanted = item_columns(item, source)
            assert {column: row[column] for column in wanted} == wanted
            assert {row[name] for name in (*QUESTIONS, "comment")} == {""}
            assert task["data"] == {
                "item": item.id, "rater": rater, "input": wanted["input"], "person_a": wanted["person A"],
                "person_b": wanted["person B"], "response": wanted["response"],
            }  # fmt: skip
            writer = item.rival if item.source == OTHER else item.target
            whose = source.texts[HUMAN if item.source == OTHER else item.source][writer, item.record_id]
            assert row["response"].endswith(whose.explanation)
            target = row[f"person {item.letter}"]
            for record_id in item.references[item.target]:
                assert source.train[item.target, record_id].explanation in target


def test_the_config_is_one_that_label_studio_takes(tmp_path):
    """Every control names an object that is there, every object a key of the data, every question is a choice."""
    source = material()
    write_kit(tmp_path / "kit", tmp_path / "key.json", make_kit(source, slots=2, shared=2), source)
    view = ElementTree.parse(tmp_path / "kit" / "label-studio.xml").getroot()
    data = json.loads((tmp_path / "kit" / "rater-1.label-studio.json").read_text())[0]["data"]
    assert view.tag == "View"
    shown = {one.get("name"): one.get("value") for one in view.iter("Text")}
    assert all(value == f"${name}" and name in data for name, value in shown.items())
    choices = {one.get("name"): one for one in view.iter("Choices")}
    assert [*choices] == [*QUESTIONS]
    for name, one in choices.items():
        assert one.get("toName") in shown
        assert one.get("choice") == "single-radio"
        assert [choice.get("value") for choice in one] == [*QUESTIONS[name][1], "unsure"]
    names = [one.get("name") for one in view.iter() if one.get("name")]
    assert len(names) == len(set(names))


def test_no_text_is_a_formula_for_a_spreadsheet(tmp_path):
    rows = records(40)
    train, test, items = parted(rows)
    said = [Response(one.id, who, None, '=HYPERLINK("x")') for one in items for who in PEOPLE]
    source = make_material(rows, train, test, {"one": said})
    write_kit(tmp_path / "kit", tmp_path / "key.json", make_kit(source, slots=4, shared=4), source)
    cells = [cell for row in sheet_rows(tmp_path / "kit" / "rater-1.csv") for cell in row.values()]
    assert any("HYPERLINK" in cell for cell in cells)
    assert not any(cell[:1] in ("=", "+", "-", "@") for cell in cells if cell)


def test_bad_kits(tmp_path):
    source = material()
    for raters in (["one"], ["a", "a"], ["a", "../b"], ["a", ""]):
        with pytest.raises(InputError, match="expected two or more different names"):
            make_kit(source, raters=raters)
    key = make_kit(source, slots=2, shared=1)
    with pytest.raises(InputError, match="the key lies in the folder that raters get"):
        write_kit(tmp_path, tmp_path / "deep" / "key.json", key, source)
    assert not [*tmp_path.iterdir()]
    assert len({item.slot for item in make_kit(source, slots=5_000, shared=0).items}) == 96  # all there are: 4 × 24


# ------------------------------------------------------------------------------------------------------ the return


@pytest.fixture
def kit(tmp_path):
    source = material()
    key = make_kit(source, slots=8, shared=4)
    write_kit(tmp_path / "kit", tmp_path / "key.json", key, source)
    return tmp_path / "kit", key


def perfect(key):
    items = {item.id: item for item in key.items}
    return lambda row: {"valid": "yes", "style": items[row["item"]].letter, "reasoning": items[row["item"]].letter}


def test_sheets_come_back_whatever_a_spreadsheet_did_to_them(kit):
    folder, key = kit
    one, two = folder / "rater-1.csv", folder / "rater-2.csv"
    fill(one, perfect(key))
    expected = read_ratings([one], key)
    text = one.read_text()
    rows = [*csv.reader(io.StringIO(text))]
    for delimiter, encoding, end in ((";", "utf-8-sig", "\r\n"), ("\t", "utf-8", "\n")):
        stream = io.StringIO()
        csv.writer(stream, delimiter=delimiter, lineterminator=end).writerows([row[::-1] for row in rows])
        one.write_text(stream.getvalue() + delimiter * (len(rows[0]) - 1) + end, encoding=encoding, newline="")
        found = read_ratings([one], key)
        assert [row.answers for row in found] == [row.answers for row in expected]
    fill(two, lambda row: {"valid": " YES ", "style": "b", "reasoning": "Unsure"})
    assert {str(row.answers) for row in read_ratings([two], key)} == {
        "{'valid': 'yes', 'style': 'B', 'reasoning': 'unsure'}"
    }
    assert len(read_ratings([one, two], key)) == len(expected) + len(key.raters["rater-2"])


def test_label_studio_exports_come_back(kit):
    folder, key = kit
    path = folder / "rater-1.label-studio.json"
    tasks = json.loads(path.read_text())

    def submitted(task, **answers):
        result = [
            {
                "from_name": name,
                "to_name": "response",
                "type": "choices",
                "value": {"choices": [said]},
                "id": "x",
                "origin": "manual",
            }
            for name, said in answers.items()
        ]
        comment = {"from_name": "comment", "to_name": "response", "type": "textarea", "value": {"text": ["hm"]}}
        return {
            **task,
            "id": 3,
            "project": 1,
            "predictions": [],
            "annotations": [
                {"id": 7, "completed_by": 1, "was_cancelled": False, "result": [*result, comment], "lead_time": 3.2}
            ],
        }

    skipped = submitted(tasks[2], valid="no")
    skipped["annotations"][0]["was_cancelled"] = True
    given = [submitted(tasks[0], valid="no", style="A", reasoning="B"), submitted(tasks[1], valid="yes"), skipped]
    path.write_text(json.dumps(given, indent=1))
    first, second = read_ratings([path], key)
    assert (first.item, first.rater) == (tasks[0]["data"]["item"], "rater-1")
    assert first.answers == {"valid": "no", "style": "A", "reasoning": "B"}
    assert second.answers == {"valid": "yes", "style": None, "reasoning": None}
    given[1]["annotations"] *= 2
    path.write_text(json.dumps(given, indent=1))
    with pytest.raises(
        InputError, match=r"label-studio.json:\d+: rater-1 has answered item '.*' already \(.*json:\d+\)"
    ):
        read_ratings([path], key)
    given[1]["annotations"] = [submitted(tasks[1], style="C")["annotations"][0]]
    path.write_text(json.dumps(given, indent=1))
    with pytest.raises(InputError, match=r"json:\d+: column 'style': 'C'; expected A, B or unsure"):
        read_ratings([path], key)
    path.write_text("[1]")
    with pytest.raises(InputError, match=r"json:1: expected `object`, got `int`"):
        read_ratings([path], key)
    path.write_text("[")
    with pytest.raises(InputError, match=r"json:1: expected one JSON array"):
        read_ratings([path], key)


@pytest.mark.parametrize("content", ["", "[]", "item,rater,valid,style,reasoning\n"])
def test_a_sheet_without_answers_is_refused(kit, tmp_path, content):
    (tmp_path / "sheet.txt").write_text(content)
    with pytest.raises(InputError, match=r"sheet\.txt: no answers in it; expected a filled sheet, or Label Studio's"):
        read_ratings([tmp_path / "sheet.txt"], kit[1])


def change(path, column, value, line=2):
    rows = [*csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig")))]
    rows[line][rows[0].index(column)] = value
    stream = io.StringIO()
    csv.writer(stream).writerows([[cell.replace("\n", " ") for cell in row] for row in rows])
    path.write_text(stream.getvalue())


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("item", "i99", "rater-1.csv:3: unknown item 'i99'"),
        ("item", "", "rater-1.csv:3: unknown item ''"),
        ("rater", "rater-9", "rater-1.csv:3: unknown rater 'rater-9'; the kit was made for rater-1, rater-2"),
        ("style", "C", "rater-1.csv:3: column 'style': 'C'; expected A, B or unsure"),
        ("valid", "A", "rater-1.csv:3: column 'valid': 'A'; expected yes, no or unsure"),
    ],
)
def test_a_bad_sheet_costs_one_line_with_file_and_line(kit, column, value, said):
    folder, key = kit
    change(folder / "rater-1.csv", column, value)
    with pytest.raises(InputError, match=re.escape(said)) as error:
        read_ratings([folder / "rater-1.csv"], key)
    assert "\n" not in str(error.value)


def test_more_bad_sheets(kit, tmp_path):
    folder, key = kit
    one, two = folder / "rater-1.csv", folder / "rater-2.csv"
    with pytest.raises(
        InputError, match=r"rater-1.csv:\d+: rater-1 has answered item 'i\d+' already \(.*rater-1.csv:2\)"
    ):
        read_ratings([one, one], key)
    foreign = next(name for name in key.raters["rater-2"] if name not in key.raters["rater-1"])
    change(one, "item", foreign)
    with pytest.raises(InputError, match=f"rater-1.csv:3: item '{foreign}' is not one of rater-1's"):
        read_ratings([one], key)
    two.write_text(two.read_text(encoding="utf-8-sig").replace("style", "styl"))
    with pytest.raises(InputError, match=r"rater-2.csv:1: unknown column 'style'; did you mean 'styl'"):
        read_ratings([two], key)
    with pytest.raises(InputError, match=r"absent.csv: no such file"):
        read_ratings([tmp_path / "absent.csv"], key)
    with pytest.raises(InputError, match=r"rater-1.csv: not the key of a kit"):
        load_key(one)
    with pytest.raises(InputError, match=r"absent.json: can't be read"):
        load_key(tmp_path / "absent.json")


# ----------------------------------------------------------------------------------------------------- the analysis


def cell(found, metric, source, slice="all"):
    (one,) = [row for row in found.cells if (row.metric, row.source, row.slice) == (metric, source, slice)]
    return one


def rating(key, rater, item, **answers):
    return Rating(item.id, rater, {**dict.fromkeys(QUESTIONS), **answers}, "x:1")


def other_letter(item):
    return "B" if item.letter == "A" else "A"


def test_shares_by_hand():
    """Slots all shared; rater-1 knows people and not the system, rater-2 knows all but leaves half unanswered."""
    key = make_kit(material(), slots=8, shared=8)
    ratings = []
    for item in key.items:
        right = item.letter if item.source != OTHER else other_letter(item)
        ratings.append(rating(key, "rater-1", item, style=other_letter(item) if item.source == "one" else right))
        half = item.slot % 2 == 0
        ratings.append(rating(key, "rater-2", item, style=right if half else None, valid="yes" if half else "unsure"))
    found = summarise_ratings(ratings, key)
    assert cell(found, "human_style", HUMAN).value == 1
    assert cell(found, "human_style", OTHER).value == 0
    one = cell(found, "human_style", "one")
    assert (one.value, one.n) == ((4 * 0.5 + 4 * 0) / 8, 8)  # both decided on four slots, and disagree
    assert one.frame == {"chance": 0.5, "ceiling": 1.0, "floor": 0.0}
    alone = cell(found, "human_style", "one", "rater=rater-2")
    assert (alone.value, alone.n) == (1, 4)
    assert (alone.low, alone.high) == pytest.approx((wilson(4, 4).low, 1))
    valid = cell(found, "human_valid", HUMAN)
    assert (valid.value, valid.n, valid.frame) == (1, 4, {"ceiling": 1.0, "floor": 1.0})
    assert cell(found, "human_reasoning", "one").value is None
    assert found.states["rater-2, style"] == {"decided": 12, "unsure": 0, "no answer": 12, "not returned": 0}
    assert found.states["rater-2, valid"] == {"decided": 12, "unsure": 12, "no answer": 0, "not returned": 0}
    agreed = next(row for row in found.agreement if row.question == "style")
    assert (agreed.agreed.value, agreed.agreed.n) == (8 / 12, 12)  # of the twelve that rater-2 decided
    (pair,) = [row for row in found.comparisons if row.metric == "human_style"]
    differences = [1 - 0.5] * 4 + [1.0] * 4
    assert (pair.a, pair.b, pair.difference, pair.n) == (HUMAN, "one", 0.75, 8)
    assert pair.p == sign_flip(differences)
    assert pair.verdict == "a higher"


def test_fewer_resamples_have_an_interval_too():
    key = make_kit(material(), slots=12, shared=12)
    said = [
        rating(key, rater, item, valid="yes" if (item.slot + (rater == "rater-2" and item.slot < 3)) % 2 else "no")
        for item in key.items
        for rater in key.raters
    ]
    found = summarise_ratings(said, key, resamples=200)
    alpha = next(row for row in found.agreement if row.question == "valid").alpha
    assert alpha.low is not None
    assert alpha.low < alpha.value < alpha.high


def test_nothing_returned():
    key = make_kit(material(), slots=4, shared=2)
    found = summarise_ratings([], key)
    assert all(one.value is None and one.n == 0 for one in found.cells)
    assert found.states["rater-1, valid"]["not returned"] == len(key.raters["rater-1"])
    assert all(
        one.kappa.value is None and one.alpha.value is None and one.agreed.value is None for one in found.agreement
    )


def test_raters_who_guess_are_at_chance_and_a_planted_difference_is_found():
    key = make_kit(material(150), slots=200, shared=100)
    rng = np.random.default_rng(0)
    know = {HUMAN: 0.9, "one": 0.5, OTHER: 0.1}
    items = {item.id: item for item in key.items}
    ratings = [
        rating(
            key,
            rater,
            items[name],
            style=items[name].letter if rng.random() < know[items[name].source] else other_letter(items[name]),
        )
        for rater, ids in key.raters.items()
        for name in ids
    ]
    found = summarise_ratings(ratings, key)
    for source, share in know.items():
        one = cell(found, "human_style", source)
        assert one.low <= share <= one.high
    (pair,) = [row for row in found.comparisons if row.metric == "human_style"]
    assert (pair.verdict, pair.p_holm < 0.001) == ("a higher", True)
    assert found.agreement[1].kappa.low < found.agreement[1].kappa.value < found.agreement[1].kappa.high


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_kappa_is_that_of_scikit_learn(pairs):
    first, second = np.array(pairs, dtype=float).T
    found = float(cohen_kappa(first, second))
    if len({*first, *second}) == 1:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(cohen_kappa_score(first, second))
    assert np.allclose(cohen_kappa(np.stack([first] * 3), np.stack([second] * 3)), found, equal_nan=True)


@given(st.lists(st.integers(0, 1), min_size=1, max_size=40), st.sampled_from((0.9, 0.95)))
def test_the_interval_of_zeros_and_ones_is_wilsons(values, level):
    ours, theirs = wilson_mean(values, level), wilson(sum(values), len(values), level=level)
    assert (ours.value, ours.low, ours.high, ours.n) == pytest.approx((theirs.value, theirs.low, theirs.high, theirs.n))


def test_agreement_of_three_raters_with_gaps_equals_the_packages_own():
    key = make_kit(material(), raters=("a", "b", "c"), slots=8, shared=8)
    rng = np.random.default_rng(3)
    table = rng.integers(0, 3, (3, len(key.items))).astype(float)  # 2 = no answer
    ratings = [
        rating(key, rater, item, reasoning=("A", "B", None)[int(table[row, column])])
        for row, rater in enumerate(key.raters)
        for column, item in enumerate(key.items)
    ]
    found = [one for one in summarise_ratings(ratings, key).agreement if one.question == "reasoning"]
    assert [one.raters for one in found] == [("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]
    table[table == 2] = np.nan
    for one in found:
        rows = table[["abc".index(name) for name in one.raters]]
        alpha = krippendorff.alpha(reliability_data=rows, level_of_measurement="nominal")
        assert one.alpha.value == pytest.approx(alpha)
        assert one.alpha.low <= alpha <= one.alpha.high
        if len(rows) == 2:
            both = rows[:, ~np.isnan(rows).any(axis=0)]
            assert one.kappa.value == pytest.approx(cohen_kappa_score(*both))
            assert one.agreed.value == pytest.approx((both[0] == both[1]).mean())


def test_with_one_rating_of_each_item_the_paired_test_agrees_with_mcnemar():
    key = make_kit(material(), slots=20, shared=0)
    ratings = []
    for rater, ids in key.raters.items():
        for item in (item for item in key.items if item.id in ids):
            knows = item.source == HUMAN or item.slot % 3 == 0
            ratings.append(rating(key, rater, item, style=item.letter if knows else other_letter(item)))
    found = summarise_ratings(ratings, key)
    (pair,) = [row for row in found.comparisons if row.metric == "human_style"]
    only_human = sum(slot % 3 != 0 for slot in range(20))
    assert pair.p == pytest.approx(mcnemar(only_human, 0), abs=0.002)
