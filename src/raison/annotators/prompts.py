"""The prompts by which a model is asked to answer as a person would: the baselines that need no training.

Whatever they say of the person comes from the training items they are made with, or from what is known of the person.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, Literal, cast, get_args

import msgspec

from raison.annotators.examples import SELECTS, Examples
from raison.annotators.profile import card, profile_of
from raison.annotators.responses import opted_out, responses_of
from raison.annotators.wording import Wording
from raison.records import InputError, Record
from raison.runs import hash_records

How = Literal["zero-shot", "persona", "profile", "in-context"]
HOWS: tuple[str, ...] = get_args(How)


class Prompts:
    """Makes the prompt for an item and a person.

    Args:
        wording: how it is put.
        train: the training items; nothing that was said of any other item is ever seen.
        how: zero-shot: the task alone; persona: with what is known of the person; profile: with their style card;
            in-context: with k of their answers.
        tag: name the person; what a model trained with tags expects, and a model that was not makes nothing of.
        k: answers shown in context; all if there are fewer.
        select: how they are chosen, see `Examples.choose`.
        people: person -> what is known of them, name -> value, see `told_of`; for `persona`.
        without: people who opted out.
        seed: of the draws.

    Raises:
        InputError: an option is unknown, or nothing is known of any person.
    """

    def __init__(
        self,
        wording: Wording,
        train: Sequence[Record],
        how: str = "zero-shot",
        *,
        tag: bool = False,
        k: int = 16,
        select: str = "stratified",
        people: Mapping[str, Mapping[str, str]] | None = None,
        without: Collection[str] = (),
        seed: int = 0,
    ) -> None:
        if how not in HOWS:
            raise InputError(f"how {how!r}: expected {', '.join(HOWS)}")
        if select not in SELECTS:
            raise InputError(f"select {select!r}: expected {', '.join(SELECTS)}")
        if how == "persona" and not people:
            raise InputError("persona: nothing is known of the people; a file that says it is needed")
        self.wording, self.how, self.tag, self.k, self.select = wording, how, tag, k, select
        self.people = {name: dict(known) for name, known in (people or {}).items() if name not in without}
        self.train = tuple(sorted(opted_out(train, without), key=lambda record: record.id))
        self.responses = responses_of(self.train)
        self.seed = seed
        self.examples = Examples(self.train, self.responses, seed)
        self.config: dict[str, Any] = {
            "wording": msgspec.to_builtins(wording), "how": how, "tag": tag,
            "train": hash_records(self.train) if how in ("profile", "in-context") else None,
            "without": sorted(without),
            **({"people": self.people} if how == "persona" else {}),
            **({"k": k, "select": select, "draw_seed": seed} if how == "in-context" else {}),
        }  # fmt: skip
        self._card = cache(lambda annotator: card(profile_of(annotator, self.responses)))

    def __call__(self, record: Record, annotator: str) -> str:
        """Give the user's message.

        Raises:
            InputError: the record lacks a field of the wording, or nothing is known of the person (`persona`).
        """
        return self.wording.prompt(
            record,
            annotator if self.tag else None,
            persona=self._persona(annotator) if self.how == "persona" else "",
            profile=self._card(annotator) if self.how == "profile" else "",
            examples=self.examples.choose(record, annotator, self.k, self.select) if self.how == "in-context" else (),
        )

    def nameless(self, record_id: str) -> str:
        """Give the message for a training item that tells nothing of any person: it finds leaks in tagged pairs."""
        return self.wording.prompt(self.examples.items[record_id])

    def _persona(self, annotator: str) -> str:
        if annotator not in self.people:
            raise InputError(f"persona: nothing is known of annotator {annotator!r}")
        return "; ".join(f"{name}: {value}" for name, value in self.people[annotator].items())


def told_of(records: Sequence[Record]) -> dict[str, dict[str, str]]:
    """Take what records themselves say of people: the key `about` of their annotations, the first of each."""
    found: dict[str, dict[str, str]] = {}
    for record in records:
        for note in record.annotations:
            known = note.extra.get("about")
            if note.annotator is not None and isinstance(known, dict):
                said = cast("dict[str, Any]", known)
                found.setdefault(note.annotator, {name: str(value) for name, value in said.items()})
    return found
