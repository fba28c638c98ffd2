"""The report: one HTML file that needs nothing else, and the view of the same for notebooks."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, cast

from markupsafe import Markup

from raison.evaluation.results import Cell, Verdict
from raison.report import gallery, glossary, plots, summary, view
from raison.report.page import render_page, resource, write_page

TITLE = "Rationales, judged"
PER_PAGE = 20
NOTEBOOK_RECORDS = 100  # a notebook keeps what it shows: the whole gallery is for the file


class Figure(NamedTuple):
    """A plot with its heading."""

    title: str
    note: str  # beside the heading
    svg: Markup


def render(verdict: Verdict, title: str = TITLE) -> str:
    """Render a verdict as one self-contained HTML document. The same verdict gives the same text."""
    return _render(verdict, title, len(verdict.items))


def write_report(path: str | Path, verdict: Verdict, title: str = TITLE) -> None:
    """Write the report, whole or not at all.

    Raises:
        InputError: the folder can't be made or written to.
    """
    write_page(path, render(verdict, title))


def notebook_html(verdict: Verdict, title: str = TITLE, height: int = 720) -> str:
    """Give the report as a frame for a notebook cell, apart from the notebook's own styles and scripts.

    Args:
        verdict: what to show; of more than 100 records, the gallery has the first 100 and says so.
        title: heading.
        height: of the frame, in pixels; its lower edge can be dragged.
    """
    style = f"width:100%;height:{height}px;border:1px solid #8886;border-radius:6px;resize:vertical"
    document = escape(_render(verdict, title, NOTEBOOK_RECORDS))
    return f'<iframe title="{escape(title)}" sandbox="allow-scripts" style="{style}" srcdoc="{document}"></iframe>'


def _render(verdict: Verdict, title: str, limit: int) -> str:
    items = verdict.items[:limit]
    return render_page(
        "report.html",
        title=title,
        verdict=verdict,
        headline=_headline(verdict),
        tiles=_tiles(verdict),
        level=_level(verdict),
        conclusions=summary.conclusions(verdict),
        grades_origin=summary.origin(verdict.grades) if verdict.grades else "",
        groups=view.groups(verdict),
        figures=list(_figures(verdict)),
        outcome=summary.outcome,
        difference=summary.difference,
        glossary=glossary,
        metrics=glossary.ordered([cell.metric for cell in verdict.cells]),
        references=_references(verdict.cells),
        provenance=[*_flat(verdict.provenance), *_flat(verdict.grades.provenance if verdict.grades else {}, "grades.")],
        per_page=PER_PAGE,
        shown_items=len(items),
        data=gallery.as_script(gallery.pack(verdict, items)),
        script=resource("report.js"),
    )  # fmt: skip


class Headline(NamedTuple):
    """The validity verdict in plain words."""

    state: str  # ok, weak, collapsed, too few, or none
    words: str
    reasons: list[str]


_WORDS = {
    "ok": "Faithfulness can be read on this model and these records.",
    "weak": "Read faithfulness with care: the model is not shown to beat always giving the commonest label.",
    "collapsed": "Faithfulness can’t be read: the model answers nearly the same, whatever it is shown.",
    "too few": "Nothing can be ranked: there are too few records.",
    "none": "Agreement with people only: no model was run, so nothing is said of faithfulness.",
}
_FAMILIES = {"alignment": "agreement", "flips": "flip rates", "probabilities": "probabilities"}


def _headline(verdict: Verdict) -> Headline:
    validity = verdict.validity
    if validity is None:
        return Headline("none", _WORDS["none"], [])
    words = _WORDS.get(validity.verdict, validity.verdict)
    if validity.withheld and validity.verdict in ("ok", "weak"):
        families = " and ".join(_FAMILIES.get(family, family) for family in validity.withheld)
        words += f" Rankings of {families} are withheld."
    return Headline(validity.verdict, words, list(validity.reasons))


def _tiles(verdict: Verdict) -> list[tuple[str, str]]:
    """Give the numbers behind the validity verdict; those that are unknown are left out."""
    validity = verdict.validity
    if validity is None:
        return []
    accuracy = validity.accuracy.value if validity.accuracy else None
    numbers = {
        "accuracy": accuracy,
        "always the commonest label": validity.majority_share,
        "largest share of one answer": validity.share_max,
        "flips with every word masked": validity.flip_rate_full,
        "flips with random words masked": validity.flip_rate_random,
    }
    return [(name, f"{100 * share:.1f} %") for name, share in numbers.items() if share is not None]


def _level(verdict: Verdict) -> str:
    level = verdict.provenance.get("config", {}).get("level")
    return f"{100 * level:g} %" if isinstance(level, float) else "95 % unless the provenance says otherwise"


def _figures(verdict: Verdict) -> Iterator[Figure]:
    """Plot the main metrics, then the curves."""
    for metric in glossary.ordered([cell.metric for cell in verdict.cells]):
        cells = [cell for cell in verdict.cells if cell.metric == metric.name and cell.slice == "all"]
        if metric.main and any(cell.value is not None for cell in cells):
            note = f"{metric.better} is better" if metric.better else ""
            yield Figure(metric.title, note, plots.dots(metric, cells))
    for metric in glossary.ordered([curve.metric for curve in verdict.curves]):
        found = [curve for curve in verdict.curves if curve.metric == metric.name]
        kept = "kept" if metric.name == "sufficiency" else "taken away"
        yield Figure(metric.title, f"by the share of words {kept}, best first", plots.curves(metric, found))


def _references(cells: list[Cell]) -> list[tuple[str, str]]:
    present = {name for cell in cells for name in cell.frame}
    return [words for name, words in glossary.REFERENCES.items() if name in present]


def _flat(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, value) of a nested mapping."""
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from _flat(cast("Mapping[str, Any]", inner), f"{before}{key}.")
        else:
            yield f"{before}{key}", inner if isinstance(inner, str) else json.dumps(inner, default=str)
