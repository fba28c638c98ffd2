"""The demonstration: the whole loop on a corpus with a planted truth, with nothing downloaded."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from msgspec import to_builtins

from raison.attribution import METHODS, extract_to_file
from raison.attribution.extract import fingerprint
from raison.evaluation import Verdict, evaluate
from raison.evaluation.diagnosticity import grades_of
from raison.evaluation.evaluate import Options, by_source
from raison.evaluation.files import evaluate_to_folder
from raison.evaluation.results import Grades
from raison.evaluation.statistics import bootstrap_mean
from raison.models import Classifier
from raison.models.batching import bar, catch_up
from raison.rationales import WordScores, load_scores
from raison.records import InputError, Record, write_json, write_records
from raison.testbed import LABELS, Kind, grade_scores, make_corpus, rivals
from raison.training import small_model

RECORDS = 120


def run(out: str | Path, corpus: str, seed: int, say: Callable[[str], None]) -> tuple[Verdict, Grades]:
    """Train a small model on the testbed, extract its rationales by every method, grade and judge them; grade metrics.

    Interrupted, it goes on with what is done.

    Args:
        out: folder; gets the model, the records, the scores and the result.
        corpus: `single` or `pair`.
        seed: of everything.
        say: prints a line.

    Returns:
        The verdict, and the grades of its metrics on the same model and records; both stand in the folder too.

    Raises:
        InputError: the kind is unknown, or the folder holds the demonstration of something else.
    """
    if corpus not in LABELS:
        raise InputError(f"unknown corpus {corpus!r}; expected {' or '.join(LABELS)}")
    kind = cast("Kind", corpus)
    torch.set_num_threads(1)  # the model is so small that a second thread costs more than it gives
    folder = Path(out)
    records = make_corpus(kind, RECORDS, seed + 1000)
    say(f"a testbed corpus ({kind}) of invented texts; which words decide its labels is known")
    model = _model(folder / "model", kind, seed)
    write_records(folder / "records.jsonl", records)
    scores = {method: _scores(folder / f"{method}.jsonl", model, records, method) for method in METHODS}
    say("how many of the planted words each method finds (recall at their number; 95 % interval):")
    for method, items in scores.items():
        grade = grade_scores(items, records)
        found = bootstrap_mean(grade.values)
        say(f"  {method:22} {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]   chance {grade.chance:.3f}")
    models = {model.name: fingerprint(model)}
    with bar("judging", RECORDS) as advance:
        sources, options = by_source(scores), Options(seed=seed)
        verdict = evaluate_to_folder(folder, model, records, sources, options, models, catch_up(advance))
    return verdict, _grades(folder / "grades.json", model, records, seed)


def _model(folder: Path, kind: Kind, seed: int) -> Classifier:
    """Train the small model, or load it where it was trained before."""
    if not (folder / "config.json").exists():
        with bar("training", 1000) as advance:
            reach = catch_up(advance)
            trained = small_model(kind, seed, lambda share: reach(round(1000 * share)))
        trained.tokenizer.save_pretrained(folder)
        trained.model.save_pretrained(folder)
    return Classifier.load(folder, device="cpu", name=f"testbed-{kind}-{seed}")


def _grades(path: Path, model: Classifier, records: list[Record], seed: int) -> Grades:
    """Grade the metrics of faithfulness by rationales of which it is known whether they are true."""
    known = rivals(records, seed)
    grades = grades_of(evaluate(model, records, known, budget="match:truth", draws=1, resamples=1000, seed=seed))
    write_json(path, to_builtins(grades))
    return grades


def _scores(path: Path, model: Classifier, records: list[Record], method: str) -> list[WordScores]:
    extract_to_file(path, model, records, method, progress=method)
    return [item for item in load_scores(path) if isinstance(item, WordScores)]
