"""The command line on causal language models: from a model and records to verdicts, pages and a study."""

import json

import pytest

import answerers
from raison.cli import main
from raison.evaluation.files import load as load_verdict
from raison.records import write_records
from raison.testbed import make_corpus


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with records of the testbed and a tiny random causal model."""
    folder = tmp_path_factory.mktemp("causal")
    write_records(folder / "test.jsonl", make_corpus("pair", 24, seed=1))
    write_records(folder / "train.jsonl", make_corpus("pair", 40, seed=2))
    words = answerers.tokenizer()
    answerers.causal("llama", words, positions=1024).save_pretrained(folder / "lm")
    words.save_pretrained(folder / "lm")
    return folder


def test_from_a_causal_model_to_a_verdict_of_both_families(desk, capsys):
    files = []
    for method in ("input-x-gradient", "attention", "random"):
        files.append(desk / f"{method}.jsonl")
        assert (
            run(
                "extract", "--model", desk / "lm", "--data", desk / "test.jsonl", "--method", method, "--out", files[-1]
            )
            == 0
        )
    for budget in ("unbound", "human"):
        files.append(desk / f"asked-{budget}.jsonl")
        asked = ("--budget", budget, "--reply-tokens", 12, "--out", files[-1])
        assert run("ask", "--model", desk / "lm", "--data", desk / "test.jsonl", *asked) == 0
    out = desk / "verdict"
    told = ("--rationales", *files, "--also", "soft", "--draws", 3, "--out", out)
    assert run("evaluate", "--model", desk / "lm", "--data", desk / "test.jsonl", *told) == 0
    verdict = load_verdict(out)
    assert verdict.sources == ["input_x_gradient", "attention", "random", "prompted/unbound", "prompted/human"]
    metrics = {(cell.metric, cell.source) for cell in verdict.cells}
    assert ("soft_sufficiency", "attention") in metrics
    assert ("reply_unreadable", "prompted/human") in metrics
    assert ("reply_unreadable", "attention") not in metrics
    assert (out / "report.html").read_text().count("<html") == 1
    other = ("--rationales", files[0], "--calibrate", "prior", "--draws", 2, "--out", desk / "other")
    capsys.readouterr()
    assert run("evaluate", "--model", desk / "lm", "--data", desk / "test.jsonl", *other) == 0
    assert "was made by another model (lm), or one that was asked otherwise" in capsys.readouterr().err
    assert run("compare", out, desk / "other", "--out", desk / "contrast.html", "--json", desk / "contrast.json") == 0
    assert json.loads((desk / "contrast.json").read_text())["changes"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("extract", "--task", "nil"), "unknown task 'nil'; did you mean nli?"),
        (("extract", "--task", "sentiment"), "has no field 'text'"),
        (("extract", "--calibrate", "twice"), "'twice': expected none, prior, contextual"),
        (("extract", "--dtype", "float8"), "dtype 'float8'"),
        (("extract", "--device", "cuda:99"), "device 'cuda:99': there is none here"),
        (("ask", "--device", "tpv"), "device 'tpv': there is none here"),
        (("extract", "--layers", "9"), "the model has 2 layers"),
        (("extract", "--heads", "9", "--method", "attention"), "the model has 4 heads"),
        (("ask", "--budget", "mass:0.9"), "budget"),
        (("ask", "--order", "explain"), "order"),
        (("ask", "--request", "nice"), "nice"),
    ],
)
def test_what_is_wrong_is_one_line(desk, capsys, arguments, message):
    out = desk / "wrong.jsonl"
    method = () if arguments[0] == "ask" or "--method" in arguments else ("--method", "attention")
    command = (*arguments, *method, "--model", desk / "lm", "--data", desk / "test.jsonl", "--out", out)
    assert run(*command) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert said.startswith("raison: ")
    assert "\n" not in said
    assert not out.exists()


@pytest.mark.slow
def test_the_study_runs_before_and_after_and_goes_on_where_it_stopped(desk, capsys):
    out = desk / "study"
    command = (
        "study", "rationale-evaluation", "--model", desk / "lm", "--data", f"nli={desk / 'test.jsonl'}",
        "--train", f"nli={desk / 'train.jsonl'}", "--out", out, "--records", 12, "--methods", "attention,gradient",
        "--reply-tokens", 8, "--epochs", 1,
    )  # fmt: skip
    assert run(*command) == 0
    rows = json.loads((out / "cells.json").read_text())
    assert {(row["stage"], row["budget"]) for row in rows} == {
        (stage, budget) for stage in ("before", "after") for budget in ("human", "match:prompted/unbound")
    }
    page = (out / "study.html").read_text()
    assert "collapsed" in page or "too few" in page
    assert (out / "nli/contrast.html").exists()
    first = {path: path.read_bytes() for path in out.rglob("*.json*")}
    (out / "nli/after/human/items.jsonl").unlink()
    capsys.readouterr()
    assert run(*command) == 0
    assert {path: path.read_bytes() for path in out.rglob("*.json*")} == first


def test_a_model_that_writes_is_judged_by_what_it_writes(desk):
    records = desk / "passages.jsonl"
    fields = [{"passage": f"a man reads a red book {number}", "question": "what"} for number in range(6)]
    rows = [{"id": str(i), "task": "question_answering", "fields": texts} for i, texts in enumerate(fields)]
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores, out = desk / "written.jsonl", desk / "written"
    command = ("--model", desk / "lm", "--data", records)
    assert run("extract", *command, "--method", "occlusion", "--out", scores) == 0
    assert run("evaluate", *command, "--rationales", scores, "--budget", "k:2", "--draws", 2, "--out", out) == 0
    verdict = load_verdict(out)
    assert verdict.cell("log_probability_drop", "occlusion").n == 6
    assert verdict.cell("answer_flip_rate", "occlusion").value is not None
