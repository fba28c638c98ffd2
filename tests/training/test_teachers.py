"""Attributions to train through: each against a slow loop over single records, and their gradients."""

import warnings

import numpy as np
import peft
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from answerers import causal, tokenizer
from raison.attribution import gates, states
from raison.attribution.diffmask import new_extractor
from raison.attribution.marginalisation import Replacer
from raison.models import Answerer, Tagger
from raison.models.tagger import first_tokens
from raison.records import Annotation, InputError, Record
from raison.training.align import TEACHERS, examples, objective_for, teacher_of
from raison.training.aligned import Alignment, Collator, Examples, Objective, step_of
from raison.training.learners import LabelLearner, TagLearner, first_columns
from raison.training.teachers import DiffMask, Gradients, two_sets, words_of
from raison.words import whitespace_words

MODELS = ("bert", "pair", "llama", "lora", "tagger", "crf")
TEXTS = (
    "the man reads xyz in the park",
    "a dog sleeps",
    "the woman is not happy the man plays in a red park and the dog",
    "book",
)
MARKS = ((1, 3), (2,), (), (0,))  # words; of the third record nobody marked one, of the last every one
WIDE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}


def marked(index, label, pair=False):
    """A record of which a person has marked words, and one that has slots."""
    text = TEXTS[index]
    words = whitespace_words(text)
    spans = tuple(words[word] for word in MARKS[index])
    fields = {"premise": text, "hypothesis": "a man sleeps"} if pair else {"text": text}
    (name, *_) = fields
    slots = [{"field": "text", "start": words[-1].start, "end": words[-1].end, "slot": "what"}]
    notes = (Annotation("ann", label, {name: spans}),)
    return Record(f"r{index}", fields, None, label, (), notes, meta={} if pair else {"slots": slots})


def records(kind):
    labels = ("positive", "negative") if kind == "lora" else ("entailment", "neutral", "contradiction")
    return [marked(index, labels[index % len(labels)], kind == "pair") for index in range(len(TEXTS))]


def make_learner(kind, tiny, folder):
    """Make a model in training, without dropout."""
    if kind in ("tagger", "crf"):
        from transformers import BertConfig, BertModel

        words = tiny.bert_tokenizer()
        torch.manual_seed(0)
        config = BertConfig(vocab_size=len(words), initializer_range=0.3, pad_token_id=0, **WIDE)
        BertModel(config).save_pretrained(folder / kind)
        words.save_pretrained(folder / kind)
        tagger = Tagger.build(folder / kind, ("O", "B-what", "I-what"), crf=kind == "crf", device="cpu")
        for weights in [tagger.model.head.weight, *(tagger.model.crf.parameters() if kind == "crf" else [])]:
            torch.nn.init.normal_(weights)
        return TagLearner(tagger)
    if kind == "lora":
        words = tokenizer()
        model = Answerer(causal("llama", words), words, "sentiment", labels=("positive", "negative"))
        torch.manual_seed(4)
        config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear", init_lora_weights=False)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")  # peft's to mend
            return LabelLearner(model, peft.get_peft_model(model.model, config).eval())
    return LabelLearner(tiny.build("bert" if kind == "pair" else kind))


@pytest.fixture(scope="module")
def learners(tiny, tmp_path_factory):
    """Learners by name, each made once; tests leave their weights as they are."""
    made, folder = {}, tmp_path_factory.mktemp("learners")

    def get(kind):
        if kind not in made:
            made[kind] = make_learner(kind, tiny, folder)
        return made[kind]

    return get


def can(kind, by):
    """Whether there is such a thing: a tagger has no one position, and one tokenizer here no token to mask with."""
    return not (kind in ("tagger", "crf") and by == "attention") and (kind, by) != ("llama", "occlusion")


CASES = [(kind, by) for kind in MODELS for by in TEACHERS if can(kind, by)]


def prepare(learner, kind, by, **settings):
    """Give examples, the teacher, and what the collator makes of chosen rows in an epoch."""
    settings.setdefault("replacement", "uniform")
    alignment = Alignment(by, **settings)
    rows = examples(learner, records(kind), alignment)
    teacher = teacher_of(alignment, learner, rows)
    if by == "diffmask":
        with torch.no_grad():
            for gate in teacher.extractor.gates:
                gate.bias.fill_(0.5)  # half open, so that gates differ
    data = Examples(rows, teacher, 7)

    def collated(chosen):
        return Collator(learner, teacher.loss)([data[index] for index in chosen])

    return rows, teacher, data, collated


# ------------------------------------------------------------------------------------- one record after the other


class Alone:
    """One record by the model itself, unpadded: its evidence for the gold answer, and the odds of that."""

    def __init__(self, learner, row):
        self.learner, self.row, self.network = learner, row, learner.network

    def embed(self, ids=None):
        ids = torch.from_numpy((self.row.tokens.ids if ids is None else ids)[None])
        return self.network.get_input_embeddings()(ids)

    def scores(self, ids=None, embeddings=None, **options):
        """Scores of labels (labels,), or of tags (words that are seen, tags)."""
        tokens, embeddings = self.row.tokens, self.embed(ids) if embeddings is None else embeddings
        ids = torch.from_numpy((tokens.ids if ids is None else ids)[None])
        types = {"token_type_ids": torch.from_numpy(tokens.types[None])}
        if isinstance(self.learner, TagLearner):
            found = self.network.encoder(inputs_embeds=embeddings, **types).last_hidden_state
            return self.network.head(found[0, first_tokens(tokens)[tokens.seen]])
        if isinstance(self.learner.scorer, Answerer):
            return torch.stack([self.spelled(embeddings, label) for label in self.learner.scorer.label_ids])
        types = types if "token_type_ids" in self.learner.tokenizer.model_input_names else {}
        return self.network(inputs_embeds=embeddings, **types, **options).logits[0]

    def spelled(self, embeddings, label):
        """Log-probability of a label's tokens after the prompt."""
        behind = self.network.get_input_embeddings()(torch.tensor([label]))
        logits = self.network(inputs_embeds=torch.cat([embeddings, behind], dim=1)).logits[0]
        start = embeddings.shape[1] - 1
        return sum(logits[start + i].log_softmax(dim=-1)[token] for i, token in enumerate(label))

    def log_p(self, scores):
        """log p of the gold tags."""
        gold = torch.from_numpy(self.row.gold[self.row.tokens.seen])
        if self.network.crf is not None:
            return self.network.crf(scores[None], gold[None], reduction="sum")
        return scores.log_softmax(dim=-1)[torch.arange(len(gold)), gold].sum()

    def evidence(self, ids=None, embeddings=None):
        scores = self.scores(ids, embeddings)
        return self.log_p(scores) if isinstance(self.learner, TagLearner) else scores[self.row.gold]

    def chance(self, ids):
        """p of the gold answer, float64."""
        scores = self.scores(ids)
        if isinstance(self.learner, TagLearner):
            return float(self.log_p(scores).double().exp())
        return float(scores.double().softmax(dim=0)[self.row.gold])

    def words(self, token_scores):
        """Sum of each word's tokens, one word after the other."""
        word = self.row.tokens.word
        return [sum(float(s) for s, w in zip(token_scores, word, strict=True) if w == i) for i in range(word.max() + 1)]


def by_gradient(alone, by):
    embeddings = alone.embed().detach().requires_grad_()
    (grads,) = torch.autograd.grad(alone.evidence(embeddings=embeddings), embeddings)
    grads, embeddings = grads[0].detach().double(), embeddings[0].detach().double()
    each = {
        "gradient": lambda: grads.norm(dim=1),
        "gradient-l1": lambda: grads.abs().sum(dim=1),
        "gradient-sum": lambda: grads.sum(dim=1),
        "input-x-gradient": lambda: (grads * embeddings).sum(dim=1),
    }[by]()
    return alone.words(each)


def by_occlusion(alone):
    tokens, mask = alone.row.tokens, alone.learner.tokenizer.mask_token_id
    mask = alone.learner.tokenizer.unk_token_id if mask is None else mask
    with torch.no_grad():
        whole = float(alone.evidence())
        return [
            whole - float(alone.evidence(np.where(tokens.word == word, mask, tokens.ids)))
            for word in range(tokens.word.max() + 1)
        ]


def by_marginalisation(alone, drawn):
    """-lo(mean over draws of p) of both sets."""
    with torch.no_grad():
        found = []
        for side in (0, 1):
            of = drawn["side"] == side
            chances = [alone.chance(ids) for ids in drawn["replaced"][of]]
            mean = float(np.sum(np.exp(drawn["log_weights"][of]) * chances))
            found.append(-np.log2(mean / (1 - mean)))
        return found


def by_attention(alone):
    """Attention of the last layer as the model itself reports it, computed in the plain way."""
    network = alone.network
    before = network.config._attn_implementation
    network.set_attn_implementation("eager")
    ids = torch.from_numpy(alone.row.tokens.ids[None])
    types = {"token_type_ids": torch.from_numpy(alone.row.tokens.types[None])}
    types = types if "token_type_ids" in alone.learner.tokenizer.model_input_names else {}
    with torch.no_grad():
        last = network(input_ids=ids, output_attentions=True, **types).attentions[-1][0].mean(dim=0)
    network.set_attn_implementation(before)
    place = -1 if alone.learner.scorer.reads_last else 0
    words = alone.words(last[place])
    return [value / sum(words) for value in words]


def by_extractor(alone, extractor):
    """The mean of E[gate] over each word's tokens, a gate being a product over the states; no padding."""
    tokens = alone.row.tokens
    with torch.no_grad(), states.seen(alone.network) as found:
        alone.scores()
    with torch.no_grad():
        keep = [
            np.prod([
                float(gates.expected(gate([found[0][:, place : place + 1], state[:, place : place + 1]])))
                for gate, state in zip(extractor.gates, found, strict=True)
            ])
            for place in range(len(tokens.ids))
        ]  # fmt: skip
    sizes = alone.words(np.ones(len(keep)))
    return [total / size for total, size in zip(alone.words(keep), sizes, strict=True)]


def slow(by, alone, drawn, teacher):
    if by == "occlusion":
        return by_occlusion(alone)
    if by == "attention":
        return by_attention(alone)
    if by == "diffmask":
        return by_extractor(alone, teacher.extractor)
    return by_marginalisation(alone, drawn) if by == "input-marginalisation" else by_gradient(alone, by)


@pytest.mark.parametrize(("kind", "by"), CASES)
def test_scores_are_those_of_each_record_alone(learners, kind, by):
    """Four records of different lengths in one batch; section 6, items 9 and 11: special tokens and neighbours count
    for nothing, also where a word is there twice."""
    learner = learners(kind)
    rows, teacher, data, collated = prepare(learner, kind, by)
    inputs = collated(range(4))
    taught = teacher(learner, step_of(inputs))
    compared = 0
    for index, row in enumerate(rows):
        alone, drawn = Alone(learner, row), data[index][1]
        with torch.no_grad():
            whole = alone.scores()
        logits = taught.logits[index] if whole.ndim == 1 else taught.logits[index, : len(whole)]
        torch.testing.assert_close(logits.detach(), whole, atol=2e-5, rtol=1e-4)
        comparing = kind != "pair" and by not in ("gradient-sum", "attention")  # the last has no other word
        assert bool(inputs["counted"][index]) == (index < 2 or (index == 3 and not comparing))
        if by in ("occlusion", "input-marginalisation") and not len(drawn["replaced"]):
            continue
        wanted = slow(by, alone, drawn, teacher)
        found = taught.scores[index, : len(wanted)].detach().numpy()
        np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=2e-3)
        compared += 1
    assert compared >= 2


@pytest.mark.parametrize("kind", MODELS)
def test_losses_of_levels_see_the_whole_weight_of_evidence(learners, kind):
    """lo p(y | x) - lo m, section 1.4; where two are compared its first term, which both have, is left out."""
    learner = learners(kind)
    taught = {}
    for loss in ("squared-error", "margin"):
        rows, teacher, data, collated = prepare(learner, kind, "input-marginalisation", loss=loss)
        taught[loss] = teacher(learner, step_of(collated(range(4))))
    for index, row in enumerate(rows):
        alone, drawn = Alone(learner, row), data[index][1]
        if not len(drawn["replaced"]):
            assert not taught["squared-error"].valid[index].any()
            continue
        with torch.no_grad():
            chance = alone.chance(row.tokens.ids)
        wanted = np.log2(chance / (1 - chance)) + by_marginalisation(alone, drawn)
        np.testing.assert_allclose(taught["squared-error"].scores[index].detach(), wanted, atol=1e-4, rtol=2e-3)
    gaps = [found.scores[:, 0] - found.scores[:, 1] for found in taught.values()]
    torch.testing.assert_close(*gaps, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("kind", "by"), CASES)
def test_company_and_padding_change_nothing(learners, kind, by):
    learner = learners(kind)
    rows, teacher, _, collated = prepare(learner, kind, by)
    size = 2 if by == "input-marginalisation" else None
    together = teacher(learner, step_of(collated([2, 0, 3, 1])))
    for place, index in ((1, 0), (3, 1)):
        alone = teacher(learner, step_of(collated([index])))
        words = size or len(rows[index].tokens.grid)
        torch.testing.assert_close(alone.scores[0, :words], together.scores[place, :words], atol=2e-5, rtol=1e-3)
        assert together.valid[place].sum() == alone.valid[0].sum()
        shape = alone.logits[0].shape
        part = together.logits[place] if len(shape) == 1 else together.logits[place, : shape[0]]
        torch.testing.assert_close(alone.logits[0], part, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "by"), CASES)
def test_without_a_rationale_only_the_task_is_left(learners, kind, by):
    """Section 6, item 17: no rationale in a batch, and just one."""
    learner = learners(kind)
    _, teacher, _, collated = prepare(learner, kind, by)
    objective = Objective(learner, teacher, Alignment(by, alpha=3.0))
    for chosen, counted in (([2, 2], 0), ([2], 0), ([2, 0], 1), ([0], 1)):
        inputs = collated(chosen)
        assert inputs["counted"].tolist() == [float(index == 0) for index in chosen]
        totals = torch.tensor([float(len(chosen)), float(counted)])
        loss = objective.loss(learner.network, inputs, totals, 1.0)
        told = objective.told()
        plain = Objective(learner, None, Alignment()).loss(learner.network, inputs, totals, 1.0).detach()
        wanted = plain if not counted else plain + 3.0 * told["alignment"]
        assert float(loss.detach()) == pytest.approx(float(wanted), rel=1e-4, abs=1e-5)
        assert told.keys() == ({"task", "alignment", "active"} if counted else {"task"})
        loss.backward()
        grads = [weight.grad for weight in learner.network.parameters() if weight.grad is not None]
        assert grads
        assert all(bool(grad.isfinite().all()) for grad in grads)
        learner.network.zero_grad()


# -------------------------------------------------------------------------------------------------- gradients


def slope(loss_of, weight, place, step=1e-5):
    """The slope of a loss by one number of a weight, from both sides."""
    flat = weight.data.view(-1)
    before, found = float(flat[place]), []
    for change in (step, -step):
        flat[place] = before + change
        found.append(float(loss_of().detach()))
    flat[place] = before
    return (found[0] - found[1]) / (2 * step)


SMOOTH = {"sign": "squared-error", "order": "base"}  # instead of losses that are flat at these scores


@pytest.mark.parametrize(("kind", "by"), [case for case in CASES if case[0] not in ("pair", "llama")])
def test_gradients_are_finite_differences(tiny, tmp_path, monkeypatch, kind, by):
    """In float64, of the alignment alone, through the model's weights; of gradients by double backward."""

    def exact(norm, x):
        return norm.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.variance_epsilon)

    monkeypatch.setattr(LlamaRMSNorm, "forward", exact)  # its own computes in float32 whatever it is given
    learner = make_learner(kind, tiny, tmp_path)
    learner.network.double()
    _, teacher, _, collated = prepare(learner, kind, by)
    if by == "diffmask":
        teacher.extractor.double()
    inputs = collated([0, 2, 1])
    name = SMOOTH.get(teacher.loss, teacher.loss)
    margin = 1000.0 if name == "margin" else None
    objective = Objective(learner, teacher, Alignment(by, loss=name, alpha=1.0, margin=margin))
    totals = torch.tensor([1e30, 2.0], dtype=torch.float64)  # the task counts for nothing

    def loss_of():
        return objective.loss(learner.network, inputs, totals, 1.0)

    weights = [weight for weight in learner.network.parameters() if weight.requires_grad]
    grads = torch.autograd.grad(loss_of(), weights, allow_unused=True)
    known = [(weight, grad) for weight, grad in zip(weights, grads, strict=True) if grad is not None and grad.any()]
    assert len(known) > 3
    rng = np.random.default_rng(0)
    for at in rng.choice(len(known), 6):
        weight, grad = known[at]
        place = int(grad.abs().view(-1).argmax())
        assert float(grad.view(-1)[place]) == pytest.approx(slope(loss_of, weight, place), rel=1e-3, abs=1e-7)


def test_gates_send_gradients_to_the_model_and_none_to_the_extractor(learners):
    learner = learners("bert")
    _, teacher, _, collated = prepare(learner, "bert", "diffmask")
    teacher(learner, step_of(collated([0]))).scores[0, 0].backward()
    assert all(weight.grad is None for weight in teacher.extractor.parameters())
    assert learner.network.get_input_embeddings().weight.grad.any()
    learner.network.zero_grad()


def test_hidden_gates_are_read_too(learners):
    learner = learners("bert")
    rows, _, _, collated = prepare(learner, "bert", "gradient")
    teacher = DiffMask(new_extractor(learner.scorer, [row.tokens for row in rows], "hidden"))
    scores = teacher(learner, step_of(collated(range(4)))).scores
    with torch.no_grad(), states.seen(learner.network) as found:
        Alone(learner, rows[1]).scores()
        layers = [gates.expected(gate([state])) for gate, state in zip(teacher.extractor.gates, found, strict=True)]
        keep = torch.stack(layers).mean(dim=0)[0]
    np.testing.assert_allclose(scores[1, :3].detach(), keep[1:4], atol=1e-5)


# ----------------------------------------------------------------------------------- faults of the published code


def test_a_long_tagging_has_odds_and_a_gradient(learners):
    """Section 6, item 7: 200 words, of whose tags the likelihood is 0 in float32, and one that is all but certain."""
    for kind in ("tagger", "crf"):
        learner = learners(kind)
        for size, certain in ((200, False), (3, True)):
            logits = torch.zeros(1, size, 3)
            logits[..., 0] = 200.0 if certain else -40.0
            logits.requires_grad_()
            log_p, log_not = learner.odds(logits, torch.zeros(1, size, dtype=torch.long))
            assert bool((log_p.isfinite() & log_not.isfinite()).all())
            (grad,) = torch.autograd.grad((log_p - log_not).sum(), logits)
            assert bool(grad.isfinite().all())
            if not certain:
                assert bool(grad.any())


@given(
    st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]), max_size=30),
    st.lists(st.booleans(), min_size=30, max_size=30),
    st.floats(0.01, 1),
    st.integers(0, 99),
)
def test_two_sets_have_no_word_in_common_and_one_size(target, flags, most, seed):
    """Section 6, item 8: words beyond the cap are in neither set, so that none is replaced and the sizes are equal."""
    values, seen = np.array(target, dtype=np.float32), np.array(flags[: len(target)], dtype=bool)
    found = two_sets(values, seen, most, np.random.default_rng(seed))
    inside, outside = int((seen & (values >= 0.5)).sum()), int((seen & (values < 0.5)).sum())
    if not inside or not outside:
        assert found is None
        return
    first, second = found
    assert not (first & second).any()
    assert not ((first | second) & ~seen).any()
    assert (values[first] >= 0.5).all()
    assert (values[second] < 0.5).all()
    assert first.sum() == second.sum() == min(inside, outside, max(1, int(most * seen.sum())))


def test_every_other_word_is_as_likely_to_be_drawn():
    target, seen = np.array([1, 1, 0, 0, 0, 0], dtype=np.float32), np.array([1, 1, 1, 1, 1, 0], dtype=bool)
    rng = np.random.default_rng(0)
    shares = np.mean([two_sets(target, seen, 0.2, rng) for _ in range(3000)], axis=0)
    np.testing.assert_allclose(shares, [[0.5, 0.5, 0, 0, 0, 0], [0, 0, 1 / 3, 1 / 3, 1 / 3, 0]], atol=0.04)


@pytest.mark.parametrize("kind", ["mask", "uniform"])
def test_just_the_two_sets_are_replaced(learners, kind):
    """Section 6, items 8 and 9: neither special tokens nor padding, nor words that were dropped by the cap."""
    learner = learners("bert")
    rows, teacher, _, collated = prepare(learner, "bert", "input-marginalisation", replacement=kind, most=0.2)
    for row in rows[:2]:
        for seed in range(20):
            drawn = teacher.draw(row, np.random.default_rng(seed))
            changed = drawn["replaced"] != row.tokens.ids
            words = [set(row.tokens.word[some].tolist()) for some in changed]
            marked_words = set(np.flatnonzero(row.target > 0).tolist())
            for side, some in zip(drawn["side"], words, strict=True):
                assert -1 not in some
                assert len(some) <= 1  # a fifth of seven words, or of three
                assert some <= marked_words if side == 0 else not some & marked_words
    inputs = collated([1, 2])
    short = inputs["replaced"][:, inputs["lengths"][0] :]
    assert inputs["replaced_of"].unique().tolist() == [0]
    assert bool((short == 0).all())


def test_repeated_words_have_gradients_of_their_own(learners):
    """Section 6, item 11: `the` is there twice, and in the record beside it."""
    learner = learners("bert")
    rows, teacher, _, collated = prepare(learner, "bert", "gradient-l1")
    scores = teacher(learner, step_of(collated([0, 2]))).scores
    assert rows[0].tokens.ids[1] == rows[0].tokens.ids[8]  # words 0 and 5
    assert float(scores[0, 0]) != pytest.approx(float(scores[0, 5]), rel=1e-3)


@pytest.mark.parametrize(("kind", "nothing"), [("bert", True), ("llama", False)])
def test_the_plain_sum_of_a_gradient_says_nothing_behind_a_layer_norm(learners, kind, nothing):
    """Not in the list of section 6: a layer norm takes the mean away, so whatever reads embeddings through one has a
    gradient that adds up to 0 over the dimensions. The sign loss then aligns rounding errors; RMSNorm keeps the mean.
    """
    learner = learners(kind)
    rows, _, _, collated = prepare(learner, kind, "gradient-sum")
    step = step_of(collated([0]))
    size = len(rows[0].tokens.grid)
    total, norm = (Gradients(name)(learner, step).scores[0, :size].abs() for name in ("gradient-sum", "gradient"))
    assert bool((total < 1e-5 * norm).all()) == nothing


def test_extractors_of_taggers_compare_tags(learners):
    """Section 6, item 12: by the head that is trained, over the words that are seen."""
    learner = learners("crf")
    tokens = learner.encode(records("crf"))
    batch = learner.scorer.batch(tokens)
    with torch.no_grad():
        before = learner.scorer.forward(batch)
        after = learner.scorer.forward(batch._replace(ids=batch.ids.flip(0)))
        divergence, agreement = learner.compare(before, after)
    for index, row in enumerate(tokens):
        p, q = (one.logits[index, : len(row.grid)].double().softmax(dim=-1) for one in (before, after))
        assert float(divergence[index]) == pytest.approx(float((p * (p / q).log()).sum(dim=-1).mean()), rel=1e-3)
        assert float(agreement[index]) == pytest.approx(float((p.argmax(-1) == q.argmax(-1)).double().mean()))


def test_gates_that_the_target_is_made_of_are_means_and_not_samples(learners):
    """Section 6, item 12: the same twice."""
    learner = learners("bert")
    _, teacher, _, collated = prepare(learner, "bert", "diffmask")
    step = step_of(collated([0, 1]))
    assert torch.equal(teacher(learner, step).scores[:, :3], teacher(learner, step).scores[:, :3])


def test_rationales_belong_to_records_and_not_to_the_order_of_labels(learners):
    """Section 6, item 21: turned labels turn gold indices, and no rationale."""
    learner = learners("bert")
    rows = examples(learner, records("bert"), Alignment())
    labels = learner.scorer.labels
    learner.scorer.labels = labels[::-1]
    turned = examples(learner, records("bert"), Alignment())
    learner.scorer.labels = labels
    assert [row.gold for row in turned] == [2 - row.gold for row in rows]
    for one, other in zip(rows, turned, strict=True):
        assert (one.target is None) == (other.target is None)
        assert one.target is None or one.target.tolist() == other.target.tolist()
    assert rows[0].target.tolist() == [0, 1, 0, 1, 0, 0, 0]


# ------------------------------------------------------------------------------------------------------- the rest


def test_words_add_up_their_tokens():
    word = torch.tensor([[-1, 0, 0, 2], [1, -1, -1, -1]])
    scores = torch.tensor([[9.0, 1.0, 2.0, 4.0], [5.0, 9.0, 9.0, 9.0]], dtype=torch.float64)
    found = words_of(scores, word, 4)
    assert found.tolist() == [[3.0, 0.0, 4.0, 0.0], [0.0, 5.0, 0.0, 0.0]]
    assert found.dtype == torch.float64
    assert words_of(scores.bfloat16(), word, 4).dtype == torch.float32


@given(st.lists(st.lists(st.integers(-1, 6), min_size=5, max_size=5), min_size=1, max_size=3))
def test_first_columns_are_those_of_a_loop(rows):
    word = torch.tensor(rows)
    found = first_columns(word)
    words = max(1, max(map(max, rows)) + 1)
    assert found.tolist() == [[row.index(w) if w in row else -1 for w in range(words)] for row in rows]


def test_what_cannot_be_trained_through_is_one_line(learners):
    rows = examples(learners("llama"), records("llama"), Alignment())
    for kind, by, message in (
        ("llama", "occlusion", "neither a mask nor an unknown token"),
        ("bert", "lime", "'lime': expected one of gradient"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            teacher_of(Alignment(by), learners(kind), rows)
        assert "\n" not in str(caught.value)
    tagger = learners("tagger")
    objective = objective_for(tagger, examples(tagger, records("tagger"), Alignment()), Alignment("attention"))
    with pytest.raises(InputError, match="a tagger classifies every word"):
        objective.teacher(tagger, step_of(prepare(tagger, "tagger", "gradient")[3]([0])))


@pytest.mark.parametrize("loss", [None, "margin-strongest"])
def test_losses_by_difference_read_log_probabilities_of_gates(learners, loss):
    learner = learners("bert")
    _, teacher, _, collated = prepare(learner, "bert", "diffmask", loss=loss)
    taught = teacher(learner, step_of(collated([0, 1])))
    scores = taught.scores[taught.valid]
    assert teacher.loss == (loss or "ratio")
    assert ((scores <= 0).all() and (scores < 0).any()) if loss else ((scores >= 0).all() and (scores > 0).any())


def test_cross_entropy_reads_gates_as_the_probabilities_that_they_are(learners):
    """The published code puts a sigmoid on top of them."""
    learner = learners("bert")
    _, teacher, _, collated = prepare(learner, "bert", "diffmask", loss="cross-entropy")
    inputs = collated([0])
    learner.network.eval()
    taught = teacher(learner, step_of(inputs))
    objective = Objective(learner, teacher, Alignment("diffmask", loss="cross-entropy", alpha=1.0))
    found = objective.loss(learner.network, inputs, torch.tensor([1e30, 1.0]), 1.0)
    gates, target = taught.scores[taught.valid].double(), taught.target[taught.valid].double()
    gates = gates.clamp(1e-7, 1 - 1e-7)
    expected = -(target * gates.log() + (1 - target) * (1 - gates).log()).mean()
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)


def test_masked_lm_replacements_name_their_model(learners):
    learner = learners("bert")
    rows = examples(learner, records("bert"), Alignment())
    with pytest.raises(InputError, match="need a language model with the same tokenizer: masked-lm:NAME"):
        teacher_of(Alignment(replacement="masked-lm"), learner, rows)
    with pytest.raises(InputError, match=r"\./nowhere: no such folder"):
        teacher_of(Alignment(replacement="masked-lm:./nowhere"), learner, rows)


def test_occlusion_masks_as_an_evaluation_does(learners):
    learner = learners("bert")
    row = examples(learner, records("bert"), Alignment())[0]
    drawn = Replacer("mask", learner.tokenizer).draw(row.tokens, row.tokens.word == 3, 1, np.random.default_rng(0))
    assert (drawn.ids[0] == learner.tokenizer.mask_token_id).sum() == 3
