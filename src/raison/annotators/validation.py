"""Blinded items for people: is an explanation valid, and whose style and whose reasoning is it, A's or B's?

The paper (Chen et al. 2026) had people validate; its protocol could not be had. This one is ours. An item shows an
input, references of two people under letters, and one response to the input; who gave it, and whether a person did, is
known to the key alone. Each slot is an input with a target and a rival, and has an item of every source, so that
systems are compared in pairs; the person's own response (`human`) is the ceiling, the rival's (`other`) the floor.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec

from raison.annotators.judge import item_text
from raison.annotators.material import HUMAN, OTHER, Material, draw, references_of, shown, shuffled
from raison.annotators.responses import Response
from raison.records import InputError, write_json, written_whole

LETTERS = ("A", "B")
UNSURE = "unsure"
QUESTIONS = {  # column -> what raters are asked, and their answers; no answer is one more state
    "valid": ("Is the explanation a valid reason for its label?", ("yes", "no")),
    "style": ("By its style (wording, length, punctuation): who wrote it?", LETTERS),
    "reasoning": ("By its reasoning alone (what is looked at, how it is concluded): whose is it?", LETTERS),
}
COLUMNS = ("item", "rater", "input", "person A", "person B", "response", *QUESTIONS, "comment")
SHOWN = {"input": "input", "person_a": "person A", "person_b": "person B", "response": "response"}


class Item(msgspec.Struct, frozen=True):
    """One item, as the key knows it."""

    id: str  # what raters see; says nothing
    slot: int  # items of one slot differ in their source alone
    source: str
    target: str
    rival: str
    letter: str  # under which the target stands
    record_id: str
    references: dict[str, list[str]]  # person -> record ids


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What opens a kit. Raters must not see it."""

    items: list[Item]
    raters: dict[str, list[str]]  # rater -> ids of their items, in their order
    shared: list[int]  # slots that every rater has
    seed: int


def make_kit(
    material: Material,
    *,
    raters: Sequence[str] = ("rater-1", "rater-2"),
    slots: int = 24,
    shared: int = 12,
    per_person: int = 4,
    seed: int = 0,
) -> Key:
    """Draw the items and deal them to the raters.

    Args:
        material: who said what.
        raters: two or more names.
        slots: inputs in all; each gives an item for every source. There are fewer where the data has no more.
        shared: of these, slots that every rater gets, for agreement; the others are dealt one by one.
        per_person: references of each of the two people.
        seed: of everything.

    Returns:
        The key. Targets come in turn, and so do their rivals; half of the targets are A. Each rater has an order of
        their own.

    Raises:
        InputError: fewer than two raters or two of one name, more shared slots than slots, or no input can be shown.
    """
    if len(set(raters)) < max(2, len(raters)) or not all(re.fullmatch(r"\w[\w.-]*", name) for name in raters):
        said = ", ".join(raters) or "none"
        raise InputError(f"raters: expected two or more different names of letters, digits, _ and -, got {said}")
    if not 0 <= shared <= slots or min(slots, per_person) < 1:
        raise InputError(f"expected slots and references of a person above 0, and 0 to {slots} shared, got {shared}")
    found = [*_slots(material, slots, seed)]
    if not found:
        raise InputError("no test item has a text of every source and one of another person")
    letters = shuffled([LETTERS[index % 2] for index in range(len(found))], draw(seed, "letters"))
    pairs = [(slot, source) for slot in range(len(found)) for source in (*material.texts, OTHER)]
    ids = [f"i{number:0{len(str(len(pairs)))}d}" for number in range(1, len(pairs) + 1)]
    items: list[Item] = []
    for name, (slot, source) in zip(shuffled(ids, draw(seed, "ids")), pairs, strict=True):
        target, rival, record_id = found[slot]
        chosen = references_of(material, (target, rival), per_person, draw(seed, "references", slot))
        items.append(Item(name, slot, source, target, rival, letters[slot], record_id, chosen))
    order = shuffled(range(len(found)), draw(seed, "slots"))
    return Key(items, _deal(items, raters, order, shared, seed), sorted(order[:shared]), seed)


def _slots(material: Material, count: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """Draw (target, rival, record id), targets in turn, as long as there are inputs that both responded to."""
    own = material.texts[HUMAN]
    left = {who: shuffled(material.usable(who), draw(seed, "items", who)) for who in material.people}
    turns = {who: shuffled([one for one in material.people if one != who], draw(seed, who)) for who in left}
    found = 0
    while found < count and any(left.values()):
        for target in material.people:
            rival = None
            while left[target] and rival is None:
                record_id = left[target].pop()
                rival = next((who for who in turns[target] if (who, record_id) in own), None)
                if rival is not None and found < count:
                    turns[target].remove(rival)
                    turns[target].append(rival)  # the next time another one comes first
                    found += 1
                    yield target, rival, record_id


def _deal(
    items: Sequence[Item], raters: Sequence[str], slots: Sequence[int], shared: int, seed: int
) -> dict[str, list[str]]:
    """Give every rater the shared slots and a share of the others, in an order of their own."""
    own = {slot: raters[index % len(raters)] for index, slot in enumerate(slots[shared:])}
    return {
        rater: shuffled([item.id for item in items if own.get(item.slot, rater) == rater], draw(seed, "order", rater))
        for rater in raters
    }


# --------------------------------------------------------------------------------------------------------- files


def write_kit(folder: str | Path, key_file: str | Path, key: Key, material: Material) -> list[str]:
    """Write a kit: for each rater a sheet and tasks for Label Studio with its labelling config; and apart, the key.

    Returns:
        What was written.

    Raises:
        InputError: the key would lie in the folder that raters get.
    """
    folder, key_file = Path(folder), Path(key_file)
    if folder.resolve() in key_file.resolve().parents:
        raise InputError(f"{key_file}: the key lies in the folder that raters get; choose another place for it")
    texts = {item.id: item_columns(item, material) for item in key.items}
    written = [folder / "label-studio.xml"]
    with written_whole(written[0]) as part:
        part.write_text(label_studio_config(), encoding="utf-8")
    for rater, ids in key.raters.items():
        sheet, tasks = folder / f"{rater}.csv", folder / f"{rater}.label-studio.json"
        with written_whole(sheet) as part:
            part.write_text(_sheet(rater, ids, texts), encoding="utf-8-sig", newline="")  # as spreadsheets expect it
        write_json(tasks, [{"data": _data(rater, name, texts[name])} for name in ids])
        written += [sheet, tasks]
    write_json(key_file, msgspec.to_builtins(key))
    return [*map(str, written), str(key_file)]


def item_columns(item: Item, material: Material) -> dict[str, str]:
    """Give what a rater reads of an item: the input, what two people said of others, and a response."""
    people = {item.letter: item.target, "B" if item.letter == "A" else "A": item.rival}
    said = {letter: _references(material, people[letter], item.references[people[letter]]) for letter in LETTERS}
    source, who = (HUMAN, item.rival) if item.source == OTHER else (item.source, item.target)
    response = _text(material, material.texts[source][who, item.record_id])
    inputs = item_text(material.items[item.record_id])
    return {"input": inputs, "person A": said["A"], "person B": said["B"], "response": response}


def _references(material: Material, who: str, items: Sequence[str]) -> str:
    lines = (f"{item_text(material.items[item])}\n→ {_text(material, material.train[who, item])}" for item in items)
    return "\n\n".join(lines)


def _text(material: Material, response: Response) -> str:
    text = shown(material, response, label=True, plain=False)
    return text.explanation if text.label is None else f"Label: {text.label}. {text.explanation}"


def _sheet(rater: str, ids: Sequence[str], texts: dict[str, dict[str, str]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, restval="")
    writer.writeheader()
    for name in ids:
        cells = {column: _harmless(text) for column, text in texts[name].items()}
        writer.writerow({"item": name, "rater": rater, **cells})
    return stream.getvalue()


def _harmless(text: str) -> str:
    """Keep a spreadsheet from taking a text for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _data(rater: str, name: str, texts: dict[str, str]) -> dict[str, Any]:
    return {"item": name, "rater": rater, **{field: texts[column] for field, column in SHOWN.items()}}


def label_studio_config() -> str:
    """Give the labelling config for Label Studio: what is shown, and one choice for each question."""
    view = ElementTree.Element("View")
    for name, title in SHOWN.items():
        ElementTree.SubElement(view, "Header", value=f"{title[0].upper()}{title[1:]}", size="4")
        ElementTree.SubElement(view, "Text", name=name, value=f"${name}")
    for name, (asked, answers) in QUESTIONS.items():
        ElementTree.SubElement(view, "Header", value=asked, size="4")
        options = {"name": name, "toName": "response", "choice": "single-radio", "showInline": "true"}
        choices = ElementTree.SubElement(view, "Choices", options)
        for answer in (*answers, UNSURE):
            ElementTree.SubElement(choices, "Choice", value=answer)
    ElementTree.SubElement(view, "TextArea", name="comment", toName="response", rows="2", maxSubmissions="1")
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"
