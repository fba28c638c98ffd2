"""The roster: what each person gave, as a table and as cells."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from raison.annotators.people import people_of
from raison.annotators.responses import Response, responses_of
from raison.annotators.splits import normalised
from raison.records import Record
from raison.sources.scale import ordinal_scale

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN = 4  # labels in a row of the table


class Person(NamedTuple):
    """What one person gave."""

    name: str
    items: int
    responses: int
    several: int  # items with more than one response
    explained: int  # responses with an explanation
    distinct: int  # explanations that are not the same, `normalised`
    words: float | None  # between spaces, in an explanation on average; None = none explained
    labels: Counter[str]
    mean: float | None  # of the labels' numbers where they are ordinal; None = they are not, or there is no label


def roster(records: Sequence[Record]) -> list[Person]:
    """Give what each person in the data gave, in the order of `people.people_of`."""
    given: dict[str, list[Response]] = {name: [] for name in people_of(records)}
    for response in responses_of(records):
        given[response.annotator].append(response)
    labels = records[0].label_set if records else ()
    scale = ordinal_scale(labels or sorted({it.label for it in _all(given) if it.label is not None}))
    return [_person(name, responses, scale) for name, responses in given.items()]


def _all(given: dict[str, list[Response]]) -> Iterable[Response]:
    return (response for responses in given.values() for response in responses)


def _person(name: str, responses: list[Response], scale: dict[str, float] | None) -> Person:
    items = Counter(response.record_id for response in responses)
    texts = [response.explanation for response in responses if response.explanation]
    labels = Counter(response.label for response in responses if response.label is not None)
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

    table = Table(title=Text("People"), title_justify="left")
    table.add_column("annotator")
    for name in ("items", "responses", "several", "explained", "distinct", "words"):
        table.add_column(name, justify="right")
    table.add_column("labels")
    for it in people:
        words = "–" if it.words is None else f"{it.words:.1f}"
        counts = (it.items, it.responses, it.several, it.explained, it.distinct)
        table.add_row(Text(visible(it.name)), *(f"{n:,}" for n in counts), words, Text(visible(_labels(it))))
    return table


def _labels(person: Person) -> str:
    if person.mean is not None:
        return f"mean {person.mean:.2f}"
    whole = person.labels.total()
    shares = [f"{label} {count / whole:.0%}" for label, count in person.labels.most_common(_SHOWN)]
    return ", ".join(shares) + (", ..." if len(person.labels) > _SHOWN else "")


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
            *((f"label:{label}", count, it.labels.total()) for label, count in sorted(it.labels.items())),
        )
    ]  # fmt: skip
