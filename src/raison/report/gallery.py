"""The records of a verdict, packed for the page's script: positions instead of names, scores in one letter a word."""

import json
import math
import re
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from raison.evaluation.results import Item, SourceItem, Verdict
from raison.report.glossary import ordered

# A score is a letter: the 31st is 0, the 61st the largest magnitude of the record, the 1st its negative.
LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
STEPS = 30
NOT_SEEN = "-"

_UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")  # would end the element, or can't be written (lone surrogates)

Positions = dict[str, int]  # a name -> its position in the list that the page has


class Names(NamedTuple):
    """The names that stand in the records, each once."""

    fields: Positions
    labels: Positions
    people: Positions
    sources: Positions
    metrics: list[str]


def pack(verdict: Verdict, items: Sequence[Item]) -> dict[str, Any]:
    """Arrange the records for the page's script (its `unpack` is the other half).

    Args:
        verdict: the whole result; names come from all of it.
        items: the records to show.
    """
    metrics = ordered([cell.metric for cell in verdict.cells if any(_measured(i, cell.metric) for i in items[:50])])
    names = Names(
        {}, {}, {}, {source: index for index, source in enumerate(verdict.sources)}, [m.name for m in metrics]
    )
    rows = [_item(item, names) for item in items]
    shown = {kind: list(getattr(names, kind)) for kind in ("fields", "labels", "people", "sources")}
    return {**shown, "metrics": [[m.title, m.better] for m in metrics], "letters": LETTERS, "items": rows}


def as_script(data: dict[str, Any]) -> Markup:
    """Write data as JSON that can stand inside a <script> element: no character in it can end the element.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(_UNSAFE.sub(lambda hit: f"\\u{ord(hit[0]):04x}", text))


def _measured(item: Item, metric: str) -> bool:
    return any(metric in source.metrics for source in item.sources.values())


def _position(names: Positions, name: str | None) -> int | None:
    """Give the position of a name, which is added where it is new; None stays None."""
    return None if name is None else names.setdefault(name, len(names))


def _item(item: Item, names: Names) -> list[Any]:
    texts = item.texts.items()
    return [
        item.record_id,
        [[_position(names.fields, name), text, _gaps(text, item.words.get(name, []))] for name, text in texts],
        _position(names.labels, item.label),
        _position(names.labels, item.predicted),
        _rounded(item.probability),
        [[_position(names.people, name), list(marked)] for name, marked in item.people],
        [[_position(names.sources, name), *_source(found, names)] for name, found in item.sources.items()],
        list(item.unseen),
        _position(names.labels, item.label_full),
    ]


def _source(found: SourceItem, names: Names) -> list[Any]:
    letters, largest = _letters(found.scores)
    values = [_rounded(found.metrics.get(metric)) for metric in names.metrics]
    without, only = _position(names.labels, found.label_without), _position(names.labels, found.label_only)
    return [list(found.words), letters, largest, values, without, only, found.failure]


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 3)


def _letters(scores: list[float | None] | None) -> tuple[str | None, float | None]:
    """Write scores as letters, and give the largest magnitude; None for a rationale without scores."""
    if scores is None:
        return None, None
    values = np.array([np.nan if score is None else score for score in scores], dtype=np.float64)
    finite = np.isfinite(values)
    largest = float(np.abs(values[finite]).max(initial=0.0))
    steps = np.rint(np.where(finite, values, 0.0) / (largest or 1.0) * STEPS).astype(int) + STEPS
    text = "".join(LETTERS[step] if known else NOT_SEEN for step, known in zip(steps, finite, strict=True))
    return text, float(f"{largest:.3g}")


def _gaps(text: str, words: Sequence[tuple[int, int]]) -> list[int]:
    """Write words as characters between words and in words by turns, counted as JavaScript does (UTF-16)."""
    places = [place for word in words for place in word]
    if text and max(text) > "\uffff":
        units = list(accumulate((1 + (character > "\uffff") for character in text), initial=0))
        places = [units[place] for place in places]
    return [place - before for before, place in pairwise([0, *places])]
