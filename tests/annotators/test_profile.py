"""Style cards: counted by hand."""

import pytest

from panel import panel
from raison.annotators.profile import card, profile_of
from raison.annotators.responses import Response

TEXTS = (
    "Not clear.", "Not clear.", "not  clear.",  # white space apart, the third is another: it begins small
    "It does not say so.", "It does not say that!", "It does not", "it might be 'true' of him",
    "Perhaps so; he doesn't.",
)  # fmt: skip


def answers(texts=TEXTS, who="a"):
    labels = ["neutral"] * 5 + ["entailment"] * 3
    return [
        Response(f"i{i}", who, labels[i], text, extra={"category": ["x", "y"] if i == 0 else "x" if i < 3 else []})
        for i, text in enumerate(texts)
    ]


def test_habits_are_counted():
    found = profile_of("a", [*answers(), *answers(("Loud!",) * 3, "b"), Response("z", "a", None, None)])
    assert (found.answers, found.explained) == (9, 8)
    assert found.labels == {"neutral": 5 / 8, "entailment": 3 / 8}
    assert found.words == (2, 3.5, 5)  # of 2 2 2 3 4 5 5 6
    assert found.whole == {}  # two times only
    assert found.openings == {}
    assert found.hedges == 2 / 8  # might, perhaps
    assert found.negations == 7 / 8  # all but `it might be`
    assert found.quotes == 1 / 8  # 'true', not doesn't
    assert found.full_stops == 5 / 8
    assert found.small_starts == 2 / 8
    assert found.categories == {"x": 3 / 4, "y": 1 / 4}


def test_what_is_used_again_and_again_is_named():
    texts = ["Not clear."] * 4 + [f"It does not say {i}" for i in range(3)] + ["one", "two words", "It does not"]
    found = profile_of("a", [Response(f"i{i}", "a", "neutral", text) for i, text in enumerate(texts)])
    assert found.whole == {"Not clear.": 0.4}
    assert found.openings == {"It does not": 0.3}  # the text of just these words is no opening


def test_a_card_says_it_in_sentences():
    assert card(profile_of("a", answers())).splitlines() == [
        "Your labels: neutral (62%), entailment (38%).",
        "Your explanations have about 4 words; half of them have 2 to 5.",
        "You sometimes (25%) use words of doubt (may, probably, seems).",
        "You often (88%) use a negation.",
        "You sometimes (12%) put words in quotation marks.",
        "You often (62%) end with a full stop.",
        "You sometimes (25%) begin with a small letter.",
        "Your kinds of reasons: x (75%), y (25%).",
    ]


@pytest.mark.parametrize("said", [[], [Response("i", "b", "neutral", "t")]])
def test_of_a_person_without_answers_nothing_is_said(said):
    assert card(profile_of("a", said)) == ""


def test_labels_without_explanations_and_the_other_way_round():
    assert card(profile_of("a", [Response("i", "a", "neutral", None)])) == "Your labels: neutral (100%)."
    only = card(profile_of("a", [Response("i", "a", None, "So.")]))
    assert only.startswith("Your explanations have about 1 words")


def test_the_order_of_the_answers_makes_no_difference():
    said = [Response(one.id, "a", "neutral", f"always the same {i % 3}") for i, one in enumerate(panel())]
    assert profile_of("a", said) == profile_of("a", said[::-1])
