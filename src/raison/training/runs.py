"""What every training has in common: its folder, going on after an interruption, early stopping, progress.

Until a training is done everything is in `OUT.part`; its `raison.json` says what it is made from. Then the model gets
its name, and `raison.json` also has what came of it.
"""

import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from raison.records import InputError, write_json
from raison.runs import processes

RUN = "raison.json"  # in the model's folder: what it was trained with, and how that went
CAME_OF_IT = ("history", "counts", "rationales")  # keys of that file which are known only afterwards
Progress = Callable[[float, dict[str, float]], None]


def part_of(folder: Path) -> Path:
    """Give the folder in which a training works until it is done."""
    return folder.with_name(folder.name + ".part")


def is_done(folder: Path, frame: dict[str, Any]) -> bool:
    """Whether the folder holds this very training, done; what an interruption at the very end left is removed.

    Raises:
        InputError: it holds something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if _frame_of(folder) != _plain(frame):
        raise InputError(f"{folder}: exists already and was made from something else; choose another folder")
    if part_of(folder).exists():  # stopped after the model had got its name
        shutil.rmtree(part_of(folder), ignore_errors=True)  # another process may be at it, too
    return True


def begin(work: Path, frame: dict[str, Any]) -> None:
    """Make the folder of a training, or find it as an interruption left it; of several processes the first one does.

    Raises:
        InputError: it is of another training.
    """
    if processes()[0]:
        return
    if work.exists() and _frame_of(work) != _plain(frame):
        raise InputError(f"{work}: an interrupted training with other settings is here; finish it or remove it")
    write_json(work / RUN, frame)


def _plain(frame: dict[str, Any]) -> dict[str, Any]:
    return msgspec.json.decode(msgspec.json.encode(frame))


def _frame_of(folder: Path) -> dict[str, Any] | None:
    try:
        frame: dict[str, Any] = msgspec.json.decode((folder / RUN).read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    return {key: value for key, value in frame.items() if key not in CAME_OF_IT}


def last_checkpoint(work: Path) -> str | None:
    """Give the last checkpoint that was written whole."""
    found = [path for path in work.glob("checkpoint-*") if (path / "trainer_state.json").exists()]
    return str(max(found, key=lambda path: int(path.name.rpartition("-")[2]))) if found else None


def run(trainer: Any, work: Path) -> None:
    """Train, from the last checkpoint on; what ends before its first step leaves no folder behind."""
    try:
        trainer.train(resume_from_checkpoint=last_checkpoint(work))
    except BaseException:
        if not trainer.state.global_step and last_checkpoint(work) is None and trainer.is_world_process_zero():
            shutil.rmtree(work, ignore_errors=True)
        raise


def finish(trainer: Any, tokenizer: Any, folder: Path, told: dict[str, Any], **saving: Any) -> None:
    """Save the model beside its checkpoints, give it its name, and drop them.

    Args:
        trainer: Hugging Face's, done.
        tokenizer: saved with the model.
        folder: the model's name.
        told: what `raison.json` says beside the history.
        saving: arguments of the model's `save_pretrained`.
    """
    work = part_of(folder)
    final = work / "final"
    trainer.model.save_pretrained(final, **saving)
    (final / "README.md").unlink(missing_ok=True)  # a model card of blanks that peft writes
    tokenizer.save_pretrained(final)
    write_json(final / RUN, {**told, "history": trainer.state.log_history})
    if folder.exists():
        folder.rmdir()
    os.replace(final, folder)
    shutil.rmtree(work)


def expect_parts(batch: int, accumulate: int) -> None:
    """Refuse a step that can't be shared evenly.

    Raises:
        InputError: by all processes, and by the parts that each computes one after the other.
    """
    parts = accumulate * processes()[1]
    if batch % parts:
        of = f" ({accumulate} for each of {processes()[1]} processes)" if processes()[1] > 1 else ""
        raise InputError(f"batch {batch}: can't be computed in {parts} equal parts{of}")


def parts_of(config: Any) -> dict[str, int]:
    """Give the trainer's arguments that make a step of `config.batch` records, whatever the number of processes."""
    each = config.batch // (config.accumulate * processes()[1])
    return {"per_device_train_batch_size": each, "gradient_accumulation_steps": config.accumulate}


def weigh(trainer: Any, batches: Sequence[dict[str, Any]], rows: str) -> None:
    """Give the records of a step's batches their `weight` (rows,), so that each counts once in an epoch.

    Several processes get as many batches, of one size; what they lack at the end, the epoch's first records once more,
    weighs nothing.

    Args:
        trainer: Hugging Face's, which has just given the batches.
        batches: of one process.
        rows: name of a tensor with a row for each record.
    """
    state = trainer.accelerator.gradient_state
    for index, batch in enumerate(batches):
        size = real = len(batch[rows])
        if index == len(batches) - 1 and state.end_of_dataloader and state.remainder > 0:
            real = state.remainder - trainer.args.process_index * size
        batch["weight"] = (torch.arange(size, device=batch[rows].device) < real).float()


def arguments(config: Any, work: Path, metric: str | None, **more: Any) -> Any:
    """Give the trainer's arguments.

    Args:
        config: has `epochs`, `lr`, `weight_decay`, `bf16` and `seed`.
        work: where checkpoints go.
        metric: of dev records, by which the best epoch is kept; None = there are no dev records.
        more: further ones.
    """
    from transformers import TrainingArguments

    by_dev: dict[str, Any] = {
        "eval_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": metric,
        "greater_is_better": True,
    }
    found = TrainingArguments(
        output_dir=str(work),
        num_train_epochs=config.epochs,
        learning_rate=config.lr,
        weight_decay=config.weight_decay,
        bf16=config.bf16,
        seed=config.seed,
        save_strategy="epoch",
        save_total_limit=2,
        logging_strategy="epoch",
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
        restore_callback_states_from_checkpoint=True,  # early stopping counts on where it stopped
        dataloader_pin_memory=torch.cuda.is_available(),
        **(by_dev if metric else {}),
        **more,
    )
    return on_one_device(found)


def on_one_device(settings: Any) -> Any:
    """Let one process take one device: copies of a model would not find their places."""
    if settings.n_gpu > 1:
        settings._n_gpu = 1
    return settings


def evaluated(trainer: Any, measures: Mapping[str, float | None]) -> dict[str, float]:
    """Do what a trainer's `evaluate` does with what was measured: log it, tell the callbacks, and give it.

    A measure to choose by that is missing is logged as such, and for the choice below every other.
    """
    found: Any = {f"eval_{name}": value for name, value in measures.items()}
    trainer.log(dict(found))
    chosen_by = f"eval_{trainer.args.metric_for_best_model}"
    if found.get(chosen_by, 0.0) is None:
        found[chosen_by] = -math.inf
    trainer.control = trainer.callback_handler.on_evaluate(trainer.args, trainer.state, trainer.control, found)
    return found


def counting(data: Any) -> Any:
    """Make a callback that tells a data set with `set_epoch` which epoch it is: of several processes, each its own."""
    from transformers import TrainerCallback

    class Count(TrainerCallback):
        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            data.set_epoch(round(state.epoch or 0.0))

    return Count()


def watch(trainer: Any, patience: int | None, progress: Progress | None) -> None:
    """Stop early if asked to, and report progress instead of printing it.

    What goes on after an interruption first reports `going_on_after`, an epoch.
    """
    from transformers import EarlyStoppingCallback, TrainerCallback
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    if patience is not None:
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=patience))
    if progress is None:
        return
    report = progress

    class Reporter(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step:
                report(state.global_step / max(state.max_steps, 1), {"going_on_after": state.epoch})

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            report(state.global_step / max(state.max_steps, 1), {})

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            report(state.global_step / max(state.max_steps, 1), dict(logs or {}))

    trainer.add_callback(Reporter())
