"""A small made-up panel: items in which every text is like no other, so that a leak shows, and what people said."""

from raison.records import Annotation, Record

LABELS = ("entailment", "neutral", "contradiction")
SCALE = tuple(str(step) for step in range(-2, 3))


def item(index, said, labels=LABELS, task="nli"):
    """Make an item of answers: (person, label, explanation) and perhaps extras."""
    notes = tuple(Annotation(who, label, None, text, *rest) for who, label, text, *rest in said)
    fields = {"premise": f"the premise of item{index}", "hypothesis": f"the hypothesis of item{index}"}
    return Record(f"i{index}", fields, task, label_set=labels, annotations=notes)


def panel(items=12, people=("a", "b", "c"), labels=LABELS):
    """Everybody says something of every item that nobody says elsewhere; labels go round."""
    return [
        item(index, [
            (who, labels[(index * (place + 1)) % len(labels)], f"{who} says xi{index}x{who} of it")
            for place, who in enumerate(people)
        ], labels)
        for index in range(items)
    ]  # fmt: skip
