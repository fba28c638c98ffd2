import itertools
from fractions import Fraction

import numpy as np
import pytest

from raison.records import Annotation, InputError, Record, Span, read_records
from raison.sources.explained import common_words, from_explanations, own_agreement
from raison.words import character_words, human_masks, word_grid

FIELDS = {"premise": "A man sleeps on the bench.", "hypothesis": "The man is awake."}


def explained(explanation, name="ann", rationale=None, **more):
    return Record("1", FIELDS, "nli", "no", (), (Annotation(name, "no", rationale, explanation),), **more)


def derived(record, **options):
    annotation = from_explanations([record], **options)[0].annotations[-1]
    return annotation.annotator, {
        name: [record.fields[name][slice(*span)] for span in spans] for name, spans in annotation.rationale.items()
    }


def test_the_words_an_explanation_names_are_marked_in_every_field():
    name, marked = derived(explained("Who 'sleeps' can't be AWAKE; a man!"))
    assert name == "explanation:ann"
    assert marked == {"premise": ["A man sleeps"], "hypothesis": ["man", "awake."]}


def test_derived_annotations_keep_the_label_and_stand_behind_the_others():
    record = explained("sleeps")
    after = from_explanations([record])[0]
    assert after.annotations[:-1] == record.annotations
    expected = {"premise": (Span(6, 12),), "hypothesis": ()}
    assert after.annotations[-1] == Annotation("explanation:ann", "no", expected)


def test_an_explanation_that_names_nothing_is_not_a_missing_one():
    assert derived(explained("Nope")) == ("explanation:ann", {"premise": [], "hypothesis": []})
    assert derived(explained("Nope", None))[0] == "explanation"
    for nothing in (None, ""):
        assert from_explanations([explained(nothing)]) == [explained(nothing)]


def test_words_of_many_explanations_are_left_out():
    records = [explained("the bench" if number < 21 else f"the {number}") for number in range(100)]
    assert common_words(records, 0.15) == {"the", "bench"}
    assert common_words(records, 0.21) == {"the"}
    assert common_words(records[:20], 0.15) == set()  # of so few explanations nothing is common
    assert derived_first(records)["premise"] == []
    assert derived_first(records, common=1)["premise"] == ["the bench."]


def derived_first(records, **options):
    (spans,) = [from_explanations(records, **options)[0].annotations[-1].rationale]
    return {name: [FIELDS[name][slice(*span)] for span in marked] for name, marked in spans.items()}


def test_twice_is_refused():
    with pytest.raises(InputError, match="record '1' has annotations derived from explanations already"):
        from_explanations(from_explanations([explained("man")]))


def test_characters_as_words():
    record = Record("1", {"text": "他睡了"}, annotations=(Annotation("a", None, None, "睡"),))
    assert derived(record, segment=character_words)[1] == {"text": ["睡"]}


def test_agreement_with_the_own_highlights_by_hand():
    own = {"premise": (Span(6, 12),), "hypothesis": (Span(11, 17),)}  # sleeps, awake.
    record = explained("a man sleeps", rationale=own)  # names: A, man, sleeps; man
    other = Annotation("bob", "no", {"premise": (Span(6, 12),), "hypothesis": ()})  # no explanation
    record = Record("1", FIELDS, annotations=(*record.annotations, other))
    silent = Record("2", FIELDS, annotations=(Annotation("eve", None, None, "a man"),))  # not asked to highlight
    (found,) = own_agreement(from_explanations([record, silent]))
    # 4 words named, 2 highlighted, 1 in both, of 10 words
    assert (found.source, found.records) == ("explanation:ann", 1)
    assert found.f1 == pytest.approx(2 * 1 / (4 + 2))
    assert found.select_all == pytest.approx(2 * 2 / (10 + 2))
    assert found.people == pytest.approx(2 * 1 / (2 + 1))
    assert found.frame == {"chance": found.chance, "select_all": found.select_all, "people": found.people}
    # chance: the mean over every choice of 4 words of 10
    truth = {2, 9}
    all_choices = [Fraction(2 * len(truth & set(c)), 6) for c in itertools.combinations(range(10), 4)]
    assert found.chance == pytest.approx(float(sum(all_choices) / len(all_choices)))


def test_on_esnli_explanations_name_what_the_same_people_highlighted(shared):
    records = list(itertools.islice(read_records(shared / "data" / "esnli" / "dev.jsonl.gz"), 500))
    after = from_explanations(records)
    found = own_agreement(after)
    assert [it.source for it in found] == ["explanation:1", "explanation:2", "explanation:3"]
    for it in found:
        assert it.chance + 0.1 < it.select_all < it.people < it.f1 < 0.75, it
    # the first one again, slowly
    values = []
    for record in after:
        masks = human_masks(record, word_grid(record), ["1"]), human_masks(record, word_grid(record), ["explanation:1"])
        one, two = (set(np.flatnonzero(mask).tolist()) for (mask,) in masks)
        values.append(2 * len(one & two) / (len(one) + len(two)))
    assert found[0].f1 == pytest.approx(np.mean(values))
