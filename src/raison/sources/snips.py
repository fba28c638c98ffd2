"""SNIPS and its kin: a folder with `seq.in` (words), `seq.out` (BIO slots) and `label` (intents), line by line.

The set has no human rationales; a rule file makes some (see `sources.rules`).
"""

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from raison.records import Fault, Record, Span
from raison.sources.common import Item, checked_lines
from raison.sources.rules import Rules, apply_rules, read_rules
from raison.words import whitespace_words

FILES = ("seq.in", "seq.out", "label")


def read_snips(path: str | Path, rules: str | None = None) -> Iterator[Item]:
    """Yield the records of a SNIPS folder, with ids `snips-FOLDER-n`, n from 0.

    Words are joined by one space. Slots go into `meta.slots` with character offsets. The label set is that of the
    folder's labels together with those of the rules, sorted.

    Args:
        path: the folder.
        rules: a TOML file of rules; without one there are no annotations.

    Raises:
        InputError: the rule file is missing or wrong, or looks at a field other than `text`.
    """
    folder = Path(path)
    given = {} if rules is None else read_rules(rules)
    label_set = tuple(sorted(_labels(folder).union(*(one.words for one in given.values()))))
    streams = [checked_lines(folder / name, blank=True) for name in FILES]
    for number, row in enumerate(zip_longest(*streams), 1):
        fault = next((item for item in row if isinstance(item, Fault)), None)
        if fault:
            yield fault
            return
        lines = [item[1] for item in row if isinstance(item, tuple)]
        if len(lines) < len(FILES):
            short = FILES[row.index(None)]
            yield Fault(str(folder / short), number, f"the file ends here, {FILES[row[0] is None]} goes on")
            return
        yield _item(folder, number, lines, label_set, given)


def _labels(folder: Path) -> set[str]:
    lines = (item[1] for item in checked_lines(folder / "label") if not isinstance(item, Fault))
    return {" ".join(line.decode("utf-8", "replace").split()) for line in lines}


def _item(
    folder: Path, number: int, lines: Sequence[bytes], label_set: tuple[str, ...], rules: dict[str, Rules]
) -> Item:
    for name, line in zip(FILES, lines, strict=True):
        try:
            empty = not line.decode("utf-8").strip()
        except UnicodeDecodeError:
            return Fault(str(folder / name), number, "not UTF-8 text")
        if empty:
            return Fault(str(folder / name), number, "an empty line")
    words, tags, label = (line.decode("utf-8").split() for line in lines)
    if len(words) != len(tags):
        return Fault(str(folder / "seq.out"), number, f"has {len(tags)} tags for {len(words)} words")
    wrong = next((tag for tag in tags if not re.fullmatch(r"O|[BI]-.+", tag)), None)
    if wrong is not None:
        return Fault(str(folder / "seq.out"), number, f"expected O, B-slot or I-slot, found {wrong!r}")
    text, intent = " ".join(words), " ".join(label)
    record = Record(
        id=f"snips-{folder.name}-{number - 1}",
        task="intent",
        fields={"text": text},
        label=intent,
        label_set=label_set,
        meta={"slots": list(_slots(whitespace_words(text), tags))},
    )
    return number, apply_rules(rules, record)


def _slots(words: Sequence[Span], tags: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Read BIO tags; an I- that continues nothing begins a slot."""
    start = end = 0
    open_slot: str | None = None
    for word, tag in [*zip(words, tags, strict=True), (Span(0, 0), "O")]:
        kind, _, slot = tag.partition("-")
        if open_slot is not None and (kind != "I" or slot != open_slot):
            yield {"field": "text", "start": start, "end": end, "slot": open_slot}
            open_slot = None
        if kind != "O":
            start, open_slot = (word.start, slot) if open_slot is None else (start, open_slot)
            end = word.end
