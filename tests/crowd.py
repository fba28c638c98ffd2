"""A made-up crowd of the shape of the real data sets: items with several people's labels and explanations."""

from raison.annotators.responses import Response, responses_of
from raison.annotators.splits import split_items
from raison.records import Annotation, Record

LABELS = ("entailment", "neutral", "contradiction")
PEOPLE = ("ann", "ben", "cem", "dua")
HABITS = {
    "ann": "The premise says {thing}, so it must be true!",
    "ben": "not clear whether {thing} — maybe",
    "cem": '{thing}: yes; "{thing}" is in both.',
    "dua": "I think {thing} can't be known here.",
}


def explained(who, number):
    return HABITS[who].format(thing=f"thing {number}")


def records(count=60, people=PEOPLE, missing=()):
    """Make items; `missing` are (person, number) without an annotation."""
    return [
        Record(
            f"r{number}",
            {"premise": f"A premise of number {number}.", "hypothesis": f"Thing {number}."},
            "nli",
            None,
            LABELS,
            tuple(
                Annotation(who, LABELS[(number + place) % 3], None, explained(who, number))
                for place, who in enumerate(people)
                if (who, number) not in missing
            ),
        )
        for number in range(count)
    ]


def imitated(items, people=PEOPLE, text="{who} on {item}"):
    """Make what a system says as each person."""
    return [Response(item.id, who, "neutral", text.format(who=who, item=item.id)) for item in items for who in people]


def parted(rows, sizes=(1, 0.5, 1)):
    """Give (train responses, test responses, test items)."""
    split = split_items(rows, (len(rows) // 2, len(rows) // 10, len(rows) - len(rows) // 2 - len(rows) // 10))
    return responses_of(split.train), responses_of(split.test), split.test
