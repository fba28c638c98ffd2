"""Fine-tuning: same seed, same model; interrupted is not lost; what is saved says how it was made."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModel

from raison.models import Classifier
from raison.records import InputError, Record
from raison.testbed import make_corpus
from raison.training import Config, few_shot, finetune
from raison.training.finetune import label_names
from raison.training.runs import begin, expect_parts, parts_of
from stopping import Stop, stop_at

LABELS = ("positive", "neutral", "negative")
QUICK = Config(epochs=2, lr=1e-3, batch=8)


def weights(folder):
    """Read the weights of a folder."""
    return load_file(folder / "model.safetensors")


def same_weights(one, other):
    """Say whether two folders hold the same weights, bit by bit."""
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def record(index, label, label_set=()):
    return Record(str(index), {"text": "a dog"}, label=label, label_set=label_set)


@pytest.fixture(scope="module")
def data():
    """Training and development records."""
    return make_corpus("single", 22, 0), make_corpus("single", 10, 1)


@pytest.fixture(scope="module")
def whole(base, data, tmp_path_factory):
    """An uninterrupted training with development records."""
    out = tmp_path_factory.mktemp("whole") / "out"
    finetune(base, data[0], out, data[1], QUICK)
    return out


# ----------------------------------------------------------------------------------------------------- the data


@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=60), st.integers(1, 6), st.integers(0, 99))
def test_few_shot_draws_so_many_of_each_label(labels, shots, seed):
    records = [record(index, label, ("a", "b", "c")) for index, label in enumerate(labels)]  # some without a label
    found = Counter(labels)
    if min(found[label] for label in "abc") < shots:
        with pytest.raises(InputError, match=rf"^label '[abc]' has \d+ training records, fewer than the {shots} shots"):
            few_shot(records, shots, seed)
        return
    chosen = few_shot(records, shots, seed)
    assert Counter(r.label for r in chosen) == dict.fromkeys("abc", shots)
    assert [int(r.id) for r in chosen] == sorted({int(r.id) for r in chosen})
    assert chosen == few_shot(records, shots, seed)


def test_few_shot_differs_by_seed_and_grows_by_shots():
    records = make_corpus("single", 200)
    assert few_shot(records, 5, 0) != few_shot(records, 5, 1)
    assert {r.id for r in few_shot(records, 5, 0)} < {r.id for r in few_shot(records, 8, 0)}


def test_labels_keep_the_order_of_the_label_set():
    assert label_names([record(0, None), record(1, "z", ("z", "b", "a"))]) == ("z", "b", "a")
    assert label_names([record(0, "z"), record(1, "a"), record(2, None)]) == ("a", "z")
    with pytest.raises(InputError, match="at least two labels; the records have z"):
        label_names([record(0, "z")])
    with pytest.raises(InputError, match="the records have none"):
        label_names([])


# ----------------------------------------------------------------------------------------------------- the folder


def test_the_folder_holds_a_model_that_says_how_it_was_made(base, data, whole):
    assert {path.suffix for path in whole.iterdir()} == {".json", ".safetensors"}
    assert not whole.with_name("out.part").exists()
    told = json.loads((whole / "raison.json").read_text())
    assert told["config"] == {"command": "train", "model": str(base), **msgspec.to_builtins(QUICK)}
    assert told["data"]["records"] == 22
    assert told["dev"]["records"] == 10
    assert told["data"]["sha256"] != told["dev"]["sha256"]
    assert told["versions"]["transformers"]
    assert Classifier.load(whole).labels == LABELS
    assert Classifier.load(whole).model.config.label2id == {label: i for i, label in enumerate(LABELS)}


def test_the_accuracy_told_is_the_models(data, whole):
    history = json.loads((whole / "raison.json").read_text())["history"]
    told = [row["eval_accuracy"] for row in history if "eval_accuracy" in row]
    assert len(told) == QUICK.epochs
    predictions = Classifier.load(whole).predict(data[1])
    right = np.mean([p.label == r.label for p, r in zip(predictions, data[1], strict=True)])
    assert right == pytest.approx(max(told))  # the best epoch is kept


def test_the_model_given_is_left_as_it_was(tiny, base, whole):
    assert whole.exists()
    assert not same_weights(base, whole)
    untouched = tiny.build("bert").model.state_dict()
    assert all(torch.equal(value, untouched[name]) for name, value in weights(base).items())


def test_what_is_done_is_not_done_again(base, data, whole):
    before = (whole / "model.safetensors").stat().st_mtime_ns
    finetune(base, data[0], whole, data[1], QUICK, progress=stop_at(0))
    assert (whole / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("change", [{"seed": 1}, {"lr": 2e-3}, {"epochs": 3}])
def test_another_training_does_not_take_its_place(base, data, whole, change):
    with pytest.raises(InputError, match="made from something else"):
        finetune(base, data[0], whole, data[1], msgspec.structs.replace(QUICK, **change))
    with pytest.raises(InputError, match="made from something else"):
        finetune(base, data[0][1:], whole, data[1], QUICK)


# ----------------------------------------------------------------------------------------------------- seeds


def test_the_seed_decides(base, data, whole, tmp_path):
    """A fine-tuned classifier depends on the seed by the order of the records, and by dropout."""
    finetune(base, data[0], tmp_path / "same", data[1], QUICK)
    finetune(base, data[0], tmp_path / "other", data[1], msgspec.structs.replace(QUICK, seed=1))
    assert same_weights(whole, tmp_path / "same")
    assert not same_weights(whole, tmp_path / "other")


@pytest.mark.parametrize("share", [0.5, 0.7, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.1, 1.0))])
def test_interrupted_it_goes_on_to_the_same_model(base, data, whole, tmp_path, share):
    """Six steps in two epochs: stopped in the first, at its end, in the second, and at the very end."""
    out = tmp_path / "out"
    with pytest.raises(Stop):
        finetune(base, data[0], out, data[1], QUICK, progress=stop_at(share))
    assert not out.exists()
    assert (tmp_path / "out.part").exists()
    finetune(base, data[0], out, data[1], QUICK)
    assert same_weights(whole, out)
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.slow
def test_without_development_records_it_goes_on_too(base, data, tmp_path):
    finetune(base, data[0], tmp_path / "whole", config=QUICK)
    with pytest.raises(Stop):
        finetune(base, data[0], tmp_path / "out", config=QUICK, progress=stop_at(0.7))
    finetune(base, data[0], tmp_path / "out", config=QUICK)
    assert same_weights(tmp_path / "whole", tmp_path / "out")


def test_a_checkpoint_cut_short_is_not_gone_on_from(base, data, whole, tmp_path):
    """Killed while a checkpoint is written: its state, which is written last, is not there."""
    with pytest.raises(Stop):
        finetune(base, data[0], tmp_path / "out", data[1], QUICK, progress=stop_at(0.7))
    work = tmp_path / "out.part"
    (found,) = work.glob("checkpoint-*")
    shutil.copytree(found, work / "checkpoint-5")
    (work / "checkpoint-5" / "trainer_state.json").unlink()
    (work / "checkpoint-5" / "model.safetensors").write_bytes(b"half")
    finetune(base, data[0], tmp_path / "out", data[1], QUICK)
    assert same_weights(whole, tmp_path / "out")


def test_an_interrupted_training_is_not_mixed_with_another(base, data, tmp_path):
    with pytest.raises(Stop):
        finetune(base, data[0], tmp_path / "out", data[1], QUICK, progress=stop_at(0.1))
    with pytest.raises(InputError, match="interrupted training with other settings"):
        finetune(base, data[0], tmp_path / "out", data[1], msgspec.structs.replace(QUICK, seed=1))


# ----------------------------------------------------------------------------------------------------- models, records


def test_of_several_processes_the_first_one_makes_the_folder(tmp_path, monkeypatch):
    """Another may find it half made."""
    work = tmp_path / "out.part"
    work.mkdir()
    monkeypatch.setenv("RANK", "1")
    begin(work, {"config": 1})
    assert not any(work.iterdir())
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError, match="with other settings"):
        begin(work, {"config": 1})


@pytest.mark.parametrize(
    ("processes", "accumulate", "told"),
    [("1", 3, "3 equal parts$"), ("3", 1, r"3 equal parts \(1 for each of 3 processes\)$"), ("2", 8, "16 equal parts")],
)
def test_a_step_is_shared_evenly(monkeypatch, processes, accumulate, told):
    monkeypatch.setenv("WORLD_SIZE", processes)
    with pytest.raises(InputError, match=f"batch 8: can't be computed in {told}"):
        expect_parts(8, accumulate)
    parts = parts_of(Config(batch=48, accumulate=accumulate))
    assert parts["per_device_train_batch_size"] * accumulate * int(processes) == 48


def test_an_encoder_gets_a_head_drawn_by_the_seed(base, data, tmp_path):
    AutoModel.from_pretrained(base).save_pretrained(tmp_path / "encoder")
    for name in os.listdir(base):
        if name.startswith("tokenizer"):
            shutil.copy(base / name, tmp_path / "encoder")
    once = Config(epochs=1, batch=32)
    one = finetune(tmp_path / "encoder", data[0], tmp_path / "one", config=once)
    finetune(tmp_path / "encoder", data[0], tmp_path / "two", config=once)
    assert one.labels == LABELS
    assert same_weights(tmp_path / "one", tmp_path / "two")


def test_another_number_of_labels_gets_a_new_head(base, tmp_path):
    two = [record(index, "ab"[index % 2], ("b", "a")) for index in range(8)]
    assert finetune(base, two, tmp_path / "out", config=Config(epochs=1)).labels == ("b", "a")


def test_pairs_are_read_as_pairs(base, tmp_path):
    pairs = make_corpus("pair", 12)
    model = finetune(base, pairs, tmp_path / "out", config=Config(epochs=1))
    assert model.labels == ("entailment", "neutral", "contradiction")
    assert all(set(tokens.types.tolist()) == {0, 1} for tokens in model.encode(pairs))


def test_records_without_a_label_are_left_out(base, data, tmp_path):
    blank = [msgspec.structs.replace(r, id=f"blank-{r.id}", label=None) for r in data[0][:5]]
    finetune(base, [*blank, *data[0]], tmp_path / "out", [*blank, *data[1]], Config(epochs=1))
    told = json.loads((tmp_path / "out" / "raison.json").read_text())
    assert (told["data"]["records"], told["dev"]["records"]) == (22, 10)


def test_patience_ends_a_training_that_gets_no_better(base, data, tmp_path):
    still = Config(epochs=6, lr=1e-12, batch=32, patience=1)
    finetune(base, data[0], tmp_path / "out", data[1], still)
    history = json.loads((tmp_path / "out" / "raison.json").read_text())["history"]
    assert sum("eval_accuracy" in row for row in history) == 2


def test_progress_rises_to_the_end(base, data, tmp_path):
    seen = []
    finetune(base, data[0], tmp_path / "out", data[1], QUICK, progress=lambda share, logs: seen.append((share, logs)))
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert sum("eval_accuracy" in logs for _, logs in seen) == 2


def case(name, records, message, **options):
    return pytest.param(records, options, message, id=name)


@pytest.mark.parametrize(
    ("records", "options", "message"),
    [
        case("nothing", [], "at least two labels"),
        case("no label", [record(0, None, LABELS)], "no training record has a label"),
        case("one label", [record(0, "a")], "at least two labels; the records have a"),
        case("strange label", [record(0, "a", ("a", "b")), record(1, "c")], "record '1': label 'c' is not one of a, b"),
        case("few", [record(0, "a"), record(1, "b"), record(2, "b")], "'a' has 1 training records", shots=2),
    ],
)
def test_data_that_cannot_be_learned_from_is_said_in_a_line(base, tmp_path, records, options, message):
    with pytest.raises(InputError, match=message) as caught:
        finetune(base, records, tmp_path / "out", config=Config(epochs=1, **options))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_model_is_said_in_a_line(data, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="can't be loaded") as caught:
        finetune(tmp_path / "empty", data[0], tmp_path / "out", config=Config(epochs=1))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.2, 0.9])
def test_killed_it_goes_on_to_the_same_model(base, data, whole, tmp_path, share):
    script = f"""
import os, signal, torch
from raison.testbed import make_corpus
from raison.training import Config, finetune
torch.set_num_threads(1)
def progress(done, logs):
    if done >= {share}:
        os.kill(os.getpid(), signal.SIGKILL)
config = Config(epochs=2, lr=1e-3, batch=8)
finetune({str(base)!r}, make_corpus("single", 22, 0), {str(tmp_path / "out")!r}, make_corpus("single", 10, 1), config,
         progress=progress)
"""
    assert (
        subprocess.run([sys.executable, "-c", script], check=False, capture_output=True).returncode == -signal.SIGKILL
    )
    assert os.listdir(tmp_path) == ["out.part"]
    finetune(base, data[0], tmp_path / "out", data[1], QUICK)
    assert same_weights(whole, tmp_path / "out")


@pytest.mark.slow
def test_it_learns(base, tmp_path):
    """One word says the label."""
    cues = dict(zip(LABELS, ("happy", "red", "sleeps"), strict=True))
    texts = [f"the {dog} {place} {{}}" for dog in ("dog", "man", "woman") for place in ("in the park", "with a book")]
    records = [
        Record(f"{label}-{i}", {"text": text.format(cue)}, label=label, label_set=LABELS)
        for label, cue in cues.items()
        for i, text in enumerate(texts)
    ]
    model = finetune(base, records, tmp_path / "out", config=Config(epochs=40, lr=5e-3, batch=9))
    assert [p.label for p in model.predict(records)] == [r.label for r in records]


def test_a_head_keeps_the_order_of_its_labels(data, whole, tmp_path):
    turned = [msgspec.structs.replace(record, label_set=LABELS[::-1]) for record in data[0]]
    assert finetune(whole, turned, tmp_path / "out", config=Config(epochs=1)).labels == LABELS
