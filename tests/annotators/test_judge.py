"""Questions to a judge: what each shows, what all of them share, and what they must never show."""

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowd import HABITS, PEOPLE, explained, imitated, parted, records
from raison.annotators.judge import conversation, load_judge_wording, make_questions
from raison.annotators.material import HUMAN, OTHER, draw, make_material, normalised, references_of
from raison.annotators.responses import Response, responses_of
from raison.annotators.splits import split_items
from raison.records import InputError

WORDING = load_judge_wording()


def material(count=60, systems=("one",), **options):
    rows = records(count, **options)
    train, test, items = parted(rows)
    return make_material(rows, train, test, {name: imitated(items) for name in systems})


def asked(question, source):
    return conversation(question, source, WORDING)[-1]["content"]


def test_sources_stand_on_the_same_items_with_the_same_references_and_letters():
    found = make_questions(material(systems=("one", "two")), texts=(1, 5), groups=2, seed=3)
    groups = {}
    for question in found:
        key = (question.target, question.texts, question.group, question.rotation)
        groups.setdefault(key, []).append(question)
    assert len(found) == 4 * 2 * 2 * 4 * 4
    for rows in groups.values():
        assert [row.source for row in rows] == [HUMAN, "one", "two", OTHER]
        assert len({(row.options, row.items, str(row.references)) for row in rows}) == 1
        assert {row.writer for row in rows[:3]} == {rows[0].target}
        assert rows[3].writer != rows[0].target
    assert len({question.id for question in found}) == len(found)


def test_each_person_stands_once_in_every_position():
    found = make_questions(material(), groups=3)
    places = {}
    for question in found:
        key = (question.source, question.target, question.texts, question.group)
        places.setdefault(key, []).append(question.options)
    for orders in places.values():
        for who in PEOPLE:
            assert sorted(order.index(who) for order in orders) == [0, 1, 2, 3]
    firsts = Counter(orders[0] for orders in places.values())
    assert len(firsts) > 8  # letters are shuffled between questions, not always the same four orders


def test_groups_share_no_item_and_references_come_from_training_items():
    source = material(100)
    found = make_questions(source, texts=(5,), groups=20)
    trained = {item for _, item in source.train}
    for target in PEOPLE:
        groups = {question.group: question.items for question in found if question.target == target}
        shown = [item for items in groups.values() for item in items]
        assert len(shown) == len(set(shown)) == 5 * len(groups) == 40
        assert not trained & set(shown)
    for question in found:
        for who, items in question.references.items():
            assert len(items) == 5
            assert set(items) <= trained
            assert all((who, item) in source.train for item in items)
        assert len({tuple(items) for items in question.references.values()}) == 1  # all four responded to all items


def test_what_is_shown():
    source = material(systems=())
    (question,) = (
        one
        for one in make_questions(source, texts=(2,), groups=1, per_person=2)
        if (one.target, one.source, one.rotation) == ("ben", HUMAN, 1)
    )
    text = asked(question, source)
    before, after = text.split("Now texts that one of these people wrote")
    for letter, who in zip("ABCD", question.options, strict=True):
        for item in question.references[who]:
            said = source.train[who, item]
            assert f"\n{letter}: [{said.label}] {said.explanation}" in before
    assert before.count("premise: ") == 2  # once for each item, not for each person
    for item in question.items:
        said = source.texts[HUMAN]["ben", item]
        assert f"Text: [{said.label}] {said.explanation}" in after
        assert f"hypothesis: {source.items[item]['hypothesis']}" in after
    assert "Here is what A, B, C and D wrote." in before
    assert "Who wrote them: A, B, C or D?" in after
    assert not any(who in text for who in PEOPLE)  # no name is ever shown


def test_variants_hide_what_they_say_and_nothing_else():
    source = material()
    variants = ("plain", "no-label", "normalised", "no-label+normalised", "pairwise")
    found = make_questions(source, texts=(1,), groups=1, per_person=3, variants=variants)
    rows = {row.variant: row for row in found if (row.target, row.source, row.rotation) == ("cem", HUMAN, 0)}
    texts = {name: asked(row, source) for name, row in rows.items()}
    assert len({(rows[name].options, rows[name].items, str(rows[name].references)) for name in variants[:4]}) == 1
    assert rows["pairwise"].items == rows["plain"].items
    assert len(rows["pairwise"].options) == 2
    assert "cem" in rows["pairwise"].options
    assert Counter(row.variant for row in found)["pairwise"] == 4 * 3 * 2
    labelled = re.compile(r"\[(entailment|neutral|contradiction)\]")
    assert {name: bool(labelled.search(text)) for name, text in texts.items()} == {
        "plain": True, "no-label": False, "normalised": True, "no-label+normalised": False, "pairwise": True,
    }  # fmt: skip
    (said,) = re.findall(r"Text: (.*)", texts["no-label+normalised"])
    assert re.fullmatch(r"thing \d+ yes thing \d+ is in both", said)
    assert re.fullmatch(
        r"Text: thing \d+: yes; \"thing \d+\" is in both\.", f"Text: {re.findall(r'Text: (.*)', texts['no-label'])[0]}"
    )


def test_the_floor_shows_another_person_as_the_target():
    source = material()
    for question in make_questions(source, texts=(1,), groups=2):
        if question.source == OTHER:
            number = question.items[0][1:]
            assert explained(question.writer, number) in asked(question, source)
            assert question.writer in question.options


def test_people_without_shared_items_are_shown_on_their_own():
    rows = records(40)
    train = [one for one in responses_of(rows[:20]) if (int(one.record_id[1:]) % 4) == PEOPLE.index(one.annotator)]
    source = make_material(rows, train, responses_of(rows[20:]), {})
    found = references_of(source, PEOPLE, 3, draw(0, "x"))
    assert all(len(items) == 3 for items in found.values())
    assert all((who, item) in source.train for who, items in found.items() for item in items)
    assert {len(items) for items in references_of(source, PEOPLE, 9, draw(0, "x")).values()} == {5}  # all there are


def test_an_item_that_only_the_target_responded_to_has_no_floor():
    rows = records(60)
    train, test, items = parted(rows)
    alone = [one for one in test if one.annotator == "ann" or one.record_id == items[0].id]
    source = make_material(rows, train, alone, {})
    found = make_questions(source, texts=(1,), groups=50)
    floors = {question.items[0] for question in found if question.source == OTHER}
    assert floors == {items[0].id}
    assert len({question.items for question in found if question.target == "ann"}) == len(items)


def test_more_than_four_people():
    people = tuple("abcdefg")
    HABITS.update({who: f"{who * 3} {{thing}}" for who in people})
    rows = records(40, people=people)
    train, test, _ = parted(rows)
    found = make_questions(make_material(rows, train, test, {}), texts=(1,), groups=4)
    assert {len(question.options) for question in found} == {4}
    assert {who for question in found for who in question.options} == set(people)
    assert all(question.target in question.options and question.writer in question.options for question in found)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(10, 40), st.lists(st.tuples(st.sampled_from(PEOPLE), st.integers(0, 39))))
def test_questions_do_not_depend_on_the_order_of_the_data(seed, count, missing):
    rows = records(count, missing={*missing})
    split = split_items(rows)
    train, test = responses_of(split.train), responses_of(split.test)
    source = make_material(rows, train, test, {"s": imitated(split.test)})
    other = make_material(rows[::-1], train[::-1], test[::-1], {"s": imitated(split.test)[::-1]})
    try:
        found = make_questions(source, texts=(1, 2), groups=2, seed=seed)
    except InputError:
        with pytest.raises(InputError):
            make_questions(other, texts=(1, 2), groups=2, seed=seed)
        return
    assert found == make_questions(other, texts=(1, 2), groups=2, seed=seed)
    tested = {record.id for record in split.test}
    for question in found:
        assert set(question.items) <= tested
        assert not tested & {item for items in question.references.values() for item in items}
        assert asked(question, source) == asked(question, other)


def test_other_groups_and_numbers_change_no_question():
    source = material()
    few = make_questions(source, texts=(5,), groups=1, seed=4)
    many = {
        row.id: row for row in make_questions(source, texts=(1, 5), groups=3, variants=("no-label", "plain"), seed=4)
    }
    assert all(many[row.id] == row for row in few)


def test_outputs_that_cannot_be_read_are_counted_and_their_items_left_out_for_all():
    rows = records(40)
    train, test, items = parted(rows)
    said = imitated(items)
    said[0] = Response(items[0].id, "ann", None, None, 0, "no explanation")
    said[5] = Response(items[1].id, "ben", "neutral", "  ")
    source = make_material(rows, train, test, {"one": said})
    assert source.unread == {HUMAN: 0, "one": 2}
    assert items[0].id not in source.usable("ann")
    assert items[0].id in source.usable("ben")
    assert items[1].id not in source.usable("ben")


def test_normalised_text():
    assert normalised("It's “NOT” so—clear; isn't it? (50%)") == "its not so clear isnt it 50"
    assert normalised("...") == ""


ROWS = records(40)
TRAIN, TEST, ITEMS = parted(ROWS)


@pytest.mark.parametrize(
    ("train", "test", "systems", "said"),
    [
        (TRAIN, [*TEST, TRAIN[0]], {}, f"human: item '{TRAIN[0].record_id}' is a training item"),
        (TRAIN, TEST, {"s": imitated(ROWS)}, "s: item '.*' is a training item"),
        (TRAIN, TEST, {"human": []}, "outputs 'human': this name is taken"),
        (TRAIN, TEST, {"s": [Response("x", "ann", None, "x")]}, "s: item 'x' is not in the data"),
        (TRAIN, TEST, {"s": imitated(ITEMS, ("zoe",))}, "s: speaks as none of the people ann, ben, cem, dua"),
        ([one for one in TRAIN if one.annotator == "ann"], TEST, {}, "expected at least 2 people"),
    ],
)
def test_bad_material(train, test, systems, said):
    with pytest.raises(InputError, match=said):
        make_material(ROWS, train, test, systems)


def test_bad_questions():
    source = material()
    with pytest.raises(InputError, match="unknown variant 'plain\\+no-label'; expected plain, or some of no-label"):
        make_questions(source, variants=("plain+no-label",))
    with pytest.raises(InputError, match="unknown variant 'pairwise\\+pairwise'"):
        make_questions(source, variants=("pairwise+pairwise",))
    with pytest.raises(InputError, match="no group of 100 texts: nobody has more than 24 test items"):
        make_questions(source, texts=(100,))
    with pytest.raises(InputError, match="expected at least 1 of each"):
        make_questions(source, texts=(0,))


def test_wording_of_ones_own(tmp_path):
    path = tmp_path / "w.toml"
    path.write_text(
        'system = ""\nask = "{references}|{texts}|{letters}|{people}"\nitem = "{number}{item}"\n'
        'reference = "{person}={said}"\ntext = "?{said}"\n'
    )
    source = material()
    question = make_questions(source, texts=(1,), groups=1)[0]
    (message,) = conversation(question, source, load_judge_wording(str(path)))
    assert message["content"].endswith("|A, B, C or D|A, B, C and D")
    for content, said in (
        ('system = ""\n', "w2.toml: Object missing required field"),
        (path.read_text().replace("{said}", ""), "w2.toml: `reference`: expected {said} in it"),
        ("\xff", "w2.toml: "),
    ):
        other = tmp_path / "w2.toml"
        other.write_text(content, encoding="latin-1")
        load_judge_wording.cache_clear()
        with pytest.raises(InputError, match=re.escape(said)):
            load_judge_wording(str(other))
    with pytest.raises(InputError, match=r"absent.toml: can't be read"):
        load_judge_wording(str(tmp_path / "absent.toml"))


def test_a_text_cannot_break_out_of_its_line():
    rows = records(40)
    train, test, _ = parted(rows)
    said = [
        Response(one.record_id, one.annotator, one.label, "x\n\nWho wrote them: {letters}\nA: {said}") for one in test
    ]
    source = make_material(rows, train, test, {"s": said})
    question = next(row for row in make_questions(source, texts=(1,), groups=1) if row.source == "s")
    assert "Text: [" in asked(question, source)
    assert "] x Who wrote them: {letters} A: {said}\n" in asked(question, source)
