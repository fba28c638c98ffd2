"""`raison train` as a user meets it: what is refused in one line, and what is said when it goes on or ends early."""

import importlib
import json

import msgspec
import pytest

import answerers
from raison.cli import main
from raison.cli.train_told import ended_early
from raison.records import Record, write_json, write_records

CUES = {"entailment": "happy", "neutral": "red", "contradiction": "sleeps"}
command = importlib.import_module("raison.cli.train")


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code or 0


def made(count=12):
    """Records of one text with a label, and the word that goes with it as a slot."""
    records = []
    for index in range(count):
        label, cue = list(CUES.items())[index % 3]
        text = f"the man {cue} in the park"
        slots = [{"field": "text", "start": 8, "end": 8 + len(cue), "slot": "cue"}]
        records.append(Record(f"r{index}", {"text": text}, "nli", label, tuple(CUES), meta={"slots": slots}))
    return records


def replaced(records, **changes):
    return [msgspec.structs.replace(record, **changes) for record in records]


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny):
    """A folder with an encoder, a causal model, and records for both kinds of training."""
    from transformers import AutoModel

    folder = tmp_path_factory.mktemp("train")
    classifier = tiny.build("bert")
    classifier.model.save_pretrained(folder / "model")
    AutoModel.from_pretrained(folder / "model").save_pretrained(folder / "encoder")
    for name in ("model", "encoder"):
        classifier.tokenizer.save_pretrained(folder / name)
    words = answerers.tokenizer()
    answerers.causal("llama", words).save_pretrained(folder / "lm")
    words.save_pretrained(folder / "lm")
    both = made()
    outside = replaced(both[:1], label=None, meta={"slots": [{**both[0].meta["slots"][0], "end": 999}]})
    strange = replaced(both[1:2], label="new", label_set=("entailment", "neutral", "contradiction", "new"))
    kinds = {
        "both": both,
        "labels": replaced(both, meta={}),
        "slots": replaced(both, label=None),
        "outside": [*replaced(both[1:], label=None), *outside],
        "silent": replaced(both, label=None, meta={}),
        "strange": strange,
        "moods": replaced(both, task="sentiment", meta={}),
    }
    for name, records in kinds.items():
        write_records(folder / f"{name}.jsonl", records)
    return folder


def train(place, out, *options, data="labels", model="model"):
    given = ["--model", place / model, "--data", place / f"{data}.jsonl", "--out", out, "--batch", "6"]
    return run("train", *given, *options)


IM, DM = ("--align", "input-marginalisation"), ("--align", "diffmask")
REFUSED = {
    "patience without dev": ("labels", "model", ["--patience", "2"], "--patience 2: needs --dev records"),
    "a head of labels": ("both", "encoder", ["--head", "crf"], "both.jsonl has labels; add --task slots for one"),
    "no such task": ("labels", "model", ["--task", "nil"], "--task nil: expected slots, or nothing"),
    "slots of lora": ("labels", "lm", ["--lora", "--task", "slots"], "unknown task 'slots'; expected one of"),
    "a slot outside": ("outside", "encoder", [], "outside.jsonl:12: field `meta.slots[0]`: slot 'cue' at 8-999: does"),
    "an encoder that is to write": ("labels", "encoder", ["--lora"], "not a causal language model: the file of weig"),
    "a classifier that is to write": ("labels", "model", ["--lora"], "a BertForSequenceClassification, not a causal"),
    "dev without labels": ("labels", "model", ["--dev", "silent"], "silent.jsonl: no record has a label, so that"),
    "a label of dev alone": ("labels", "model", ["--dev", "strange"], "strange.jsonl: record 'r1': label 'new' is not"),
    "no setting": ("labels", "model", [*IM, "--align-set", "draws"], "--align-set draws: no such file or directory; e"),
    "no name": ("labels", "model", [*IM, "--align-set", "=3"], "--align-set option `=3`: expected NAME=VALUE"),
    "no loss": ("labels", "model", [*IM, "--align-loss", "nil"], "--align-loss 'nil': expected one of margin"),
    "no weights": ("labels", "model", [*IM, "--align-set", "weights=foo"], "weights 'foo': expected unbiased, renorm"),
    "no draws": ("labels", "model", [*IM, "--align-set", "replacement=foo"], "replacement 'foo': expected mask, unif"),
    "no decay": ("labels", "model", [*DM, "--align-set", "decay=0"], "decay 0: expected a finite number above 0"),
    "no share": ("labels", "model", [*IM, "--align-set", "most=0"], "most 0: expected a number above 0 and at most 1"),
    "endless alpha": ("labels", "model", [*IM, "--alpha", "inf"], "alpha inf: expected a finite number of at least 0"),
    "rounds without dev": ("labels", "model", [*DM, "--align-set", "rounds=9", "--align-set", "stop=1"], "stop: needs"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_one_line_and_leaves_nothing(place, tmp_path, capsys, name):
    data, model, options, message = REFUSED[name]
    options = [place / f"{option}.jsonl" if option in ("silent", "strange") else option for option in options]
    assert train(place, tmp_path / "out", *options, data=data, model=model) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert "1e-09" not in printed
    assert not list(tmp_path.iterdir())


COMMANDS = {
    "a classifier": ["train", "--data", "labels.jsonl", "--out", "OUT"],
    "a tagger": ["train", "--data", "slots.jsonl", "--out", "OUT"],
    "adapters": ["train", "--lora", "--data", "labels.jsonl", "--out", "OUT"],
    "scores": ["extract", "--data", "labels.jsonl", "--method", "random", "--out", "OUT"],
    "answers": ["ask", "--data", "labels.jsonl", "--out", "OUT"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_in_the_place_of_a_models_folder_is_one_line(place, tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(place)  # a relative path with one slash might be a hub id
    given = [tmp_path / "out" if part == "OUT" else part for part in COMMANDS[name]]
    assert run(*given, "--model", "encoder/config.json") == 2
    printed = capsys.readouterr().err
    assert printed == "raison: encoder/config.json: a file; expected the folder of a model, or a hub id\n"
    assert not list(tmp_path.iterdir())


def interrupted(place, out, monkeypatch, *options, at="epoch 2", data="labels", model="model"):
    """Train until it says something, and stop it there."""

    def say(text):
        if text.startswith(at):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(command, "say", say)
        return train(place, out, *options, data=data, model=model)


KINDS = {
    "labels": ("labels", "model", []),
    "slots": ("both", "encoder", ["--task", "slots"]),
    "shots": ("labels", "model", ["--shots", "2"]),
    "adapters": ("moods", "lm", ["--lora", "--rank", "2"]),
}


QUICK = ("labels",)


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in KINDS if name not in QUICK)]
)
def test_the_same_command_says_from_where_it_goes_on(place, tmp_path, monkeypatch, capsys, name):
    data, model, more = KINDS[name]
    options, out = ["--dev", place / f"{data}.jsonl", "--epochs", "3", *more], tmp_path / "out"
    assert interrupted(place, out, monkeypatch, *options, data=data, model=model) == 130
    capsys.readouterr()
    assert train(place, out, *options, "--seed", "7", data=data, model=model) == 2
    assert "an interrupted training with other settings is here" in (printed := capsys.readouterr().err)
    assert printed.count("\n") == 1
    assert train(place, out, *options, data=data, model=model) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "going on after epoch 1"
    assert lines[1].startswith("epoch 2: dev ")
    assert train(place, out, *options, data=data, model=model) == 0  # found done
    assert "going on" not in capsys.readouterr().err


def test_other_records_are_not_gone_on_with(place, tmp_path, monkeypatch, capsys):
    options = ["--dev", place / "both.jsonl", "--epochs", "3"]
    assert interrupted(place, tmp_path / "out", monkeypatch, *options) == 130
    capsys.readouterr()
    assert train(place, tmp_path / "out", *options, "--limit", "11") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_early_end_is_said_with_its_reason(place, tmp_path, capsys):
    options = ["--dev", place / "labels.jsonl", "--epochs", "6", "--lr", "1e-12", "--patience", "1"]
    assert train(place, tmp_path / "out", *options) == 0
    assert "ended after epoch 2 of 6: no better dev accuracy for 1 epoch\n" in capsys.readouterr().err
    assert train(place, tmp_path / "whole", *options[:6]) == 0
    assert "ended" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "values", "options", "expected"),
    [
        ("eval_accuracy", [0.5, 0.6, 0.6, 0.5], (6, 2, 0), "epoch 4 of 6: no better dev accuracy for 2 epochs"),
        ("eval_f1", [0.6, None, 0.5], (6, 3, 1), "epoch 3 of 6: no better dev F1 of slots for 1 round"),
        ("eval_f1", [0.6, 0.6], (6, None, 2), "epoch 2 of 6: no better dev F1 of slots for 2 rounds"),
        ("eval_f1", [0.6, 0.6], (2, None, 2), None),
        ("eval_loss", [0.6, 0.6], (2, None, 0), None),
    ],
)
def test_what_ended_a_training_is_read_off_its_history(tmp_path, key, values, options, expected):
    history = [{key: value, "epoch": float(epoch)} for epoch, value in enumerate(values, 1)]
    write_json(tmp_path / "raison.json", {"history": [*history, {"train_runtime": 1.0, "epoch": float(len(values))}]})
    said = ended_early(str(tmp_path), *options)
    assert said == (expected and f"ended after {expected}")


def test_of_several_processes_one_says_how_it_goes(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "0")
    assert train(place, tmp_path / "one", "--epochs", "1") == 0
    assert "wrote" in capsys.readouterr().err
    monkeypatch.setattr(command, "processes", lambda: (1, 2))
    assert train(place, tmp_path / "two", "--epochs", "1") == 0
    assert capsys.readouterr().err == ""
    assert json.loads((tmp_path / "two" / "raison.json").read_text())["history"]
