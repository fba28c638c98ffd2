"""The conversations that ask for rationales, and the files that word them."""

import itertools

import pytest

from raison.models.tasks import load_task
from raison.prompting.requests import FORMS, ORDERS, Request, _shipped, ask, load_request, numbered
from raison.records import InputError, Record
from raison.words import character_words

RECORD = Record("1", {"premise": "A {label} plays.", "hypothesis": "It {count}  sleeps."})
TASK = load_task("nli")
MESSAGES = TASK.messages(TASK.texts(RECORD), ["entailment", "neutral"])
WHOLE = {
    "orders": {"predict-then-explain": "{budget} {form}"},
    "budgets": {"unbound": "any"},
    "forms": {"json": "a list"},
}


@pytest.mark.parametrize("name", ["words", "evidence"])
@pytest.mark.parametrize("order", ORDERS)
def test_every_conversation_of_ours_says_what_it_should(name, order):
    request = load_request(name)
    prompt = MESSAGES[-1]["content"]
    for form, count, limit in itertools.product(FORMS, (None, 1, 3), ("exactly", "at-most")):
        talk = ask(request, MESSAGES, RECORD, label="neutral", count=count, order=order, form=form, limit=limit)
        roles = ["user", "assistant", "user"] if order == "predict-then-explain" else ["user"]
        assert [message["role"] for message in talk] == roles
        last = talk[-1]["content"]
        assert sum(prompt in message["content"] for message in talk) == 1
        assert "premise and hypothesis" in last
        assert {None: "words", 1: "1 word", 3: "3 words"}[count] in last
        assert "1 words" not in last
        assert ("[1] A [2] {label} [3] plays." in last) == (form == "numbers")
        assert ("**" in last) == (form == "marked")
        assert ("JSON list" in last) == (form != "marked")
        if order == "predict-then-explain":
            assert talk[:1] == MESSAGES
            assert talk[1]["content"] == "neutral"
            assert '"neutral"' in last
        else:
            assert last.replace(prompt, "").count("neutral") == 0


def test_a_conversation_by_hand():
    talk = ask(load_request("words"), [{"role": "system", "content": "S"}, {"role": "user", "content": "Q?"}],
               Record("1", {"text": "a b"}), label="yes", count=2)  # fmt: skip
    assert talk == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "Q?"},
        {"role": "assistant", "content": "yes"},
        {
            "role": "user",
            "content": 'You answered "yes". Which words of the text led you to that answer? '
            "Choose exactly 2 words; each word of a phrase counts.\n"
            "Copy each word as it is written there; words that follow each other may be one phrase. "
            'Reply with a JSON list of strings such as ["…", "…"] and nothing else.',
        },
    ]
    fresh = ask(load_request("words"), talk[:2], Record("1", {"text": "a b"}), label=None, order="fresh-session")
    assert fresh[0] == talk[0]
    assert "yes" not in fresh[1]["content"]
    assert "Q?" in fresh[1]["content"]


def test_words_are_numbered_over_the_fields_that_are_open():
    assert numbered(RECORD, ["premise", "hypothesis"]) == (
        "premise: [1] A [2] {label} [3] plays.\nhypothesis: [4] It [5] {count} [6] sleeps."
    )
    assert numbered(RECORD, ["hypothesis"]) == "[1] It [2] {count} [3] sleeps."
    assert numbered(Record("1", {"text": "公园 里"}), ["text"], character_words) == "[1] 公 [2] 园 [3] 里"
    talk = ask(load_request("words"), MESSAGES, RECORD, label="x", form="numbers", fields=["hypothesis"])
    assert "[1] It" in talk[-1]["content"]
    assert "premise" not in talk[-1]["content"]


def test_what_cannot_be_asked():
    request = Request({"fresh-session": "{prompt} {budget} {form}"}, {"unbound": "-"}, {"json": "-"}, name="mine")
    with pytest.raises(InputError, match="request mine: no order 'predict-then-explain'; it has fresh-session"):
        ask(request, MESSAGES, RECORD, label="x")
    with pytest.raises(InputError, match="request mine: no budget 'exactly'; it has unbound"):
        ask(request, MESSAGES, RECORD, label=None, count=2, order="fresh-session")
    with pytest.raises(InputError, match="request mine: no form 'marked'; it has json"):
        ask(request, MESSAGES, RECORD, label=None, order="fresh-session", form="marked")
    with pytest.raises(ValueError, match="needs a label"):
        ask(load_request("words"), MESSAGES, RECORD, label=None)
    with pytest.raises(ValueError, match="ends with a message of the user"):
        ask(load_request("words"), [], RECORD, label="x")


def toml(tables):
    """Write tables of texts as TOML."""
    return "\n".join(
        f"[{name}]\n" + "\n".join(f"{key} = '''{text}'''" for key, text in entries.items())
        for name, entries in tables.items()
    )


def test_a_request_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('marks = ["<<", ">>"]\n' + toml(WHOLE))
    request = load_request(str(path))
    assert (request.name, request.marks) == ("mine", ("<<", ">>"))
    assert ask(request, MESSAGES, RECORD, label="x")[-1]["content"] == "any a list"
    assert request.names_label("predict-then-explain")
    assert not load_request("words").names_label("fresh-session")
    named = Request({"fresh-session": "{prompt} {label} {budget} {form}"}, {"unbound": "-"}, {"json": "-"})
    assert named.names_label("fresh-session")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("orders = 3", "orders"),
        ("x = ", "mine.toml: "),
        (b"\xff\xfe", "mine.toml: "),
        ("", "missing required field `orders`"),
        (toml({**WHOLE, "orders": {}}), "`orders`: expected at least one of predict-then-explain"),
        (toml({**WHOLE, "orders": {"some": "x"}}), "'some'"),
        (toml({**WHOLE, "orders": {"fresh-session": "{budget} {form}"}}), "fresh-session`: expected {prompt} in it"),
        (
            toml({**WHOLE, "orders": {"predict-then-explain": "{form}"}}),
            "predict-then-explain`: expected {budget} in it",
        ),
        (toml({**WHOLE, "budgets": {"exactly": "k"}}), "`budgets.exactly`: expected {count} in it"),
        (toml({**WHOLE, "budgets": {"unbound": " "}}), "`budgets.unbound`: expected a text that is not empty"),
        (toml({**WHOLE, "forms": {"numbers": "n"}}), "`forms.numbers`: expected {words} in it"),
        (toml({**WHOLE, "forms": {"json": "{prompt}"}}), "`forms.json`: unknown {prompt}; expected {close}, {fields}"),
        ('marks = ["", "*"]\n' + toml(WHOLE), "`marks`: expected two texts that are not empty"),
        ('marks = ["*"]\n' + toml(WHOLE), "marks"),
        ("colour = 1\n" + toml(WHOLE), "colour"),
    ],
)
def test_a_broken_file_costs_one_clear_line(tmp_path, content, message):
    path = tmp_path / "mine.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        load_request(str(path))
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_request_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(InputError, match="unknown request 'word'; did you mean words"):
        load_request("word")
    with pytest.raises(InputError, match="expected one of evidence, words, or"):
        load_request("zzz")
    with pytest.raises(InputError, match="can't be read"):
        load_request(str(tmp_path / "none.toml"))
    assert sorted(_shipped()) == ["evidence", "words"]
