"""Models that write: scores against a loop over tokens, attribution against Captum, outputs against plain decoding."""

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients, Saliency

from answerers import TOKENIZERS, causal, tokenizer
from raison.attribution import METHODS, extract
from raison.masking import apply, make_operator
from raison.models import Answerer, Writer, generator
from raison.models.load import load_scorer
from raison.models.tasks import Task, labels_of, load_task
from raison.records import InputError, Record
from raison.words import pool

RECORDS = [
    Record("1", {"passage": "A man plays in the park.", "question": "Who plays?"}, "qa"),
    Record("2", {"passage": "the", "question": "naïve café 😀 is  open"}, "qa"),
    Record("3", {"passage": "  A red book\nlies there, the man reads a red book", "question": "what is red"}, "qa"),
]
NEW = 7


def make(kind="llama", words="byte", chat=True, seed=0, **options):
    made = tokenizer(words, chat)
    options = {"max_new_tokens": NEW, "name": kind, **options}
    return Writer(causal(kind, made, seed), made, "question-answering", **options)


def bare():
    """A prompt of nothing but the text, which may be a single token."""
    plain = tokenizer(chat=False)
    plain.backend_tokenizer.post_processor = None
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    made = type(plain)(tokenizer_object=plain.backend_tokenizer, **names)
    return made, Task(("text",), "{text}", answer="", name="bare", free=True)


def prompt_ids(writer, record):
    """The prompt as a user of transformers writes it."""
    texts = {name: record.fields[name] for name in ("passage", "question")}
    messages = writer.task.messages(texts, (), chat=bool(writer.tokenizer.chat_template))
    if writer.tokenizer.chat_template:
        return list(writer.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))
    return writer.tokenizer(messages[0]["content"]).input_ids


def decoded(writer, ids, size=NEW):
    """Write the most probable token again and again, each time from the start."""
    seen = list(ids)
    for _ in range(size):
        with torch.no_grad():
            best = int(writer.model(torch.tensor([seen])).logits[0, -1].argmax())
        if best == writer.tokenizer.eos_token_id:
            break
        seen.append(best)
    return seen[len(ids) :]


def mean_by_loop(writer, ids, output):
    """Read the prompt and one token of the output after the other."""
    seen, total = list(ids), 0.0
    for token in output:
        with torch.no_grad():
            logits = writer.model(torch.tensor([seen])).logits[0, -1].double()
        total += float(torch.log_softmax(logits, dim=-1)[token])
        seen.append(int(token))
    return total / len(output)


def parts(row):
    return row.ids[row.types == 0].tolist(), row.ids[row.types > 0].tolist()


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("words", TOKENIZERS)
def test_scores_of_outputs_equal_a_token_by_token_loop(kind, words, chat):
    writer = make(kind, words, chat)
    rows = writer.encode(RECORDS)
    scores = writer.logits(rows)
    assert scores.shape == (3, 1)
    for row, record, found, text in zip(rows, RECORDS, scores[:, 0], writer.write(RECORDS), strict=True):
        prompt, output = parts(row)
        assert prompt == prompt_ids(writer, record)
        assert output == decoded(writer, prompt)[: len(output)]
        assert text == writer.tokenizer.decode(output, skip_special_tokens=True).strip()
        assert found == pytest.approx(mean_by_loop(writer, prompt, output), abs=1e-4)
        assert (row.word[row.types > 0] == -1).all()
        assert row.seen.all()


def test_scores_do_not_depend_on_batches_and_share_their_beginnings():
    for kind, options in (("llama", {}), ("gpt2", {}), ("mistral", {"sliding_window": 16})):
        made = tokenizer()
        writer = Writer(causal(kind, made, **options), made, "question-answering", max_new_tokens=NEW)
        rows, rng = writer.encode(RECORDS), np.random.default_rng(0)
        masks = [rng.random((9, len(row.grid))) < 0.3 for row in rows]
        operator = make_operator("delete", made)
        inputs = [given for row, mask in zip(rows, masks, strict=True) for given in apply(operator, row, mask)]
        of = [row for row, mask in zip(rows, masks, strict=True) for _ in mask]
        alone = np.array([mean_by_loop(writer, *parts(given)) for given in inputs])
        assert writer._sharing
        for size in (40, 1024):
            writer.max_tokens = size
            np.testing.assert_allclose(writer.logits(inputs)[:, 0], alone, atol=1e-4)
            np.testing.assert_allclose(writer.logits(inputs, of=of)[:, 0], alone, atol=1e-4)
        found = writer.score_masked(rows, masks, operator)
        np.testing.assert_allclose(np.concatenate(found), alone, atol=1e-4)


def test_every_distinct_masked_input_is_scored_once(monkeypatch):
    writer = make()
    rows, seen = writer.encode(RECORDS[:1]), []
    plain = writer.logits
    monkeypatch.setattr(writer, "logits", lambda inputs, **how: seen.append(len(inputs)) or plain(inputs, **how))
    masks, known = np.eye(len(rows[0].grid), dtype=bool)[[0, 1, 0, 1, 1]], {}
    (first,) = writer.score_masked(rows, [masks], make_operator("delete", writer.tokenizer), known)
    (again,) = writer.score_masked(rows, [masks[:1]], make_operator("delete", writer.tokenizer), known)
    assert seen == [2, 0]
    assert first[0] == first[2] == again[0]


@pytest.mark.parametrize("method", [method for method in METHODS if method != "input_marginalisation"])
@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
def test_every_method_scores_the_words_of_the_record(method, chat):
    writer = make("llama", chat=chat)
    for record, row in zip(RECORDS, extract(writer, RECORDS, method), strict=True):
        flat = np.concatenate(list(row.scores.values()))
        assert [*row.scores] == ["passage", "question"]
        assert len(flat) == sum(len(text.split()) for text in record.fields.values())
        assert not np.isnan(flat).any()
        assert row.target == "output"


class Alone:
    """One record by the bare model through `inputs_embeds`, unpadded, with the whole vocabulary at every position."""

    def __init__(self, writer, record):
        (self.row,) = writer.encode([record])
        self.model, self.ids = writer.model, torch.tensor(self.row.ids[None])
        self.places = torch.tensor(np.flatnonzero(self.row.types > 0))
        self.embeddings = self.model.get_input_embeddings()(self.ids).detach()

    def __call__(self, embeddings):
        chances = self.model(inputs_embeds=embeddings).logits.log_softmax(dim=-1)
        return chances[:, self.places - 1, self.ids[0, self.places]].mean(dim=1)

    def pooled(self, values):
        return pool(values[0].detach().numpy(), self.row)


def flat(scores):
    return np.concatenate(list(scores.scores.values()))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_gradients_equal_captum(kind):
    writer = make(kind)
    found = {name: extract(writer, RECORDS, name) for name in ("gradient", "input_x_gradient")}
    found["integrated"] = extract(writer, RECORDS, "integrated_gradients", baseline="zero", steps=20)
    for index, record in enumerate(RECORDS):
        alone = Alone(writer, record)
        norms = Saliency(alone).attribute(alone.embeddings.clone().requires_grad_(), abs=False).norm(dim=-1)
        products = InputXGradient(alone).attribute(alone.embeddings.clone().requires_grad_()).sum(dim=-1)
        path = IntegratedGradients(alone).attribute(alone.embeddings, n_steps=20, method="gausslegendre").sum(dim=-1)
        np.testing.assert_allclose(flat(found["gradient"][index]), alone.pooled(norms), atol=1e-4)
        np.testing.assert_allclose(flat(found["input_x_gradient"][index]), alone.pooled(products), atol=1e-4)
        np.testing.assert_allclose(flat(found["integrated"][index]), alone.pooled(path), atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_outputs_of_many_lengths_stand_side_by_side(kind):
    made, task = bare()
    records = [Record("1", {"text": "a"}), Record("2", {"text": "the"}), Record("3", {"text": "red book"})]
    given = {"1": "a", "2": "the man reads a red book in the park " * 2, "3": "open it"}
    writer = Writer(causal(kind, made), made, task, given=given)
    rows = writer.encode(records)
    for row, found in zip(rows, writer.logits(rows)[:, 0], strict=True):
        assert found == pytest.approx(mean_by_loop(writer, *parts(row)), abs=1e-4)
    for record, found in zip(records, extract(writer, records, "gradient"), strict=True):
        alone = Alone(writer, record)
        norms = Saliency(alone).attribute(alone.embeddings.clone().requires_grad_(), abs=False).norm(dim=-1)
        np.testing.assert_allclose(flat(found), alone.pooled(norms), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_occlusion_equals_a_slow_loop(kind):
    writer = make(kind, chat=False)
    for record, scores in zip(RECORDS, extract(writer, RECORDS, "occlusion"), strict=True):
        (row,) = writer.encode([record])
        prompt, output = parts(row)
        word = row.word[row.types == 0]
        whole = mean_by_loop(writer, prompt, output)
        for index, score in enumerate(flat(scores)):
            rest = [token for token, own in zip(prompt, word, strict=True) if own != index]
            assert score == pytest.approx(whole - mean_by_loop(writer, rest, output), abs=2e-4)


def test_attention_is_that_of_the_last_position_of_the_prompt():
    writer = make()
    writer.model.set_attn_implementation("eager")
    for record, scores in zip(RECORDS, extract(writer, RECORDS, "attention"), strict=True):
        (row,) = writer.encode([record])
        prompt = row.ids[row.types == 0]
        with torch.no_grad():
            seen = writer.model(torch.tensor(prompt[None]), output_attentions=True).attentions[-1]
        expected = np.append(seen[0].mean(dim=0)[-1].numpy(), np.zeros(len(row.ids) - len(prompt)))
        np.testing.assert_allclose(flat(scores), pool(expected, row), atol=1e-5)


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
@pytest.mark.parametrize("operator", ["delete", "unknown", "text:_ _"])
def test_masked_outputs_are_what_follows_the_masked_ids(operator, chat):
    writer = make("llama", chat=chat)
    rows, rng = writer.encode(RECORDS), np.random.default_rng(1)
    masks = [np.vstack([np.zeros(len(row.grid), dtype=bool), rng.random((3, len(row.grid))) < 0.5]) for row in rows]
    wanted = make_operator(operator, writer.tokenizer)
    found = writer.write_masked(rows, masks, wanted)
    assert [texts[0] for texts in found] == writer.write(RECORDS)
    for row, mask, texts in zip(rows, masks, found, strict=True):
        for given, text in zip(apply(wanted, row, mask), texts, strict=True):
            ids = decoded(writer, given.ids[given.types == 0].tolist())
            whole = writer.tokenizer.decode(ids, skip_special_tokens=True).strip()
            assert text == whole if chat else whole.startswith(text)
    writer.generator.max_tokens = 1
    again = Writer(writer.model, writer.tokenizer, writer.task, max_new_tokens=NEW)
    assert again.write_masked(rows, masks, wanted) == found
    with pytest.raises(InputError, match="operator pad"):
        writer.write_masked(rows, masks, make_operator("pad", writer.tokenizer))


def test_the_output_of_a_model_without_a_chat_template_ends_with_its_first_line(monkeypatch):
    writer = make(chat=False)
    ids = writer.tokenizer("\nred book\nred").input_ids[1:]
    monkeypatch.setattr(writer.generator, "continue_ids", lambda prompts: [ids for _ in prompts])
    assert writer.write(RECORDS) == ["red book"] * 3
    (row, *_) = writer.encode(RECORDS)
    assert writer._decode(row.ids[row.types > 0]) == "\nred book"
    told = make(chat=True)
    monkeypatch.setattr(told.generator, "continue_ids", lambda prompts: [ids for _ in prompts])
    assert told.write(RECORDS) == ["red book\nred"] * 3


@pytest.mark.parametrize("words", TOKENIZERS)
@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
def test_given_outputs_are_the_tokens_that_follow_the_prompt(words, chat):
    given = {"1": " the man ", "2": "a book in a park", "3": ""}
    writer = make("llama", words, chat, given=given)
    rows = writer.encode(RECORDS)
    assert writer.write(RECORDS) == ["the man", "a book in a park", ""]
    for row, text in zip(rows, given.values(), strict=True):
        prompt, output = parts(row)
        assert writer.tokenizer.decode(output).replace(" ", "") == text.replace(" ", "")
        if output:
            assert writer.logits([row])[0, 0] == pytest.approx(mean_by_loop(writer, prompt, output), abs=1e-4)
    with pytest.raises(InputError, match="'4' has no given output"):
        writer.encode([Record("4", RECORDS[0].fields)])
    assert writer.convention != make("llama", words, chat, given={**given, "3": "x"}).convention


def test_an_empty_output_has_no_score_and_leaves_the_others_alone():
    full = make(given={"1": "the man", "2": "open", "3": "a book"})
    holed = make(given={"1": "the man", "2": " ", "3": "a book"})
    scores = holed.logits(holed.encode(RECORDS))[:, 0]
    assert np.isnan(scores).tolist() == [False, True, False]
    for method in ("gradient", "input_x_gradient", "integrated_gradients", "occlusion"):
        found, expected = extract(holed, RECORDS, method), extract(full, RECORDS, method)
        assert np.isnan(flat(found[1])).all()
        for index in (0, 2):
            np.testing.assert_allclose(flat(found[index]), flat(expected[index]), atol=1e-5)


def test_a_prompt_that_loses_every_token_is_read_as_the_token_of_beginning():
    made, task = bare()
    writer = Writer(causal("gpt2", made), made, task, max_new_tokens=4)
    rows = writer.encode([Record("1", {"text": "reads"}), Record("2", {"text": ""})])
    assert rows[1].ids[0] == made.bos_token_id
    mask = np.array([[True]])
    operator = make_operator("delete", made)
    (score,) = writer.score_masked(rows[:1], [mask], operator)
    assert score[0] == pytest.approx(mean_by_loop(writer, [made.bos_token_id], parts(rows[0])[1]), abs=1e-4)
    (texts,) = writer.write_masked(rows[:1], [mask], operator)
    assert made.decode(decoded(writer, [made.bos_token_id], 4)).strip().startswith(texts[0])


def test_long_prompts_leave_room_for_their_outputs():
    made = tokenizer()
    writer = Writer(causal("llama", made, positions=200), made, "question-answering", max_new_tokens=20)
    long = Record("1", {"passage": "a book " * 90, "question": "the man reads"})
    (row,) = writer.encode([long])
    assert len(row.ids[row.types == 0]) <= 180
    assert row.grid.split(row.seen)["question"].all()
    assert 0 < row.grid.split(row.seen)["passage"].sum() < 180
    writer.logits([row])
    operator = make_operator("text:unbelievable words", made)
    with pytest.raises(InputError, match="reads 200"):
        writer.score_masked([row], [row.seen[None]], operator)
    assert writer.write_masked([row], [row.seen[None]], operator) == [[None]]
    with pytest.raises(InputError, match="alone is too long"):
        Writer(causal("llama", made, positions=64), made, "question-answering").encode([long])


def test_a_writer_and_a_classifier_refuse_each_others_tasks(tmp_path):
    made = tokenizer()
    model = causal("llama", made)
    with pytest.raises(InputError, match="asks for a label"):
        Writer(model, made, "nli")
    with pytest.raises(InputError, match="at least two labels"):
        Answerer(model, made, "summarisation")
    with pytest.raises(InputError, match="asks for a text"):
        labels_of(load_task("qa"), RECORDS)
    with pytest.raises(InputError, match="predicts no labels"):
        make().predict(RECORDS)
    with pytest.raises(InputError, match="predicts no labels"):
        make().predict_masked([], [], None)
    for content, message in (
        ('fields = ["a"]\nfree = true\nprompt = "{a} {labels}"', "none of the fields"),
        ('fields = ["a"]\nfree = true\nprompt = "{a}"\n[labels]\nx = "y"', "a free task has none"),
    ):
        (tmp_path / "own.toml").write_text(content)
        with pytest.raises(InputError, match=message):
            load_task(str(tmp_path / "own.toml"))
    assert load_task("summarization").free


def test_a_model_is_loaded_and_left_as_it_was(tmp_path):
    first = make()
    first.model.save_pretrained(tmp_path / "m")
    first.tokenizer.save_pretrained(tmp_path / "m")
    writer = Writer.load(tmp_path / "m", "qa", device="cpu", max_new_tokens=NEW)
    assert writer.name == "m"
    assert writer.write(RECORDS) == first.write(RECORDS)
    extract(writer, RECORDS, "occlusion")
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in writer.model.modules())
    assert writer.tokenizer.backend_tokenizer.truncation is None


def test_weights_are_loaded_in_four_bits_where_that_is_asked_for(monkeypatch):
    first, asked = make(), []
    monkeypatch.setattr(generator, "load_causal", lambda *given: asked.append(given) or (first.model, first.tokenizer))
    Writer.load("path/m", "qa", device="cpu", dtype="bfloat16", four_bit=True)
    load_scorer("path/m", RECORDS, task="qa", device="cpu", four_bit=True, calibrate="none")
    load_scorer("path/m", RECORDS, task="qa", device="cpu")
    assert [given[1:] for given in asked] == [
        ("cpu", "bfloat16", False, True), ("cpu", "float32", False, True), ("cpu", "float32", False, False)
    ]  # fmt: skip
    with pytest.raises(InputError, match="writes: option calibrate is for models that answer with a label"):
        load_scorer("path/m", RECORDS, task="qa", calibrate="prior")
    monkeypatch.setattr("raison.models.load.is_causal", lambda *_: False)
    with pytest.raises(InputError, match="classifier: option four_bit is for causal language models"):
        load_scorer("path/m", RECORDS, four_bit=True)
