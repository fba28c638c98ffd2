"""Fine-tuning by LoRA: the evaluation's own prompt, a loss on answers alone, no record of the evaluation among it."""

import json
import os
import signal
import subprocess
import sys

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from answerers import TOKENIZERS, causal, tokenizer
from processes import launched
from raison.masking import apply, make_operator
from raison.models import Answerer
from raison.models.generator import LocalGenerator
from raison.models.scorer import projected
from raison.prompting import ask, load_request, read_reply
from raison.records import Annotation, InputError, Record, Span
from raison.training import LoraConfig, finetune_lora, lora
from raison.training.recipes import (
    IGNORED,
    Examples,
    apart,
    collate,
    drawn_mask,
    end_of_turn,
    examples,
    marked_words,
    plain_request,
)
from stopping import Stop, stop_at

CUES = {"positive": "good", "negative": "awful"}
LABELS = tuple(CUES)
QUICK = LoraConfig(epochs=2, lr=5e-3, batch=8, rank=4, recipe="mask-augmented", bf16=False)


def record(index, label, people=("a",)):
    """A text in which one word says the label, marked by some people."""
    text = f"the film {index} was {CUES[label]} today"
    span = Span(text.index(CUES[label]), text.index(CUES[label]) + len(CUES[label]))
    notes = tuple(Annotation(person, None, {"text": (span,)}) for person in people)
    return Record(f"{label}-{index}", {"text": text}, "sentiment", label, LABELS, notes)


TRAIN = [record(index, label) for index in range(11) for label in CUES]
DEV = [record(index, label) for index in range(100, 104) for label in CUES]


def save(folder, kind="llama", chat=True):
    """Write a folder with an untrained model."""
    made = tokenizer(chat=chat)
    causal(kind, made).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def make(kind="llama", words="byte", chat=True, **options):
    made = tokenizer(words, chat)
    return Answerer(causal(kind, made), made, "sentiment", labels=LABELS, **options)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """An uninterrupted training with development records."""
    out = tmp_path_factory.mktemp("whole") / "out"
    finetune_lora(base, "sentiment", TRAIN, out, DEV, QUICK)
    return out


def told(folder):
    return json.loads((folder / "raison.json").read_text())


def weights(folder):
    return load_file(folder / "adapter_model.safetensors")


def same_weights(one, other):
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# ------------------------------------------------------------------------------------------------------ examples


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
@pytest.mark.parametrize("words", TOKENIZERS)
def test_the_prompt_is_the_evaluations_and_the_label_follows_it(words, chat):
    model = make(words=words, chat=chat)
    rows, counts = examples(model, TRAIN[:4], "label", 0)
    assert counts == {"records": 4}
    end = model.tokenizer.eos_token_id
    for row, encoded, record in zip(rows, model.encode(TRAIN[:4]), TRAIN, strict=False):
        assert row.tokens.ids.tolist() == encoded.ids.tolist()
        assert row.answer == (*model.label_ids[LABELS.index(record.label)], end)
        text = model.tokenizer.decode(row.answer, skip_special_tokens=True).replace(" ", "").replace("##", "")
        assert text == record.label
        if chat:  # as the template writes the conversation once it is answered
            turns = [*model.task.messages(record.fields, LABELS), {"role": "assistant", "content": record.label}]
            wanted = list(model.tokenizer.apply_chat_template(turns, return_dict=False))
            assert wanted[: len(row.tokens.ids) + len(row.answer)] == [*row.tokens.ids.tolist(), *row.answer]


def test_a_batch_has_prompts_and_answers_without_the_last_token():
    model = make()
    rows, _ = examples(model, TRAIN[:2], "label", 0)
    rows = [rows[0], rows[1]._replace(answer=rows[1].answer[:2])]
    batch = collate([Examples(rows, 99)[index] for index in range(2)], padding=7)
    for index, row in enumerate(rows):
        read, size = [*row.tokens.ids.tolist(), *row.answer[:-1]], len(row.answer)
        assert batch["input_ids"][index].tolist()[: len(read)] == read
        assert set(batch["input_ids"][index].tolist()[len(read) :]) <= {7}
        assert batch["attention_mask"][index].sum() == len(read)
        places = batch["places"][index, :size].tolist()
        assert [batch["input_ids"][index, place + 1].item() for place in places[:-1]] == [*row.answer[:-1]]
        assert batch["answers"][index].tolist() == [*row.answer, *[IGNORED] * (batch["answers"].shape[1] - size)]


CLOSINGS = {
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}<end>\n{% endfor %}": "<end>",
    "{% for m in messages %}{{ m['content'] }} / {% endfor %}": "</s>",  # no token of its own
    "{{ raise_exception('no') }}": "</s>",
}


@pytest.mark.parametrize("template", CLOSINGS)
def test_an_answer_ends_as_the_template_ends_it(template):
    made = tokenizer()
    made.add_special_tokens({"additional_special_tokens": ["<end>"]})
    made.chat_template = template
    assert made.convert_ids_to_tokens(list(end_of_turn(made))) == [CLOSINGS[template]]


def test_a_tokenizer_without_an_end_gives_none():
    made = tokenizer(chat=False)
    made.eos_token = None
    assert end_of_turn(made) == ()


# ---------------------------------------------------------------------------------------------------------- loss


def slow_loss(network, given, answer):
    """Read one prompt and its answer, and average -log p of the answer's tokens."""
    ids = torch.tensor([[*given.ids.tolist(), *answer]])
    seen = torch.tensor([[*given.attention.tolist(), *[True] * len(answer)]]).long()
    logits = network(input_ids=ids, attention_mask=seen).logits[0].double().log_softmax(dim=-1)
    start = len(given.ids)
    return -sum(logits[start - 1 + place, token] for place, token in enumerate(answer)) / len(answer)


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("operator", [None, "delete", "pad", "text:_"])
def test_the_loss_is_that_of_one_record_after_the_other(kind, chat, operator):
    model = make(kind, chat=chat)
    assert min(len(ids) for ids in model.label_ids) > 1  # words of several tokens
    rows, _ = examples(model, TRAIN[:5], "label-and-rationale", 0)
    data = Examples(rows, model.max_length, operator and make_operator(operator, model.tokenizer), seed=3)
    found = lora.answer_losses(model.model, collate([data[index] for index in range(len(rows))], 0))
    assert found.shape == (10,)
    for index in range(len(rows)):
        assert found[index].item() == pytest.approx(slow_loss(model.model, *data[index]).item(), abs=1e-4)


def test_the_loss_is_transformers_own_with_prompts_left_out_of_it():
    model = make()
    (row,), _ = examples(model, TRAIN[:1], "label", 0)
    ids = torch.tensor([[*row.tokens.ids.tolist(), *row.answer]])
    labels = ids.clone()
    labels[:, : len(row.tokens.ids)] = -100
    wanted = model.model(input_ids=ids, labels=labels).loss
    assert lora.answer_losses(model.model, collate([Examples([row], 99)[0]], 0)).item() == pytest.approx(wanted.item())


def test_only_places_of_answers_meet_the_vocabulary():
    model, shapes = make(), []
    rows, _ = examples(model, TRAIN[:3], "label", 0)
    batch = collate([Examples(rows, 99)[index] for index in range(3)], 0)
    head = model.model.get_output_embeddings()
    watching = head.register_forward_hook(lambda _module, _given, output: shapes.append(tuple(output.shape)))
    lora.answer_losses(model.model, batch)
    watching.remove()
    assert shapes == [(3, batch["places"].shape[1], len(model.tokenizer))]
    with projected(model.model, batch["places"]):
        pass
    assert model.model(batch["input_ids"]).logits.shape[1] == batch["input_ids"].shape[1]  # the hook has gone


# --------------------------------------------------------------------------------------------------------- masks


@given(st.text(max_size=20), st.integers(0, 30), st.integers(0, 9), st.integers(0, 9))
def test_masks_depend_on_seed_epoch_and_record_alone(name, words, seed, epoch):
    mask = drawn_mask(name, words, seed, epoch)
    assert mask.shape == (words,)
    assert (mask == drawn_mask(name, words, seed, epoch)).all()


def test_half_is_masked_at_any_rate():
    masks = np.array([drawn_mask(str(index), 200, 0, epoch) for index in range(500) for epoch in range(2)])
    shares = masks.mean(axis=1)
    assert (shares == 0).mean() == pytest.approx(0.5, abs=0.06)
    masked = np.sort(shares[shares > 0])
    assert np.abs(masked - np.linspace(0, 1, len(masked))).max() < 0.08  # uniform
    assert (masks[::2] != masks[1::2]).any(axis=1).mean() > 0.7  # drawn anew in each epoch


def test_masked_prompts_are_those_of_an_evaluation():
    model = make()
    rows, _ = examples(model, TRAIN, "label", 0)
    operator = make_operator("delete", model.tokenizer)
    data = Examples(rows, model.max_length, operator, seed=1)
    for epoch in range(3):
        data.set_epoch(epoch)
        for index, row in enumerate(rows):
            gone = drawn_mask(TRAIN[index].id, len(row.tokens.grid), 1, epoch)
            kept = [
                token for token, word in zip(row.tokens.ids, row.tokens.word, strict=True) if word < 0 or not gone[word]
            ]
            assert data[index][0].ids.tolist() == kept


def test_a_prompt_that_grows_too_long_loses_its_last_tokens_but_the_last():
    model = make()
    rows, _ = examples(model, TRAIN, "label", 0)
    data = Examples(rows, 20, make_operator("text:a very long one", model.tokenizer), seed=1)
    for index, row in enumerate(rows):
        assert len(data[index][0].ids) <= 20
        assert data[index][0].ids[-1] == row.tokens.ids[-1]


def test_a_prompt_that_grows_too_long_keeps_the_question_as_in_an_evaluation():
    model = make()
    rows, _ = examples(model, TRAIN, "label", 0)
    model.max_length = max(len(row.tokens.ids) for row in rows) + 1
    config = msgspec.structs.replace(QUICK, mask="text:a very long one", seed=1)
    data, operator = lora._data(model, rows, TRAIN, config), make_operator("text:a very long one", model.tokenizer)
    grown = 0
    for index, (tokens, _) in enumerate(rows):
        mask = drawn_mask(tokens.grid.record_id, len(tokens.grid), 1, 0)
        whole = apply(operator, tokens, mask[None])[0]
        grown += len(whole.ids) > model.max_length
        (ids,) = model.pad([whole]).ids.tolist()
        assert data[index][0].ids.tolist() == ids
        assert ids[-model.tail :] == tokens.ids[-model.tail :].tolist()
    assert model.tail > 1
    assert grown > 3


@pytest.mark.parametrize("told", [True, False], ids=["one process", "several"])
def test_every_epoch_has_masks_of_its_own(base, tmp_path, monkeypatch, told):
    if not told:  # the loader of several processes tells the data nothing
        monkeypatch.setattr("accelerate.data_loader.DataLoaderShard.set_epoch", lambda *_: None)
    seen = set()

    def spy(name, words, seed, epoch):
        seen.add((name, epoch))
        return drawn_mask(name, words, seed, epoch)

    monkeypatch.setattr("raison.training.recipes.drawn_mask", spy)
    finetune_lora(base, "sentiment", TRAIN, tmp_path / "out", config=QUICK)
    assert seen == {(record.id, epoch) for record in TRAIN for epoch in range(2)}


# ----------------------------------------------------------------------------------------------------- rationales


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
def test_the_words_answer_the_request_of_the_prompting_room(chat):
    model, wording = make(chat=chat), load_request("words")

    def request(record, word, count):
        return ask(wording, model.task.messages(record.fields, LABELS), record, label=word, count=count)

    records = [TRAIN[0], record(1, "negative", ()), TRAIN[3]]
    rows, counts = examples(model, records, "label-and-rationale", 0, request)
    assert counts == {"records": 3, "with_rationale": 2, "without_rationale": 1, "too_long": 0}
    assert [row.tokens.ids.tolist() for row in rows[:3]] == [row.ids.tolist() for row in model.encode(records)]
    for row, marked in zip(rows[3:], (TRAIN[0], TRAIN[3]), strict=True):
        conversation = request(marked, marked.label, 1)
        assert [turn["role"] for turn in conversation] == ["user", "assistant", "user"]
        assert row.tokens.ids.tolist() == LocalGenerator(model.model, model.tokenizer).encode(conversation)
        assert (row.tokens.word == -1).all()  # nothing of it is ever masked
        reply = model.tokenizer.decode(row.answer, skip_special_tokens=True)
        assert json.loads(reply) == [CUES[marked.label]]
        assert read_reply(reply, "json", fields=("text",)).said == (CUES[marked.label],)
        assert row.answer[-1] == model.tokenizer.eos_token_id


def test_the_words_are_one_persons_who_agrees_with_the_label():
    text = "good and awful and good"
    spans = {"a": (0, 4), "b": (9, 14), "c": (0, 14), "none": (4, 5)}
    labels = {"a": "positive", "b": "negative", "c": None, "none": "positive"}
    notes = [Annotation(name, labels[name], {"text": (Span(*span),)}) for name, span in spans.items()]
    notes += [Annotation("not asked", "positive"), Annotation("nothing", "positive", {"text": ()})]
    model, found = make(), set()
    for seed in range(20):
        many = Record("x", {"text": text}, "sentiment", "positive", LABELS, tuple(notes))
        assert marked_words(model, many, seed) == marked_words(model, many, seed)
        found.add(tuple(marked_words(model, many, seed)))
    assert found == {("good",), ("good", "and", "awful")}


def test_words_of_fields_that_the_task_does_not_show_are_none():
    note = Annotation("a", None, {"title": (Span(0, 4),)})
    both = Record("x", {"title": "good", "text": "a film"}, "sentiment", "positive", LABELS, (note,))
    assert marked_words(make(), both, 0) == []


def test_a_conversation_that_is_too_long_is_counted():
    model = make()
    model.max_length = len(model.encode(TRAIN[:1])[0].ids) + 10
    rows, counts = examples(model, TRAIN[:1], "label-and-rationale", 0)
    assert (len(rows), counts["too_long"], counts["with_rationale"]) == (1, 1, 0)


# ------------------------------------------------------------------------------------------------- kept out

TEXTS = st.lists(
    st.sampled_from(["a", "A", "b", "c  d", "C D", "a b c d", "A  b c\nd", "a b c d e", "x y z w"]),
    min_size=1,
    max_size=2,
)


@st.composite
def records_of(draw, prefix):
    many = draw(st.lists(st.tuples(st.integers(0, 12), TEXTS), max_size=12, unique_by=lambda pair: pair[0]))
    return [
        Record(f"{prefix if index > 3 else ''}{index}", dict(zip(("p", "h"), texts, strict=False)))
        for index, texts in many
    ]


def alike(one, other):
    """Say how a record is recognised by another, the slow way."""
    first, second = ([text.lower().split() for text in record.fields.values()] for record in (one, other))
    if one.id == other.id:
        return 3
    if sorted(first) == sorted(second):
        return 2
    long = [text for text in first if len(text) >= 4 and text in second]
    return int(bool(long) and len(first) > 1 and len(second) > 1)


@settings(max_examples=300)
@given(records_of("t"), records_of("e"))
def test_whoever_could_be_recognised_is_left_out(train, kept_out):
    free, counts = apart(train, kept_out)
    worst = {record.id: max([0, *(alike(record, other) for other in kept_out)]) for record in train}
    assert free == [record for record in train if not worst[record.id]]
    expected = {name: sum(value == level for value in worst.values()) for name, level in
                (("by_id", 3), ("by_text", 2), ("by_field", 1))}  # fmt: skip
    assert counts == expected


def test_records_kept_out_never_train(base, tmp_path, monkeypatch):
    seen = []
    original = lora.examples

    def spy(model, records, *rest):
        seen.extend(records)
        return original(model, records, *rest)

    monkeypatch.setattr(lora, "examples", spy)
    twin = msgspec.structs.replace(TRAIN[5], id="twin", fields={"text": TRAIN[5].fields["text"].upper() + " "})
    other = Record(TRAIN[2].id, {"text": "something else"}, "sentiment", "positive")
    finetune_lora(
        base, "sentiment", TRAIN, tmp_path / "out", config=LoraConfig(epochs=1, bf16=False), keep_out=[twin, other]
    )
    assert seen == [record for record in TRAIN if record not in (TRAIN[2], TRAIN[5])]
    assert told(tmp_path / "out")["kept_out"]["left_out"] == {"by_id": 1, "by_text": 1, "by_field": 0}
    assert told(tmp_path / "out")["kept_out"]["records"] == 2


# ------------------------------------------------------------------------------------------------------- folder


def test_only_the_adapter_is_trained_and_saved(base, whole):
    assert sorted(path.name for path in whole.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "raison.json", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    assert not whole.with_name("out.part").exists()
    assert all(".lora_A." in name or ".lora_B." in name for name in weights(whole))
    places = {name.split(".lora_")[0].rpartition(".")[2] for name in weights(whole)}
    assert places == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    tuned = Answerer.load(whole).model.state_dict()
    for name, value in Answerer.load(base, "sentiment", labels=LABELS).model.state_dict().items():
        inside = name if name in tuned else name.replace(".weight", ".base_layer.weight")
        assert torch.equal(tuned[inside], value)


def test_the_folder_says_how_it_was_made(base, whole):
    found = told(whole)
    task = found["config"].pop("task")
    assert task["name"] == "sentiment"
    wanted = {"command": "train --lora", "model": str(base), "labels": list(LABELS), **msgspec.to_builtins(QUICK)}
    assert found["config"] == wanted
    assert found["counts"] == {"examples": 22, "records": 22}
    assert (found["data"]["records"], found["dev"]["records"]) == (22, 8)
    assert found["versions"]["peft"]
    assert [row["epoch"] for row in found["history"] if "eval_accuracy" in row] == [0, 1, 2]


def test_the_adapter_knows_its_task_and_its_base(base, tmp_path, monkeypatch):
    monkeypatch.chdir(base.parent)
    labels = LABELS[::-1]
    made = finetune_lora("base", "sentiment", TRAIN, tmp_path / "out", config=QUICK, labels=labels)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = Answerer.load(tmp_path / "out")
    assert (found.labels, found.task.name, found.name) == (labels, "sentiment", "out")
    rows = found.encode(DEV)
    np.testing.assert_allclose(found.logits(rows), made.logits(rows))
    untuned = Answerer.load(base, "sentiment", labels=labels)
    assert np.abs(found.logits(rows) - untuned.logits(rows)).max() > 0.1
    with pytest.raises(InputError, match=r"a task is needed, since no raison\.json"):
        Answerer.load(base)


def test_accuracies_told_are_the_models(base, whole):
    history = [row["eval_accuracy"] for row in told(whole)["history"] if "eval_accuracy" in row]
    for folder, value in ((base, history[0]), (whole, max(history[1:]))):  # the best epoch is kept
        model = Answerer.load(folder, "sentiment", labels=LABELS)
        right = [given.label == record.label for given, record in zip(model.predict(DEV), DEV, strict=True)]
        assert np.mean(right) == pytest.approx(value)


def test_curves_are_measured_on_records_with_marked_words(base, tmp_path):
    seen = []

    def curve(model, records):
        assert not model.model.training
        seen.append((len(model.labels), [record.id for record in records]))
        return {"alignment": 0.25, "normalised_flip_rate": None}

    dev = [record(99, "positive", ()), *DEV]
    config = msgspec.structs.replace(QUICK, watch=3)
    finetune_lora(base, "sentiment", TRAIN, tmp_path / "out", dev, config, curve=curve)
    assert seen == [(2, [record.id for record in DEV[:3]])] * 3
    rows = [row for row in told(tmp_path / "out")["history"] if "eval_accuracy" in row]
    assert [(row["eval_alignment"], row["eval_normalised_flip_rate"]) for row in rows] == [(0.25, None)] * 3


def test_a_curve_does_not_change_the_training(base, whole, tmp_path):
    from raison.attribution import extract

    def curve(model, records):
        extract(model, records, "input_x_gradient")
        return {}

    finetune_lora(base, "sentiment", TRAIN, tmp_path / "out", DEV, QUICK, curve=curve)
    assert same_weights(whole, tmp_path / "out")


def test_the_seed_decides(base, whole, tmp_path):
    finetune_lora(base, "sentiment", TRAIN, tmp_path / "same", DEV, QUICK)
    finetune_lora(base, "sentiment", TRAIN, tmp_path / "other", DEV, msgspec.structs.replace(QUICK, seed=1))
    assert same_weights(whole, tmp_path / "same")
    assert not same_weights(whole, tmp_path / "other")


def test_a_step_in_parts_is_the_same_step(base, tmp_path):
    """Parts of unlike size: 22 records in steps of 8, the last of 6 as 2 + 2 + 2."""
    still = msgspec.structs.replace(QUICK, dropout=0.0)
    finetune_lora(base, "sentiment", TRAIN, tmp_path / "one", config=still)
    finetune_lora(base, "sentiment", TRAIN, tmp_path / "parts", config=msgspec.structs.replace(still, accumulate=2))
    one, parts = weights(tmp_path / "one"), weights(tmp_path / "parts")
    assert max(float((one[name] - parts[name]).abs().max()) for name in one) < 2e-4


@pytest.mark.parametrize("share", [0.5, 0.7, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.1, 1.0))])
def test_interrupted_it_goes_on_to_the_same_adapter(base, whole, tmp_path, share):
    out = tmp_path / "out"
    with pytest.raises(Stop):
        finetune_lora(base, "sentiment", TRAIN, out, DEV, QUICK, progress=stop_at(share))
    assert os.listdir(tmp_path) == ["out.part"]
    finetune_lora(base, "sentiment", TRAIN, out, DEV, QUICK)
    assert same_weights(whole, out)
    assert os.listdir(tmp_path) == ["out"]
    one, two = ([row for row in told(folder)["history"] if "train_runtime" not in row] for folder in (whole, out))
    assert one == two


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.2, 0.9])
def test_killed_it_goes_on_to_the_same_adapter(base, whole, tmp_path, share):
    rows = tuple(msgspec.json.encode(records) for records in (TRAIN, DEV))
    script = f"""
import os, signal, msgspec, torch
from raison.records import Record
from raison.training import LoraConfig, finetune_lora
torch.set_num_threads(1)
def progress(done, logs):
    if done >= {share}:
        os.kill(os.getpid(), signal.SIGKILL)
train, dev = (msgspec.json.decode(rows, type=list[Record]) for rows in {rows!r})
config = msgspec.json.decode({msgspec.json.encode(QUICK)!r}, type=LoraConfig)
finetune_lora({str(base)!r}, "sentiment", train, {str(tmp_path / "out")!r}, dev, config, progress=progress)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert os.listdir(tmp_path) == ["out.part"]
    finetune_lora(base, "sentiment", TRAIN, tmp_path / "out", DEV, QUICK)
    assert same_weights(whole, tmp_path / "out")


def test_what_is_done_is_not_done_again_nor_replaced(base, whole):
    before = (whole / "adapter_model.safetensors").stat().st_mtime_ns
    finetune_lora(base, "sentiment", TRAIN, whole, DEV, QUICK, progress=stop_at(0))
    assert (whole / "adapter_model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="made from something else"):
        finetune_lora(base, "sentiment", TRAIN, whole, DEV, QUICK, keep_out=TRAIN[:1])


# ----------------------------------------------------------------------------------------------------- learning


@pytest.mark.parametrize("kind", [pytest.param("gpt2", marks=pytest.mark.slow), "llama"])
@pytest.mark.parametrize("recipe", ["label", "label-and-rationale", "mask-augmented"])
def test_every_recipe_lowers_its_loss(kind, recipe, tmp_path):
    save(tmp_path / "base", kind, chat=kind == "llama")
    config = LoraConfig(epochs=3, lr=5e-3, batch=8, recipe=recipe, bf16=False)
    model = finetune_lora(tmp_path / "base", "sentiment", TRAIN, tmp_path / "out", config=config)
    losses = [row["loss"] for row in told(tmp_path / "out")["history"] if "loss" in row]
    assert losses[0] > losses[1] > losses[2]
    assert model.labels == LABELS


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "lr"), [("label", 5e-3), ("label-and-rationale", 1e-2)])
def test_it_learns_what_one_word_says(base, tmp_path, recipe, lr):
    train = [record(index, label) for index in range(40) for label in CUES]
    config = LoraConfig(epochs=10, lr=lr, batch=8, recipe=recipe, bf16=False)
    model = finetune_lora(base, "sentiment", train, tmp_path / "out", DEV, config)
    assert np.mean([p.label == r.label for p, r in zip(model.predict(DEV), DEV, strict=True)]) >= 0.95
    if recipe == "label-and-rationale":  # asked for the words, it names a cue, and stops
        request = plain_request(model)
        replies = LocalGenerator(model.model, model.tokenizer, max_new_tokens=30).generate(
            [request(given, given.label, 1) for given in DEV]
        )
        assert [reply.finish for reply in replies] == ["stop"] * len(DEV)
        assert all(read_reply(reply.text, "json", fields=("text",)).said[0] in CUES.values() for reply in replies)


# --------------------------------------------------------------------------------------------------------- wrong


def case(name, message, records=TRAIN, keep_out=(), **options):
    return pytest.param((records, keep_out), options, message, id=name)


STRANGE = Record("x", {"text": "a film"}, "sentiment", "odd")
SHAPELESS = Record("x", {"words": "a film"}, "sentiment", "positive")


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        case("nothing", "neither it nor the records name two labels", []),
        case("no label", "no training record with a label", [Record("0", {"text": "a"}, label_set=LABELS)]),
        case("all kept out", "22 are too close to those kept out", keep_out=TRAIN),
        case("strange label", "record 'x': label 'odd' is not one of", [*TRAIN, STRANGE], labels=LABELS),
        case("no such field", "record 'x' has no field 'text'", [*TRAIN, SHAPELESS]),
        case("few", "fewer than the 12 shots", shots=12),
        case("recipe", "unknown recipe 'all'; expected one of label", recipe="all"),
        case("rank", "rank 0: expected at least 1", rank=0),
        case("rate", "lr nan", lr=float("nan")),
        case("parts", "batch 8: can't be computed in 3 equal parts", accumulate=3),
        case("dropout", "dropout must be", dropout=1.0),
        case("mask", "only the recipe mask-augmented takes one", mask="delete"),
        case("no such mask", "unknown mask operator 'hide'", recipe="mask-augmented", mask="hide"),
        case("no mask token", "the tokenizer has no mask token", recipe="mask-augmented", mask="mask"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_line(base, tmp_path, given, options, message):
    records, keep_out = given
    labels = options.pop("labels", None)
    config = LoraConfig(**{"batch": 8, "bf16": False, **options})
    with pytest.raises(InputError, match=message) as caught:
        finetune_lora(base, "sentiment", records, tmp_path / "out", config=config, labels=labels, keep_out=keep_out)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_adapter_is_not_put_on_another(whole, tmp_path):
    with pytest.raises(InputError, match="has an adapter already"):
        finetune_lora(whole, "sentiment", TRAIN, tmp_path / "out", config=QUICK)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_model_is_said_in_a_line(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        finetune_lora(tmp_path / "nowhere", "sentiment", TRAIN, tmp_path / "out", config=QUICK)
    with pytest.raises(InputError, match="unknown task"):
        finetune_lora(tmp_path / "nowhere", "sentimant", TRAIN, tmp_path / "out", config=QUICK)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["mask-augmented", "label-and-rationale"])
def test_two_processes_train_the_same_adapter(base, tmp_path, recipe):
    """Eleven records or more in steps of four: a step holds as many, and the last is short."""
    config = msgspec.structs.replace(QUICK, batch=4, dropout=0.0, recipe=recipe)
    (tmp_path / "two.py").write_text(f"""
import msgspec, torch
from raison.records import Record
from raison.training import LoraConfig, finetune_lora
torch.set_num_threads(1)
records = msgspec.json.decode({msgspec.json.encode(TRAIN[:11])!r}, type=list[Record])
config = msgspec.json.decode({msgspec.json.encode(config)!r}, type=LoraConfig)
finetune_lora({str(base)!r}, "sentiment", records, {str(tmp_path / "two")!r}, config=config)
""")
    launched(tmp_path / "two.py", processes=2)
    finetune_lora(base, "sentiment", TRAIN[:11], tmp_path / "one", config=config)
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
