"""The report as a file: complete in itself, the same every time, and true to what it was given."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import msgspec
import pytest

import raison.report
from raison.evaluation.results import Cell, Comparison, Item, SourceItem, Verdict
from raison.records import InputError
from raison.report import notebook_html, render, write_report

HOSTILE = [
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 1</script><!-- <script>",
    '"><img src=x onerror="window.hacked = 1">',
    "<!-- --> {{ 7 * 7 }} {% raw %} ${7*7} $x^2$ &amp; &lt;b&gt;",
    "left \u202egnirts desrever\u202c right \u2066isolate\u2069 \u200f mark",
    "bell \x07 null \x00 escape \x1b[31m delete \x7f separator \u2028 end",
    "\ud800 a lone surrogate",
    "שלום עולם and مرحبا with 😀👩‍👩‍👧 and é",
    "",
    "   \n\t  ",
]


class Reader(HTMLParser):
    """Collects what a test asks for: elements with attributes, texts of scripts, texts outside of them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.texts: list[str] = []
        self.inside = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def data_of(html):
    return json.loads(Reader(html).scripts[0], parse_constant=lambda name: pytest.fail(f"{name} in the data"))


def test_loads_nothing(make):
    html = render(make(12))
    reader = Reader(html)
    links = {"src", "href", "xlink:href", "srcset", "action", "data", "poster", "background"}
    found = {value for _, attributes in reader.elements for name, value in attributes.items() if name in links}
    assert all(value.startswith("#") or value == "data:," for value in found)
    assert "http" not in html.replace("http-equiv", "")
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert not {"iframe", "object", "embed", "base", "img"} & {tag for tag, _ in reader.elements}


def test_policy_allows_only_the_reports_own_script(make):
    html = render(make(12))
    policy = next(a["content"] for _, a in Reader(html).elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert len(Reader(html).scripts) == 2
    assert not [name for _, attributes in Reader(html).elements for name in attributes if name.startswith("on")]


def test_same_verdict_gives_same_bytes(make, tmp_path):
    verdict = make(12)
    assert render(verdict) == render(verdict)
    write_report(tmp_path / "a.html", verdict)
    assert (tmp_path / "a.html").read_bytes() == render(verdict).encode()


def test_plots_do_not_depend_on_the_process(make, tmp_path):
    code = (
        "import sys, msgspec; from raison.evaluation.results import Verdict; from raison.report import write_report;"
        "write_report(sys.argv[2], msgspec.json.decode(open(sys.argv[1], 'rb').read(), type=Verdict))"
    )
    verdict = make(6)
    (tmp_path / "verdict.json").write_bytes(msgspec.json.encode(verdict))
    command = [sys.executable, "-c", code, str(tmp_path / "verdict.json"), str(tmp_path / "report.html")]
    subprocess.run(command, check=True)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render(verdict)


def test_identifiers_are_unique(make):
    found = [a["id"] for _, a in Reader(render(make(12))).elements if "id" in a]
    assert len(found) == len(set(found))


def test_hostile_texts_come_through_as_data(make, hostile):
    verdict = hostile(make(len(HOSTILE)), HOSTILE)
    html = render(verdict, title=HOSTILE[1])
    reader = Reader(html)
    assert len(reader.scripts) == 2
    assert "img" not in {tag for tag, _ in reader.elements}
    assert "<script>window.hacked" not in html
    texts = [item[1][0][1] for item in data_of(html)["items"]]
    assert texts == HOSTILE
    assert html.encode()  # nothing in it that UTF-8 can't hold


def test_hidden_characters_of_notes_are_shown_by_their_code(make, hostile):
    text = Reader(render(hostile(make(len(HOSTILE)), HOSTILE))).text
    assert "U+202E" in text
    assert "U+0007" in text
    assert "\u202e" not in text


def test_undefined_is_a_dash_with_its_reason_and_never_zero(make):
    verdict = make(40, sources=("occlusion", "prompted"))
    html = render(verdict)
    row = re.search(r"<tr>\s*<th scope=\"row\"><bdi>prompted</bdi></th>(.*?)</tr>", html, re.DOTALL)
    assert row
    last = row[1].split("<td")[4]  # AUPRC, which needs scores
    assert '<span class="value">–</span><sup>a</sup>' in last
    assert "undefined: no record has it" in last
    assert re.search(r"<li><sup>a</sup> <bdi>undefined: no record has it", html)


def test_numbers_that_are_not_finite_are_undefined(make):
    verdict = make(3, sources=("occlusion",))
    broken = SourceItem([0], [float("nan"), float("inf"), None, 1.0], {"f1": float("nan")})
    item = msgspec.structs.replace(verdict.items[0], sources={"occlusion": broken}, probability=float("nan"))
    cell = Cell("f1", "occlusion", "all", float("nan"), None, None, 0)
    found = data_of(render(msgspec.structs.replace(verdict, items=[item], cells=[cell])))["items"][0]
    assert found[4] is None
    assert found[6][0][2:5] == ["---y", 1.0, [None]]


def test_words_survive_the_packing(make):
    text = "😀 two \U0001d54f words"  # two characters that JavaScript counts twice
    words = [(0, 1), (2, 5), (6, 7), (8, 13)]
    item = Item("1", {"text": text}, {"text": words}, "a", "a", 1.0, [], {"m": SourceItem([1], None, {})})
    verdict = msgspec.structs.replace(make(1), items=[item])
    _, packed, gaps = data_of(render(verdict))["items"][0][1][0]
    units = packed.encode("utf-16-le")
    places = [2 * sum(gaps[: i + 1]) for i in range(len(gaps))]
    found = [units[a:b].decode("utf-16-le") for a, b in zip(places[::2], places[1::2], strict=True)]
    assert found == text.split()


def test_scores_are_quantised_with_their_scale(make):
    said = SourceItem([0], [-2.0, 0.0, 1.0, 2.0], {})
    item = Item("1", {"t": "a b c d"}, {"t": [(0, 1), (2, 3), (4, 5), (6, 7)]}, None, None, None, [], {"m": said})
    packed = data_of(render(msgspec.structs.replace(make(1), items=[item])))
    letters, largest = packed["items"][0][6][0][2:4]
    levels = [(packed["letters"].index(letter) - 30) / 30 * largest for letter in letters]
    assert levels == [-2.0, 0.0, 1.0, 2.0]


def test_collapsed_says_why_nothing_is_ranked(make):
    text = Reader(render(make(60, "collapsed"))).text
    assert "Faithfulness can’t be read" in text
    assert "No ranking: the model answers 'neutral'" in text
    assert "not to be ranked: the model answers" in text


def test_without_a_model_nothing_is_said_of_faithfulness(make):
    text = Reader(render(make(30, "people"))).text
    assert "Agreement with people only" in text
    assert "Flip rate" not in text


def test_unknown_metrics_and_references_are_shown_under_their_names(make):
    cells = [Cell("my_metric", source, "size=long", 0.25, 0.2, 0.3, 9, {"my_reference": 0.1}) for source in "ab"]
    comparison = Comparison("my_metric", "a", "b", 0.0, -0.1, 0.1, 1.0, 1.0, 1, 9, "some test", "a higher")
    verdict = msgspec.structs.replace(make(2), cells=cells, comparisons=[comparison], curves=[])
    text = Reader(render(verdict)).text
    for part in ("my metric", "my reference", "size=long", "Some differences between sources are resolved."):
        assert part in text


def test_an_empty_verdict_renders():
    verdict = Verdict(None, [], [], [], None, [], [], {})
    text = Reader(render(verdict)).text
    assert "0 records" in text
    assert raison.report.table(verdict)


def test_notebook_view_is_a_frame_with_a_part_of_the_gallery(make):
    verdict = make(150)
    frame = notebook_html(verdict)
    [(tag, attributes)] = Reader(frame).elements
    assert (tag, attributes["sandbox"]) == ("iframe", "allow-scripts")
    inner = attributes["srcdoc"] or ""
    assert len(data_of(inner)["items"]) == 100
    assert "The first 100 of 150 records" in Reader(inner).text


def test_nothing_is_left_where_the_report_cannot_be_written(make, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="can't be written"):
        write_report(tmp_path / "file" / "report.html", make(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


# ------------------------------------------------------------------------------------------------ contrast


def palette():
    css = (Path(raison.report.__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
    pairs = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css)
    return {name: [tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in both] for name, *both in pairs}


def contrast(a, b):
    """WCAG 2.2: (lighter + 0.05) / (darker + 0.05) of the relative luminances."""

    def luminance(colour):
        parts = [c / 255 for c in colour]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)


def test_contrast_formula():
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)


@pytest.mark.parametrize("theme", [0, 1])
def test_contrast_of_texts_is_enough_in_both_themes(theme):
    colours = {name: both[theme] for name, both in palette().items()}
    grounds = ("page", "panel", "tint")
    for text, ground in product(("ink", "muted", "link", "good", "care", "bad"), grounds):
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for heat in ("for", "against"):  # the strongest heat: 70 % of the colour over the panel
        mixed = tuple(0.7 * c + 0.3 * p for c, p in zip(colours[heat], colours["panel"], strict=True))
        assert contrast(colours["ink"], mixed) >= 4.5, heat
    assert contrast(colours["ink"], colours["person"]) >= 4.5
    for name, colour in colours.items():
        if name.startswith("series"):
            assert contrast(colour, colours["panel"]) >= 3, name
