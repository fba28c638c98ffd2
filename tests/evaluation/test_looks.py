"""Further metrics through `evaluate`, against slow loops that ask the model one input at a time."""

import math
from itertools import permutations

import numpy as np
import pytest

from raison.attribution import extract
from raison.evaluation import evaluate, looks, summarise
from raison.evaluation.extras import EXTRAS
from raison.evaluation.faithfulness import random_masks
from raison.masking import apply, make_operator
from raison.models.scorer import softmax
from raison.rationales import Rationale, WordScores
from raison.records import Annotation, Record
from raison.words import word_grid

WORDS = "a the man woman dog plays sleeps reads red book in park is not happy".split()  # noqa: SIM905
NAMES = [name for name in EXTRAS if name != "f-fidelity"]
SOURCES = ("random", "input_x_gradient")


def corpus(kind, n=10, words=(2, 4)):
    """Records of one field or two, all words marked by nobody or the first two by one person."""
    rng, found = np.random.default_rng(1), []
    for index in range(n):
        names = ("premise", "hypothesis") if kind == "pair" else ("text",)
        fields = {name: " ".join(rng.choice(WORDS, size=rng.integers(*words, endpoint=True))) for name in names}
        spans = word_grid(Record("", fields)).words
        marked = {name: tuple(spans[name][:1]) for name in names}
        found.append(Record(f"{kind}{index}", fields, label="neutral", annotations=(Annotation("p", None, marked),)))
    return found


class Slow:
    """One record, asked one masked input at a time."""

    def __init__(self, model, record, scores):
        self.model, (self.tokens,) = model, model.encode([record])
        self.operator = make_operator("mask", model.tokenizer)
        self.scores = np.concatenate(list(scores.scores.values())) if scores else None
        self.words = len(self.tokens.grid)
        self.order = sorted(range(self.words), key=lambda i: (-self.scores[i], i))
        whole = self.table([])
        self.label, self.whole = whole.argmax(), whole.max()

    def table(self, away):
        mask = np.isin(np.arange(self.words), list(away))
        return softmax(self.model.logits(apply(self.operator, self.tokens, mask[None])))[0]

    def p(self, away):
        return self.table(away)[self.label]

    def flips(self, away):
        return self.table(away).argmax() != self.label

    @property
    def top(self):
        return self.order[:2]


def logit(p):
    return math.log(p / (1 - p))


@pytest.fixture(scope="module", params=["pair", "text"])
def judged(request, tiny):
    """A model, records of up to 8 words, and the verdict with every metric that needs no tuned model."""
    model, records = tiny.build("bert", seed=3), corpus(request.param)
    scores = {name: extract(model, records, name) for name in SOURCES}
    verdict = evaluate(model, records, scores, budget="k:2", also=NAMES, resamples=50, draws=6)
    slow = {name: [Slow(model, r, s) for r, s in zip(records, scores[name], strict=True)] for name in SOURCES}
    return model, records, verdict, slow


def values(verdict, metric, source):
    """Give a metric of every record, NaN = undefined."""
    found = [item.sources[source].metrics[metric] for item in verdict.items]
    return np.array([np.nan if value is None else value for value in found])


@pytest.mark.parametrize("source", SOURCES)
def test_what_is_known_anyway_equals_a_slow_loop(judged, source):
    _, _, verdict, slow = judged
    nc, ns, lo, nan = [], [], [], float("nan")
    for one in slow[source]:
        others = set(range(one.words)) - set(one.top)
        room = one.whole - one.p(range(one.words))
        nc.append(min(1, max(0, one.whole - one.p(one.top)) / room) if room > 0 else nan)
        ns.append(max(0, 1 - max(0, one.whole - one.p(others)) / room) if room > 0 else nan)
        lo.append(logit(one.whole) - logit(one.p(one.top)))
    np.testing.assert_allclose(values(verdict, "normalised_comprehensiveness", source), nc, atol=2e-4)
    np.testing.assert_allclose(values(verdict, "normalised_sufficiency", source), ns, atol=2e-4)
    np.testing.assert_allclose(values(verdict, "log_odds", source), lo, atol=1e-4)
    cell = verdict.cell("log_odds", source)
    assert cell.value == pytest.approx(np.mean(lo), abs=1e-4)
    assert set(cell.frame) == {"random", "human", "least", "full"}
    full = [logit(one.whole) - logit(one.p(range(one.words))) for one in slow[source]]
    assert cell.frame["full"] == pytest.approx(np.mean(full), abs=1e-4)


def test_random_rationales_beside_the_normalised_ones(judged):
    _, records, verdict, slow = judged
    expected = []
    for record, one in zip(records, slow["random"], strict=True):
        empty = one.p(range(one.words))
        drawn = random_masks(one.tokens.seen, 2, 6, seed=0, record_id=record.id)
        drops = [max(0, one.whole - one.p(np.flatnonzero(row))) for row in drawn]
        if one.whole > empty:
            expected.append(np.mean(np.minimum(1, np.array(drops) / (one.whole - empty))))
    frame = verdict.cell("normalised_comprehensiveness", "random").frame
    assert frame["random"] == pytest.approx(np.mean(expected), abs=2e-4)


@pytest.mark.parametrize("source", SOURCES)
def test_flips_in_rank_order_equal_a_slow_loop(judged, source):
    _, _, verdict, slow = judged
    fraction, top, alone = [], [], []
    for one in slow[source]:
        first = next((k for k in range(1, one.words + 1) if one.flips(one.order[:k])), one.words)
        fraction.append(first / one.words)
        top.append(one.flips(one.order[:1]))
        alone.append(np.mean([one.flips([word]) for word in range(one.words)]))
    np.testing.assert_allclose(values(verdict, "flip_fraction", source), fraction)
    np.testing.assert_allclose(values(verdict, "flip_top", source), top)
    assert verdict.cell("flip_top", source).frame == {"random": pytest.approx(np.mean(alone))}
    assert verdict.cell("flip_fraction", source).frame == {"random": verdict.cell("flip_fraction", "random").value}


@pytest.mark.parametrize("source", SOURCES)
def test_normalised_aopc_equals_all_orders_written_out(judged, source):
    _, _, verdict, slow = judged
    found = np.array([values(verdict, f"naopc_{end}", source) for end in ("comprehensiveness", "sufficiency")])
    checked = 0
    for index, one in enumerate(slow[source]):
        assert np.isfinite(found[:, index]).all()
        if one.words > 5:
            continue
        drops = {}
        for order in permutations(range(one.words)):
            for k in range(1, one.words + 1):
                drops.setdefault(frozenset(order[:k]), one.whole - one.p(order[:k]))
        area = {order: np.mean([drops[frozenset(order[:k])] for k in range(1, one.words + 1)])
                for order in permutations(range(one.words))}  # fmt: skip
        low, high = min(area.values()), max(area.values())
        expected = [(area[tuple(order)] - low) / (high - low) for order in (one.order, one.order[::-1])]
        np.testing.assert_allclose(found[:, index], expected, atol=2e-3)
        checked += 1
    assert checked >= 3


@pytest.mark.parametrize("source", SOURCES)
def test_soft_metrics_equal_a_slow_loop(judged, source):
    model, _, verdict, slow = judged
    found = {end: values(verdict, f"soft_{end}", source) for end in ("comprehensiveness", "sufficiency")}
    for index, one in enumerate(slow[source]):
        a = (one.scores - one.scores.min()) / (one.scores.max() - one.scores.min())
        (table,) = model.predict_soft([one.tokens], [np.array([1 - a, a])], 6, 0)
        (none,) = model.predict_soft([one.tokens], [np.zeros((1, one.words))], 1, 0)
        room = one.whole - none[0, 0, one.label]
        if room <= 1e-6:
            assert np.isnan(found["comprehensiveness"][index])
            assert np.isnan(found["sufficiency"][index])
            continue
        drops = np.maximum(0, one.whole - table[:, :, one.label]) / room
        assert found["comprehensiveness"][index] == pytest.approx(np.minimum(1, drops[0]).mean(), abs=1e-3)
        assert found["sufficiency"][index] == pytest.approx(np.maximum(0, 1 - drops[1]).mean(), abs=1e-3)


def test_f_fidelity_against_a_slow_loop(tiny):
    """The tuned model is asked about the maskings that are drawn inside and outside of a rationale."""
    from raison.evaluation.companions import fidelity_masks

    model, tuned, records = tiny.build("bert", seed=3), tiny.build("bert", seed=4), corpus("pair")
    scores = {"input_x_gradient": extract(model, records, "input_x_gradient")}
    verdict = evaluate(model, records, scores, budget="k:3", also=["f-fidelity"], tuned=tuned, resamples=50)
    for item, record, said in zip(verdict.items, records, scores["input_x_gradient"], strict=True):
        one = Slow(model, record, said)
        r = np.isin(np.arange(one.words), one.order[:3])
        for sign, inside in (("plus", r), ("minus", ~r)):
            rows = np.tile(inside, (50, 1))
            drawn = fidelity_masks(rows, one.tokens.seen, alpha=0.5, beta=0.1, seed=0, record_id=record.id)
            inputs = [apply(make_operator("mask", tuned.tokenizer), one.tokens, row[None])[0] for row in drawn]
            right = np.mean(tuned.logits(inputs).argmax(axis=1) == one.label)
            assert item.sources["input_x_gradient"].metrics[f"f_fidelity_{sign}"] == pytest.approx(1 - right)
    frame = verdict.cell("f_fidelity_plus", "input_x_gradient").frame
    assert set(frame) == {"random"}
    assert -1 <= frame["random"] <= 1


def test_f_fidelity_reads_the_labels_of_the_tuned_model_by_name(tiny):
    model, records = tiny.build("bert", seed=3), corpus("pair")
    scores = {"random": extract(model, records, "random")}
    same = tiny.build("bert", seed=4)
    turned = tiny.build("bert", seed=4, labels=("contradiction", "entailment", "NEUTRAL"))
    a, b = (
        evaluate(model, records, scores, budget="k:3", also=["f-fidelity"], tuned=tuned, resamples=50)
        for tuned in (same, turned)
    )
    assert values(a, "f_fidelity_plus", "random").tolist() != values(b, "f_fidelity_plus", "random").tolist()
    mirrored = tiny.build("bert", seed=3, labels=("contradiction", "entailment", "neutral"))
    c = evaluate(mirrored, records, scores, budget="k:3", also=["f-fidelity"], tuned=turned, resamples=50)
    np.testing.assert_array_equal(values(a, "f_fidelity_plus", "random"), values(c, "f_fidelity_plus", "random"))


# ------------------------------------------------------------------------------------------------ edges


@pytest.mark.parametrize("kind", ["pair", "text"])
def test_unseen_words_are_never_touched_and_count_for_nothing(tiny, kind):
    """A record that is cut off has the same metrics as one that ends there."""
    model = tiny.build("bert", seed=3, positions=14)
    (long,) = corpus(kind, 1, (16, 16))
    tokens = model.encode([long])[0]
    assert 0 < tokens.seen.sum() < len(tokens.grid)
    fields = {
        name: " ".join(word for word, seen in zip(long.fields[name].split(), part, strict=True) if seen)
        for name, part in tokens.grid.split(tokens.seen).items()
    }
    short = Record(long.id, fields, label=long.label)
    assert model.encode([short])[0].ids.tolist() == tokens.ids.tolist()
    rng = np.random.default_rng(2)
    parts = tokens.grid.split(tokens.seen)
    drawn = {name: rng.normal(size=len(part)).astype(np.float32) for name, part in parts.items()}
    kept = {name: drawn[name][part] for name, part in parts.items()}
    everywhere = [WordScores(long.id, "any", None, drawn)]  # made elsewhere: unseen words are scored too
    verdicts = [
        evaluate(model, [record], scores, budget="k:4", also=["flips", "naopc", "soft"], resamples=50)
        for record, scores in ((long, everywhere), (short, [WordScores(long.id, "any", None, kept)]))
    ]
    for metric in ("flip_fraction", "flip_top", "naopc_comprehensiveness", "naopc_sufficiency", "soft_sufficiency"):
        a, b = (values(verdict, metric, "any") for verdict in verdicts)
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_what_is_undefined_is_missing_and_not_zero(tiny):
    """Equal scores, a word without a score, one word alone, and a rationale without scores."""
    model, records = tiny.build("bert", seed=3), corpus("text", 4, (4, 4))
    records[2] = Record("text2", {"text": "dog"}, label="neutral")
    rows = ([1, 1, 1, 1], [3, np.nan, 1, 2], [1], [1, 2, 3, 4])
    scores = [
        WordScores(record.id, "made", None, {"text": np.array(row, dtype=np.float32)})
        for record, row in zip(records, rows, strict=True)
    ]
    said = [Rationale(r.id, "said", {"text": np.arange(len(row)) < 1}) for r, row in zip(records, rows, strict=True)]
    verdict = evaluate(model, records, [*scores, *said], budget="k:1", also=["flips", "naopc", "soft"], resamples=50)
    got = [item.sources["made"].metrics for item in verdict.items]
    assert got[0]["soft_sufficiency"] is None  # equal scores say nothing
    assert got[0]["naopc_comprehensiveness"] is not None  # an order all the same, by position
    assert "soft_sufficiency" not in got[1]  # a word that is seen has no score
    assert "naopc_sufficiency" not in got[1]
    assert got[1]["flip_fraction"] is not None  # of the three that have one
    assert got[2]["naopc_comprehensiveness"] is None  # one order only
    assert got[3]["naopc_comprehensiveness"] is not None
    for item in verdict.items:
        assert not {"flip_fraction", "naopc_sufficiency", "soft_sufficiency"} & set(item.sources["said"].metrics)
    assert verdict.cell("naopc_comprehensiveness", "made").n == 2


def test_a_model_that_always_says_the_same_has_no_normalised_value(tiny):
    model, records = tiny.build("bert", seed=3), corpus("pair")
    for parameter in model.model.classifier.parameters():
        parameter.data.zero_()
    model.model.classifier.bias.data[0] = 1.0
    scores = extract(model, records, "random")
    verdict = evaluate(model, records, scores, budget="k:2", also=NAMES, resamples=50)
    for metric in ("naopc_comprehensiveness", "soft_sufficiency", "normalised_comprehensiveness"):
        assert verdict.cell(metric, "random").value is None
        assert verdict.cell(metric, "random").n == 0
    assert verdict.cell("flip_fraction", "random").value == 1.0
    assert verdict.cell("flip_top", "random").value == 0.0
    assert "not to be ranked" in verdict.cell("flip_fraction", "random").verdict


def test_results_do_not_depend_on_batches_or_the_order_of_records(tiny):
    records = corpus("pair", 4, (4, 5))
    models = [tiny.build("bert", seed=3, max_tokens=size) for size in (1, 4096)]
    scores = {name: extract(models[1], records, name) for name in SOURCES}
    a = evaluate(models[0], records, scores, budget="k:2", also=NAMES, resamples=50)
    b = evaluate(models[1], records[::-1], {"random": scores["random"]}, budget="k:2", also=NAMES, resamples=50)
    for name in NAMES:
        for metric in EXTRAS[name].metrics:
            np.testing.assert_allclose(values(a, metric, "random"), values(b, metric, "random")[::-1], atol=2e-3)


def test_a_record_without_a_valid_answer_has_no_label_and_no_number():
    table, none = np.array([[0.2, 0.8]]), np.full((1, 2), np.nan)
    seen = [{("whole", ""): table, ("full", ""): table[:, ::-1]}, {("whole", ""): none, ("full", ""): table}]
    look = looks.Look(None, None, [], [], [], seen, None, {})
    assert [look.answer(0), look.answer(1)] == [1, None]
    assert (look.whole(0), look.probability(0, ("full", ""))[0]) == (0.8, 0.2)
    assert np.isnan([look.whole(1), look.probability(1, ("full", ""))[0]]).all()
    assert np.isnan(look.of_answer(1, np.ones((2, 3, 2)))).shape == (2, 3)


def test_the_room_of_a_normalised_flip_rate_is_that_of_the_records_behind_it():
    rate, random = np.array([1.0, 0.0, np.nan, np.nan]), np.array([0.2, 0.0, np.nan, np.nan])
    full = np.array([1.0, 1.0, 0.0, 0.0])  # on all four there is room of 0.4, on the two that count of 0.9
    columns = {"flip_rate": rate, "flip_rate.random": random, "flip_rate.full": full}
    value = summarise._estimate("flip_rate_normalised", columns, summarise.Settings(resamples=100))
    assert (value.value, value.n) == (pytest.approx(0.4 / 0.9), 2)
    columns["flip_rate.full"] = np.array([0.1, 0.1, 1.0, 1.0])  # room on all four, none on the two
    value = summarise._estimate("flip_rate_normalised", columns, summarise.Settings(resamples=100))
    assert (value.value, value.n) == (None, 2)
