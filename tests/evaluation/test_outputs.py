"""Rationales of models that write: every number by hand with a fake writer, and by slow loops with a real one."""

import numpy as np
import pytest
from msgspec.structs import replace

from answerers import causal, tokenizer
from raison.attribution import extract
from raison.evaluation.answers import Rewriting, flipped, matches, normalised, token_f1
from raison.evaluation.evaluate import by_source, make_options
from raison.evaluation.faithfulness import random_masks
from raison.evaluation.files import load, save
from raison.evaluation.output_files import evaluate_outputs_to_folder
from raison.evaluation.outputs import evaluate_outputs
from raison.masking import apply, make_operator
from raison.models import Writer
from raison.rationales import Rationale, WordScores, top_k
from raison.records import Annotation, InputError, Record, Span
from raison.report.glossary import METRICS, REFERENCES
from raison.report.terminal import as_text
from raison.words import Tokens, word_grid


class Fake:
    """Writes the words of the text that begin with a capital; each makes its output one nat more probable.

    A word that begins with x is worth half a nat, and is not written.
    """

    name, labels = "fake", ("output",)
    tokenizer = tokenizer()

    def __init__(self):
        self.wrote = 0

    def write(self, records):
        return [self._write(record.fields["text"].split()) for record in records]

    @staticmethod
    def _write(words):
        return " ".join(word for word in words if word[0].isupper())

    def encode(self, records):
        self.words = {record.id: record.fields["text"].split() for record in records}
        found = []
        for record in records:
            size = len(self.words[record.id])
            found.append(Tokens(word_grid(record), np.arange(size), np.zeros(size, dtype=int), np.arange(size)))
        return found

    def _left(self, tokens, mask):
        return [word for word, gone in zip(self.words[tokens.grid.record_id], mask, strict=True) if not gone]

    def score_masked(self, tokens, masks, operator):
        def score(words):
            return sum(word[0].isupper() + 0.5 * word.startswith("x") for word in words) - 5.0

        return [
            np.array([score(self._left(row, mask)) if self._write(self.words[row.grid.record_id]) else np.nan
                      for mask in rows]) for row, rows in zip(tokens, masks, strict=True)
        ]  # fmt: skip

    def write_masked(self, tokens, masks, operator):
        self.wrote += sum(len(rows) for rows in masks)
        return [[self._write(self._left(row, mask)) for mask in rows] for row, rows in zip(tokens, masks, strict=True)]


def record(name, text, marked=(), label=None):
    spans = word_grid(Record(name, {"text": text})).words["text"]
    notes = (Annotation("p", None, {"text": tuple(Span(*spans[i]) for i in marked)}),) if marked else ()
    return Record(name, {"text": text}, "qa", label, annotations=notes)


RECORDS = [
    record("1", "Ada saw xen in the Park", (0, 5), "ada park!"),
    record("2", "he met Bob xor nobody", (3,), "Bob"),
    record("3", "nobody was there", (0,), "Bob"),
]
CHOSEN = {"1": [0, 2], "2": [3], "3": [0]}


def rationales(source="mine"):
    return [
        Rationale(r.id, source, {"text": np.isin(np.arange(len(r.fields["text"].split())), CHOSEN[r.id])})
        for r in RECORDS
    ]


def test_every_number_by_hand():
    verdict = evaluate_outputs(Fake(), RECORDS, rationales(), resamples=100, draws=20, redraws=3, mask="delete")
    drop, kept = verdict.cell("log_probability_drop", "mine"), verdict.cell("log_probability_sufficiency", "mine")
    # record 1: whole 2.5 - 5; without Ada and xen 1 - 5: drop 1.5; with only these 1.5 - 5: 1.
    # record 2: whole 1.5 - 5; without xor: drop 0.5; with only xor 0.5 - 5: 1. Record 3 wrote nothing.
    assert (drop.value, drop.n) == (1.0, 2)
    assert (kept.value, kept.n) == (1.0, 2)
    assert drop.frame["full"] == kept.frame["full"] == 2.0  # 2.5 and 1.5: all that there is
    assert drop.frame["human"] == 1.25  # Ada and Park: 2; xor: 0.5
    assert "least" not in drop.frame  # a rationale has no scores
    flips = verdict.cell("answer_flip_rate", "mine")
    # without Ada "Ada Park" becomes "Park"; without xor "Bob" stays
    assert (flips.value, flips.n) == (0.5, 2)
    assert (flips.frame["human"], flips.frame["full"], flips.frame["unmasked"]) == (0.5, 1.0, 0.0)
    worth = {"1": [1, 0, 0.5, 0, 0, 1], "2": [0, 0, 1, 0.5, 0]}
    draws = {name: random_masks(np.ones(len(w), dtype=bool), len(CHOSEN[name]), 20, seed=0, record_id=name)
             for name, w in worth.items()}  # fmt: skip
    assert drop.frame["random"] == pytest.approx(np.mean([(draws[n] @ worth[n]).mean() for n in worth]))
    lost = {"1": [0, 5], "2": [2]}
    assert flips.frame["random"] == pytest.approx(np.mean([draws[n][:3][:, lost[n]].any(axis=1).mean() for n in worth]))
    agreement = verdict.cell("f1", "mine")
    assert agreement.n == 3
    assert agreement.value == pytest.approx((0.5 + 1 + 1) / 3)  # {0, 2} and {0, 5}; the same; the same


def test_scores_have_least_words_and_averages_over_shares():
    scores = [
        WordScores("1", "m", "output", {"text": np.array([3, 0, 1, 0, -1, 2], dtype=np.float32)}),
        WordScores("2", "m", "output", {"text": np.array([0, -1, 3, 1, -2], dtype=np.float32)}),
    ]
    verdict = evaluate_outputs(
        Fake(), RECORDS[:2], scores, budget="k:2", ratios=(0.2, 0.5), resamples=100, mask="delete"
    )
    drop = verdict.cell("log_probability_drop", "m")
    assert drop.value == 1.75  # Ada and Park: 2; Bob and xor: 1.5
    assert drop.frame["least"] == 0.0
    area, rest = (verdict.cell(f"aopc_log_probability_{name}", "m").value for name in ("drop", "sufficiency"))
    # shares 0.2 and 0.5 of six words: 1 and 3; of five: 1 and 3.
    # drops: Ada 1, all three 2.5; Bob 1, Bob xor and a word of nothing 1.5
    assert area == pytest.approx(np.mean([(1 + 2.5) / 2, (1 + 1.5) / 2]))
    assert rest == pytest.approx(np.mean([(1.5 + 0) / 2, (0.5 + 0) / 2]))


def test_what_is_missing_is_said_and_counted():
    said = rationales()
    said[1] = Rationale("2", "mine", {"text": np.zeros(5, dtype=bool)}, failure="a refusal")
    verdict = evaluate_outputs(Fake(), RECORDS, said, resamples=100, mask="delete")
    assert any(note.startswith("1 of 3 records: the model wrote nothing") for note in verdict.notes)
    assert any(note == "1 of 3 records: mine: a refusal" for note in verdict.notes)
    assert any("beside each answer flip rate stand 5 random" in note for note in verdict.notes)
    empty = verdict.items[2]
    assert empty.predicted is None
    assert "log_probability_drop" not in empty.sources["mine"].metrics
    assert empty.sources["mine"].metrics["f1"] == 1.0
    assert verdict.items[0].predicted == "Ada Park"
    assert verdict.items[0].sources["mine"].label_without == "Park"
    assert verdict.items[0].label_full == ""
    assert verdict.validity.verdict == "too few"
    assert {cell.slice for cell in verdict.cells} <= {"all", "no rationale missing"}


def test_who_was_not_asked_is_told_from_who_marked_nothing():
    asked = replace(RECORDS[0], annotations=(Annotation("p", None, {"text": ()}),))
    records = [asked, replace(RECORDS[1], annotations=()), RECORDS[2]]
    verdict = evaluate_outputs(Fake(), records, rationales(), resamples=100, mask="delete")
    said = [note for note in verdict.notes if "left out of the agreement" in note]
    assert said == [
        f"1 of 3 records: nobody {what}, so they are left out of the agreement with people"
        for what in ("marked a word", "was asked for a rationale")
    ]


def test_validity_counts_outputs_as_answers():
    many = [record(str(i), f"{name} saw xen", (0,), name) for i in range(20) for name in (f"Ada{i}", f"Bob{i}")]
    many = [Record(f"{i}", r.fields, "qa", r.label, annotations=r.annotations) for i, r in enumerate(many)]
    first = [Rationale(r.id, "mine", {"text": np.array([True, False, False])}) for r in many]
    sound = evaluate_outputs(Fake(), many, first, resamples=100, mask="delete")
    assert sound.validity.verdict == "ok"
    assert sound.validity.accuracy.value == 1.0
    assert len(sound.validity.predicted_shares) == 10
    assert sound.cell("answer_flip_rate", "mine").value == 1.0
    assert sound.cell("answer_flip_rate", "mine").verdict == ""
    same = [Record(r.id, {"text": "Ada saw xen"}, "qa", annotations=r.annotations) for r in many]
    collapsed = evaluate_outputs(Fake(), same, first, resamples=100, mask="delete")
    assert collapsed.validity.verdict == "collapsed"
    assert "not to be ranked" in collapsed.cell("log_probability_drop", "mine").verdict


def test_without_writing_anew_there_is_no_flip_rate():
    writer = Fake()
    verdict = evaluate_outputs(writer, RECORDS, rationales(), rewrite=False, resamples=100, mask="delete")
    assert writer.wrote == 0
    assert "answer_flip_rate" not in {cell.metric for cell in verdict.cells}
    assert verdict.cell("log_probability_drop", "mine").value == 1.0
    assert "masking every word was not measured" in verdict.validity.reasons


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subset": "correct"}, "option subset: it needs a model that gives labels"),
        ({"one_out": True}, "option one_out"),
        ({"also": ("flips",)}, "option also"),
        ({"match": "rouge"}, "option match"),
        ({"least": 0.0}, "option least"),
        ({"redraws": 0}, "option redraws"),
        ({"drawz": 1}, "unknown option 'drawz'"),
    ],
)
def test_impossible_options_are_one_line(options, message):
    with pytest.raises(InputError, match=message):
        evaluate_outputs(Fake(), RECORDS, rationales(), **options)


def test_answers_match_as_in_squad():
    assert normalised("  The Eiffel-Tower, in (a) Paris!  ") == ["eiffeltower", "in", "paris"]
    assert normalised("An answer; theatre") == ["answer", "theatre"]
    assert matches("The Park.", "park", Rewriting())
    assert not matches("park", "the parks", Rewriting())
    # common: red, book; 2 * 2 / (3 + 4)
    assert token_f1("the red book lies", "A red book, red again") == pytest.approx(4 / 7)
    assert token_f1("the", "!") == 1.0
    assert token_f1("the", "book") == 0.0
    assert matches("red book lies", "red book red again", Rewriting(match="f1", least=0.5))
    assert not matches("red book lies", "red book red again", Rewriting(match="f1", least=0.6))
    assert flipped("a", ["b", None, "A", "b"], Rewriting()) == pytest.approx(2 / 3)
    assert np.isnan(flipped("b", [None], Rewriting()))


def test_the_table_names_what_it_shows(tmp_path):
    verdict = evaluate_outputs(Fake(), RECORDS, rationales(), resamples=100, mask="delete")
    shown = as_text(verdict)
    for title in ("Answer", "Log-prob. drop", "no word", "validity: too few", "(1.000)"):
        assert " ".join(title.split()) in " ".join(shown.split())
    assert {cell.metric for cell in verdict.cells} <= {*METRICS}
    assert {name for cell in verdict.cells for name in cell.frame} <= {*REFERENCES}
    save(verdict, tmp_path)
    assert load(tmp_path) == verdict


class Tired(Fake):
    """Is interrupted at its second chunk of records."""

    def __init__(self):
        super().__init__()
        self.chunks = 0

    def write_masked(self, tokens, masks, operator):
        self.chunks += 1
        if self.chunks == 2:
            raise KeyboardInterrupt
        return super().write_masked(tokens, masks, operator)


def test_an_interrupted_judgement_goes_on_where_it_stopped(tmp_path):
    many = [record(str(i), f"Ada{i} saw xen", (0,)) for i in range(70)]
    first = [Rationale(r.id, "mine", {"text": np.array([True, False, False])}) for r in many]
    options, sources = make_options({"mask": "delete", "resamples": 100}), by_source(first)
    writer = Tired()
    with pytest.raises(KeyboardInterrupt):
        evaluate_outputs_to_folder(tmp_path, writer, many, sources, options, {})
    verdict = evaluate_outputs_to_folder(tmp_path, writer, many, sources, options, {})
    assert writer.chunks == 3
    whole = evaluate_outputs(Fake(), many, first, mask="delete", resamples=100)
    assert (verdict.cells, verdict.items, verdict.notes) == (whole.cells, whole.items, whole.notes)
    assert verdict.validity == whole.validity
    with pytest.raises(InputError, match="items"):
        evaluate_outputs_to_folder(tmp_path, writer, many, sources, options, {}, Rewriting(match="f1"))


# ---------------------------------------------------------------------------------------------- a real writer


def real(seed=1, **options):
    made = tokenizer()
    return Writer(causal("llama", made, seed), made, "question-answering", max_new_tokens=4, **options)


def real_records():
    rng, words = np.random.default_rng(0), "a man plays reads red book in the park open".split()  # noqa: SIM905
    found = []
    for index in range(4):
        fields = {"passage": " ".join(rng.choice(words, 9)), "question": " ".join(rng.choice(words, 4))}
        grid = word_grid(Record(str(index), fields))
        marked = {name: (spans[1],) for name, spans in grid.words.items()}
        found.append(Record(str(index), fields, "qa", annotations=(Annotation("p", None, marked),)))
    return found


def test_a_real_writer_is_judged_as_by_a_slow_loop_at_any_batch_size():
    writer, records = real(), real_records()
    scores = {name: extract(writer, records, name) for name in ("input_x_gradient", "random")}
    verdict = evaluate_outputs(writer, records, scores, budget="k:3", draws=4, redraws=2, resamples=100)
    tokens, operator = writer.encode(records), make_operator("delete", writer.tokenizer)
    for source, found in scores.items():
        drops, flips, randoms = [], [], []
        for row, item, text in zip(tokens, found, writer.write(records), strict=True):
            mask = top_k(np.concatenate(list(item.scores.values())), 3)
            drawn = random_masks(row.seen, 3, 4, seed=0, record_id=row.grid.record_id)
            given = apply(operator, row, np.vstack([np.zeros_like(mask), mask, drawn]))
            values = np.array([float(writer.logits([version])[0, 0]) for version in given], dtype=np.float64)
            drops.append(values[0] - values[1])
            randoms.append((values[0] - values[2:]).mean())
            ((without,),) = real().write_masked([row], [mask[None]], operator)
            flips.append(normalised(without) != normalised(text))
        cell = verdict.cell("log_probability_drop", source)
        assert cell.value == pytest.approx(np.mean(drops), abs=1e-4)
        assert cell.frame["random"] == pytest.approx(np.mean(randoms), abs=1e-4)
        assert verdict.cell("answer_flip_rate", source).value == pytest.approx(np.mean(flips))
    small = real(max_tokens=1)
    small.generator.max_tokens = 1
    again = evaluate_outputs(small, records[::-1], scores, budget="k:3", draws=4, redraws=2, resamples=100)
    for cell in verdict.cells:
        assert again.cell(cell.metric, cell.source).value == pytest.approx(cell.value, abs=1e-4)


def test_given_outputs_show_how_often_a_model_would_not_write_them():
    records = real_records()
    own = dict(zip([r.id for r in records], real().write(records), strict=True))
    first = [Rationale(r.id, "first", {"passage": np.arange(9) < 1, "question": np.zeros(4, dtype=bool)})
             for r in records]  # fmt: skip
    verdict = evaluate_outputs(real(given={**own, "0": "the man"}), records, first, resamples=100)
    assert verdict.cell("answer_flip_rate", "first").frame["unmasked"] == 0.25
