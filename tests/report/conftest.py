"""Invented verdicts: sentences, people and methods made up by a random generator, numbers consistent with them."""

from collections.abc import Callable
from functools import cache
from itertools import combinations
from math import erfc, sqrt
from typing import Any

import numpy as np
import pytest

from pages import chromium_running
from raison.evaluation.results import Cell, Comparison, Curve, Item, SourceItem, Verdict
from raison.evaluation.validity import assess
from raison.words import whitespace_words

LABELS = ("entailment", "neutral", "contradiction")
QUALITY = {  # how well each source finds the words that matter
    "integrated_gradients": 2.2,
    "input_x_gradient": 1.5,
    "gradient": 1.1,
    "occlusion": 2.4,
    "attention": 0.5,
    "random": 0.0,
}
RATIOS = [0.01, 0.05, 0.1, 0.2, 0.5]
WHO = ("baker", "gardener", "tall woman", "young drummer", "retired sailor", "girl in a green coat", "ferry pilot")
DOES = ("repairs", "carries", "paints", "sells", "looks for", "measures", "polishes", "throws away")
WHAT = ("a brass lamp", "three kites", "an old ladder", "a crate of pears", "two wooden oars", "the smallest drum")
WHERE = ("beside the canal", "in a crowded hall", "under the bridge", "near the lighthouse", "on a wet roof")
WHY = ("before the rain comes", "for a friend", "without any help", "to win a bet", "after a long night")


@pytest.fixture(scope="module")
def chromium() -> Any:
    """Chromium, started once for a file of tests."""
    with chromium_running() as browser:
        yield browser


Make = Callable[..., Verdict]


@cache
def invent(records: int = 120, kind: str = "ok", sources: tuple[str, ...] = tuple(QUALITY), seed: int = 0) -> Verdict:
    """Make a verdict. Kinds: ok, weak, collapsed, few, and people (no model was run)."""
    rng = np.random.default_rng(seed)
    items = [_item(rng, index, kind, sources) for index in range(records)]
    return conclude(items, kind, sources)


def conclude(items: list[Item], kind: str, sources: tuple[str, ...]) -> Verdict:
    """Make the numbers of given records."""
    model = kind != "people"
    validity = None
    if model:
        full = float(np.mean([item.predicted != item.label_full for item in items]))
        validity = assess([i.predicted for i in items], [i.label for i in items], LABELS,
                          flip_rate_full=full, flip_rate_random=full / 3)  # fmt: skip
    withheld = validity.withheld if validity else {}
    slices = {"all": items} | {f"label={label}": [i for i in items if i.label == label] for label in LABELS}
    cells = [
        cell
        for source in sources
        for name, part in slices.items()
        for cell in _cells(part, source, name, model, withheld)
    ]
    return Verdict(
        model="minilm-l6 tuned on 2,000 pairs" if model else None,
        cells=cells,
        comparisons=_comparisons(items, sources, model, withheld),
        curves=_curves(sources) if model else [],
        validity=validity,
        notes=[
            "2 of 120 records: nobody marked a word, so they are left out of the agreement with people",
            "the budget human uses how many words people marked; random words of that number stand beside it",
            "power: with 120 records, flip rates under 11.4 % apart are told apart in under 80 % of samples",
        ],
        items=items,
        provenance={
            "config": {"budget": "human", "mask": "[MASK]", "level": 0.95, "resamples": 10_000, "seed": 0},
            "data": {"records": len(items), "sha256": "5f1c0d9a77b2e481"},
            "versions": {"python": "3.11.7", "raison": "0.1.0", "torch": "2.13.0"},
        },
    )


def _sentence(rng: np.random.Generator, place: bool) -> str:
    who, does, what, where, why = (str(rng.choice(words)) for words in (WHO, DOES, WHAT, WHERE, WHY))
    return f"A {who} {does} {what} {where} {why}." if place else f"The {who} {does} {what} {where}."


def _item(rng: np.random.Generator, index: int, kind: str, sources: tuple[str, ...]) -> Item:
    texts = {"premise": _sentence(rng, True), "hypothesis": _sentence(rng, False)}
    words = {name: [tuple(span) for span in whitespace_words(text)] for name, text in texts.items()}
    total = sum(len(spans) for spans in words.values())
    matter = rng.random(total) < 0.22
    matter[rng.integers(total)] = True
    people = [(f"annotator {who}", np.flatnonzero(matter ^ (rng.random(total) < 0.06)).tolist()) for who in "ABC"]
    label = str(rng.choice(LABELS))
    right = {"ok": 0.86, "weak": 0.36, "collapsed": 0.0, "few": 0.8, "people": 0.0}[kind]
    predicted = label if rng.random() < right else str(rng.choice(LABELS))
    if kind == "collapsed":
        predicted = "neutral" if rng.random() < 0.96 else "entailment"
    if kind == "people":
        predicted = None
    size = max(1, round(np.mean([len(marked) for _, marked in people])))
    said = {source: _said(rng, source, matter, size, people, predicted, kind) for source in sources}
    full = None if predicted is None else "neutral" if kind == "collapsed" else str(rng.choice(LABELS))
    return Item(
        record_id=f"pair-{index:05d}",
        texts=texts,
        words=words,
        label=label,
        predicted=predicted,
        probability=None if predicted is None else float(rng.uniform(0.5, 0.99)),
        people=people,
        sources=said,
        unseen=[total - 1] if index % 17 == 5 else [],
        label_full=full,
    )


def _said(rng: Any, source: str, matter: Any, size: int, people: Any, predicted: Any, kind: str) -> SourceItem:  # noqa: PLR0917
    quality = QUALITY.get(source, 1.0)
    if source == "prompted" and rng.random() < 0.15:
        return SourceItem([], None, {"f1": None}, failure="the reply names no word of the text")
    scores = matter * quality + rng.normal(size=len(matter))
    words = sorted(np.argsort(-scores)[:size].tolist())
    shared = [len(set(words) & set(marked)) for _, marked in people]
    f1 = float(
        np.mean([2 * s / (len(words) + len(marked) or 1) for s, (_, marked) in zip(shared, people, strict=True)])
    )
    metrics: dict[str, float | None] = {"f1": f1, "iou": f1 / (2 - f1), "f1.chance": len(words) / len(matter)}
    if source != "prompted":
        metrics["auprc"] = min(1.0, max(0.0, f1 + float(rng.normal(0.05, 0.05))))
    without = only = None
    if predicted is not None:
        driven = 0.02 if kind == "collapsed" else 0.12 + 0.16 * quality
        without = str(rng.choice([x for x in LABELS if x != predicted])) if rng.random() < driven else predicted
        only = predicted if rng.random() < 0.4 + 0.2 * quality else str(rng.choice(LABELS))
        metrics |= {
            "flip_rate": float(without != predicted),
            "comprehensiveness": float(np.clip(rng.normal(driven, 0.15), -1, 1)),
            "sufficiency": float(np.clip(rng.normal(0.5 - driven, 0.15), -1, 1)),
        }
        metrics["aopc_comprehensiveness"] = (metrics["comprehensiveness"] or 0) * 0.7
        metrics["aopc_sufficiency"] = (metrics["sufficiency"] or 0) * 0.8
    plain = None if source == "prompted" else [float(score) for score in scores.round(4)]
    return SourceItem(words, plain, metrics, without, only)


FRAMES = {
    "f1": {"chance": 0.232, "select_all": 0.371, "human": 0.742},
    "iou": {"chance": 0.141, "select_all": 0.232, "human": 0.611},
    "auprc": {"chance": 0.262},
    "flip_rate": {"random": 0.151, "human": 0.402, "least": 0.016, "full": 0.66},
    "comprehensiveness": {"random": 0.12, "human": 0.39, "least": 0.02, "full": 0.61},
    "sufficiency": {"random": 0.41, "human": 0.12, "least": 0.52},
    "aopc_comprehensiveness": {"random": 0.09},
    "aopc_sufficiency": {"random": 0.31},
}
FLIPS = ("flip_rate", "flip_rate_normalised", "sufficiency_flip_rate")
ALIGNED = ("f1", "iou", "auprc", "f1_normalised", "precision", "recall", "f1_micro", "span_iou_f1")


def _family(metric: str) -> str:
    return "alignment" if metric in ALIGNED else "flips" if metric in FLIPS else "probabilities"


def _column(items: list[Item], source: str, metric: str) -> Any:
    values = [item.sources[source].metrics.get(metric) for item in items if source in item.sources]
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _cells(items: list[Item], source: str, name: str, model: bool, withheld: dict[str, str]) -> list[Cell]:
    found = []
    for metric, frame in FRAMES.items():
        values = _column(items, source, metric)
        values = values[~np.isnan(values)]
        if _family(metric) != "alignment" and not model:
            continue
        if not len(values):
            found.append(Cell(metric, source, name, None, None, None, 0, dict(frame), "undefined: no record has it"))
            continue
        reason = withheld.get(_family(metric), "")
        value, half = values.mean(), 1.96 * values.std() / sqrt(len(values))
        found.append(Cell(metric, source, name, float(value), float(value - half), float(value + half), len(values),
                          dict(frame), f"not to be ranked: {reason}" if reason else ""))  # fmt: skip
    f1 = found[0]
    for metric, low, high in (("f1_normalised", 0.232, 0.742), ("precision", 0, 1), ("recall", 0, 0.98)):
        ends = [None if end is None else (end - low) / (high - low) for end in (f1.value, f1.low, f1.high)]
        found.append(Cell(metric, source, name, *ends, f1.n))
    if model:
        found.append(Cell("flip_rate_normalised", source, name, None, None, None, f1.n, {},
                          "undefined: no room between its references"))  # fmt: skip
    return found


def _comparisons(items: list[Item], sources: Any, model: bool, withheld: dict[str, str]) -> list[Comparison]:
    found = []
    pairs = list(combinations(sources, 2))
    for metric in ("f1", "auprc", "flip_rate", "aopc_comprehensiveness", "aopc_sufficiency"):
        if metric not in ALIGNED and not model:
            continue
        test = "exact McNemar" if metric in FLIPS else "paired sign-flip permutation"
        for a, b in pairs:
            reason = withheld.get(_family(metric), "")
            if reason:
                found.append(
                    Comparison(metric, a, b, None, None, None, None, None, len(pairs), 0, "none", f"withheld: {reason}")
                )
                continue
            difference = _column(items, a, metric) - _column(items, b, metric)
            difference = difference[~np.isnan(difference)]
            if not len(difference):
                found.append(Comparison(metric, a, b, None, None, None, None, None, len(pairs), 0, test,
                                        "undefined: no record has both"))  # fmt: skip
                continue
            mean, error = float(difference.mean()), float(difference.std() / sqrt(len(difference))) or 1e-9
            p = erfc(abs(mean) / error / sqrt(2))
            holm = min(1.0, p * len(pairs))
            verdict = f"not resolved at n = {len(difference)}" if holm > 0.05 else f"{'a' if mean > 0 else 'b'} higher"
            found.append(Comparison(metric, a, b, mean, mean - 1.96 * error, mean + 1.96 * error, p, holm, len(pairs),
                                    len(difference), test, verdict))  # fmt: skip
    return found


def _curves(sources: Any) -> list[Curve]:
    found = []
    for source in sources:
        if source == "prompted":
            continue
        drive = 0.15 + 0.17 * QUALITY.get(source, 1.0)
        up = [0.65 * (1 - float(np.exp(-6 * drive * ratio))) for ratio in RATIOS]
        down = [0.55 * float(np.exp(-5 * drive * ratio)) for ratio in RATIOS]
        for metric, values in (("comprehensiveness", up), ("sufficiency", down)):
            found.append(Curve(metric, source, RATIOS, values, [v - 0.03 for v in values], [v + 0.03 for v in values]))
    return found


def with_texts(verdict: Verdict, texts: list[str]) -> Verdict:
    """Give the verdict with other texts in its first records: each stands in every place where a text can stand."""
    items = list(verdict.items)
    for index, text in enumerate(texts):
        words = [tuple(span) for span in whitespace_words(text)]
        said = SourceItem([0] if words else [], [0.5] * len(words), {"f1": None}, text, text, None)
        name, people = text[:50] or "text", [(text, [0] if words else [])]
        said_by = dict.fromkeys(verdict.sources, said)
        items[index] = Item(f"{index} {text}", {name: text}, {name: words}, text, text, 0.5, people, said_by)
    fields = {name: getattr(verdict, name) for name in Verdict.__struct_fields__}
    return Verdict(**{**fields, "items": items, "notes": texts, "model": " ".join(texts)[:2000]})


@pytest.fixture
def make() -> Make:
    """Give the generator of verdicts."""
    return invent


@pytest.fixture
def hostile() -> Callable[[Verdict, list[str]], Verdict]:
    """Give the function that puts texts into a verdict's records, notes and names."""
    return with_texts
