"""Fine-tuning a classifier on labels. The trainer is Hugging Face's; ours are the data, the folder and the checks."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch

from raison.models.classifier import LOADING_ERRORS, Classifier, expect_folder, first_line
from raison.records import InputError, Record
from raison.runs import hash_records, provenance
from raison.training.align import (
    Curve,
    examples,
    expect_schedule,
    measure_of,
    objective_for,
    rationales_of,
    told_of,
    trainer_for,
)
from raison.training.aligned import Alignment
from raison.training.learners import LabelLearner, Learner
from raison.training.runs import (
    Progress,
    arguments,
    begin,
    expect_parts,
    finish,
    is_done,
    part_of,
    parts_of,
    run,
    watch,
)


class Config(msgspec.Struct, frozen=True):
    """How a classifier, or a tagger of words, is fine-tuned."""

    epochs: int = 3  # passes over the training records
    lr: float = 5e-5  # highest learning rate; it rises over the first tenth of the steps and falls to 0
    batch: int = 32  # records per step
    weight_decay: float = 0.01
    shots: int | None = None  # training records per label, or words per kind of slot, drawn by the seed; None = all
    patience: int | None = None  # epochs without a better dev accuracy, or F1, before it ends; None = never
    bf16: bool = False  # train in bfloat16, where the device can
    accumulate: int = 1  # parts of a step that are computed one after the other, to need less memory
    seed: int = 0


def finetune(
    model: str | Path,
    train: Sequence[Record],
    out: str | Path,
    dev: Sequence[Record] = (),
    config: Config | None = None,
    *,
    alignment: Alignment | None = None,
    curve: Curve | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Classifier:
    """Fine-tune a classifier on the labels of records, and on people's rationales if asked to, and save it.

    With dev records the checkpoint with the best dev accuracy is kept. Until the training is done everything is in
    `OUT.part`; interrupted, it goes on from the last epoch, with the same result.

    Args:
        model: a folder or hub id of a classifier, or of an encoder without a head, which gets one.
        train: training records; those without a label are left out.
        out: the folder of the trained model; its `raison.json` says how it was made.
        dev: records to watch, and to choose the epoch by.
        config: see `Config`.
        alignment: train with the records' rationales as well; see `Alignment`.
        curve: measures more after each epoch, on dev records with marked words; what it gives goes into the history.
        trust_remote_code: run code that comes with the model. Off unless asked for.
        progress: called with the share that is done, and with what the trainer logs.

    Returns:
        The trained classifier, without dropout.

    Raises:
        InputError: the model can't be loaded, a label is unknown or has too few records, or `out` holds something else.
    """
    config = config or Config()
    labels = _in_order_of(str(model), label_names([*train, *dev]), trust_remote_code)
    chosen = few_shot(train, config.shots, config.seed) if config.shots else [r for r in train if r.label is not None]
    held_out = [record for record in dev if record.label is not None]
    if not chosen:
        raise InputError("no training record has a label")

    def learner(device: torch.device) -> Learner:
        tokenizer, network = load_network(str(model), labels, config.seed, trust_remote_code)
        return LabelLearner(Classifier(network.to(device), tokenizer, labels=labels))

    job = Job({"model": str(model)}, chosen, held_out, LabelLearner.metric, learner)
    fit(job, out, config, alignment, curve, progress)
    return Classifier.load(out, trust_remote_code=trust_remote_code)


class Job(NamedTuple):
    """What is trained, and on which records."""

    said: Mapping[str, Any]  # what `raison.json` says beside the configuration
    train: Sequence[Record]
    dev: Sequence[Record]
    metric: str  # of the learner; of dev records it chooses the epoch
    learner: Callable[[torch.device], Learner]  # makes it, on a device


def fit(  # noqa: PLR0917
    job: Job,
    out: str | Path,
    config: Config,
    alignment: Alignment | None = None,
    curve: Curve | None = None,
    progress: Progress | None = None,
) -> None:
    """Train whatever can be a `Learner` and save it, or find it done; see `finetune`.

    Raises:
        InputError: what is asked of the training can't be, or `out` holds something else.
    """
    _check(config)
    expect_schedule(alignment, job.dev, config.epochs, config.patience)
    said = {**job.said, **msgspec.to_builtins(config)}
    said |= {} if alignment is None else {"alignment": told_of(alignment)}
    frame = provenance({"command": "train", **said}, job.train, {})
    frame["dev"] = {"records": len(job.dev), "sha256": hash_records(job.dev)}
    folder = Path(out)
    work = part_of(folder)
    if is_done(folder, frame):
        return
    batches: dict[str, Any] = {
        **parts_of(config),
        "use_cpu": not torch.accelerator.is_available(),  # says that bfloat16 on the CPU is meant
        "warmup_steps": math.ceil(len(job.train) / config.batch) * config.epochs // 10,
    }
    settings = arguments(config, work, job.metric if job.dev else None, **batches)
    learner = job.learner(settings.device)
    rows, measure = examples(learner, job.train, alignment), measure_of(learner, job.dev, curve)
    told = frame if alignment is None else {**frame, "rationales": rationales_of(rows, alignment)}
    objective = objective_for(learner, rows, alignment, config.seed)
    begin(work, frame)
    trainer = trainer_for(objective, rows, settings, measure)
    watch(trainer, config.patience if job.dev else None, progress)
    run(trainer, work)
    if trainer.is_world_process_zero():
        finish(trainer, learner.tokenizer, folder, told)
    trainer.accelerator.wait_for_everyone()


def _check(config: Config) -> None:
    """Refuse settings that can't be trained with."""
    if not 0 < config.lr < math.inf:
        raise InputError(f"lr {config.lr}: expected a number above 0")
    counts = (config.epochs, config.batch, config.accumulate, config.shots or 1, config.patience or 1)
    if min(counts) < 1 or config.seed < 0:
        raise InputError("epochs, batch, accumulate, shots and patience must be at least 1, and the seed at least 0")
    expect_parts(config.batch, config.accumulate)
    if config.bf16 and torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        raise InputError("bf16: this device can't compute in bfloat16")


def label_names(records: Sequence[Record]) -> tuple[str, ...]:
    """Give the labels of a data set: the label set of its records, else the labels that occur, sorted.

    Raises:
        InputError: there are fewer than two.
    """
    stated = next((record.label_set for record in records if record.label_set), None)
    labels = stated or tuple(sorted({record.label for record in records if record.label is not None}))
    if len(labels) < 2:
        raise InputError(f"training needs at least two labels; the records have {', '.join(labels) or 'none'}")
    return labels


def few_shot(records: Sequence[Record], shots: int, seed: int = 0) -> list[Record]:
    """Draw `shots` records of each label, by the seed; they stand in the order of the data.

    Raises:
        InputError: a label has fewer.
    """
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for label in label_names(records):
        found = [index for index, record in enumerate(records) if record.label == label]
        if len(found) < shots:
            raise InputError(
                f"label {label!r} has {len(found)} training records, fewer than the {shots} shots asked for"
            )
        chosen += rng.permutation(found)[:shots].tolist()
    return [records[index] for index in sorted(chosen)]


# ---------------------------------------------------------------------------------------------------- model


def _in_order_of(name: str, labels: tuple[str, ...], trust: bool) -> tuple[str, ...]:
    """Give the labels in the order of the model's own outputs, where it has outputs for just these labels."""
    from transformers import AutoConfig

    from raison.models.tagger_network import TaggerConfig

    expect_folder(name)
    try:
        config: Any = AutoConfig.from_pretrained(name, trust_remote_code=trust)
    except LOADING_ERRORS as error:
        raise InputError(f"{name}: can't be loaded ({first_line(error)})") from None
    if isinstance(config, TaggerConfig):
        raise InputError(f"{name}: a tagger of words, which labels can't train; --task slots trains it on")
    spelled = {label.casefold(): label for label in labels}
    names: dict[int, str] = dict(config.id2label or {})
    own = [names[index].casefold() for index in sorted(names)]
    return tuple(spelled[label] for label in own) if sorted(own) == sorted(spelled) else labels


def load_network(name: str, labels: Sequence[str], seed: int, trust: bool) -> tuple[Any, Any]:
    """Load tokenizer and model, for training; a new head is drawn by the seed."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed

    expect_folder(name)
    set_seed(seed)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust)
        network = AutoModelForSequenceClassification.from_pretrained(
            name,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=trust,
        )
    except LOADING_ERRORS as error:
        raise InputError(f"{name}: can't be loaded ({first_line(error)})") from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if network.config.pad_token_id is None:
        network.config.pad_token_id = tokenizer.pad_token_id
    return tokenizer, network
