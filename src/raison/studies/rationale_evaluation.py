"""The study of Fayyaz et al. (arXiv 2407.00219) on anyone's model: attributed and prompted rationales, tuned or not.

For each data set: take evaluation records; extract the rationales of the model as it is, by attribution and by asking;
judge them; fine-tune the model with LoRA on other records of the same data; do it all again; and contrast the two. The
protocol is reproduced, not the paper's numbers: prompts, mask string, layers, LoRA settings and the choice of records
are not known, so they are ours, and each of them is an option or written into the result.

Everything is written into a folder as it goes, and a run that was interrupted goes on from there.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from raison.attribution.extract import extract_to_file, fingerprint, method_name
from raison.evaluation.contrast import Contrast, contrast
from raison.evaluation.evaluate import by_source, make_options
from raison.evaluation.files import evaluate_to_folder
from raison.evaluation.results import Cell, Verdict
from raison.models.answerer import Answerer
from raison.models.generator import LocalGenerator
from raison.models.tasks import Task, labels_of, task_of
from raison.prompting.extract import Asking, explain_to_file
from raison.rationales import Rationale, WordScores, load_scores
from raison.records import InputError, Record, write_json
from raison.report import write_report
from raison.training.lora import LoraConfig, finetune_lora

Say = Callable[[str], None]
STAGES = ("before", "after")


class Dataset(msgspec.Struct, frozen=True):
    """One data set of the study: records to evaluate on, and others to tune with."""

    name: str
    records: tuple[Record, ...]
    train: tuple[Record, ...] = ()  # none = the model is not tuned
    dev: tuple[Record, ...] = ()


class Settings(msgspec.Struct, frozen=True):
    """How the study is done; the defaults are the paper's where these are known."""

    limit: int = 300  # evaluation records of each data set, drawn by the seed among those with a rationale
    methods: tuple[str, ...] = ("attention", "gradient", "input_x_gradient", "random")
    asked: tuple[str, ...] = ("unbound", "human")  # budgets of prompted rationales
    budgets: tuple[str, ...] = ("human", "match:prompted/unbound")  # budgets of attributed rationales
    order: str = "predict-then-explain"
    form: str = "json"
    mask: str | None = None  # operator; None = the tokenizer's mask token, or deletion
    task: str | None = None  # None = what the records say
    calibrate: str = "none"
    reply_tokens: int = 256
    lora: LoraConfig = LoraConfig(epochs=10)
    draws: int = 20
    seed: int = 0


class Stage(msgspec.Struct, frozen=True):
    """What came of one model on one data set."""

    dataset: str
    stage: str  # "before" or "after"
    verdicts: dict[str, Verdict]  # budget of the attributed rationales -> verdict


class Outcome(msgspec.Struct, frozen=True):
    """The result of the study."""

    stages: list[Stage]
    contrasts: dict[str, Contrast]  # data set -> before and after, under the first budget


def run(
    model: str | Path,
    datasets: Sequence[Dataset],
    out: str | Path,
    settings: Settings | None = None,
    *,
    say: Say = print,
) -> Outcome:
    """Run the study, or go on with it.

    Args:
        model: a folder or hub id of a causal language model.
        datasets: at least one.
        out: folder of everything that is made.
        settings: see `Settings`.
        say: is told what is done.

    Raises:
        InputError: the model can't be loaded, a data set has no record with a rationale, or the folder holds a study
            with other settings.
    """
    settings = settings or Settings()
    stages: list[Stage] = []
    contrasts: dict[str, Contrast] = {}
    for dataset in datasets:
        folder = Path(out) / dataset.name
        records = sample(dataset, settings)
        task = task_of(records, settings.task)
        labels = labels_of(task, [*records, *dataset.train])
        load = Loader(task, labels, settings)
        say(f"{dataset.name}: {len(records)} records, labels {', '.join(labels)}")
        before, base = judge(load(model), records, folder / "before", settings, say)
        stages.append(Stage(dataset.name, "before", before))
        if not dataset.train:
            continue
        say(f"{dataset.name}: tuning with LoRA on {len(dataset.train)} records")
        finetune_lora(
            model, task, dataset.train, folder / "tuned", dataset.dev, settings.lora, labels=labels, keep_out=records
        )
        tuned = load(folder / "tuned")
        after, _ = judge(tuned, records, folder / "after", settings, say)
        stages.append(Stage(dataset.name, "after", after))
        crossed = _crossed(tuned, records, base, folder, settings)
        first = settings.budgets[0]
        contrasts[dataset.name] = contrast(before[first], after[first], crossed, seed=settings.seed)
        write_json(folder / "contrast.json", msgspec.to_builtins(contrasts[dataset.name]))
    outcome = Outcome(stages, contrasts)
    write_json(Path(out) / "cells.json", [msgspec.to_builtins(row) for row in rows(outcome)])
    return outcome


class Loader:
    """Loads a model to answer one task."""

    def __init__(self, task: Task, labels: Sequence[str], settings: Settings) -> None:
        self.task, self.labels, self.settings = task, tuple(labels), settings

    def __call__(self, path: str | Path) -> Answerer:
        """Load a model or an adapter."""
        options: dict[str, Any] = {"calibrate": self.settings.calibrate}
        return Answerer.load(path, self.task, labels=self.labels, **options)


def sample(dataset: Dataset, settings: Settings) -> list[Record]:
    """Draw the evaluation records, by the seed, among those where somebody marked a word; in the order of the data.

    Raises:
        InputError: there is none.
    """
    marked = [
        index
        for index, record in enumerate(dataset.records)
        if any(spans for note in record.annotations for spans in (note.rationale or {}).values())
    ]
    if not marked:
        raise InputError(f"{dataset.name}: no record has a rationale")
    drawn = np.random.default_rng(settings.seed).permutation(marked)[: settings.limit]
    return [dataset.records[index] for index in sorted(drawn.tolist())]


def judge(
    model: Answerer, records: Sequence[Record], folder: Path, settings: Settings, say: Say
) -> tuple[dict[str, Verdict], dict[str, list[WordScores | Rationale]]]:
    """Extract all rationales of a model and judge them under every budget."""
    mark = {model.name: fingerprint(model)}
    said: dict[str, list[WordScores | Rationale]] = {}
    for method in map(method_name, settings.methods):
        say(f"{folder.parent.name}, {folder.name}: {method}")
        path = folder / "rationales" / f"{method}.jsonl"
        extract_to_file(path, model, records, method, progress=method)
        said[method] = load_scores(path)
    generator = LocalGenerator(model.model, model.tokenizer, name=model.name, max_new_tokens=settings.reply_tokens)
    for budget in settings.asked:
        asking: dict[str, Any] = {"budget": budget, "order": settings.order, "form": settings.form}
        source = msgspec.convert(asking, Asking).source
        say(f"{folder.parent.name}, {folder.name}: {source}")
        path = folder / "rationales" / f"{source.replace('/', '-').replace(':', '-')}.jsonl"
        explain_to_file(path, model, generator, records, models=mark, progress=source, **asking)
        said[source] = load_scores(path)
    verdicts: dict[str, Verdict] = {}
    for budget in settings.budgets:
        place = folder / budget.replace("/", "-").replace(":", "-")
        verdicts[budget] = _judged(place, model, records, said, budget, settings)
        write_report(place / "report.html", verdicts[budget], f"{folder.parent.name}, {folder.name}, budget {budget}")
    return verdicts, said


def _judged(  # noqa: PLR0917
    place: Path,
    model: Answerer,
    records: Sequence[Record],
    said: dict[str, list[WordScores | Rationale]],
    budget: str,
    settings: Settings,
) -> Verdict:
    options = make_options({"budget": budget, "mask": settings.mask, "draws": settings.draws, "seed": settings.seed})
    return evaluate_to_folder(place, model, records, by_source(said), options, {model.name: fingerprint(model)})


def _crossed(
    tuned: Answerer,
    records: Sequence[Record],
    base: dict[str, list[WordScores | Rationale]],
    folder: Path,
    settings: Settings,
) -> Verdict:
    """Judge the untuned model's rationales on the tuned model: its masks, the other's decisions."""
    return _judged(folder / "crossed", tuned, records, base, settings.budgets[0], settings)


class Row(msgspec.Struct, frozen=True):
    """A cell of the study's table."""

    dataset: str
    stage: str
    budget: str
    cell: Cell


def rows(outcome: Outcome) -> list[Row]:
    """Give every cell of every verdict, with where it is from."""
    return [
        Row(stage.dataset, stage.stage, budget, cell)
        for stage in outcome.stages
        for budget, verdict in stage.verdicts.items()
        for cell in verdict.cells
    ]
