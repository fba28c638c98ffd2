"""People with planted habits: each labels invented notes about lodgings, and explains, in a known way of their own.

A note says of a lodging how some of its aspects were. A person looks at the first of them in their own order of
aspects, labels by its degree, and the explanation names it: so that the explanation says which note it is of, and the
reasoning decides the label. What else a person does is planted one habit at a time, and off unless asked for: a
favourite label, longer explanations, a set phrase, hedges. Labels and explanations are drawn, and their chances are
known exactly: `label_chances`, `explanation_chances`.
"""

import itertools
import random
from collections.abc import Sequence

import msgspec

from raison.records import Annotation, InputError, Record

ASPECTS: dict[str, dict[str, tuple[str, ...]]] = {  # aspect -> degree -> its words; no word stands twice
    "street": {"good": ("quiet", "peaceful"), "fair": ("lively", "busy"), "bad": ("loud", "noisy")},
    "bill": {"good": ("low", "cheap"), "fair": ("usual", "moderate"), "bad": ("steep", "costly")},
    "room": {"good": ("wide", "spacious"), "fair": ("square", "plain"), "bad": ("cramped", "narrow")},
    "breakfast": {"good": ("fresh", "tasty"), "fair": ("simple", "light"), "bad": ("stale", "bland")},
}
LABELS = {"good": "yes", "fair": "unsure", "bad": "no"}  # of the degree: would one stay there again?
SPOTS = ("harbour", "station", "castle", "forest", "river", "market", "chapel", "mill", "beach", "garden")
HOUSES = ("inn", "hostel", "lodge", "hotel", "guesthouse")
PHRASES = ("For me", "All in all", "In short", "To be honest", "As I see it", "On the whole", "In the end")
HEDGES = ("perhaps", "I think", "it seems")
SHOWN = 3  # aspects that a note names
AGREEING = 0.6  # chance that an aspect of a lodging has the degree of the lodging as a whole


class Habits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person does otherwise than others; every default is to do nothing of the kind."""

    looks: tuple[str, ...] = tuple(ASPECTS)  # aspects in the order in which they decide; the first one named does
    favourite: str | None = None  # a label that is given whatever the note says,
    lean: float = 0.0  # with this chance
    wordy: float = 0.0  # chance of each further aspect of the note to be named too
    phrase: str | None = None  # words that begin an explanation,
    phrase_rate: float = 0.0  # with this chance
    hedging: float = 0.0  # chance of a hedge


class Annotator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A simulated person, who labels and explains."""

    name: str
    habits: Habits = Habits()


PANEL = (
    Annotator("ann-1", Habits(("street", "bill", "room", "breakfast"), phrase="For me", phrase_rate=0.5)),
    Annotator("ann-2", Habits(("street", "bill", "room", "breakfast"), hedging=0.5)),
    Annotator("ann-3", Habits(("bill", "room", "breakfast", "street"), wordy=0.5)),
    Annotator(
        "ann-4",
        Habits(
            ("bill", "room", "breakfast", "street"),
            favourite="yes",
            lean=0.3,
            phrase="All in all",
            phrase_rate=0.5,
        ),
    ),
)


def random_people(size: int, seed: int = 0, phrases: Sequence[str] = PHRASES) -> list[Annotator]:
    """Draw people with habits at random: a crowd to learn the manner of speaking from, or a larger panel.

    Args:
        size: how many; the first ones of a larger crowd are those of a smaller one.
        seed: of every draw.
        phrases: that they choose theirs from.
    """
    people: list[Annotator] = []
    for index in range(size):
        draw = random.Random(f"people-{seed}-{index}")
        habits = Habits(
            looks=tuple(draw.sample(list(ASPECTS), len(ASPECTS))),
            favourite=draw.choice(list(LABELS.values())),
            lean=draw.choice((0.0, 0.0, 0.3)),
            wordy=draw.choice((0.0, 0.3, 0.6)),
            phrase=draw.choice(phrases),
            phrase_rate=draw.choice((0.0, 0.3, 0.6)),
            hedging=draw.choice((0.0, 0.3, 0.6)),
        )
        people.append(Annotator(f"{seed}-{index}", habits))
    return people


# --------------------------------------------------------------------------------------------------- items


def make_items(size: int, seed: int = 0) -> list[Record]:
    """Write notes about lodgings. The first of a larger set are those of a smaller one.

    Args:
        size: how many.
        seed: of every draw.

    Returns:
        Records with one field (`note`), a label set, no label and no annotations.
    """
    return [_item(f"note-{seed}-{index}") for index in range(size)]


def _item(name: str) -> Record:
    draw = random.Random(name)
    whole = draw.choice(list(LABELS))
    said: list[str] = []
    for aspect in draw.sample(list(ASPECTS), SHOWN):
        degree = whole if draw.random() < AGREEING else draw.choice(list(LABELS))
        said.append(f"the {aspect} {draw.choice(ASPECTS[aspect][degree])}")
    note = f"At the {draw.choice(SPOTS)} {draw.choice(HOUSES)} we found {', '.join(said[:-1])} and {said[-1]}."
    return Record(name, {"note": note}, label_set=tuple(LABELS.values()))


def aspects_of(record: Record) -> dict[str, str]:
    """Read the aspects that a note names, with the word for each, in the order of the note.

    Raises:
        InputError: the record has no note, or one that names no aspect.
    """
    words = [word.strip(",.") for word in record.fields.get("note", "").split()]
    found = {aspect: word for aspect, word in itertools.pairwise(words) if aspect in ASPECTS}
    if not found or not all(_degree(aspect, word) for aspect, word in found.items()):
        raise InputError(f"record {record.id!r} is no note of the testbed; make it with make_items")
    return found


def _degree(aspect: str, word: str) -> str | None:
    return next((degree for degree, words in ASPECTS[aspect].items() if word in words), None)


# --------------------------------------------------------------------------------------------------- people


def seen_by(person: Annotator, record: Record) -> list[str]:
    """Give the aspects of a note in the order in which they decide for a person: the first one decides the label."""
    named = aspects_of(record)
    return [aspect for aspect in person.habits.looks if aspect in named]


def label_chances(person: Annotator, record: Record) -> dict[str, float]:
    """Give the chance of each label; they sum to 1."""
    decides = seen_by(person, record)[0]
    degree = _degree(decides, aspects_of(record)[decides])
    lean = person.habits.lean if person.habits.favourite else 0.0
    return {
        label: (1 - lean) * (at == degree) + lean * (label == person.habits.favourite) for at, label in LABELS.items()
    }


def explanation_chances(person: Annotator, record: Record) -> dict[str, float]:
    """Give the chance of each explanation that a person may write, whatever their label; they sum to 1."""
    chances: dict[str, float] = {}
    for parts in itertools.product(*(slot.items() for slot in _slots(person, record))):
        text = _sentence([part for part, _ in parts])
        chance = 1.0
        for _, share in parts:
            chance *= share
        chances[text] = chances.get(text, 0.0) + chance
    return chances


def _slots(person: Annotator, record: Record) -> list[dict[str, float]]:
    """Give the parts of an explanation in order, each as its alternatives with their chances."""
    habits, named = person.habits, aspects_of(record)
    first, *others = seen_by(person, record)
    place = " ".join(record.fields["note"].split()[2:4])
    rate = habits.phrase_rate if habits.phrase else 0.0
    opening = {f"{habits.phrase}, ": rate, "": 1 - rate}
    hedge = {f"{words} ": habits.hedging / len(HEDGES) for words in HEDGES} | {"": 1 - habits.hedging}
    clause = {f"the {first} at the {place} was {named[first]}": 0.5, f"the {place} had a {named[first]} {first}": 0.5}
    more = [{f" and the {aspect} was {named[aspect]}": habits.wordy, "": 1 - habits.wordy} for aspect in others]
    return [{text: share for text, share in slot.items() if share} for slot in (opening, hedge, clause, *more)]


def _sentence(parts: Sequence[str]) -> str:
    text = "".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def annotate(person: Annotator, record: Record, seed: int = 0) -> Annotation:
    """Draw what a person says of a note; it depends on seed, person and note alone.

    Returns:
        A label, an explanation, and `extra["category"]`: the aspect that decided.
    """
    draw = random.Random(f"{seed}-{person.name}-{record.id}")
    chances = label_chances(person, record)
    label = draw.choices(list(chances), list(chances.values()))[0]
    parts = [draw.choices(list(slot), list(slot.values()))[0] for slot in _slots(person, record)]
    return Annotation(person.name, label, explanation=_sentence(parts), extra={"category": seen_by(person, record)[0]})


def annotated_records(people: Sequence[Annotator], items: Sequence[Record], seed: int = 0) -> list[Record]:
    """Let people label and explain notes.

    Args:
        people: of distinct names; every one annotates every note.
        items: as `make_items` gives them.
        seed: of the draws.

    Raises:
        InputError: two people have one name, or a note is none.
    """
    if len({person.name for person in people}) < len(people):
        raise InputError("two people have the same name")
    return [
        msgspec.structs.replace(item, annotations=tuple(annotate(person, item, seed) for person in people))
        for item in items
    ]


def shuffle_people(records: Sequence[Record], seed: int = 0) -> list[Record]:
    """Hand the names of a record's annotators round among its annotations: nobody has a habit left to find.

    Each record keeps its labels and explanations. What becomes of it depends on its id and the seed alone.
    """
    shuffled: list[Record] = []
    for record in records:
        names = [note.annotator for note in record.annotations]
        random.Random(f"{seed}-{record.id}").shuffle(names)
        notes = (
            msgspec.structs.replace(note, annotator=name) for note, name in zip(record.annotations, names, strict=True)
        )
        shuffled.append(msgspec.structs.replace(record, annotations=tuple(notes)))
    return shuffled
