"""What an evaluation gives: cells with intervals and frames, comparisons, curves, and what happened to every record."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from raison.evaluation.statistics import Estimate
from raison.evaluation.validity import Validity

# How a verdict shows itself: "text" and "html". The report puts its views here when it is imported.
VIEWS: dict[str, Callable[["Verdict"], str]] = {}


class Cell(msgspec.Struct, frozen=True):
    """One number with its interval and the references it must be read beside."""

    metric: str  # "f1", "flip_rate", "comprehensiveness", ... ; the report explains each
    source: str  # the method, model or person judged
    slice: str  # "all", or "label=neutral"
    value: float | None  # None = undefined
    low: float | None
    high: float | None
    n: int  # records behind the value
    frame: dict[str, float | None] = {}  # references by name: chance, select_all, human, random, least, full
    verdict: str = ""  # empty, or why the number can't be read or ranked


def cell_of(cells: Iterable[Cell], metric: str, source: str, slice: str = "all") -> Cell:
    """Give the cell of this name.

    Raises:
        KeyError: there is none.
    """
    for cell in cells:
        if (cell.metric, cell.source, cell.slice) == (metric, source, slice):
            return cell
    raise KeyError((metric, source, slice))


class Comparison(msgspec.Struct, frozen=True):
    """Two sources on the same records, with a p-value corrected over the family of comparisons of one metric."""

    metric: str
    a: str
    b: str
    difference: float | None  # a minus b
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None  # Holm's correction over the family
    family: int  # how many comparisons are in it
    n: int
    test: str  # "paired sign-flip permutation" or "exact McNemar"
    verdict: str  # "a higher", "b higher", "not resolved at n = 100", or why it is withheld


class Curve(msgspec.Struct, frozen=True):
    """A metric as a function of the share of words taken away or kept."""

    metric: str  # "comprehensiveness" or "sufficiency"
    source: str
    ratios: list[float]
    values: list[float]
    low: list[float]
    high: list[float]


class SourceItem(msgspec.Struct, frozen=True):
    """What one source said about one record, and what came of it. Words are on the record's flat word axis."""

    words: list[int]  # indices of the words it chose under the budget
    scores: list[float | None] | None  # per word; None for a rationale without scores; a None inside = not seen
    metrics: dict[str, float | None]  # of this record; None = undefined. "f1" the value, "f1.chance" a reference of it
    label_without: str | None = None  # what the model answers when the words are taken away
    label_only: str | None = None  # what it answers when only they are kept
    failure: str | None = None  # why there is no rationale


class Item(msgspec.Struct, frozen=True):
    """One record with everything that was said about it."""

    record_id: str
    texts: dict[str, str]  # field -> text
    words: dict[str, list[tuple[int, int]]]  # field -> characters of its words; the flat axis is the fields in order
    label: str | None  # gold
    predicted: str | None
    probability: float | None  # of the predicted label
    people: list[tuple[str, list[int]]]  # (annotator, indices of the words they marked), of those who were asked
    sources: dict[str, SourceItem]
    unseen: list[int] = []  # words that the model did not see
    label_full: str | None = None  # what the model answers when every word is taken away


class Diagnosis(msgspec.Struct, frozen=True):
    """How well one metric tells faithful rationales from unfaithful ones."""

    estimate: Estimate  # D, with its interval; chance is one half
    ties: float | None  # share of pairs that the metric does not part

    @property
    def informative(self) -> bool:
        """Whether it is shown to be better than chance: its whole interval lies above one half."""
        return self.estimate.low is not None and self.estimate.low > 0.5


class Grades(msgspec.Struct, frozen=True):
    """How well metrics of faithfulness know true rationales from others, where the truth is planted."""

    model: str  # that was explained there
    records: int
    accuracy: float | None  # share of them that it labels right: else its reasons are not the planted ones
    against: dict[str, dict[str, Diagnosis]]  # what stood against the true words -> metric -> diagnosis
    provenance: dict[str, Any] = {}


class Verdict(msgspec.Struct, frozen=True):
    """The whole result of one evaluation. Printed, it is a table; in a notebook, the view of the report."""

    model: str | None  # None where only agreement with people was asked for
    cells: list[Cell]
    comparisons: list[Comparison]
    curves: list[Curve]
    validity: Validity | None
    notes: list[str]  # what was left out and why, counts of missing things, power
    items: list[Item]
    provenance: dict[str, Any]  # configuration, versions, hashes
    grades: Grades | None = None  # of the metrics, made elsewhere; see `graded`

    def cell(self, metric: str, source: str, slice: str = "all") -> Cell:
        """Give one cell.

        Raises:
            KeyError: there is none of this name.
        """
        return cell_of(self.cells, metric, source, slice)

    def __repr__(self) -> str:
        """Give the table that the command line prints; without the report, a line."""
        line = f"Verdict(model={self.model!r}, {len(self.items)} records, {len(self.cells)} cells)"
        return VIEWS["text"](self) if "text" in VIEWS else line

    def _repr_html_(self) -> str | None:
        """Give the view of the report, for notebooks; without the report, nothing."""
        return VIEWS["html"](self) if "html" in VIEWS else None

    def graded(self, grades: Grades) -> "Verdict":
        """Give the same verdict with grades of its metrics, which its tables and pages show beside them."""
        return msgspec.structs.replace(self, grades=grades)

    @property
    def sources(self) -> list[str]:
        """The sources judged, in the order they came."""
        return list(dict.fromkeys(cell.source for cell in self.cells))
