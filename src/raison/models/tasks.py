"""What a causal language model is asked by a prompt, and the words that stand for its labels where it has any.

A task is data: a TOML file with the fields of a record that it shows, the prompt, and optionally the label words. Those
that come with raison lie in `prompts/`; a user gives the path of their own.

    fields = ["premise", "hypothesis"]      # fields of a record; the prompt shows each of them as {name}
    prompt = "Premise: {premise} ... Answer with one of: {labels}."
    system = "You are a careful reader."    # optional
    answer = "Answer:"                      # optional: ends the prompt of a model without a chat template
    for = ["nli"]                           # optional: the records' `task` that it is taken for by itself
    [labels]                                # optional: label -> its word in the prompt and in the answer
    entailment = "yes"

A task with `free = true` asks for a text of the model's own, such as an answer or a summary: it has no labels.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from raison.models.chat import Message
from raison.models.shipped import decoded, named, shipped
from raison.records import InputError, Record


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"serves": "for"}):
    """What a model is asked: for one of some labels, or for a text of its own."""

    fields: tuple[str, ...]
    prompt: str
    labels: dict[str, str] = {}  # label -> its word; none = the labels of the records, each its own word
    system: str = ""
    answer: str = "Answer:"
    serves: tuple[str, ...] = ()
    name: str = ""
    free: bool = False  # no labels: the model writes

    def word(self, label: str) -> str:
        """Give the word that stands for a label."""
        return self.labels.get(label, label)

    def texts(self, record: Record) -> dict[str, str]:
        """Give the record's texts that the prompt shows.

        Raises:
            InputError: the record lacks a field.
        """
        for name in self.fields:
            if name not in record.fields:
                raise InputError(
                    f"record {record.id!r} has no field {name!r}, which the task {self.name} shows; "
                    f"it has {', '.join(record.fields)}"
                )
        return {name: record.fields[name] for name in self.fields}

    def messages(self, texts: Mapping[str, str], labels: Sequence[str], chat: bool = True) -> list[Message]:
        """Give the conversation that asks for the label, or for the text.

        Args:
            texts: field -> text.
            labels: in the order in which the prompt names them; none for a free task.
            chat: whether the model has a chat template; without one the prompt ends with `answer`.
        """
        known = dict(texts) if self.free else {**texts, "labels": _listed([self.word(label) for label in labels])}
        content = _SLOT.sub(lambda found: known[found[1]], self.prompt).strip()
        if not chat and self.answer:
            content += f"\n{self.answer}"
        system: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": content}]


_SLOT = re.compile(r"\{(\w+)\}")


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def shuffled(labels: Sequence[str], seed: int | None, record_id: str) -> list[str]:
    """Give the order in which a record's prompt names the labels; it depends on seed and record alone.

    Args:
        labels: in their own order, which stands where `seed` is None.
        seed: of the draw.
        record_id: whose prompt it is.
    """
    if seed is None:
        return list(labels)
    order: list[int] = np.random.default_rng([seed, *record_id.encode()]).permutation(len(labels)).tolist()
    return [labels[index] for index in order]


@cache
def _shipped() -> dict[str, Task]:
    return shipped("raison.models", "prompts", _read)


def load_task(name: str) -> Task:
    """Give a task by its name, by the `task` of records that it is for, or from a TOML file.

    Raises:
        InputError: there is no such task or file, or the file has a fault; one line that names it.
    """
    suited = [known for known, task in _shipped().items() if name in (known, *task.serves)]
    return named("task", suited[0] if suited else name, _shipped(), _read)


def task_of(records: Sequence[Record], name: str | None = None) -> Task:
    """Give the named task, or else the one that the records say they are for.

    Raises:
        InputError: as `load_task`; or no name is given and the records have no task, or several.
    """
    if name is not None:
        return load_task(name)
    found = sorted({record.task for record in records})
    if len(found) != 1 or not found[0]:
        said = f"the records are for several tasks ({', '.join(found)})" if len(found) > 1 else "the records name none"
        raise InputError(f"a task is needed, since {said}: one of {', '.join(_shipped())}, or a .toml file")
    return load_task(found[0])


def labels_of(task: Task, records: Sequence[Record]) -> tuple[str, ...]:
    """Give the labels to choose from: the task's own where they hold those of the records, else the records'.

    Raises:
        InputError: neither the task nor the records name two labels, or the task is free.
    """
    if task.free:
        raise InputError(f"task {task.name} has no labels to choose from: it asks for a text")
    seen = dict.fromkeys(label for record in records for label in (*record.label_set, *_own(record)))
    if task.labels and all(label in task.labels for label in seen):
        return tuple(task.labels)
    if len(seen) < 2:
        raise InputError(f"task {task.name}: neither it nor the records name two labels to choose from")
    return tuple(seen)


def _own(record: Record) -> tuple[str, ...]:
    return (record.label,) if record.label is not None else ()


def _read(content: bytes, name: str) -> Task:
    """Read a task from TOML."""
    task = decoded(content, name, Task)
    slots, needed = set[Any](_SLOT.findall(task.prompt)), (*task.fields, *(() if task.free else ("labels",)))
    if not task.fields:
        raise InputError(f"{name}: `fields`: expected at least one field of the records")
    if task.free and task.labels:
        raise InputError(f"{name}: `labels`: a free task has none")
    for slot in needed:
        if slot not in slots:
            raise InputError(f"{name}: `prompt`: expected {{{slot}}} in it")
    strange = sorted(slots - {*needed})
    if strange:
        raise InputError(f"{name}: `prompt`: {{{strange[0]}}} is none of the fields {', '.join(task.fields)}")
    if len(set(task.labels.values())) < len(task.labels):
        raise InputError(f"{name}: `labels`: two labels have the same word")
    return msgspec.structs.replace(task, name=Path(name).stem)
