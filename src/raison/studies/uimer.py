"""The study of UIMER (Chen et al. 2023): does training with rationales help, with which attribution, and how much.

A cell of the study is one training: so many records, one variant (the task alone, or an attribution with its
settings), one seed. Cells are appended to `cells.jsonl` as they are done, so that an interrupted study goes on. Every
variant is tuned with the same care: six settings each are tried on seeds that no result rests on, and the one that is
best on dev records is taken. Of the paper's own settings only some are known, so none of them is claimed.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
import numpy as np
import torch

from raison.models.classifier import Classifier
from raison.models.slots import bio_tags
from raison.models.tagger import Tagger
from raison.rationales import VOTES, check_people
from raison.records import Annotation, InputError, Record
from raison.runs import digest, hash_records, processes
from raison.sources.explained import from_explanations, is_derived
from raison.sources.noise import noisy
from raison.studies.tuning import curve
from raison.studies.variants import Settings, TaskName, Variant, around, families, grid, of_shots, sources_of
from raison.training.align import examples, measure_of, objective_for, trainer_for
from raison.training.finetune import few_shot, label_names, load_network
from raison.training.learners import LabelLearner, Learner, TagLearner
from raison.training.runs import on_one_device
from raison.training.shots import few_shot_slots

Say = Callable[[str], None]
TUNING = 1000  # seeds of tuning begin here


class Data(NamedTuple):
    """The records of a study."""

    train: Sequence[Record]
    dev: Sequence[Record]
    test: Sequence[Record]


class Cell(msgspec.Struct, frozen=True):
    """What came of one training."""

    key: str  # hash of everything that it was made from
    part: str  # of the study, or "tuning"
    shots: int
    variant: str
    seed: int
    records: int
    score: float  # accuracy, or F1 of slots: of dev records in tuning, else of test records
    seconds: float  # of the training
    alignment: float | None = None  # F1 of the model's words and people's, on test records
    normalised_flip_rate: float | None = None
    made_from: Variant | None = None


# -------------------------------------------------------------------------------------------------------- cells


class Store:
    """Cells on disk, by what they were made from; of several processes, which all make them, the first one writes."""

    def __init__(self, folder: Path) -> None:
        self.path, self.writes = folder / "cells.jsonl", processes()[0] == 0
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]  # one cut off by an interruption is made again
        if whole != lines and self.writes:
            self.path.write_bytes(b"".join(whole))
        self.cells = {cell.key: cell for cell in (msgspec.json.decode(line, type=Cell) for line in whole)}

    def add(self, cell: Cell) -> None:
        """Append a cell."""
        self.cells[cell.key] = cell
        if self.writes:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(msgspec.json.encode(cell) + b"\n")


class Study:
    """One study: trains what is missing, and gives cells.

    Args:
        model: a folder or hub id of an encoder.
        data: its records.
        out: folder of the cells.
        settings: see `Settings`.
        say: is told what is done.

    Raises:
        InputError: the task is unknown, or nobody of that name gave rationales in the training records.
    """

    def __init__(self, model: str, data: Data, out: str | Path, settings: Settings, say: Say = print) -> None:
        if settings.task not in get_args(TaskName):
            raise InputError(f"unknown task {settings.task!r}; expected {', '.join(get_args(TaskName))}")
        _expect_people(data.train, settings.people)
        self.model, self.data, self.settings, self.say = model, data, settings, say
        self.store = Store(Path(out))
        self.mark = digest([model, *map(hash_records, data)])
        tagging = settings.task == "slots"
        self.sources = sources_of(data.train)
        self.answers = bio_tags([*data.train, *data.dev, *data.test]) if tagging else label_names(data.train)

    def run(self) -> list[Cell]:
        """Train whatever is missing, and give all cells of the study."""
        return [cell for shots in self.settings.shots for cell in self._shots(shots)]

    def _shots(self, shots: int) -> Iterator[Cell]:
        size = len(self._records(shots, TUNING, Variant("task alone")))
        alone = self.best(shots, grid(self.settings.task, size))
        seeds = range(self.settings.seeds)
        yield from (self.cell("main", shots, alone, seed) for seed in seeds)
        for name, tried in families(self.settings, alone.epochs).items():
            if self.settings.only and name not in self.settings.only:
                continue
            best = self.best(shots, [msgspec.structs.replace(alone, name=name, alignment=one) for one in tried])
            yield from (self.cell("main", shots, best, seed) for seed in seeds)
            for part in self.settings.parts:
                if part != "main" and (part != "rounds" or name.startswith("DM")):
                    for variant in around(part, best, self.sources):
                        yield from (self.cell(part, shots, variant, seed) for seed in seeds)

    def best(self, shots: int, tried: Sequence[Variant]) -> Variant:
        """Give the variant with the best mean score on dev records, over the seeds of tuning."""
        seeds = range(TUNING, TUNING + self.settings.tuning_seeds)
        scores = [np.mean([self.cell("tuning", shots, one, seed).score for seed in seeds]) for one in tried]
        return tried[int(np.argmax(scores))]

    def cell(self, part: str, shots: int, variant: Variant, seed: int) -> Cell:
        """Give one cell, trained now if it was not before, in this part or another."""
        on_dev = part == "tuning"
        made_by = [self.mark, on_dev, shots, seed, self.settings.batch, variant.given]
        made_by += [name for name, so in (("bf16", self.settings.bf16), ("dev", _has_rounds(variant))) if so]
        key = digest(made_by)
        found = self.store.cells.get(key)
        if found is None:
            records = self._records(shots, seed, variant)
            learner = self._learner(seed)
            started = time.perf_counter()
            train(learner, records, variant, seed, self.settings, self.data.dev)
            seconds = time.perf_counter() - started
            judged = self.data.dev if on_dev else self.data.test
            score = learner.score(judged, learner.encode(judged))[learner.metric]
            reasons = {} if on_dev else self._reasons(learner)
            what: dict[str, Any] = {"seconds": round(seconds, 2), "made_from": variant, **reasons}
            found = Cell(key, part, shots, variant.name, seed, len(records), score, **what)
            self.store.add(found)
            which = f"{variant.name}, {variant.tuned}" if on_dev else variant.name
            self.say(f"{part}, {of_shots(shots)}, {which}, seed {seed}: {score:.4f} in {seconds:.0f} s")
        return msgspec.structs.replace(found, part=part, variant=variant.name, made_from=variant)

    def _records(self, shots: int, seed: int, variant: Variant) -> list[Record]:
        everything = list(self.data.train)
        if shots and self.settings.task == "nli":
            rows = np.random.default_rng(seed).permutation(len(everything))[:shots]
            chosen = [everything[row] for row in sorted(rows.tolist())]
        elif shots:
            chosen = (few_shot_slots if self.settings.task == "slots" else few_shot)(everything, shots, seed)
        else:
            chosen = everything
        if variant.explained:
            chosen = _explained(chosen)
        people = self.settings.people
        if variant.noise is None or not variant.rate or not any(_has_rationale(record, people) for record in chosen):
            return chosen
        return noisy(chosen, variant.noise, variant.rate, seed, None if people in VOTES else [people]).records

    def _learner(self, seed: int) -> Learner:
        if self.settings.task == "slots":
            return TagLearner(Tagger.build(self.model, self.answers, crf=True, seed=seed, device=str(device())))
        tokenizer, network = load_network(self.model, self.answers, seed, trust=False)
        return LabelLearner(Classifier(network.to(device()), tokenizer, labels=self.answers))

    def _reasons(self, learner: Learner) -> dict[str, float | None]:
        """Look at the model's reasons by the first issue's evaluation; not those of taggers."""
        if self.settings.task == "slots" or not self.settings.watched:
            return {}
        people = self.settings.people
        marked = [record for record in self.data.test if _has_rationale(record, people)][: self.settings.watched]
        return dict(curve(learner.scorer, [_of(record, people) for record in marked])) if marked else {}


def _expect_people(records: Sequence[Record], people: str) -> None:
    """Refuse people who gave no rationales; in the few records of a cell they may be missing."""
    try:
        check_people((_only(record, lambda note: note.rationale is not None) for record in records), people)
    except InputError as error:
        raise InputError(f"--people: {error}") from None


def _has_rationale(record: Record, people: str) -> bool:
    return any(spans for note in _of(record, people).annotations for spans in (note.rationale or {}).values())


def _explained(records: Sequence[Record]) -> list[Record]:
    """Keep the annotations that were derived from explanations: those that a record has, else new ones."""
    plain = [record for record in records if not any(map(is_derived, record.annotations))]
    made = {record.id: record for record in from_explanations(plain)}
    return [_only(made.get(record.id, record), is_derived) for record in records]


def _only(record: Record, kept: Callable[[Annotation], bool]) -> Record:
    return msgspec.structs.replace(record, annotations=tuple(filter(kept, record.annotations)))


def _of(record: Record, people: str) -> Record:
    """Keep the annotations of one annotator, if one is named."""
    return record if people in VOTES else _only(record, lambda note: note.annotator == people)


def _has_rounds(variant: Variant) -> bool:
    return variant.alignment is not None and variant.alignment.rounds > 1


def device() -> torch.device:
    """Give the device that the trainer takes: an accelerator if there is one, of several processes each its own."""
    return _arguments(tempfile.gettempdir()).device


def _arguments(folder: str, **more: Any) -> Any:
    from transformers import TrainingArguments

    found = TrainingArguments(output_dir=folder, use_cpu=not torch.accelerator.is_available(), report_to=[], **more)
    return on_one_device(found)


def train(  # noqa: PLR0917
    learner: Learner,
    records: Sequence[Record],
    variant: Variant,
    seed: int,
    settings: Settings,
    dev: Sequence[Record] = (),
) -> None:
    """Train a learner in memory, without checkpoints: a cell that is interrupted begins again.

    With rounds, dev records are scored after each epoch, since each round but the first goes on from the best model so
    far. The model that is judged is the last one nevertheless, as of every other variant. Where no record has a
    rationale, it is trained for the task alone.
    """
    from transformers.trainer_callback import PrinterCallback

    rows = examples(learner, records, variant.alignment, drawn=True)
    if all(row.target is None for row in rows):
        variant = msgspec.structs.replace(variant, alignment=None)
    objective = objective_for(learner, rows, variant.alignment, seed)
    steps = -(-len(rows) // settings.batch) * variant.epochs
    measure = measure_of(learner, dev) if _has_rounds(variant) else None
    watched: dict[str, Any] = {"eval_strategy": "epoch", "metric_for_best_model": learner.metric} if measure else {}
    with tempfile.TemporaryDirectory() as folder:
        given = _arguments(
            folder,
            num_train_epochs=variant.epochs,
            learning_rate=variant.lr,
            weight_decay=0.01,
            per_device_train_batch_size=-(-settings.batch // processes()[1]),
            warmup_steps=steps // 10,
            seed=seed,
            bf16=settings.bf16,
            save_strategy="no",
            logging_strategy="epoch",
            remove_unused_columns=False,
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
            **watched,
        )
        trainer = trainer_for(objective, rows, given, measure)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    learner.network.eval()
