"""The study of training with rationales: its cells, its curves and its page."""

import json
import re
from types import SimpleNamespace
from typing import get_args

import msgspec
import numpy as np
import pytest
import torch
from transformers import TrainingArguments

from pages import Reader, chromium_running, in_a_browser, look_at
from processes import launched
from raison.cli import main
from raison.evaluation.statistics import student_mean
from raison.records import Annotation, InputError, Record, Span, write_records
from raison.sources.explained import from_explanations
from raison.studies.uimer import Cell, Data, Store, Study, train
from raison.studies.uimer_curves import plots_of, series_of, turning_rate, turns_of
from raison.studies.uimer_page import lines_of, write_uimer
from raison.studies.variants import Part, Settings, Variant, around, families, grid, settings_of, sources_of
from raison.training import rounds as rounds_module
from raison.training.align import check_alignment
from raison.training.aligned import Alignment
from raison.training.learners import LabelLearner

BEST = Variant("IM uniform", Alignment(alpha=1.0, margin=1.0))


def cell(part, variant, seed, score, shots=1):
    return Cell(f"{variant.name} {shots} {seed}", part, shots, variant.name, seed, 7, score, 1.0, made_from=variant)


def study(seeds=5):
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=0.01, size=seeds)
    cells = [cell("main", Variant("task alone"), seed, 0.6 + noise[seed]) for seed in range(seeds)]
    cells += [cell("main", BEST, seed, 0.7 + noise[seed]) for seed in range(seeds)]
    for variant in around("noise", BEST, []):
        for seed in range(seeds):
            cells.append(cell("noise", variant, seed, 0.7 - 0.25 * variant.rate + noise[seed]))
    for variant in around("strength", BEST, []):
        cells += [cell("strength", variant, seed, 0.65) for seed in range(seeds)]
    return cells


def test_gains_are_paired_by_seed():
    found = {(line.part, line.variant): line for line in lines_of(study())}
    gain = found["main", "IM uniform"].gain
    assert gain is not None
    assert gain.value == pytest.approx(0.1)
    assert gain.high - gain.low < 1e-9  # the seeds' noise is common to both
    assert found["main", "task alone"].gain is None


def test_curves_hold_what_was_varied():
    curves = series_of(study(), "noise")["IM uniform, 1 shot"]
    assert [curve.name for curve in curves] == ["drop", "shift", "swap", "replace"]
    assert curves[0].xs == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    np.testing.assert_allclose([np.mean(values) for values in curves[0].gains], 0.1 - 0.25 * np.array(curves[0].xs))
    margins = series_of(study(), "strength")["IM uniform, 1 shot"]
    assert [curve.name for curve in margins] == ["margin 0.25", "margin 1", "margin 4"]
    assert margins[0].points[0][1] == student_mean(margins[0].gains[0])


def test_the_turning_rate_is_where_the_line_crosses_zero():
    assert turns_of(study())[0].rate.value == pytest.approx(0.4)
    assert turning_rate([0, 0.5, 1], [[0.2, 0.2], [0.1, 0.1], [-0.1, -0.1]]).value == pytest.approx(0.75)
    assert turning_rate([0, 1], [[0.2, 0.1], [0.1, 0.1]]).value is None  # it never comes down
    assert turning_rate([0, 1], [[-0.2, -0.1], [0.1, 0.1]]).value is None  # nothing to lose


def test_the_interval_of_the_turning_rate_covers_it():
    rng = np.random.default_rng(1)
    rates, hits = np.linspace(0, 1, 6), 0
    for _ in range(100):
        table = 0.1 - 0.2 * rates[:, None] + rng.normal(scale=0.05, size=(6, 12))
        found = turning_rate(rates.tolist(), table.tolist(), resamples=300)
        hits += found.low is not None and found.low <= 0.5 <= found.high
    assert 85 <= hits <= 99


def test_a_cell_keeps_its_key_when_options_are_added():
    assert BEST.given == {"alignment": {"margin": 1.0}}
    assert msgspec.structs.replace(BEST, lr=1e-3).given["lr"] == 1e-3
    assert Variant("task alone").given == {"alignment": None}


def test_a_training_of_several_parts_is_made_once(tmp_path, monkeypatch):
    """Each part gives it under its own name; rationales without noise are the same whatever noise they don't have."""
    made = []
    monkeypatch.setattr("raison.studies.uimer.train", lambda learner, records, variant, seed, *_: made.append(seed))
    learner = SimpleNamespace(metric="accuracy", encode=lambda _: None, score=lambda *_: {"accuracy": 0.5})
    monkeypatch.setattr(Study, "_learner", lambda *_: learner)
    records = two_labels()
    whole = Study("none", Data(records, records, records), tmp_path, Settings(watched=0), lambda _: None)
    whole.cell("main", 1, BEST, 0)
    varied = [one for part in ("noise", "strength", "warm-up") for one in around(part, BEST, [])]
    cells = [whole.cell("some", 1, one, 0) for one in varied]
    assert [one.variant for one in cells] == [one.name for one in varied]
    assert [one.made_from for one in cells] == varied
    assert len({one.key for one in cells}) == len(made) == len(varied) - 3 - 1 - 1  # 4 x rate 0 = alpha 1, margin 1 = 0


@pytest.mark.parametrize("task", ["intent", "slots", "nli"])
def test_every_family_is_tuned_with_the_same_care(task):
    found = families(Settings(task=task, masked_lm="some-model"))
    assert {len(tried) for tried in found.values()} == {6}
    assert all(len(set(tried)) == 6 for tried in found.values())
    for tried in found.values():
        for alignment in tried:
            check_alignment(alignment)
    assert len(grid(task, 7)) == 6
    assert ("attention" in found) == (task != "slots")


@pytest.mark.parametrize("task", ["intent", "slots", "nli"])
@pytest.mark.parametrize("epochs", [2, 30, 60])
def test_every_variant_of_every_part_can_be_trained(task, epochs):
    """And its alignment takes part: it begins before the training ends, with as many rounds as it says."""
    parts = [part for part in get_args(Part) if part != "main"]
    for name, tried in families(Settings(task=task, masked_lm="some-model"), epochs).items():
        for best in (Variant(name, one, epochs=epochs) for one in tried):
            for part in parts if name.startswith("DM") else set(parts) - {"rounds"}:
                varied = list(around(part, best, ["ann", "soft", "explanations"]))
                assert len({one.name for one in varied}) == len(varied) > 0
                for one in varied:
                    check_alignment(one.alignment)
                    assert one.alignment.warm_up < epochs
                    assert part != "rounds" or one.alignment.rounds <= epochs - one.alignment.warm_up


def test_the_margin_varies_where_the_loss_has_one():
    counts = {}
    for name, tried in families(Settings(masked_lm="some-model")).items():
        for one in tried:
            varied = list(around("strength", Variant(name, one), []))
            counts.setdefault(one.loss or name.split()[0], set()).add(len(varied))
    assert counts == {
        "IM": {15}, "margin-strongest": {15}, "GB": {5}, "sign": {5}, "ratio": {5}, "attention": {5}
    }  # fmt: skip


def test_strength_without_a_margin_is_one_curve():
    best = Variant("GB order", Alignment("gradient-l1"))
    cells = [cell("main", Variant("task alone"), seed, 0.6) for seed in range(3)]
    cells += [cell("strength", one, seed, 0.7) for one in around("strength", best, []) for seed in range(3)]
    (curve,) = series_of(cells, "strength")["GB order, 1 shot"]
    assert (curve.name, curve.xs) == ("GB order", [0.1, 0.3, 1.0, 3.0, 10.0])


def test_of_more_records_a_training_is_shorter_and_so_is_its_warm_up():
    lengths = {size: sorted({one.epochs for one in grid("nli", size)}) for size in (7, 100, 500, 13_084)}
    assert lengths == {7: [30, 60], 100: [15, 30], 500: [3, 6], 13_084: [2, 4]}
    settings = Settings(task="nli")
    assert {one.warm_up for one in families(settings)["IM uniform (warm)"]} == {10}
    assert {one.warm_up for one in families(settings, 6)["IM uniform (warm)"]} == {2}


def test_sources_of_rationales_are_found():
    def note(name, explanation=None):
        return Annotation(name, "a", {"text": (Span(0, 3),)}, explanation)

    one = Record("1", {"text": "one two"}, annotations=(note("rules"),))
    assert sources_of([one]) == ["rules"]
    two = Record("2", {"text": "one two"}, annotations=(note("x", "because"), note("y")))
    assert sources_of([two]) == ["x", "y", "soft", "majority", "union", "explanations"]
    varied = list(around("source", BEST, sources_of([two])))
    assert [(one.alignment.people, one.explained) for one in varied][-2:] == [("union", False), ("soft", True)]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--task", "poetry"], "--task poetry: expected intent, slots or nli"),
        (["--shots", "1,x"], "--shots 1,x: expected numbers of at least 0, by commas"),
        (["--shots", "1,-1"], "--shots 1,-1: expected numbers of at least 0, by commas"),
        (["--shots", "1.5"], "--shots 1.5: expected numbers of at least 0, by commas"),
        (
            ["--parts", "main,foo"],
            "--parts main,foo: expected some of main, warm-up, rounds, strength, source, noise, by",
        ),
        (["--only", "IM nothing"], "--only IM nothing: expected some of GB sign, GB order, IM mask, "),
        (["--people", "nobody"], "--people: unknown people 'nobody'; expected soft, majority, union or an annotator"),
        (["--people", "bob"], "(there are: ann)"),  # who labelled, and marked nothing
    ],
)
def test_wrong_settings_are_told_before_anything_is_trained(tmp_path, monkeypatch, capsys, option, said):
    monkeypatch.setattr(Study, "_learner", lambda *_: pytest.fail("a training began"))
    records = two_labels()
    records[0] = msgspec.structs.replace(
        records[0], annotations=(*records[0].annotations, Annotation("bob", records[0].label))
    )
    write_records(tmp_path / "data.jsonl", records)
    data = [part for name in ("--train", "--dev", "--test") for part in (name, str(tmp_path / "data.jsonl"))]
    with pytest.raises(SystemExit) as end:
        main(["study", "uimer", "--model", "none", *data, "--out", str(tmp_path / "out"), *option])
    assert end.value.code == 2
    printed = capsys.readouterr().err.strip()
    assert said in printed
    assert "\n" not in printed
    assert not (tmp_path / "out").exists()


def test_a_strange_setting_from_python_is_told():
    with pytest.raises(InputError, match="--seeds many: expected `int`, got `str`"):
        settings_of(seeds="many")


# ---------------------------------------------------------------------------------------------------- people


@pytest.fixture(scope="module")
def encoder(tiny, tmp_path_factory):
    """A folder with a tiny classifier for two labels."""
    return str(tiny.save(tmp_path_factory.mktemp("models") / "tiny"))


def drawn(study, seed, variant):
    return [record.id for record in study._records(1, seed, variant)]


@pytest.mark.parametrize("by", ["gradient-l1", "diffmask"])
def test_records_without_the_people_asked_are_trained_for_the_task_alone(encoder, tmp_path, monkeypatch, by):
    """Bob marked one record of twelve: where it is not drawn, the cell is that of the task alone, with noise or not."""
    alignment = Alignment(by, people="bob", alpha=50.0, **({"extractor_epochs": 1} if by == "diffmask" else {}))
    alone = Variant("task alone", None, 1e-2, 1)
    bob = msgspec.structs.replace(alone, name="v", alignment=alignment)
    noise = msgspec.structs.replace(bob, noise="shift", rate=1.0)
    records, plain = two_labels(), Study(encoder, Data(two_labels(), [], []), tmp_path, Settings())
    his = min(set(drawn(plain, 0, bob)) - set(drawn(plain, 1, bob)))
    for index, one in enumerate(records):
        if one.id == his:
            notes = (*one.annotations, msgspec.structs.replace(one.annotations[0], annotator="bob"))
            records[index] = msgspec.structs.replace(one, annotations=notes)
    trained = []

    def judged(learner, *_):
        trained.append({name: value.clone() for name, value in learner.network.state_dict().items()})
        return {"accuracy": 0.5}

    monkeypatch.setattr(LabelLearner, "score", judged)
    settings = Settings(people="bob", batch=4, watched=0)
    study = Study(encoder, Data(records, records, records), tmp_path, settings, lambda _: None)
    for seed in (0, 1):
        for variant in (alone, bob, noise):
            study.cell("some", 1, variant, seed)
    assert [his in drawn(study, seed, bob) for seed in (0, 1)] == [True, False]
    for place, same in ((1, False), (2, False), (4, True), (5, True)):
        base = trained[place // 3 * 3]
        assert all(torch.equal(value, trained[place][name]) for name, value in base.items()) == same


def test_test_records_that_nobody_marked_have_no_reasons(encoder, tmp_path):
    records = two_labels()
    bare = [msgspec.structs.replace(one, annotations=()) for one in records]
    study = Study(encoder, Data(records, bare, bare), tmp_path, Settings(batch=4), lambda _: None)
    found = study.cell("main", 1, Variant("task alone", None, 1e-3, 1), 0)
    assert (found.alignment, found.normalised_flip_rate) == (None, None)


@pytest.mark.parametrize("person", ["ann", None])
@pytest.mark.parametrize("derived", [False, True])
def test_rationales_from_explanations_are_those_that_are_there_or_made(tmp_path, person, derived):
    """Of people without a name too, and never the highlights themselves."""

    def explained(record):
        word = "happy" if record.label == "a" else "red"
        note = Annotation(person, record.label, {"text": (Span(4, 7),)}, f"it says {word}")
        return msgspec.structs.replace(record, annotations=(note,))

    records = [explained(one) for one in two_labels()]
    if derived:
        records = [*from_explanations(records[:6]), *records[6:]]
    study = Study("none", Data(records, records, records), tmp_path, Settings())
    source = Variant("v", Alignment("gradient-l1"), explained=True)
    found = [(one.fields["text"], *one.annotations) for one in study._records(0, 0, source)]
    words = [[text[start:end] for start, end in note.rationale["text"]] for text, note in found]
    assert words == [["happy"], ["red"]] * 6
    assert {note.annotator for _, note in found} == {"explanation" if person is None else "explanation:ann"}


def test_explanations_of_somebody_else_do_not_change_the_derived_ones(tmp_path):
    """What a record has is taken as it is."""
    note = Annotation("ann", "a", {"text": (Span(0, 3),)}, "the man is happy")
    own = Annotation("explanation:ann", "a", {"text": (Span(4, 7),)})
    record = msgspec.structs.replace(two_labels(1)[0], annotations=(note, own))
    study = Study("none", Data([record, *two_labels()[1:]], [], []), tmp_path, Settings())
    assert study._records(0, 0, Variant("v", explained=True))[0].annotations == (own,)


# ---------------------------------------------------------------------------------------------------- devices


@pytest.mark.parametrize("task", ["intent", "slots"])
def test_a_model_is_where_the_trainer_puts_it(encoder, tmp_path, monkeypatch, task):
    """And knows it: batches go there. The meta device stands for an accelerator."""
    monkeypatch.setattr(TrainingArguments, "device", property(lambda _: torch.device("meta")))
    monkeypatch.setattr("raison.models.tagger.device_of", lambda wanted: wanted or "cpu")
    records = [msgspec.structs.replace(one, meta={"slots": []}) for one in two_labels()]
    learner = Study(encoder, Data(records, records, records), tmp_path, Settings(task=task))._learner(0)
    batch = learner.scorer.batch(learner.encode(records))
    assert {one.device.type for one in (*learner.network.parameters(), batch.ids)} == {"meta"}
    assert learner.scorer.device.type == "meta"


def test_progress_says_what_differs(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("raison.studies.uimer.train", lambda *_: None)
    learner = SimpleNamespace(metric="accuracy", encode=lambda _: None, score=lambda *_: {"accuracy": 0.5})
    monkeypatch.setattr(Study, "_learner", lambda *_: learner)
    records = two_labels()
    settings = Settings(watched=0, tuning_seeds=1, seeds=2, only=("IM uniform", "DM rounds"), shots=(1, 0))
    Study("none", Data(records, records, records), tmp_path, settings, said.append).run()
    tuning = [line for line in said if line.startswith("tuning")]
    assert len(set(tuning)) == len(tuning) == 2 * 3 * 6
    for line in (
        "tuning, 1 shot, task alone, lr 2e-4, 60 epochs, seed 1000: 0.5000 in 0 s",
        "tuning, 1 shot, IM uniform, alpha 0.3, margin 0.25, seed 1000: 0.5000 in 0 s",
        "tuning, all records, DM rounds, alpha 3, loss margin-strongest, seed 1000: 0.5000 in 0 s",
        "main, 1 shot, IM uniform, seed 1: 0.5000 in 0 s",
    ):
        assert line in said


def test_a_line_that_was_cut_off_is_made_again(tmp_path):
    store = Store(tmp_path)
    first, second = cell("main", BEST, 0, 0.5), cell("main", BEST, 1, 0.6)
    store.add(first)
    store.add(second)
    store.path.write_bytes(store.path.read_bytes()[:-9])
    assert list(Store(tmp_path).cells) == [first.key]


def test_the_page_shows_curves_and_the_turning_rate(tmp_path):
    cells = study()
    write_uimer(tmp_path / "study.html", cells, Settings())
    page = (tmp_path / "study.html").read_text(encoding="utf-8")
    assert page.count('<svg class="plot"') == sum(len(plots) for plots in plots_of(cells).values()) == 2
    assert "0.400 [" in page


def test_all_shots_stand_within_their_plot_at_the_number_of_records():
    """On a logarithmic axis 0 has no place."""
    cells = [
        msgspec.structs.replace(cell("main", variant, seed, 0.5 + 0.01 * seed, shots), records=shots * 7 or 700)
        for shots in (1, 3, 0)
        for variant in (Variant("task alone"), BEST)
        for seed in range(3)
    ]
    (curve,) = series_of(cells, "shots")[""]
    assert curve.xs == [1, 3, 700]
    plot = str(plots_of(cells)["shots"][0][1])
    assert re.findall(r">(1|3|700|0|all)<", plot) == ["1", "3", "all"]
    width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', plot).groups())
    places = [(float(x), float(y)) for x, y in re.findall(r'<use [^>]*x="([^"]+)" y="([^"]+)"', plot)]
    assert len([x for x, _ in places if x > 0.8 * width]) >= 1
    assert all(0 <= x <= width and 0 <= y <= height for x, y in places)


def test_the_page_says_what_undefined_means(tmp_path):
    """A rate that is undefined for every seed is a dash; the gain of the task alone is nothing at all."""
    write_uimer(tmp_path / "study.html", study(), Settings())
    page = (tmp_path / "study.html").read_text(encoding="utf-8")
    assert "undefined for a seed where masking every word" in page
    assert "(less than 5 points)" in page
    rows = [row.split() for row in Reader(page).rows if "task alone" in row and "gain" not in row]
    assert [row[-3:] for row in rows] == [["–", "–", "1"]]
    assert "1 shots" not in page


@in_a_browser
def test_the_page_fits(tmp_path):
    """Of a long name, and of all columns, nothing is cut off in a window of common width."""
    cells = [
        msgspec.structs.replace(
            one, seconds=12345.0, alignment=0.3 + one.seed / 99, normalised_flip_rate=0.5 + one.seed / 9
        )
        for one in study()
    ]
    write_uimer(tmp_path / "study.html", cells, Settings(parts=("main", "strength", "noise")))
    with chromium_running() as browser:
        look_at(browser, (tmp_path / "study.html").read_text(encoding="utf-8"), tmp_path / "look.html")
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        page.goto((tmp_path / "study.html").as_uri())
        wide = page.evaluate("[...document.querySelectorAll('.scroll')].map(one => one.scrollWidth - one.clientWidth)")
        assert wide == [0] * 3


def test_the_page_says_what_is_not_there(tmp_path):
    told = {
        "slots": "the answer of a tagger is not one label",
        "warm-up": "Points are left out where a training is too short",
    }
    for settings, wanted in ((Settings(task="slots"), ["slots"]), (Settings(parts=("main", "warm-up")), ["warm-up"])):
        write_uimer(tmp_path / "study.html", study(), settings)
        page = (tmp_path / "study.html").read_text(encoding="utf-8")
        assert [key for key, text in told.items() if text in page] == wanted


def test_the_table_is_written_as_json(tmp_path, monkeypatch):
    monkeypatch.setattr(Study, "run", lambda _: study())
    write_records(tmp_path / "data.jsonl", two_labels())
    data = [part for name in ("--train", "--dev", "--test") for part in (name, str(tmp_path / "data.jsonl"))]
    where = ["--out", str(tmp_path / "out"), "--json", str(tmp_path / "cells.json")]
    with pytest.raises(SystemExit) as end:
        main(["study", "uimer", "--model", "none", *data, *where])
    assert not end.value.code
    rows = json.loads((tmp_path / "cells.json").read_text())
    lines = lines_of(study())
    assert [(row["part"], row["variant"]) for row in rows] == [(line.part, line.variant) for line in lines]
    assert rows[1]["gain"]["value"] == pytest.approx(0.1)
    assert rows[1]["gain"]["low"] == lines[1].gain.low
    assert rows[0]["gain"] is None


def two_labels(size=12):
    """Texts in which one word says the label, marked by a person."""
    words, made = {"a": "happy", "b": "red"}, []
    for index in range(size):
        label = "ab"[index % 2]
        text = f"the man {words[label]} in the park {index}"
        start = text.index(words[label])
        note = Annotation("ann", label, {"text": (Span(start, start + len(words[label])),)})
        made.append(Record(str(index), {"text": text}, "intent", label, ("a", "b"), (note,)))
    return made


def test_rounds_go_on_from_the_best_model(tiny, tmp_path, monkeypatch):
    """The paper's rounds reload it; with one pass, dev records are not looked at."""
    names = {"a": "entailment", "b": "neutral"}
    records = [msgspec.structs.replace(one, label=names[one.label], label_set=None) for one in two_labels()]
    learner, scores, weights, seen = LabelLearner(tiny.build("bert")), iter([0.2, 0.9, 0.4, 0.4, 0.4]), [], []

    def copied(network):
        return {name: value.clone() for name, value in network.state_dict().items()}

    def score(self, given, tokens):
        weights.append(copied(self.network))
        return {"accuracy": next(scores)}

    monkeypatch.setattr(LabelLearner, "score", score)
    monkeypatch.setattr(rounds_module, "train_extractor", lambda model, *_, **__: seen.append(copied(model.model)))
    settings = Settings(batch=6)
    rounds = Variant("DM rounds", Alignment("diffmask", rounds=2, warm_up=1), lr=1e-2, epochs=5)
    train(learner, records, rounds, 0, settings, records[:4])
    assert len(weights) == 5
    for found, after in zip(seen, (1, 2), strict=True):  # the best of three epochs was the second
        assert all(torch.equal(value, weights[after - 1][name]) for name, value in found.items())
    assert any(not torch.equal(value, weights[2][name]) for name, value in seen[1].items())
    once = msgspec.structs.replace(rounds, alignment=Alignment("diffmask", warm_up=1))
    train(learner, records, once, 0, settings, records[:4])
    assert (len(weights), len(seen)) == (5, 3)


@pytest.mark.slow
def test_two_processes_finish_every_cell(tmp_path, tiny):
    """Both train together; the first one writes. Stopped after some cells, one process goes on from these."""
    tiny.save(tmp_path / "model")
    write_records(tmp_path / "data.jsonl", two_labels())
    data = tmp_path / "data.jsonl"
    (tmp_path / "study.py").write_text(
        "import sys\nfrom raison.cli import main\nfrom raison.studies import uimer\n"
        "uimer.grid = lambda task, size: [uimer.Variant('task alone', None, lr, 2) for lr in (1e-4, 2e-4)]\n"
        "main(sys.argv[1:])\n"
    )
    study = [tmp_path / "study.py", "study", "uimer", "--model", tmp_path / "model", "--train", data, "--dev", data]
    study += ["--test", data, "--seeds", "2", "--tuning-seeds", "1", "--only", "GB order", "--people", "ann"]
    study += ["--batch", "4", "--out", tmp_path / "out"]
    done = launched(*study, processes=2)
    lines = (tmp_path / "out" / "cells.jsonl").read_bytes().splitlines(keepends=True)
    cells = [msgspec.json.decode(line, type=Cell) for line in lines]
    assert len(cells) == len({one.key for one in cells}) == 2 + 2 + 6 + 2
    assert done.stdout.decode().count("GB order") == 1  # one table
    (tmp_path / "out" / "cells.jsonl").write_bytes(b"".join(lines[:-2]))
    launched(*study)
    assert len((tmp_path / "out" / "cells.jsonl").read_bytes().splitlines()) == len(lines)
