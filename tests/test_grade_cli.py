"""`raison grade`, and its grades beside the metrics of `raison evaluate`."""

import json

import pytest

from raison.cli import main
from raison.evaluation.diagnosticity import GRADED
from raison.evaluation.files import load as load_verdict
from raison.records import write_records
from raison.testbed import make_corpus
from raison.training import small_model


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code or 0


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tiny):
    """A folder with records of the testbed, a tiny random classifier, and its scores."""
    folder = tmp_path_factory.mktemp("grade")
    write_records(folder / "test.jsonl", make_corpus("pair", 12, seed=1))
    classifier = tiny.build("bert")
    classifier.model.save_pretrained(folder / "model")
    classifier.tokenizer.save_pretrained(folder / "model")
    common = ("--model", folder / "model", "--data", folder / "test.jsonl")
    assert run("extract", *common, "--method", "random", "--out", folder / "random.jsonl") == 0
    return folder


@pytest.fixture(scope="module")
def graded(desk):
    """The folder, with grades in it."""
    common = ("--model", desk / "model", "--data", desk / "test.jsonl", "--draws", 2)
    assert run("grade", *common, "--also", "normalised,flips", "--out", desk / "grades") == 0
    return desk


def judge(desk, out, *options):
    return run("evaluate", "--model", desk / "model", "--data", desk / "test.jsonl", "--draws", 2,
               "--rationales", desk / "random.jsonl", "--out", out, *options)  # fmt: skip


def test_it_says_the_cost_first_and_prints_and_writes_the_grades(graded, capsys):
    common = ("--model", graded / "model", "--data", graded / "test.jsonl", "--draws", 2)
    assert run("grade", *common, "--also", "normalised,flips", "--out", graded / "grades") == 0  # what is there stands
    said = capsys.readouterr()
    assert said.err.startswith("at most ")
    assert "flips: needs answers; at most" in said.err
    assert "--grades" in said.err.splitlines()[-1]
    for part in ("Flip rate", "Leave-one-out τ", "distractors", "random words", "chance", "may not be its reasons"):
        assert part in " ".join(said.out.split()), part
    grades = json.loads((graded / "grades/grades.json").read_bytes())
    assert list(grades["against"]) == ["random_words", "distractors"]
    assert {"flip_rate", "tau_loo", "normalised_sufficiency", "flip_top"} <= grades["against"]["random_words"].keys()
    assert "soft_sufficiency" not in grades["against"]["random_words"]
    assert grades["records"] == 12


def test_they_stand_beside_the_metrics_and_warn(graded, tmp_path, capsys):
    assert judge(graded, tmp_path / "v", "--grades", graded / "grades/grades.json") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "told from random words" in printed
    assert "chance at telling the true words from" in printed
    assert "Normalised flip rate: Not graded on the testbed." in printed
    verdict = load_verdict(tmp_path / "v")
    assert verdict.grades is not None
    assert "told from distractors" in (tmp_path / "v/report.html").read_text()
    assert run("report", tmp_path / "v", "--out", tmp_path / "again.html") == 0
    assert (tmp_path / "again.html").read_text() == (tmp_path / "v/report.html").read_text()


def test_a_result_that_is_there_takes_grades_later(graded, tmp_path):
    assert judge(graded, tmp_path / "v") == 0
    before = (tmp_path / "v/items.jsonl").stat().st_mtime_ns
    assert load_verdict(tmp_path / "v").grades is None
    assert judge(graded, tmp_path / "v", "--grades", graded / "grades/grades.json") == 0
    assert load_verdict(tmp_path / "v").grades is not None
    assert (tmp_path / "v/items.jsonl").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--grades", "nowhere.json"), "nowhere.json: no such file of grades"),
        (("--grades", "DATA"), "no grades as `raison grade` writes them"),
    ],
)
def test_what_is_wrong_with_grades_is_one_line_before_anything_is_run(desk, tmp_path, capsys, options, message):
    assert judge(desk, tmp_path / "v", *(desk / "test.jsonl" if part == "DATA" else part for part in options)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_grades_without_a_model_are_refused(graded, tmp_path, capsys):
    options = ("--data", graded / "test.jsonl", "--rationales", graded / "random.jsonl", "--out", tmp_path / "v")
    assert run("evaluate", *options, "--grades", graded / "grades/grades.json") == 2
    assert "need a model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({}, "has no planted truth"),
        ({"truth": {"text": []}}, "to judge"),
        ({"truth": 5}, "has no planted truth"),
        ({"truth": {"other": [[0, 1]]}}, "has no planted truth"),
    ],
)
def test_records_without_a_planted_truth_are_refused(desk, tmp_path, capsys, meta, message):
    row = {"id": "1", "fields": {"text": "a b"}, "label": "x", "meta": meta}
    (tmp_path / "data.jsonl").write_text(json.dumps(row) + "\n")
    assert run("grade", "--model", desk / "model", "--data", tmp_path / "data.jsonl", "--out", tmp_path / "g") == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "g").exists()


@pytest.mark.slow
def test_every_metric_is_printed_with_its_grade_on_a_model_that_goes_by_the_planted_words(tmp_path, capsys):
    model = small_model("pair")
    model.model.save_pretrained(tmp_path / "model")
    model.tokenizer.save_pretrained(tmp_path / "model")
    write_records(tmp_path / "test.jsonl", make_corpus("pair", 40, seed=1000))
    common = ("--model", tmp_path / "model", "--data", tmp_path / "test.jsonl", "--draws", 5)
    assert run("grade", *common, "--tuned", tmp_path / "model", "--out", tmp_path / "grades") == 0
    with capsys.disabled():
        print(capsys.readouterr().out)
    grades = json.loads((tmp_path / "grades/grades.json").read_bytes())
    assert all(set(found) == set(GRADED) for found in grades["against"].values())
    assert grades["accuracy"] > 0.95
    assert run("extract", *common[:4], "--method", "occlusion", "--out", tmp_path / "occlusion.jsonl") == 0
    shown = ("--rationales", tmp_path / "occlusion.jsonl", "--grades", tmp_path / "grades/grades.json")
    assert run("evaluate", *common, *shown, "--out", tmp_path / "v") == 0
    page = (tmp_path / "v/report.html").read_text()
    assert "6 of 7 metrics of faithfulness are shown to tell true reasons from others" in page
    assert "No better than chance at" not in page
