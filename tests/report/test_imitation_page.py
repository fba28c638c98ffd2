"""The pages and tables of imitation: no attribution without its companions, and nothing hostile gets through."""

import io
from functools import cache

import msgspec
import pytest
from rich.console import Console

from crowd import LABELS, PEOPLE, explained
from pages import HOSTILE, Reader, in_a_browser, look_at
from raison.annotators.controls import CONTROLS
from raison.annotators.imitation import score
from raison.annotators.measuring import Options
from raison.annotators.responses import Response, responses_of
from raison.annotators.splits import split_items
from raison.records import Annotation, Record
from raison.report.imitation import imitation_html, imitation_table, sentences, write_imitation
from raison.report.imitation_words import GROUPS, MAIN, METRICS
from raison.report.lineup import is_attribution, lineup
from raison.report.portrait import portrait_html, where_they_part

NAMES = {"ann": HOSTILE[0], "ben": HOSTILE[1], "cem": HOSTILE[2], "dua": HOSTILE[4]}


@cache
def result(hostile=False):
    names = NAMES if hostile else {who: who for who in PEOPLE}
    extra = f" {HOSTILE[0]} {HOSTILE[3]}".replace("\ud800", "") if hostile else ""
    items = [
        Record(
            f"r{i}{extra}", {"premise": f"A premise of {i}.{extra}", "hypothesis": f"Thing {i}."}, "nli", None, LABELS,
            tuple(
                Annotation(name, LABELS[(i + k) % 3], None, explained(who, i) + extra)
                for k, (who, name) in enumerate(names.items())
            ),
        )
        for i in range(30)
    ]  # fmt: skip
    split = split_items(items)
    said = responses_of(split.test)
    near = [msgspec.structs.replace(one, label="neutral", explanation=f"{one.explanation} maybe") for one in said]
    odd = [
        Response(one.record_id, one.annotator, None, None, failure=HOSTILE[0]) if i % 3 else one
        for i, one in enumerate(said)
    ]
    systems = {(HOSTILE[1] if hostile else "near"): [near], (HOSTILE[6] if hostile else "odd"): [odd]}
    return score(split, responses_of(items), systems, Options(resamples=20))


def without(found, drop):
    return msgspec.structs.replace(found, cells=[cell for cell in found.cells if not drop(cell)])


@pytest.mark.parametrize("metric", ["label", "mrr"])
def test_an_attribution_is_never_shown_without_label_and_grounding(metric):
    with pytest.raises(ValueError, match=f"never shown without {metric}"):
        lineup(without(result(), lambda cell: cell.metric == metric), MAIN)


@pytest.mark.parametrize("control", list(CONTROLS))
def test_an_attribution_is_never_shown_without_the_four_controls(control):
    found = without(result(), lambda cell: cell.source == control)
    for show in (imitation_html, imitation_table, lambda one: lineup(one, MAIN)):
        with pytest.raises(ValueError, match="never shown without"):
            show(found)


def test_every_table_with_an_attribution_has_its_companions():
    for group in (MAIN, *GROUPS):
        names = [metric.name for metric in group.metrics]
        if any(map(is_attribution, names)):
            assert {"label", "mrr"} <= set(names)


def test_an_attribution_whose_label_can_not_be_told_is_withheld():
    cells = [
        msgspec.structs.replace(cell, value=None, low=None, high=None)
        if (cell.metric, cell.source) == ("label", "near")
        else cell
        for cell in result().cells
    ]
    found = msgspec.structs.replace(result(), cells=cells)
    row = lineup(found, MAIN)[0]
    hidden = {cell.metric for cell, reason in zip(row.cells, row.hidden, strict=True) if reason}
    assert hidden == {cell.metric for cell in row.cells if is_attribution(cell.metric)}
    page = Reader(imitation_html(found))
    rows = [row for row in page.rows if "near" in row and "withheld" in row]
    assert rows[0].count("withheld") == len(hidden) == 5
    assert "nothing is told of whom it is taken for" in " ".join(sentences(found))


def test_the_page_shows_every_number_and_the_terminal_the_main_ones():
    page = Reader(imitation_html(result()))
    shown = {metric.title for metric in METRICS.values() if any(cell.metric == metric.name for cell in result().cells)}
    assert all(title in page.text for title in {" ".join(title.split()) for title in shown})
    stream = io.StringIO()
    Console(file=stream, width=100).print(imitation_table(result()))
    printed = stream.getvalue()
    assert max(map(len, printed.splitlines())) <= 100
    for name in ("near", "odd", "human", "Grounding", "Composite"):
        assert name in printed
    assert "of 24 answers" in " ".join(printed.split())


def test_a_person_s_page_says_where_they_part():
    page = Reader(portrait_html(result(), "ann", lineup(result(), MAIN, "annotator=ann"), "person-2.html"))
    for sentence in where_they_part(result(), "ann", "near"):
        assert sentence in page.text
    assert "could not be read" in page.text
    assert "person-2.html" in page.links
    assert "index.html" in page.links
    moved = sum(one.label != "neutral" for one in result().said if one.annotator == "ann")
    assert f"near gives another label on {moved} items" in page.text


def test_the_same_result_gives_the_same_files(tmp_path):
    for folder in ("a", "b"):
        write_imitation(tmp_path / folder, result())
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["index.html", "person-1.html", "person-2.html", "person-3.html", "person-4.html"]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_hostile_names_stay_text():
    pages = [imitation_html(result(True))]
    found = result(True)
    pages += [portrait_html(found, who, lineup(found, MAIN, f"annotator={who}"), "x.html") for who in found.people]
    for html in pages:
        page = Reader(html)
        assert "script" not in [tag for tag, _ in page.elements]
        assert page.handlers == []
        assert "U+202E" in html or "{{ 7 * 7 }}" in html


@in_a_browser
@pytest.mark.parametrize("hostile", [False, True])
def test_the_pages_in_a_browser(chromium, tmp_path, hostile):
    found = result(hostile)
    look_at(chromium, imitation_html(found), tmp_path / "index.html")
    who = found.people[0]
    look_at(chromium, portrait_html(found, who, lineup(found, MAIN, f"annotator={who}"), "x.html"), tmp_path / "p.html")
