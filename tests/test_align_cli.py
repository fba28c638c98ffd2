"""`raison train --align` as a user meets it: every option reaches the run, and one line for whatever can't be."""

import json
import re
from pathlib import Path

import msgspec
import pytest

import answerers
from raison.cli import main
from raison.records import Annotation, Record, Span, write_records
from raison.training import Alignment
from raison.training.align import TEACHERS

CUES = {"entailment": "happy", "neutral": "red", "contradiction": "sleeps"}


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code or 0


def records(cues, task):
    made = []
    for index in range(12):
        label, cue = list(cues.items())[index % len(cues)]
        text = f"the man {'and the dog ' * (index % 3)}{cue} in the park"
        spans = (Span(text.index(cue), text.index(cue) + len(cue)),)
        notes = tuple(Annotation(who, label, {"text": spans}) for who in ("ann", "bob"))
        made.append(Record(f"r{index}", {"text": text}, task, label, tuple(cues), notes))
    return made


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny):
    """A folder with a classifier, a causal model, and records that people have marked."""
    folder = tmp_path_factory.mktemp("align")
    classifier = tiny.build("bert")
    classifier.model.save_pretrained(folder / "model")
    classifier.tokenizer.save_pretrained(folder / "model")
    words = answerers.tokenizer()
    answerers.causal("llama", words).save_pretrained(folder / "lm")
    words.save_pretrained(folder / "lm")
    write_records(folder / "data.jsonl", records(CUES, "nli"))
    write_records(folder / "mood.jsonl", records({"positive": "happy", "negative": "red"}, "sentiment"))
    (folder / "more.toml").write_text("draws = 2\nwarm_up = 1\nfresh = false\n")
    return folder


def train(place, out, *options, data="data.jsonl", model="model"):
    given = ["--model", place / model, "--data", place / data, "--out", out, "--batch", "6"]
    return run("train", *given, *options)


def told(out):
    return json.loads((out / "raison.json").read_text())


SETTINGS = {
    "alpha": (["--alpha", "0.5"], 0.5),
    "loss": (["--align-loss", "margin-pairs"], "margin-pairs"),
    "margin": (["--margin", "2.5"], 2.5),
    "warm_up": (["--warm-up", "2"], 2),
    "people": (["--people", "bob"], "bob"),
    "patience": (["--align-set", "patience=2"], 2),
    "ramp": (["--align-set", "ramp=3"], 3),
    "balance": (["--align-set", "balance=true"], True),
    "every": (["--align-set", "every=2"], 2),
    "replacement": (["--align-set", "replacement=prior"], "prior"),
    "draws": (["--align-set", "draws=2"], 2),
    "fresh": (["--align-set", "fresh=false"], False),
    "weights": (["--align-set", "weights=renormalised"], "renormalised"),
    "most": (["--align-set", "most=0.25"], 0.25),
    "confident": (["--align-set", "confident=true"], True),
}


def test_every_option_reaches_the_run(place, tmp_path):
    options = [option for given, _ in SETTINGS.values() for option in given]
    out = tmp_path / "out"
    assert train(place, out, "--epochs", "3", "--align", "input_marginalisation", *options) == 0
    wanted = Alignment("input-marginalisation", **{name: value for name, (_, value) in SETTINGS.items()})
    assert told(out)["config"]["alignment"] == msgspec.to_builtins(wanted)


def test_options_of_the_extractor_reach_the_run(place, tmp_path):
    given = {"gate": "hidden", "rounds": 2, "extractor_epochs": 1, "extractor_rate": 2.0, "decay": 0.5, "stop": 1}
    options = [part for name, value in given.items() for part in ("--align-set", f"{name}={value}")]
    out = tmp_path / "out"
    dev = ["--dev", place / "data.jsonl", "--warm-up", "rest"]
    options += ["--align-set", "patience=1"]
    assert train(place, out, "--epochs", "3", "--align", "diffmask", *options, *dev) == 0
    found = told(out)["config"]["alignment"]
    assert found == {
        **msgspec.to_builtins(Alignment("diffmask", warm_up="rest", patience=1, **given)),
        "loss": "ratio",  # what is left to the attribution is told, too
    }
    named = {*SETTINGS, *given, "by", "doze"}  # doze is of input marginalisation
    assert set(found) == named  # no setting is left untried


def test_a_file_of_settings_and_an_option_over_it(place, tmp_path):
    out = tmp_path / "out"
    more = ["--align-set", place / "more.toml", "--align-set", "draws=3", "--warm-up", "0"]
    assert train(place, out, "--epochs", "1", "--align", "input-marginalisation", *more) == 0
    assert told(out)["config"]["alignment"] == msgspec.to_builtins(
        Alignment(draws=3, warm_up=0, fresh=False, loss="margin", margin=1.0)
    )


def test_curves_are_told_beside_the_alignment(place, tmp_path, capsys):
    out = tmp_path / "out"
    code = train(place, out, "--epochs", "2", "--align", "gradient-l1", "--dev", place / "data.jsonl")
    assert code == 0
    assert "epoch 2: dev accuracy" in capsys.readouterr().err
    history = told(out)["history"]
    assert sum("eval_alignment" in row for row in history) == 2
    assert sum({"task", "alignment", "active"} <= row.keys() for row in history) == 2


def test_records_without_a_rationale_are_counted_and_said(place, tmp_path, capsys):
    rows = [json.loads(line) for line in (place / "data.jsonl").read_text().splitlines()]
    for row in rows[:3]:
        row["annotations"] = []
    (tmp_path / "some.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    options = ["--align", "diffmask", "--align-set", "rounds=9", "--align-set", "extractor_epochs=1"]
    assert train(place, out, "--epochs", "2", *options, data=tmp_path / "some.jsonl") == 0
    printed = capsys.readouterr().err
    assert "warning: rounds 9: the training has epochs for 2 at most" in printed
    assert "without a usable rationale: 3 of 12 records" in printed
    assert re.search(r"the alignment took [\d.]+ s, \d+% of the losses' time; the task [\d.]+ s", printed)
    assert told(out)["rationales"] == {"records": 12, "without_rationale": 3, "share_without": 0.25}
    assert train(place, out, "--epochs", "2", *options, data=tmp_path / "some.jsonl") == 0  # found done
    assert "without a usable rationale: 3 of 12 records" in capsys.readouterr().err


def test_a_classifier_takes_bfloat16_and_parts_of_steps(place, tmp_path):
    options = ["--epochs", "1", "--bf16", "--accumulate", "3", "--align", "gradient"]
    assert train(place, tmp_path / "out", *options) == 0
    found = told(tmp_path / "out")["config"]
    assert (found["bf16"], found["accumulate"]) == (True, 3)
    assert train(place, tmp_path / "plain", "--epochs", "1") == 0
    found = told(tmp_path / "plain")["config"]
    assert (found["bf16"], found["accumulate"]) == (False, 1)


def test_an_alignment_whose_turn_did_not_come_is_warned_of(place, tmp_path, capsys):
    options = ["--align", "gradient", "--warm-up", "1", "--align-set", "every=100"]
    assert train(place, tmp_path / "out", "--epochs", "2", *options) == 0
    assert "warning: the alignment never took part" in capsys.readouterr().err
    assert train(place, tmp_path / "other", "--epochs", "2", *options[:2]) == 0
    assert "warning" not in capsys.readouterr().err


def test_marks_left_in_dev_texts_are_warned_of(place, tmp_path, capsys):
    rows = [json.loads(line) for line in (place / "data.jsonl").read_text().splitlines()]
    for row in rows:
        text = row["fields"]["text"]
        start, end = next((a, b) for note in row["annotations"] for a, b in (note["rationale"] or {}).get("text", []))
        row["fields"]["text"] = f"{text[:start]}*{text[start:end]}*{text[end:]}"
        for note in row["annotations"]:
            note["rationale"] = {"text": [[start + 1, end + 1]]}
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("--epochs", "1", "--dev", tmp_path / "dev.jsonl")
    assert train(place, tmp_path / "aligned", *options, "--align", "gradient-l1") == 0
    assert "warning: test records: " in capsys.readouterr().err
    assert train(place, tmp_path / "alone", *options) == 0
    assert "warning" not in capsys.readouterr().err


QUICK = ("input-marginalisation",)


@pytest.mark.parametrize(
    "by", [*QUICK, *(pytest.param(by, marks=pytest.mark.slow) for by in TEACHERS if by not in QUICK)]
)
def test_a_causal_model_learns_by_adapters(place, tmp_path, by):
    out = tmp_path / "out"
    quick = ["--lora", "--rank", "2", "--epochs", "1", "--accumulate", "2"]
    quick += ["--align-set", "extractor_epochs=1"] if by == "diffmask" else []
    assert train(place, out, "--align", by, *quick, data="mood.jsonl", model="lm") == 0
    found = told(out)
    assert found["config"]["alignment"]["by"] == by
    assert any("alignment" in row for row in found["history"])
    assert (out / "adapter_model.safetensors").exists()


WRONG = {
    "alpha alone": (["--alpha", "1"], "--alpha: only with --align"),
    "margin alone": (["--margin", "1"], "--margin: only with --align"),
    "loss alone": (["--align-loss", "order"], "--align-loss: only with --align"),
    "warm-up alone": (["--warm-up", "3"], "--warm-up: only with --align"),
    "people alone": (["--people", "soft"], "--people: only with --align"),
    "settings alone": (["--align-set", "draws=2"], "--align-set: only with --align"),
    "unknown attribution": (["--align", "lime"], "'lime': expected one of gradient"),
    "unknown loss": (["--align", "attention", "--align-loss", "mse"], "'mse': expected one of margin"),
    "unknown setting": (["--align", "attention", "--align-set", "draw=2"], "'draw'; did you mean 'draws'?"),
    "another name": (["--align", "attention", "--align-set", "by=gradient"], "unknown setting 'by'; (there are: l"),
    "unknown replacement": (["--align", "input-marginalisation", "--align-set", "replacement=x"], "'x': expected mask"),
    "unknown gate": (["--align", "diffmask", "--align-set", "gate=output"], "gate=output: expected input or hidden"),
    "unknown people": (["--align", "attention", "--people", "cleo"], "unknown people 'cleo'"),
    "a number that is none": (["--align", "attention", "--align-set", "ramp=slow"], "ramp=slow: expected a whole"),
    "a share that is none": (["--align", "attention", "--align-set", "alpha=x"], "alpha=x: expected a number"),
    "neither true nor false": (["--align", "attention", "--align-set", "balance=2"], "=2: expected true or false"),
    "two in one": (["--align", "attention", "--align-set", "ramp=1", "every=2"], "every=2: each setting needs its"),
    "warm-up that is none": (["--align", "attention", "--warm-up", "soon"], "warm-up 'soon'"),
    "warm-up below 0": (["--align", "attention", "--warm-up", "-2"], "warm-up '-2'"),
    "alpha below 0": (["--align", "attention", "--alpha", "-1"], "greater than or equal to 0"),
    "alpha of no size": (["--align", "attention", "--alpha", "nan"], "greater than or equal to 0"),
    "no margin in it": (["--align", "gradient", "--margin", "2"], "margin 2: the loss order has no margin"),
    "no margin set": (["--align", "attention", "--align-set", "margin=2"], "margin 2: the loss kl has no margin"),
    "a loss from 0 on": (["--align", "occlusion", "--align-loss", "ratio"], "take one of margin, "),
    "of another": (["--align", "gradient", "--align-set", "draws=3"], "draws: a setting of input-marginalisation"),
    "no draws": (["--align", "input-marginalisation", "--align-set", "draws=0"], "draws 0: expected at least 1"),
    "rest without dev": (["--align", "attention", "--warm-up", "rest"], "warm-up rest: needs dev records"),
    "a warm-up of all epochs": (["--align", "attention", "--warm-up", "9", "--epochs", "2"], "of 2 epochs, so that"),
    "alpha of any size": (["--align", "attention", "--alpha", "inf"], "alpha inf"),
    "no language model": (["--align", "input-marginalisation", "--align-set", "replacement=masked-lm"], ":NAME"),
    "no such file": (["--align", "attention", "--align-set", "nowhere.toml"], "nowhere.toml"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_one_line_and_leaves_nothing(place, tmp_path, capsys, name):
    options, message = WRONG[name]
    assert train(place, tmp_path / "out", *options) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not list(tmp_path.iterdir())


NAMED = {"by", "loss", "alpha", "margin", "warm_up", "people"}  # these have options of their own


def wanted():
    """Every setting of an alignment with its default, as it is written on the command line."""
    plain = msgspec.to_builtins(Alignment())
    return {f"{name}={str(value).lower()}" for name, value in plain.items() if name not in NAMED}


def test_the_help_lists_every_setting_with_its_default(capsys):
    assert run("train", "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(maxsplit=1) for line in lines[lines.index("Options:") :] if re.match(r" +[a-z_]+=", line)]
    assert {name for name, _ in rows} == wanted()


def test_the_page_lists_every_setting_with_its_default():
    page = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+=[^`]*)` \| [^|]+ \|$", page, re.MULTILINE)) == wanted()


def test_adapters_take_an_alignment_with_labels_alone(place, tmp_path, capsys):
    more = ["--lora", "--recipe", "mask-augmented", "--align", "attention"]
    assert train(place, tmp_path / "out", *more, data="mood.jsonl", model="lm") == 2
    assert "only the recipe label can be trained with an alignment" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_input_marginalisation_is_extracted(place, tmp_path, capsys):
    given = ["--model", place / "model", "--data", place / "data.jsonl", "--method", "input-marginalisation"]
    options = ["--replacement", "prior", "--draws", "2", "--seed", "3"]
    assert run("extract", *given, *options, "--out", tmp_path / "im.jsonl") == 0
    rows = [json.loads(line) for line in (tmp_path / "im.jsonl").read_text().splitlines()]
    assert len(rows) == 12
    said = {"replacement": "prior", "draws": 2, "seed": 3, "score": "log_odds", "signed": True}
    assert all(said.items() <= row["convention"].items() for row in rows)
    capsys.readouterr()
    for options, message in (
        (["--replacement", "x"], "'x': expected mask, uniform, prior, masked-lm"),
        (["--target", "predicted - runner-up"], "a contrast of two has no odds"),
        (["--mask", "delete"], "takes no option 'mask'"),
    ):
        assert run("extract", *given, *options, "--out", tmp_path / "other.jsonl") == 2
        printed = capsys.readouterr().err
        assert message in printed
        assert printed.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"im.jsonl", "im.jsonl.meta.json"}
