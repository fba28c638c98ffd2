"""The study of UIMER (Chen et al. 2023): does training with rationales help, with which attribution, and how much.

A cell of the study is one training: so many records, one variant (the task alone, or an attribution with its
settings), one seed. Cells are appended to `cells.jsonl` as they are done, so that an interrupted study goes on. Every
variant is tuned with the same care: six settings each are tried on seeds that no result rests on, and the one that is
best on dev records is taken. Of the paper's own settings only some are known, so none of them is claimed.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import msgspec
import numpy as np
import torch

from raison.attribution.marginalisation import Candidates, candidates_of
from raison.models.classifier import LOADING_ERRORS, Classifier, expect_folder, first_line
from raison.models.slots import bio_tags
from raison.models.tagger import Tagger
from raison.records import InputError, Record
from raison.runs import digest, hash_records
from raison.sources.noise import noisy
from raison.studies.tuning import curve
from raison.training.align import examples, objective_for, trainer_for
from raison.training.aligned import Alignment
from raison.training.finetune import few_shot, label_names, load_network
from raison.training.learners import LabelLearner, Learner, TagLearner
from raison.training.shots import few_shot_slots
from raison.training.teachers import Example

Say = Callable[[str], None]
TaskName = Literal["intent", "slots", "nli"]
Part = Literal["main", "warm-up", "rounds", "strength", "noise"]
TUNING = 1000  # seeds of tuning begin here
NOISE = ("drop", "shift", "swap", "replace")


class Variant(msgspec.Struct, frozen=True):
    """One way to train."""

    name: str
    alignment: Alignment | None = None  # None = the task alone
    lr: float = 2e-4
    epochs: int = 60
    noise: str | None = None  # kind, see `raison.sources.noise.noisy`
    rate: float = 0.0  # of the noise


class Data(NamedTuple):
    """The records of a study."""

    train: Sequence[Record]
    dev: Sequence[Record]
    test: Sequence[Record]


class Settings(msgspec.Struct, frozen=True):
    """How the study is done."""

    task: TaskName = "intent"
    shots: tuple[int, ...] = (1,)  # per label or kind of slot; of nli: records in all; 0 = all there are
    seeds: int = 10
    tuning_seeds: int = 3
    batch: int = 24
    people: str = "soft"  # whose rationales
    parts: tuple[Part, ...] = ("main",)
    only: tuple[str, ...] = ()  # families; none = all of the task
    watched: int = 100  # test records on which the model's reasons are looked at
    masked_lm: str | None = None  # what `IM masked LM` draws by; None = that family is left out


def settings_of(**given: Any) -> Settings:
    """Check what is asked of a study.

    Raises:
        InputError: a name or a number is not one of those that can be.
    """
    try:
        settings = msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(f"study: {error}") from None
    if min(settings.shots, default=-1) < 0:
        raise InputError("shots: expected numbers of at least 0, by commas")
    known = families(settings)
    strange = next((name for name in settings.only if name not in known), None)
    if strange is not None:
        raise InputError(f"only {strange!r}: expected some of {', '.join(known)}")
    return settings


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


# ----------------------------------------------------------------------------------------------------- variants


def families(settings: Settings) -> dict[str, list[Alignment]]:
    """Give the ways to train with rationales, each with the six settings that are tried."""
    strengths = [{"alpha": alpha, "margin": margin} for margin in (1.0, 4.0) for alpha in (0.3, 1.0, 3.0)]
    alphas = [0.03, 0.1, 0.3, 1.0, 3.0, 10.0]
    warm = {"warm_up": 10}

    def tried(choices: Sequence[Mapping[str, Any]], **same: Any) -> list[Alignment]:
        return [Alignment(**{**same, **choice}, people=settings.people) for choice in choices]

    found = {
        "GB sign": tried([{"alpha": 1000 * alpha} for alpha in alphas], by="gradient-sum"),
        "GB order": tried([{"alpha": alpha} for alpha in alphas], by="gradient-l1"),
        "IM mask": tried(strengths, replacement="mask"),
        "IM uniform": tried(strengths, replacement="uniform"),
        "IM prior": tried(strengths, replacement="prior"),
        "IM uniform (warm)": tried(strengths, replacement="uniform", **warm),
        "IM mask (warm)": tried(strengths, replacement="mask", **warm),
        "IM prior (warm)": tried(strengths, replacement="prior", **warm),
        "DM one pass": tried([{"alpha": alpha} for alpha in alphas], by="diffmask", **warm),
        "DM rounds": tried(
            [{"alpha": alpha} for alpha in alphas], by="diffmask", rounds=10, extractor_epochs=10, **warm
        ),
    }
    if settings.masked_lm is not None:
        found["IM masked LM"] = tried(strengths, replacement="masked-lm")
        found["IM masked LM (warm)"] = tried(strengths, replacement="masked-lm", **warm)
    if settings.task != "slots":
        found["attention"] = tried([{"alpha": alpha} for alpha in alphas], by="attention")
    return found


def grid(task: TaskName) -> list[Variant]:
    """Give the settings of the task alone that are tried."""
    rates = (1e-4, 2e-4, 5e-4) if task != "slots" else (2e-4, 5e-4, 1e-3)
    return [Variant("task alone", None, lr, epochs) for lr in rates for epochs in (30, 60)]


def around(part: Part, best: Variant) -> Iterator[Variant]:
    """Give what a part of the study varies, all else as in the best setting of a family."""
    given = best.alignment
    assert given is not None

    def changed(name: str, **values: Any) -> Variant:
        alignment = msgspec.structs.replace(given, **values)
        return msgspec.structs.replace(best, name=f"{best.name}, {name}", alignment=alignment)

    if part == "warm-up":
        yield from (changed(f"warm-up {epochs}", warm_up=epochs) for epochs in (0, 5, 10, 20, 40))
    elif part == "rounds":
        yield from (
            changed(f"{rounds} rounds of {epochs} extractor epochs", rounds=rounds, extractor_epochs=epochs)
            for rounds in (1, 3, 5, 10)
            for epochs in (1, 10, 50)
        )
    elif part == "strength":
        yield from (
            changed(f"alpha {alpha:g}, margin {margin:g}", alpha=alpha, margin=margin)
            for alpha in (0.1, 0.3, 1.0, 3.0, 10.0)
            for margin in (0.25, 1.0, 4.0)
        )
    else:
        rates = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
        yield from (
            msgspec.structs.replace(best, name=f"{best.name}, {kind} {rate:g}", noise=kind, rate=rate)
            for kind in NOISE
            for rate in rates
        )


# -------------------------------------------------------------------------------------------------------- cells


class Store:
    """Cells on disk, by what they were made from."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "cells.jsonl"
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]  # one cut off by an interruption is made again
        if whole != lines:
            self.path.write_bytes(b"".join(whole))
        self.cells = {cell.key: cell for cell in (msgspec.json.decode(line, type=Cell) for line in whole)}

    def add(self, cell: Cell) -> None:
        """Append a cell."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode(cell) + b"\n")
        self.cells[cell.key] = cell


class Study:
    """One study: trains what is missing, and gives cells.

    Args:
        model: a folder or hub id of an encoder.
        data: its records.
        out: folder of the cells.
        settings: see `Settings`.
        say: is told what is done.

    Raises:
        InputError: the task is unknown.
    """

    def __init__(self, model: str, data: Data, out: str | Path, settings: Settings, say: Say = print) -> None:
        if settings.task not in get_args(TaskName):
            raise InputError(f"unknown task {settings.task!r}; expected {', '.join(get_args(TaskName))}")
        self.model, self.data, self.settings, self.say = model, data, settings, say
        self.store = Store(Path(out))
        self.mark = digest([model, *map(hash_records, data)])
        tagging = settings.task == "slots"
        self.answers = bio_tags([*data.train, *data.dev, *data.test]) if tagging else label_names(data.train)

    def run(self) -> list[Cell]:
        """Train whatever is missing, and give all cells of the study."""
        return [cell for shots in self.settings.shots for cell in self._shots(shots)]

    def _shots(self, shots: int) -> Iterator[Cell]:
        alone = self.best(shots, grid(self.settings.task))
        seeds = range(self.settings.seeds)
        yield from (self.cell("main", shots, alone, seed) for seed in seeds)
        for name, tried in families(self.settings).items():
            if self.settings.only and name not in self.settings.only:
                continue
            best = self.best(shots, [msgspec.structs.replace(alone, name=name, alignment=one) for one in tried])
            yield from (self.cell("main", shots, best, seed) for seed in seeds)
            for part in self.settings.parts:
                if part != "main" and (part != "rounds" or name.startswith("DM")):
                    for variant in around(part, best):
                        yield from (self.cell(part, shots, variant, seed) for seed in seeds)

    def best(self, shots: int, tried: Sequence[Variant]) -> Variant:
        """Give the variant with the best mean score on dev records, over the seeds of tuning."""
        seeds = range(TUNING, TUNING + self.settings.tuning_seeds)
        scores = [np.mean([self.cell("tuning", shots, one, seed).score for seed in seeds]) for one in tried]
        return tried[int(np.argmax(scores))]

    def cell(self, part: str, shots: int, variant: Variant, seed: int) -> Cell:
        """Give one cell, trained now if it was not before."""
        on_dev = part == "tuning"
        key = digest([self.mark, on_dev, shots, seed, self.settings.batch, msgspec.to_builtins(variant)])
        found = self.store.cells.get(key)
        if found is None:
            records = self._records(shots, seed, variant)
            learner = self._learner(seed)
            started = time.perf_counter()
            train(learner, records, variant, seed, self.settings)
            seconds = time.perf_counter() - started
            judged = self.data.dev if on_dev else self.data.test
            score = learner.score(judged, learner.encode(judged))[learner.metric]
            reasons = {} if on_dev else self._reasons(learner)
            what: dict[str, Any] = {"seconds": round(seconds, 2), "made_from": variant, **reasons}
            found = Cell(key, part, shots, variant.name, seed, len(records), score, **what)
            self.store.add(found)
            self.say(f"{part}, {shots} shots, {variant.name}, seed {seed}: {score:.4f} in {seconds:.0f} s")
        return msgspec.structs.replace(found, part=part)

    def _records(self, shots: int, seed: int, variant: Variant) -> list[Record]:
        everything = list(self.data.train)
        if shots and self.settings.task == "nli":
            rows = np.random.default_rng(seed).permutation(len(everything))[:shots]
            chosen = [everything[row] for row in sorted(rows.tolist())]
        elif shots:
            chosen = (few_shot_slots if self.settings.task == "slots" else few_shot)(everything, shots, seed)
        else:
            chosen = everything
        if variant.noise is None or not variant.rate:
            return chosen
        people = self.settings.people
        names = None if people in ("soft", "majority", "union") else [people]
        return noisy(chosen, variant.noise, variant.rate, seed, names).records

    def _learner(self, seed: int) -> Learner:
        if self.settings.task == "slots":
            return TagLearner(Tagger.build(self.model, self.answers, crf=True, seed=seed))
        tokenizer, network = load_network(self.model, self.answers, seed, trust=False)
        return LabelLearner(Classifier(network, tokenizer, labels=self.answers))

    def _reasons(self, learner: Learner) -> dict[str, float | None]:
        """Look at the model's reasons by the first issue's evaluation; not those of taggers."""
        if self.settings.task == "slots" or not self.settings.watched:
            return {}
        people = self.settings.people
        marked = [record for record in self.data.test if _has_rationale(record, people)][: self.settings.watched]
        return dict(curve(learner.scorer, [_of(record, people) for record in marked]))


def _has_rationale(record: Record, people: str) -> bool:
    return any(spans for note in _of(record, people).annotations for spans in (note.rationale or {}).values())


def _of(record: Record, people: str) -> Record:
    """Keep the annotations of one annotator, if one is named."""
    if people in ("soft", "majority", "union"):
        return record
    kept = tuple(note for note in record.annotations if note.annotator == people)
    return msgspec.structs.replace(record, annotations=kept)


def train(learner: Learner, records: Sequence[Record], variant: Variant, seed: int, settings: Settings) -> None:
    """Train a learner in memory, without checkpoints: a cell that is interrupted begins again."""
    from transformers import TrainingArguments
    from transformers.trainer_callback import PrinterCallback

    rows = examples(learner, records, variant.alignment)
    drawn = variant.alignment is not None and variant.alignment.replacement == "masked-lm"
    candidates = _candidates(settings.masked_lm, learner, rows) if drawn else None
    objective = objective_for(learner, rows, variant.alignment, seed, candidates)
    steps = -(-len(rows) // settings.batch) * variant.epochs
    with tempfile.TemporaryDirectory() as folder:
        given = TrainingArguments(
            output_dir=folder,
            num_train_epochs=variant.epochs,
            learning_rate=variant.lr,
            weight_decay=0.01,
            per_device_train_batch_size=settings.batch,
            warmup_steps=steps // 10,
            seed=seed,
            save_strategy="no",
            logging_strategy="epoch",
            remove_unused_columns=False,
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        trainer = trainer_for(objective, rows, given)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    learner.network.eval()


def _candidates(name: str | None, learner: Learner, rows: Sequence[Example]) -> Candidates:
    """Ask the masked language model what might stand in the place of each token."""
    from transformers import AutoModelForMaskedLM

    if name is None:
        raise InputError("masked-lm replacements need --masked-lm")
    expect_folder(name)
    try:
        network = AutoModelForMaskedLM.from_pretrained(name, use_safetensors=True).eval()
    except LOADING_ERRORS as error:
        raise InputError(f"{name}: can't be loaded as a masked language model ({first_line(error)})") from None
    return candidates_of(network.to(learner.scorer.device), learner.scorer, [row.tokens for row in rows])
