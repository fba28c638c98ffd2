"""The whole judgement against a slow loop over records that masks text-free, one input at a time."""

import msgspec
import numpy as np
import pytest
import torch

from raison.attribution import extract
from raison.evaluation import evaluate
from raison.evaluation.evaluate import Judge, by_source, make_options
from raison.evaluation.files import evaluate_to_folder, load, save
from raison.evaluation.observe import Chosen, Plan, observe
from raison.masking import make_operator
from raison.rationales import Rationale
from raison.records import Annotation, InputError, Record, Span
from raison.words import word_grid

WORDS = "a the man woman dog plays sleeps reads red book in park is not happy".split()  # noqa: SIM905


def corpus(n=40, seed=0, people=3):
    """Records of two fields with people who mark one to three words at random."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(n):
        fields = {name: " ".join(rng.choice(WORDS, size=rng.integers(3, 8))) for name in ("premise", "hypothesis")}
        record = Record(str(index), fields)
        grid = word_grid(record)
        annotations = []
        for person in range(people):
            marked = {
                name: tuple(spans[i] for i in sorted(rng.choice(len(spans), size=rng.integers(1, 3), replace=False)))
                for name, spans in grid.words.items()
            }
            annotations.append(Annotation(f"p{person}", None, marked))
        label = ("entailment", "neutral", "contradiction")[index % 3]
        found.append(Record(str(index), fields, label=label, annotations=tuple(annotations)))
    return found


@pytest.fixture(scope="module")
def model(tiny):
    return tiny.build("bert", seed=3)


@pytest.fixture(scope="module")
def judged(model):
    records = corpus()
    scores = {name: extract(model, records, name) for name in ("random", "input_x_gradient", "occlusion")}
    return records, scores, evaluate(model, records, scores, resamples=200)


def probabilities(model, ids, types):
    with torch.no_grad():
        logits = model.model(
            input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([types]), attention_mask=torch.ones(1, len(ids))
        ).logits[0]
    return logits.double().softmax(0).numpy()


def masked(model, tokens, mask):
    """One mask token for each masked word, written as a loop."""
    ids, types, last = [], [], None
    for token, kind, word in zip(tokens.ids.tolist(), tokens.types.tolist(), tokens.word.tolist(), strict=True):
        if word >= 0 and mask[word]:
            if word != last:
                ids.append(model.tokenizer.mask_token_id)
                types.append(kind)
        else:
            ids.append(token)
            types.append(kind)
        last = word
    return probabilities(model, ids, types)


def test_every_number_equals_a_slow_loop(model, judged):
    records, scores, verdict = judged
    tokens = model.encode(records)
    for source, items in scores.items():
        f1s, flips, comps, suffs, aopcs = [], [], [], [], []
        for record, row, item in zip(records, tokens, items, strict=True):
            grid = row.grid
            values = np.concatenate(list(item.scores.values()))
            people = []
            for note in record.annotations:
                mask = np.zeros(len(grid), dtype=bool)
                offset = 0
                for name, spans in grid.words.items():
                    for i, span in enumerate(spans):
                        mask[offset + i] = tuple(span) in {tuple(s) for s in note.rationale[name]}
                    offset += len(spans)
                people.append(mask)
            k = int(np.mean([m.sum() for m in people]) + 0.5)
            order = sorted(range(len(values)), key=lambda i: (-values[i], i))
            chosen = np.zeros(len(values), dtype=bool)
            chosen[order[:k]] = True
            f1s.append(np.mean([2 * (chosen & m).sum() / (chosen.sum() + m.sum()) for m in people]))
            whole = masked(model, row, np.zeros_like(chosen))
            answer = whole.argmax()
            without, only = masked(model, row, chosen), masked(model, row, ~chosen)
            flips.append(without.argmax() != answer)
            comps.append(whole[answer] - without[answer])
            suffs.append(whole[answer] - only[answer])
            drops = []
            for ratio in (0.01, 0.05, 0.1, 0.2, 0.5):
                top = np.zeros_like(chosen)
                top[order[: max(1, int(ratio * len(values) + 0.5))]] = True
                drops.append(whole[answer] - masked(model, row, top)[answer])
            aopcs.append(np.mean(drops))
        for metric, expected in (
            ("f1", f1s),
            ("flip_rate", flips),
            ("comprehensiveness", comps),
            ("sufficiency", suffs),
            ("aopc_comprehensiveness", aopcs),
        ):
            assert verdict.cell(metric, source).value == pytest.approx(np.mean(expected), abs=1e-5), (metric, source)


def test_references_equal_a_slow_loop(model, judged):
    records, _, verdict = judged
    tokens = model.encode(records)
    full = [
        masked(model, row, np.ones(len(row.grid), dtype=bool)).argmax()
        != masked(model, row, np.zeros(len(row.grid), dtype=bool)).argmax()
        for row in tokens
    ]
    frame = verdict.cell("flip_rate", "occlusion").frame
    assert frame["full"] == pytest.approx(np.mean(full))
    assert set(frame) == {"random", "full", "human", "least"}
    people = []
    for record, row in zip(records, tokens, strict=True):
        answer = masked(model, row, np.zeros(len(row.grid), dtype=bool)).argmax()
        from raison.words import human_masks

        people.append(np.mean([masked(model, row, m).argmax() != answer for m in human_masks(record, row.grid)]))
    assert frame["human"] == pytest.approx(np.mean(people))
    ceiling = verdict.cell("f1", "occlusion").frame
    assert ceiling["chance"] < ceiling["select_all"]
    assert verdict.cell("f1", "random").low < ceiling["chance"] < verdict.cell("f1", "random").high


def test_each_distinct_input_is_run_once(model, judged, monkeypatch):
    records, scores, _ = judged
    run = []
    real = model.logits

    def counting(inputs, progress=None, of=None):
        run.extend(row.ids.tobytes() + row.types.tobytes() for row in inputs)
        return real(inputs, progress, of)

    monkeypatch.setattr(model, "logits", counting)
    evaluate(model, records, {**scores, "again": scores["occlusion"]}, resamples=50)
    assert len(run) == len(set(run))
    first = len(run)
    run.clear()
    evaluate(model, records, scores, resamples=50)
    assert len(run) == first  # a source that says the same costs nothing


def test_random_rationales_are_shared_by_sources_of_equal_size(model):
    records = corpus(4)
    tokens = model.encode(records)
    operator = make_operator("mask", model.tokenizer)
    masks = [np.arange(len(row.grid)) < 2 for row in tokens]
    chosen = [{"a": Chosen(mask, None), "b": Chosen(mask[::-1].copy(), None)} for mask in masks]
    none = [np.zeros((0, len(row.grid)), dtype=bool) for row in tokens]
    seen = observe(model, tokens, none, chosen, Plan(operator, (0.5,), 7, False, 0))
    for row in seen:
        assert row["random_removed", "a"].shape == (7, 3)
        assert np.array_equal(row["random_removed", "a"], row["random_removed", "b"])
        assert row["people", ""].shape == (0, 3)


def test_without_a_model_agreement_alone_is_judged(judged):
    records, scores, verdict = judged
    alone = evaluate(None, records, scores, resamples=200)
    assert alone.validity is None
    assert {cell.metric for cell in alone.cells} >= {"f1", "iou", "auprc"}
    assert not any("flip" in cell.metric for cell in alone.cells)
    assert alone.cell("f1", "occlusion") == verdict.cell("f1", "occlusion")


def test_missing_rationales_are_states_not_zeros(judged):
    records, scores, _ = judged
    grid = word_grid(records[0])
    said = [
        Rationale(records[0].id, "llm", grid.split(np.arange(len(grid)) < 2), "k:2"),
        Rationale(
            records[1].id,
            "llm",
            word_grid(records[1]).split(np.zeros(len(word_grid(records[1])), bool)),
            None,
            "refusal",
        ),
    ]
    verdict = evaluate(None, records, {"occlusion": scores["occlusion"], "llm": said}, resamples=50)
    assert verdict.cell("f1", "llm").n == 2
    assert verdict.items[2].sources["llm"].failure == "no scores or rationale"
    assert verdict.items[2].sources["llm"].metrics == {}
    assert any("llm: refusal" in note for note in verdict.notes)
    assert any("38 of 40 records: llm: no scores or rationale" in note for note in verdict.notes)


def test_collapsed_predictions_withhold_rankings(tiny):
    model = tiny.build("bert", seed=3)
    with torch.no_grad():
        model.model.classifier.weight.zero_()
        model.model.classifier.bias.copy_(torch.tensor([0.0, 5.0, 0.0]))
    records = corpus()
    scores = {name: extract(model, records, name) for name in ("random", "occlusion")}
    verdict = evaluate(model, records, scores, resamples=50)
    assert verdict.validity.verdict == "collapsed"
    assert verdict.cell("flip_rate", "occlusion").value == 0
    assert verdict.cell("flip_rate_normalised", "occlusion").value is None
    assert verdict.cell("flip_rate", "occlusion").verdict.startswith("not to be ranked")
    flips = [c for c in verdict.comparisons if c.metric == "flip_rate"]
    assert flips
    assert all(c.p is None and c.verdict.startswith("withheld") for c in flips)
    assert all(c.p is not None for c in verdict.comparisons if c.metric == "f1")


def test_subset_looks_at_correct_decisions_alone(model, judged):
    records, scores, _ = judged
    verdict = evaluate(model, records, scores, subset="correct", resamples=50)
    right = [item for item in verdict.items if item.label == item.predicted]
    assert verdict.cell("flip_rate", "occlusion").n == len(right)
    assert verdict.cell("f1", "occlusion").n == len(records)


def test_a_rationale_keeps_its_own_words_and_budgets_match_it(judged):
    records, scores, _ = judged
    grids = [word_grid(record) for record in records]
    said = [Rationale(g.record_id, "llm", g.split(np.arange(len(g)) < 4)) for g in grids]
    verdict = evaluate(None, records, {"occlusion": scores["occlusion"], "llm": said}, budget="match:llm", resamples=50)
    assert all(item.sources["occlusion"].words.__len__() == 4 for item in verdict.items)
    assert all(item.sources["llm"].words == [0, 1, 2, 3] for item in verdict.items)


def test_interrupted_evaluation_goes_on(model, judged, tmp_path, monkeypatch):
    records, scores, _ = judged
    monkeypatch.setattr("raison.evaluation.files.CHUNK", 16)
    options = make_options({"resamples": 50})
    sources = by_source(scores)
    whole = evaluate_to_folder(tmp_path / "a", model, records, sources, options, {})

    class Stopped(Exception):
        pass

    def stop(done):
        if done == 32:
            raise Stopped

    with pytest.raises(Stopped):
        evaluate_to_folder(tmp_path / "b", model, records, sources, options, {}, stop)
    assert not (tmp_path / "b" / "metrics.json").exists()
    seen = []
    again = evaluate_to_folder(tmp_path / "b", model, records, sources, options, {}, seen.append)
    assert seen[0] == 32
    assert again == whole
    assert (tmp_path / "a" / "items.jsonl").read_bytes() == (tmp_path / "b" / "items.jsonl").read_bytes()
    with pytest.raises(InputError, match="made from something else"):
        evaluate_to_folder(tmp_path / "b", model, records, sources, make_options({"seed": 1}), {})


def test_saved_verdict_reads_back_equal(judged, tmp_path):
    from pyarrow import parquet

    verdict = judged[2]
    save(verdict, tmp_path)
    assert load(tmp_path) == verdict
    table = parquet.read_table(tmp_path / "records.parquet")
    assert table.num_rows == 3 * len(judged[0])
    values = [x for s, x in zip(table["source"].to_pylist(), table["f1"].to_pylist(), strict=True) if s == "occlusion"]
    assert np.mean(values) == pytest.approx(verdict.cell("f1", "occlusion").value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": "many"}, "unknown budget"),
        ({"budget": "match:nobody"}, "no source is called"),
        ({"aggregate": "all"}, "aggregate"),
        ({"mask": "blank"}, "unknown mask operator"),
        ({"draws": 0}, "draws"),
        ({"ratios": [0.0]}, "ratios"),
        ({"colour": 1}, "unknown option 'colour'"),
    ],
)
def test_impossible_options_are_one_line(model, judged, options, message):
    records, scores, _ = judged
    with pytest.raises(InputError, match=message) as error:
        evaluate(model, records, scores, **options)
    assert "\n" not in str(error.value)


def test_scores_that_do_not_fit_are_one_line(judged):
    records, scores, _ = judged
    with pytest.raises(InputError, match="not in the data"):
        evaluate(None, records[1:], scores)
    broken = msgspec.structs.replace(scores["occlusion"][0], scores={"premise": np.zeros(99, dtype=np.float32)})
    with pytest.raises(InputError, match="field 'premise' has"):
        evaluate(None, records, {"occlusion": [broken]})
    with pytest.raises(InputError, match="two rationales"):
        evaluate(None, records, [*scores["occlusion"], scores["occlusion"][0]])
    with pytest.raises(InputError, match="no record has scores"):
        Judge(None, records, {}, make_options({})) and evaluate(None, records, {})


def test_people_of_spans_only_partly_over_words_count_as_marking_them():
    record = Record("1", {"text": "red books"}, annotations=(Annotation("a", None, {"text": (Span(4, 6),)}),))
    said = Rationale("1", "me", {"text": np.array([False, True])})
    assert evaluate(None, [record], [said], resamples=50).cell("f1", "me").value == 1.0


def test_scores_that_are_all_missing_are_no_rationale(judged):
    records, scores, _ = judged
    none = [
        msgspec.structs.replace(item, scores={k: v * np.nan for k, v in item.scores.items()})
        for item in scores["random"]
    ]
    verdict = evaluate(None, records, {"occlusion": scores["occlusion"], "none": none}, resamples=50)
    assert all(item.sources["none"].failure == "no word has a score" for item in verdict.items)
    assert all(item.sources["none"].metrics == {} for item in verdict.items)
    assert "40 of 40 records: none: no word has a score" in verdict.notes


def test_labels_are_compared_without_case_and_strange_ones_are_named(model):
    records = [msgspec.structs.replace(r, label=r.label.title()) for r in corpus()]
    records[0] = msgspec.structs.replace(records[0], label="maybe")
    verdict = evaluate(model, records, extract(model, records, "random"), resamples=50)
    right = [p.label == r.label.lower() for p, r in zip(model.predict(records), records, strict=True)]
    assert verdict.validity.accuracy.value == pytest.approx(np.mean(right))
    assert "1 of 40 records: the model has no label 'maybe'" in verdict.notes


def test_empty_texts_and_missing_scores_pass_through(model):
    records = [*corpus(4), Record("empty", {"premise": "", "hypothesis": ""}, label="neutral")]
    scores = extract(model, records, "input_x_gradient")
    scores[0].scores["premise"][0] = np.nan
    verdict = evaluate(model, records, scores, one_out=True, budget="k:1", resamples=50)
    assert verdict.items[4].sources["input_x_gradient"].failure == "no word has a score"
    assert verdict.cell("tau_loo", "input_x_gradient").n == 4
