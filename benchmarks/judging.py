"""Judging six methods by all metrics: `raison.evaluate` beside ferret's `Benchmark.evaluate_explanations`.

    python benchmarks/judging.py --peer-python ferret=/path/to/ferret/bin/python --json judging.json

Both judge the same scores of the same 64 single texts (ferret reads no pairs) by comprehensiveness and sufficiency
(AOPC), leave-one-out correlation, token F1, IoU and AUPRC; ours adds what its verdict needs: references (20 random
rationales of the same size, people's own, least important words, everything), intervals, comparisons, validity.

ferret's conventions, read in its code (0.4.2, `evaluators/`), and how they are met here so that values must be equal:

- its unit is the token, ours the word: every word of these texts is one token, in lower case and in the vocabulary, so
  that decoding and tokenising again leaves ids as they were;
- words are deleted (`remove_tokens`), ours too by `mask="delete"`; at 100 % nothing is left but [CLS] and [SEP];
- the ratios are 0.1, 0.2, ... 1.0, of which it takes floor(ratio * n) tokens, none where that is 0; ours rounds from a
  half. The texts have 10, 20 or 30 words, where both are whole numbers;
- only tokens with a positive score are taken, and a set equal to the last one is left out of the mean; no positive
  score at all gives comprehensiveness 0 and sufficiency 1. Ours takes the highest words whatever their sign. So one row
  ("positive scores") hands ferret scores that were shifted to be positive: the order is the same, and so must all
  values be. (Its option `only_pos=False` fails with its own numpy: an array is compared with an empty list.) The other
  row ("signed scores") is its default on the scores as they are: fewer sequences to run, other values;
- the drop is of the probability of the target, which is the predicted label here as in ours;
- leave-one-out: Kendall's tau-b of scores with the drops, over all tokens; ours with `one_out=True`;
- F1 and IoU: the 5 highest tokens (`top_k_rationale`), against one rationale; ours with `budget="k:5"`;
- AUPRC: trapezoids, as ours.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import common
from raison.attribution import extract
from raison.evaluation import Verdict, evaluate
from raison.models import Classifier
from raison.rationales import WordScores
from raison.records import Annotation, Record
from raison.words import spans_of_words, whitespace_words

METHODS = ("random", "attention", "gradient", "input_x_gradient", "integrated_gradients", "occlusion")
RATIOS = tuple(round(0.1 * step, 1) for step in range(1, 11))
NAMES = {  # ferret's name -> ours
    "aopc_compr": "aopc_comprehensiveness",
    "aopc_suff": "aopc_sufficiency",
    "taucorr_loo": "tau_loo",
    "auprc_plau": "auprc",
    "token_f1_plau": "f1",
    "token_iou_plau": "iou",
}
Scores = dict[str, list[WordScores]]


def make_records(items: int, seed: int = 1) -> list[Record]:
    """Make texts of 10, 20 or 30 one-token words, of which a person marked about a quarter."""
    rng = np.random.default_rng(seed)
    known = np.array(common.words())
    records: list[Record] = []
    for index in range(items):
        size = int(rng.choice([10, 20, 30]))
        text = " ".join(rng.choice(known, size=size).tolist())
        marked = np.isin(np.arange(size), rng.choice(size, size=size // 4 + 1, replace=False))
        spans = spans_of_words(whitespace_words(text), marked)
        note = Annotation(annotator="someone", rationale={"text": spans})
        label = common.LABELS[int(rng.integers(3))]
        records.append(Record(str(index), {"text": text}, label=label, annotations=(note,)))
    return records


def hand_over(folder: Path, model: Classifier, records: list[Record], scores: Scores) -> None:
    """Write what ferret judges."""
    rows: list[dict[str, Any]] = []
    for index, (record, answer) in enumerate(zip(records, model.predict(records), strict=True)):
        text = record.fields["text"]
        spans = (record.annotations[0].rationale or {})["text"]
        inside = [any(a <= word.start < b for a, b in spans) for word in whitespace_words(text)]
        rows.append(
            {
                "text": text,
                "target": model.label_index(answer.label or ""),
                "human": [int(marked) for marked in inside],
                "scores": {name: rows[index].scores["text"].tolist() for name, rows in scores.items()},
            }
        )
    (folder / "judged.json").write_text(json.dumps(rows))


def differences(verdict: Verdict, values: list[dict[str, dict[str, float]]]) -> dict[str, float]:
    """Give the largest difference from ferret's values, for each metric, over records and methods."""
    apart: dict[str, float] = dict.fromkeys(NAMES.values(), 0.0)
    for item, found in zip(verdict.items, values, strict=True):
        for method, metrics in found.items():
            for theirs, ours in NAMES.items():
                value = item.sources[method].metrics[ours]
                assert value is not None, (item.record_id, method, ours)
                apart[ours] = max(apart[ours], abs(value - metrics[theirs]))
    return apart


def compare(folder: Path, python: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time both in turn, and compare values."""
    model, tokenizer, _ = common.load(folder)
    classifier = Classifier(model, tokenizer, labels=common.LABELS)
    records = make_records(options.items)
    scores = {name: extract(classifier, records, name) for name in METHODS}
    hand_over(folder, classifier, records, scores)
    judged = {"budget": "k:5", "mask": "delete", "ratios": list(RATIOS), "one_out": True}
    worker = common.Worker(python, Path(__file__).parent / "judging_ferret.py", folder, options.threads)
    rows: list[dict[str, Any]] = []
    try:
        for positive in (True, False):

            def theirs(positive: bool = positive) -> tuple[float, Any]:
                return worker.ask(do="run", positive=positive)["seconds"], None

            timed = common.paired(lambda: evaluate(classifier, records, scores, **judged), theirs, options.rounds)
            apart = differences(timed.ours, worker.ask(do="values")["values"])
            print(f"{'positive' if positive else 'signed'} scores, largest differences: {apart}")
            name = "ferret, positive scores" if positive else "ferret, signed scores (skips what is not positive)"
            case = f"six methods by six metrics, {len(records)} texts"
            rows.append(common.row(case, name, timed, max(apart.values()) if positive else None))
    finally:
        worker.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--peer-python", action="append", default=[], metavar="ferret=PYTHON")
    options = parser.parse_args()
    python = dict(pair.split("=", 1) for pair in options.peer_python).get("ferret")
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    if python is None:
        print("skipped: ferret needs transformers 4 and an interpreter of its own; give --peer-python ferret=/path")
    else:
        with tempfile.TemporaryDirectory() as temporary:
            common.make(Path(temporary), items=1)
            rows = compare(Path(temporary), python, options)
        common.show(rows, ("case", "peer", "ours_s", "peer_s", "ratio", "max_abs_diff"))
        print(f"(d) ferret over ours, at least 3: {[round(row['ratio'], 2) for row in rows]}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
