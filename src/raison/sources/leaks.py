"""Leaks: rationales that were chosen by looking at the gold label, and highlight marks left in the texts.

Both make a model look better than it is where they reach its test records: the first if the rationales are shown to it
or chosen for it, the second by themselves, since the marks stand in what it reads.
"""

import re
from collections import Counter
from collections.abc import Iterable

from raison.records import Record, Span
from raison.sources.rules import SEES_LABEL
from raison.words import Mask, Segmenter, WordGrid, human_masks, whitespace_words, word_grid, words_in_spans

# `*word*` as in e-SNLI, also as `**word**` or with its backslashes, tags that mark, and doubled brackets
MARKS = re.compile(
    r"(?<![\w*])(?:\\?\*){1,3}(?=[\"'(]?\w)[^*\n]*?(?<=[^\s*\\])(?:\\?\*){1,3}(?![\w*])"
    r"|<(b|i|u|em|strong|mark|span)\b[^<>]*>.+?</\1>"
    r"|\[\[.+?\]\]|\{\{.+?\}\}",
    re.IGNORECASE,
)
_SHARE = 0.01  # of the records with marks in their texts, below which they are taken for somebody's style
_OFTEN = 5  # times that a word must be marked under one label, and left under another, to look like a word list


def leaks(train: Iterable[Record], test: Iterable[Record], segment: Segmenter = whitespace_words) -> list[str]:
    """Warn of what gives the labels of test records away. Each warning is a line; none is an empty list.

    - A rationale chosen by looking at the label: rules with word lists per label say so in their annotations
      (`sees_label`); any other annotator is found out by its behaviour (see `LeakTally`).
    - Marks such as `*word*` in the texts of test records, around words that are highlighted, or where the texts of the
      training records have no marks at all.

    Args:
        train: the records a model learns from.
        test: those it is judged on.
        segment: what a word is.
    """
    tally = LeakTally()
    for record in test:
        tally.add(record, segment)
    found = tally.warnings()
    if not tally.left_in_texts and tally.often_marked and not any(_marked(record) for record in train):
        found.append(f"{tally.texts_with_marks()}, and none of the training records has: are they highlights?")
    return [f"test records: {line}" for line in found]


def _marked(record: Record) -> bool:
    return any(MARKS.search(text) for text in record.fields.values())


class LeakTally:
    """What is known so far of one file's leaks; records come in one at a time.

    An annotator is found out to be a word list per label if each word is always marked or never marked in the records
    of one label, and some word is marked at least 5 times under one label and left at least 5 times under another.
    People are never so constant: the first word that they mark here and leave there, under one label, frees them of
    suspicion.
    """

    def __init__(self) -> None:
        self.records = 0
        self.seers: Counter[str] = Counter()  # annotator that says it sees the label -> rationales
        self.lists: dict[str, _WordList] = {}
        self.with_marks = 0  # records with marks in their texts
        self.example = ""  # the first of these marks
        self.enclosed, self.highlighted = 0, 0  # words between marks where people were asked; those they highlighted

    def add(self, record: Record, segment: Segmenter = whitespace_words) -> None:
        """Take in one record."""
        self.records += 1
        asked = [annotation for annotation in record.annotations if annotation.rationale is not None]
        marked = {name: [Span(*m.span()) for m in MARKS.finditer(text)] for name, text in record.fields.items()}
        if any(marked.values()):
            self.with_marks += 1
            self.example = self.example or next(record.fields[f][slice(*s[0])] for f, s in marked.items() if s)
        suspects = [a for a in asked if self.lists.setdefault(a.annotator or "", _WordList()).constant]
        self.seers.update(a.annotator or "" for a in asked if a.extra.get(SEES_LABEL) is True)
        if not suspects and not (asked and any(marked.values())):
            return
        grid = word_grid(record, segment)
        masks = human_masks(record, grid)
        inside = grid.join({name: words_in_spans(grid.words[name], spans) for name, spans in marked.items()})
        self.enclosed += int(inside.sum()) if asked else 0
        self.highlighted += int((inside & masks.any(axis=0)).sum())
        self._watch(record, grid, dict(zip([a.annotator or "" for a in asked], masks, strict=True)))

    def _watch(self, record: Record, grid: WordGrid, masks: dict[str, Mask]) -> None:
        if record.label is None:
            return
        words = [record.fields[name][s:e].casefold() for name, spans in grid.words.items() for s, e in spans]
        for name, mask in masks.items():
            if self.lists[name].constant:
                self.lists[name].add(record.label, words, mask)

    @property
    def often_marked(self) -> bool:
        """Whether more texts have marks than one or two odd ones in a large file."""
        return self.with_marks > 0 and self.with_marks >= _SHARE * self.records

    @property
    def left_in_texts(self) -> bool:
        """Whether the marks in the texts are highlights: at least half of what they enclose is highlighted."""
        return self.often_marked and self.enclosed > 0 and 2 * self.highlighted >= self.enclosed

    def texts_with_marks(self) -> str:
        """Say in how many records marks stand in the texts."""
        return f"{self.with_marks:,} of {self.records:,} have marks in their texts, such as {self.example[:40]!r}"

    def warnings(self) -> list[str]:
        """Give the warnings, each as one line."""
        seers = [
            f"{name!r} looked at the gold label to choose its {n:,} rationales: they give it away"
            for name, n in self.seers.items()
        ]
        found_out = [
            f"{name!r} marks words just as a list of words per gold label would: its rationales give the label away"
            for name, it in self.lists.items()
            if name not in self.seers and it.found_out
        ]
        left = f"{self.texts_with_marks()}, around words that are highlighted: a model can read the highlights off them"
        return [*seers, *found_out, *([left] if self.left_in_texts else [])]


class _WordList:
    """Whether one annotator behaves as a word list per label."""

    def __init__(self) -> None:
        self.constant = True
        self.marked: dict[tuple[str, str], bool] = {}  # (label, word) -> whether it is marked
        self.seen: Counter[tuple[str, str]] = Counter()

    def add(self, label: str, words: list[str], mask: Mask) -> None:
        for word, marked in zip(words, mask.tolist(), strict=True):
            kind = (label, word)
            self.seen[kind] += 1
            if self.marked.setdefault(kind, marked) != marked:
                self.constant = False
                self.marked.clear()
                self.seen.clear()
                return

    @property
    def found_out(self) -> bool:
        """Whether a word was marked often enough under one label, and left as often under another."""
        kinds: dict[str, set[bool]] = {}
        for (label, word), marked in self.marked.items():
            if self.seen[label, word] >= _OFTEN:
                kinds.setdefault(word, set()).add(marked)
        return any(len(kind) == 2 for kind in kinds.values())
