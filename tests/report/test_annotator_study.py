"""The page of the study of annotators: no attribution alone, systems beside the controls, costs, pages of people."""

import msgspec
import pytest

from crowd import imitated, records
from pages import HOSTILE, Reader, chromium_running, in_a_browser, look_at
from raison.annotators.controls import CONTROLS
from raison.annotators.imitation import score
from raison.annotators.measuring import Options
from raison.annotators.responses import responses_of
from raison.annotators.splits import split_items
from raison.report.annotator_study import (
    Block,
    Cost,
    Table,
    annotator_study_cells,
    annotator_study_html,
    annotator_study_table,
    size,
)

SPLIT = split_items(records(60))
SAID = responses_of([record for part in SPLIT for record in part])
SETTINGS = {"Model": "a model", "Seeds": "2"}


def table(part="growing", names=("SFT, tag", "the tag, 2 items", "the tag, 4 items", "an adapter, 4 items")):
    own = [one for one in SAID if one.record_id in {record.id for record in SPLIT.test}]
    runs = {name: [imitated(SPLIT.test), imitated(SPLIT.test)] for name in names}
    runs[names[1]] = [own, own]
    found = score(SPLIT, SAID, runs, Options(resamples=60), compared=[(name, names[0]) for name in names[1:]])
    sizes = {name: int(name.split()[-2]) for name in names if name.endswith("items")}
    costs = [Cost(name, 12.34, 1.0, 1234, 5_600_000, 4, 1, 40) for name in names]
    return Table(part, "Somebody new", "from so many items", found, names[0], costs, sizes)


@pytest.fixture(scope="module")
def made():
    return table()


def test_every_table_has_the_controls_beside_it(made):
    html = annotator_study_html([Block("set", None, [made])], SETTINGS)
    page = Reader(html)
    for name in (*CONTROLS, *made.found.systems):
        assert name in page.text
    assert page.text.count("Composite") >= 2  # the line-up, and the comparisons
    assert "5.6 MB" in page.row("the tag, 2 items", "1,234")
    assert {f"set/growing/person-{place}.html" for place in (1, 2, 3, 4)} <= page.links
    assert html.count('<svg class="plot"') == 3  # label, grounding and imitation, side by side
    assert not page.handlers


def test_an_attribution_without_its_controls_is_refused(made):
    cells = [cell for cell in made.found.cells if cell.source != "nearest copy"]
    alone = made._replace(found=msgspec.structs.replace(made.found, cells=cells))
    with pytest.raises(ValueError, match="never shown without"):
        annotator_study_html([Block("set", None, [alone])], SETTINGS)


def test_only_what_was_asked_is_compared(made):
    assert {(one.a, one.b) for one in made.found.comparisons} == {
        (name, "SFT, tag") for name in made.found.systems if name != "SFT, tag"
    }
    assert [pair[:2] for pair in made.gained] == [
        ("the tag, 2 items", "SFT, tag"), ("the tag, 4 items", "SFT, tag"), ("an adapter, 4 items", "SFT, tag")
    ]  # fmt: skip
    assert any(line.startswith("Label: the tag, 2 items above SFT, tag by ") for line in made.resolved)


def test_the_terminal_shows_costs(made):
    from rich.console import Console

    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(annotator_study_table([Block("set", None, [made])]))
    shown = console.export_text()
    assert "nearest copy" in shown
    assert "5.6 MB" in shown


def test_every_cell_is_written_with_its_data_part_and_costs(made):
    cells = annotator_study_cells([Block("one", None, [made]), Block("two", None, [made])])
    assert len(cells) == 2 * (len(made.found.cells) + 5 * len(made.costs))
    assert {(cell["data"], cell["part"]) for cell in cells} == {("one", "growing"), ("two", "growing")}
    found = {(cell["data"], cell["metric"], cell["source"], cell["slice"]): cell for cell in cells}
    assert found["two", "label", "human", "all"]["value"] == 1
    costs = {name: found["one", name, "SFT, tag", "all"]["value"] for name in ("seconds", "parameters", "unread")}
    assert costs == {"seconds": 12.34, "parameters": 1234, "unread": 1 / 40}


def test_sizes_are_written_by_thousands():
    assert [size(count) for count in (0, 999, 1000, 5_600_000, 7e9, 7e12)] == [
        "0 bytes", "999 bytes", "1.0 kB", "5.6 MB", "7.0 GB", "7000.0 GB"
    ]  # fmt: skip


@in_a_browser
@pytest.mark.parametrize("name", [HOSTILE[0], HOSTILE[2], HOSTILE[4], HOSTILE[6]])
def test_the_page_in_a_browser(name, tmp_path, made):
    blocks = [Block(name, None, [made]), Block("set", None, [table("main", ("SFT, tag", f"{name}, x"))])]
    with chromium_running() as browser:
        look_at(browser, annotator_study_html(blocks, {"Model": name}), tmp_path / "study.html")
