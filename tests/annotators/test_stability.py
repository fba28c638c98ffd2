"""Stability: values by hand and slow loops, permutations that keep what they must, people who are and are not there."""

import io
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from rich.console import Console
from scipy import stats
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from pages import HOSTILE, Reader, chromium_running, in_a_browser, look_at
from raison.annotators import crossfit
from raison.annotators.attribution import Identification, fit_attributor, identify, identify_scores, log_softmax
from raison.annotators.responses import Response, responses_of
from raison.annotators.stability import Plan, _law, accuracy_of, d_prime_of, stability
from raison.annotators.stability_cells import stability_cells
from raison.annotators.variance import (
    association,
    halves,
    permuted_people,
    split_half,
    upper_tail,
    variance_share,
    without_item,
)
from raison.annotators.vectors import fit_vectors, normalised, part_vectors
from raison.annotators.verdict import Layer, conclude, traits_of
from raison.annotators.views import VIEWS, labels_of, surface_statistics
from raison.evaluation.statistics import Estimate
from raison.records import Annotation, InputError, Record
from raison.report.stability import stability_html, stability_table

WORDS = [
    "street",
    "bill",
    "room",
    "breakfast",
    "quiet",
    "loud",
    "cheap",
    "steep",
    "wide",
    "narrow",
    "fresh",
    "stale",
    "harbour",
    "station",
    "castle",
    "forest",
]
QUICK = Plan(ks=(1, 2, 5), permutations=99, resamples=20)


def crowd(items=40, people=4, seed=0, habit=lambda person, text: text, label=lambda person, rng: None):
    """Make people who say random words of an item, each with a habit of their own."""
    rng = np.random.default_rng(seed)
    records = []
    for item in range(items):
        topic = list(rng.choice(WORDS, 6, replace=False))
        notes = []
        for person in range(people):
            said = " ".join(rng.choice(topic, 4, replace=False)) + " indeed"
            given = label(person, rng) or str(rng.choice(["yes", "no"]))
            notes.append(Annotation(f"p{person}", given, None, habit(person, said)))
        records.append(
            Record(f"i{item:03}", {"text": " ".join(topic)}, annotations=tuple(notes), label_set=("no", "yes"))
        )
    return records


def phrases(person, text):
    return f"{['for me', 'all in all', 'as they say', 'so to speak'][person]} {text}"


def stops(person, text):
    return text + (".", "", "!!", ", ,")[person]


# ------------------------------------------------------------------------------------------- vectors, views


def test_vectors_know_only_what_they_were_fitted_on():
    encode = fit_vectors(["a cat sat", "a dog sat", "the cat ran"], "words")
    assert_allclose(encode(["zebra"]), 0)
    assert_allclose(encode(["A cat, sat!"]), encode(["a cat sat"]))
    assert np.isfinite(fit_vectors(["", ""], "words")(["x"])).all()
    with pytest.raises(ValueError, match="unknown vectors 'wrods'"):
        fit_vectors(["a"], "wrods")
    with pytest.raises(ValueError, match="no text"):
        fit_vectors([], "chars")


@pytest.mark.parametrize("kind", ["words", "chars"])
def test_vectors_of_parts_are_those_of_a_pipeline_fitted_on_each(kind):
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(WORDS, 5)) + "." for _ in range(40)]
    parts = [rng.random(40) < 0.7 for _ in range(2)]
    settings = {"analyzer": "char", "ngram_range": (2, 5)} if kind == "chars" else {
        "ngram_range": (1, 2), "token_pattern": r"\w+"}  # fmt: skip
    for part, found in zip(parts, part_vectors(texts, kind, parts, dimensions=6), strict=True):
        terms = TfidfVectorizer(min_df=2, **settings)
        known = terms.fit_transform([text for text, there in zip(texts, part, strict=True) if there])
        wanted = TruncatedSVD(6, algorithm="arpack", random_state=0).fit(known).transform(terms.transform(texts))
        assert_allclose(found * np.sign((found * wanted).sum(axis=0)), wanted, atol=1e-9)


def test_more_texts_than_are_projected_exactly_are_projected_alike(monkeypatch):
    rng = np.random.default_rng(4)
    texts, part = [" ".join(rng.choice(WORDS, 5)) for _ in range(60)], [np.ones(60, dtype=bool)]
    exact = part_vectors(texts, "words", part, dimensions=4)[0]
    monkeypatch.setattr("raison.annotators.vectors.EXACT", 10)
    found = part_vectors(texts, "words", part, dimensions=4)[0]
    assert 0.95 < (found**2).sum() / (exact**2).sum() < 1 + 1e-9


def test_vectors_of_parts_without_terms_are_zeros():
    everything = np.ones(3, dtype=bool)
    assert_allclose(part_vectors(["", " ", "."], "words", [everything])[0], np.zeros((3, 1)))
    only = part_vectors(["", "", "a b"], "words", [np.array([True, True, False])])[0]
    assert_allclose(only, np.zeros((3, 1)))
    rare = part_vectors(["a", "b", "c"], "words", [everything])[0]  # no term is in two texts
    assert rare.shape[0] == 3
    assert np.abs(rare).sum() > 0


def test_an_encoder_is_run_once_for_all_parts():
    seen = []
    found = part_vectors(["a", "bb"], lambda texts: seen.append(texts) or np.ones((2, 3)), [np.ones(2, dtype=bool)] * 5)
    assert len(seen) == 1
    assert len(found) == 5


def test_a_callable_is_taken_as_it_is():
    attributor = fit_attributor(
        ["a", "bb", "a", "bb"], ["x", "y"] * 2, vectors=lambda texts: np.array([[len(t)] for t in texts])
    )
    assert attributor.people == ("x", "y")
    assert attributor.log_probabilities(attributor.vectors(["bb"])).argmax() == 1


def test_surface_statistics_by_hand():
    found = surface_statistics(' "Two, words." ')
    assert_allclose(surface_statistics("it's")[4], 0)  # an apostrophe is no quotation mark
    assert_allclose(found, [math.log(3), 6.0, math.log(2), 0, math.log(3), 0, math.log(2), 1])


def test_habits_of_the_surface_are_counts_as_a_reader_counts():
    texts = {"ann": ["a, b, c", "one two three four five"], "ben": ["ab", "cd,"]}
    given = [Response("1", who, None, text) for who, own in texts.items() for text in own]
    found = {(one.annotator, one.what): one for one in traits_of(given, ("ann", "ben"))}
    words = found["ann", "number of words"]
    assert (words.own, words.others) == (4.0, 1.0)
    logs = np.log1p([3, 5, 1, 1])
    assert_allclose(words.z, (logs[:2].mean() - logs[2:].mean()) / logs.std())
    commas = found["ann", "commas"]
    assert (commas.own, commas.others) == (1.0, 0.5)


def test_words_from_the_input_are_content_words():
    records = [
        Record("1", {"text": "The cat is on a mat"}, annotations=(Annotation("a", "yes", None, "the cat is asleep"),))
    ]
    said = responses_of(records)
    assert VIEWS["from-input"].of(said, records) == ["cat"]
    assert VIEWS["not-from-input"].of(said, records) == ["the is asleep"]
    assert VIEWS["function-words"].of(said, records) == ["the is"]
    assert normalised("It's,  SO.") == "it s so"


def test_words_for_the_parts_of_an_item_are_no_content():
    note = Annotation("a", "yes", None, "the premise doesn't say the main claim of Q1")
    records = [Record("1", {"main_claim": "a claim on Q1"}, annotations=(note,))]
    said = responses_of(records)
    assert VIEWS["content-words"].of(said, records) == ["say"]
    assert VIEWS["function-words"].of(said, records) == ["the doesn t the of"]
    assert VIEWS["from-input"].of(said, records) == [""]


def test_ratings_on_both_sides_of_zero_are_signs():
    records = [
        Record("1", {"t": "x"}, annotations=tuple(Annotation(str(i), v) for i, v in enumerate(("-5", "0", "3"))))
    ]
    assert labels_of(responses_of(records)) == ["−", "0", "+"]
    records = [Record("1", {"t": "x"}, annotations=tuple(Annotation(str(i), v) for i, v in enumerate(("1", "5"))))]
    assert labels_of(responses_of(records)) == ["1", "5"]


# ------------------------------------------------------------------------------------------- attribution


def test_the_answer_to_a_group_is_that_to_its_mean_vector():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(60, 3))
    attributor = fit_attributor([str(i) for i in range(60)], ["a", "b", "c"] * 20,
                                vectors=lambda texts: table[[int(text) for text in texts]])  # fmt: skip
    group = table[[1, 5, 9, 12]]
    by_mean = attributor.log_probabilities(group.mean(axis=0, keepdims=True))[0]
    assert_allclose(log_softmax(attributor.log_probabilities(group).mean(axis=0)), by_mean, atol=1e-10)


def test_identification_by_hand_at_one():
    scores = np.log(np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]]))
    found = identify_scores(scores, np.array([0, 0, 1, 1]), 1, resamples=0)
    assert found.accuracy.value == 0.75  # a: 1 of 2, b: 2 of 2
    assert found.confusion == ((0.5, 0.5), (0.0, 1.0))
    assert_allclose(found.log_loss, -np.mean([np.mean(np.log([0.9, 0.4])), np.mean(np.log([0.8, 0.7]))]))


def test_groups_larger_than_what_is_there_are_undefined():
    found = identify_scores(np.zeros((5, 2)), np.array([0, 0, 0, 1, 1]), 3)
    assert found.accuracy.value is None
    assert found.log_loss is None
    assert found.confusion == ()
    assert found.undefined == "a person has 2 texts, fewer than 3"
    attributor = fit_attributor(["a b", "c d"] * 3, ["x", "y"] * 3)
    with pytest.raises(ValueError, match="unknown person 'z'"):
        identify(attributor, attributor.vectors(["a b"]), ["z"], 1)


def test_d_prime_inverts_and_equals_the_known_case_of_two():
    assert_allclose(accuracy_of(1.0, 2), stats.norm.cdf(1 / math.sqrt(2)), atol=1e-6)
    assert_allclose(accuracy_of(0.0, 4), 0.25, atol=1e-6)
    assert_allclose(d_prime_of(accuracy_of(1.7, 4), 4), 1.7, atol=1e-6)
    assert d_prime_of(0.2, 4) == 0
    assert d_prime_of(1.0, 4) == math.inf


# ------------------------------------------------------------------------------------------- variance, permutations


def test_variance_share_by_hand():
    vectors, groups = np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 0, 1, 1])
    assert_allclose(variance_share(vectors, groups, permutations=0).value, 16 / 20)  # 2 * 2^2 * 2 of 9 + 1 + 1 + 9
    assert variance_share(np.ones((4, 1)), groups).value is None


def test_the_null_of_a_variance_share_is_groups_less_one_over_n_less_one():
    found = variance_share(np.random.default_rng(0).normal(size=(400, 5)), np.repeat(np.arange(100), 4))
    assert abs(found.null - 99 / 399) < 0.01
    assert abs(found.value - found.null) < 0.06


def test_residuals_leave_oneself_out():
    vectors, items = np.array([[1.0], [2.0], [6.0], [5.0]]), np.array([0, 0, 0, 1])
    assert_allclose(without_item(vectors, items), [[-3], [-1.5], [4.5], [0]])


def test_permutations_stay_within_items():
    items = np.repeat(np.arange(30), 3)
    people = np.tile([0, 1, 3], 30)
    found = permuted_people(people, items, 50)
    for row in found:
        assert all(sorted(row[items == item]) == [0, 1, 3] for item in range(30))
    shares = [(found[:, 3 * item] == 1).mean() for item in range(30)]
    assert abs(np.mean(shares) - 1 / 3) < 0.04


def test_split_half_equals_a_slow_loop():
    rng = np.random.default_rng(1)
    vectors, items = rng.normal(size=(60, 4)), np.repeat(np.arange(20), 3)
    people, first = np.tile(np.arange(3), 20), halves(items)
    centroid = {(p, h): vectors[(people == p) & (first == h)].mean(axis=0) for p in range(3) for h in (True, False)}

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    own = np.mean([cosine(centroid[p, True], centroid[p, False]) for p in range(3)])
    others = np.mean([cosine(centroid[p, True], centroid[q, False]) for p in range(3) for q in range(3) if p != q])
    assert_allclose(split_half(vectors, people[None], first, 3), own - others)


def test_least_squares_of_many_assignments_equals_a_fit_of_each():
    rng = np.random.default_rng(2)
    items = np.repeat(np.arange(20), 3)
    people = np.tile(np.arange(3), 20)
    folds = crossfit.folds_of(items, 5, 0)
    units = crossfit.Units(np.arange(60), items, people, np.zeros(60, dtype=int), folds)
    parts = crossfit.number_folds(rng.normal(size=(60, 4)), units)
    owners = permuted_people(people, items, 3)
    found = crossfit.least_squares_scores(parts, owners, 3)
    from sklearn.linear_model import Ridge

    for draw, whose in enumerate(owners):
        for vectors, train in parts:
            fitted = Ridge(alpha=crossfit.PENALTY).fit(vectors[train], np.eye(3)[whose[train]])
            assert_allclose(found[draw, ~train], fitted.predict(vectors[~train]), atol=1e-5)


def test_association_by_hand():
    found = association(["x"] * 10 + ["y"] * 10 + [""], ["a"] * 8 + ["b"] * 2 + ["a"] * 2 + ["b"] * 8 + ["a"])
    assert_allclose([found.chi2, found.v], [7.2, 0.6])  # 20 (8 8 - 2 2)^2 / 10^4
    assert found.n == 20
    assert found.df == 1
    assert association(["x", "x"], ["a", "b"]) is None


# ------------------------------------------------------------------------------------------- the whole


@pytest.mark.parametrize(("habit", "layer"), [(phrases, "phrasing"), (stops, "surface")])
def test_a_planted_habit_is_found_and_its_layer_named(habit, layer):
    found = stability(crowd(habit=habit), ("raw", "not-from-input", "surface", "label"), plan=QUICK)
    assert found.finding.stable
    assert found.finding.items_needed <= 2
    first = next(one for one in found.finding.layers if one.name != "all")
    assert first.name == layer
    assert "label" not in {one.name for one in found.finding.layers if one.p_holm <= 0.05}
    assert {"phrasing": "mostly phrasing", "surface": "only punctuation"}[layer] in found.finding.words


def test_accuracy_that_all_but_stands_still_needs_no_number_of_items():
    flat = [
        Identification(k, Estimate(value=value, low=None, high=None, n=9), None, (), 0.25)
        for k, value in ((1, 0.29), (5, 0.2901))
    ]
    exponent, needed = _law(flat, 4)
    assert 0 < exponent < 0.01
    assert needed is None


def test_items_needed_are_those_of_another_view_where_the_whole_is_not_looked_at():
    found = stability(crowd(habit=stops), ("surface",), plan=QUICK)
    assert found.finding.items_needed == found.at("surface").items_needed <= 2
    assert found.finding.words.startswith("learnable from about")


def test_a_planted_label_bias_is_named():
    lean = (0.95, 0.05, 0.95, 0.05)
    people = crowd(60, label=lambda person, rng: "yes" if rng.random() < lean[person] else "no")
    found = stability(people, ("raw", "not-from-input", "surface", "label"), plan=QUICK)
    assert found.finding.words.endswith("only label bias")
    assert {trait.annotator for trait in found.finding.traits if trait.layer == "label"} == {"p0", "p1", "p2", "p3"}


def test_nobody_is_found_where_nobody_is():
    found = stability(crowd(seed=5), plan=QUICK)
    assert found.finding.words == "no stable signal; not tested: kind of reasoning"
    assert not found.finding.traits
    assert found.notes == ("view category: not tested: no record has a category",)


def test_the_order_of_records_does_not_matter():
    records = crowd(20, habit=phrases)
    first, second = (stability(order, ("normalised", "label"), plan=QUICK) for order in (records, records[::-1]))
    assert stability_cells(first) == stability_cells(second)


def test_what_cannot_be_looked_at_is_an_error_of_one_line():
    with pytest.raises(InputError, match="unknown view 'nomralised'"):
        stability(crowd(), ("nomralised",))
    with pytest.raises(InputError, match="2 people or more with 10 items or more each, got 0 of 4"):
        stability(crowd(5))
    missing = "nothing can be tested; view category: not tested: no record has a category$"
    with pytest.raises(InputError, match=missing):
        stability(crowd(), ("category",), plan=QUICK)
    alike = crowd(label=lambda person, rng: "yes")
    with pytest.raises(InputError, match="view label: not tested: all have the same; view category: not tested: no "):
        stability(alike, ("label", "category"), plan=QUICK)
    with pytest.raises(InputError, match=r"nothing can be tested; no view is asked for$"):
        stability(crowd(), (), plan=QUICK)


def test_what_was_not_tested_is_not_called_unstable():
    assert conclude([], None, [], ["reasoning", "label"]).words == "not tested: kind of reasoning, label bias"
    found = stability(crowd(), ("function-words", "category"), plan=QUICK)
    assert found.finding.words == "not tested: kind of reasoning"
    assert stability(crowd(), ("normalised",), plan=QUICK).finding.words == "not tested: these views stand for no layer"
    assert "not tested: kind of reasoning" in stability_html(found)


def test_p_values_of_shuffled_people_are_uniform():
    """200 crowds in which nobody has habits: a discrete p is uniform on 1/40, ..., 1; KS on its randomised form."""
    rng, found = np.random.default_rng(0), {"accuracy": [], "S": []}
    items, people = np.repeat(np.arange(30), 4), np.tile(np.arange(4), 30)
    folds, first = crossfit.folds_of(items, 5, 0), halves(items)
    units = crossfit.Units(np.arange(120), items, people, np.zeros(120, dtype=int), folds)
    for seed in range(300):
        table = rng.normal(size=(120, 4)) + rng.normal(size=(30, 4))[items]  # content of items, nothing of people
        parts = crossfit.item_residuals(crossfit.number_folds(table, units), units)
        owners = np.vstack([people, permuted_people(people, items, 39, seed)])
        scores = crossfit.least_squares_scores(parts, owners, 4)
        for name, draws in (
            ("accuracy", crossfit.accuracies(scores, owners, 5, 40, seed)),
            ("S", split_half(parts[0].vectors, owners, first, 4)),
        ):
            above = (draws[1:] > draws[0] + 1e-9).sum()
            equal = (np.abs(draws[1:] - draws[0]) <= 1e-9).sum()
            found[name].append((above + rng.random() * (1 + equal)) / 40)
            assert upper_tail(draws[0], draws[1:]) >= found[name][-1] - 1e-12
    for name, values in found.items():
        assert stats.kstest(values, "uniform").pvalue > 0.01, name


@pytest.mark.slow
def test_the_verdict_finds_nothing_at_its_level():
    false = sum(
        stability(crowd(25, seed=seed), ("raw", "not-from-input", "surface", "label"),
                  plan=Plan((1,), 99, 0, seed)).finding.stable
        for seed in range(200)
    )  # fmt: skip
    assert false <= stats.binom.ppf(0.99, 200, 0.05)


def test_holm_stands_between_a_layer_and_the_verdict():
    layers = [Layer("surface", "surface", 0.4, 0.25, 0.03), Layer("label", "label", 0.3, 0.25, 0.5)]
    assert conclude(layers, 5, []).words == "no stable signal"
    layers[0] = Layer("surface", "surface", 0.4, 0.25, 0.01)
    assert conclude(layers, 5, []).words == "learnable from about 5 items; only surface (length, punctuation)"


# ------------------------------------------------------------------------------------------- what is shown


def test_the_table_and_the_page_say_what_was_found():
    found = stability(crowd(habit=phrases), plan=QUICK)
    stream = io.StringIO()
    Console(file=stream, width=100).print(stability_table(found))
    assert found.finding.words in stream.getvalue()
    assert max(map(len, stream.getvalue().splitlines())) <= 100
    html = stability_html(found)
    page = Reader(html)
    assert found.finding.words in page.text
    assert stability_html(found) == html
    cell = next(
        cell for cell in stability_cells(found) if (cell.metric, cell.source) == ("accuracy_1", "normalised/none")
    )
    assert f"{cell.value:.2f}" in page.text
    assert cell.frame == {"chance": 0.25}


@in_a_browser
def test_the_page_stands_in_a_browser(tmp_path):
    records = crowd(habit=phrases)
    named = [
        Record(record.id, record.fields, annotations=tuple(
            Annotation(HOSTILE[place] or "empty", note.label, None, note.explanation, {"category": HOSTILE[place % 2]})
            for place, note in enumerate(record.annotations)), label_set=record.label_set)
        for record in records
    ]  # fmt: skip
    with chromium_running() as browser:
        look_at(browser, stability_html(stability(named, plan=QUICK)), tmp_path / "page.html")
