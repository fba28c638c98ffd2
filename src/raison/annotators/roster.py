"""The roster: what each person gave, as a table and as cells."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from raison.annotators.people import people_of
from raison.annotators.responses import Response, responses_of
from raison.annotators.splits import normalised
from raison.records import Record
from raison.sources.common import all_labels
from raison.sources.scale import ordinal_scale

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN = 4  # labels in a row of the table


class Person(NamedTuple):
    """What one person gave."""

    name: str
    items: int
    responses: int
    several: int  # items with more than one response, or with several labels of one explanation
    explained: int  # responses with an explanation
    distinct: int  # explanations that are not the same, `normalised`
    words: float | None  # between spaces, in an explanation on average; None = none explained
    labels: Counter[str]  # in the order of the label set, whose labels may stand there 0 times
    mean: float | None  # of the labels' numbers where they are ordinal; None = they are not, or there is no label


def roster(records: Sequence[Record]) -> list[Person]:
    """Give what each person in the data gave, in the order of `people.people_of`."""
    given: dict[str, list[Response]] = {name: [] for name in people_of(records)}
    for response in responses_of(records):
        given[response.annotator].append(response)
    known = {label for responses in given.values() for response in responses for label in _given(response)}
    label_set = records[0].label_set if records else ()
    scale = ordinal_scale(label_set or sorted(known))
    labels = tuple(dict.fromkeys((*label_set, *sorted(known))))
    return [_person(name, responses, labels, scale) for name, responses in given.items()]


def _given(response: Response) -> list[str]:
    return all_labels(response.label, response.extra)


def _person(name: str, responses: list[Response], label_set: tuple[str, ...], scale: dict[str, float] | None) -> Person:
    items = Counter(response.record_id for response in responses)
    items.update({one.record_id: 1 for one in responses if len(_given(one)) > 1})
    texts = [response.explanation for response in responses if response.explanation]
    labels = Counter(dict.fromkeys(label_set, 0))
    labels.update(label for response in responses for label in _given(response))
    numbers = [scale[label] for label in labels.elements() if label in scale] if scale else []
    return Person(
        name,
        len(items),
        len(responses),
        sum(count > 1 for count in items.values()),
        len(texts),
        len({normalised(text) for text in texts}),
        sum(len(text.split()) for text in texts) / len(texts) if texts else None,
        labels,
        sum(numbers) / len(numbers) if numbers else None,
    )


def roster_table(people: Sequence[Person]) -> "Table":
    """Make a table for a terminal."""
    from rich.table import Table
    from rich.text import Text

    from raison.sources.show import visible

    whole = sum((it.labels for it in people), Counter[str]())
    often = {label for label, _ in whole.most_common(_SHOWN)}
    table = Table(title=Text("People"), title_justify="left")
    table.add_column("annotator")
    for name in ("items", "responses", "several", "explained", "distinct", "words"):
        table.add_column(name, justify="right")
    table.add_column("labels")
    for it in people:
        words = "–" if it.words is None else f"{it.words:.1f}"
        counts = (it.items, it.responses, it.several, it.explained, it.distinct)
        table.add_row(Text(visible(it.name)), *(f"{n:,}" for n in counts), words, Text(visible(_labels(it, often))))
    return table


def _labels(person: Person, shown: Collection[str]) -> str:
    """Say how often a person chose each of the labels that people choose most, in the order of all."""
    if person.mean is not None:
        return f"mean {person.mean:.2f}"
    whole = person.labels.total()
    if not whole:
        return ""
    shares = [f"{label} {count / whole:.0%}" for label, count in person.labels.items() if label in shown]
    return ", ".join(shares) + (", ..." if len(person.labels) > len(shares) else "")


def roster_cells(people: Sequence[Person]) -> list[dict[str, Any]]:
    """Give the numbers as cells."""
    return [
        {"metric": metric, "source": it.name, "slice": "all", "value": value, "low": None, "high": None, "n": n,
         "frame": None, "verdict": None}
        for it in people
        for metric, value, n in (
            ("items", it.items, it.items),
            ("responses", it.responses, it.responses),
            ("several_responses", it.several, it.items),
            ("explained", it.explained, it.responses),
            ("distinct_explanations", it.distinct, it.explained),
            ("words", it.words, it.explained),
            ("mean_label", it.mean, it.labels.total()),
            *((f"label:{label}", count, it.labels.total()) for label, count in it.labels.items()),
        )
    ]  # fmt: skip
