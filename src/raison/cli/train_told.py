"""What `raison train` refuses before it loads a model, and what it tells of a training that ended early."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from raison.records import InputError

if TYPE_CHECKING:
    from raison.studies.tuning import Data


# ------------------------------------------------------------------------------------------------------ refused


def expect_options(
    *,
    dev: str | None,
    patience: int | None,
    lora: bool,
    task: str | None,
    settings: Sequence[str] | None,
    rest: Sequence[str] | None,
) -> None:
    """Refuse options that have no effect, whatever the records are.

    Args:
        dev: of `--dev`.
        patience: of `--patience`.
        lora: of `--lora`.
        task: of `--task`.
        settings: of `--align-set`.
        rest: what stands behind the options.

    Raises:
        InputError: one line that names the option.
    """
    if patience is not None and dev is None:
        raise InputError(f"--patience {patience}: needs --dev records, by whose score the training ends")
    if task not in (None, "slots") and not lora:
        raise InputError(f"--task {task}: expected slots, or nothing for a classifier of labels; others need --lora")
    stray = next((text for text in rest or [] if "=" in text and not Path(text).exists()), None)
    if settings and stray:
        raise InputError(
            f"{stray}: each setting needs its own --align-set, as in --align-set {settings[0]} --align-set {stray}"
        )


def expect_records(
    records: "Data", files: tuple[str, str | None], *, lora: bool, task: str | None, head: str | None
) -> None:
    """Refuse records that a training has no use for.

    Args:
        records: the records.
        files: of the training and of the dev records, as the user named them.
        lora: whether a causal language model is trained.
        task: of `--task`.
        head: of `--head`.

    Raises:
        InputError: there is a head of taggers, but not a word that the labels are not meant; or dev records have no
            label, or one that is none of the training records' label set.
    """
    from raison.studies.tuning import tags_words

    file, dev = files
    labelled = any(record.label is not None for record in records.train)
    if head is not None and task is None and labelled and not lora:
        raise InputError(f"--head {head}: only for taggers of words, and {file} has labels; add --task slots for one")
    if dev is None or (not lora and tags_words(records.train, task, head)):
        return
    if all(record.label is None for record in records.dev):
        raise InputError(f"{dev}: no record has a label, so that there is nothing to watch")
    stated = next((record.label_set for record in records.train if record.label_set), None)
    strange = next((one for one in records.dev if stated and one.label not in (None, *stated)), None)
    if strange is not None and stated and not lora:
        known = ", ".join(stated)
        raise InputError(f"{dev}: record {strange.id!r}: label {strange.label!r} is not one of {known}, as in {file}")


# --------------------------------------------------------------------------------------------------------- told


def ended_early(out: str, epochs: int, patience: int | None, stop: int) -> str | None:
    """Say after which epoch a training ended, and why, from what its folder tells; None = it ended after the last.

    Args:
        out: the folder of the trained model.
        epochs: that it was to have.
        patience: epochs without a better dev metric after which it ends; None = never.
        stop: rounds of DiffMask's without one after which it ends; 0 = never.
    """
    from raison.studies.tuning import NAMES
    from raison.training.runs import RUN

    history: list[dict[str, Any]] = msgspec.json.decode((Path(out) / RUN).read_bytes())["history"]
    last = round(max(log["epoch"] for log in history))
    key = next((name for name in ("eval_accuracy", "eval_f1") if any(name in log for log in history)), None)
    if last >= epochs or key is None:
        return None
    found = [-1.0 if log[key] is None else log[key] for log in history if key in log]
    since = len(found) - 1 - found.index(max(found))
    by_patience = patience is not None and (since >= patience or not stop)
    count, unit = (patience, "epoch") if by_patience else (stop, "round")
    spell = f"{count} {unit}{'' if count == 1 else 's'}"
    return f"ended after epoch {last} of {epochs}: no better {NAMES[key]} for {spell}"
