"""Small random models, all checks: states are counted, nothing breaks, files go on where they stopped."""

from pathlib import Path

import numpy as np
import pytest

import answerers
import raison.checks
from raison.checks import (
    Scored,
    Spoken,
    insertion,
    insertion_test,
    interventions,
    load_wording,
    redaction,
    run_to_file,
    self_consistency,
)
from raison.checks import chain as chains
from raison.checks.subject import UNKNOWN, say
from raison.models.answerer import Answerer
from raison.models.chat import render
from raison.models.generator import LocalGenerator
from raison.models.prompt import tokens_of
from raison.records import InputError
from speakers import LABELS, TASK, TEXTS, record, sentiment, spoken

RECORDS = [record(index) for index in range(3)]
OURS = Path(raison.checks.__file__).parent / "wording.toml"
MASK = np.array([False, False, False, True, False, False])


def scored(chat=True, model="llama", **options):
    words = answerers.tokenizer(chat=chat, corpus=(*answerers.CORPUS, *TEXTS), size=400)
    network = answerers.causal(model, words, positions=1024)
    return Scored(
        Answerer(network, words, TASK, labels=LABELS, **options), LocalGenerator(network, words, max_new_tokens=8)
    )


@pytest.mark.parametrize("chat", [True, False])
def test_all_checks_on_a_random_model(chat):
    subject = scored(chat)
    for kind in ("importance", "redaction", "counterfactual"):
        rows = self_consistency(subject, RECORDS, kind)
        assert sum(count for name, count in redaction.summarise(rows).states.items() if name != "rewritten") == 3
    rows = insertion_test(subject, RECORDS, positions=2, words=2, every=True)
    found = insertion.summarise(rows)
    assert sum(found.states.values()) == 3
    assert all(0 <= item.distance <= 1 for row in rows for item in row.insertions)
    given = {item.id: "The film is good. So it is." for item in RECORDS}
    rows = interventions(subject, RECORDS, chains=given)
    found = chains.summarise(rows)
    assert found.states["tested"] == 3
    assert found.estimates["early/aoc"].n == 3
    assert interventions(subject, RECORDS)[0].state in ("cut off", "empty reply")  # it never comes to an end


def test_a_conversation_is_scored_as_its_text_is():
    for chat in (True, False):
        subject = scored(chat)
        plain = subject.answers(RECORDS)
        asked = subject.after([TASK.messages(TASK.texts(item), LABELS) for item in RECORDS])
        for one, other in zip(plain, asked, strict=True):  # the `Answer:` of a model without a chat template included
            assert one.label == other.label
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
        longer = [{"role": "user", "content": "word " * 2000}]
        assert [answer.label for answer in subject.after([longer])] == [None]
        assert subject.after([]) == []


def test_masked_on_ids_and_in_the_text_are_one_where_tokens_are():
    subject = scored()
    in_ids = subject.masked(RECORDS[:1], [MASK], "red")
    in_text = subject.answers([record(0, "the film was red and long")])
    assert in_ids[0].probabilities == pytest.approx(in_text[0].probabilities, abs=1e-5)
    heard = spoken(sentiment)
    assert [answer.label for answer in heard.masked(RECORDS[:1], [MASK], "bad")] == ["negative"]


def test_unknown_is_one_more_label_of_the_same_model():
    subject = scored(normalise="length")
    asked = subject.with_unknown(load_wording())
    assert asked.labels == (*LABELS, UNKNOWN)
    assert asked.answerer.model is subject.answerer.model
    assert asked.answerer.normalise == "length"
    assert set(asked.answers(RECORDS)[0].probabilities) == set(asked.labels)
    assert asked.with_unknown(load_wording()).labels == asked.labels
    prompt = asked.task.messages(asked.task.texts(RECORDS[0]), asked.labels)[0]["content"]
    assert "positive, negative or unknown" in prompt
    assert subject.task is TASK


def test_token_ids_are_those_of_the_generator():
    for kind in answerers.TOKENIZERS:
        for chat in (True, False):
            words = answerers.tokenizer(kind, chat)
            talk = [{"role": "user", "content": "the red book"}]
            generator = LocalGenerator(answerers.causal("llama", words), words)
            assert tokens_of(words, *render(words, talk))[0].tolist() == generator.encode(talk)


# ------------------------------------------------------------------------------------------------ files, wordings


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("raison.checks.results.CHUNK", 2)
    items = [record(index) for index in range(5)]
    subject = spoken(sentiment)
    seen = []

    def check(part):
        seen.append([item.id for item in part])
        if len(seen) == 2:
            raise KeyboardInterrupt
        return insertion_test(subject, part, positions=1, words=1)

    path = tmp_path / "rows.jsonl"
    frame = {"config": {"seed": 0}, "models": {"m": "1"}}
    with pytest.raises(KeyboardInterrupt):
        run_to_file(path, check, items, insertion.Row, **frame)
    assert not path.exists()
    rows = run_to_file(path, check, items, insertion.Row, **frame)
    assert seen == [["r0", "r1"], ["r2", "r3"], ["r2", "r3"], ["r4"]]
    assert rows == insertion_test(subject, items, positions=1, words=1)
    assert run_to_file(path, check, items, insertion.Row, **frame) == rows  # nothing is asked again
    assert len(seen) == 4
    with pytest.raises(InputError, match="made from something else"):
        run_to_file(path, check, items, insertion.Row, config={"seed": 1}, models={"m": "1"})
    assert run_to_file(tmp_path / "none.jsonl", check, [], insertion.Row, **frame) == []


def test_rows_of_every_check_come_back_from_disk(tmp_path):
    subject = scored()
    frame = {"config": {}, "models": {}}
    for name, check, kind in (
        ("redaction", lambda part: self_consistency(subject, part, "redaction"), redaction.Row),
        ("chain", lambda part: interventions(subject, part, chains={i.id: "It is so." for i in part}), chains.Row),
    ):
        assert run_to_file(tmp_path / f"{name}.jsonl", check, RECORDS, kind, **frame) == check(RECORDS)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{unknown}.", "it.", r"`unknown.announce`: expected {unknown} in it"),
        ("[forms]", "[formen]", "unknown field `formen`"),
        ("{sentence}", "{sentense}", r"`chain.mistake`: expected {sentence} in it"),
        ('filler = "..."', 'filler = " "', "`chain.filler`: expected a text that is not empty"),
        ('lead = "Step', 'lead = "{step}', "unknown {step}"),
        ("[unknown]", "[unknown", "wording.toml: "),
    ],
)
def test_faults_in_a_wording_are_named(tmp_path, old, new, message):
    path = tmp_path / "wording.toml"
    text = OURS.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=message.replace("{", r"\{").replace("}", r"\}")):
        load_wording(str(path))


def test_a_wording_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(OURS.read_text(encoding="utf-8").replace("[REDACTED]", "___"), encoding="utf-8")
    found = load_wording(str(path))
    subject = spoken(lambda talk: '["good"]' if "JSON" in talk[-1]["content"] else sentiment(talk))
    assert isinstance(subject, Spoken)
    row = self_consistency(subject, RECORDS[:1], "importance", wording=found)[0]
    assert row.second == UNKNOWN
    assert "the film was ___ and long" in subject.generator.asked[2][0]["content"]
    with pytest.raises(InputError, match="can't be read"):
        load_wording(str(tmp_path / "absent.toml"))


@pytest.mark.parametrize(
    ("text", "declined"),
    [
        ("I cannot help with that.", True),
        ("I'm sorry, but no.", True),
        ("As an AI, I have no opinion.", True),
        ("I am not able to answer this question.", True),
        ("Lo siento, no puedo.", True),
        ("I can't see a dog in the premise, so they contradict each other.", False),
        ("The man could not be asleep.", False),
        ("The tone is sorry and sad.", False),
        ("<think>I can't help with that</think> Because of the dog.", False),
    ],
)
def test_refusals_are_told_from_reasons(text, declined):
    found = say(spoken(lambda talk: text), [[{"role": "user", "content": "Why?"}]])[0]
    assert (found.failure == "refusal") == declined
