"""ferret's side of `judging.py`, served over a pipe: `python judging_ferret.py FOLDER THREADS` in its own environment.

It gets scores that raison has extracted and judges them by `Benchmark.evaluate_explanations`, with its defaults.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

import common


def main() -> None:
    warnings.filterwarnings("ignore")
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(threads)
    from ferret import Benchmark
    from ferret.explainers.explanation import Explanation

    model, tokenizer, _ = common.load(folder)
    bench = Benchmark(model, tokenizer)
    items: list[dict[str, Any]] = json.loads((folder / "judged.json").read_text())
    last: list[Any] = []

    def judge(positive: bool) -> list[Any]:
        found: list[Any] = []
        for item in items:
            tokens = ["[CLS]", *item["text"].split(), "[SEP]"]
            explanations = []
            for name, scores in item["scores"].items():
                values = np.array(scores)
                values = values - values.min() + 1 if positive else values
                padded = np.concatenate([[0.0], values, [0.0]])
                explanations.append(Explanation(item["text"], tokens, padded, name, item["target"]))
            found.append(bench.evaluate_explanations(explanations, item["target"], item["human"], show_progress=False))
        return found

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "run":
            took, last[:] = common.seconds(lambda: judge(request["positive"]))
            return {"seconds": took}
        values = [
            {row.explanation.explainer: {e.name: float(e.score) for e in row.evaluation_scores} for row in rows}
            for rows in last
        ]
        return {"values": values}

    common.serve(answer)


if __name__ == "__main__":
    main()
