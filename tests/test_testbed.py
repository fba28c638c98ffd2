"""The testbed: the planted words are those that the rule reads, each of them is needed, and grades follow from them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from raison.attribution import extract
from raison.evaluation import evaluate
from raison.evaluation.alignment import mean_pairwise_f1
from raison.evaluation.diagnosticity import GRADED, diagnosticity
from raison.evaluation.extras import EXTRAS
from raison.evaluation.faithfulness import comprehensiveness, flips, ratio_masks, sufficiency
from raison.evaluation.statistics import bootstrap_mean
from raison.masking import apply, make_operator
from raison.models.scorer import softmax
from raison.rationales import WordScores
from raison.records import InputError, problems, read_records, write_records
from raison.testbed import (
    LABELS,
    Person,
    grade_metric,
    grade_scores,
    lexicon,
    make_corpus,
    rivals,
    rule_label,
    truth_mask,
)
from raison.training import small, small_model
from raison.words import human_masks, word_grid

KINDS = ("single", "pair")
OTHER_POLE = {"praise": "blame", "blame": "praise"} | {
    (family, pole): (family, 1 - pole) for family, pole in lexicon.CONCEPTS
}
CONCEPT_OF = {
    word: name for table in (lexicon.OPINIONS, lexicon.CONCEPTS) for name, words in table.items() for word in words
}


@st.composite
def texts(draw, **options):
    """One record of a corpus: any kind, seed and length."""
    kind = draw(st.sampled_from(KINDS))
    length = draw(st.integers(1, 5))
    return make_corpus(kind, 1, draw(st.integers(0, 10**6)), length=length, **options)[0]


def words_of(record):
    """Yield (field, start, end, word without punctuation in lower case, whether it is planted) for every word."""
    grid = word_grid(record)
    planted = grid.split(truth_mask(record, grid))
    for name, spans in grid.words.items():
        for (start, end), hit in zip(spans, planted[name], strict=True):
            bare = record.fields[name][start:end].rstrip(".,")
            yield name, start, start + len(bare), bare.lower(), bool(hit)


def put(record, name, start, end, word):
    """Give the record's texts with other characters in one place."""
    text = record.fields[name]
    return record.fields | {name: text[:start] + word + text[end:]}


# --------------------------------------------------------------------------------------------------- the rule


@given(texts())
def test_without_noise_the_label_is_the_rules(record):
    assert record.label == record.meta["rule"] == rule_label(record.fields)
    assert record.label in record.label_set
    assert not list(problems(record))


@given(texts())
def test_truth_spans_are_words_and_only_cues_and_negators(record):
    grid = word_grid(record)
    assert record.meta["truth"].keys() == record.fields.keys()
    for name, spans in record.meta["truth"].items():
        assert spans == sorted(spans)
        assert {tuple(span) for span in spans} <= set(grid.words[name])
    planted = [word for *_, word, hit in words_of(record) if hit]
    assert len(planted) == truth_mask(record, grid).sum()
    assert all(word in CONCEPT_OF or word in lexicon.NEGATORS for word in planted)


@given(texts())
def test_both_fields_of_a_pair_have_a_deciding_word_and_neutral_reviews_have_none(record):
    sizes = [len(spans) for spans in record.meta["truth"].values()]
    if "text" in record.fields:
        assert sizes in ([0], [1], [2])
        assert (sizes == [0]) == (record.label == "neutral")
    else:
        assert min(sizes) >= 1
        assert sum(sizes) in (2, 3)


@given(texts())
def test_every_planted_word_is_needed(record):
    """Taken away, the rule gives another label, or none at all."""
    for name, start, end, _, hit in words_of(record):
        if hit:
            assert rule_label(put(record, name, start, end, "[MASK]")) != record.label


@given(texts())
def test_no_other_word_matters(record):
    for name, start, end, word, hit in words_of(record):
        if not hit:
            assert word not in CONCEPT_OF
            assert rule_label(put(record, name, start, end, "[MASK]")) == record.label


@given(texts(), st.randoms(use_true_random=False))
def test_turning_the_concept_of_a_planted_word_turns_the_label(record, chance):
    """A synonym changes nothing, the opposite concept does; unrelated pairs become related by the other's concept."""
    cues = [(place, word) for *place, word, hit in words_of(record) if hit and word in CONCEPT_OF]
    for place, word in cues:
        table = lexicon.CONCEPTS if "premise" in record.fields else lexicon.OPINIONS
        concept = CONCEPT_OF[word]
        assert rule_label(put(record, *place, chance.choice(table[concept]))) == record.label
        if record.label == "neutral":
            other = next(w for p, w in cues if p != place)
            assert rule_label(put(record, *place, chance.choice(table[CONCEPT_OF[other]]))) != "neutral"
        else:
            assert rule_label(put(record, *place, chance.choice(table[OTHER_POLE[concept]]))) not in (
                record.label,
                None,
            )


@given(texts())
def test_a_planted_negator_swaps_two_labels(record):
    swapped = {
        "positive": "negative",
        "negative": "positive",
        "entailment": "contradiction",
        "contradiction": "entailment",
    }
    for name, start, end, word, hit in words_of(record):
        if hit and word in lexicon.NEGATORS:
            assert rule_label(put(record, name, start, end, "really")) == swapped[record.label]


def test_the_rule_says_nothing_of_a_pair_without_a_cue():
    assert rule_label({"premise": "The market was loud.", "hypothesis": "It was there."}) is None
    assert rule_label({"text": "We came by bus."}) == "neutral"


# --------------------------------------------------------------------------------------------------- the corpus


@pytest.mark.parametrize("kind", KINDS)
def test_a_corpus_depends_on_its_seed_alone(kind):
    long, short = make_corpus(kind, 40, 3), make_corpus(kind, 15, 3)
    assert long[:15] == short
    assert long != make_corpus(kind, 40, 4)
    assert len({record.id for record in [*long, *make_corpus(kind, 40, 4)]}) == 80


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_balanced_and_negation_and_distractors_occur(kind):
    records = make_corpus(kind, 900)
    for label in LABELS[kind]:
        assert 240 < sum(record.label == label for record in records) < 360  # 300 +- 4 sd
    marks = [{(word in lexicon.NEGATORS, hit) for *_, word, hit in words_of(record)} for record in records]
    assert sum((True, True) in seen for seen in marks) > 90  # negators that decide
    assert sum((True, False) in seen for seen in marks) > 90  # and that do not
    assert sum(word in lexicon.ADVERBS for record in records for *_, word, _ in words_of(record)) > 90


@pytest.mark.parametrize("kind", KINDS)
def test_what_decides_nothing_tells_nothing_of_the_label(kind):
    """A word that is never planted stands as often in texts of one label as of another.

    But for neutral reviews: the adjective that stands in the place of a word of praise or blame is a plain one.
    """
    records = [r for r in make_corpus(kind, 1500) if kind == "pair" or r.label != "neutral"]
    share = {label: np.mean([r.label == label for r in records]) for label in {r.label for r in records}}
    found = {}
    for record in records:
        for word in {word for *_, word, _ in words_of(record)}:
            found.setdefault(word, []).append(record.label)
    for word in found.keys() - CONCEPT_OF.keys() - set(lexicon.NEGATORS):
        for label, expected in share.items():
            count = len(found[word])
            spread = np.sqrt(count * expected * (1 - expected))
            assert abs(found[word].count(label) - count * expected) < 5 * spread + 1, word


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_a_share_of_wrong_labels(kind):
    clean, noisy = make_corpus(kind, 600, 5), make_corpus(kind, 600, 5, noise=0.2)
    wrong = [record.label != record.meta["rule"] for record in noisy]
    assert 0.2 - 4 * 0.0163 < np.mean(wrong) < 0.2 + 4 * 0.0163  # sd = sqrt(.2 * .8 / 600)
    assert [record.fields for record in noisy] == [record.fields for record in clean]
    assert all(record.label in record.label_set for record in noisy)
    assert all(a.label == record.meta["rule"] for record in noisy for a in record.annotations)
    assert all(record.label != record.meta["rule"] for record in make_corpus(kind, 50, noise=1.0))


def test_length_is_the_number_of_sentences():
    for length in (1, 2, 6):
        assert {r.fields["text"].count(".") for r in make_corpus("single", 30, length=length)} == {length}
        assert {r.fields["premise"].count(".") for r in make_corpus("pair", 30, length=length)} == {length}


def test_records_survive_the_disk(tmp_path):
    records = make_corpus("pair", 20, noise=0.3)
    write_records(tmp_path / "pairs.jsonl", records)
    assert list(read_records(tmp_path / "pairs.jsonl")) == records


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("triple", 3), {}, "unknown corpus 'triple'; expected one of single, pair"),
        (("single", -1), {}, "size"),
        (("single", 3), {"length": 0}, "length"),
        (("single", 3), {"noise": 1.5}, "noise"),
    ],
)
def test_what_cannot_be_made_is_said_in_a_line(arguments, options, message):
    with pytest.raises(InputError, match=message):
        make_corpus(*arguments, **options)


# --------------------------------------------------------------------------------------------------- the people


@given(texts(people=(Person("exact"), Person("blind", miss=1), Person("keen", extra=1), Person("wide", extend=1))))
def test_people_mark_as_they_are(record):
    grid = word_grid(record)
    truth = truth_mask(record, grid)
    exact, blind, keen, wide = human_masks(record, grid)
    np.testing.assert_array_equal(exact, truth)
    assert not blind.any()
    assert keen.all()
    assert (wide >= truth).all()
    assert truth.sum() <= wide.sum() <= 2 * truth.sum()
    assert [annotation.annotator for annotation in record.annotations] == ["exact", "blind", "keen", "wide"]


@pytest.mark.parametrize("kind", KINDS)
def test_people_agree_but_not_fully(kind):
    records = [record for record in make_corpus(kind, 300) if any(record.meta["truth"].values())]
    people = [human_masks(record, word_grid(record)) for record in records]
    assert all(len(mask) == 3 for mask in people)
    assert 0.6 < mean_pairwise_f1(people).value < 0.95


def test_a_record_of_elsewhere_has_no_truth(tiny):
    record = tiny.records()[0]
    with pytest.raises(InputError, match="no planted truth"):
        truth_mask(record, word_grid(record))


# --------------------------------------------------------------------------------------------------- grades


def scored(record, flat):
    """Make scores of a flat array."""
    return WordScores(record.id, "test", None, word_grid(record).split(np.asarray(flat, dtype=np.float32)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_has_full_recall_and_its_opposite_none(kind):
    records = make_corpus(kind, 60)
    truth = [truth_mask(record, word_grid(record)) for record in records]
    best = grade_scores([scored(r, mask) for r, mask in zip(records, truth, strict=True)][::-1], records)
    worst = grade_scores([scored(r, ~mask) for r, mask in zip(records, truth, strict=True)], records)
    assert (best.value, worst.value) == (1.0, 0.0)
    assert len(best.values) == sum(mask.any() for mask in truth)
    assert best.chance == pytest.approx(np.mean([mask.mean() for mask in truth if mask.any()]))


def test_recall_by_hand():
    record = next(r for r in make_corpus("single", 50) if len(r.meta["truth"]["text"]) == 2)
    truth = truth_mask(record, word_grid(record))
    first, second = np.flatnonzero(truth)
    scores = np.zeros(len(truth))
    scores[first], scores[np.flatnonzero(~truth)[0]], scores[second] = 3, 2, 1  # one of the two highest is planted
    assert grade_scores([scored(record, scores)], [record]).values == (0.5,)
    scores[first] = np.nan  # never seen by the model: never chosen; the highest two are then 2 and 1
    assert grade_scores([scored(record, scores)], [record]).values == (0.5,)


def test_random_scores_are_at_chance():
    rng = np.random.default_rng(0)
    records = make_corpus("pair", 800)
    grade = grade_scores([scored(r, rng.random(len(word_grid(r)))) for r in records], records)
    interval = bootstrap_mean(grade.values, level=0.999)
    assert interval.low < grade.chance < interval.high


def test_grades_without_anything_to_grade():
    neutral = [record for record in make_corpus("single", 30) if record.label == "neutral"]
    grade = grade_scores([scored(r, np.ones(len(word_grid(r)))) for r in neutral], neutral)
    assert grade.values == ()
    assert np.isnan(grade.value)
    assert np.isnan(grade.chance)
    with pytest.raises(InputError, match="has no scores"):
        grade_scores([], neutral)


def test_a_metric_is_graded_by_what_it_sets_above():
    records = make_corpus("pair", 60)
    truth = [truth_mask(record, word_grid(record)) for record in records]

    def overlap(masks):
        return [float((mask & true).sum()) for mask, true in zip(masks, truth, strict=True)]

    assert grade_metric(overlap, records).value > 0.98  # a random mask is the true one now and then: a tie
    assert grade_metric(lambda masks: [-x for x in overlap(masks)], records).value < 0.02
    constant = grade_metric(lambda masks: [0.0] * len(masks), records)
    assert (constant.value, constant.chance, len(constant.values)) == (0.5, 0.5, 60)
    sizes = []
    grade_metric(lambda masks: sizes.append([mask.sum() for mask in masks]) or overlap(masks), records)
    assert sizes[0] == sizes[1]  # the random rationale is as large as the true one


# --------------------------------------------------------------------------------------------------- small models


@pytest.fixture(scope="module", params=KINDS)
def learned(request, trained):
    """A small model of each kind, and records that it has not seen."""
    return trained(request.param), make_corpus(request.param, 200, 1000)


def behaviour(model, records):
    """Give each faithfulness metric as `grade_metric` takes it; of the masks of rationales, higher is better."""
    operator = make_operator("mask", model.tokenizer)
    tokens = model.encode(records)
    whole = softmax(model.logits(tokens))
    target = whole.argmax(axis=1)

    def asked(masks):
        inputs = [apply(operator, row, mask[None])[0] for row, mask in zip(tokens, masks, strict=True)]
        return softmax(model.logits(inputs))

    def probability(table):
        return table[np.arange(len(table)), target]

    def area(masks):
        columns = zip(*(ratio_masks(mask.astype(float)) for mask in masks), strict=True)
        return np.mean(
            [comprehensiveness(probability(whole), probability(asked(column))) for column in columns], axis=0
        )

    return {
        "flip rate": lambda masks: flips(target.tolist(), asked(masks).argmax(axis=1).tolist()),
        "comprehensiveness": lambda masks: comprehensiveness(probability(whole), probability(asked(masks))),
        "sufficiency": lambda masks: -sufficiency(probability(whole), probability(asked([~mask for mask in masks]))),
        "AOPC": area,
    }


def test_a_small_model_depends_on_its_seed_alone(monkeypatch):
    monkeypatch.setattr(small, "STEPS", 3)
    monkeypatch.setattr(small, "RECORDS", 150)
    torch.manual_seed(7)
    done = []
    first = small_model("single", 1, lambda share: done.append(round(3 * share)))
    again, other = (small_model("single", seed).model.state_dict() for seed in (1, 2))
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.model.state_dict().items())
    assert not torch.equal(first.model.classifier.weight, other["classifier.weight"])
    assert (first.name, done) == ("testbed-single-1", [1, 2, 3])


@pytest.mark.slow
def test_a_small_model_learns_the_rule(learned):
    model, records = learned
    assert np.mean([p.label == r.label for p, r in zip(model.predict(records), records, strict=True)]) >= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion"])
def test_explainers_find_the_planted_words(learned, method):
    model, records = learned
    grade = grade_scores(extract(model, records, method), records)
    assert grade.value >= 0.9
    assert grade.chance < 0.15


@pytest.mark.slow
def test_random_scores_of_a_model_are_at_chance(learned):
    model, records = learned
    grade = grade_scores(extract(model, records, "random"), records)
    interval = bootstrap_mean(grade.values, level=0.99)
    assert interval.low < grade.chance < interval.high


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["flip rate", "comprehensiveness", "sufficiency", "AOPC"])
def test_metrics_rank_the_truth_above_a_random_rationale(learned, metric):
    model, records = learned
    grade = grade_metric(behaviour(model, records)[metric], records)
    assert bootstrap_mean(grade.values).low > 0.6  # 1/2 is no knowledge


@pytest.mark.slow
def test_metrics_know_the_planted_words_from_others(learned):
    """On a model whose reasons are known, every metric is above chance (Zaman and Srivastava 2025)."""
    model, records = learned[0], learned[1][:60]
    options = {"budget": "match:truth", "one_out": True, "beam": 1, "draws": 10}
    verdict = evaluate(model, records, rivals(records), also=list(EXTRAS), tuned=model, **options)
    for against in ("random_words", "distractors"):
        found = diagnosticity(verdict.items, "planted", against)
        assert set(found) == set(GRADED)
        assert [name for name, one in found.items() if not one.informative] == []
        assert found["comprehensiveness"].estimate.value > 0.9


@pytest.mark.slow
def test_any_tool_can_load_a_small_model(learned, tmp_path):
    model, records = learned
    model.model.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    network = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    texts = [list(record.fields.values()) for record in records[:20]]
    encoded = tokenizer(*map(list, zip(*texts, strict=True)), padding=True, return_tensors="pt")
    with torch.inference_mode():
        again = network(**encoded).logits.argmax(dim=1).tolist()
    assert [network.config.id2label[label] for label in again] == [p.label for p in model.predict(records[:20])]
