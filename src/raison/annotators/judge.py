"""Who wrote this? A forced choice put to a judge model: references of several people, then texts of one of them.

The paper (Chen et al. 2026) attributes with a judge; its protocol and prompt could not be had. This one is ours. People
are letters, shuffled for each question, and the order is rotated so that a judge who likes a position gains nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from string import ascii_uppercase

import msgspec

from raison.annotators.material import (
    HUMAN,
    OTHER,
    Material,
    Text,
    draw,
    references_of,
    rival_with,
    shown,
    shuffled,
)
from raison.checks.wording import fill
from raison.models.chat import Message
from raison.models.shipped import own_or
from raison.prompting.requests import listed
from raison.records import InputError

CHOICES = ROTATIONS = 4
PLAIN, NO_LABEL, NORMALISED, PAIRWISE = "plain", "no-label", "normalised", "pairwise"
MARKS = (NO_LABEL, NORMALISED, PAIRWISE)


class Question(msgspec.Struct, frozen=True):
    """One forced choice: who of these people wrote these texts?"""

    id: str
    variant: str  # "plain", or some of "no-label", "normalised" and "pairwise" joined by "+"
    source: str  # whose texts: "human", "other", or a system
    target: str  # the person that counts as right
    writer: str  # the person that the texts show: the target; of "other" somebody else
    texts: int  # how many are shown together (m)
    group: int  # of the target's groups of so many texts
    rotation: int
    options: tuple[str, ...]  # people in the order of their letters
    items: tuple[str, ...]  # record ids of the texts
    references: dict[str, list[str]]  # person -> record ids

    @property
    def letters(self) -> str:
        """The letters to choose from."""
        return ascii_uppercase[: len(self.options)]


class Wording(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a judge is told, see `judge.toml`."""

    system: str
    ask: str
    item: str
    reference: str
    text: str


SLOTS = {
    "system": (),
    "ask": ("people", "letters", "references", "texts"),
    "item": ("number", "item"),
    "reference": ("person", "said"),
    "text": ("said",),
}


@cache
def load_judge_wording(path: str | None = None) -> Wording:
    """Give the words in which a judge is asked: those that come with raison, or a TOML file with the same entries.

    Raises:
        InputError: the file can't be read or has a fault; one line that names file and field.
    """
    found, name = own_or(path, "raison.annotators", "judge.toml", Wording)
    for key, slots in SLOTS.items():
        for slot in slots:
            if f"{{{slot}}}" not in getattr(found, key):
                raise InputError(f"{name}: `{key}`: expected {{{slot}}} in it")
    return found


def make_questions(
    material: Material,
    *,
    texts: Sequence[int] = (1, 5, 10),
    per_person: int = 5,
    groups: int = 20,
    variants: Sequence[str] = (PLAIN,),
    seed: int = 0,
) -> list[Question]:
    """Make the questions: for each variant, target and group of items one for each source and rotation.

    Args:
        material: who said what.
        texts: how many texts are shown together, m; of each number there are questions of their own.
        per_person: references of each person.
        groups: at most so many groups of m items for each target; no item stands in two of them.
        variants: "plain"; "no-label" hides labels; "normalised" takes case and punctuation from all texts, so that what
            is left is less of style; "pairwise" offers two people instead of four; and their sums, "no-label+pairwise".
        seed: of items, references, letters.

    Returns:
        The questions in order; a question depends on its own variant, target and group alone. The letters of four
        people are rotated four times, of two twice, so that each stands once in every position. Among more than four
        people each question has the target and three others.

    Raises:
        InputError: an unknown variant, or no target has enough test items for any group.
    """
    for name in variants:
        _check_variant(name)
    if min(*texts, per_person, groups) < 1:
        raise InputError("texts, references of a person, and groups: expected at least 1 of each")
    found = [
        question
        for variant in variants
        for count in texts
        for target in material.people
        for question in _of_target(material, variant, target, (count, per_person, groups), seed)
    ]
    if not found:
        most = max(len(material.usable(who)) for who in material.people)
        raise InputError(f"no group of {min(texts)} texts: nobody has more than {most} test items with every source")
    return found


def _check_variant(name: str) -> None:
    parts = name.split("+")
    if name != PLAIN and (len(set(parts)) < len(parts) or not set(parts) <= {*MARKS}):
        raise InputError(f"unknown variant {name!r}; expected {PLAIN}, or some of {', '.join(MARKS)} joined by +")


def _of_target(
    material: Material, variant: str, target: str, sizes: tuple[int, int, int], seed: int
) -> Iterator[Question]:
    """Make the questions about one person: the items are the same in all variants, and of the same people all else."""
    count, per_person, groups = sizes
    items = shuffled(material.usable(target), draw(seed, "items", target, count))
    for group in range(min(groups, len(items) // count)):
        part = tuple(items[group * count : (group + 1) * count])
        rng = draw(seed, "letters", target, count, group)
        rivals = shuffled([who for who in material.people if who != target], rng)
        rivals = rivals[: (2 if PAIRWISE in variant else CHOICES) - 1]
        options = shuffled(sorted([target, *rivals]), rng)
        chosen = references_of(material, options, per_person, draw(seed, "references", target, count, group))
        writers = {**dict.fromkeys(material.texts, target), OTHER: rival_with(material, rivals, part)}
        for source, writer in writers.items():
            for rotation in range(min(ROTATIONS, len(options)) if writer else 0):
                order = (*options[rotation:], *options[:rotation])
                name = f"{variant}/{source}/{target}/{count}/{group}/{rotation}"
                known = (variant, source, target, writer or "", count, group, rotation, order, part, chosen)
                yield Question(name, *known)


# ------------------------------------------------------------------------------------------------- what is asked


def conversation(question: Question, material: Material, wording: Wording) -> list[Message]:
    """Give what a judge reads. Each item stands once, with what the people said of it under their letters."""
    how = {"label": NO_LABEL not in question.variant, "plain": NORMALISED in question.variant}
    letters = dict(zip(question.options, question.letters, strict=True))
    of_item: dict[str, list[str]] = {}
    for who in question.options:
        for item in question.references[who]:
            said = shown(material, material.train[who, item], **how)
            line = fill(wording.reference, {"person": letters[who], "said": _said(said)})
            of_item.setdefault(item, []).append(line)
    references = [_item(wording, n, material.items[item], lines) for n, (item, lines) in enumerate(of_item.items(), 1)]
    source = HUMAN if question.source == OTHER else question.source
    texts: list[str] = []
    for number, item in enumerate(question.items, 1):
        said = shown(material, material.texts[source][question.writer, item], **how)
        lines = [fill(wording.text, {"said": _said(said)})]
        texts.append(_item(wording, number, said.item, lines))
    *first, last = question.letters
    known = {"people": listed([*first, last]), "letters": f"{', '.join(first)} or {last}"}
    known |= {"references": "\n\n".join(references), "texts": "\n\n".join(texts)}
    system: list[Message] = [{"role": "system", "content": wording.system.strip()}] if wording.system.strip() else []
    return [*system, {"role": "user", "content": fill(wording.ask, known)}]


def _item(wording: Wording, number: int, item: Mapping[str, str], lines: Sequence[str]) -> str:
    return "\n".join([fill(wording.item, {"number": str(number), "item": item_text(item)}), *lines])


def item_text(item: Mapping[str, str]) -> str:
    """Give the texts of an item, a line each, with the names of their fields where there are several."""
    lines = (f"{name.replace('_', ' ')}: {' '.join(text.split())}" for name, text in item.items())
    return "\n".join(lines) if len(item) > 1 else " ".join(" ".join(item.values()).split())


def _said(text: Text) -> str:
    return text.explanation if text.label is None else f"[{text.label}] {text.explanation}"
