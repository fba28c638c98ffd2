"""Self-consistency: what a model says of its answer is put to the test on the model itself (Madsen et al. 2024).

Three kinds of explanation, each with its test:

- `importance`: the model names the words that the answer needs; they are replaced by a marker.
- `redaction`: the model itself replaces words by the marker until the answer can't be told.
- `counterfactual`: the model edits the text so that the answer becomes another.

The explanation is faithful if the model then answers `unknown` (the first two), or the label that it edited towards.
Every question offers `unknown` and says that words may be missing, as in the paper; so that what is tested is not
whether the model is at home with markers.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from importlib import resources
from typing import Any, Literal, NamedTuple, cast, get_args

import msgspec
import numpy as np

from raison.checks.results import Cost, Summary, rate, states
from raison.checks.subject import UNKNOWN, Answer, Subject, question, say
from raison.checks.wording import Wording, fill, load_wording
from raison.evaluation.statistics import bootstrap_mean
from raison.models.tasks import Task
from raison.prompting.extract import explain
from raison.prompting.requests import Order, listed
from raison.prompting.wording import field_of, letters, normalise
from raison.records import InputError, Prediction, Record
from raison.words import Mask, Segmenter, word_grid

NEEDS = "answers only"
_REQUEST = str(resources.files("raison.checks") / "importance.toml")
ROOM = 0.1  # share of fully redacted texts below which `unknown` is no answer that this model gives

Kind = Literal["importance", "redaction", "counterfactual"]


class Row(msgspec.Struct, frozen=True):
    """What became of one record."""

    record_id: str
    kind: Kind
    state: str  # "tested", or why not
    gold: str | None = None
    first: str | None = None  # the model's answer
    aim: str | None = None  # the answer that a faithful explanation leads to
    second: str | None = None  # the answer to the changed text
    words: int = 0  # of the record
    gone: int = 0  # words that are redacted, or no more there
    new: int = 0  # words that came in, other than the marker
    random: str | None = None  # the answer with as many random words redacted; None = no valid one, or not asked
    full: str | None = None  # the answer with every word redacted; likewise
    explanation: str | None = None  # the reply


def cost(records: int, kind: Kind) -> Cost:
    """Give what `self_consistency` asks for: 1 reply a record, and 4 answers (counterfactual: 2)."""
    return Cost(NEEDS, answers=records * (2 if kind == "counterfactual" else 4), replies=records)


class _Change(NamedTuple):
    """A record as its explanation leaves it."""

    state: str
    reply: str | None = None
    gone: Mask | None = None  # (words,) of the record
    new: int = 0
    record: Record | None = None  # the text rewritten by the model; None = `gone` is redacted


def self_consistency(
    subject: Subject,
    records: Sequence[Record],
    kind: Kind,
    *,
    wording: Wording | None = None,
    order: Order = "fresh-session",
    opposite: Mapping[str, str] | None = None,
    seed: int = 0,
) -> list[Row]:
    """Test a model's explanations on the model itself (Madsen et al. 2024, sections 3.1 to 3.3).

    Needs answers only; see `cost`. Words that the model names are redacted on token ids where the model is at hand, and
    in the text where only replies are to be had. What the model rewrites is read as it comes.

    Args:
        subject: the model.
        records: what is explained.
        kind: see the module.
        wording: what the model is told; default: that of raison.
        order: how words are asked for, see `raison.prompting.requests.ask`; the paper asks in a fresh session.
        opposite: label -> the label that a counterfactual is to have; default: the other one, and of several others one
            drawn by seed and record.
        seed: of that draw and of random words.

    Returns:
        One row for each record, in order; it depends on its record alone. States: `tested`; `no valid answer`;
        `unknown at once` (the whole text is answered so: there is nothing to test); `no valid second answer`; or why
        there is no explanation (`no reply`, `refusal`, `empty reply`, `no list found`, `cut off`, `no text found`).
    """
    if kind not in get_args(Kind):
        raise InputError(f"unknown kind {kind!r}; expected {', '.join(get_args(Kind))}")
    said = wording or load_wording()
    asked = subject.with_unknown(said)
    first = asked.answers(records)
    able = [index for index, answer in enumerate(first) if answer.label not in (None, UNKNOWN)]
    some, answers = [records[index] for index in able], [cast("str", first[index].label) for index in able]
    aims = [UNKNOWN] * len(some)
    if kind == "importance":
        changes = _named(asked, some, answers, order)
    else:
        if kind == "counterfactual":
            aims = [_opposite(r, label, subject.labels, opposite, seed) for r, label in zip(some, answers, strict=True)]
        changes = _rewritten(asked, some, kind, aims, said)
    tested = dict(zip(able, _tested(asked, some, kind, changes, said, seed), strict=True))
    rows: list[Row] = []
    for index, (record, answer) in enumerate(zip(records, first, strict=True)):
        known: dict[str, Any] = {"gold": record.label, "first": answer.label}
        known |= {"words": len(word_grid(record, subject.segment))}
        if index in tested:
            known |= {"aim": aims[able.index(index)], **tested[index]}
        else:
            known["state"] = "no valid answer" if answer.label is None else "unknown at once"
        rows.append(Row(record.id, kind, **known))
    return rows


def _opposite(record: Record, label: str, labels: Sequence[str], given: Mapping[str, str] | None, seed: int) -> str:
    """Give the label that a counterfactual of a record is to have."""
    if given is not None:
        if given.get(label) not in labels or given[label] == label:
            raise InputError(f"opposite: expected another label for {label!r}, one of {', '.join(labels)}")
        return given[label]
    others = [other for other in labels if other not in (label, UNKNOWN)]
    if not others:
        raise InputError(f"there is no label but {label!r} that a counterfactual could have")
    return others[int(np.random.default_rng([seed, *record.id.encode()]).integers(len(others)))]


# ------------------------------------------------------------------------------------------- what is explained


@dataclass
class _Known:
    """A model whose answers are known."""

    name: str
    labels: tuple[str, ...]
    task: Task
    segment: Segmenter
    shuffle: int | None
    known: dict[str, str]

    def predict(self, records: Sequence[Record], progress: str | None = None) -> list[Prediction]:
        return [Prediction(record.id, self.name, self.known[record.id]) for record in records]


def _named(subject: Subject, records: Sequence[Record], labels: Sequence[str], order: Order) -> list[_Change]:
    """Ask for the words that the answer needs."""
    if not records:
        return []
    answers = {record.id: label for record, label in zip(records, labels, strict=True)}
    model = _Known(subject.name, subject.labels, subject.task, subject.segment, subject.shuffle, answers)
    found = explain(model, subject.generator, records, request=_REQUEST, order=order)
    changes: list[_Change] = []
    for record, item in zip(records, found, strict=True):
        reply = item.notes.get("reply")
        if item.failure is not None:
            changes.append(_Change("no reply" if reply is None else item.failure, reply))
        else:
            changes.append(_Change("tested", reply, word_grid(record, subject.segment).join(item.words, fill=False)))
    return changes


def _rewritten(
    subject: Subject, records: Sequence[Record], kind: Kind, aims: Sequence[str], wording: Wording
) -> list[_Change]:
    """Ask for the texts as they are without their answer, or with another one."""
    fields = subject.task.fields
    template = wording.redaction.redact if kind == "redaction" else wording.redaction.edit
    known = {"fields": listed([name.replace("_", " ") for name in fields]), "marker": wording.unknown.marker}
    form = fill(
        wording.forms.one if len(fields) == 1 else wording.forms.several,
        known if len(fields) == 1 else {**known, "fields": listed([json.dumps(name) for name in fields])},
    )
    talks: list[list[Mapping[str, str]]] = []
    for record, aim in zip(records, aims, strict=True):
        *before, last = question(subject, record)
        slots = {**known, "form": form, "target": subject.task.word(aim), "prompt": last["content"]}
        talks.append([*before, {"role": "user", "content": fill(template, slots)}])
    changes: list[_Change] = []
    for record, said in zip(records, say(subject, talks, whole=True, declining=False), strict=True):
        texts = None if said.text is None else read_texts(said.text, fields)
        if texts is None:
            changes.append(_Change(said.failure or ("refusal" if said.declines else "no text found"), said.text))
            continue
        gone, new = compared(record, texts, subject.segment, wording.unknown.marker)
        if said.declines and new > len(gone) - gone.sum():  # a text may begin like that; this is another one
            changes.append(_Change("refusal", said.text))
            continue
        changed = msgspec.structs.replace(record, fields={**record.fields, **texts})
        changes.append(_Change("tested", said.text, gone, new, changed))
    return changes


def read_texts(reply: str, fields: Sequence[str]) -> dict[str, str] | None:
    """Read the texts of some fields in a reply: JSON, a line for each, or of a single field the whole reply.

    Args:
        reply: what the model wrote.
        fields: the names of the texts.

    Returns:
        field -> text; None where a field has none.
    """
    names = {normalise(said): name for name in fields for said in (name, name.replace("_", " "))}
    start, end = reply.find("{"), reply.rfind("}")
    try:
        value = json.loads(reply[start : end + 1]) if 0 <= start < end else None
    except (ValueError, RecursionError):
        value = None
    found: dict[str, str] = {}
    if isinstance(value, dict):
        held = cast("dict[str, Any]", value)
        found = {names[normalise(key)]: text for key, text in held.items() if normalise(key) in names and _filled(text)}
    bare = reply.strip().removeprefix("```").removesuffix("```").strip()
    if len(found) < len(fields):
        lines = [field_of(line, names) for line in bare.splitlines()]
        found |= {name: _unquoted(text) for name, text in lines if name is not None and text.strip()}
    if len(fields) == 1 and not found and bare:
        found = {fields[0]: _unquoted(bare)}
    return found if len(found) == len(fields) else None


def _filled(text: Any) -> bool:
    return isinstance(text, str) and bool(text.strip())


def _unquoted(text: str) -> str:
    text = text.strip()
    paired = len(text) > 1 and (text[0], text[-1]) in (('"', '"'), ("'", "'"), ("“", "”"), ("`", "`"))
    return text[1:-1] if paired and text[0] not in text[1:-1] else text


def compared(record: Record, texts: Mapping[str, str], segment: Segmenter, marker: str) -> tuple[Mask, int]:
    """Compare the words of a record with those of new texts, in order, by their letters.

    Returns:
        Which words of the record are no more there (words,), and how many words came in, markers left out.
    """
    grid = word_grid(record, segment)
    gone: dict[str, Mask] = {}
    new = 0
    for name, text in texts.items():
        shown = text.replace(marker, " ")
        ours = [record.fields[name][start:end] for start, end in grid.words[name]]
        theirs = [shown[start:end] for start, end in segment(shown)]
        a, b = ([letters(word) or word for word in words] for words in (ours, theirs))
        b = [word for word, seen in zip(b, theirs, strict=True) if letters(seen)]  # not the full stop after a marker
        gone[name] = np.ones(len(a), dtype=np.bool_)
        new += len(b)
        for block in SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks():
            gone[name][block.a : block.a + block.size] = False
            new -= block.size
        gone[name] &= np.array([bool(letters(word)) for word in ours], dtype=np.bool_)
    return grid.join(gone, fill=False), new


# ------------------------------------------------------------------------------------------------- what is tested


def _tested(  # noqa: PLR0917
    subject: Subject, records: Sequence[Record], kind: Kind, changes: Sequence[_Change], wording: Wording, seed: int
) -> list[dict[str, Any]]:
    """Answer the changed texts, and beside them random and full redactions."""
    marker = wording.unknown.marker
    able = [index for index, change in enumerate(changes) if change.gone is not None]
    named = [index for index in able if changes[index].record is None]
    written = [index for index in able if changes[index].record is not None]
    masks = {index: cast("Mask", changes[index].gone) for index in able}
    second = _answers(subject, records, {index: masks[index] for index in named}, marker)
    second |= zip(written, subject.answers([cast("Record", changes[index].record) for index in written]), strict=True)
    random, full = dict[int, Answer](), dict[int, Answer]()
    if kind != "counterfactual":
        drawn = {index: _random(records[index], subject, masks[index], seed) for index in able}
        random = _answers(subject, records, drawn, marker)
        full = _answers(subject, records, {i: _shown(records[i], subject) for i in able}, marker)
    rows: list[dict[str, Any]] = []
    for index, change in enumerate(changes):
        row: dict[str, Any] = {"state": change.state, "explanation": change.reply}
        if index in masks:
            row |= {"second": second[index].label, "gone": int(masks[index].sum()), "new": change.new}
            row |= {name: got[index].label for name, got in (("random", random), ("full", full)) if index in got}
            row["state"] = "tested" if second[index].label is not None else "no valid second answer"
        rows.append(row)
    return rows


def _answers(subject: Subject, records: Sequence[Record], masks: Mapping[int, Mask], marker: str) -> dict[int, Answer]:
    found = subject.masked([records[index] for index in masks], list(masks.values()), marker) if masks else []
    return dict(zip(masks, found, strict=True))


def _shown(record: Record, subject: Subject) -> Mask:
    """Mark the words of the fields that the task shows."""
    grid = word_grid(record, subject.segment)
    sizes = zip(grid.words, grid.sizes, strict=True)
    return np.concatenate([np.full(size, name in subject.task.fields) for name, size in sizes])


def _random(record: Record, subject: Subject, mask: Mask, seed: int) -> Mask:
    """Draw as many words as the mask has, by seed and record."""
    rng = np.random.default_rng([seed, 1, *record.id.encode()])
    chosen = rng.choice(np.flatnonzero(_shown(record, subject)), size=int(mask.sum()), replace=False)
    drawn = np.zeros_like(mask)
    drawn[chosen] = True
    return drawn


# ------------------------------------------------------------------------------------------------------- summary


def summarise(rows: Sequence[Row], level: float = 0.95) -> Summary:
    """Sum up rows of one kind.

    Every rate is over the records that were `tested`, and again (`.../correct`) over those of them whose first answer
    is right, which is the paper's score: faithful and correct, out of correct.

    - `faithful`: the second answer is the one aimed at (the paper's rule).
    - `differs`: the second answer is not the first one.
    - `random`, `full`: `faithful` as it would be with as many random words redacted, and with every word redacted: a
      score close to `random` says nothing for the model's choice of words, and none can be much above `full`.
    - `gone`: over all tested records, the mean share of words that the explanation takes out (of a counterfactual, a
      small share is what was asked for).

    Returns:
        Estimates by Wilson's interval; one without a record is undefined.
    """
    tested = [row for row in rows if row.state == "tested"]
    found = {}
    for name, some in (("", tested), ("/correct", [row for row in tested if row.first == row.gold])):
        found[f"faithful{name}"] = rate((row.second == row.aim for row in some), level)
        found[f"differs{name}"] = rate((row.second != row.first for row in some), level)
        for reference in ("random", "full"):
            asked = [row for row in some if getattr(row, reference) is not None]
            found[f"{reference}{name}"] = rate((getattr(row, reference) == row.aim for row in asked), level)
    gone = [row.gone / row.words for row in tested if row.words]
    found["gone"] = bootstrap_mean(gone, level=level)
    counts = states(row.state for row in rows)
    counts |= {"rewritten": sum(row.new > 0 for row in tested)} if any(row.kind == "redaction" for row in rows) else {}
    full = found["full"].value
    blind = full is not None and full < ROOM
    return Summary(
        found, counts, "the model hardly ever says `unknown`, not even of a text without a word" if blind else None
    )
