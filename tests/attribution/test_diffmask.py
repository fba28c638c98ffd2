"""DiffMask: one step against a slow loop, dual ascent, what a model is spared, and planted words that are found."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from raison.attribution import extract, extract_to_file
from raison.attribution import gates as gate_functions
from raison.attribution.diffmask import (
    Fitting,
    compare_logits,
    diffmask,
    new_extractor,
    observe,
    train_extractor,
    word_of,
)
from raison.attribution.extractor import Extractor, gated, mean_log_open, word_means
from raison.attribution.target import parse_target
from raison.models import Classifier
from raison.rationales import load_scores
from raison.records import InputError, Record
from raison.words import pool

KINDS = ("input", "hidden")


def prepared(classifier, tiny, kind="input", seed=0):
    """Encoded records, and an extractor whose gates differ from token to token."""
    tokens = classifier.encode(tiny.records())
    extractor = new_extractor(classifier, tokens, kind, seed)
    with torch.no_grad():
        for gate in extractor.gates:
            gate.bias.fill_(0.5)
    return tokens, extractor


def flat(scores):
    return np.concatenate(list(scores.scores.values()))


# ------------------------------------------------------------------------------------------------------ one step


def by_hand(classifier, row, extractor, layer):
    """KL and mean log P(open) of one record, unpadded, by `inputs_embeds` and the states that the model reports."""
    model, ids = classifier.model, torch.from_numpy(row.ids[None])
    given = {"token_type_ids": torch.from_numpy(row.types[None])}
    first = model.get_input_embeddings()(ids)
    whole = model(input_ids=ids, output_hidden_states=True, **given)
    found = [first, *whole.hidden_states]
    keep, logs = [], []
    for place, word in enumerate(row.word):
        factors = [
            extractor.gates[index]([first[:, place : place + 1], found[index][:, place : place + 1]])[0, 0]
            for index in range(layer + 1)
        ]
        keep.append(np.prod([float(gate_functions.expected(f)) for f in factors]) if word >= 0 else 1.0)
        if word >= 0:
            logs.append(sum(float(gate_functions.log_open(f)) for f in factors))
    share = torch.tensor(keep)[None, :, None].float()
    masked = first * share + extractor.placeholders[0] * (1 - share)
    after = model(inputs_embeds=masked, **given).logits
    p, q = (torch.softmax(logits.double(), dim=-1)[0].detach().numpy() for logits in (whole.logits, after))
    return entropy(p, q), np.mean(logs)


def test_a_step_is_the_mean_over_records_each_alone(tiny, monkeypatch):
    """Batches and padding make no difference; tokens of no word are neither masked nor counted."""
    classifier = tiny.build("bert")
    tokens, extractor = prepared(classifier, tiny)
    monkeypatch.setattr("raison.attribution.diffmask.gates.sample", lambda logits, _: gate_functions.expected(logits))
    fitting = Fitting(classifier, extractor)
    for _ in range(4):
        before = copy.deepcopy(extractor)
        step = fitting.step(tokens)
        with torch.no_grad():
            alone = [by_hand(classifier, row, before, step.layer) for row in tokens]
        wanted = np.mean(alone, axis=0)
        np.testing.assert_allclose([step.divergence, step.log_open], wanted, atol=1e-5, rtol=1e-4)
        raised = float(before.multipliers[step.layer]) + 0.3 * (wanted[0] - 0.1)
        assert step.multiplier == pytest.approx(max(raised, 0), abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_gates_of_the_layer_learn_and_the_model_does_not(classifier, tiny, kind):
    model = classifier.model
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tokens, extractor = prepared(classifier, tiny, kind)
    fitting = Fitting(classifier, extractor)
    for _ in range(6):
        before = copy.deepcopy(extractor)
        layer = fitting.step(tokens).layer
        learned = [
            any(not torch.equal(a, b) for a, b in zip(gate.parameters(), old.parameters(), strict=True))
            for gate, old in zip(extractor.gates, before.gates, strict=True)
        ]
        assert learned == [index <= layer if kind == "input" else index == layer for index in range(len(learned))]
        moved = [not torch.equal(a, b) for a, b in zip(extractor.multipliers, before.multipliers, strict=True)]
        assert moved == [index == layer for index in range(len(moved))]
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_a_step_runs_the_model_twice_and_never_for_its_weights(tiny):
    classifier = tiny.build("bert")
    tokens, extractor = prepared(classifier, tiny)
    fitting, passes = Fitting(classifier, extractor), []
    fitting.step(tokens)  # the classifier tries its shortcut on the first

    def see(module, _):
        passes.append((torch.is_grad_enabled(), any(p.requires_grad for p in module.parameters()), module.training))

    handle = classifier.model.register_forward_pre_hook(see)
    fitting.step(tokens)
    handle.remove()
    assert passes == [(False, False, False), (True, False, False)]


@pytest.mark.parametrize("fails", [False, True])
def test_mode_and_flags_of_the_model_are_put_back(tiny, fails):
    classifier = tiny.build("bert")
    tokens, extractor = prepared(classifier, tiny)
    fitting = Fitting(classifier, extractor)
    model = classifier.model
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(index % 3 == 0)
    model.train()
    model.bert.encoder.layer[1].eval()
    modes = [module.training for module in model.modules()]
    if fails:
        fitting.compare = lambda *_: 1 / 0
        with pytest.raises(ZeroDivisionError):
            fitting.step(tokens)
    else:
        fitting.step(tokens)
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == [
        index % 3 == 0 for index, _ in enumerate(model.parameters())
    ]


def test_dropout_plays_no_part(tiny):
    found = []
    for training in (False, True):
        classifier = tiny.build("bert")
        tokens, extractor = prepared(classifier, tiny)
        classifier.model.train(training)
        fitting = Fitting(classifier, extractor)
        found.append([fitting.step(tokens) for _ in range(3)])
        assert classifier.model.training == training
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


# -------------------------------------------------------------------------------------------------- dual ascent


def test_multipliers_rise_while_the_constraint_is_violated_and_fall_while_it_holds(classifiers, tiny):
    tokens, extractor = prepared(classifiers["bert"], tiny)
    far = [2.0]
    fitting = Fitting(classifiers["bert"], extractor, compare=lambda _, after: _apart(after, far[0]))
    for divergence, sign in ((2.0, 1), (0.02, -1)):
        far[0] = divergence
        for _ in range(8):
            before = extractor.multipliers.clone()
            step = fitting.step(tokens)
            moved = float(extractor.multipliers[step.layer] - before[step.layer])
            assert moved == pytest.approx(0.3 * (divergence - 0.1), abs=1e-5)
            assert np.sign(moved) == sign


def test_multipliers_stay_between_0_and_200(classifiers, tiny):
    tokens, extractor = prepared(classifiers["bert"], tiny)
    for divergence, bound in ((1e4, 200.0), (-1e4, 0.0)):
        fitting = Fitting(classifiers["bert"], extractor, compare=lambda _, after, d=divergence: _apart(after, d))
        for _ in range(3):
            assert fitting.step(tokens).multiplier == bound


def _apart(after, divergence):
    zero = after.logits.sum(dim=1) * 0
    return zero + divergence, zero + 1


def test_settled_layers_are_drawn_a_tenth_as_often(classifiers, tiny):
    _, extractor = prepared(classifiers["bert"], tiny)
    fitting = Fitting(classifiers["bert"], extractor)
    fitting.agreement[:], fitting.open[:], fitting.steps[:] = 0.8, 0.05, 101
    fitting.agreement[0], fitting.open[2], fitting.steps[3] = 0.75, 0.1, 100
    drawn = np.bincount([fitting._draw() for _ in range(4000)], minlength=4) / 4000
    np.testing.assert_allclose(drawn, np.array([1, 0.1, 1, 1]) / 3.1, atol=0.03)


# ------------------------------------------------------------------------------------------------- small pieces


def test_tokens_of_no_word_are_open_and_not_counted():
    word = torch.tensor([[-1, 0, 0, 1, -1], [-1, 0, -1, -1, -1], [-1, -1, -1, -1, -1]])
    keep = torch.full((3, 5), 0.25)
    assert gated(keep, word).tolist() == [[1, 0.25, 0.25, 0.25, 1], [1, 0.25, 1, 1, 1], [1, 1, 1, 1, 1]]
    logs = torch.tensor([[-9.0, -1, -2, -6, -9], [-9, -4, -9, -9, -9], [-9, -9, -9, -9, -9]], requires_grad=True)
    found = mean_log_open(logs, word)
    assert found.tolist() == [-3, -4, 0]
    (grads,) = torch.autograd.grad(found.sum(), logs)
    assert ((grads != 0) == (word >= 0)).all()


@given(st.data())
@settings(max_examples=30)
def test_words_are_means_of_their_tokens(data):
    rows, tokens, words = (data.draw(st.integers(1, top)) for top in (3, 7, 5))
    word = torch.tensor(
        data.draw(
            st.lists(
                st.lists(st.integers(-1, words - 1), min_size=tokens, max_size=tokens), min_size=rows, max_size=rows
            )
        )
    )
    values = torch.rand(word.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = word_means(values, word, words)
    for row in range(rows):
        for index in range(words):
            own = [float(values[row, place]) for place in range(tokens) if word[row, place] == index]
            assert float(found[row, index]) == pytest.approx(np.mean(own) if own else np.nan, nan_ok=True)
    (grads,) = torch.autograd.grad(found[found.isfinite()].sum(), values)
    assert grads.isfinite().all()
    assert ((grads != 0) == (word >= 0)).all()


def test_divergence_is_that_of_scipy():
    before, after = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    p, q = (torch.softmax(part.double(), dim=-1).numpy() for part in (before, after))
    kl, agreement = compare_logits(before[:, 0], after[:, 0])
    np.testing.assert_allclose(kl, entropy(p[:, 0], q[:, 0], axis=-1), rtol=1e-5)
    assert agreement.tolist() == (p[:, 0].argmax(-1) == q[:, 0].argmax(-1)).astype(float).tolist()
    inside = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]]).bool()
    kl, agreement = compare_logits(before, after, inside)  # of a tagger
    for row in range(4):
        own = [entropy(p[row, w], q[row, w]) for w in range(3) if inside[row, w]]
        assert float(kl[row]) == pytest.approx(np.mean(own) if own else 0, rel=1e-5)
    assert agreement[3] == 0


def test_placeholders_start_as_the_mask_token_and_what_the_layers_make_of_it(classifiers, tiny):
    classifier = classifiers["bert"]
    tokens = classifier.encode(tiny.records())[:1]
    embedding = classifier.model.get_input_embeddings().weight[classifier.tokenizer.mask_token_id]
    torch.testing.assert_close(new_extractor(classifier, tokens, "input").placeholders[0], embedding)
    ids = torch.from_numpy(np.where(tokens[0].word >= 0, classifier.tokenizer.mask_token_id, tokens[0].ids)[None])
    types = torch.from_numpy(tokens[0].types[None])
    states = classifier.model(input_ids=ids, token_type_ids=types, output_hidden_states=True).hidden_states
    for mine, state in zip(new_extractor(classifier, tokens, "hidden").placeholders[1:], states, strict=True):
        torch.testing.assert_close(mine, state[0, tokens[0].word >= 0].mean(dim=0), atol=1e-5, rtol=1e-4)


# ------------------------------------------------------------------------------ scores that a model learns through


@pytest.mark.parametrize("kind", KINDS)
def test_scores_teach_the_model_and_not_the_extractor(tiny, kind):
    classifier = tiny.build("bert")
    tokens, extractor = prepared(classifier, tiny, kind)
    batch = classifier.batch(tokens)
    word, calls = word_of(tokens, batch), []
    found, _ = observe(classifier, batch)
    handle = classifier.model.register_forward_pre_hook(lambda *_: calls.append(1))
    scores = extractor.scores(found, word, generator=torch.Generator().manual_seed(1))
    again = extractor.scores(found, word, generator=torch.Generator().manual_seed(1))
    handle.remove()
    assert not calls  # the task's own pass is all that is needed
    torch.testing.assert_close(scores, again, equal_nan=True)
    seen = scores.isfinite()
    assert seen.tolist() == [[w in row.word for w in range(scores.shape[1])] for row in tokens]
    assert ((scores[seen] >= 0) & (scores[seen] <= 1)).all()
    scores[seen].sum().backward()
    assert all(parameter.grad is None for parameter in extractor.parameters())
    assert classifier.model.bert.embeddings.word_embeddings.weight.grad.abs().sum() > 0
    assert all(parameter.requires_grad for parameter in extractor.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_pooled_gates_whatever_stands_beside_a_record(classifier, tiny, kind):
    tokens, extractor = prepared(classifier, tiny, kind)
    batch = classifier.batch(tokens)
    with torch.no_grad():
        together = extractor.scores(observe(classifier, batch)[0], word_of(tokens, batch), sampled=False)
        for row, many in zip(tokens, together, strict=True):
            keep = extractor.keep(observe(classifier, classifier.batch([row]))[0])[0].numpy()
            wanted = pool(keep, row, "mean")
            np.testing.assert_allclose(many[: len(wanted)], wanted, atol=2e-5)
            assert many[len(wanted) :].isnan().all()


# ---------------------------------------------------------------------------------------------- whole trainings


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_records_and_seed_give_the_same_extractor(classifiers, tiny, tmp_path, kind):
    classifier = classifiers["bert"]
    tokens = classifier.encode(tiny.records() * 7)
    first = train_extractor(classifier, tokens, gate=kind, epochs=3)
    state = torch.get_rng_state()
    again = train_extractor(classifier, tokens[::-1], gate=kind, epochs=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.hash == again.hash
    assert first.hash != train_extractor(classifier, tokens, gate=kind, epochs=3, seed=1).hash
    further = train_extractor(classifier, tokens, first, epochs=1)
    assert further is first
    assert first.hash != again.hash
    again.save(tmp_path / "extractor.safetensors")
    loaded = Extractor.load(tmp_path / "extractor.safetensors")
    assert (loaded.hash, loaded.kind, loaded.widths) == (again.hash, kind, again.widths)


def test_files_that_hold_no_extractor_are_refused(classifiers, tmp_path):
    path = tmp_path / "extractor.safetensors"
    with pytest.raises(InputError, match="no such file"):
        Extractor.load(path)
    path.write_bytes(b"something else")
    with pytest.raises(InputError, match="not an extractor that raison wrote"):
        Extractor.load(path)
    classifiers["bert"].model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="not an extractor that raison wrote"):
        Extractor.load(tmp_path / "model.safetensors")


CUES, FILLERS = ("happy", "red", "book"), ("a", "the", "man", "woman", "dog", "in", "park", "is")


def planted(size, seed):
    """Texts of eight words, one of which decides."""
    rng = np.random.default_rng(seed)
    records, places = [], []
    for index in range(size):
        words, label, place = list(rng.choice(FILLERS, 8)), int(rng.integers(3)), int(rng.integers(8))
        words[place] = CUES[label]
        records.append(
            Record(str(index), {"text": " ".join(words)}, label=("entailment", "neutral", "contradiction")[label])
        )
        places.append(place)
    return records, np.array(places)


@pytest.fixture(scope="module")
def knowing(tiny):
    """A tiny model that has learned which words decide, and what masked words are."""
    classifier = tiny.build("bert")
    tokens = classifier.encode(planted(600, 1)[0])
    labels = torch.tensor([classifier.label_index(record.label) for record in planted(600, 1)[0]])
    batch = classifier.batch(tokens)
    optimiser = torch.optim.Adam(classifier.model.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        rows = torch.randperm(600, generator=generator)[:48]
        inner = (word_of(tokens, batch)[rows] >= 0) & (torch.rand(48, batch.ids.shape[1], generator=generator) < 0.15)
        masked = batch.ids[rows].masked_fill(inner, classifier.tokenizer.mask_token_id)
        part = batch._replace(ids=masked, types=batch.types[rows], attention=batch.attention[rows])
        torch.nn.functional.cross_entropy(classifier.forward(part, None).logits, labels[rows]).backward()
        optimiser.step()
        optimiser.zero_grad()
    return classifier


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_planted_word_is_found(knowing, kind):
    records, places = planted(200, 2)
    right = [p.label == r.label for p, r in zip(knowing.predict(records), records, strict=True)]
    assert np.mean(right) > 0.95
    tokens = knowing.encode(planted(200, 3)[0])
    rate = 1.0 if kind == "input" else 5.0  # a step of hidden gates teaches one layer alone
    extractor = train_extractor(knowing, tokens, gate=kind, epochs=45, rate=rate)
    assert float(extractor.multipliers.min()) >= 0
    assert float(extractor.multipliers.max()) <= 200
    scores = extract(knowing, records, "diffmask", extractor=extractor)
    found = np.mean([int(flat(row).argmax()) == place for row, place in zip(scores, places, strict=True)])
    assert found > 0.9  # chance: 0.125
    others = np.mean([np.delete(flat(row), place) for row, place in zip(scores, places, strict=True)])
    own = np.mean([flat(row)[place] for row, place in zip(scores, places, strict=True)])
    assert own > 4 * others


# ------------------------------------------------------------------------------------------------------- extract


def test_extract_trains_on_the_records_and_says_so(classifiers, tiny):
    classifier, records = classifiers["bert"], tiny.records()
    first, again = (extract(classifier, records, "diffmask", epochs=2, seed=3) for _ in range(2))
    trained = train_extractor(classifier, classifier.encode(records), epochs=2, seed=3)
    by_given = extract(classifier, records, "DiffMask", extractor=trained)
    for one, two, three in zip(first, again, by_given, strict=True):
        np.testing.assert_array_equal(flat(one), flat(two))
        np.testing.assert_array_equal(flat(one), flat(three))
        assert one.convention == two.convention == three.convention
    assert first[0].convention == {
        "score": "none", "target": "predicted", "signed": False, "special_tokens": "left out",
        "reduction": "mean", "extractor": trained.hash, "gate": "input",
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_a_trained_extractor_do_not_depend_on_batches(classifier, tiny, kind):
    _, extractor = prepared(classifier, tiny, kind)
    alone = [flat(extract(classifier, [record], "diffmask", extractor=extractor)[0]) for record in tiny.records()]
    sized = copy.copy(classifier)
    for size in (1, 10**6):
        sized.max_tokens = size
        for one, many in zip(alone, extract(sized, tiny.records(), "diffmask", extractor=extractor), strict=True):
            np.testing.assert_allclose(flat(many), one, atol=2e-5)
    assert np.ptp(np.concatenate(alone)) > 0.01


def test_words_cut_off_are_nan(tiny):
    classifier = tiny.build("bert", positions=12)
    records = tiny.records()
    for row, scores in zip(classifier.encode(records), extract(classifier, records, "diffmask", epochs=1), strict=True):
        assert np.isnan(flat(scores)).tolist() == (~row.seen).tolist()


def test_records_without_words_are_no_trouble(classifiers):
    records = [Record("0", {"text": ""}), Record("1", {"text": "   "})]
    assert [len(flat(row)) for row in extract(classifiers["bert"], records, "diffmask", epochs=1)] == [0, 0]
    assert extract(classifiers["bert"], [], "diffmask") == []


def test_an_interrupted_file_goes_on_with_the_same_extractor(classifiers, tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(extract.__globals__, "CHUNK", 2)
    classifier, records = classifiers["bert"], tiny.records()
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    extract_to_file(whole, classifier, records, "diffmask", epochs=2)
    lines = whole.read_bytes().splitlines(keepends=True)
    (tmp_path / "cut.jsonl.part").write_bytes(b"".join(lines[:3]))
    for end in ("meta.json", "extractor.safetensors"):
        (tmp_path / f"cut.jsonl.{end}").write_bytes((tmp_path / f"whole.jsonl.{end}").read_bytes())
    monkeypatch.setitem(extract.__globals__, "train_extractor", None)  # it is not trained again
    assert extract_to_file(cut, classifier, records, "diffmask", epochs=2) == 2
    assert cut.read_bytes() == whole.read_bytes()
    kept = tmp_path / "whole.jsonl.extractor.safetensors"
    extract_to_file(tmp_path / "other.jsonl", classifier, records, "diffmask", extractor=str(kept))
    assert [flat(row).tolist() for row in load_scores(tmp_path / "other.jsonl")] == [
        flat(row).tolist() for row in load_scores(whole)
    ]


def test_what_does_not_fit_is_refused(classifiers, tiny, tmp_path):
    classifier, records = classifiers["bert"], tiny.records()
    tokens, extractor = prepared(classifier, tiny)
    with pytest.raises(InputError, match="diffmask: epochs is of the training"):
        extract(classifier, records, "diffmask", extractor=extractor, epochs=3)
    with pytest.raises(InputError, match="gate 'output': expected input or hidden"):
        extract(classifier, records, "diffmask", gate="output")
    with pytest.raises(InputError, match="no such file"):
        extract(classifier, records, "diffmask", extractor=tmp_path / "nothing")
    with pytest.raises(InputError, match="bert: the extractor is of a model with other layers"):
        diffmask(classifier, tokens, parse_target("predicted", classifier, records), extractor=Extractor([32, 32]))
    single = Classifier(tiny.build("bert").model, classifier.tokenizer)
    single.labels = ("only",)
    with pytest.raises(InputError, match="a single output"):
        train_extractor(single, tokens)
