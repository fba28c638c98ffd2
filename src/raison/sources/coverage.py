"""What rationales cover: how many records have one, and how many of their words; for the terminal and as cells."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
from rich.table import Table
from rich.text import Text

from raison.records import Record
from raison.sources.explained import Agreement
from raison.sources.rules import Rule, Rules, all_rules
from raison.sources.show import visible
from raison.words import Mask, Segmenter, human_masks, whitespace_words, word_grid

ANYONE = "anyone"  # the source of what at least one annotator marked
_SHOWN = 13  # sources in a table


class Coverage(msgspec.Struct):
    """What one annotator's rationales cover in the records of one label."""

    source: str  # the annotator, or `anyone`
    label: str | None  # of the records; None = all records, those without a label too
    records: int = 0  # whether the annotator was asked or not
    asked: int = 0  # of these, those the annotator was asked about
    marked: int = 0  # of these, those with a rationale: a word at least was marked
    words: int = 0  # marked
    shares: float = 0.0  # sum over records of marked words / words

    @property
    def with_rationale(self) -> float | None:
        """Share of the records that have a rationale; None without records."""
        return self.marked / self.records if self.records else None

    @property
    def words_marked(self) -> float | None:
        """Mean number of marked words, over the records that have any; None where none has."""
        return self.words / self.marked if self.marked else None

    @property
    def share_marked(self) -> float | None:
        """Mean share of a record's words that are marked, over the records that have any; None where none has."""
        return self.shares / self.marked if self.marked else None

    def add(self, masks: Mask) -> None:
        """Take in the masks (people asked, words) of one record."""
        words = int(np.count_nonzero(masks.any(axis=0)))
        self.asked += len(masks) > 0
        self.marked += words > 0
        self.words += words
        self.shares += words / max(masks.shape[1], 1)


def coverage(
    records: Collection[Record], annotators: Collection[str] | None = None, segment: Segmenter = whitespace_words
) -> list[Coverage]:
    """Say what the rationales of each annotator cover, in all records and by label.

    Args:
        records: the records.
        annotators: whose rationales, by name; None = everybody's. Those without a name count for `anyone` only.
        segment: what a word is.

    Returns:
        For each annotator, in the order in which they come up, one item for all records and one for each label; then
        the same for `anyone`, unless there is one annotator alone, with a name.
    """
    said = [annotation for record in records for annotation in record.annotations]
    names = list(dict.fromkeys(a.annotator for a in said if annotators is None or a.annotator in annotators))
    sources: dict[str, Collection[str] | None] = {name: (name,) for name in names if name is not None}
    if len(sources) != 1 or None in names:
        sources[ANYONE] = annotators
    labels = [None, *sorted({record.label for record in records if record.label is not None})]
    found = {(source, label): Coverage(source, label) for source in sources for label in labels}
    for record in records:
        grid = word_grid(record, segment)
        for source, people in sources.items():
            masks = human_masks(record, grid, people)
            for label in dict.fromkeys((None, record.label)):
                found[source, label].records += 1
                found[source, label].add(masks)
    return list(found.values())


# ---------------------------------------------------------------------------------------------------- shown


def coverage_table(found: Collection[Coverage]) -> Table:
    """Show what is covered: a line for each annotator and label; of more than twelve annotators, `anyone` alone."""
    if len({it.source for it in found}) > _SHOWN:
        found = [it for it in found if it.source == ANYONE]
    table = Table(title=Text("Coverage"), title_justify="left")
    for column in ("annotator", "label", "records", "asked", "with a rationale", "words if any", "share if any"):
        table.add_column(column, justify="left" if column in ("annotator", "label") else "right", overflow="fold")
    for it in found:
        name = it.source if it.label is None else ""
        shares = (_percent(it.with_rationale), _number(it.words_marked), _percent(it.share_marked))
        cells = (visible(name), visible(it.label or "all"), f"{it.records:,}", f"{it.asked:,}", *shares)
        table.add_row(*map(Text, cells))
    return table


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def rules_table(rules: Mapping[str, Rules], used: Mapping[Rule, int]) -> Table:
    """Show each rule, and in how many records it found something."""
    table = Table(title=Text("Rules"), title_justify="left")
    for column in ("annotator", "label", "word or pattern", "records"):
        table.add_column(column, justify="right" if column == "records" else "left", overflow="fold")
    for rule in all_rules(rules):
        cells = (visible(rule.annotator), visible(rule.label or ""), visible(rule.text), f"{used.get(rule, 0):,}")
        table.add_row(*map(Text, cells))
    return table


def agreement_table(found: Iterable[Agreement]) -> Table:
    """Show how far rationales derived from explanations agree with what the same people highlighted."""
    table = Table(title=Text("Agreement with their own highlights (mean token F1)"), title_justify="left")
    for column in ("annotator", "F1", "records", "chance", "all words", "two people's highlights"):
        table.add_column(column, justify="left" if column == "annotator" else "right")
    for it in found:
        people = "-" if it.people is None else f"{it.people:.3f}"
        values = (f"{it.f1:.3f}", f"{it.records:,}", f"{it.chance:.3f}", f"{it.select_all:.3f}", people)
        table.add_row(*map(Text, (visible(it.source), *values)))
    return table


# ---------------------------------------------------------------------------------------------------- cells


def coverage_cells(
    found: Iterable[Coverage],
    rules: Mapping[str, Rules],
    used: Mapping[Rule, int],
    agreement: Iterable[Agreement],
) -> list[dict[str, Any]]:
    """Give the same as the list of cells that `--json` writes.

    The slice of a rule's `records_found` is its pattern, or `label: word`.
    """
    return [
        *(cell for it in found for cell in _of_coverage(it)),
        *(_cell("records_found", *_place(rule), used.get(rule, 0)) for rule in all_rules(rules)),
        *(_cell("agreement", it.source, "all", it.f1, it.records, it.frame) for it in agreement),
    ]


def _of_coverage(it: Coverage) -> Iterator[dict[str, Any]]:
    part = it.label or "all"
    yield _cell("with_rationale", it.source, part, it.with_rationale, it.records)
    yield _cell("asked", it.source, part, it.asked, it.records)
    yield _cell("words_marked", it.source, part, it.words_marked, it.marked)
    yield _cell("share_marked", it.source, part, it.share_marked, it.marked)


def _place(rule: Rule) -> tuple[str, str]:
    return rule.annotator, rule.text if rule.label is None else f"{rule.label}: {rule.text}"


def _cell(  # noqa: PLR0917
    metric: str, source: str, part: str, value: float | None, n: int | None = None, frame: Any = None
) -> dict[str, Any]:
    return {
        "metric": metric,
        "source": source,
        "slice": part,
        "value": value,
        "low": None,
        "high": None,
        "n": n,
        "frame": frame,
        "verdict": None,
    }
