import pytest

from raison.records import Annotation, Record, Span, read_records
from raison.sources.describe import describe
from raison.sources.leaks import MARKS, LeakTally, leaks
from raison.sources.rules import Rules, apply_rules
from raison.testbed import make_corpus


def record(text, label="a", *annotations):
    return Record("1", {"text": text}, label=label, annotations=annotations)


def marked(text, *words, label="a", name="ann"):
    """A record in which somebody highlighted these words."""
    spans = sorted(Span(text.index(word), text.index(word) + len(word)) for word in words)
    return record(text, label, Annotation(name, label, {"text": tuple(spans)}))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A *dog* runs", ["*dog*"]),
        ("a \\*broken\\* \\*airplane.\\*", ["\\*broken\\*", "\\*airplane.\\*"]),
        ("**two words** here", ["**two words**"]),
        ("<b>cold</b> soup, <mark class='x'>rude</mark>", ["<b>cold</b>", "<mark class='x'>rude</mark>"]),
        ("[[dog]] {{cat}}", ["[[dog]]", "{{cat}}"]),
        ("2 * 3 * 4, a*b*c, f***ing, * item *, 5* hotel, <br /> [CLS] a < b > c", []),
    ],
)
def test_marks_in_texts(text, found):
    assert [match.group() for match in MARKS.finditer(text)] == found


def test_marks_left_around_highlighted_words():
    test = [marked("A *dog* runs", "*dog*"), marked("A cat sits", "cat")]
    (line,) = leaks([], test)
    assert line == (
        "test records: 1 of 2 have marks in their texts, such as '*dog*', around words that are highlighted: "
        "a model can read the highlights off them"
    )


def test_marks_that_are_not_highlights_are_a_style_unless_training_knows_none():
    emphasis = [marked("A *very* big dog", "dog"), marked("A cat sits", "cat")]
    assert leaks(emphasis, emphasis) == []
    (line,) = leaks([record("A cat sits")], emphasis)
    assert "1 of 2 have marks in their texts, such as '*very*', and none of the training records has" in line
    unasked = [record("A *dog* runs")]
    assert len(leaks([record("A cat")], unasked)) == 1
    assert leaks(unasked, unasked) == []
    assert leaks([record("A cat")], [*unasked, *([record("A dog")] * 200)]) == []  # one in 201 is somebody's style


def test_rules_that_look_at_the_label_say_so():
    rules = {"list": Rules(words={"a": ["dog"]}), "pattern": Rules(patterns=["(?P<x>dog)"])}
    test = [apply_rules(rules, record("the dog")), apply_rules(rules, record("the cat", None))]
    assert leaks([], test) == [
        "test records: 'list' looked at the gold label to choose its 1 rationales: they give it away"
    ]
    assert leaks(test, [record("the dog")]) == []  # in training records it is what they are for


def listed(times, label, word, name="anon"):
    return [marked("play a nice song", word, label=label, name=name) for _ in range(times)]


@pytest.mark.parametrize(
    ("records", "suspicious"),
    [
        ([*listed(5, "a", "play"), *listed(5, "b", "song")], True),
        ([*listed(5, "a", "play"), *listed(4, "b", "song")], False),  # too few to tell
        ([*listed(9, "a", "play"), *listed(9, "b", "play")], False),  # it does not differ between labels
        ([*listed(9, "a", "play"), *listed(9, "b", "song"), *listed(1, "a", "song")], False),  # not constant: a person
        ([*listed(9, None, "play"), *listed(9, None, "song")], False),
    ],
)
def test_word_lists_that_do_not_say_so_are_found_out(records, suspicious):
    found = leaks([], records)
    assert [("'anon' marks words just as a list" in line) for line in found] == [True] * suspicious


def test_a_file_that_is_checked_is_warned_of(tmp_path, write):
    path = write("x.csv", "text,label,marked\na *dog*,x,a **dog**\n")
    mapping = {"fields": {"text": "text"}, "label": "label", "rationale": {"text": "marked"}, "marks": ["<m>", "</m>"]}
    assert describe(path, mapping={"fields": {"text": "text"}, "label": "label"}).warnings == ()
    path = write("y.csv", "text,label,marked\na *dog*,x,a <m>*dog*</m>\n")
    assert len(describe(path, mapping=mapping).warnings) == 1


def test_planted_people_raise_no_alarm():
    assert LeakTally().warnings() == []
    for kind in ("single", "pair"):
        assert leaks([], make_corpus(kind, 300, seed=1)) == []


@pytest.mark.parametrize(
    "name", ["esnli/test.jsonl.gz", "hatexplain/val.jsonl", "litex/esnli.jsonl", "snips_uimer/test.jsonl"]
)
def test_of_real_data_only_the_word_lists_are_found_out(shared, name):
    found = leaks([], read_records(shared / "data" / name))
    assert [line.split("'")[1] for line in found] == (["uimer-intent"] if "snips" in name else [])
