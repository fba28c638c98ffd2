"""Fine-tuning a classifier on labels. The trainer is Hugging Face's; ours are the data, the folder and the checks."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from raison.models.classifier import LOADING_ERRORS, Classifier, expect_folder, first_line
from raison.records import InputError, Record
from raison.runs import hash_records, provenance
from raison.training.align import Curve, examples, expect_dev, measure_of, objective_for, trainer_for
from raison.training.aligned import Alignment
from raison.training.learners import LabelLearner
from raison.training.runs import Progress, arguments, begin, finish, is_done, last_checkpoint, part_of, watch


class Config(msgspec.Struct, frozen=True):
    """How a classifier is fine-tuned."""

    epochs: int = 3  # passes over the training records
    lr: float = 5e-5  # highest learning rate; it rises over the first tenth of the steps and falls to 0
    batch: int = 32  # records per step
    weight_decay: float = 0.01
    shots: int | None = None  # training records per label, drawn by the seed; None = all
    patience: int | None = None  # epochs without a better dev accuracy before it ends; None = never
    bf16: bool = False  # train in bfloat16, where the device can
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
    expect_dev(alignment, held_out)
    if not chosen:
        raise InputError("no training record has a label")
    said = {"model": str(model), **msgspec.to_builtins(config)}
    said |= {} if alignment is None else {"alignment": msgspec.to_builtins(alignment)}
    frame = provenance({"command": "train", **said}, chosen, {})
    frame["dev"] = {"records": len(held_out), "sha256": hash_records(held_out)}
    folder = Path(out)
    work = part_of(folder)
    _check(config)
    if not is_done(folder, frame):
        tokenizer, network = load_network(str(model), labels, config.seed, trust_remote_code)
        batches: dict[str, Any] = {
            "per_device_train_batch_size": config.batch,
            "use_cpu": not torch.accelerator.is_available(),  # says that bfloat16 on the CPU is meant
            "warmup_steps": math.ceil(len(chosen) / config.batch) * config.epochs // 10,
        }
        learner = LabelLearner(Classifier(network, tokenizer, labels=labels))
        rows, measure = examples(learner, chosen, alignment), measure_of(learner, held_out, curve)
        objective = objective_for(learner, rows, alignment, config.seed)
        begin(work, frame)
        trainer = trainer_for(objective, rows, arguments(config, work, bool(held_out), **batches), measure)
        watch(trainer, config.patience if held_out else None, progress)
        trainer.train(resume_from_checkpoint=last_checkpoint(work))
        if trainer.is_world_process_zero():
            finish(trainer, tokenizer, folder, frame)
        trainer.accelerator.wait_for_everyone()
    return Classifier.load(folder, trust_remote_code=trust_remote_code)


def _check(config: Config) -> None:
    """Refuse settings that can't be trained with."""
    if not 0 < config.lr < math.inf:
        raise InputError(f"lr {config.lr}: expected a number above 0")
    if min(config.epochs, config.batch, config.shots or 1, config.patience or 1) < 1 or config.seed < 0:
        raise InputError("epochs, batch, shots and patience must be at least 1, and the seed at least 0")


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

    expect_folder(name)
    try:
        config: Any = AutoConfig.from_pretrained(name, trust_remote_code=trust)
    except LOADING_ERRORS as error:
        raise InputError(f"{name}: can't be loaded ({first_line(error)})") from None
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
