r"""How a person's answer to an item is asked for, written down as a text, and read from one.

An answer is two lines, `Label: neutral` and `Explanation: It does not say so.`, in either order. A wording is data: a
TOML file. Those that come with raison lie in `wordings/`; a user gives the path of their own.

    question = "Choose one of: {labels}. Reply in this form:\n{form}"   # may be empty: for models that were trained
    item = "Premise: {premise}\nHypothesis: {hypothesis}"   # optional; default: a line `Name: text` for each field
    heads = ["Label", "Explanation"]                         # optional: what stands before the colons
    tag = "Annotator: {annotator}"                           # optional, as the next three: who is to be imitated,
    persona = "You are: {persona}"                           # what is known of them,
    profile = "You write like this:\n{profile}"              # their style card,
    examples = "Your earlier answers:\n\n{examples}"         # and what they said of other items
    for = ["nli"]                                            # optional: the records' `task` that it is taken for
    [labels]                                                 # optional: label -> its word
    entailment = "yes"

The paper's prompts are not known: these are ours.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from raison.annotators.responses import Response
from raison.models.shipped import decoded, named, shipped
from raison.records import InputError, Record, Span

Order = Literal["label-first", "explanation-first"]
ORDERS: tuple[str, ...] = get_args(Order)
Example = tuple[Record, Response]  # an item, and what the person said of it

_SLOT = re.compile(r"\{(\w+)\}")
_SLOTS = {
    "question": {"labels", "form"},
    "tag": {"annotator"},
    "persona": {"persona"},
    "profile": {"profile"},
    "examples": {"examples"},
}
_THOUGHT = "</think>"
_MARKUP = "*_`\"'“”"
_MINUS = str.maketrans("−–‐‑", "----")


class Reading(NamedTuple):
    """What a text says, and where; or why it can't be read, and then nothing else."""

    label: str | None = None
    explanation: str | None = None
    label_span: Span | None = None  # characters of the label's word in the text
    explanation_span: Span | None = None
    failure: str | None = None
    unread: int = 0  # characters behind a blank line after the answer, which are not looked at


class Wording(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"serves": "for"}):
    """How an answer is asked for, written and read, see the module."""

    question: str
    item: str = ""
    heads: tuple[str, str] = ("Label", "Explanation")
    tag: str = "You are annotator {annotator}. Answer as this person would."
    persona: str = "You are a person of whom this is known: {persona}."
    profile: str = "This is how you label and explain:\n{profile}"
    examples: str = "These are some of your earlier answers.\n\n{examples}"
    serves: tuple[str, ...] = ()
    labels: dict[str, str] = {}  # label -> its word
    order: Order = "label-first"
    name: str = ""

    def show(self, record: Record) -> str:
        """Give the text of an item.

        Raises:
            InputError: the record lacks a field.
        """
        if not self.item:
            return "\n".join(f"{_title(name)}: {text}" for name, text in record.fields.items())
        for name in _SLOT.findall(self.item):
            if name not in record.fields:
                raise InputError(
                    f"record {record.id!r} has no field {name!r}, which the wording {self.name} shows; "
                    f"it has {', '.join(record.fields)}"
                )
        return _fill(self.item, record.fields)

    def prompt(
        self,
        record: Record,
        annotator: str | None = None,
        *,
        persona: str = "",
        profile: str = "",
        examples: Sequence[Example] = (),
    ) -> str:
        """Give the user's message that asks for an answer.

        What is the same for all items of a person comes first, the tag last: so a model that keeps what it has read
        can share the beginning. It ends with a line break, behind which an answer can stand.

        Args:
            record: the item.
            annotator: named by the tag; None = no tag.
            persona: what is known of the person, such as `Age: 26`; empty = nothing is said.
            profile: the style card; empty = none.
            examples: items with the person's answers, in the order in which they are shown.
        """
        answers = "\n\n".join(f"{self.show(item)}\n{self.write_response(said)}" for item, said in examples)
        question = {"labels": _listed(list(self.labels.values())), "form": self.write("<label>", "<explanation>")}
        parts = (
            _fill(self.persona, {"persona": persona}) if persona else "",
            _fill(self.profile, {"profile": profile}) if profile else "",
            _fill(self.examples, {"examples": answers}) if answers else "",
            self.show(record),
            _fill(self.question, question),
            _fill(self.tag, {"annotator": annotator}) if annotator is not None else "",
        )
        return "\n\n".join(part for part in parts if part) + "\n"

    def write_response(self, response: Response) -> str:
        """Write a response that has a label and an explanation.

        Raises:
            ValueError: it lacks one.
        """
        if response.label is None or response.explanation is None:
            raise ValueError(f"{response.annotator} on {response.record_id!r}: no label or no explanation to write")
        return self.write(response.label, response.explanation)

    def write(self, label: str, explanation: str) -> str:
        """Write an answer in two lines; what is white space in the explanation becomes single spaces."""
        lines = [
            f"{self.heads[0]}: {self.labels.get(label, label)}",
            f"{self.heads[1]}: {' '.join(explanation.split())}",
        ]
        return "\n".join(lines if self.order == "label-first" else reversed(lines))

    def read(self, text: str, cut: bool = False) -> Reading:
        """Read an answer, strictly: two lines with their heads in their order, and one of the labels.

        Blank lines between them, markup around heads and label, the case of both and a full stop after the label make
        no difference; thoughts up to `</think>` are passed over. What stands behind a blank line after the answer is
        not looked at (a model that was not trained may go on with another item); any other third line is a failure.

        Args:
            text: the reply, or what `write` gave.
            cut: it was ended by its length: then the answer is whole only where its second line has ended.

        Returns:
            The answer with its places in the text, or the failure: its kind, and behind a colon what was there. Nothing
            is guessed.
        """
        rows = _rows(text, text.rfind(_THOUGHT) + len(_THOUGHT) if _THOUGHT in text else 0)
        filled = [index for index, row in enumerate(rows) if row.text]
        if not filled:
            return Reading(failure="the reply is empty")
        found: list[_Row] = []
        for head, index in zip(self._heads(), filled, strict=False):
            value = _behind(head, rows[index])
            if value is None:
                return Reading(failure=f"a line without {head}: {_short(rows[index].text)}")
            found.append(value)
        after = rows[filled[1] + 1 :] if len(found) > 1 else []
        if cut and not after:
            return Reading(failure="the reply was cut")
        if len(found) < 2:
            return Reading(failure="a single line")
        if after and after[0].text:
            return Reading(failure=f"a third line: {_short(after[0].text)}")
        return self._reading(found, sum(len(row.text) for row in after))

    def _reading(self, found: "list[_Row]", unread: int) -> Reading:
        said, why = found if self.order == "label-first" else found[::-1]
        words = {_bare(word): label for label, word in self.labels.items()}
        label = words.get(_bare(said.text))
        if label is None:
            return Reading(failure=f"none of the labels: {_short(said.text)}")
        if not why.text:
            return Reading(failure="the explanation is empty")
        return Reading(label, " ".join(why.text.split()), said.span, why.span, None, unread)

    def _heads(self) -> tuple[str, str]:
        return self.heads if self.order == "label-first" else (self.heads[1], self.heads[0])


class _Row(NamedTuple):
    """A line, or a part of one, without white space around it."""

    text: str
    start: int

    @property
    def span(self) -> Span:
        return Span(self.start, self.start + len(self.text))


def _rows(text: str, start: int) -> list[_Row]:
    """Give the lines of a text from a place on; a line break at its end begins another."""
    found: list[_Row] = []
    for line in text[start:].split("\n"):
        found.append(_stripped(line, start))
        start += len(line) + 1
    return found


def _stripped(line: str, start: int) -> _Row:
    return _Row(line.strip(), start + len(line) - len(line.lstrip()))


def _behind(head: str, row: _Row) -> _Row | None:
    """Give what stands behind a head and its colon; None where the line has another beginning."""
    match = re.match(rf"[*_#>\-\s]*{re.escape(head)}[*_\s]*:[*_]*", row.text, re.IGNORECASE)
    return _stripped(row.text[match.end() :], row.start + match.end()) if match else None


def _bare(word: str) -> str:
    """Give a label's word as it is compared: `**Neutral.**` is `neutral`; but `-3` keeps its sign."""
    bare = " ".join(word.split()).translate(_MINUS).strip(_MARKUP + " ").rstrip(".").strip(_MARKUP + " ").casefold()
    return bare[1:] if re.fullmatch(r"\+\d+(\.\d+)?", bare) else bare


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")


def _fill(template: str, known: Mapping[str, str]) -> str:
    """Fill the slots in one pass: what a text has in braces stays as it is."""
    return _SLOT.sub(lambda slot: known.get(slot[1], slot[0]), template).strip("\n")


def _title(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else "".join(words)


# ------------------------------------------------------------------------------------------------------- files


def wording_for(records: Sequence[Record], name: str | None = None, order: str | None = None) -> Wording:
    """Give the wording for records: with their labels, and the order of the two lines.

    Args:
        records: tell the task and the labels: their `label_set`, or else every label that somebody gave, sorted.
        name: of a wording that comes with raison, or a TOML file; default: the one for the records' task, or `generic`.
        order: "label-first" or "explanation-first"; default: the wording's own.

    Raises:
        InputError: there is no such wording or order, the file has a fault, its labels are not those of the records, or
            no label is known.
    """
    if order is not None and order not in ORDERS:
        raise InputError(f"order {order!r}: expected {' or '.join(ORDERS)}")
    tasks = {record.task for record in records}
    suited = [known for known, one in _shipped().items() if len(tasks) == 1 and tasks <= {*one.serves}]
    wording = load_wording(name or (suited[0] if suited else "generic"))
    labels = _labels(records)
    if not labels:
        raise InputError("the records name no labels")
    lacking = [label for label in labels if wording.labels and label not in wording.labels]
    if lacking:
        raise InputError(f"wording {wording.name}: `labels`: none for the records' label {lacking[0]!r}")
    words = {label: " ".join(wording.labels.get(label, label).split()) for label in labels}
    if len({_bare(word) for word in words.values()}) < len(words):
        raise InputError(f"wording {wording.name}: two labels have the same word")  # a reply could mean either
    return msgspec.structs.replace(wording, labels=words, order=order or wording.order)


def _labels(records: Sequence[Record]) -> list[str]:
    told = dict.fromkeys(label for record in records for label in record.label_set)
    return list(told) or sorted({note.label for record in records for note in record.annotations if note.label})


def load_wording(name: str) -> Wording:
    """Give a wording that comes with raison by its name, or one from a TOML file.

    Raises:
        InputError: there is no such wording or file, or the file has a fault; one line that names file and field.
    """
    return named("wording", name, _shipped(), _read)


@cache
def _shipped() -> dict[str, Wording]:
    return shipped("raison.annotators", "wordings", _read)


def _read(content: bytes, name: str) -> Wording:
    wording = decoded(content, name, Wording)
    for field, taken in _SLOTS.items():
        _check(f"{name}: `{field}`", getattr(wording, field), taken, {*taken} if field != "question" else set())
    if not all(re.fullmatch(r"\S(.*\S)?", head) and ":" not in head for head in wording.heads):
        raise InputError(f"{name}: `heads`: expected two texts of one line, without colons")
    if len({head.casefold() for head in wording.heads}) < 2:
        raise InputError(f"{name}: `heads`: expected two different texts")
    return msgspec.structs.replace(wording, name=Path(name).stem)


def _check(place: str, text: str, taken: set[str], needed: set[Any]) -> None:
    slots = set[str](_SLOT.findall(text))
    for slot in sorted(needed - slots):
        raise InputError(f"{place}: expected {{{slot}}} in it")
    for slot in sorted(slots - taken):
        raise InputError(f"{place}: unknown {{{slot}}}; expected {', '.join(f'{{{one}}}' for one in sorted(taken))}")
