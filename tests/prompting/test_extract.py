"""Asking about records: who is asked what, what comes of the replies, and what is counted."""

import json
import re
import sys

import numpy as np
import pytest
import torch

import answerers
import raison.prompting
from raison.evaluation.alignment import human_size
from raison.evaluation.measure import measure_reply
from raison.evaluation.summarise import REPLIES
from raison.models import Answerer
from raison.models.chat import Reply, render
from raison.models.tasks import Task, load_task
from raison.prompting import explain, explain_to_file
from raison.prompting.extract import _human_size
from raison.rationales import Rationale, load_scores
from raison.records import Annotation, InputError, Prediction, Record, Span

module = sys.modules[raison.prompting.explain.__module__]
LABELS = ("entailment", "neutral", "contradiction")
TEXTS = (
    ("a young man plays", "the man sleeps"),
    ("two red dogs run", "dogs are not here"),
    ("she reads", "nobody reads a book"),
)


def record(index, marked=(), label="neutral"):
    """Make a record; `marked` are the words of the premise that each person marked."""
    premise, hypothesis = TEXTS[index % 3]
    people = []
    for words in marked:
        starts = [premise.index(word) for word in words]
        spans = tuple(Span(start, start + len(word)) for start, word in sorted(zip(starts, words, strict=True)))
        people.append(Annotation(rationale={"premise": spans}))
    return Record(f"r{index}", {"premise": premise, "hypothesis": hypothesis}, label=label, annotations=tuple(people))


RECORDS = [record(i) for i in range(3)]


class Model:
    """What `explain` needs of an answering model; says contradiction always."""

    name = "fake"
    labels = LABELS
    task = Task(("premise", "hypothesis"), "P: {premise} H: {hypothesis} One of: {labels}.", {"neutral": "open"})
    segment = staticmethod(module.whitespace_words)
    shuffle = None

    def predict(self, records, progress=None):
        return [Prediction(row.id, "fake", "contradiction") for row in records]


class Speaker:
    """A generator that answers by a function of the conversation, and keeps what it was asked."""

    name = "speaker"

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def generate(self, conversations, progress=None):
        self.asked += conversations
        replies = [self.answer(talk) for talk in conversations]
        return [reply if isinstance(reply, Reply) else Reply(reply, "stop") for reply in replies]


def first_words(talk):
    """Name the first words of the hypothesis: as many as are asked for, else one."""
    words = re.search(r"H: (.*) One of", talk[0]["content"])[1].split()
    count = re.search(r"exactly (\d+)", talk[-1]["content"])
    return json.dumps(words[: int(count[1]) if count else 1])


def chosen(rationale):
    return np.flatnonzero(np.concatenate(list(rationale.words.values()))).tolist()


def test_the_models_own_answer_stands_in_the_chat():
    speaker = Speaker(first_words)
    found = explain(Model(), speaker, RECORDS)
    assert [item.record_id for item in found] == ["r0", "r1", "r2"]
    assert {item.source for item in found} == {"prompted/unbound"}
    assert [chosen(item) for item in found] == [[4], [2, 4], [2]]  # "dogs" stands in both texts
    assert [talk[1]["content"] for talk in speaker.asked] == ["contradiction"] * 3
    assert found[0].budget == "unbound"
    assert found[0].notes == {
        "target": "contradiction", "asked": None, "reply": '["the"]', "how": "json", "cut": False, "items": 1,
        "matched": 1, "partial": 0, "hallucinated": 0, "from_prompt": 0, "fuzzy": 0, "over": 0, "under": 0,
    }  # fmt: skip
    gold = Speaker(first_words)
    explain(Model(), gold, RECORDS, label="gold")
    assert [talk[1]["content"] for talk in gold.asked] == ["open"] * 3  # the label's word
    forced = Speaker(lambda talk: "[]")
    explain(None, forced, RECORDS, task=load_task("nli"), label="entailment")
    assert [talk[1]["content"] for talk in forced.asked] == ["entailment"] * 3


def test_predictions_made_before_and_answers_that_are_none():
    given = [Prediction("r2", "api", "neutral"), Prediction("r0", "api", None), Prediction("r1", "api", "entailment")]
    speaker = Speaker(lambda talk: "[]")
    found = explain(given, speaker, RECORDS, task=Model.task)
    assert [talk[1]["content"] for talk in speaker.asked] == ["entailment", "open"]
    assert [item.failure for item in found] == ["no predicted answer to explain", None, None]
    assert "reply" not in found[0].notes
    assert chosen(found[0]) == []
    assert [mask.size for mask in found[0].words.values()] == [4, 3]
    for order, turns in (("explain-then-predict", {1, 3}), ("fresh-session", {1})):  # nothing needs an answer there
        other = Speaker(lambda talk: "[]")
        assert all(item.failure is None for item in explain(None, other, RECORDS, task=load_task("nli"), order=order))
        assert {len(talk) for talk in other.asked} == turns
    with pytest.raises(InputError, match="record 'r1' has no prediction"):
        explain(given[:2], speaker, RECORDS, task=Model.task)


def test_budgets():
    people = [
        record(0, [["young", "man"], ["young", "man", "plays"], []]),  # (2 + 3) / 2 = 2.5 -> 3, as in evaluation
        record(1, [[]]),
        record(2),
    ]
    cases = {
        "human": [3, "the budget human is undefined here", "the budget human is undefined here"],
        "k:2": [2, 2, 2],
        "k:99": [7, 8, 6],  # no more than there are
        "ratio:0.5": [4, 4, 3],  # 3.5 and 4 and 3
        "ratio:0.01": [1, 1, 1],
        "match:lime": [2, 0, "the budget match:lime is undefined here"],
    }
    for budget, expected in cases.items():
        speaker = Speaker(first_words)
        found = explain(Model(), speaker, people, budget=budget, sizes={"r0": 2, "r1": 0})
        assert [item.failure or item.notes["asked"] for item in found] == expected
        assert {(item.source, item.budget) for item in found} == {(f"prompted/{budget}", budget)}
        asked = [count for count in expected if isinstance(count, int) and count]
        said = [re.search(r"exactly (\d+) words?;", talk[-1]["content"])[1] for talk in speaker.asked]
        assert list(map(int, said)) == asked
        assert all(len(chosen(item)) <= item.notes["asked"] for item in found if item.failure is None)


def test_a_budget_counts_in_the_open_fields_alone():
    people = [record(0, [["young", "man"]])]
    (whole,) = explain(Model(), Speaker(first_words), people, budget="human")
    (part,) = explain(Model(), Speaker(first_words), people, budget="human", fields=["hypothesis"])
    assert whole.notes["asked"] == 2
    assert part.failure == "the budget human is undefined here"
    assert part.source == "prompted/human/hypothesis"
    (share,) = explain(Model(), Speaker(first_words), people, budget="ratio:1", fields=["hypothesis"])
    assert (share.notes["asked"], chosen(share)) == (3, [4, 5, 6])


def test_the_human_budget_is_that_of_evaluation():
    rng = np.random.default_rng(0)
    for _ in range(200):
        people = rng.random((rng.integers(0, 5), 6)) < rng.random()
        assert _human_size(people) == human_size(people)


def test_a_correct_reply_in_each_form():
    def answer(talk):
        last = talk[-1]["content"]
        if "[1]" in last:
            return "[2, 6]"
        return "a **young** man plays\nthe **man** sleeps" if "**" in last else '["young", "sleeps"]'

    expected = {"json": [1, 6], "numbers": [1, 5], "marked": [1, 5]}
    for form, words in expected.items():
        (found,) = explain(Model(), Speaker(answer), RECORDS[:1], form=form, order="predict-then-explain")
        assert chosen(found) == words, form
    name = explain(Model(), Speaker(answer), RECORDS[:1], form="numbers", limit="at-most", request="evidence",
                   repeats="first", fuzzy=True, budget="k:2")[0].source  # fmt: skip
    assert name == "prompted/k:2/at-most/numbers/first/evidence/fuzzy"


def test_replies_that_fail_and_what_is_counted():
    replies = iter([
        "",  # empty
        "I can't help with that.",
        Reply("[\"young", "length"),
        Reply(None, "failed", "the server is down"),
        Reply('["young", "plays", "th', "length"),  # 2 of 3 asked for: under
        '["young", "cat", "neutral", "the man is", "sleeps"]',  # 2 matched, 1 hallucinated, 1 of the prompt, 1 in part
        '["a", "young", "man", "plays"]',  # 4 of 3: over
        "\ud800 [\"young\"]",
    ])  # fmt: skip
    records = [record(0) for _ in range(8)]
    records = [Record(f"r{i}", row.fields) for i, row in enumerate(records)] + [Record("r8", records[0].fields)]
    known = [Prediction(f"r{i}", "m", "neutral") for i in range(8)] + [Prediction("r8", "m", None)]
    found = explain(known, Speaker(lambda talk: next(replies)), records, task=load_task("nli"), budget="k:3")
    assert [item.failure for item in found] == [
        "empty reply", "refusal", "cut off", "no reply: the server is down", None, None, None, None,
        "no predicted answer to explain",
    ]  # fmt: skip
    json.dumps([item.notes for item in found], ensure_ascii=False).encode()
    counted = [measure_reply(item) for item in found]

    def values(name):
        return [row[name] for row in counted if name in row]

    assert measure_reply(Rationale("x", "a person", {"text": np.ones(2, bool)})) == {}
    assert counted[8] == {}  # nobody was asked
    assert counted[3] == {"reply_missing": 1.0}
    assert values("reply_missing") == [0, 0, 0, 1, 0, 0, 0, 0]
    assert values("reply_unreadable") == [1, 0, 1, 0, 0, 0, 0]
    assert values("reply_refused") == [0, 1, 0, 0, 0, 0, 0]
    assert values("reply_cut") == [0, 0, 1, 1, 0, 0, 0]
    # of 2, 5, 4 and 1 items
    for name in ("reply_hallucinated", "reply_partial", "reply_from_prompt"):
        assert values(name) == [0, 1 / 5, 0, 0], name
    assert values("reply_fuzzy") == [0, 0, 0, 0]
    assert values("reply_over") == [0, 1, 1, 0]  # young, the man, sleeps are 4 words too
    assert values("reply_under") == [1, 0, 0, 1]
    assert values("reply_share") == [2 / 7, 3 / 7, 3 / 7, 1 / 7]
    assert set().union(*counted) <= set(REPLIES)


# ------------------------------------------------------------------------------ the answer after the explanation


def test_the_answer_is_asked_for_after_an_explanation_that_came_first():
    """The model says contradiction by itself, and after its words what each record's reply is."""
    after = iter(["contradiction", "It is open.", "no idea"])  # `open` is the task's word for neutral

    def answer(talk):
        return next(after) if len(talk) == 3 else '["the"]'

    speaker = Speaker(answer)
    found = explain(Model(), speaker, RECORDS, order="explain-then-predict")
    assert [(item.notes["then"], item.notes["alone"]) for item in found] == [
        ("contradiction", "contradiction"), ("neutral", "contradiction"), (None, "contradiction"),
    ]  # fmt: skip
    first, then = speaker.asked[0], speaker.asked[3]
    question = Model.task.messages(Model.task.texts(RECORDS[0]), LABELS)
    assert then == [*first, {"role": "assistant", "content": '["the"]'}, *question]
    counted = [measure_reply(item) for item in found]
    assert [row["reply_then_unreadable"] for row in counted] == [0, 0, 1]
    np.testing.assert_array_equal([row["reply_then_agrees"] for row in counted], [1, 0, np.nan])
    (other,) = explain(Model(), Speaker(first_words), RECORDS[:1], order="fresh-session")
    assert not {"then", "alone"} & other.notes.keys()


def test_without_a_reply_nothing_is_asked_after_it_and_an_unknown_answer_agrees_with_none():
    replies = iter([Reply(None, "failed", "down"), Reply("\ud800", "stop"), Reply("neutral", "stop")])
    found = explain(None, Speaker(lambda talk: next(replies)), RECORDS[:2], task=load_task("nli"),
                    order="explain-then-predict")  # fmt: skip
    assert "then" not in found[0].notes
    assert (found[1].notes["then"], found[1].notes["alone"]) == ("neutral", None)
    assert np.isnan(measure_reply(found[1])["reply_then_agrees"])


@pytest.mark.parametrize("chat", [True, False])
def test_a_model_that_is_here_scores_its_labels_after_the_explanation(chat):
    words = answerers.tokenizer(chat=chat)
    model = Answerer(answerers.causal("llama", words, positions=1024), words, "nli", labels=LABELS)
    found = explain(model, Speaker(lambda talk: '["the"]'), RECORDS, order="explain-then-predict")
    for item, record in zip(found, RECORDS, strict=True):
        question = model.task.messages(model.task.texts(record), LABELS)
        request = Speaker(lambda talk: '["the"]')
        explain(None, request, [record], task=model.task, order="explain-then-predict", segment=model.segment)
        talk = [*request.asked[0], {"role": "assistant", "content": item.notes["reply"]}, *question]
        text, special = render(words, talk)
        text += "" if chat else f"\n{model.task.answer}"
        prompt = words(text, add_special_tokens=special).input_ids
        sums = []
        for label in LABELS:  # log-probability of the label's tokens, one after the other
            ids = words(text + ("" if chat else " ") + label, add_special_tokens=special).input_ids
            with torch.no_grad():
                logits = model.model(torch.tensor([ids])).logits[0].log_softmax(-1)
            sums.append(sum(float(logits[at - 1, ids[at]]) for at in range(len(prompt), len(ids))))
        assert item.notes["then"] == LABELS[int(np.argmax(sums))]
        assert item.notes["alone"] == model.predict([record])[0].label


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": 1}, "explain takes no option 'colour'; it takes request, budget"),
        ({"order": "both"}, "unknown order 'both'; expected one of predict-then-explain, explain"),
        ({"form": "xml"}, "unknown form 'xml'; expected one of json, numbers, marked"),
        ({"limit": "unbound"}, "unknown limit 'unbound'; expected one of exactly, at-most"),
        ({"repeats": "last"}, "unknown repeats 'last'"),
        ({"budget": "mass:0.5"}, "budget 'mass:0.5': needs scores"),
        ({"budget": "many"}, "unknown budget 'many'"),
        ({"budget": "match:lime"}, "budget 'match:lime': the sizes of lime are needed"),
        ({"label": "maybe"}, "unknown label 'maybe'; expected predicted, gold, or one of entailment"),
        ({"fields": ["text"]}, "field 'text': the task shows premise, hypothesis"),
        ({"request": "nope"}, "unknown request 'nope'"),
        ({"fuzzy": "yes"}, "explain: expected `bool`"),
    ],
)
def test_wrong_options_cost_one_clear_line(options, message):
    with pytest.raises(InputError) as caught:
        explain(Model(), Speaker(first_words), RECORDS, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_or_its_task_is_needed():
    with pytest.raises(ValueError, match="a task is needed"):
        explain(None, Speaker(first_words), RECORDS)
    with pytest.raises(ValueError, match="the model or its predictions are needed"):
        explain(None, Speaker(first_words), RECORDS, task=load_task("nli"))
    with pytest.raises(InputError, match="has no field 'premise'"):
        explain(Model(), Speaker(first_words), [Record("1", {"text": "a"})])


# ------------------------------------------------------------------------------------------------------- files


@pytest.fixture
def chunks_of_two(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 2)


@pytest.mark.usefixtures("chunks_of_two")
def test_a_file_cut_at_any_byte_is_finished_to_the_same_bytes(tmp_path):
    many = [record(i) for i in range(7)]
    whole = tmp_path / "whole.jsonl"
    assert explain_to_file(whole, Model(), Speaker(first_words), many, models={"m": "1"}, budget="k:2") == 0
    for a, b in zip(load_scores(whole), explain(Model(), Speaker(first_words), many, budget="k:2"), strict=True):
        assert (a.record_id, a.source, a.budget, a.failure, a.notes) == (
            b.record_id, b.source, b.budget, b.failure, b.notes,
        )  # fmt: skip
        assert chosen(a) == chosen(b)
    content = whole.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    for cut in (0, 1, ends[0], ends[1] - 1, ends[1], ends[3] + 5, ends[6]):
        path = tmp_path / f"{cut}.jsonl"
        (tmp_path / f"{cut}.jsonl.part").write_bytes(content[:cut])
        (tmp_path / f"{cut}.jsonl.meta.json").write_bytes((tmp_path / "whole.jsonl.meta.json").read_bytes())
        speaker = Speaker(first_words)
        done = explain_to_file(path, Model(), speaker, many, models={"m": "1"}, budget="k:2")
        assert done == sum(end <= cut for end in ends) // 2 * 2
        assert len(speaker.asked) == 7 - done  # nothing that stands is asked again
        assert path.read_bytes() == content
    assert explain_to_file(whole, Model(), Speaker(None), many, models={"m": "1"}, budget="k:2") == 7


@pytest.mark.parametrize("change", ["models", "budget", "records", "predictions", "sizes"])
def test_something_else_on_the_same_path_is_refused(tmp_path, change):
    path = tmp_path / "words.jsonl"
    known = [Prediction(row.id, "m", "neutral") for row in RECORDS]
    given = {"models": {"m": "1"}, "budget": "match:a", "sizes": {"r0": 1}, "task": load_task("nli")}
    explain_to_file(path, known, Speaker(first_none), RECORDS, **given)
    records = RECORDS[:2] if change == "records" else RECORDS
    other = {"models": {"m": "2"}, "budget": "k:1", "sizes": {"r0": 2}}.get(change)
    if change == "predictions":
        known = [Prediction(row.id, "m", "entailment") for row in RECORDS]
    before = path.read_bytes()
    with pytest.raises(InputError, match="made from something else"):
        explain_to_file(path, known, Speaker(None), records, **{**given, **({change: other} if other else {})})
    assert path.read_bytes() == before


def first_none(talk):
    return "[]"
