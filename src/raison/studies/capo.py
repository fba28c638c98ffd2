"""The study of CAPO (Chen et al. 2026, arXiv 2605.28802): is there a person to learn, and which way learns them best?

For each data set: stability; the baselines (zero-shot, profile, in context, supervised fine-tuning pooled, with a tag,
and one model for each person); preference optimisation in both forms; its ablations; and how somebody new is learned
from few items, or many people by one model. Prompts, losses and settings are our reconstruction, and no figure of the
paper's is claimed: only what it compares is reproduced.

A cell of the study is one system with one seed on one data set: a training, where there is one, and its answers to the
test items in everybody's name. Cells lie in folders (`raison.studies.shelf`), so that an interrupted study goes on, and
so that several processes started alike share the work.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch

from raison.annotators import newcomers as new
from raison.annotators.audit import leaks
from raison.annotators.export import file_name
from raison.annotators.imitate import imitate_to_file
from raison.annotators.pair_weights import validity
from raison.annotators.pairs import make_pairs
from raison.annotators.people import opted_out
from raison.annotators.preference_pair import PreferencePair
from raison.annotators.prompts import Prompts
from raison.annotators.rehearsal import Rehearsal
from raison.annotators.responses import Response, ordinal_scale, read_responses, responses_of, write_responses
from raison.annotators.speakers import PERSON, Cast, Source
from raison.annotators.splits import Split
from raison.annotators.stability import Plan, Stability, stability
from raison.annotators.teach import Asked, read_asked, teach_capo, teach_sft
from raison.annotators.views import VIEWS
from raison.annotators.wording import Wording, wording_for
from raison.records import InputError, Record
from raison.runs import digest, hash_records
from raison.studies import capo_plan as plan
from raison.studies.capo_plan import Settings, System
from raison.studies.shelf import Job, Shelf
from raison.testbed.people import annotated_records, make_items, random_people
from raison.training.runs import RUN

Say = Callable[[str], None]
ANSWERS, MODEL, REFERENCE, READY = "responses.jsonl", "model", "reference", "ready"
STABILITY = "stability"


class Data(NamedTuple):
    """One data set."""

    name: str
    split: Split


class Cell(msgspec.Struct, frozen=True):
    """What a cell cost, or what stability was found."""

    system: str
    seed: int
    seconds: float = 0.0  # of the training: of the processor, or by the clock where there is an accelerator
    answering: float = 0.0  # the same of its answers
    parameters: int = 0  # that were trained, of all its models together
    bytes: int = 0  # of what is kept of them
    answers: int = 0
    unread: int = 0  # answers that can't be read
    stability: Stability | None = None


class Field:
    """One data set in the study: its parts, its people and its wording.

    Args:
        data: the records.
        settings: of the study.
        first: how many people are imitated, those who said most first; None = all who answered a test item.

    Raises:
        InputError: the wording does not fit the records, or there are fewer people.
    """

    def __init__(self, data: Data, settings: Settings, first: int | None = None) -> None:
        self.name, self.settings = data.name, settings
        train, dev, test = data.split
        self.split = Split(train[: settings.train_items], dev, test[: settings.test_items])
        self.records = [record for part in data.split for record in part]
        every = responses_of([record for part in self.split for record in part])
        self.order = [name for name, _ in Counter(one.annotator for one in every).most_common()]
        answered = {one.annotator for one in responses_of(self.split.test)}
        self.people = sorted(answered) if first is None else self.order[:first]
        self.said = [one for one in every if first is None or one.annotator in self.people]
        self.wording: Wording = wording_for(train, settings.wording)
        if first is not None and len(self.order) < max(settings.crowd.sizes):
            raise InputError(f"{self.name}: {len(self.order)} people; a crowd of {max(settings.crowd.sizes)} is wanted")

    @cached_property
    def mark(self) -> str:
        """A hash of all that its cells are made from, but for systems and seeds."""
        return digest([*map(hash_records, self.split), msgspec.to_builtins(self.wording)])

    @property
    def weights(self) -> tuple[str, ...]:
        """The factors of weights that the data have."""
        known = ["distinctiveness"]
        judged = any(validity(one) is not None for one in responses_of(self.split.train))
        known += ["validity"] if judged else []
        known += ["ordinal"] if ordinal_scale([*self.wording.labels]) else []
        sizes = {len({note.annotator for note in record.annotations}) for record in self.split.train}
        return (*known, *(["per-item"] if len(sizes) > 1 else []))


class Study:
    """One study: makes what is missing, and says where it is.

    Args:
        model: a folder or hub id of a causal language model.
        fields: the data sets.
        out: folder of the cells.
        settings: see `Settings`.
        crowd: the data set from which larger and larger crowds are taken; needed for the part `growing`.
        say: is told what is done.
    """

    def __init__(  # noqa: PLR0917
        self,
        model: str,
        fields: Sequence[Field],
        out: str | Path,
        settings: Settings,
        crowd: Field | None = None,
        say: Say = print,
    ) -> None:
        self.model, self.fields, self.settings, self.crowd, self.say = model, fields, settings, crowd, say
        self.shelf = Shelf[Cell](Path(out) / "cells", Cell)

    def run(self) -> None:
        """Make every cell that is missing."""
        jobs = {job.name: job for job in self._jobs()}
        missing = [name for name in jobs if self.shelf.get(name) is None]
        self.say(f"{len(jobs) - len(missing)} of {len(jobs)} cells are done")
        self.shelf.make([*jobs.values()], self._tell)

    def _tell(self, name: str, cell: Cell) -> None:
        told = f"{cell.seconds:.0f} s of training, {cell.answering:.0f} s of answering" if cell.answers else "done"
        unread = f", {cell.unread} of {cell.answers} answers can't be read" if cell.unread else ""
        self.say(f"{name}: {told}{unread}")

    def systems(self, field: Field, part: str) -> list[System]:
        """Give the systems of a part."""
        settings = self.settings
        found = {
            "main": lambda: plan.main_systems(settings),
            "ablations": lambda: plan.ablations(settings, field.weights),
            "growing": lambda: plan.newcomers(settings),
            "crowd": lambda: plan.crowds(settings),
        }
        return list(found[part]())

    def _jobs(self) -> Iterator[Job]:
        """Give all cells, part by part and seed by seed; other parts begin with models of the first."""
        yield from map(self._stability, self.fields)
        seeds = range(self.settings.seeds)
        for part in dict.fromkeys(("main", *self.settings.parts)):
            for seed, field in product(seeds, self.fields):
                yield from (self._job(field, one, seed) for one in self.systems(field, part))
        if self.crowd is not None and "growing" in self.settings.parts:
            for seed in seeds:
                yield from (self._job(self.crowd, one, seed) for one in self.systems(self.crowd, "crowd"))

    # ------------------------------------------------------------------------------------------------------- cells

    def name_of(self, field: Field, system: System, seed: int) -> str:
        """Name a cell by what it is and by a hash of what it is made from."""
        given = self.settings
        seed = 0 if system.name in plan.SEEDLESS and not given.temperature else seed
        asked = (self.settings.shots, self.settings.select) if system.how == "in-context" else ()
        taught = (self.settings.sft, system.capo, system.pairs) if system.how not in plan.PROMPTED else ()
        taught += (self.settings.newcomer,) if system.part == "growing" else ()
        taught += (field.people,) if system.part == "crowd" else ()
        how = (given.reply_tokens, *[one for one in (given.dtype, given.temperature) if one not in ("float32", 0.0)])
        made = [self.model, field.mark, system.how, system.size, *how, *asked, *taught]
        mark = digest(map(msgspec.to_builtins, made))[:8]
        return f"{file_name(field.name)}/{file_name(system.name).replace('%20', '-').replace('%2C', '')}-{seed}-{mark}"

    def _job(self, field: Field, system: System, seed: int) -> Job:
        parent = self._parent(field, system)
        needs = (self.name_of(field, parent, seed),) if parent else ()
        return Job(self.name_of(field, system, seed), needs, partial(self._make, field, system, seed))

    def _parent(self, field: Field, system: System) -> System | None:
        part = "growing" if system.parent == plan.OTHERS else "main"
        return next((one for one in self.systems(field, part) if one.name == system.parent), None)

    def _stability(self, field: Field) -> Job:
        views, draws = self.settings.views, self.settings.permutations

        def make(_: Path) -> Cell:
            started = clock()
            found = stability(field.records, views or tuple(VIEWS), plan=Plan(permutations=draws))
            return Cell(STABILITY, 0, clock() - started, stability=found)

        mark = digest([hash_records(field.records), draws, *views])[:8]
        return Job(f"{file_name(field.name)}/{STABILITY}-{mark}", (), make)

    def _make(self, field: Field, system: System, seed: int, folder: Path) -> Cell:
        """Train a system, where it is trained, and let it answer."""
        spent, answers = {"training": 0.0, "answering": 0.0}, list[Response]()
        if system.how in new.NEW:
            answers = self._newcomers(field, system, seed, folder, spent)
        else:
            with timed(spent, "training"):
                asking = self._teach(field, system, seed, folder)
            with timed(spent, "answering"):
                if system.how != "others":
                    answers = self._answers(field, seed, folder / ANSWERS, field.people, *asking)
        parameters, size = kept(folder)
        if system.part != "main" and system.how != "others":  # nothing begins with it
            shutil.rmtree(folder / MODEL, ignore_errors=True)
        unread = sum(one.failure is not None for one in answers)
        took = (spent["training"], spent["answering"])
        return Cell(system.name, seed, *took, parameters, size, len(answers), unread)

    def _base(self, field: Field, system: System, seed: int) -> Path:
        """Give the folder of the cell that a system begins with."""
        parent = self._parent(field, system)
        assert parent is not None
        return self.shelf.at(self.name_of(field, parent, seed))

    def _teach(self, field: Field, system: System, seed: int, folder: Path) -> tuple[str, Prompts]:
        """Train what is to be trained; give the model's name, and what makes its prompts."""
        train, how, out = field.split.train, system.how, folder / MODEL
        if how in plan.PROMPTED:
            shots, select = self.settings.shots, self.settings.select
            return self.model, Prompts(field.wording, train, how, k=shots, select=select, seed=seed)
        tag, each = how.endswith("tag") or how == "crowd", how.endswith("person")
        if how == "others":
            for person in field.people:
                self._sft(field, "sft-tag", seed, opted_out(train, {person}), out / file_name(person))
        elif how.startswith("capo"):
            self._capo(field, system, seed, out)
        elif how == "crowd":
            self._sft(field, "sft-tag", seed, _of(train, field.order[: system.size]), out)
        else:
            self._sft(field, how, seed, train, out)
        return f"{out}/{PERSON}" if each else f"{out}", Prompts(field.wording, train, tag=tag)

    def _sft(self, field: Field, how: str, seed: int, train: Sequence[Record], out: Path) -> None:
        config = msgspec.structs.replace(self.settings.sft, seed=seed)
        list(teach_sft(how, self.model, train, field.wording, out, config, self._rehearsal(field, train)))

    def _rehearsal(self, field: Field, train: Sequence[Record]) -> Rehearsal | None:
        """Give how models are tried as the people they learn, on dev items, where the epoch is chosen by that."""
        given = self.settings
        if not given.sft.patience:
            return None
        learned = _speakers(train)
        split = Split(*(tuple(_of(part, learned)) for part in field.split))
        return Rehearsal(split, given.temperature, given.reply_tokens)

    def _capo(self, field: Field, system: System, seed: int, out: Path) -> None:
        assert system.capo is not None
        base, asked = self._base(field, system, seed), Asked(field.wording, tag=system.how == "capo-tag")
        name = f"{base / MODEL}" if asked.tag else f"{base / MODEL}/{PERSON}"
        config = msgspec.structs.replace(system.capo, seed=seed)
        pairs, tried = self._pairs(field, system, asked, seed), self._rehearsal(field, field.split.train)
        list(teach_capo(system.how, name, pairs, asked, out, config, tried, cache=base / REFERENCE))

    def _pairs(self, field: Field, system: System, asked: Asked, seed: int) -> list[PreferencePair]:
        """Make the pairs of a system, and look through them for what must not be there."""
        assert system.pairs is not None
        prompts = Prompts(asked.wording, field.split.train, tag=asked.tag)
        made = make_pairs(prompts, msgspec.structs.replace(system.pairs, seed=seed))
        known = prompts.wording.prompt(field.split.train[0], "")
        if found := leaks(made.pairs, field.split.train, [*field.split.dev, *field.split.test], [known]):
            raise InputError(f"{field.name}: {found[0]}, which no pair may hold ({len(found):,} such leaks)")
        return made.pairs

    def _newcomers(
        self, field: Field, system: System, seed: int, folder: Path, spent: dict[str, float]
    ) -> list[Response]:
        """Take each person in turn into the model of the others, from so many items of theirs; none = not at all.

        A model that is ready for somebody is a whole one: there is never more than one of them.
        """
        given, base, answers = self.settings.newcomer, self._base(field, system, seed), list[Response]()
        rate = given.tag_lr if system.how == "new-tag" else given.adapter_lr
        sft = msgspec.structs.replace(
            self.settings.sft, seed=seed, rank=given.rank, epochs=given.epochs, batch=given.batch, lr=rate,
            patience=None,
        )  # fmt: skip
        for person in field.people:
            place, others = file_name(person), [name for name in field.people if name != person]
            with timed(spent, "training"):
                speaker = ready = new.ready(base / MODEL / place, folder / READY / place, others)
                said = new.first_items(responses_of(field.split.train), person, system.size, seed)
                if system.size:
                    speaker = folder / MODEL / place
                    new.welcome(system.how, ready, field.split.train, said, speaker, sft)
            asked = read_asked(ready)
            assert asked is not None
            prompts = Prompts(asked.wording, field.split.train, tag=True)
            with timed(spent, "answering"):
                answers += self._answers(field, seed, folder / f"{place}.jsonl", [person], str(speaker), prompts)
            shutil.rmtree(ready)
        write_responses(folder / ANSWERS, answers)
        return answers

    def _answers(  # noqa: PLR0917
        self, field: Field, seed: int, path: Path, people: Sequence[str], model: str, prompts: Prompts
    ) -> list[Response]:
        given = self.settings
        source = Source(
            model, reply_tokens=given.reply_tokens, temperature=given.temperature, seed=seed,
            loading={"dtype": given.dtype},
        )  # fmt: skip
        cast = Cast(source, people)
        drawn = {"temperature": given.temperature, "seed": seed if given.temperature else None}
        config = {"command": "study capo", "reply_tokens": given.reply_tokens, **drawn}
        return imitate_to_file(path, cast.speaker, prompts, field.split.test, people, models=cast.models, config=config)

    # ----------------------------------------------------------------------------------------------------- results

    def cells(self, field: Field, system: System) -> list[Cell]:
        """Give what came of a system with each seed."""
        found = (self.shelf.get(self.name_of(field, system, seed)) for seed in range(self.settings.seeds))
        return [cell for cell in found if cell is not None]

    def runs(self, field: Field, system: System) -> list[list[Response]]:
        """Give the answers of a system with each seed; one that has no seed gives the same ones again."""
        names = [self.name_of(field, system, seed) for seed in range(self.settings.seeds)]
        return [read_responses(self.shelf.at(name) / ANSWERS) for name in names]

    def stability_of(self, field: Field) -> Stability | None:
        """Give the stability of a data set's people."""
        found = self.shelf.get(self._stability(field).name)
        return found.stability if found else None


def made_up(crowd: plan.Crowd) -> list[Record]:
    """Let people of the testbed, with habits at random, say something of invented notes."""
    return annotated_records(random_people(max(crowd.sizes)), make_items(crowd.items))


def clock() -> float:
    """Give seconds: of this process, so that others on the machine make no difference, or of the clock on a GPU."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


@contextmanager
def timed(spent: dict[str, float], name: str) -> Generator[None]:
    """Add the seconds that something takes."""
    started = clock()
    yield
    spent[name] += clock() - started


def kept(folder: Path) -> tuple[int, int]:
    """Count the parameters that were trained, and the bytes of the weights that are kept, of all models of a cell."""
    parameters = 0
    for path in (folder / MODEL).rglob(RUN):
        parameters += msgspec.json.decode(path.read_bytes()).get("counts", {}).get("parameters", 0)
    return parameters, sum(path.stat().st_size for path in (folder / MODEL).rglob("*.safetensors"))


def _of(records: Sequence[Record], people: Collection[str]) -> list[Record]:
    """Keep what these people said."""
    return opted_out(records, _speakers(records) - {*people})


def _speakers(records: Sequence[Record]) -> set[str]:
    return {note.annotator for record in records for note in record.annotations if note.annotator}
