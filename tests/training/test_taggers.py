"""Fine-tuning taggers of words: the same promises as for classifiers, on slots, with and without rationales."""

import json
import os
import shutil
import signal
import subprocess
import sys

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

from processes import launched
from raison.cli import main
from raison.models import Classifier, Tagger
from raison.models.slots import span_f1
from raison.records import Annotation, InputError, Record, Span, write_records
from raison.sources import load
from raison.training import Alignment, Config, finetune, finetune_tagger
from raison.training.shots import few_shot_slots
from shared import shared_file
from stopping import Stop, stop_at

QUICK = Config(epochs=2, lr=1e-2, batch=8)
TAGS = ("O", "B-what", "I-what", "B-who", "I-who")
WHO, DO, WHAT = ("man", "woman", "dog"), ("reads", "sleeps in", "plays in"), ("book", "red park", "park", "red book")


def record(number):
    """Somebody does something with something; a person marked what is done."""
    who, do, what = WHO[number % 3], DO[number // 3 % 3], WHAT[number // 9 % 4]
    text = f"the {who} {do} the {what}"
    spans = {"who": Span(4, 4 + len(who)), "what": Span(len(text) - len(what), len(text))}
    slots = [{"field": "text", "start": span.start, "end": span.end, "slot": name} for name, span in spans.items()]
    start = 5 + len(who)
    note = Annotation("ann", None, {"text": (Span(start, start + len(do)),)})
    return Record(f"r{number}", {"text": text}, annotations=(note,), meta={"slots": slots})


TRAIN, DEV = [record(number) for number in range(22)], [record(number) for number in range(22, 32)]


def weights(folder):
    return load_file(folder / "model.safetensors")


def same_weights(one, other):
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def told(folder):
    return json.loads((folder / "raison.json").read_text())


def f1_of(tagger):
    return span_f1(DEV, tagger.predict(DEV))


@pytest.fixture(scope="module")
def base(tiny, tmp_path_factory):
    """A folder with an untrained encoder."""
    folder, words = tmp_path_factory.mktemp("models") / "base", tiny.bert_tokenizer()
    torch.manual_seed(0)
    wide = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    BertModel(BertConfig(vocab_size=len(words), pad_token_id=0, **wide)).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """An uninterrupted training with development records."""
    out = tmp_path_factory.mktemp("whole") / "out"
    finetune_tagger(base, TRAIN, out, DEV, QUICK)
    return out


# ----------------------------------------------------------------------------------------------------- the folder


def test_the_folder_holds_a_tagger_that_says_how_it_was_made(base, whole):
    assert {path.suffix for path in whole.iterdir()} == {".json", ".safetensors"}
    assert not whole.with_name("out.part").exists()
    said = {"command": "train", "model": str(base), "task": "slots", "head": None}
    assert told(whole)["config"] == said | msgspec.to_builtins(QUICK)
    assert (told(whole)["data"]["records"], told(whole)["dev"]["records"]) == (22, 10)
    assert Tagger.load(whole).tags == TAGS


def test_the_loaded_tagger_predicts_what_the_trained_one_did(base, tmp_path):
    """The F1 told is that of the model in memory; that of the folder is the best epoch's."""
    made = finetune_tagger(base, TRAIN, tmp_path / "out", DEV, Config(epochs=8, lr=2e-2, batch=4))
    f1s = [row["eval_f1"] for row in told(tmp_path / "out")["history"] if "eval_f1" in row]
    assert len(f1s) == 8
    assert 0 < max(f1s) == f1_of(made) == f1_of(Tagger.load(tmp_path / "out"))
    assert made.predict(TRAIN) == Tagger.load(tmp_path / "out").predict(TRAIN)


@pytest.mark.parametrize("head", ["crf", "plain"])
def test_a_head_is_what_was_asked_for(base, whole, tmp_path, head):
    made = finetune_tagger(base, TRAIN, tmp_path / "out", DEV, QUICK, head)
    assert (made.model.crf is None) == (head == "plain")
    assert any(name.startswith("crf") for name in weights(tmp_path / "out")) == (head == "crf")
    assert told(tmp_path / "out")["config"]["head"] == head
    if head == "crf":  # which is what one gets without a word
        assert same_weights(whole, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("head", ["crf", "plain"])
def test_it_learns(base, tmp_path, head):
    made = finetune_tagger(base, TRAIN, tmp_path / "out", config=Config(epochs=30, lr=2e-2, batch=4), head=head)
    assert span_f1(TRAIN, made.predict(TRAIN)) == 1.0


def test_a_tagger_is_trained_on(whole, tmp_path):
    """It keeps its head and its tags, also those that no record has."""
    some = [msgspec.structs.replace(one, meta={"slots": one.meta["slots"][:1]}) for one in TRAIN]
    made = finetune_tagger(whole, some, tmp_path / "out", config=msgspec.structs.replace(QUICK, lr=1e-12))
    assert made.tags == TAGS
    before, after = weights(whole), weights(tmp_path / "out")
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


# ----------------------------------------------------------------------------------------------------- going on


@pytest.mark.parametrize("share", [0.5, 0.7])
def test_interrupted_it_goes_on_to_the_same_tagger(base, whole, tmp_path, share):
    with pytest.raises(Stop):
        finetune_tagger(base, TRAIN, tmp_path / "out", DEV, QUICK, progress=stop_at(share))
    assert os.listdir(tmp_path) == ["out.part"]
    finetune_tagger(base, TRAIN, tmp_path / "out", DEV, QUICK)
    assert same_weights(whole, tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.slow
@pytest.mark.parametrize("aligned", [False, True])
def test_killed_it_goes_on_to_the_same_tagger(base, tmp_path, aligned):
    alignment = Alignment(draws=1) if aligned else None
    finetune_tagger(base, TRAIN, tmp_path / "whole", DEV, QUICK, alignment=alignment)
    write_records(tmp_path / "train.jsonl", TRAIN)
    write_records(tmp_path / "dev.jsonl", DEV)
    script = f"""
import os, signal, torch
from raison.sources import load
from raison.training import Alignment, Config, finetune_tagger
torch.set_num_threads(1)
def progress(done, logs):
    if done >= 0.8:
        os.kill(os.getpid(), signal.SIGKILL)
train, dev = load({str(tmp_path / "train.jsonl")!r}), load({str(tmp_path / "dev.jsonl")!r})
finetune_tagger({str(base)!r}, train, {str(tmp_path / "out")!r}, dev, Config(epochs=2, lr=1e-2, batch=8),
                alignment={"Alignment(draws=1)" if aligned else None}, progress=progress)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    finetune_tagger(base, TRAIN, tmp_path / "out", DEV, QUICK, alignment=alignment)
    assert same_weights(tmp_path / "whole", tmp_path / "out")


def test_patience_ends_a_training_that_gets_no_better(base, tmp_path):
    still = Config(epochs=6, lr=1e-12, batch=32, patience=1)
    finetune_tagger(base, TRAIN, tmp_path / "out", DEV, still)
    assert sum("eval_f1" in row for row in told(tmp_path / "out")["history"]) == 2


@pytest.mark.parametrize("head", ["crf", "plain"])
def test_bfloat16_trains_and_is_saved_in_float32(base, tmp_path, head):
    for name in ("half", "full"):
        config = msgspec.structs.replace(QUICK, bf16=name == "half")
        finetune_tagger(base, TRAIN, tmp_path / name, DEV, config, head)
    half, full = weights(tmp_path / "half"), weights(tmp_path / "full")
    assert all(value.dtype == torch.float32 and torch.isfinite(value).all() for value in half.values())
    assert not same_weights(tmp_path / "half", tmp_path / "full")
    assert all(torch.allclose(half[name], full[name], atol=0.2) for name in full)


# ----------------------------------------------------------------------------------------------------- records


def test_few_shots_are_drawn_by_words_of_slots(base, tmp_path):
    config = msgspec.structs.replace(QUICK, epochs=1, shots=3, seed=4)
    finetune_tagger(base, TRAIN, tmp_path / "out", config=config)
    alone = msgspec.structs.replace(config, shots=None)
    finetune_tagger(base, few_shot_slots(TRAIN, 3, 4), tmp_path / "same", config=alone)
    assert told(tmp_path / "out")["data"]["records"] < len(TRAIN)
    assert same_weights(tmp_path / "out", tmp_path / "same")


def test_records_without_the_key_are_left_out_but_not_those_without_a_slot(base, tmp_path):
    unknown = [Record(f"u{number}", {"text": "a dog"}) for number in range(3)]
    none = [Record(f"n{number}", {"text": "a dog"}, meta={"slots": []}) for number in range(2)]
    finetune_tagger(base, [*unknown, *none, *TRAIN], tmp_path / "out", [*unknown, *none, *DEV], Config(epochs=1))
    assert (told(tmp_path / "out")["data"]["records"], told(tmp_path / "out")["dev"]["records"]) == (24, 12)


# ----------------------------------------------------------------------------------------------------- rationales


@pytest.mark.parametrize("head", ["crf", "plain"])
@pytest.mark.parametrize("by", ["gradient-l1", "input-marginalisation"])
def test_the_alignment_is_learned(base, tmp_path, by, head):
    alignment = Alignment(by, alpha=20.0, draws=2 if by == "input-marginalisation" else 4)
    config = Config(epochs=6, lr=1e-2, batch=8)
    finetune_tagger(base, TRAIN, tmp_path / "out", DEV, config, head, alignment=alignment)
    losses = [row["alignment"] for row in told(tmp_path / "out")["history"] if "alignment" in row]
    assert len(losses) == 6
    assert losses[-1] < 0.7 * losses[0]
    assert told(tmp_path / "out")["config"]["alignment"]["by"] == by
    assert told(tmp_path / "out")["rationales"] == {"records": 22, "without_rationale": 0, "share_without": 0}


WRONG = {
    "no slots": (([Record("a", {"text": "a dog"})],), {}, "no training record has a slot"),
    "no slot in any": (([Record("a", {"text": "a dog"}, meta={"slots": []})],), {}, "no training record has a slot"),
    "no slot in dev": ((TRAIN,), {"dev": [Record("a", {"text": "a dog"})]}, "no dev record has a slot"),
    "unknown head": ((TRAIN,), {"head": "softmax"}, "unknown head 'softmax'; expected crf or plain"),
    "malformed": (
        ([Record("a", {"text": "a"}, meta={"slots": [{"x": 1}]})],),
        {},
        r"record 'a': field `meta.slots\[0\]",
    ),
    "attention": ((TRAIN,), {"alignment": Alignment("attention")}, "--align attention: from one position"),
    "no epochs": ((TRAIN,), {"config": Config(epochs=0)}, "must be at least 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_trained_is_one_line_and_leaves_nothing(base, tmp_path, name):
    given, options, message = WRONG[name]
    with pytest.raises(InputError, match=message) as caught:
        finetune_tagger(base, *given, tmp_path / "out", **options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "by"), [("crf", "gradient-l1"), ("crf", "input-marginalisation"), ("plain", "diffmask")]
)
def test_two_processes_train_the_same_tagger(base, tmp_path, head, by):
    """Eleven records in steps of four, without dropout; the transitions of a CRF learn on both."""
    shutil.copytree(base, tmp_path / "base")
    config = json.loads((base / "config.json").read_text()) | {"attention_probs_dropout_prob": 0.0}
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    (tmp_path / "tagger.py").write_text(f"""
import sys, msgspec, torch
from raison.records import Record
from raison.training import Alignment, Config, finetune_tagger
torch.set_num_threads(1)
torch.nn.Dropout.forward = lambda self, states: states
records = msgspec.json.decode({msgspec.json.encode(TRAIN[:11])!r}, type=list[Record])
alignment = Alignment({by!r}, extractor_epochs=1) if {by!r} == "diffmask" else Alignment({by!r})
config = Config(epochs=2, batch=4)
finetune_tagger({str(tmp_path / "base")!r}, records, sys.argv[1], config=config, head={head!r}, alignment=alignment)
""")
    for size, name in enumerate(("one", "two"), 1):
        launched(tmp_path / "tagger.py", tmp_path / name, processes=size)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5


def test_a_tagger_without_such_a_head_or_tag_is_not_trained_on(whole, tmp_path):
    with pytest.raises(InputError, match="a tagger whose head is crf; it can't be trained on as plain"):
        finetune_tagger(whole, TRAIN, tmp_path / "out", head="plain")
    where = [{"field": "text", "start": 0, "end": 1, "slot": "where"}]
    with pytest.raises(InputError, match="has no tag 'B-where'"):
        finetune_tagger(whole, [Record("1", {"text": "a"}, meta={"slots": where})], tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_labels_do_not_train_a_tagger(whole, tmp_path):
    labelled = [msgspec.structs.replace(one, label="ab"[index % 2]) for index, one in enumerate(TRAIN)]
    with pytest.raises(InputError, match="a tagger of words, which labels can't train") as caught:
        finetune(whole, labelled, tmp_path / "out")
    assert "\n" not in str(caught.value)


# ----------------------------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def desk(base, tiny, tmp_path_factory):
    """A folder with records, with slots alone and with labels too, beside an encoder and a classifier."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "encoder").symlink_to(base)
    classifier = tiny.build("bert")
    classifier.model.save_pretrained(folder / "classifier")
    classifier.tokenizer.save_pretrained(folder / "classifier")
    labelled = [msgspec.structs.replace(one, label=one.fields["text"].split()[1], label_set=WHO) for one in TRAIN]
    bare = [msgspec.structs.replace(one, meta={}) for one in labelled]
    for name, records in {"slots": TRAIN, "dev": DEV, "both": labelled, "labels": bare}.items():
        write_records(folder / f"{name}.jsonl", records)
    return folder


def run(desk, model, data, out, *options):
    given = ["train", "--model", desk / model, "--data", desk / f"{data}.jsonl", "--out", out, "--epochs", "2"]
    with pytest.raises(SystemExit) as end:
        main([str(part) for part in (*given, *options)])
    return end.value.code or 0


@pytest.mark.parametrize(
    "given",
    [
        ("slots", [], True),
        ("both", ["--task", "slots", "--accumulate", "2", "--bf16"], True),
        ("slots", ["--head", "plain", "--limit", "12", "--shots", "2", "--seed", "3"], False),
    ],
)
def test_the_command_trains_a_tagger_and_says_its_f1(desk, tmp_path, capsys, given):
    (data, options, crf), out = given, tmp_path / "out"
    more = ["--dev", desk / "dev.jsonl", "--align", "input-marginalisation", "--warm-up", "1", "--align-set", "draws=1"]
    assert run(desk, "encoder", data, out, *options, *more) == 0
    printed = capsys.readouterr().err
    best = [row["eval_f1"] for row in told(out)["history"] if "eval_f1" in row]
    assert f"epoch 1: dev F1 of slots {best[0]:.3f}\nepoch 2: dev F1 of slots {best[1]:.3f}" in printed
    assert f"next, in Python: raison.Tagger.load('{out}')" in printed
    assert (Tagger.load(out).model.crf is not None) == crf
    assert sum("alignment" in row for row in told(out)["history"]) == 1


def test_labels_come_before_slots_unless_something_else_is_said(desk, tmp_path, capsys):
    assert run(desk, "classifier", "both", tmp_path / "out") == 0
    assert Classifier.load(tmp_path / "out").labels == WHO
    assert "this was trained on labels (--task slots trains a tagger of words)" in capsys.readouterr().err


REFUSED = {
    "no slots": ("encoder", "labels", ["--task", "slots"], "no training record has a slot (`meta.slots`)"),
    "a classifier": ("classifier", "slots", [], "a classifier of labels (BertForSequenceClassification)"),
    "attention": ("encoder", "slots", ["--align", "attention"], "--align attention: from one position"),
    "unknown head": ("encoder", "slots", ["--head", "lstm"], "unknown head 'lstm'; expected crf or plain"),
    "a head of lora": ("encoder", "slots", ["--head", "crf", "--lora"], "--head: only for taggers of words"),
    "slots of lora": ("encoder", "slots", ["--task", "slots", "--lora"], "slots"),
    "remote code": ("encoder", "slots", ["--trust-remote-code"], "--trust-remote-code: not for taggers of words"),
    "a rank": ("encoder", "slots", ["--rank", "2"], "--rank: only with --lora"),
    "no model": ("nowhere", "slots", [], "no such folder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_command_refuses_is_one_line_and_status_2(desk, tmp_path, capsys, name):
    model, data, options, message = REFUSED[name]
    assert run(desk, model, data, tmp_path / "out", *options) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_tagger_is_not_taken_for_a_model_of_labels(desk, whole, tmp_path, capsys):
    given = ["extract", "--model", whole, "--data", desk / "both.jsonl", "--method", "gradient"]
    with pytest.raises(SystemExit) as end:
        main([str(part) for part in (*given, "--out", tmp_path / "scores.jsonl")])
    printed = capsys.readouterr().err
    assert (end.value.code, printed.count("\n")) == (2, 1)
    assert "a tagger of words" in printed


@pytest.mark.slow
def test_slots_of_snips_are_learned(tiny, tmp_path):
    """A small encoder that nothing was pretrained with: far from the truth, but far above nothing."""
    train = load(shared_file("data/snips_uimer/train.jsonl.gz"), limit=600)
    words = tiny.bert_tokenizer(sorted({word for one in train for word in one.fields["text"].split()}))
    torch.manual_seed(0)
    wide = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    BertModel(BertConfig(vocab_size=len(words), pad_token_id=0, **wide)).save_pretrained(tmp_path / "encoder")
    words.save_pretrained(tmp_path / "encoder")
    dev = load(shared_file("data/snips_uimer/dev.jsonl"), limit=60)
    alignment = Alignment("gradient-l1", people="uimer-slot")
    made = finetune_tagger(
        tmp_path / "encoder", train, tmp_path / "out", dev, Config(epochs=6, lr=3e-3, batch=16), alignment=alignment
    )
    assert span_f1(dev, made.predict(dev)) > 0.3
    assert told(tmp_path / "out")["rationales"]["without_rationale"] > 0
