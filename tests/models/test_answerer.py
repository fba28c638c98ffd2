"""The answering model: label scores against a token-by-token loop, words through the chat template, shared prefixes."""

import re

import numpy as np
import pytest
import torch

from answerers import TOKENIZERS, causal, tokenizer
from raison.attribution import extract
from raison.masking import ModelInput, apply, make_operator
from raison.models import Answerer
from raison.models.answerer import CONTENT_FREE
from raison.models.chat import render
from raison.models.tasks import load_task
from raison.records import InputError, Record

KINDS = ("llama", "qwen", "mistral", "gpt2")
RECORDS = [
    Record("1", {"premise": "A man plays in the park.", "hypothesis": "The man is asleep!"}, "nli", "contradiction"),
    Record("2", {"premise": "the", "hypothesis": "naïve café 😀 is {labels} not  open"}, "nli", "neutral"),
    Record("3", {"premise": "  A red book\nlies there", "hypothesis": "a book a book"}, "nli", "entailment"),
]


def make(kind="llama", words="byte", chat=True, **options):
    made = tokenizer(words, chat)
    return Answerer(causal(kind, made), made, "nli", name=kind, **options)


def prompt_ids(answerer, record):
    """The prompt as a user of transformers writes it."""
    texts = {name: record.fields[name] for name in ("premise", "hypothesis")}
    messages = answerer.task.messages(texts, answerer.labels, chat=bool(answerer.tokenizer.chat_template))
    if answerer.tokenizer.chat_template:
        found = answerer.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        return list(found)
    return answerer.tokenizer(messages[0]["content"]).input_ids


def slow_scores(answerer, ids):
    """Read the prompt and one label token after the other, one sequence at a time."""
    scores = []
    for label in answerer.label_ids:
        seen, total = list(ids), 0.0
        for token in label:
            with torch.no_grad():
                logits = answerer.model(torch.tensor([seen])).logits[0, -1].double()
            total += float(torch.log_softmax(logits, dim=-1)[token])
            seen.append(token)
        scores.append(total)
    return scores


@pytest.mark.parametrize("chat", [True, False])
def test_a_replaced_prompt_that_is_too_long_keeps_the_question(chat):
    made = tokenizer(chat=chat)
    answerer = Answerer(causal("llama", made, positions=160), made, "nli")
    (row,) = answerer.encode([Record("1", {"premise": "a book", "hypothesis": "the man reads"})])
    after = row.ids[int(np.flatnonzero(row.word >= 0)[-1]) + 1 :]
    assert answerer.tail == len(after) > 1
    long = np.insert(row.ids, int(np.flatnonzero(row.word >= 0)[0]), np.full(300, row.ids[0]))
    batch = answerer.pad([ModelInput(long, np.zeros_like(long), np.ones(len(long), dtype=np.bool_))])
    assert batch.ids.shape == (1, answerer.max_length)
    np.testing.assert_array_equal(batch.ids[0, -len(after) :].numpy(), after)


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
@pytest.mark.parametrize("kind", KINDS)
def test_label_scores_equal_a_token_by_token_loop(kind, chat):
    answerer = make(kind, chat=chat)
    assert max(len(ids) for ids in answerer.label_ids) > 1  # words of several tokens
    rows = answerer.encode(RECORDS)
    scores = answerer.logits(rows)
    for row, record, found in zip(rows, RECORDS, scores, strict=True):
        expected = prompt_ids(answerer, record)
        assert row.ids.tolist() == expected
        assert expected.count(answerer.tokenizer.bos_token_id) == 1
        np.testing.assert_allclose(found, slow_scores(answerer, expected), atol=1e-4)
    assert answerer._branching
    assert answerer._sharing


@pytest.mark.parametrize("words", TOKENIZERS)
def test_labels_are_the_tokens_that_follow_the_prompt(words):
    for chat in (True, False):
        answerer = make("llama", words, chat)
        for label, ids in zip(answerer.labels, answerer.label_ids, strict=True):
            assert answerer.tokenizer.decode(ids).replace(" ", "") == label
        rows = answerer.encode(RECORDS[:2])
        np.testing.assert_allclose(
            answerer.logits(rows), [slow_scores(answerer, row.ids.tolist()) for row in rows], atol=1e-4
        )


def test_models_that_take_no_mask_of_ours_spell_labels_out(monkeypatch):
    answerer = make()
    rows = answerer.encode(RECORDS)
    one = answerer.logits(rows)
    monkeypatch.setattr(answerer, "_branching", False)
    np.testing.assert_allclose(answerer.logits(rows), one, atol=1e-5)
    embeddings = answerer.embed(answerer.batch(rows))
    given = answerer.forward(answerer.batch(rows), embeddings * 0.5).logits.detach()
    monkeypatch.setattr(answerer, "_branching", True)
    np.testing.assert_allclose(
        answerer.forward(answerer.batch(rows), embeddings * 0.5).logits.detach(), given, atol=1e-5
    )


def test_a_sliding_window_is_left_closed():
    made = tokenizer()
    answerer = Answerer(causal("mistral", made, sliding_window=16), made, "nli")
    assert not answerer._branching
    rows = answerer.encode(RECORDS)
    np.testing.assert_allclose(
        answerer.logits(rows), [slow_scores(answerer, row.ids.tolist()) for row in rows], atol=1e-4
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operator", ["delete", "pad", "text:_", "unknown"])
def test_versions_share_their_beginning_and_answer_as_if_they_did_not(kind, operator):
    answerer = make(kind)
    rng = np.random.default_rng(0)
    tokens = answerer.encode(RECORDS)
    masks = [rng.random((9, len(row.grid))) < 0.3 for row in tokens]
    wanted = make_operator(operator, answerer.tokenizer)
    inputs = [given for row, mask in zip(tokens, masks, strict=True) for given in apply(wanted, row, mask)]
    of = [row for row, mask in zip(tokens, masks, strict=True) for _ in mask]
    alone = np.concatenate([answerer.logits([given]) for given in inputs])
    np.testing.assert_allclose(answerer.logits(inputs, of=of), alone, atol=2e-5)
    np.testing.assert_allclose(answerer.logits(inputs), alone, atol=2e-5)
    answerer.max_tokens = 100
    np.testing.assert_allclose(answerer.logits(inputs, of=of), alone, atol=2e-5)
    assert answerer._sharing


def _in_letters(text):
    """Put letters in the place of the bytes that a tokenizer fell back to, as <0xC3>."""
    parts = re.split(r"((?:<0x[0-9A-F]{2}>)+)", text)
    return "".join(
        bytes(int(byte, 16) for byte in re.findall("0x(..)", part)).decode() if index % 2 else part
        for index, part in enumerate(parts)
    )


@pytest.mark.parametrize("words", TOKENIZERS)
@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
def test_every_word_is_traced_and_nothing_else(words, chat):
    answerer = make("llama", words, chat)
    for row, record in zip(answerer.encode(RECORDS), RECORDS, strict=True):
        assert row.seen.all()
        texts = [record.fields[name][a:b] for name, spans in row.grid.words.items() for a, b in spans]
        for index, text in enumerate(texts):
            pieces = answerer.tokenizer.decode(row.ids[row.word == index]).replace(" ", "").replace("##", "")
            assert text in _in_letters(pieces) or "[UNK]" in pieces, (text, pieces)
        outside = answerer.tokenizer.decode(row.ids[row.word < 0])
        assert "Premise" in outside.replace(" ", "")
        assert "park" not in outside


def test_embeddings_in_the_place_of_ids_are_differentiable_and_give_the_same():
    answerer = make()
    batch = answerer.batch(answerer.encode(RECORDS))
    embeddings = answerer.embed(batch).requires_grad_()
    scores = answerer.forward(batch, embeddings).logits
    np.testing.assert_allclose(scores.detach(), answerer.logits(answerer.encode(RECORDS)), atol=1e-5)
    (grads,) = torch.autograd.grad(scores[:, 0].sum(), embeddings)
    for row, size in zip(grads, batch.lengths.tolist(), strict=True):
        assert (row[:size].abs().sum(dim=-1) > 0).all()
        assert not row[size:].any()


@pytest.mark.parametrize("method", ["gradient", "input_x_gradient", "integrated_gradients", "occlusion", "attention"])
def test_methods_run_on_words_of_the_record_alone(method):
    answerer = make()
    options = {"steps": 8} if method == "integrated_gradients" else {}
    for row, tokens in zip(extract(answerer, RECORDS, method, **options), answerer.encode(RECORDS), strict=True):
        assert list(row.scores) == ["premise", "hypothesis"]
        flat = np.concatenate(list(row.scores.values()))
        assert len(flat) == len(tokens.grid)
        assert not np.isnan(flat).any()
        assert row.target in answerer.labels


def test_calibration_takes_what_a_prompt_without_content_says():
    plain, rows = make(), make().encode(RECORDS)
    raw = plain.logits(rows).astype(np.float64)
    empty = plain.encode([Record("", {"premise": "", "hypothesis": ""})])
    prior = make(calibrate="prior")
    np.testing.assert_allclose(prior.logits(rows), raw - plain.logits(empty), atol=1e-4)
    contextual = make(calibrate="contextual")
    free = plain.encode([Record(str(i), {"premise": text, "hypothesis": text}) for i, text in enumerate(CONTENT_FREE)])
    exponents = np.exp(plain.logits(free).astype(np.float64))
    mean = (exponents / exponents.sum(axis=1, keepdims=True)).mean(axis=0)
    odds = np.exp(raw) / mean
    found = np.array([list(row.probabilities.values()) for row in contextual.predict(RECORDS)])
    np.testing.assert_allclose(found, odds / odds.sum(axis=1, keepdims=True), atol=1e-4)
    by_length = make(normalise="length")
    np.testing.assert_allclose(by_length.logits(rows), raw / [len(ids) for ids in plain.label_ids], atol=1e-5)


def test_attention_is_that_of_the_prompt_whatever_else_is_run():
    plain = [row.scores for row in extract(make(), RECORDS, "attention")]
    for options in ({"calibrate": "prior"}, {"normalise": "length"}):
        for row, scores in zip(extract(make(**options), RECORDS, "attention"), plain, strict=True):
            for name, values in row.scores.items():
                np.testing.assert_allclose(values, scores[name], atol=1e-6)


@pytest.mark.parametrize("options", [{"calibrate": "x"}, {"score": "x"}, {"normalise": "x"}, {"labels": ["one"]}])
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match="expected"):
        make(**options)


def test_the_order_of_labels_is_shuffled_by_seed_and_record():
    answerer = make(shuffle=3)
    texts = [answerer.tokenizer.decode(row.ids) for row in answerer.encode(RECORDS * 4)]
    assert texts[:3] == texts[3:6]
    many = [Record(str(i), RECORDS[0].fields) for i in range(30)]
    assert len({answerer.tokenizer.decode(row.ids) for row in answerer.encode(many)}) == 6
    assert all(row.seen.all() for row in answerer.encode(many))


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
def test_prompts_are_the_same_one_by_one_and_all_at_once(monkeypatch, chat):
    monkeypatch.setattr("raison.models.answerer.PROMPTS", 5)
    answerer = make(chat=chat, shuffle=3)
    many = [Record(str(i), RECORDS[i % 3].fields) for i in range(12)]
    filled = []
    monkeypatch.setattr("raison.models.prompt.render", lambda *given: filled.append(given) or render(*given))
    together = answerer.encode(many)
    assert len(filled) <= 12 + 6, "the template is filled once for each record, and once for each order of the labels"
    for record, row in zip(many, together, strict=True):
        (alone,) = answerer.encode([record])
        assert row.grid == alone.grid
        np.testing.assert_array_equal(row.ids, alone.ids)
        np.testing.assert_array_equal(row.word, alone.word)


def test_long_prompts_lose_the_last_words_of_the_longest_field():
    made = tokenizer()
    answerer = Answerer(causal("llama", made, positions=160), made, "nli")
    long = Record("1", {"premise": "a book " * 60, "hypothesis": "the man reads"})
    (row,) = answerer.encode([long])
    assert len(row.ids) <= answerer.max_length
    premise, hypothesis = row.grid.split(row.seen).values()
    assert hypothesis.all()
    kept = int(premise.sum())
    assert 0 < kept < 120
    assert premise[:kept].all()
    answerer.logits([row])
    with pytest.raises(InputError, match="alone is too long"):
        Answerer(causal("llama", made, positions=64), made, "nli").encode([long])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('fields = ["a"]\nprompt = "{a}"', r"expected \{labels\} in it"),
        ('fields = ["a"]\nprompt = "{a} {b} {labels}"', r"\{b\} is none of the fields"),
        ('fields = []\nprompt = "{labels}"', "at least one field"),
        ('fields = ["a"]\nprompt = 3', "Expected `str`"),
        ('fields = ["a"]\nprompt = "{a} {labels}"\n[labels]\nx = "y"\nz = "y"', "the same word"),
        ('fields = ["a"]\nprompt = "{a} {labels}"\nprompts = "x"', "unknown field"),
        ("fields = [", ":"),
    ],
)
def test_faults_in_a_task_file_are_one_line(tmp_path, content, message):
    path = tmp_path / "own.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        load_task(str(path))
    assert "own.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tasks_are_found_by_name_by_use_or_refused():
    assert load_task("fact_verification") is load_task("fact-checking")
    with pytest.raises(InputError, match="did you mean sentiment"):
        load_task("sentimant")
    with pytest.raises(InputError, match=r"has no field 'hypothesis'.*premise"):
        make().encode([Record("9", {"premise": "x"})])


def test_the_model_and_its_tokenizer_are_left_as_they_were():
    answerer = make()
    before = {name: value.clone() for name, value in answerer.model.state_dict().items()}
    extract(answerer, RECORDS, "integrated_gradients", steps=4)
    extract(answerer, RECORDS, "attention")
    extract(answerer, RECORDS, "occlusion")
    assert all(torch.equal(value, before[name]) for name, value in answerer.model.state_dict().items())
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in answerer.model.modules())
    assert answerer.model.config._attn_implementation == "sdpa"
    assert answerer.tokenizer.backend_tokenizer.truncation is None
    assert answerer.tokenizer.backend_tokenizer.padding is None
