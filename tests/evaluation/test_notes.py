"""What scores note of their making reaches the terminal and the verdict."""

import numpy as np
import pytest

from raison.evaluation import evaluate
from raison.evaluation.notes import median_gap, median_outside, notes_of_scores, open_gaps
from raison.rationales import Rationale, WordScores
from raison.records import Annotation, Record, Span


def scored(gaps, **convention):
    return [
        WordScores(str(i), "ig", "x", {"text": np.ones(2, np.float32)}, {**convention, "completeness_gap": gap})
        for i, gap in enumerate(gaps)
    ]


def test_gaps_are_counted_above_their_own_tolerance_or_a_hundredth():
    gaps = (0.0, 0.001, 0.01, 0.02, 0.5)
    assert open_gaps(scored(gaps)) == "the completeness gap is above 0.01 in 2 of 5 records"
    assert open_gaps(scored(gaps, tolerance=3e-4)) == "the completeness gap is above 0.0003 in 4 of 5 records"
    assert open_gaps(scored((0.0, 0.01))) == open_gaps([]) == ""
    assert median_gap(scored(gaps)) == "completeness gap: median 0.01, largest 0.5"
    assert median_gap([]) == median_outside(scored(gaps)) == ""


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_notes_of_a_verdict_name_the_source(share):
    records = [
        Record(str(i), {"text": "a b"}, annotations=(Annotation("p", None, {"text": (Span(0, 1),)}),)) for i in range(3)
    ]
    asked = [Rationale("0", "asked", {"text": np.array([True, False])})]
    said = [*scored((0.0, 0.2, 0.3), outside=share), *asked]
    notes = evaluate(None, records, said, resamples=100).notes
    assert "ig: the completeness gap is above 0.01 in 2 of 3 records" in notes
    assert f"ig: {share:.0%} of the scores' magnitude (median) is on tokens of no word" in notes
    assert not any(note.startswith("asked: ") and "magnitude" in note for note in notes)
    assert notes_of_scores({"asked": {"0": asked[0]}}) == []


def marked(*places):
    """One record of six words, in which each person marked one of them."""
    text = "a b c d e f"
    notes = tuple(Annotation(str(n), None, {"text": (Span(2 * at, 2 * at + 1),)}) for n, at in enumerate(places))
    return Record(f"{places}", {"text": text}, annotations=notes)


@pytest.mark.parametrize(("shared", "ceiling"), [(False, None), (True, 1 / 11)])
def test_masks_that_never_share_a_word_are_alternatives(shared, ceiling):
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3), (2, 4), (3, 4), (3, 5), (4, 5)]
    records = [marked(*pair) for pair in pairs] + [marked(5, 5) if shared else marked(5)]
    said = [Rationale(record.id, "asked", {"text": np.arange(6) == 1}) for record in records]
    found = evaluate(None, records, said, resamples=100)
    f1 = next(cell for cell in found.cells if cell.metric == "f1" and cell.source == "asked" and cell.slice == "all")
    assert f1.frame["human"] == (ceiling if ceiling is None else pytest.approx(ceiling))
    assert f1.value is not None
    assert any("alternatives" in note for note in found.notes) != shared
