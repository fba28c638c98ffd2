"""Judges: an oracle whose accuracy and bias are recovered, a server on loopback, a local model; resumed runs."""

import itertools
from math import exp

import numpy as np
import pytest

import answerers
from crowd import PEOPLE, imitated, parted, records
from faulty_server import Faulty, completion
from raison.annotators.judge import conversation, load_judge_wording, make_questions
from raison.annotators.judge_results import summarise_judge
from raison.annotators.judging import Heard, Judged, hear, judge_to_file, oracle, scoring, speaking
from raison.annotators.material import HUMAN, OTHER, make_material
from raison.evaluation.statistics import holm, sign_flip
from raison.models import patience
from raison.models.answerer import Answerer
from raison.models.chat import Reply
from raison.models.server import ServerGenerator
from raison.models.tasks import Task
from raison.records import InputError

WORDING = load_judge_wording()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(patience, "LONGEST_WAIT", 0.1)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def material(count=60, systems=("one",), people=PEOPLE):
    rows = records(count, people=people)
    train, test, items = parted(rows)
    return make_material(rows, train, test, {name: imitated(items) for name in systems})


def answered(judge, questions):
    heard = judge(questions, [[]] * len(questions))
    return [Judged(question, one, question.id) for question, one in zip(questions, heard, strict=True)]


def cell(found, metric, source, slice):
    (one,) = [row for row in found.cells if (row.metric, row.source, row.slice) == (metric, source, slice)]
    return one


# --------------------------------------------------------------------------------------------------------- oracle


@pytest.mark.parametrize(("accuracy", "bias"), [(0.9, 0.0), (0.6, 0.3), (0.25, 0.0), (0.5, 0.1)])
@pytest.mark.parametrize("variant", ["plain", "pairwise"])
def test_known_accuracy_and_bias_are_recovered(accuracy, bias, variant):
    source = material(120)
    questions = make_questions(source, texts=(1,), groups=40, variants=(variant,))
    options = 2 if variant == "pairwise" else 4
    expected = accuracy * (1 - bias) + bias / options
    rows = answered(oracle(accuracy, bias, seed=5), questions)
    found = summarise_judge(rows, resamples=1_000, level=0.999)  # 13 intervals are looked at in each of 8 cases
    slice = "texts=1" if variant == "plain" else "texts=1, pairwise"
    for name in (HUMAN, "one"):
        one = cell(found, "judge_accuracy", name, slice)
        assert one.n == 160
        assert one.low <= expected <= one.high
        assert one.high - one.low < 0.25
    floor = cell(found, "judge_accuracy", OTHER, slice)
    wrong = (1 - accuracy) / (options - 1) * (1 - bias) + bias / options
    assert floor.low <= wrong <= floor.high
    (position,) = found.positions
    assert position.bias["A"].low <= bias <= position.bias["A"].high
    for letter in "BCD"[: options - 1]:  # what A has too much, the others have too little
        one = position.bias[letter]
        assert one.low <= -bias / (options - 1) <= one.high
    assert sum(position.chosen.values()) == len(rows)
    assert (position.p < 0.002) == (bias > 0)


@pytest.mark.slow
def test_intervals_cover_and_the_test_of_positions_keeps_its_level():
    """Over 60 judges: intervals at 90 % hold the truth, and p < 0.1 comes about one time in ten."""
    questions = [row for row in make_questions(material(100), texts=(2,), groups=10) if row.source == HUMAN]
    covered, biased, false_alarms = 0, 0, 0
    for seed in range(60):
        found = summarise_judge(answered(oracle(0.6, 0.0, seed=seed), questions), level=0.9, resamples=400)
        one = cell(found, "judge_accuracy", HUMAN, "texts=2")
        covered += one.low <= 0.6 <= one.high
        biased += found.positions[0].bias["A"].low <= 0 <= found.positions[0].bias["A"].high
        false_alarms += found.positions[0].p < 0.1
    assert covered >= 46  # binomial(60, 0.9): fewer than 46 has probability below 0.001
    assert biased >= 46
    assert false_alarms <= 14


def test_a_judge_that_reads_only_positions_is_seen_through():
    questions = make_questions(material(), texts=(1,), groups=6)
    found = summarise_judge(answered(oracle(0.9, 1.0), questions))
    (position,) = found.positions
    assert position.chosen == {"A": len(questions), "B": 0, "C": 0, "D": 0}
    assert position.bias["A"].value == pytest.approx(1)
    assert position.agreement.value == 0
    assert position.p == pytest.approx(1 / 1001)
    one = cell(found, "judge_accuracy", "one", "texts=1")
    assert one.value == 0.25  # each person once in the first place: exactly chance
    assert one.verdict == "people's own texts are not told apart either (ceiling 0.25, chance 0.25)"
    assert one.frame["relative"] is None
    assert all(row.verdict == one.verdict for row in found.comparisons)


def test_a_judge_that_is_always_right():
    found = summarise_judge(answered(oracle(1.0), make_questions(material(), texts=(1,), groups=6)))
    one = cell(found, "judge_accuracy", "one", "texts=1")
    assert (one.value, one.high) == (1, 1)
    assert 0.8 < one.low < 1  # Wilson's of 24 groups, not of 96 questions
    assert one.frame == {"chance": 0.25, "ceiling": 1.0, "floor": 0.0, "relative": 1.0}
    assert found.positions[0].agreement.value == 1
    assert found.positions[0].p == 1
    assert cell(found, "judge_accuracy", OTHER, "texts=1, target=ann").value == 0


def test_missing_answers_are_counted_and_not_guessed():
    questions = make_questions(material(), texts=(1,), groups=6)
    rows = answered(oracle(1.0, 0.0, failing=0.3, seed=1), questions)
    lost = sum(row.heard.letter is None for row in rows)
    found = summarise_judge(rows)
    assert 0.2 < lost / len(rows) < 0.4
    assert sum(count for causes in found.failures.values() for count in causes.values()) == lost
    assert found.asked == {"human, texts=1": 96, "one, texts=1": 96, "other, texts=1": 96}
    assert cell(found, "judge_accuracy", "one", "texts=1").value == 1  # of those that answered, none was wrong
    silent = summarise_judge(answered(oracle(1.0, failing=1.0), questions))
    one = cell(silent, "judge_accuracy", "one", "texts=1")
    assert (one.value, one.low, one.high, one.n) == (None, None, None, 0)
    assert one.verdict.startswith("nobody's own texts were judged")
    assert silent.failures["one, texts=1"] == {"nobody named": 96}
    assert (silent.positions[0].p, silent.positions[0].n) == (None, 0)


def made(question, who, **probabilities):
    letter = question.letters[question.options.index(who)] if who else None
    return Judged(
        question, Heard(letter, None if who else "nobody named", "", probabilities or None, 10, 2), question.id
    )


def test_accuracy_and_comparisons_by_hand():
    """Two groups of one target; `one` is right in 3 of 4 and in 1 of 2 rotations that have an answer."""
    questions = [row for row in make_questions(material(), texts=(1,), groups=2) if row.target == "ann"]
    said = {HUMAN: ["ann"] * 8, OTHER: ["ben"] * 8, "one": ["ann", "ann", "ann", "ben", "ann", None, "cem", None]}
    turns = {name: iter(values) for name, values in said.items()}
    rows = [made(question, next(turns[question.source])) for question in questions]
    found = summarise_judge(rows, price=(100.0, 1000.0))
    assert cell(found, "judge_accuracy", "one", "texts=1").value == (0.75 + 0.5) / 2
    assert cell(found, "judge_accuracy", "one", "texts=1, target=ann").value == 0.625
    assert cell(found, "judge_accuracy", "one", "texts=1").frame["relative"] == (0.625 - 0.25) / (1 - 0.25)
    (pair,) = found.comparisons
    assert (pair.a, pair.b, pair.difference, pair.n) == (HUMAN, "one", 0.375, 2)
    assert pair.p == sign_flip([0.25, 0.5])
    assert pair.p_holm == holm([pair.p])[0]
    spent = found.spent
    assert (spent.conversations, spent.prompt_tokens, spent.reply_tokens) == (24, 240, 48)
    assert spent.cost == pytest.approx((240 * 100 + 48 * 1000) / 1e6)


def test_the_same_conversation_is_paid_for_once_and_an_unknown_number_of_tokens_has_no_cost():
    questions = make_questions(material(), texts=(1,), groups=1)[:2]
    rows = [Judged(question, Heard("A", None, "A", None, 10, 1), "the same") for question in questions]
    assert summarise_judge(rows, price=(1.0, 1.0)).spent.prompt_tokens == 10
    rows[1] = Judged(questions[1], Heard("A", None, "A", None, None, 1), "another")
    spent = summarise_judge(rows, price=(1.0, 1.0)).spent
    assert (spent.uncounted, spent.cost) == (1, None)


def test_probabilities_by_hand():
    questions = [row for row in make_questions(material(), texts=(1,), groups=1) if row.target == "ann"]
    rows = [
        made(
            question,
            "ann",
            **{letter: 0.7 if who == "ann" else 0.1 for letter, who in zip("ABCD", question.options, strict=True)},
        )
        for question in questions
    ]
    found = summarise_judge(rows)
    assert cell(found, "judge_probability", "one", "texts=1").value == pytest.approx(0.7)
    assert exp(-cell(found, "judge_log_loss", "one", "texts=1").value) == pytest.approx(0.7)
    assert exp(cell(found, "judge_log_loss", "one", "texts=1").frame["chance"]) == pytest.approx(4)


def slow_expected(rows, letters):
    """Expected counts of letters: the mean over all orders of the people named in each group, by a loop over them."""
    expected = dict.fromkeys(letters, 0.0)
    groups = {}
    for row in rows:
        if row.choice is not None:
            groups.setdefault((row.question.source, row.question.target, row.question.group), []).append(row)
    for group in groups.values():
        orders = [*itertools.permutations([row.choice for row in group])]
        for order in orders:
            for row, who in zip(group, order, strict=True):
                expected[letters[row.question.options.index(who)]] += 1 / len(orders)
    return expected


def test_bias_equals_a_slow_loop_over_all_orders():
    rows = answered(oracle(0.5, 0.2, failing=0.2, seed=2), make_questions(material(), texts=(1,), groups=4))
    (position,) = summarise_judge(rows, resamples=100).positions
    expected = slow_expected(rows, "ABCD")
    total = sum(position.chosen.values())
    for letter in "ABCD":
        assert position.bias[letter].value == pytest.approx((position.chosen[letter] - expected[letter]) / total / 0.75)


def test_oracle_depends_on_seed_and_question_alone():
    questions = make_questions(material(), texts=(1,), groups=3)
    first = oracle(0.5, 0.2, seed=1)(questions, [])
    assert first == oracle(0.5, 0.2, seed=1)(questions[::-1], [])[::-1]
    assert first != oracle(0.5, 0.2, seed=2)(questions, [])
    with pytest.raises(InputError, match="expected shares from 0 to 1"):
        oracle(1.2)


# --------------------------------------------------------------------------------------------------------- server

FRAME = {"config": {"judge": "m"}}


def naming(source, questions):
    """Answer as somebody who knows: by the conversation's text, the target's letter; every fifth names two."""
    right = {}
    for number, question in enumerate(questions):
        letter = question.letters[question.options.index(question.target)]
        forms = (letter, f"**{letter}**", f"Answer: {letter}", f"Person {letter}", "A or B?")
        right[conversation(question, source, WORDING)[-1]["content"]] = forms[number % 5]
    return lambda content, attempt: (200, completion(right[content], prompt_tokens=100, reply_tokens=3), {})


def test_a_server_judges_and_what_is_malformed_is_counted(tmp_path):
    source = material()
    questions = make_questions(source, texts=(1, 5), groups=2)
    with Faulty(naming(source, questions)) as server:
        generator = ServerGenerator("m", base_url=server.url, max_tokens=16, cache=tmp_path / "replies.db")
        rows = judge_to_file(tmp_path / "v.jsonl", speaking(generator), questions, source, WORDING, FRAME)
    assert set(server.asked.values()) == {1}
    assert [row.question for row in rows] == questions
    failed = [number for number, row in enumerate(rows) if row.heard.letter is None]
    assert failed == [*range(4, len(rows), 5)]
    assert {rows[number].heard.failure for number in failed} == {"several named"}
    assert all(row.choice == row.question.target for row in rows if row.choice)
    found = summarise_judge(rows, price=(1.0, 10.0))
    assert cell(found, "judge_accuracy", "one", "texts=5").value == 1
    assert found.spent.prompt_tokens == 100 * len(server.asked)
    assert found.spent.cost == pytest.approx((100 * 1.0 + 3 * 10.0) * len(server.asked) / 1e6)
    assert generator.usage.cost is None  # nothing of it rests on this process alone


@pytest.mark.parametrize("cached", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_interrupted_and_started_again_nothing_is_asked_twice(tmp_path, cached):
    source = material()
    questions = make_questions(source, texts=(1,), groups=3)
    assert len(questions) > 128

    def run(server, path):
        cache = tmp_path / f"{path}.db" if cached else None
        generator = ServerGenerator("m", base_url=server.url, cache=cache, patience=0, concurrency=3)
        return judge_to_file(tmp_path / path, speaking(generator), questions, source, WORDING, FRAME)

    answer = naming(source, questions)
    with Faulty(answer) as server:
        whole = run(server, "whole.jsonl")
    with Faulty() as server:

        def stopping(content, attempt):
            return (
                (503, {}, {})
                if len(server.answers) >= limit[0]
                else server.answers.append(content) or answer(content, attempt)
            )

        server.answers, server.fault, limit = [], stopping, [100]
        with pytest.raises(InputError, match=r"m: given up: the server was away .*; start again to go on"):
            run(server, "parts.jsonl")
        assert (tmp_path / "parts.jsonl.part").exists()
        assert not (tmp_path / "parts.jsonl").exists()
        limit[0] = 10_000
        assert run(server, "parts.jsonl") == whole
        twice = len(server.answers) - len(set(server.answers))
        assert twice == 0 if cached else twice < 64  # without a cache, the chunk that was not whole is asked again
        assert run(server, "parts.jsonl") == whole  # the finished file is read
        assert len(server.answers) - len(set(server.answers)) == twice
    assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_other_texts_are_not_mixed_with_those_of_before(tmp_path):
    source = material()
    questions = make_questions(source, texts=(1,), groups=1)
    judge_to_file(tmp_path / "v.jsonl", oracle(0.5), questions, source, WORDING, FRAME)
    rows = records(60)
    train, test, items = parted(rows)
    other = make_material(rows, train, test, {"one": imitated(items, text="{who} said {item}")})
    with pytest.raises(InputError, match="exists already, made from something else"):
        judge_to_file(
            tmp_path / "v.jsonl", oracle(0.5), make_questions(other, texts=(1,), groups=1), other, WORDING, FRAME
        )


def test_a_conversation_that_a_server_refuses_is_a_failure_of_its_own(tmp_path):
    source = material()
    questions = make_questions(source, texts=(1,), groups=1)
    bad = conversation(questions[3], source, WORDING)[-1]["content"]
    answer = naming(source, questions)
    refuse = (400, {"error": {"message": "too long"}}, {})
    with Faulty(lambda content, attempt: refuse if content == bad else answer(content, attempt)) as server:
        generator = ServerGenerator("m", base_url=server.url)
        rows = judge_to_file(tmp_path / "v.jsonl", speaking(generator), questions, source, WORDING, FRAME)
    assert (rows[3].heard.failure, rows[3].heard.reply) == ("no reply", "the server answers 400: too long")
    assert rows[3].choice is None


def test_replies_that_are_no_text():
    assert hear(Reply("B \ud800", "stop"), "AB").reply == "B ?"
    assert hear(Reply(None, "failed", "late", 5), "AB") == Heard(None, "no reply", "late", None, 5, None)


# ---------------------------------------------------------------------------------------------------- local models


@pytest.mark.parametrize("chat", [True, False])
def test_a_local_model_gives_probabilities_that_equal_those_of_a_plain_loop(chat):
    import torch

    source = material()
    questions = make_questions(source, texts=(1,), groups=1, per_person=1, variants=("plain", "pairwise"))[:40:3]
    talks = [conversation(question, source, WORDING) for question in questions]
    words = answerers.tokenizer(corpus=[talk[-1]["content"] for talk in talks], chat=chat)
    model = answerers.causal("llama", words, positions=2048)
    judge = scoring(Answerer(model, words, Task(("text",), "{text} {labels}"), labels=("x", "y")))
    heard = judge(questions, talks)
    for question, talk, one in zip(questions, talks, heard, strict=True):
        if chat:
            text = words.apply_chat_template(
                [dict(message) for message in talk], tokenize=False, add_generation_prompt=True
            )
            ids, gap = words(text, add_special_tokens=False)["input_ids"], ""
        else:
            ids, gap = words("\n\n".join(message["content"] for message in talk) + "\nAnswer:")["input_ids"], " "
        scores = []
        for letter in question.letters:
            own = words(gap + letter, add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logits = model(torch.tensor([ids + own])).logits[0].log_softmax(-1)
            scores.append(sum(float(logits[len(ids) - 1 + place, token]) for place, token in enumerate(own)))
        expected = np.exp(scores) / np.exp(scores).sum()
        assert [*one.probabilities] == [*question.letters]
        assert np.allclose([*one.probabilities.values()], expected, atol=1e-4)
        assert one.letter == max(one.probabilities, key=one.probabilities.get)
        assert one.prompt_tokens >= len(ids) - 8


def test_a_prompt_that_is_too_long_is_a_failure():
    source = material()
    questions = make_questions(source, texts=(1,), groups=1)[:3]
    talks = [conversation(question, source, WORDING) for question in questions]
    words = answerers.tokenizer(corpus=[talk[-1]["content"] for talk in talks])
    heard = scoring(
        Answerer(answerers.causal("gpt2", words, positions=64), words, Task(("t",), "{t} {labels}"), labels=("x", "y"))
    )(questions, talks)
    assert {(one.letter, one.failure) for one in heard} == {(None, "longer than the model reads")}
