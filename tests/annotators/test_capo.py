"""Preference training: TRL's loss on the same pairs, log 2 before the first step, mirrors, leaks, interruptions."""

import copy
import json
import os
import signal
import subprocess
import sys

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import OPTConfig, OPTForCausalLM

from answerers import causal, tokenizer
from processes import launched
from raison.annotators import capo as module
from raison.annotators.capo import CapoConfig, capo, leak_of, margins, pair_units, preference, unmirrored, untagged
from raison.annotators.policy import (
    Adapter,
    load_policy,
    log_probabilities,
    still,
    token_log_probabilities,
)
from raison.annotators.preference import floor
from raison.annotators.preference_pair import PreferencePair
from raison.annotators.responses import Response
from raison.annotators.sft import SftConfig, Turn, sft, turns_of
from raison.annotators.trees import collate
from raison.annotators.wording import Wording
from raison.models.generator import LocalGenerator
from raison.records import InputError, Record
from stopping import Stop, stop_at

WORDING = Wording("Choose: {labels}", labels={"yes": "yes", "no": "no"}, tag="Annotator: {annotator}")
HABIT = {"a": "plainly so", "b": "I think it may be", "c": "no doubt!"}
PEOPLE = tuple(HABIT)
RECORDS = [Record(f"r{index}", {"text": f"a man reads book {index}"}, "", None, ("yes", "no")) for index in range(7)]
SAID = [
    Response(record.id, who, "yes" if (index + place) % 3 else "no", f"{habit}, {index}")
    for index, record in enumerate(RECORDS)
    for place, (who, habit) in enumerate(HABIT.items())
]
QUICK = CapoConfig(epochs=2, lr=1e-2, batch=3, anchor=0.0, bf16=False)
LEARN = SftConfig(epochs=2, lr=1e-2, batch=3, rank=4, bf16=False)


def pairs_of(tag=True, said=SAID):
    """Every ordered pair of people on every item."""
    found = []
    for record in RECORDS:
        own = [one for one in said if one.record_id == record.id]
        for one in own:
            for other in own:
                if one is not other:
                    prompt = WORDING.prompt(record, one.annotator if tag else None)
                    texts = (WORDING.write_response(one), WORDING.write_response(other))
                    found.append(PreferencePair(record.id, one.annotator, prompt, *texts, other.annotator))
    return found


PAIRS = pairs_of()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "base"
    words = tokenizer()
    causal("llama", words).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tuned(base, tmp_path_factory):
    """An adapter of all people, told apart by their tags."""
    return sft(base, turns_of(WORDING, RECORDS, SAID, tagged=True), tmp_path_factory.mktemp("sft") / "out", LEARN)


@pytest.fixture(scope="module")
def whole(tuned, tmp_path_factory):
    """An uninterrupted training."""
    return capo(tuned, PAIRS, tmp_path_factory.mktemp("whole") / "out", QUICK)


def told(folder):
    return json.loads((folder / "raison.json").read_text())


def losses(folder):
    return [row["loss"] for row in told(folder)["history"] if "loss" in row]


def weights(folder):
    return load_file(next(folder.glob("*model.safetensors")))


def same_weights(one, other):
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def change(**options):
    return msgspec.structs.replace(QUICK, **options)


# ----------------------------------------------------------------------------------------------------- one step


def batch_of(policy, pairs, **options):
    policy, laid = module.tokenised(policy, pairs, None)
    assert policy.together
    reference = log_probabilities(policy, [module.responses_in(some) for some in laid.values()])
    units = [unit for some in laid.values() for unit in pair_units(policy, some, reference, 0.1)]
    return collate(units, policy.padding)


def loss_of(network, batch, config=QUICK):
    found, seen = preference(config)(token_log_probabilities(network, batch), batch)
    return found, seen


def loaded(folder, adapter=None):
    policy = load_policy(str(folder), adapter, dtype="float32")
    still(policy.network)
    return policy


def move(network, seed=3):
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.requires_grad and ".ref." not in name:
                weight.add_(torch.randn_like(weight) * 0.02)


def test_the_loss_is_log_2_before_the_first_step(tuned):
    policy = loaded(tuned)
    found, seen = loss_of(policy.network.train(), batch_of(policy, PAIRS))
    np.testing.assert_allclose(found.detach().numpy(), np.log(2), atol=1e-5)
    np.testing.assert_allclose(seen["margin"].detach().numpy(), 0, atol=1e-4)


def test_a_tie_is_half_preferred(tuned):
    batch = batch_of(loaded(tuned), PAIRS[:3])
    values = batch["reference"].clone()
    assert preference(QUICK)(values, batch)[1]["preferred"].tolist() == [0.5] * 3
    values[batch["response"] == batch["chosen"][0]] += 1
    assert preference(QUICK)(values, batch)[1]["preferred"][0] == 1


def test_swapping_the_responses_flips_the_margin(tuned):
    swapped = [msgspec.structs.replace(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in PAIRS]
    policy = loaded(tuned)
    one, other = batch_of(policy, PAIRS), batch_of(policy, swapped)
    move(policy.network)
    with torch.no_grad():
        first, second = (loss_of(policy.network, batch)[1]["margin"] for batch in (one, other))
    assert float(first.abs().min()) > 1e-3
    np.testing.assert_allclose(first.numpy(), -second.numpy(), atol=1e-4)


def test_identical_texts_give_no_gradient(tuned):
    same = [msgspec.structs.replace(pair, rejected=pair.chosen) for pair in PAIRS[:4]]
    policy = loaded(tuned)
    batch = batch_of(policy, same)
    move(policy.network)
    loss_of(policy.network, batch)[0].sum().backward()
    assert all(not weight.grad.any() for weight in policy.network.parameters() if weight.requires_grad)


def test_weights_scale_the_gradient_and_betas_are_the_pairs_own(tuned):
    policy = loaded(tuned)
    network = copy.deepcopy(policy.network)
    move(network)

    def gradient(pairs, config=QUICK):
        network.zero_grad()
        loss_of(network, batch_of(policy, pairs), config)[0].sum().backward()
        return torch.cat([weight.grad.flatten() for weight in network.parameters() if weight.requires_grad])

    pair = PAIRS[0]
    whole = gradient([pair])
    torch.testing.assert_close(gradient([msgspec.structs.replace(pair, weight=2.5)]), 2.5 * whole)
    own = gradient([msgspec.structs.replace(pair, beta=0.7)])
    two = gradient([pair, msgspec.structs.replace(pair, beta=0.7)])
    torch.testing.assert_close(two, whole + own)
    assert not torch.allclose(own, 7 * whole)


TRL = {
    "sigmoid": (CapoConfig(beta=0.3, anchor=0.0), {"loss_type": ["sigmoid"]}),
    "ipo": (CapoConfig(beta=0.3, loss="ipo", mean=True, anchor=0.0), {"loss_type": ["ipo"]}),
}


def trl_loss(policy, pairs, folder, lora, options):
    """TRL's trainer on the same pairs, its policy moved alike: the loss, and the gradients by name."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rows = [{"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected} for pair in pairs]
    config = DPOConfig(
        output_dir=str(folder), beta=0.3, per_device_train_batch_size=len(pairs), bf16=False, use_cpu=True,
        report_to=[], gradient_checkpointing=False, max_length=None, disable_tqdm=True, **options,
    )  # fmt: skip
    trainer = DPOTrainer(
        copy.deepcopy(policy.network),
        ref_model=None if lora else copy.deepcopy(policy.network),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=policy.tokenizer,
    )
    move(trainer.model)
    loss = trainer.compute_loss(trainer.model.train(), next(iter(trainer.get_train_dataloader())))
    loss.backward()
    return float(loss.detach()), {
        name: weight.grad for name, weight in trainer.model.named_parameters() if weight.requires_grad
    }


@pytest.mark.parametrize(
    ("kind", "lora", "loss"),
    [("llama", True, "sigmoid"), ("gpt2", False, "sigmoid"), ("qwen", False, "ipo"), ("mistral", True, "sigmoid")],
)
def test_it_is_trls_loss_on_the_same_pairs(kind, lora, loss, tmp_path):
    """A plain tokenizer: TRL puts the end of the sequence behind a response, as we do."""
    words = tokenizer(chat=False)
    causal(kind, words).save_pretrained(tmp_path / "base")
    words.save_pretrained(tmp_path / "base")
    policy = loaded(tmp_path / "base", Adapter(4, 8, 0.0, 0) if lora else None)
    if lora:
        move(policy.network, 9)  # as after fine-tuning: TRL's reference is then a copy of the adapter
    config, options = TRL[loss]
    pairs = PAIRS[:5] + PAIRS[12:15]
    theirs, expected = trl_loss(policy, pairs, tmp_path / "trl", lora, options)
    batch = batch_of(policy, pairs)
    batch["beta"].fill_(0.3)
    move(policy.network)
    ours = loss_of(policy.network, batch, config)[0].mean()
    ours.backward()
    assert abs(float(ours.detach()) - np.log(2)) > 1e-3
    assert float(ours.detach()) == pytest.approx(theirs, abs=1e-5)
    size = max(float(grad.abs().max()) for grad in expected.values())
    for name, weight in policy.network.named_parameters():
        if weight.requires_grad:
            np.testing.assert_allclose(weight.grad.numpy(), expected[name].numpy(), atol=1e-5 * max(size, 1))


def test_the_anchor_is_the_likelihood_of_the_chosen(tuned):
    policy = loaded(tuned)
    batch = batch_of(policy, PAIRS[:3])
    with torch.no_grad():
        plain, anchored = (loss_of(policy.network, batch, change(anchor=share))[0] for share in (0.0, 0.5))
    chosen = [module.tokenised(policy, [pair], None)[1][pair.record_id][0].chosen for pair in PAIRS[:3]]
    values = log_probabilities(policy, [chosen])
    expected = [-0.5 * float(values[one].mean()) for one in chosen]
    np.testing.assert_allclose((anchored - plain).numpy(), expected, rtol=1e-4)


def test_only_the_spans_that_count_are_trained(tuned):
    """Responses that differ in the label alone cost nothing where labels do not count."""
    pair = msgspec.structs.replace(PAIRS[0], chosen=WORDING.write("yes", "so"), rejected=WORDING.write("no", "so"))
    policy = loaded(tuned)
    _, laid = module.tokenised(policy, [pair], WORDING)
    one = laid[pair.record_id][0]
    words = policy.tokenizer
    assert words.decode([i for i, own in zip(one.chosen.ids, one.chosen.label, strict=True) if own]).strip() == "yes"
    assert [i for i, own in zip(one.chosen.ids, one.chosen.label, strict=True) if not own] == [
        i for i, own in zip(one.rejected.ids, one.rejected.label, strict=True) if not own
    ]


# ----------------------------------------------------------------------------------------------------- training


def test_it_learns_to_prefer_what_people_said(whole, tuned):
    found = margins(whole, tuned, PAIRS)
    assert float(found.mean()) > 1
    assert float((found > 0).mean()) > 0.7
    assert losses(whole)[0] > losses(whole)[1]
    trained = sum(weight.numel() for name, weight in weights(whole).items() if "lora_" in name)
    assert trained > 0
    counts = {"pairs": 42, "items": 7, "too_long": 0, "together": True, "parameters": trained}
    assert told(whole)["counts"] == counts
    row = next(row for row in told(whole)["history"] if "margin" in row)
    assert {"margin", "preferred", "chosen", "rejected"} <= row.keys()
    reply = LocalGenerator.load(whole, max_new_tokens=5).generate([[{"role": "user", "content": PAIRS[0].prompt}]])
    assert reply[0].failure is None


def test_the_first_step_costs_log_2(tuned, tmp_path):
    out = capo(tuned, PAIRS, tmp_path / "out", change(epochs=1, batch=100, lr=1e-9))
    assert losses(out) == [pytest.approx(np.log(2), abs=1e-5)]


def test_the_batch_is_the_same_however_it_is_parted(tuned, tmp_path, monkeypatch):
    """One tree at a time, or ordinary rows: the same steps; weights agree to rounding, which Adam enlarges."""
    one = weights(capo(tuned, PAIRS, tmp_path / "one", QUICK))
    parts = weights(capo(tuned, PAIRS, tmp_path / "parts", change(max_tokens=64)))
    monkeypatch.setattr(module, "takes_trees", lambda *_: False)
    plain = capo(tuned, PAIRS, tmp_path / "plain", QUICK)
    assert not told(plain)["counts"]["together"]
    for other in (parts, weights(plain)):
        assert max(float((one[name] - other[name]).abs().max()) for name in one) < 2e-3


def test_the_seed_decides(whole, tuned, tmp_path):
    assert same_weights(whole, capo(tuned, PAIRS, tmp_path / "same", QUICK))
    assert not same_weights(whole, capo(tuned, PAIRS, tmp_path / "other", change(seed=1)))


def test_interrupted_it_goes_on_to_the_same_adapter(whole, tuned, tmp_path):
    with pytest.raises(Stop):
        capo(tuned, PAIRS, tmp_path / "out", QUICK, progress=stop_at(0.6))
    assert sorted(os.listdir(tmp_path)) == ["out.part", "reference"]
    with pytest.raises(InputError, match="interrupted training with other settings"):
        capo(tuned, PAIRS, tmp_path / "out", change(beta=0.2))
    capo(tuned, PAIRS, tmp_path / "out", QUICK)
    assert same_weights(whole, tmp_path / "out")
    with pytest.raises(InputError, match="made from something else"):
        capo(tuned, PAIRS[1:], tmp_path / "out", QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.2, 0.9])
def test_killed_it_goes_on_to_the_same_adapter(whole, tuned, tmp_path, share):
    script = f"""
import os, signal, msgspec, torch
from raison.annotators.capo import CapoConfig, capo
from raison.annotators.preference_pair import PreferencePair
torch.set_num_threads(1)
def progress(done, logs):
    if done >= {share}:
        os.kill(os.getpid(), signal.SIGKILL)
pairs = msgspec.json.decode({msgspec.json.encode(PAIRS)!r}, type=list[PreferencePair])
config = msgspec.json.decode({msgspec.json.encode(QUICK)!r}, type=CapoConfig)
capo({str(tuned)!r}, pairs, {str(tmp_path / "out")!r}, config, progress=progress)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    capo(tuned, PAIRS, tmp_path / "out", QUICK)
    assert same_weights(whole, tmp_path / "out")


@pytest.mark.slow
def test_two_processes_train_the_same_adapter(tuned, tmp_path):
    """Steps of 4 and 3 items, parted among the two; gradients are averaged."""
    config = change(batch=4, max_tokens=200)
    (tmp_path / "two.py").write_text(f"""
import msgspec, torch
from raison.annotators.capo import CapoConfig, capo
from raison.annotators.preference_pair import PreferencePair
torch.set_num_threads(1)
pairs = msgspec.json.decode({msgspec.json.encode(PAIRS)!r}, type=list[PreferencePair])
config = msgspec.json.decode({msgspec.json.encode(config)!r}, type=CapoConfig)
capo({str(tuned)!r}, pairs, {str(tmp_path / "two")!r}, config)
""")
    launched(tmp_path / "two.py", processes=2)
    one, two = (weights(folder) for folder in (capo(tuned, PAIRS, tmp_path / "one", config), tmp_path / "two"))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5


def test_patience_counts_on_after_an_interruption(tuned, tmp_path):
    config, scores = change(epochs=6, patience=2), (0.0, 0.5, 0.4, 0.3, 0.9, 0.1, 0.1)

    def measure_from(place):
        rest = iter(scores[place:])
        return lambda _: {"score": next(rest)}

    plain = capo(tuned, PAIRS, tmp_path / "plain", config, measure=measure_from(0))
    with pytest.raises(Stop):  # in the third epoch, one after the best
        capo(tuned, PAIRS, tmp_path / "out", config, measure=measure_from(0), progress=stop_at(0.4))
    again = capo(tuned, PAIRS, tmp_path / "out", config, measure=measure_from(3))
    for out in (plain, again):
        assert [row["eval_score"] for row in told(out)["history"] if "eval_score" in row] == [0.0, 0.5, 0.4, 0.3]
    assert same_weights(plain, again)


def test_dropout_that_is_but_a_number_is_taken_out_as_well():
    """OPT keeps its rate as a number and no module of its own."""
    config = OPTConfig(vocab_size=40, hidden_size=16, ffn_dim=16, num_hidden_layers=2, num_attention_heads=2,
                       max_position_embeddings=40, word_embed_proj_dim=16, dropout=0.5)  # fmt: skip
    network = OPTForCausalLM(config).train()
    ids = torch.arange(3, 13)[None]
    assert not torch.equal(network(ids).logits, network(ids).logits)
    still(network)
    assert torch.equal(network(ids).logits, network.eval()(ids).logits)


def test_the_epoch_with_the_highest_score_is_kept(whole, tuned, tmp_path):
    seen = []

    def measure(generator):
        seen.append(generator.generate([[{"role": "user", "content": PAIRS[0].prompt}]])[0].text)
        return {"score": [0.0, 1.0, 0.5][len(seen) - 1], "more": 7.0}

    out = capo(tuned, PAIRS, tmp_path / "out", QUICK, measure=measure)
    rows = [row for row in told(out)["history"] if "eval_score" in row]
    assert [row["eval_score"] for row in rows] == [0.0, 1.0, 0.5]
    assert rows[0]["eval_more"] == 7.0
    assert not same_weights(out, whole)
    rising = iter((0.0, 0.5, 1.0))
    last = capo(tuned, PAIRS, tmp_path / "last", QUICK, measure=lambda _: {"score": next(rising)})
    assert same_weights(last, whole)  # being measured changes nothing


# -------------------------------------------------------------------------------------------------------- leaks


def untag(pair):
    return pair.prompt.rsplit("Annotator:", 1)[0]


def test_a_training_without_tags_stays_at_the_floor_or_above(tuned, tmp_path):
    plain = untagged(PAIRS, untag)
    out = capo(tuned, plain, tmp_path / "out", change(epochs=4))
    assert all(loss >= floor(QUICK.beta) - 1e-6 for loss in losses(out))
    assert not leak_of(margins(out, tuned, plain), plain, QUICK).leaks


def test_with_the_tags_taken_off_a_tagged_model_is_not_below_either(whole, tuned):
    plain = untagged(PAIRS, untag)
    found = leak_of(margins(whole, tuned, plain), plain, QUICK)
    assert found.loss >= found.floor - 1e-6
    assert not found.leaks


def test_a_hint_that_is_no_tag_is_found(tuned, tmp_path):
    """Prompts that differ by annotator in a word: the model learns it, and the loss falls below the floor."""
    hinted = untagged(PAIRS, lambda pair: untag(pair) + {"a": "book", "b": "park", "c": "red"}[pair.annotator] + "\n")
    out = capo(tuned, hinted, tmp_path / "out", change(epochs=4))
    found = leak_of(margins(out, tuned, hinted), hinted, QUICK)
    assert found.leaks
    assert found.loss < found.floor


def test_pairs_without_their_mirror_say_nothing():
    assert unmirrored(PAIRS) == []
    assert unmirrored(PAIRS[1:]) == [PAIRS[2]]
    with pytest.raises(ValueError, match="has no mirror"):
        leak_of(np.zeros(len(PAIRS) - 1), PAIRS[1:], QUICK)
    with pytest.raises(ValueError, match="needs a margin"):
        leak_of(np.full(len(PAIRS), np.nan), PAIRS, QUICK)


# ---------------------------------------------------------------------------------------------------------- sft


def test_turns_are_pooled_tagged_or_of_one_person():
    pooled = turns_of(WORDING, RECORDS, SAID)
    tagged = turns_of(WORDING, RECORDS, SAID, tagged=True)
    assert len({turn.prompt for turn in pooled}) == 7
    assert len({turn.prompt for turn in tagged}) == 21
    assert [turn.response for turn in pooled] == [WORDING.write_response(said) for said in SAID]
    assert all(turn.prompt.endswith(f"Annotator: {turn.annotator}\n") for turn in tagged)
    odd = [Response("r0", "a", None, "x"), Response("r0", "a", "yes", None), Response("elsewhere", "a", "yes", "x")]
    assert turns_of(WORDING, RECORDS, odd) == []


@pytest.mark.parametrize("rank", [4, None], ids=["lora", "all weights"])
def test_sft_learns_the_responses_and_nothing_of_the_prompt(base, tmp_path, rank):
    """The loss after no step is the mean over responses of the mean over their tokens, by the slow definition."""
    turns = turns_of(WORDING, RECORDS[:3], SAID[:9])
    one = sft(base, turns, tmp_path / "one", msgspec.structs.replace(LEARN, rank=rank, epochs=1, batch=9, dropout=0.0))
    policy = loaded(base)
    said = module.tokens_of_turns(policy.tokenizer, [(turn.prompt, turn.response) for turn in turns], 512)
    values = log_probabilities(policy, [list(said.values())])
    expected = -np.mean([values[said[turn.prompt, turn.response]].mean() for turn in turns])
    assert losses(one) == [pytest.approx(float(expected), abs=1e-4)]
    more = sft(base, turns, tmp_path / "more", msgspec.structs.replace(LEARN, rank=rank, epochs=5))
    assert losses(more)[-1] < losses(more)[0] - 0.5
    network = policy.network
    every = sum(weight.numel() for weight in network.parameters())
    inner = [
        layer for name, layer in network.named_modules() if isinstance(layer, torch.nn.Linear) and "head" not in name
    ]
    trained = every if rank is None else sum(rank * (layer.in_features + layer.out_features) for layer in inner)
    counts = {"turns": 9, "items": 3, "too_long": 0, "together": True, "parameters": trained}
    assert told(more)["counts"] == counts


def test_an_adapter_learns_on(tuned, tmp_path):
    turns = turns_of(WORDING, RECORDS, [said for said in SAID if said.annotator == "a"])
    out = sft(tuned, turns, tmp_path / "out", msgspec.structs.replace(LEARN, rank=None))
    assert weights(out).keys() == weights(tuned).keys()
    assert not same_weights(out, tuned)


def test_interrupted_sft_goes_on_to_the_same_adapter(base, tuned, tmp_path):
    turns = turns_of(WORDING, RECORDS, SAID, tagged=True)
    with pytest.raises(Stop):
        sft(base, turns, tmp_path / "out", LEARN, progress=stop_at(0.6))
    sft(base, turns, tmp_path / "out", LEARN)
    assert same_weights(tuned, tmp_path / "out")


# -------------------------------------------------------------------------------------------------------- wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "lr 0.0"),
        ({"batch": 0}, "batch 0"),
        ({"beta": 0.0}, "beta must be above 0"),
        ({"smoothing": 0.5}, "smoothing"),
        ({"loss": "hinge"}, "unknown loss 'hinge'"),
        ({"anchor": -1.0}, "anchor"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_loaded(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        capo("nowhere", PAIRS, tmp_path / "out", change(**options))
    assert os.listdir(tmp_path) == []


def test_what_can_not_be_learned_from_is_refused(tuned, base, tmp_path):
    long = [msgspec.structs.replace(pair, chosen="x " * 2000) for pair in PAIRS[:2]]
    for given, message in (([], "no pair is left"), (long, "every pair is too long")):
        with pytest.raises(InputError, match=message):
            capo(tuned, given, tmp_path / "out", QUICK)
    with pytest.raises(InputError, match="its beta above 0"):
        capo(tuned, [msgspec.structs.replace(PAIRS[0], beta=0.0)], tmp_path / "out", QUICK)
    with pytest.raises(ValueError, match="a wording is needed"):
        capo(tuned, PAIRS, tmp_path / "out", change(label_weight=0.0))
    with pytest.raises(InputError, match="no response is left"):
        sft(base, [], tmp_path / "out", LEARN)
    with pytest.raises(InputError, match="every response is too long"):
        sft(base, [Turn("r", "a", "x " * 3000, "y")], tmp_path / "out", LEARN)
    with pytest.raises(InputError, match="has an adapter already"):
        sft(tuned, turns_of(WORDING, RECORDS, SAID), tmp_path / "out", LEARN)
    assert os.listdir(tmp_path) == []
