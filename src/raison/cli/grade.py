"""`raison grade`: which metrics of faithfulness know true reasons from others?"""

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import to_builtins
from typer import Option

from raison.cli.common import (
    Calibrate,
    Data,
    Device,
    Draws,
    Dtype,
    Format,
    FourBit,
    Limit,
    Map,
    Mask,
    Model,
    Out,
    Seed,
    Shuffle,
    Task,
    Trust,
    Tuned,
    Unit,
    Words,
    app,
    console,
    load,
    say,
    scorer,
    segmenter,
)  # fmt: skip

if TYPE_CHECKING:
    from raison.models.scorer import Scorer

GRADES = "grades.json"


@app.command()
def grade(
    model: Model,
    file: Data,
    out: Out,
    also: Annotated[str | None, Option(help="Further metrics, by commas; default: all that the model allows.")] = None,
    mask: Mask = None,
    unit: Unit = "word",
    draws: Draws = 20,
    tuned: Tuned = None,
    seed: Seed = 0,
    source: Format = None,
    mapping: Map = None,
    limit: Limit = None,
    task: Task = None,
    calibrate: Calibrate = "none",
    shuffle: Shuffle = None,
    words: Words = "whitespace",
    device: Device = None,
    dtype: Dtype = "float32",
    four_bit: FourBit = False,
    trust: Trust = False,
) -> None:
    """Grade the metrics of faithfulness on records whose deciding words are planted, with a model that goes by them.

    Example: raison grade --model raison-demo/model --data raison-demo/records.jsonl --out runs/grades
    """
    from raison.attribution.extract import fingerprint
    from raison.evaluation.diagnosticity import grades_of
    from raison.evaluation.evaluate import Judge, by_source, having_scores, make_options
    from raison.evaluation.extras import bill
    from raison.evaluation.files import evaluate_to_folder
    from raison.models.batching import bar, catch_up
    from raison.records import write_json
    from raison.report import grade_table
    from raison.testbed import rivals

    records = load(file, source, mapping, limit)
    sources = by_source(rivals(records, seed, segmenter(words)))
    kept = having_scores(records, sources)
    asked: dict[str, Any] = {"task": task, "calibrate": calibrate, "shuffle": shuffle, "device": device, "dtype": dtype}
    asked["four_bit"] = four_bit
    judged, other = (scorer(path, kept, words, trust, **asked) if path else None for path in (model, tuned))
    assert judged is not None
    names = _possible(judged, other) if also is None else [name for name in also.split(",") if name]
    options = make_options({
        "budget": "match:truth", "mask": mask, "unit": unit, "draws": draws, "words": words, "one_out": True,
        "also": names, "seed": seed,
    })  # fmt: skip
    say(f"at most {Judge(judged, kept, sources, options, other).questions(kept):,} inputs of {len(kept)} records")
    for line in bill(options, kept, len(sources)):
        say(line)
    models = {one.name + mark: fingerprint(one) for one, mark in ((judged, ""), (other, " (tuned)")) if one}
    with bar("grading", len(kept)) as advance:
        verdict = evaluate_to_folder(out, judged, records, sources, options, models, catch_up(advance), other)
    grades = grades_of(verdict)
    write_json(f"{out}/{GRADES}", to_builtins(grades))
    console().print(grade_table(grades))
    say(f"wrote {out}/{GRADES} and what it rests on, metrics.json, records.parquet, items.jsonl")
    say(f"next: raison evaluate ... --grades {out}/{GRADES}")


def _possible(model: "Scorer", tuned: "Scorer | None") -> list[str]:
    """Name the further metrics for which nothing is missing."""
    from raison.evaluation.extras import EXTRAS

    missing = {"weights": not hasattr(model, "predict_soft"), "a tuned model": tuned is None}
    return [name for name, extra in EXTRAS.items() if not missing.get(extra.needs)]
