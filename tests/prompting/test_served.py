"""Models that answer in words, judged: flip rates worked out by hand, and those of a slow loop over a local model."""

import json
import re
from collections import Counter

import numpy as np
import pytest

import answerers
from faulty_server import Faulty, completion
from raison.checks import Spoken, cc_shap
from raison.cli import main
from raison.evaluation import evaluate
from raison.evaluation.evaluate import Judge, by_source, make_options
from raison.evaluation.faithfulness import random_masks
from raison.evaluation.files import load as load_verdict
from raison.evaluation.summarise import UNGRADED
from raison.models import Answerer, patience
from raison.models.chat import Reply
from raison.models.server import ServerGenerator
from raison.models.tasks import load_task
from raison.prompting import Served
from raison.rationales import Rationale, WordScores, save_scores
from raison.records import Annotation, InputError, Record, write_records
from raison.words import whitespace_words
from speakers import LABELS, TASK, Speaker, sentiment, text_of

TEXTS = ("good film and a long one", "bad old film", "a good and good film", "film bad")


def record(index, text):
    """Make a record in which a person marked the last word."""
    spans = whitespace_words(text)
    label = "positive" if "good" in text else "negative"
    return Record(
        f"r{index}", {"text": text}, label=label, annotations=(Annotation("p", None, {"text": (spans[-1],)}),)
    )


RECORDS = [record(index, text) for index, text in enumerate(TEXTS)]


def answer(talk):
    """Say good or bad by the first such word; `film` alone is positive; and nothing else can be told."""
    text = text_of(talk)
    return (
        "positive" if text.split() == ["film"] else "I can't tell." if sentiment(talk) == "unknown" else sentiment(talk)
    )


def chosen(*places):
    """Make a rationale of each record, of the words at one place."""
    return [
        Rationale(row.id, "one", {"text": np.arange(len(row.fields["text"].split())) == place})
        for row, place in zip(RECORDS, places, strict=True)
    ]


def served(speaker):
    return Served(speaker, TASK, LABELS)


def judged(**options):
    speaker = Speaker(answer)
    return speaker, evaluate(served(speaker), RECORDS, chosen(0, 0, 1, 1), draws=3, resamples=100, **options)


def test_flip_rates_by_hand():
    """Without its word each text says: r0 nothing readable, r1 likewise, r2 good still, r3 `film`: positive, a flip."""
    _, verdict = judged()
    items = {item.record_id: item for item in verdict.items}
    assert [items[f"r{i}"].predicted for i in range(4)] == ["positive", "negative", "positive", "negative"]
    found = {key: item.sources["one"].metrics for key, item in items.items()}
    assert [found[f"r{i}"]["flip_rate"] for i in range(4)] == [None, None, 0, 1]
    assert [found[f"r{i}"]["flip_unreadable"] for i in range(4)] == [1, 1, 0, 0]
    assert [found[f"r{i}"]["flip_rate.full"] for i in range(4)] == [None] * 4  # nothing is left to answer to
    assert [found[f"r{i}"]["flip_unreadable.full"] for i in range(4)] == [1] * 4
    # without the last word, which people marked: r3 loses `bad`, the others keep their word
    assert [found[f"r{i}"]["flip_rate.human"] for i in range(4)] == [0, 0, 0, 1]
    # only the word kept: the label stays
    assert [found[f"r{i}"]["sufficiency_flip_rate"] for i in range(4)] == [0, 0, 0, 0]
    rate, lost = verdict.cell("flip_rate", "one"), verdict.cell("flip_unreadable", "one")
    assert (rate.value, rate.n) == (0.5, 2)
    assert (lost.value, lost.n, lost.frame["full"]) == (0.5, 4, 1.0)
    assert items["r0"].sources["one"].label_without is None
    assert items["r0"].probability is None


def test_random_words_stand_beside():
    _, verdict = judged()
    for item, row in zip(verdict.items, RECORDS, strict=True):
        words = row.fields["text"].split()
        flips = []
        for mask in random_masks(np.ones(len(words), bool), 1, 3, seed=0, record_id=row.id):
            text = " ".join(word for word, gone in zip(words, mask, strict=True) if not gone)
            label = answer([{"content": f"Text: {text}"}])
            flips += [label != item.predicted] if label in LABELS else []
        expected = np.mean(flips) if flips else None
        assert item.sources["one"].metrics["flip_rate.random"] == expected


def test_what_needs_probabilities_is_undefined_and_says_so():
    scores = [
        WordScores(row.id, "scored", None, {"text": np.arange(len(row.fields["text"].split()), dtype=np.float32)})
        for row in RECORDS
    ]
    speaker = Speaker(answer)
    verdict = evaluate(served(speaker), RECORDS, {"a": scores, "b": scores}, draws=2, resamples=100, also=["flips"])
    for metric in ("comprehensiveness", "sufficiency", "aopc_comprehensiveness", "aopc_sufficiency"):
        cell = verdict.cell(metric, "a")
        assert (cell.value, cell.n, cell.verdict) == (None, 0, f"undefined: {UNGRADED}")
    assert verdict.curves == []
    assert any(UNGRADED in note and "AOPC" in note for note in verdict.notes)
    withheld = {row.metric: row.verdict for row in verdict.comparisons}
    assert withheld["aopc_comprehensiveness"] == f"withheld: {UNGRADED}"
    assert verdict.cell("f1", "a").value is not None
    # the lowest word is the first: r0 and r1 can't be told without it, r2 stays, r3 loses `film` and stays
    assert verdict.cell("flip_rate", "a").frame["least"] == 0.0
    # `film` last: r3 flips when `bad` goes; r1 is unreadable at its second word, so its fraction is not known
    fractions = [item.sources["a"].metrics["flip_fraction"] for item in verdict.items]
    assert fractions == [None] * 4
    assert [item.sources["a"].metrics["flip_top"] for item in verdict.items] == [0, 0, 0, 1]
    asked = [text_of(talk) for talk in speaker.asked]
    assert len(asked) < 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"also": ["log-odds"]}, "log-odds needs probabilities: speaker gives labels alone"),
        ({"also": ["soft"]}, "soft needs weights: speaker gives labels alone"),
        ({"one_out": True}, "one_out needs probabilities: speaker gives labels alone"),
        ({"mask": "mask"}, "texts are masked by delete or text:STRING"),
        ({"unit": "token"}, "by word or run"),
    ],
)
def test_what_can_not_be_had_costs_one_line_and_no_question(options, message):
    speaker = Speaker(answer)
    with pytest.raises(InputError, match=message):
        evaluate(served(speaker), RECORDS, chosen(0, 0, 1, 1), **options)
    assert speaker.asked == []


def test_the_number_of_questions_is_known_before():
    speaker = Speaker(answer)
    options = make_options({"draws": 3})
    judge = Judge(served(speaker), RECORDS, by_source(chosen(0, 0, 1, 1)), options)
    count = judge.questions(RECORDS)
    assert speaker.asked == []
    judge(RECORDS)
    distinct = Counter(json.dumps(talk) for talk in speaker.asked)
    # two maskings may make one text: without either `good` r2 reads alike only where all else is
    assert len(distinct) <= count <= len(speaker.asked)


def test_an_answer_to_the_whole_that_names_no_label_has_none_to_flip():
    speaker = Speaker(lambda talk: "who knows" if "long" in text_of(talk) else answer(talk))
    verdict = evaluate(served(speaker), RECORDS, chosen(0, 0, 1, 1), draws=2, resamples=100)
    assert verdict.items[0].predicted is None
    assert verdict.items[0].sources["one"].metrics["flip_unreadable"] is None
    assert any(note.startswith("1 of 4 records: the model's answer names no label") for note in verdict.notes)
    assert verdict.validity.invalid_rate == 0.25


def test_fields_that_the_task_does_not_show_are_not_seen():
    row = Record("x", {"title": "bad", "text": "good film"})
    (tokens,) = served(Speaker(answer)).encode([row])
    assert tokens.seen.tolist() == [False, True, True]


def test_a_server_that_stays_away_ends_the_work():
    gone = Reply(None, "failed", "given up: the server was away (503)")
    with pytest.raises(InputError, match=r"speaker: given up: .* start again to go on"):
        evaluate(served(Speaker(lambda talk: gone)), RECORDS, chosen(0, 0, 1, 1))
    held = Reply(None, "failed", "the server's content filter held the reply back")  # one question's own trouble
    assert served(Speaker(lambda talk: held)).predict(RECORDS[:1])[0].label is None


# ------------------------------------------------------------------------------------- a local model behind a server


@pytest.fixture
def quick(monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def local():
    words = answerers.tokenizer()
    return Answerer(answerers.causal("llama", words, seed=4), words, TASK, labels=LABELS, calibrate="prior")


def relay_of(model):
    """Let a server answer with a local model's most probable label for whatever text it is sent."""

    def relay(body):
        text = text_of(json.loads(body)["messages"])
        label = model.predict([Record("x", {"text": text})])[0].label
        return 200, completion(f"Answer: {label}."), {}

    return relay


def test_flip_rates_through_a_server_equal_a_slow_loop(quick, local, tmp_path):
    places = (1, 0, 1, 1)
    with Faulty(relay=relay_of(local)) as server:
        generator = ServerGenerator("m", base_url=server.url, cache=tmp_path / "replies.db")
        model = Served(generator, TASK, LABELS)
        verdict = evaluate(model, RECORDS, chosen(*places), draws=4, resamples=100)
        asked = generator.usage.requests
        again = evaluate(model, RECORDS, chosen(*places), draws=4, resamples=100)
    assert generator.usage.requests == asked  # the cache knows all
    assert again.cells == verdict.cells

    def label(words, gone):
        text = " ".join(word for word, away in zip(words, gone, strict=True) if not away)
        return local.predict([Record("x", {"text": text})])[0].label

    for item, row, place in zip(verdict.items, RECORDS, places, strict=True):
        words = row.fields["text"].split()
        none, mine = np.zeros(len(words), bool), np.arange(len(words)) == place
        before = label(words, none)
        draws = random_masks(~none, 1, 4, seed=0, record_id=row.id)
        found = item.sources["one"].metrics
        assert found["flip_rate"] == float(label(words, mine) != before)
        assert found["sufficiency_flip_rate"] == float(label(words, ~mine) != before)
        assert found["flip_rate.full"] == float(label(words, ~none) != before)
        assert found["flip_rate.human"] == float(label(words, np.arange(len(words)) == len(words) - 1) != before)
        assert found["flip_rate.random"] == np.mean([label(words, draw) != before for draw in draws])


def test_the_command_line_judges_a_model_behind_a_server(quick, tmp_path, capsys):
    def relay(body):
        return 200, completion(answer(json.loads(body)["messages"])), {}

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        return end.value.code

    task = tmp_path / "own.toml"
    task.write_text('fields = ["text"]\nprompt = "Text: {text}\\nWhich sentiment? One of: {labels}."\n')
    write_records(tmp_path / "test.jsonl", RECORDS)
    save_scores(tmp_path / "one.jsonl", chosen(0, 0, 1, 1))
    given = ("evaluate", "--data", tmp_path / "test.jsonl", "--rationales", tmp_path / "one.jsonl", "--draws", 3)
    with Faulty(relay=relay) as server:
        there = ("--model", "m", "--server", server.url, "--task", task, "--cache", tmp_path / "replies.db")
        assert run(*given, *there, "--out", tmp_path / "verdict") == 0
        said = capsys.readouterr()
        asked = len(server.bodies)
        assert run(*given, *there, "--out", tmp_path / "again") == 0
        assert len(server.bodies) == asked
        assert run(*given, *there, "--also", "soft", "--out", tmp_path / "soft") == 2
        assert "soft needs weights: m gives labels alone" in capsys.readouterr().err
    assert "questions for 4 records" in said.err
    assert f"{asked} requests" in said.err
    assert "it needs probabilities" in said.out
    verdict = load_verdict(tmp_path / "verdict")
    assert verdict.cell("flip_rate", "one").value == 0.5
    assert run(*given, "--server", server.url, "--out", tmp_path / "none") == 2
    assert "--server: the name that it has for the model is needed" in capsys.readouterr().err


# ------------------------------------------------------------------------------------- the command line and servers


@pytest.fixture
def desk(quick, tmp_path):
    """A folder with records and two tasks, one for each fault of the command line."""
    for name, ask in (("own", "Which sentiment?"), ("other", "What is it?")):
        (tmp_path / f"{name}.toml").write_text(
            f'fields = ["text"]\nprompt = "Text: {{text}}\\n{ask} One of: {{labels}}."\n'
        )
    write_records(tmp_path / "test.jsonl", RECORDS)
    return tmp_path


SEED = 1  # by which the first three records have two orders of labels


def command(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


def plain(body):
    talk = json.loads(body)["messages"]
    said = '["good"]' if len(talk) > 1 else answer(talk)
    return 200, completion(said), {}


def one_line(capsys):
    said = capsys.readouterr().err.strip()
    assert said.startswith("raison: ")
    assert "\n" not in said
    return said


def test_a_probe_that_needs_weights_refuses_a_server(desk, capsys):
    with Faulty(relay=plain) as server:
        there = ("--model", "m", "--server", server.url, "--data", desk / "test.jsonl", "--task", desk / "own.toml")
        assert command("probe", "cc-shap", *there, "--out", desk / "cc.jsonl") == 2
        assert not server.bodies
    assert "cc-shap needs weights, and a model behind a server gives answers only" in one_line(capsys)
    with pytest.raises(InputError, match="cc-shap needs weights"):
        cc_shap(Spoken(Speaker(answer), TASK, LABELS), RECORDS)


def test_a_probe_through_a_server_knows_what_it_was_made_with(desk, capsys):
    with Faulty(relay=plain) as server:
        there = ("probe", "insertion", "--model", "m", "--server", server.url, "--data", desk / "test.jsonl")
        out = ("--out", desk / "probed.jsonl")
        assert command(*there, *out, "--task", desk / "own.toml", "--price", "1,2") == 0
        assert ", cost 0." in capsys.readouterr().err
        asked = len(server.bodies)
        assert command(*there, *out, "--task", desk / "own.toml") == 0
        capsys.readouterr()
        for other in (
            ("--task", desk / "other.toml"),
            ("--task", desk / "own.toml", "--shuffle-labels", 0),
            ("--task", desk / "own.toml", "--words", "characters"),
        ):
            assert command(*there, *out, *other) == 2
            assert "made from something else" in capsys.readouterr().err
        assert len(server.bodies) == asked


def test_asking_through_a_server_orders_labels_by_the_seed(desk, capsys):
    with Faulty(relay=plain) as server:
        there = ("--model", "m", "--server", server.url, "--data", desk / "test.jsonl", "--task", desk / "own.toml")
        given = (*there, "--shuffle-labels", SEED, "--limit", 3, "--cache", desk / "c.db", "--price", "1e6,0")
        assert command("ask", *given, "--rate", 60000, "--patience", 5, "--timeout", 9, "--out", desk / "a.jsonl") == 0
        prompts = {body["messages"][0]["content"] for body in server.bodies}
        asked = len(server.bodies)
        assert command("ask", *there, "--limit", 3, "--out", desk / "a.jsonl") == 2  # another order of labels
    model = Served(Speaker(answer), load_task(str(desk / "own.toml")), LABELS, shuffle=SEED)
    assert prompts == {model.question(row)[0]["content"] for row in RECORDS[:3]}
    assert len({prompt.partition("One of")[2] for prompt in prompts}) == 2
    said = capsys.readouterr().err
    assert f"cost {asked * 7}.0000" in said
    (following,) = re.findall(r"next: (.*)", said)
    for part in (
        "--limit 3",
        f"--shuffle-labels {SEED}",
        "--server http",
        "--cache",
        "--price 1e6,0",
        "--rate 60000",
        "own.",
    ):
        assert part in following
    assert "--calibrate" not in following


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--calibrate", "prior"), "--calibrate: only for a model that is loaded here"),
        (("--dtype", "bfloat16"), "--dtype: only for a model that is loaded here"),
        (("--four-bit",), "--four-bit: only for a model that is loaded here"),
        (("--price", "1"), "--price '1': expected two numbers"),
        (("--price", "1,nan"), "--price '1,nan': expected two numbers"),
    ],
)
def test_what_a_server_can_not_do_is_refused(desk, capsys, given, message):
    there = ("ask", "--model", "m", "--data", desk / "test.jsonl", "--out", desk / "a.jsonl")
    assert command(*there, "--server", "http://127.0.0.1:9/v1", *given) == 2
    assert message in one_line(capsys)


def test_options_of_a_server_need_one(desk, capsys):
    there = ("ask", "--model", "m", "--data", desk / "test.jsonl", "--out", desk / "a.jsonl")
    assert command(*there, "--rate", 60) == 2
    assert "--rate: only for a model behind a server" in one_line(capsys)


def test_a_server_that_refuses_leaves_no_cache(desk, capsys):
    with Faulty(lambda content, attempt: (404, {"error": {"message": "no such model"}}, {})) as server:
        there = ("--model", "m", "--server", server.url, "--data", desk / "test.jsonl", "--task", desk / "own.toml")
        assert command("ask", *there, "--cache", desk / "c.db", "--out", desk / "a.jsonl") == 2
    assert "404" in capsys.readouterr().err
    assert not (desk / "c.db").exists()
