"""Examples: which of a person's answers are shown, against slow definitions."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panel import LABELS, item, panel
from raison.annotators.examples import SELECTS, Examples
from raison.annotators.responses import Response, responses_of
from raison.records import InputError, Record

TOPICS = (
    "dogs cats birds",
    "dogs cats fish",
    "cars trains planes",
    "cars trains ships",
    "red green blue",
    "dogs red cars",
)


def topical():
    """Items of a few topics, all answered by one person."""
    return [Record(f"i{i}", {"text": f"{words} number{i}"}, label_set=LABELS) for i, words in enumerate(TOPICS * 2)]


def said_of(items, who="a"):
    return [Response(one.id, who, LABELS[i % 3], f"text {i}") for i, one in enumerate(items)]


def chosen(examples, record, k, select, who="a"):
    return [said.record_id for _, said in examples.choose(record, who, k, select)]


def cosines(items, asked):
    """TF-IDF by hand: smoothed idf = ln((1 + n) / (1 + df)) + 1, as scikit-learn's default."""
    words = [one.fields["text"].split() for one in items]
    known = sorted({word for some in words for word in some})
    idf = {w: np.log((1 + len(items)) / (1 + sum(w in some for some in words))) + 1 for w in known}

    def vector(some):
        counts = Counter(some)
        raw = np.array([counts[w] * idf[w] for w in known])
        return raw / (np.linalg.norm(raw) or 1)

    return np.array([vector(some) for some in words]), vector(asked.fields["text"].split())


ASKED = Record("new", {"text": "dogs cats birds and unseen words"}, label_set=LABELS)


def test_nearest_are_those_of_the_largest_cosine_the_nearest_last():
    items = topical()
    vectors, asked = cosines(items, ASKED)
    likeness = dict(zip([one.id for one in items], vectors @ asked, strict=True))
    found = chosen(Examples(items, said_of(items)), ASKED, 4, "nearest")
    assert [round(likeness[name], 9) for name in found] == sorted(np.round([*likeness.values()], 9))[-4:]
    assert set(found) == {"i0", "i6", "i1", "i7"}


def test_mmr_against_a_slow_loop():
    items = topical()
    vectors, asked = cosines(items, ASKED)
    made = Examples(items, said_of(items))
    taken = []
    for _ in range(5):

        def gain(i):
            return 0.5 * vectors[i] @ asked - 0.5 * max((vectors[i] @ vectors[j] for j in taken), default=0)

        best = max(gain(i) for i in range(len(items)) if i not in taken)
        found = int(chosen(made, ASKED, len(taken) + 1, "mmr")[0][1:])  # the last chosen is shown first
        assert found not in taken
        assert gain(found) == pytest.approx(best)
        taken.append(found)
    near = [int(name[1:]) for name in chosen(made, ASKED, 5, "nearest")]
    spread = [vectors[i] @ vectors[j] for i in taken for j in taken if i < j]
    assert np.mean(spread) < np.mean([vectors[i] @ vectors[j] for i in near for j in near if i < j])


def test_stratified_keeps_the_person_s_shares():
    items = [item(i, []) for i in range(20)]
    said = [
        Response(one.id, "a", "neutral" if i < 14 else "entailment" if i < 19 else "contradiction", "t")
        for i, one in enumerate(items)
    ]
    made = Examples(items, said)
    new = item(99, [])

    def shares(k):
        return Counter(one.label for _, one in made.choose(new, "a", k, "stratified"))

    assert shares(20) == {"neutral": 14, "entailment": 5, "contradiction": 1}
    assert shares(10) == {"neutral": 7, "entailment": 2, "contradiction": 1}
    assert shares(3) == {"neutral": 1, "entailment": 1, "contradiction": 1}  # each at least once
    assert shares(2).total() == 2
    assert shares(2)["neutral"] >= 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(LABELS), min_size=1, max_size=25), st.integers(1, 30), st.sampled_from(SELECTS))
def test_as_many_as_asked_for_none_twice_never_the_item_itself(labels, k, select):
    items = [item(i, []) for i in range(len(labels))]
    made = Examples(items, [Response(one.id, "a", label, "t") for one, label in zip(items, labels, strict=True)])
    found = chosen(made, items[0], k, select)
    assert len(found) == len(set(found)) == min(k, len(labels) - 1)
    assert items[0].id not in found
    if select == "stratified" and k >= 3 and len(labels) > 1:
        seen = [label for one, label in zip(items, labels, strict=True) if one.id in found]
        assert set(seen) == set(labels[1:])


@pytest.mark.parametrize("select", SELECTS)
def test_the_order_of_records_and_responses_makes_no_difference(select):
    items = topical()
    said = said_of(items)
    one, other = Examples(items, said, 3), Examples(items[::-1], said[::-1], 3)
    assert chosen(one, ASKED, 5, select) == chosen(other, ASKED, 5, select)


def test_another_seed_draws_others_but_the_nearest_stay():
    items = topical()
    one, other = (Examples(items, said_of(items), seed) for seed in (0, 1))
    assert chosen(one, ASKED, 5, "random") != chosen(other, ASKED, 5, "random")
    assert set(chosen(one, ASKED, 4, "nearest")) == set(chosen(other, ASKED, 4, "nearest"))


def test_only_the_person_s_own_and_whole_answers_are_shown():
    items = panel()
    said = [*responses_of(items), Response("i1", "d", None, "t"), Response("i2", "d", "neutral", None)]
    made = Examples(items, said)
    assert {one.annotator for _, one in made.choose(item(99, []), "b", 50, "random")} == {"b"}
    assert made.choose(items[0], "d", 5) == []
    assert made.choose(items[0], "nobody", 5, "mmr") == []


def test_wrong_input():
    with pytest.raises(InputError, match="select 'best': expected random, stratified, nearest, mmr"):
        Examples(panel(), []).choose(item(0, []), "a", 3, "best")
    with pytest.raises(ValueError, match="'i99' is no training item"):
        Examples(panel(), [Response("i99", "a", "neutral", "t")])
