"""What is in a file: counts, rationales, how far people agree, and every fault. One pass."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from raison.rationales import pairwise_f1
from raison.records import Annotation, Fault, Record
from raison.sources import OptionsLike, checked
from raison.sources.common import all_labels
from raison.sources.leaks import LeakTally
from raison.words import Mask, Segmenter, human_masks, whitespace_words, word_grid

_KEPT_FAULTS = 1000
_TOP = 5


class Description(msgspec.Struct, frozen=True):
    """What is in a file. A number that nothing can be said about is None."""

    file: str
    records: int
    tasks: dict[str, int]  # task -> records
    fields: tuple[str, ...]  # of the first record
    label_set: tuple[str, ...]  # of the first record
    labels: dict[str, int]  # label -> records, most frequent first
    unlabelled: int  # records without a label
    annotators: int  # distinct names
    top_annotators: dict[str, int]  # the most active -> annotations
    annotations: int
    asked: int  # annotations that were asked for a rationale
    marked: int  # of these, those that marked something
    explained: int  # annotations with an explanation
    several: int  # annotations with several labels, which count in no agreement of labels
    without_rationale: int  # records in which nobody marked a word, asked or not
    words_marked: float | None  # mean number of words of the rationales that mark something
    share_marked: float | None  # their mean share of the record's words
    agreement: float | None  # mean token F1 of two people on a record, over all pairs (see `pairwise_f1`)
    agreement_pairs: int
    agreement_empty: int  # further pairs, left out: nobody marked a word of the record
    agreement_by_label: dict[str, tuple[float, int]]  # record label -> (mean token F1, pairs)
    label_alpha: float | None  # Krippendorff's alpha (nominal) of the annotators' labels
    warnings: tuple[str, ...]  # of labels that can be read off rationales or texts (see `sources.leaks`)
    faults: tuple[Fault, ...]  # the first 1,000
    fault_count: int


def describe(
    path: str | Path,
    source: str | None = None,
    mapping: OptionsLike = None,
    segment: Segmenter = whitespace_words,
) -> Description:
    """Read a file once, to the end, and say what is in it and what is wrong with it.

    Memory is constant but for the ids, which are held to find repeated ones, and the vocabulary of whoever marks as a
    word list would.

    Args:
        path: a file, a folder, or a hub id.
        source: a name in `SOURCES`; None = told from the file.
        mapping: the reader's options (see `sources.scan`).
        segment: what a word is.

    Raises:
        InputError: there is no such file or format, or an option is wrong. Faults in the file are counted, not raised.
    """
    tally = _Tally()
    faults: list[Fault] = []
    fault_count = 0
    for item in checked(path, source, mapping):
        if not isinstance(item, Fault):
            tally.add(item[1], segment)
            continue
        fault_count += 1
        if len(faults) < _KEPT_FAULTS:
            faults.append(item)
    return tally.result(str(path), tuple(faults), fault_count)


class _Alpha:
    """Krippendorff's alpha for nominal labels, summed up record by record (Krippendorff 2011, section C)."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.disagreement = 0.0  # observed, not yet divided by the number of values

    def add(self, labels: Sequence[str]) -> None:
        if len(labels) < 2:
            return
        counts = Counter(labels)
        same = sum(count * (count - 1) for count in counts.values())
        self.disagreement += len(labels) - same / (len(labels) - 1)
        self.totals += counts

    def value(self) -> float | None:
        """Give alpha; None where no record has two labels, or all labels are the same one."""
        values = self.totals.total()
        expected = values * values - sum(count * count for count in self.totals.values())
        return 1 - self.disagreement * (values - 1) / expected if expected else None


class _Mean:
    """A sum and how many went into it."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def add(self, values: Sequence[float]) -> None:
        self.total += sum(values)
        self.count += len(values)

    def value(self) -> float | None:
        return self.total / self.count if self.count else None


class _Tally:
    """What `describe` knows so far."""

    def __init__(self) -> None:
        self.first: Record | None = None
        self.counts: Counter[str] = Counter()
        self.tasks: Counter[str] = Counter()
        self.labels: Counter[str | None] = Counter()
        self.annotators: Counter[str] = Counter()
        self.alpha = _Alpha()
        self.leaks = LeakTally()
        self.words, self.share, self.agreement = _Mean(), _Mean(), _Mean()
        self.by_label: dict[str, _Mean] = {}

    def add(self, record: Record, segment: Segmenter) -> None:
        self.first = self.first or record
        self.counts["records"] += 1
        self.tasks[record.task] += 1
        self.labels[record.label] += 1
        for annotation in record.annotations:
            self.counts["annotations"] += 1
            self.counts["explained"] += bool(annotation.explanation)
            self.counts["several"] += len(all_labels(annotation.label, annotation.extra)) > 1
            if annotation.annotator is not None:
                self.annotators[annotation.annotator] += 1
        self.alpha.add([annotation.label for annotation in record.annotations if annotation.label is not None])
        self.leaks.add(record, segment)
        if any(annotation.rationale is not None for annotation in record.annotations):
            self._add_rationales(record, human_masks(record, word_grid(record, segment)))

    def _add_rationales(self, record: Record, masks: Mask) -> None:
        self.counts["with rationale"] += bool(masks.any())
        sizes = masks.sum(axis=1)[masks.any(axis=1)]
        self.counts["asked"] += len(masks)
        self.counts["marked"] += len(sizes)
        self.words.add(sizes.tolist())
        self.share.add((sizes / max(masks.shape[1], 1)).tolist())
        if any(_is_evidence(annotation) for annotation in record.annotations):
            return  # groups of evidence are alternatives, not opinions: they have no agreement
        pairs = pairwise_f1(masks)
        self.agreement.add(pairs)
        self.counts["empty pairs"] += len(masks) * (len(masks) - 1) // 2 - len(pairs)
        if record.label is not None:
            self.by_label.setdefault(record.label, _Mean()).add(pairs)

    def result(self, file: str, faults: tuple[Fault, ...], fault_count: int) -> Description:
        return Description(
            file=file,
            records=self.counts["records"],
            tasks=dict(self.tasks.most_common()),
            fields=tuple(self.first.fields) if self.first else (),
            label_set=self.first.label_set if self.first else (),
            labels={label: count for label, count in self.labels.most_common() if label is not None},
            unlabelled=self.labels[None],
            annotators=len(self.annotators),
            top_annotators=dict(self.annotators.most_common(_TOP)),
            annotations=self.counts["annotations"],
            asked=self.counts["asked"],
            marked=self.counts["marked"],
            explained=self.counts["explained"],
            several=self.counts["several"],
            without_rationale=self.counts["records"] - self.counts["with rationale"],
            words_marked=self.words.value(),
            share_marked=self.share.value(),
            agreement=self.agreement.value(),
            agreement_pairs=self.agreement.count,
            agreement_empty=self.counts["empty pairs"],
            agreement_by_label={
                label: (mean.total / mean.count, mean.count)
                for label, mean in sorted(self.by_label.items())
                if mean.count
            },
            label_alpha=self.alpha.value(),
            warnings=tuple(self.leaks.warnings()),
            faults=faults,
            fault_count=fault_count,
        )


def _is_evidence(annotation: Annotation) -> bool:
    """Whether this is a group of evidence as the ERASER reader names it."""
    return re.fullmatch(r"evidence-\d+", annotation.annotator or "") is not None


def cells(description: Description) -> list[dict[str, Any]]:
    """Give a description as the list of cells that `--json` writes."""
    counts = ("records", "unlabelled", "annotators", "annotations", "asked", "marked", "explained", "without_rationale")
    rows: list[tuple[str, str, float | None, int | None]] = [
        *((name, "all", getattr(description, name), None) for name in counts),
        ("several_labels", "all", description.several, description.annotations),
        ("faults", "all", description.fault_count, None),
        *(("records", label, count, None) for label, count in description.labels.items()),
        ("words_marked", "all", description.words_marked, description.marked),
        ("share_marked", "all", description.share_marked, description.marked),
        ("agreement", "all", description.agreement, description.agreement_pairs),
        *(("agreement", label, *pair) for label, pair in description.agreement_by_label.items()),
        ("label_alpha", "all", description.label_alpha, None),
    ]
    unused = {"low": None, "high": None, "frame": None, "verdict": None}
    return [
        {"metric": metric, "source": "people", "slice": part, "value": value, "n": n, **unused}
        for metric, part, value, n in rows
    ]
