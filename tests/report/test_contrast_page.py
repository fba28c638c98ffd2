"""The page and tables of a contrast: what they say against the contrast itself."""

import io
import re

import pytest
from rich.console import Console

from pages import HOSTILE, Reader, in_a_browser, look_at
from raison.evaluation.contrast import Change, Contrast, Interaction, Parts
from raison.evaluation.statistics import Estimate
from raison.records import InputError
from raison.report.contrast import (
    contrast_html,
    contrast_table,
    interaction_line,
    outcome,
    steps,
    unread,
    write_contrast,
)
from raison.report.text import number, short

WITHHELD = "before: withheld: the model answers 'neutral' in 97.0% of the records"


def estimate(value, low, high, n=100):
    return Estimate(value=value, low=low, high=high, n=n)


def change(metric="f1", source="gradient", value=0.1, low=0.05, high=0.15, p_holm=0.01, verdict="", before=0.3):  # noqa: PLR0917
    after = None if value is None else before + value
    return Change(metric, source, before, after, estimate(value, low, high), p_holm, p_holm, verdict)


def make():
    changes = [
        change("f1", "gradient", 0.123, 0.051, 0.187, 0.001),
        change("f1", "prompted/k:3", 0.021, -0.04, 0.08, 0.6),
        change("sufficiency", "gradient", 0.2, 0.1, 0.3, 0.004),
        change("sufficiency", "prompted/k:3", -0.2, -0.3, -0.1, 0.004),
        change("flip_rate", "gradient", 0.4, 0.3, 0.5, 0.0001, WITHHELD),
        change("flip_rate", "prompted/k:3", None, None, None, None),
        change("flip_rate_normalised", "gradient", 0.31, 0.11, 0.52, None),
    ]
    interactions = [Interaction("f1", 0.123, 0.021, estimate(0.102, 0.04, 0.16))]
    parts = [Parts("flip_rate", "gradient", estimate(0.35, 0.2, 0.5), estimate(0.05, -0.1, 0.2))]
    return Contrast(
        "base", "tuned", 100, estimate(0.25, 0.2, 0.3), changes, interactions, parts, ["3 records left out"]
    )


def hostile():
    changes = [change("f1", name, verdict=name) for name in HOSTILE] + [change(name, "a") for name in HOSTILE]
    parts = [Parts(name, name, estimate(0.1, 0.0, 0.2), estimate(0.1, 0.0, 0.2)) for name in HOSTILE]
    interactions = [Interaction(name, 0.1, 0.0, estimate(0.1, 0.05, 0.2)) for name in HOSTILE]
    return Contrast(HOSTILE[0], HOSTILE[1], 5, None, changes, interactions, parts, HOSTILE)


def printed(contrast, width=100):
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=False).print(contrast_table(contrast))
    return stream.getvalue()


# ------------------------------------------------------------------------------------------------- in words


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (change("f1", value=0.1, p_holm=0.05), "better"),  # the level is met at equality, as in the verdict
        (change("f1", value=0.1, p_holm=0.051), "unresolved"),
        (change("f1", value=-0.1, p_holm=0.01), "worse"),
        (change("sufficiency", value=-0.1, p_holm=0.01), "better"),
        (change("flip_rate_normalised", value=0.1, low=0.01, high=0.2, p_holm=None), "better"),
        (change("flip_rate_normalised", value=0.1, low=0.0, high=0.2, p_holm=None), "unresolved"),
        (change("flip_rate_normalised", value=0.1, low=None, high=None, p_holm=None), "unresolved"),
        (change("my_metric", value=0.1), "changed"),
        (change("f1", verdict=WITHHELD), "withheld"),
        (change("f1", value=None, verdict=WITHHELD), "undefined"),
    ],
)
def test_outcome_of_a_change(given, expected):
    assert outcome(given) == expected


@pytest.mark.parametrize(
    ("metric", "attributed", "prompted", "interval", "expected"),
    [
        ("f1", 0.12, 0.04, (0.03, 0.13),
         "Fine-tuning raised F1 of attributed rationales by .080 more than that of prompted ones [.030, .130]."),
        ("f1", 0.04, 0.12, (-0.13, -0.03),
         "Fine-tuning raised F1 of prompted rationales by .080 more than that of attributed ones [.030, .130]."),
        ("sufficiency", -0.04, -0.12, (0.03, 0.13),
         "Fine-tuning lowered sufficiency of prompted rationales by .080 more than that of attributed ones "
         "[.030, .130]."),
        ("flip_rate", -0.12, -0.04, (-0.13, -0.03),
         "Fine-tuning lowered flip rate of attributed rationales by .080 more than that of prompted ones "
         "[.030, .130]."),
        ("f1", 0.05, -0.03, (0.03, 0.13),
         "Fine-tuning raised F1 of attributed rationales (+.050) and lowered that of prompted ones (−.030), a "
         "difference of .080 [.030, .130]."),
        ("f1", -0.03, 0.05, (-0.13, -0.03),
         "Fine-tuning raised F1 of prompted rationales (+.050) and lowered that of attributed ones (−.030), a "
         "difference of .080 [.030, .130]."),
        ("f1", 0.05, 0.03, (-0.01, 0.05),
         "Whether fine-tuning changed F1 of attributed or of prompted rationales more is not resolved: attributed "
         "+.050, prompted +.030, difference +.020 [−.010, .050]."),
        ("f1", None, None, (None, None), "Attributed against prompted rationales: undefined, no record has both."),
    ],
)  # fmt: skip
def test_interaction_in_words(metric, attributed, prompted, interval, expected):
    value = None if attributed is None else attributed - prompted
    given = Interaction(metric, attributed, prompted, estimate(value, *interval))
    assert interaction_line(given, [], short) == expected


def test_an_interaction_over_sources_that_cannot_be_read_says_nothing():
    given = Interaction("f1", 0.1, 0.0, estimate(0.1, 0.05, 0.15))
    told = interaction_line(given, [change(verdict=WITHHELD)], number)
    assert told == "Whether attributed or prompted rationales changed more can’t be read."


@pytest.mark.parametrize(
    ("verdict", "withheld"),
    [
        ("", (False, False)),
        ("before: withheld: collapsed", (True, False)),  # the second part is judged on the model after alone
        ("after: withheld: collapsed", (True, True)),
        ("before: withheld: a; after: withheld: b", (True, True)),
    ],
)
def test_which_parts_can_be_read(verdict, withheld):
    part = Parts("flip_rate", "gradient", estimate(0.3, 0.2, 0.4), estimate(0.1, 0.0, 0.2))
    found = steps(part, [change("flip_rate", "gradient", verdict=verdict)])
    assert tuple(step.withheld for step in found) == withheld


def test_each_reason_is_given_once_with_all_it_concerns():
    changes = [change("f1", source, verdict="why") for source in "ab"]
    changes += [change("auprc", "a", verdict="why"), change("auprc", "b", None, None, None, None)]
    found = unread(Contrast("", "", 1, None, changes, [], [], []))
    undefined = "undefined: no record has a value both before and after"
    assert found == [("why", ["F1: all sources", "AUPRC: a"]), (undefined, ["AUPRC: b"])]


# ------------------------------------------------------------------------------------------------- terminal


def test_the_terminal_says_what_the_contrast_says():
    text = printed(make())
    assert max(map(len, text.splitlines())) <= 100
    flat = " ".join(text.split())
    for part in (
        "before → after: base → tuned · 100 records",
        "gradient .300 .423 +.123 [.051, .187] .001 better",
        "prompted/k:3 .300 .321 +.021 [−.040, .080] .600 not resolved",
        "gradient .300 .500 +.200 [.100, .300] .004 worse",
        "gradient .300 .700 (+.400) [.300, .500] < .001 can’t be read",
        "prompted/k:3 .300 – – – undefined",
        "gradient .300 .610 +.310 [.110, .520] – better",
        "gradient (+.350) [.200, .500] +.050 [−.100, .200]",
        "Accuracy of the model: It rose by .250 [.200, .300].",
        "by .102 more than that of prompted ones [.040, .160]",
        "Parts resolved by their intervals: “the explanation changed” for 0 of 1 sources.",
        WITHHELD,
        "note: 3 records left out",
    ):
        assert part in flat


def test_markup_and_controls_are_text_in_a_terminal():
    text = printed(hostile())
    assert "[bold red]markup[/]" in text
    assert "\x1b" not in text
    assert "<U+202E>" in text


# ------------------------------------------------------------------------------------------------- page


def test_the_page_says_what_the_contrast_says():
    reader = Reader(contrast_html(make()))
    assert "+0.123 [0.051, 0.187] 0.001 100 better" in reader.row("gradient", "0.423")
    assert reader.row("gradient", "0.700").endswith("(+0.400) [0.300, 0.500] < 0.001 100 can’t be read")
    assert "prompted/k:3 0.300 – – – 100 undefined" in reader.row("prompted/k:3", "undefined")
    assert reader.row("gradient", "(+0.350)").startswith("gradient (+0.350) [0.200, 0.500] +0.050 [−0.100, 0.200]")
    for part in ("It rose by 0.250 [0.200, 0.300].", "more than that of prompted ones [0.040, 0.160]", WITHHELD,
                 "3 records left out", "Before base", "After tuned"):  # fmt: skip
        assert part in reader.text
    labels = [attributes["aria-label"] for tag, attributes in reader.elements if tag == "svg"]
    assert [label.split(" before")[0] for label in labels] == ["F1", "Flip rate", "Normalised flip rate", "Sufficiency"]


def test_dumbbells_stand_at_their_values():
    html = contrast_html(make())
    figure = html[html.index('aria-label="F1') :].split("</svg>")[0]
    marks = [float(x) for x in re.findall(r'<use xlink:href="#\w+" x="([\d.]+)"', figure)]
    scale = [(float(x), float(value)) for x, value in re.findall(r'x="([\d.]+)"[^>]*>\s*([\d.]+)</text>', figure)]
    (x0, v0), (x1, v1) = scale[0], scale[-1]
    values = [v0 + (x - x0) * (v1 - v0) / (x1 - x0) for x in marks]
    assert values[-4:] == pytest.approx([0.3, 0.423, 0.3, 0.321], abs=0.002)


def test_the_page_loads_nothing_and_runs_nothing():
    html = contrast_html(make())
    reader = Reader(html)
    assert all(value.startswith("#") or value == "data:," for value in reader.links)
    assert "http" not in html.replace("http-equiv", "")
    assert not {"script", "img", "iframe"} & {tag for tag, _ in reader.elements}
    policy = next(a["content"] for _, a in reader.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src")
    identifiers = [a["id"] for _, a in reader.elements if "id" in a]
    assert len(identifiers) == len(set(identifiers))


def test_hostile_names_are_texts():
    html = contrast_html(hostile(), title=HOSTILE[0])
    reader = Reader(html)
    assert not {"script", "img"} & {tag for tag, _ in reader.elements}
    assert reader.handlers == []
    assert "<script>window.hacked = 1</script>" in " ".join(reader.texts)
    assert "\u202e" not in html
    assert html.encode()


def test_a_contrast_without_changes_is_a_page():
    empty = Contrast("", "", 0, None, [], [], [], [])
    assert "unnamed model" in contrast_html(empty)
    assert "0 records" in printed(empty)


def test_same_contrast_same_bytes_written_whole(tmp_path):
    write_contrast(tmp_path / "a.html", make(), "Mine")
    assert (tmp_path / "a.html").read_bytes() == contrast_html(make(), "Mine").encode()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="can't be written"):
        write_contrast(tmp_path / "file" / "b.html", make())


@in_a_browser
@pytest.mark.parametrize("given", [make, hostile])
def test_in_a_browser(chromium, tmp_path, given):
    look_at(chromium, contrast_html(given()), tmp_path / "page.html")
