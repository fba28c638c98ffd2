"""From a generator and records to rationales: the model is asked which words its answer rests on."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args

import msgspec
import numpy as np

from raison.models.answerer import Answerer
from raison.models.batching import write_chunks
from raison.models.chat import Message, Reply
from raison.models.generator import Generator
from raison.models.tasks import Task, labels_of, shuffled
from raison.models.turns import score_after
from raison.prompting.match import REPEATS, Matched, Repeats, match
from raison.prompting.parse import Form, read_reply
from raison.prompting.requests import FORMS, ORDERS, Limit, Order, Request, ask, load_request, then_asked
from raison.prompting.served import Served
from raison.rationales import SILENT, Budget, Rationale, parse_budget, to_row
from raison.records import InputError, Prediction, Record
from raison.runs import Unfinished, digest, provenance
from raison.words import Segmenter, WordGrid, human_masks, whitespace_words, word_grid

CHUNK = 64  # records asked about together; an interrupted run goes on after the last whole chunk


class Labeller(Protocol):
    """A model that answers the task itself: what `explain` needs of an `Answerer`."""

    name: str
    labels: tuple[str, ...]
    task: Task
    segment: Segmenter
    shuffle: int | None

    def predict(self, records: Sequence[Record], progress: str | None = None) -> list[Prediction]:
        """Predict a label for each record."""
        ...


class Asking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a rationale is asked for, and read."""

    request: str = "words"  # the wording: one that comes with raison, or a TOML file
    budget: str = "unbound"  # how many words: unbound, human, ratio:R, k:N or match:SOURCE
    limit: Literal["exactly", "at-most"] = "exactly"  # what a budget asks for
    order: Order = "predict-then-explain"  # see `raison.prompting.requests.ask`
    form: Form = "json"  # what a reply looks like
    label: str = "predicted"  # the answer in the chat: the model's own, `gold`, or a label that is forced on it
    fields: tuple[str, ...] = ()  # where words may be chosen; none = all that the task shows
    repeats: Repeats = "all"  # see `raison.prompting.match`
    fuzzy: bool = False  # see `raison.prompting.match`
    shuffle: int | None = None  # seed of each prompt's order of labels, where the model is not given; else its own

    @property
    def source(self) -> str:
        """What results call these rationales: `prompted/BUDGET`, and whatever else is not the default."""
        plain = Asking()
        names = ("limit", "form", "order", "label", "repeats")
        said = [str(getattr(self, name)) for name in names if getattr(self, name) != getattr(plain, name)]
        said += [Path(self.request).stem] if self.request != plain.request else []
        said += ["+".join(self.fields)] if self.fields else []
        return "/".join(["prompted", self.budget, *said, *(["fuzzy"] if self.fuzzy else [])])


def explain(
    model: Labeller | Sequence[Prediction] | None,
    generator: Generator,
    records: Sequence[Record],
    *,
    task: Task | None = None,
    sizes: Mapping[str, int] | None = None,
    segment: Segmenter = whitespace_words,
    progress: str | None = None,
    **options: Any,
) -> list[Rationale]:
    """Ask a model which words its answers rest on.

    A record whose budget is undefined (nobody marked a word, nothing to match), or that has no answer to explain, is
    not asked about; its rationale says so in `failure`. A budget beyond the words there are is all of them; one of no
    words needs no question.

    Args:
        model: what answers the task (an `Answerer`), whose label stands in the chat; or predictions made before, one
            for each record, such as those of an API model read by `read_label`; None where none is read, or gold ones.
        generator: gives the replies; for a model that explains itself, the same model.
        records: what is explained.
        task: what was asked; default: the model's.
        sizes: record id -> words, for the budget match:SOURCE.
        segment: how texts are cut into words; of a model, its own.
        progress: title of the progress bar; None shows none.
        options: see `Asking`.

    Returns:
        One rationale for each record, in order. `notes` has the `reply`, the label explained (`target`), how many words
        were `asked` for, `how` the reply was read, whether it was `cut`, and the counts of `Matched`. With
        `explain-then-predict` it also has the label that the model gives after its reply (`then`, None = it names none)
        and the one that it gives without explaining (`alone`, None = it names none, or it is not known).

    Raises:
        InputError: an option is unknown or impossible, a record lacks a field of the task, or a label is missing.
    """
    asker = _Asker(model, generator, records, task, sizes, segment, options)
    return list(asker.rationales(records, progress))


def explain_to_file(
    path: str | Path,
    model: Labeller | Sequence[Prediction] | None,
    generator: Generator,
    records: Sequence[Record],
    *,
    models: Mapping[str, str],
    task: Task | None = None,
    sizes: Mapping[str, int] | None = None,
    segment: Segmenter = whitespace_words,
    progress: str | None = None,
    **options: Any,
) -> int:
    """Do `explain` into a file of JSON lines, chunk by chunk, and go on where an interrupted run stopped.

    The file appears when it is whole; until then its lines are in `PATH.part`. Beside it, `PATH.meta.json` says what it
    was made with. The result equals that of a run that was not interrupted, as far as the generator repeats itself.

    Args:
        path: the file.
        model: see `explain`, also for the rest.
        generator: see `explain`.
        records: see `explain`.
        models: name -> hash (or version) of each model that takes part.
        task: see `explain`.
        sizes: see `explain`.
        segment: see `explain`.
        progress: title of the progress bar.
        options: see `explain`.

    Returns:
        How many records were found done already.

    Raises:
        InputError: as `explain`; or the file, or an unfinished one, was made with something else.
    """
    asker = _Asker(model, generator, records, task, sizes, segment, options)
    work = Unfinished(path, provenance(asker.config, records, models), CHUNK)
    if work.finished:
        return len(records)
    return write_chunks(work, records, lambda part: map(to_row, asker.rationales(part)), progress)


class _Asker:
    """Everything that is settled before the first question."""

    def __init__(  # noqa: PLR0917
        self,
        model: Labeller | Sequence[Prediction] | None,
        generator: Generator,
        records: Sequence[Record],
        task: Task | None,
        sizes: Mapping[str, int] | None,
        segment: Segmenter,
        options: Mapping[str, Any],
    ) -> None:
        self.asking = asking = _options(options)
        self.request: Request = load_request(asking.request)
        self.budget = None if asking.budget == "unbound" else _budget(asking.budget, sizes)
        self.request.expect(asking.order, "unbound" if self.budget is None else asking.limit, asking.form)
        self.generator, self.sizes = generator, sizes or {}
        self.labeller = cast("Labeller", model) if hasattr(model, "predict") else None
        found = task or (self.labeller.task if self.labeller else None)
        if found is None:
            raise ValueError("a task is needed where the model is not given")
        self.task = found
        self.segment = self.labeller.segment if self.labeller else segment
        self.labels = self.labeller.labels if self.labeller else labels_of(self.task, records)
        self.reads_label = self.request.names_label(asking.order)
        self.known = _predictions(model, records) if isinstance(model, Sequence) else None
        self.fields = asking.fields or self.task.fields
        self._check(records)

    def _check(self, records: Sequence[Record]) -> None:
        label = self.asking.label
        if label not in ("predicted", "gold", *self.labels):
            raise InputError(f"unknown label {label!r}; expected predicted, gold, or one of {', '.join(self.labels)}")
        if label == "predicted" and self.reads_label and self.labeller is None and self.known is None:
            raise ValueError("the model or its predictions are needed where its own answer is explained")
        for name in self.fields:
            if name not in self.task.fields:
                raise InputError(f"field {name!r}: the task shows {', '.join(self.task.fields)}")
        for record in records:
            self.task.texts(record)

    @property
    def config(self) -> dict[str, Any]:
        """What a file of rationales says of its making."""
        words = getattr(self.segment, "__name__", "own")
        wording = msgspec.to_builtins(self.request)
        known = {key: label or "" for key, label in (self.known or {}).items()}
        given = {"predictions": digest([known])} if self.known is not None else {}
        given |= {"sizes": digest([dict(self.sizes)])} if self.sizes else {}
        task = msgspec.to_builtins(self.task)
        asking = msgspec.to_builtins(self.asking)
        return {"command": "explain", **asking, "request": wording, "task": task, "words": words, **given}

    # ---------------------------------------------------------------------------------------------- asking

    def rationales(self, records: Sequence[Record], progress: str | None = None) -> Iterator[Rationale]:
        """Ask about records, and read the replies."""
        grids = [word_grid(record, self.segment) for record in records]
        labels = self._labels(records)
        counts = [self._count(record, grid) for record, grid in zip(records, grids, strict=True)]
        ready = [
            index
            for index, (label, count) in enumerate(zip(labels, counts, strict=True))
            if (label is not None or not self.reads_label) and (count or (count is None and self.budget is None))
        ]
        asked = {index: self._ask(records[index], labels[index], counts[index]) for index in ready}
        replies = (
            dict(zip(ready, self.generator.generate(list(asked.values()), progress), strict=True)) if ready else {}
        )
        answers = self._answers(records, asked, replies)
        for index, (record, grid, label, count) in enumerate(zip(records, grids, labels, counts, strict=True)):
            if index in replies:
                yield self._read(record, grid, (label, count), asked[index], replies[index], answers.get(index, {}))
            else:
                yield self._not_asked(record, grid, label, count)

    def _labels(self, records: Sequence[Record]) -> list[str | None]:
        """Give the label that each record's chat names; None where there is none."""
        if not self.reads_label:
            return [None] * len(records)
        if self.asking.label == "gold":
            return [record.label for record in records]
        if self.asking.label != "predicted":
            return [self.asking.label] * len(records)
        return self._predicted(records)

    def _predicted(self, records: Sequence[Record]) -> list[str | None]:
        """Give the model's own answers; None where there is none, or where nothing is known of them."""
        if self.known is not None:
            return [self.known[record.id] for record in records]
        if self.labeller is None:
            return [None] * len(records)
        return [row.label for row in self.labeller.predict(records)]

    def _answers(
        self, records: Sequence[Record], asked: Mapping[int, Sequence[Message]], replies: Mapping[int, Reply]
    ) -> dict[int, dict[str, str | None]]:
        """Ask for the label after an explanation that came first; beside it, the label without one."""
        said = {index: _writable(reply.text) for index, reply in replies.items() if reply.text is not None}
        if self.asking.order != "explain-then-predict" or not said:
            return {}
        talks = [then_asked(asked[index], text, self._question(records[index])[-1]) for index, text in said.items()]
        alone = self._predicted([records[index] for index in said])
        rows = zip(said, self._labels_after(talks), alone, strict=True)
        return {index: {"then": then, "alone": before} for index, then, before in rows}

    def _labels_after(self, talks: Sequence[Sequence[Message]]) -> list[str | None]:
        """Give the labels at the end of conversations: scored where the model is here, else read from its replies."""
        if isinstance(self.labeller, Answerer):
            scores = score_after(self.labeller, talks)
            return [None if row is None else self.labels[int(row.argmax())] for row in scores]
        return [label for label, _ in Served(self.generator, self.task, self.labels).replies(talks)]

    def _count(self, record: Record, grid: WordGrid) -> int | None:
        """Give how many words to ask for; None where any number will do, or the budget is undefined."""
        if self.budget is None:
            return None
        allowed = np.concatenate(
            [np.full(size, name in self.fields) for name, size in zip(grid.words, grid.sizes, strict=True)]
        )
        human = _human_size(human_masks(record, grid)[:, allowed]) if self.budget.kind == "human" else None
        size = self.budget.size(np.zeros(int(allowed.sum()), np.float32), human, self.sizes.get(record.id))
        return None if size is None else min(size, int(allowed.sum()))

    def _ask(self, record: Record, label: str | None, count: int | None) -> list[Message]:
        return ask(
            self.request,
            self._question(record),
            record,
            label=None if label is None else self.task.word(label),
            count=count,
            order=self.asking.order,
            form=self.asking.form,
            limit=self.asking.limit,
            fields=self.fields,
            segment=self.segment,
        )

    def _question(self, record: Record) -> list[Message]:
        """Give the conversation that asks for the label."""
        order = shuffled(self.labels, self.labeller.shuffle if self.labeller else self.asking.shuffle, record.id)
        return self.task.messages(self.task.texts(record), order)

    # --------------------------------------------------------------------------------------------- reading

    def _read(  # noqa: PLR0917
        self,
        record: Record,
        grid: WordGrid,
        wanted: tuple[str | None, int | None],
        conversation: Sequence[Message],
        reply: Reply,
        answers: Mapping[str, str | None],
    ) -> Rationale:
        label, count = wanted
        notes: dict[str, Any] = {"target": label, "asked": count}
        if reply.text is None:
            return self._wordless(record, grid, f"{SILENT}: {reply.failure}", notes)
        items = read_reply(
            reply.text,
            self.asking.form,
            fields=self.fields,
            marks=self.request.marks,
            segment=self.segment,
            cut=reply.finish == "length",
        )
        found: Matched = match(
            items,
            record,
            grid,
            prompt=[message["content"] for message in conversation],
            fields=self.fields,
            budget=count,
            repeats=self.asking.repeats,
            fuzzy=self.asking.fuzzy,
        )
        notes |= {"reply": _writable(reply.text), "how": found.how, "cut": found.cut, **found.counts, **answers}
        return Rationale(record.id, self.asking.source, found.words, self.asking.budget, found.failure, notes)

    def _not_asked(self, record: Record, grid: WordGrid, label: str | None, count: int | None) -> Rationale:
        notes = {"target": label, "asked": count}
        if self.reads_label and label is None:
            return self._wordless(record, grid, f"no {self.asking.label} answer to explain", notes)
        return self._wordless(
            record, grid, f"the budget {self.budget} is undefined here" if count is None else None, notes
        )

    def _wordless(self, record: Record, grid: WordGrid, failure: str | None, notes: dict[str, Any]) -> Rationale:
        none = {name: np.zeros(size, dtype=np.bool_) for name, size in zip(grid.words, grid.sizes, strict=True)}
        return Rationale(record.id, self.asking.source, none, self.asking.budget, failure, notes)


def _writable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()  # half a surrogate pair can't be written


def _options(options: Mapping[str, Any]) -> Asking:
    """Check options as users give them."""
    choices: dict[str, Sequence[str]] = {
        "limit": [name for name in get_args(Limit) if name != "unbound"],
        "order": ORDERS,
        "form": FORMS,
        "repeats": REPEATS,
    }
    for name, value in options.items():
        if name not in Asking.__struct_fields__:
            raise InputError(f"explain takes no option {name!r}; it takes {', '.join(Asking.__struct_fields__)}")
        if name in choices and value not in choices[name]:
            raise InputError(f"unknown {name} {value!r}; expected one of {', '.join(choices[name])}")
    try:
        return msgspec.convert({**options, "fields": tuple(options.get("fields") or ())}, Asking)
    except msgspec.ValidationError as error:
        raise InputError(f"explain: {str(error)[0].lower()}{str(error)[1:]}") from None


def _budget(text: str, sizes: Mapping[str, int] | None) -> Budget:
    budget = parse_budget(text)
    if budget.kind == "mass":
        raise InputError(
            f"budget {text!r}: needs scores; a model is asked for unbound, human, ratio:R, k:N or match:SOURCE"
        )
    if budget.kind == "match" and sizes is None:
        raise InputError(f"budget {text!r}: the sizes of {budget.source} are needed")
    return budget


def _human_size(people: Any) -> int | None:
    """Give how many words people marked: the mean over those who marked any, rounded half up; None for nobody."""
    sizes = people.sum(axis=1)
    return int(sizes[sizes > 0].mean() + 0.5) if sizes.any() else None


def _predictions(given: Sequence[Prediction], records: Sequence[Record]) -> dict[str, str | None]:
    known = {row.record_id: row.label for row in given}
    missing = next((record.id for record in records if record.id not in known), None)
    if missing is not None:
        raise InputError(f"record {missing!r} has no prediction")
    return known
