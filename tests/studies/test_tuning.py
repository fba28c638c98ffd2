"""Fine-tuning as the command line does it: curves that an evaluation would give, lines that say what happened."""

import json

import numpy as np
import pytest

from answerers import causal, tokenizer
from raison.attribution import extract
from raison.cli import main
from raison.evaluation import evaluate
from raison.models import Answerer
from raison.prompting import ask, load_request
from raison.records import Annotation, Record, Span, write_records
from raison.studies.tuning import curve, words_request

LABELS = ("positive", "negative")
WORDS = dict(zip(LABELS, ("good", "awful"), strict=True))


def record(index, label):
    text = f"the film {index} was {WORDS[label]} today"
    start = text.index(WORDS[label])
    note = Annotation("a", label, {"text": (Span(start, start + len(WORDS[label])),)})
    return Record(f"{label}-{index}", {"text": text}, "sentiment", label, LABELS, (note,))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an untrained model and records."""
    folder = tmp_path_factory.mktemp("tuning")
    made = tokenizer()
    causal("llama", made).save_pretrained(folder / "base")
    made.save_pretrained(folder / "base")
    for name, numbers in {"train": range(8), "dev": range(50, 53), "one": range(1), "two": range(1, 3)}.items():
        write_records(folder / f"{name}.jsonl", [record(index, label) for index in numbers for label in LABELS])
    return folder


def run(*arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code or 0


def test_a_point_of_the_curve_is_what_an_evaluation_says(place):
    model = Answerer.load(place / "base", "sentiment", labels=LABELS)
    records = [record(index, label) for index in range(12) for label in LABELS]
    found = curve(model, records)
    scores = extract(model, records, "input_x_gradient")
    hits = [
        int(np.argmax(row.scores["text"])) == given.fields["text"].split().index(WORDS[given.label])
        for row, given in zip(scores, records, strict=True)
    ]
    assert found["alignment"] == pytest.approx(np.mean(hits))  # one word was marked, one is chosen
    verdict = evaluate(model, records, scores, budget="human", draws=5, resamples=10)
    assert found["normalised_flip_rate"] == verdict.cell("flip_rate_normalised", "input_x_gradient").value


def test_the_request_is_that_of_the_prompting_room(place):
    model = Answerer.load(place / "base", "sentiment", labels=LABELS)
    given = record(1, "negative")
    wanted = ask(load_request("words"), model.task.messages(given.fields, LABELS), given, label="negative", count=3)
    assert list(words_request(model.task, LABELS)(given, "negative", 3)) == wanted


def test_the_command_tunes_and_says_how_it_went(place, tmp_path, capsys):
    common = (
        "train",
        "--lora",
        "--model",
        place / "base",
        "--data",
        place / "train.jsonl",
        "--epochs",
        2,
        "--lr",
        1e-3,
    )
    assert run(*common, "--batch", 8, "--accumulate", 2, "--rank", 2, "--dev", place / "dev.jsonl", "--out",
               tmp_path / "out", "--recipe", "label-and-rationale",
               "--keep-out", place / "one.jsonl", place / "two.jsonl") == 0  # fmt: skip
    said = capsys.readouterr().err
    assert "kept out of training, for 6 evaluation records: 6 by id, 0 by text, 0 by field" in said
    assert "trained on 20 examples, 10 records, 10 with rationale, 0 without rationale, 0 too long" in said
    told = json.loads((tmp_path / "out" / "raison.json").read_text())
    points = [row for row in told["history"] if "eval_accuracy" in row]
    assert [row["epoch"] for row in points] == [0, 1, 2]
    for row in points:
        assert (
            f"epoch {row['epoch']:.0f}: dev accuracy {row['eval_accuracy']:.3f}, alignment {row['eval_alignment']:.3f}"
            in said
        )
    assert told["config"]["rank"] == 2
    assert Answerer.load(tmp_path / "out").labels == LABELS


WRONG = {
    "without lora": (["--rank", "4"], "--rank: only with --lora"),
    "kept out without lora": (["--keep-out", "one.jsonl"], "--keep-out: only with --lora"),
    "task without lora": (["--task", "nli"], "--task nli: expected slots, or nothing"),
    "recipe": (["--lora", "--recipe", "all"], "unknown recipe 'all'"),
    "task": (["--lora", "--task", "nli"], "has no field 'premise'"),
    "nothing left": (["--lora", "--keep-out", "train.jsonl"], "16 are too close to those kept out"),
    "no such file": (["--lora", "--keep-out", "nowhere.jsonl"], "nowhere.jsonl"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line(name, place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(place)
    options, message = WRONG[name]
    assert run("train", "--model", "base", "--data", "train.jsonl", "--out", tmp_path / "out", *options) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not list(tmp_path.iterdir())
