"""Imitation: who is asked what, what becomes of replies, and that an interruption costs nothing."""

from collections import Counter
from itertools import count

import pytest

from answerers import CORPUS, causal, tokenizer
from faulty_server import Faulty, completion
from panel import item, panel
from raison.annotators import imitate as there
from raison.annotators.imitate import failures, imitate, imitate_to_file, to_response
from raison.annotators.prompts import Prompts
from raison.annotators.responses import read_responses
from raison.annotators.speakers import Cast, Source
from raison.annotators.wording import wording_for
from raison.models.chat import Reply, failed
from raison.models.server import GIVEN_UP, ServerGenerator
from raison.records import InputError
from speakers import Speaker

TRAIN = panel(4)
ITEMS = [item(i, []) for i in range(10, 17)]
PROMPTS = Prompts(wording_for(TRAIN), TRAIN, tag=True)
PEOPLE = ("a", "b", "c")


def number_of(talk):
    return int(talk[-1]["content"].partition("premise of item")[2].split("\n")[0])


def person_of(talk):
    return talk[-1]["content"].partition("annotator ")[2][0]


def answer(talk):
    return f"Label: neutral\nExplanation: {person_of(talk)} of {number_of(talk)}"


def to_file(path, speak, samples=1):
    how = {"models": {"m": "1"}, "config": {}, "samples": samples}
    return imitate_to_file(path, speak, PROMPTS, ITEMS, PEOPLE, **how)


def test_everybody_is_asked_of_everything_once():
    speaker = Speaker(answer)
    given = imitate(lambda *_: speaker, PROMPTS, ITEMS, PEOPLE)
    assert [(one.annotator, one.record_id) for one in given] == [(who, one.id) for who in PEOPLE for one in ITEMS]
    assert all(one.explanation == f"{one.annotator} of {one.record_id[1:]}" for one in given)
    assert {(one.label, one.failure, one.number) for one in given} == {("neutral", None, 0)}
    assert given[0].extra == {"reply": "Label: neutral\nExplanation: a of 10"}
    assert [talk[0]["content"] for talk in speaker.asked[:7]] == [PROMPTS(one, "a") for one in ITEMS]


def test_each_person_and_sample_may_have_a_speaker_of_its_own():
    def speak(annotator, number):
        return Speaker(lambda _: f"Label: neutral\nExplanation: {annotator} {number}")

    given = imitate(speak, PROMPTS, ITEMS[:2], PEOPLE[:2], samples=2)
    assert [(one.record_id, one.number, one.explanation) for one in given] == [
        (f"i{i}", number, f"{who} {number}") for who in "ab" for number in (0, 1) for i in (10, 11)
    ]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply("Label: neutral\nExplanation: so", "stop"), ("neutral", "so", None)),
        (Reply("Label: neutral\nExplanation: so", "length"), (None, None, "the reply was cut")),
        (Reply("I will not.", "stop"), (None, None, "a line without Label: 'I will not.'")),
        (failed("the server answers 400: no"), (None, None, "the server answers 400: no")),
    ],
)
def test_what_can_not_be_read_says_why_and_says_nothing_else(reply, expected):
    found = to_response(reply, PROMPTS.wording, "i1", "a")
    assert (found.label, found.explanation, found.failure) == expected
    assert found.extra.get("reply") == reply.text


def test_failures_are_counted_by_kind():
    replies = ["Label: neutral\nExplanation: x", "Label: red\nExplanation: x", "Label: blue\nExplanation: x", "no", ""]
    given = [to_response(Reply(text, "stop"), PROMPTS.wording, "i", "a") for text in replies]
    assert failures(given) == {"none of the labels": 2, "a line without Label": 1, "the reply is empty": 1}


def test_what_follows_an_answer_is_kept_but_not_read():
    found = to_response(Reply("Label: neutral\nExplanation: so\n\nPremise: next", "length"), PROMPTS.wording, "i", "a")
    assert (found.label, found.extra["unread"]) == ("neutral", 13)


# ---------------------------------------------------------------------------------------------- interruptions


@pytest.mark.parametrize("stop", range(0, 42, 5))
def test_an_interrupted_run_goes_on_and_asks_whole_chunks_once(stop, tmp_path, monkeypatch):
    monkeypatch.setattr(there, "CHUNK", 4)
    whole = to_file(tmp_path / "whole.jsonl", lambda *_: Speaker(answer), samples=2)
    asked, turns = Counter(), count()

    def breaking(talk):
        if next(turns) == stop:
            raise KeyboardInterrupt
        asked[person_of(talk), number_of(talk)] += 1
        return answer(talk)

    with pytest.raises(KeyboardInterrupt):
        to_file(tmp_path / "out.jsonl", lambda *_: Speaker(breaking), samples=2)
    assert not (tmp_path / "out.jsonl").exists()
    assert to_file(tmp_path / "out.jsonl", lambda *_: Speaker(breaking), samples=2) == whole
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert asked.total() == 42 + stop % 4  # only the chunk that was broken off is asked again
    assert to_file(tmp_path / "out.jsonl", None, samples=2) == whole  # it is there: nobody speaks
    assert read_responses(tmp_path / "out.jsonl") == whole


def test_another_question_does_not_go_on_with_the_file(tmp_path):
    to_file(tmp_path / "out.jsonl", lambda *_: Speaker(answer))
    with pytest.raises(InputError, match="made from something else"):
        to_file(tmp_path / "out.jsonl", lambda *_: Speaker(answer), samples=2)
    other = Prompts(wording_for(TRAIN), TRAIN, "profile", tag=True)
    with pytest.raises(InputError, match="made from something else"):
        imitate_to_file(tmp_path / "out.jsonl", None, other, ITEMS, PEOPLE, models={"m": "1"}, config={})
    with pytest.raises(InputError, match="nothing to answer"):
        imitate_to_file(tmp_path / "none.jsonl", None, other, [], PEOPLE, models={}, config={})


def test_a_server_that_is_stopped_is_asked_for_nothing_twice(tmp_path):
    """It breaks down in the midst of a chunk, and is started again: every answer it gave was kept."""

    def fault(content, attempt):
        if sum(server.answered.values()) >= 9 and server.phase == 0:
            return (503, {"error": {"message": "away"}}, {})
        server.answered[content] += 1
        return (200, completion(answer([{"content": content}])), {})

    with Faulty(fault) as server:
        server.phase = 0

        def speak(*_):
            return ServerGenerator("m", base_url=server.url, cache=tmp_path / "cache.db", patience=0.1, concurrency=2)

        with pytest.raises(InputError, match=f"{GIVEN_UP}.*start again to go on"):
            to_file(tmp_path / "out.jsonl", speak)
        assert not (tmp_path / "out.jsonl").exists()
        server.phase = 1
        given = to_file(tmp_path / "out.jsonl", speak)
        assert set(server.answered.values()) == {1}
        assert len(server.answered) == len(given) == 21
    assert all(one.failure is None for one in given)


# ---------------------------------------------------------------------------------------------- models that are here


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    for seed, who in enumerate(PEOPLE):
        words = tokenizer("byte", True, CORPUS)
        causal("llama", words, seed).save_pretrained(place / who)
        words.save_pretrained(place / who)
    return place


def test_a_model_that_is_here_answers_and_is_told_from_others(folder):
    source = Source(str(folder / "{annotator}"), reply_tokens=6, loading={"device": "cpu"})
    cast = Cast(source, PEOPLE)
    assert len(set(cast.models.values())) == 3
    given = imitate(cast.speaker, PROMPTS, ITEMS[:2], PEOPLE)
    one = Cast(source._replace(model=str(folder / "b")), PEOPLE)
    assert [*one.models.values()] == [cast.models[str(folder / "b")]]
    same = imitate(one.speaker, PROMPTS, ITEMS[:2], ["b"])
    assert [one.extra["reply"] for one in same] == [one.extra["reply"] for one in given if one.annotator == "b"]
    assert cast.usage.requests == 6
    assert (cast.usage.reply_tokens, cast.usage.price) == (36, None)


def test_samples_are_drawn_by_their_number_and_the_same_again(folder):
    source = Source(str(folder / "a"), reply_tokens=12, temperature=1.0, seed=5, loading={"device": "cpu"})

    def said(**options):
        cast = Cast(source._replace(**options), ["a"])
        return [one.extra["reply"] for one in imitate(cast.speaker, PROMPTS, ITEMS[:1], ["a"], samples=3)]

    assert said() == said()
    assert len(set(said())) == 3
    assert said(seed=6)[:2] == said()[1:]


def test_a_server_knows_people_by_name():
    with Faulty() as server:
        source = Source("lora-{annotator}", server.url, temperature=0.7, seed=3, settings={"price": (1.0, 2.0)})
        cast = Cast(source, ["x/y", "z"])
        imitate(cast.speaker, PROMPTS, ITEMS[:1], ["x/y", "z"], samples=2)
        assert [(body["model"], body["seed"]) for body in server.bodies] == [
            ("lora-x/y", 3), ("lora-x/y", 4), ("lora-z", 3), ("lora-z", 4),
        ]  # fmt: skip
        assert cast.usage.cost == pytest.approx(4 * (7 + 2 * 3) / 1e6)
