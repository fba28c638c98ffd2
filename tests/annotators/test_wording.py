"""Wordings: what is asked, what is written and read again, and what is not guessed."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from panel import LABELS, SCALE, item, panel
from raison.annotators.responses import Response, responses_of
from raison.annotators.wording import ORDERS, Reading, load_wording, wording_for
from raison.records import InputError, Record, read_records
from shared import shared_file

NLI = wording_for(panel())
RATED = wording_for(panel(labels=SCALE))
BACK = wording_for(panel(), order="explanation-first")


def test_a_prompt_has_its_parts_in_order_and_ends_a_line():
    said = Response("i1", "a", "neutral", "it  does\nnot say {labels}")
    shown = NLI.prompt(item(0, []), "a", persona="Age: 26", profile="Short.", examples=[(item(1, []), said)])
    assert shown == (
        "You are a person of whom this is known: Age: 26.\n\n"
        "This is how you label and explain:\nShort.\n\n"
        "These are some of your earlier answers.\n\n"
        "Premise: the premise of item1\nHypothesis: the hypothesis of item1\n"
        "Label: neutral\nExplanation: it does not say {labels}\n\n"
        "Premise: the premise of item0\nHypothesis: the hypothesis of item0\n\n"
        "Does the premise entail the hypothesis, contradict it, or leave it open (neutral)? "
        "Choose one of: entailment, neutral or contradiction. Say why in one sentence.\n"
        "Reply in exactly this form:\nLabel: <label>\nExplanation: <explanation>\n\n"
        "You are annotator a. Answer as this person would.\n"
    )


def test_without_a_person_nothing_is_said_of_one():
    assert NLI.prompt(item(0, [])) == BACK.prompt(item(0, [])).replace(
        "Explanation: <explanation>\nLabel: <label>", "Label: <label>\nExplanation: <explanation>"
    )
    assert "annotator" not in NLI.prompt(item(0, []))


def test_the_wording_is_the_data_s():
    assert NLI.name == "nli"
    assert [*RATED.labels] == [*SCALE]
    plain = wording_for([Record("1", {"some_text": "hello {form}"}, label_set=("x", "y"))])
    assert plain.name == "generic"
    assert plain.prompt(Record("1", {"some_text": "hello {form}"})).startswith(
        "Some text: hello {form}\n\nChoose one of: x or y."
    )
    bare = wording_for(panel(), "bare")
    assert bare.prompt(item(3, []), "b") == (
        "Premise: the premise of item3\nHypothesis: the hypothesis of item3\n\nAnnotator: b\n"
    )


WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text.split())


@given(st.sampled_from([NLI, RATED, BACK]), WORDS, st.integers(0, 2))
@example(NLI, "Label: neutral", 0)
@example(BACK, "**Label:** neutral\r\n", 0)
@example(NLI, "</think>", 0)
@example(NLI, "* *", 0)
def test_what_is_written_is_read(wording, explanation, index):
    label = [*wording.labels][index]
    text = wording.write(label, explanation)
    assert text.count("\n") == 1
    found = wording.read(text)
    if "</think>" in explanation:  # read as the end of a thought: then it is a failure, not another answer
        assert found.failure or found.label == label
        return
    assert found.failure is None
    assert (found.label, found.unread) == (label, 0)
    # markup right behind a head belongs to the head; all else is the explanation's own
    assert " ".join(explanation.split()).endswith(found.explanation)
    assert text[slice(*found.label_span)] == label
    assert text[slice(*found.explanation_span)] == found.explanation


@pytest.mark.parametrize(
    ("reply", "label", "why", "unread"),
    [
        ("Label: neutral\nExplanation: so", "neutral", "so", 0),
        ("\n\n  label : Neutral.  \n\nEXPLANATION:so \n", "neutral", "so", 0),
        ("**Label:** *neutral*\n**Explanation:** so **it** is", "neutral", "so **it** is", 0),
        ("- Label: neutral\r\n- Explanation: so\r\n", "neutral", "so", 0),
        ("<think>Label: contradiction\n\n</think>\nLabel: neutral\nExplanation: so", "neutral", "so", 0),
        ("Label: neutral\nExplanation: so\n\nPremise: next", "neutral", "so", 13),
    ],
)
def test_an_answer_is_read(reply, label, why, unread):
    found = NLI.read(reply)
    assert (found.label, found.explanation, found.failure, found.unread) == (label, why, None, unread)
    assert reply[slice(*found.explanation_span)] == why
    assert label in reply[slice(*found.label_span)].casefold()


@pytest.mark.parametrize(
    ("word", "label"), [("-2", "-2"), ("−2", "-2"), ("2", "2"), ("+2", "2"), ("2.", "2"), (" 0 ", "0")]
)
def test_signs_are_kept(word, label):
    assert RATED.read(f"Label: {word}\nExplanation: so").label == label


@pytest.mark.parametrize(
    ("reply", "failure"),
    [
        ("", "the reply is empty"),
        (" \n ", "the reply is empty"),
        ("neutral", "a line without Label: 'neutral'"),
        ("Label: neutral", "a single line"),
        ("Explanation: so\nLabel: neutral", "a line without Label: 'Explanation: so'"),
        ("Label: neutral\nbecause", "a line without Explanation: 'because'"),
        ("Label: neutral or so\nExplanation: so", "none of the labels: 'neutral or so'"),
        ("Label: not neutral\nExplanation: so", "none of the labels: 'not neutral'"),
        ("Label:\nExplanation: so", "none of the labels: ''"),
        ("Label: neutral\nExplanation:", "the explanation is empty"),
        ("Label: neutral\nExplanation: so\nand so", "a third line: 'and so'"),
        ("I can't help with that.", 'a line without Label: "I can\'t help with that."'),
        ("Label: neutral</think>", "the reply is empty"),
        (f"Label: {'x' * 99}\nExplanation: so", f"none of the labels: '{'x' * 60}…'"),
    ],
)  # fmt: skip
def test_nothing_is_guessed(reply, failure):
    assert NLI.read(reply) == Reading(failure=failure)


def test_a_reply_that_was_cut_is_whole_only_where_its_last_line_ended():
    assert NLI.read("Label: neutral\nExplanation: so it", cut=True).failure == "the reply was cut"
    assert NLI.read("Label: neu", cut=True).failure == "the reply was cut"
    assert NLI.read("Label: neutral\nExplanation: so it\n", cut=True).explanation == "so it"
    assert NLI.read("Label: neutral\nExplanation: so it\n\nPremise: an", cut=True).explanation == "so it"
    assert NLI.read("Here is what I think, and", cut=True).failure.startswith("a line without Label")


def test_a_response_that_lacks_something_can_not_be_written():
    with pytest.raises(ValueError, match="no label or no explanation"):
        NLI.write_response(Response("i1", "a", "neutral", None))


GOOD = 'question = "{labels} {form}"\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "missing required field `question`"),
        ('question = "{label}"', "`question`: unknown {label}; expected {form}, {labels}"),
        (GOOD + 'tag = "you"', "`tag`: expected {annotator} in it"),
        (GOOD + 'examples = "{examples} {x}"', "`examples`: unknown {x}; expected {examples}"),
        (GOOD + 'heads = ["Label", "label"]', "`heads`: expected two different texts"),
        (GOOD + 'heads = ["La: bel", "x"]', "`heads`: expected two texts of one line, without colons"),
        (GOOD + 'colour = "red"', "unknown field `colour`"),
        (GOOD + "[labels]\nentailment = 'yes'", "`labels`: none for the records' label 'neutral'"),
        (GOOD + "[labels]\nentailment='yes'\nneutral='no'\ncontradiction='No.'", "two labels have the same word"),
        (GOOD + 'order = "last"', "Invalid enum value 'last'"),
        ("question = ", "Invalid"),
    ],
)
def test_a_fault_in_a_file_is_one_clear_line(content, message, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        wording_for(panel(), str(path))
    assert message.casefold() in str(error.value).casefold()
    assert "\n" not in str(error.value)


def test_a_wording_of_one_s_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'question = "{form}"\nitem = "{hypothesis}?"\nheads = ["A", "B"]\norder = "explanation-first"\n'
        '[labels]\nentailment = "yes"\nneutral = "open  end"\ncontradiction = "no"'
    )
    mine = wording_for(panel(), str(path))
    assert mine.prompt(item(1, [])) == "the hypothesis of item1?\n\nB: <explanation>\nA: <label>\n"
    assert mine.write("neutral", "so") == "B: so\nA: open end"
    assert mine.read("b: so\na: Open End").label == "neutral"
    assert mine.read("b: so\na: neutral").failure == "none of the labels: 'neutral'"
    with pytest.raises(InputError, match="no field 'hypothesis'"):
        mine.prompt(Record("x", {"text": "t"}))


def test_wrong_names_are_answered():
    with pytest.raises(InputError, match="did you mean nli"):
        load_wording("nlii")
    with pytest.raises(InputError, match=r"can't be read"):
        load_wording("nowhere.toml")
    with pytest.raises(InputError, match="order 'x': expected label-first or explanation-first"):
        wording_for(panel(), order="x")
    with pytest.raises(InputError, match="no labels"):
        wording_for([Record("1", {"text": "t"})])


@pytest.mark.parametrize("name", ["varierr/all.jsonl", "lewidi_par/train.jsonl"])
@pytest.mark.parametrize("order", ORDERS)
def test_everything_real_people_said_is_read_as_it_was_written(name, order):
    records = list(read_records(shared_file(f"data/{name}")))
    wording = wording_for(records, order=order)
    for said in responses_of(records):
        found = wording.read(wording.write_response(said))
        assert (found.failure, found.label) == (None, said.label)
        assert found.explanation == " ".join(said.explanation.split())


def test_labels_are_those_that_somebody_gave_where_the_records_name_none():
    records = [item(0, [("a", "yes", "t"), ("b", "maybe", "t")], labels=()), item(1, [("a", "no", "t")], labels=())]
    assert [*wording_for(records, "generic").labels] == ["maybe", "no", "yes"]
    assert [*wording_for(panel(), "generic").labels] == [*LABELS]
