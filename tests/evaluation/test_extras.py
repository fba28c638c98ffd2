"""The registry of further metrics: its names, costs, refusals, and its way through command line, report and files."""

import msgspec
import numpy as np
import pytest

from raison.attribution import extract
from raison.cli import main
from raison.evaluation import evaluate
from raison.evaluation.evaluate import make_options
from raison.evaluation.extras import EXTRAS, Size, bill, expect_possible, names_in
from raison.evaluation.files import load
from raison.evaluation.summarise import ALSO, ALSO_ORDERED, ALSO_RATES, family_of
from raison.models import Classifier
from raison.rationales import save_scores
from raison.records import Annotation, InputError, Record, write_records
from raison.report import glossary, render
from raison.report.terminal import as_text
from raison.words import word_grid


def corpus(n=6, words=4):
    rng, found = np.random.default_rng(0), []
    for index in range(n):
        fields = {
            name: " ".join(rng.choice(["dog", "red", "park", "not"], words)) for name in ("premise", "hypothesis")
        }
        spans = word_grid(Record("", fields)).words
        note = Annotation("p", None, {name: tuple(spans[name][:1]) for name in fields})
        found.append(Record(str(index), fields, label="neutral", annotations=(note,)))
    return found


@pytest.fixture(scope="module")
def model(tiny):
    return tiny.build("bert", seed=3)


@pytest.fixture(scope="module")
def scores(model):
    return {name: extract(model, corpus(), name) for name in ("random", "input_x_gradient")}


def test_every_metric_is_known_everywhere():
    metrics = [metric for extra in EXTRAS.values() for metric in extra.metrics]
    assert sorted(metrics) == sorted(ALSO)
    assert set(metrics) <= set(glossary.METRICS)
    assert {*ALSO_RATES, *ALSO_ORDERED} <= set(ALSO)
    assert all(glossary.METRICS[metric].better for metric in metrics)
    flips = {metric for metric in metrics if family_of(metric) == "flips"}
    assert flips == {"flip_fraction", "flip_top", "f_fidelity_plus", "f_fidelity_minus"}


class Counting:
    """A model that counts the inputs it is asked about."""

    def __init__(self, model):
        self.model, self.asked = model, 0

    def __getattr__(self, name):
        return getattr(self.model, name)

    def predict_masked(self, tokens, masks, operator, known=None):
        before = len(known) if known is not None else 0
        known = {} if known is None else known
        found = self.model.predict_masked(tokens, masks, operator, known)
        self.asked += len(known) - before
        return found

    def predict_soft(self, tokens, keep, draws, seed=0):
        self.asked += draws * sum(len(rows) for rows in keep)
        return self.model.predict_soft(tokens, keep, draws, seed)


def passes(model, records, scores, **options):
    counting = Counting(model)
    tuned = Counting(model) if "f-fidelity" in options.get("also", ()) else None
    evaluate(counting, records, scores, budget="k:2", resamples=50, draws=5, tuned=tuned, **options)
    return counting.asked + (tuned.asked if tuned else 0)


@pytest.mark.parametrize("words", [4, 5])
@pytest.mark.parametrize("name", EXTRAS)
def test_a_metric_costs_no_more_than_it_says(model, name, words):
    """8 words (exact bounds) and 10 (beam search)."""
    records = corpus(5, words)
    scores = {method: extract(model, records, method) for method in ("random", "input_x_gradient")}
    alone = passes(model, records, scores)
    with_it = passes(model, records, scores, also=[name])
    most = 5 * EXTRAS[name].cost(Size(2 * words, 2, 5, 5))
    assert with_it - alone <= most
    assert most == 0 or with_it - alone > most / 20  # and not absurdly less
    if name == "soft":
        assert with_it - alone == most


def test_passes_are_shared_between_metrics(model, scores):
    records = corpus()
    alone = passes(model, records, scores)
    flips, naopc, both = (
        passes(model, records, scores, also=also) - alone for also in (["flips"], ["naopc"], ["flips", "naopc"])
    )
    assert both < flips + naopc
    assert both == naopc  # all subsets of 8 words hold every order of them


def test_what_is_asked_twice_counts_once(model, scores):
    once, twice = (
        evaluate(model, corpus(), scores, budget="k:2", resamples=50, also=also)
        for also in (["log-odds"], ["log-odds", "log-odds"])
    )
    assert msgspec.json.encode(once.cells) == msgspec.json.encode(twice.cells)


def test_other_metrics_stay_as_they_are(model, scores):
    plain = evaluate(model, corpus(), scores, budget="k:2", resamples=50)
    more = evaluate(model, corpus(), scores, budget="k:2", resamples=50, also=["normalised", "flips", "soft"])
    kept = [cell for cell in more.cells if cell.metric not in ALSO]
    assert [c.metric for c in kept] == [c.metric for c in plain.cells]
    for a, b in zip(kept, plain.cells, strict=True):
        assert (a.value is None) == (b.value is None)
        assert a.value is None or a.value == pytest.approx(b.value, abs=1e-5)
    assert [c.metric for c in more.comparisons if c.metric not in ALSO] == [c.metric for c in plain.comparisons]


# --------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("name", "expected"),
    [("sofft", "'sofft': did you mean soft?"), ("NAOPC", "did you mean"), ("flip", "did you mean flips?"),
     ("roar", "roar retrains the model"), ("", "There are normalised, log-odds")],
)  # fmt: skip
def test_an_unknown_metric_is_refused_with_the_nearest(name, expected):
    with pytest.raises(InputError) as refused:
        make_options({"also": [name]})
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_a_model_cannot_give_is_refused_before_it_is_run(model, tiny, scores):
    class Answers:
        name, labels = "black box", model.labels

    with pytest.raises(InputError, match="soft needs weights, which black box does not give"):
        expect_possible(["flips", "soft"], Answers(), None)
    with pytest.raises(InputError, match="flips needs answers: without a model"):
        evaluate(None, corpus(), scores, budget="k:2", also=["flips"])
    with pytest.raises(InputError, match="f-fidelity needs a tuned model"):
        evaluate(model, corpus(), scores, budget="k:2", also=["f-fidelity"])
    with pytest.raises(InputError, match="serves f-fidelity alone"):
        evaluate(model, corpus(), scores, budget="k:2", tuned=model)
    other = tiny.build("bert", labels=("yes", "no", "maybe"))
    with pytest.raises(InputError, match="has the labels yes, no, maybe, not those of bert"):
        evaluate(model, corpus(), scores, budget="k:2", also=["f-fidelity"], tuned=other)
    with pytest.raises(InputError, match="beam"):
        make_options({"beam": 0})
    expect_possible(list(EXTRAS), model, model)


def test_a_tuned_model_with_other_words_is_refused(model, tiny, scores):
    from raison.words import character_words

    with pytest.raises(InputError, match="cuts texts into other words"):
        evaluate(model, corpus(), scores, budget="k:2", also=["f-fidelity"],
                 tuned=tiny.build("bert", segment=character_words))  # fmt: skip


# ---------------------------------------------------------------------------------- bill and command line


def test_the_bill_by_hand():
    """Records of 3 and 10 words, two sources, 20 draws."""
    records = [Record("a", {"text": "a b c"}), Record("b", {"text": "a b c d e", "more": "f g h i j"})]
    options = make_options({"also": ["soft", "flips", "naopc", "normalised"]})
    assert bill(options, records, 2) == [
        "soft: needs weights; at most 81 further forward passes for each record, 162 in all",
        "flips: needs answers; at most 20 further forward passes for each record, 39 in all",  # (3 + 10) * 3
        "naopc: needs probabilities; at most 260 further forward passes for each record, 519 in all",  # 12+7, 40+460
        "normalised: needs probabilities; at most 0 further forward passes for each record, 0 in all",
    ]
    assert bill(make_options({}), records, 2) == []


def test_names_and_files_are_told_apart(tmp_path):
    file = tmp_path / "ig.jsonl"
    file.touch()
    assert names_in(["soft"], ["naopc", "flips"]) == (["soft", "naopc", "flips"], [])
    assert names_in(["soft,flips"], [str(file), "naopc"]) == (["soft", "flips", "naopc"], [str(file)])
    assert names_in([], ["typo.jsonl"]) == ([], ["typo.jsonl"])
    assert names_in([], []) == ([], [])


def run(*arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code or 0


@pytest.fixture(scope="module")
def place(tmp_path_factory, model, scores):
    folder = tmp_path_factory.mktemp("extras")
    model.model.save_pretrained(folder / "model")
    model.tokenizer.save_pretrained(folder / "model")
    write_records(folder / "data.jsonl", corpus())
    for name, items in scores.items():
        save_scores(folder / f"{name}.jsonl", items)
    return folder


def command(place, out):
    return ("evaluate", "--model", place / "model", "--data", place / "data.jsonl", "--out", out, "--budget", "k:2",
            "--rationales", place / "random.jsonl", place / "input_x_gradient.jsonl")  # fmt: skip


def test_the_command_says_the_cost_first_and_shows_the_metrics(place, tmp_path, capsys):
    tuned = ("--tuned", place / "model")
    assert run(*command(place, tmp_path / "run"), "--also", "soft", "naopc", "f-fidelity", *tuned) == 0
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert lines[0].startswith("soft: needs weights; at most 81 further forward passes")
    assert lines[1].startswith("naopc: needs probabilities; at most")
    assert lines[2].startswith("f-fidelity: needs a tuned model; at most 400")
    for title in ("Soft compre", "NAOPC", "F-Fidelity"):
        assert title in shown.out
    verdict = load(tmp_path / "run")
    assert verdict.provenance["config"]["also"] == ["soft", "naopc", "f-fidelity"]
    assert len(verdict.provenance["models"]) == 2
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "NAOPC sufficiency" in page
    assert "Soft-NS" in page


def test_the_command_refuses_in_one_line(place, tmp_path, capsys):
    assert run(*command(place, tmp_path / "run"), "--also", "softt") == 2
    assert run(*command(place, tmp_path / "run"), "--also", "f-fidelity") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert "did you mean soft?" in errors[0]
    assert "--tuned" in errors[1]
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_taken_up_again_gives_the_same(place, tmp_path, monkeypatch):
    """Interrupted after the first chunk, with metrics that ask the model in several rounds."""
    from raison.evaluation import files

    monkeypatch.setattr(files, "CHUNK", 2)
    also = ("--also", "soft,naopc,flips")
    assert run(*command(place, tmp_path / "whole"), *also) == 0
    asked, predict_soft = [], Classifier.predict_soft

    def stops(self, *given):
        asked.append(given)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return predict_soft(self, *given)

    monkeypatch.setattr(Classifier, "predict_soft", stops)
    assert run(*command(place, tmp_path / "twice"), *also) == 130
    assert run(*command(place, tmp_path / "twice"), *also) == 0
    whole, twice = ((tmp_path / name / "items.jsonl").read_bytes() for name in ("whole", "twice"))
    assert whole == twice


# ------------------------------------------------------------------------------------------------ report


def test_the_report_shows_direction_interval_and_reference(model, scores):
    records = corpus(40)
    scores = {name: extract(model, records, name) for name in ("random", "input_x_gradient")}
    verdict = evaluate(model, records, scores, budget="k:2", also=["normalised", "flips"], resamples=100)
    cell = verdict.cell("flip_fraction", "input_x_gradient")
    assert cell.low <= cell.value <= cell.high
    assert cell.frame["random"] == verdict.cell("flip_fraction", "random").value
    assert {"flip_fraction", "normalised_sufficiency"} <= {c.metric for c in verdict.comparisons}
    text = as_text(verdict)
    assert "Share of words" in text
    assert glossary.METRICS["flip_fraction"].better == "lower"
    assert glossary.METRICS["normalised_sufficiency"].better == "higher"
    assert "Normalised sufficiency" in render(verdict)
