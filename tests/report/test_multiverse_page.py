"""The page and tables of a multiverse: the picture and the words against the universes themselves."""

import io
import re
import time
from itertools import product

import numpy as np
import pytest
from rich.console import Console

from pages import HOSTILE, Reader, in_a_browser, look_at
from raison.evaluation.multiverse import Universe, analyse
from raison.records import InputError
from raison.report.multiverse import levels, multiverse_html, multiverse_table, sentences, write_multiverse
from raison.report.specification import colours, percent, placed, specification_curve

LEVELS = {"budget": ("human", "k:3"), "mask": ("mask", "delete", "pad"), "seed": ("0", "1")}


def worlds(value, levels=LEVELS, withheld=lambda choices: ""):
    found = []
    for chosen in product(*levels.values()):
        choices = dict(zip(levels, chosen, strict=True))
        found.append(Universe(choices, value(choices), withheld(choices)))
    return found


def make():
    """Make 12 universes in which b wins where words are deleted; two of them rank nobody."""
    return analyse(
        "flip_rate",
        worlds(
            lambda c: {"a": 0.5 + 0.01 * (c["seed"] == "1"), "b": 0.7 if c["mask"] == "delete" else 0.3},
            withheld=lambda c: "collapsed" if c["mask"] == "pad" and c["budget"] == "k:3" else "",
        ),
    )


def hostile():
    """Make a multiverse whose sources, choices, levels and reasons are hostile names."""
    names = {HOSTILE[0]: (HOSTILE[1], HOSTILE[2]), HOSTILE[4]: (HOSTILE[3], HOSTILE[5]), HOSTILE[6]: ("x", HOSTILE[6])}
    rng = np.random.default_rng(0)
    found = worlds(lambda c: {name: float(rng.random()) for name in HOSTILE}, names)
    return analyse(
        HOSTILE[0], [Universe(u.choices, u.values, HOSTILE[i] if i < 2 else "") for i, u in enumerate(found)]
    )


def many(universes=2000):
    rng = np.random.default_rng(1)
    names = {"a choice": [str(i) for i in range(universes // 40)], "mask": list("vwxyz"), "prompt": list("abcdefgh")}
    return analyse("f1", worlds(lambda c: {s: float(rng.random()) for s in "abcdefghij"}, names))


def printed(multiverse):
    stream = io.StringIO()
    Console(file=stream, width=100, force_terminal=False).print(multiverse_table(multiverse))
    return stream.getvalue()


def rectangles(svg):
    """Give (colour, left, right, top, bottom) of every rectangle in a picture."""
    found = []
    for path, colour in re.findall(r'<path d="([^"]*)"[^>]*style="fill: var\(--([\w-]+)\)', svg):
        for piece in path.split("M")[1:]:
            points = np.array(re.findall(r"([\d.]+) ([\d.]+)", piece), dtype=float)
            if len(points) == 4:
                (a, c), (b, d) = points.min(axis=0), points.max(axis=0)
                found.append((colour, a, b, c, d))
    return found


# ------------------------------------------------------------------------------------------------- order and words


def test_universes_stand_by_lead_and_those_that_rank_nobody_last():
    found = placed(make())
    slow = []  # the lead of a, by definition
    for one in found[:-2]:
        slow.append(one.universe.values["a"] - one.universe.values["b"])
        assert one.lead == pytest.approx(slow[-1])
        assert one.winner == ("a" if slow[-1] > 0 else "b")
    assert slow == sorted(slow, reverse=True)
    assert [(one.winner, one.lead) for one in found[-2:]] == [(None, None)] * 2


def test_where_lower_is_better_a_lead_is_still_above_zero():
    found = placed(analyse("sufficiency", worlds(lambda c: {"a": 0.2, "b": 0.3, "c": 0.9}), "lower"))
    assert [one.lead for one in found] == pytest.approx([0.1] * 12)


def test_tied_universes_are_told_apart_from_those_withheld():
    multiverse = analyse(
        "f1",
        worlds(
            lambda c: {"a": {"mask": 0.7, "delete": 0.5, "pad": 0.2}[c["mask"]], "b": 0.5},
            withheld=lambda c: "few" if c["seed"] == "1" else "",
        ),
    )
    found = placed(multiverse)
    assert [(one.winner, one.tied) for one in found] == (
        [("a", False)] * 2 + [(None, True)] * 2 + [("b", False)] * 2 + [(None, False)] * 6
    )
    assert [one.lead for one in found[2:4]] == [0, 0]
    assert "wins in 2 of 12 universes (17\u00a0%), b in 2 (17\u00a0%). 2 of them are tied." in sentences(multiverse)[0]
    (delete,) = [level for level in levels(multiverse.factors[0], multiverse) if level.name == "delete"]
    assert (delete.universes, delete.winners, delete.tied, delete.nobody) == (4, {}, 2, 2)
    svg = specification_curve(multiverse, "told")
    assert "17\u00a0% (2)" in svg
    assert ">tied<" in svg
    assert "(tied 2), (nobody 2)" in " ".join(printed(multiverse).split())
    universes = [" ".join(row.split()) for row in Reader(multiverse_html(multiverse)).rows[-12:]]
    assert [row.split()[0] for row in universes] == ["a"] * 2 + ["tied"] * 2 + ["b"] * 2 + ["nobody:"] * 6


def test_a_winner_without_a_lead_stands_before_those_that_rank_nobody():
    value = {"human": {"a": 0.4, "b": 0.1}, "k:3": {"a": None, "b": 0.1}}
    told = lambda c: "few" if c["seed"] == "1" else ""  # noqa: E731
    found = placed(analyse("f1", worlds(lambda c: value[c["budget"]], withheld=told)))
    assert [one.winner for one in found] == ["a"] * 3 + ["b"] * 3 + [None] * 6
    assert [one.lead is None for one in found] == [False] * 3 + [True] * 9


def test_sentences():
    assert sentences(make()) == [
        "By flip rate, a wins in 6 of 12 universes (50\u00a0%), b in 4 (33\u00a0%). 2 of them rank nobody.",
        # human: 2 seeds x (mask-delete, delete-pad differ, mask-pad not); k:3: mask-delete alone is ranked
        "“mask” changes the winner most: of 8 pairs of universes that are alike but for it, 75\u00a0% have different "
        "winners.",
        "Without effect on the winner by themselves: “budget”, “seed”.",
    ]
    alike = analyse("f1", worlds(lambda c: {"a": 1.0, "b": 0.0}))
    assert sentences(alike) == ["By F1, a wins in all 12 universes.", "No choice changes the winner by itself."]
    nobody = analyse("f1", worlds(lambda c: {"a": None, "b": None}))
    assert sentences(nobody)[0] == "By F1, none of 12 universes ranks anybody."
    assert "Not to be told" in sentences(nobody)[1]


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (None, "–"),
        (0, "0\u00a0%"),
        (0.001, "< 1\u00a0%"),
        (0.994, "99\u00a0%"),
        (0.999, "> 99\u00a0%"),
        (1, "100\u00a0%"),
    ],
)
def test_a_share_never_looks_like_nothing_or_everything(share, text):
    assert percent(share) == text


def test_levels_count_every_universe_once():
    multiverse = make()
    for factor in multiverse.factors:
        found = levels(factor, multiverse)
        assert sum(level.universes for level in found) == 12
        for level in found:
            own = [u for u in multiverse.universes if u.choices[factor.name] == level.name]
            assert level.nobody == sum(u.winner() is None for u in own)
            assert level.winners == {s: n for s in "ab" if (n := sum(u.winner() == s for u in own))}


# ------------------------------------------------------------------------------------------------- picture


def test_marks_of_the_picture_are_the_levels_in_the_colours_of_the_winners():
    multiverse = make()
    order, found = placed(multiverse), rectangles(specification_curve(multiverse, "told"))
    marks = [box for box in found if box[4] - box[3] == pytest.approx(12)]
    rows = sorted({round(top) for _, _, _, top, _ in marks})
    columns = sorted({round(left) for _, left, _, _, _ in marks})
    assert len(columns) == 12
    drawn = {(rows.index(round(top)), columns.index(round(left))): colour for colour, left, _, top, _ in marks}
    colour = {"a": "series-1", "b": "series-2", None: "muted"}
    expected = {}
    titles = [("winner", name) for name in ("a", "b", None)]
    titles += [(factor.name, level) for factor in multiverse.factors for level in factor.levels]
    for row, (factor, level) in enumerate(titles):
        for column, one in enumerate(order):
            if (one.winner if factor == "winner" else one.universe.choices[factor]) == level:
                expected[row, column] = colour[one.winner]
    assert drawn == expected


def test_bars_of_the_picture_are_the_leads_and_the_shares():
    multiverse = make()
    order, found = placed(multiverse), rectangles(specification_curve(multiverse, "told"))
    leads = sorted(box[1:] + box[:1] for box in found if box[0].startswith("series") and box[3] < 170 and box[4] < 180)
    heights = [bottom - top for _, _, top, bottom, _ in leads]
    expected = [abs(one.lead) for one in order if one.lead is not None]
    assert heights == pytest.approx([heights[0] / expected[0] * lead for lead in expected], rel=0.01)
    assert [colour for *_, colour in leads] == ["series-1" if one.lead > 0 else "series-2" for one in order[:-2]]
    bars = [box for box in found if box[4] - box[3] == pytest.approx(8)]
    whole = {box[2] - box[1] for box in bars if box[0] == "line"}
    assert whole == {64.0}
    switched = [box[2] - box[1] for box in sorted(bars, key=lambda box: box[3]) if box[0] == "ink"]
    assert [width / 64 for width in switched] == pytest.approx([f.switched for f in multiverse.factors], abs=0.001)


def test_more_winners_than_colours_share_the_last():
    multiverse = many(400)
    assert len(multiverse.winners) == 10
    assert list(colours(multiverse).values()) == [0, 1, 2, 3, 4, 5, 6, 6, 6, 6]
    svg = specification_curve(multiverse, "told")
    assert "other sources" in svg
    rest = sum(list(multiverse.winners.values())[6:])
    assert f"({rest})" in svg


def test_two_thousand_universes_are_drawn_fast_and_small():
    multiverse = many()
    start = time.perf_counter()
    svg = specification_curve(multiverse, "told")
    seconds = time.perf_counter() - start
    html = multiverse_html(multiverse)
    print(f"{seconds:.2f} s, picture {len(svg) / 1e6:.2f} MB, page {len(html) / 1e6:.2f} MB")
    assert seconds < 10
    assert len(svg) < 2e6
    assert svg.count("<path") < 300
    assert "<details>" in html  # closed: 2,000 rows are there, but not at once
    assert len(Reader(html).rows) > 2000


# ------------------------------------------------------------------------------------------------- terminal, page


def test_the_terminal_says_what_the_multiverse_says():
    text = printed(make())
    assert max(map(len, text.splitlines())) <= 100
    flat = " ".join(text.split())
    for part in ("mask 75 %", "delete b 4", "pad a 2, (nobody 2)", "budget 0 %", "withheld in 2: collapsed"):
        assert part in flat
    assert "[bold red]markup[/]" in printed(hostile())
    assert "\x1b" not in printed(hostile())


def test_the_page_says_what_the_multiverse_says():
    html = multiverse_html(make())
    reader = Reader(html)
    for sentence in sentences(make()):
        assert " ".join(sentence.split()) in reader.text
        (label,) = [attributes["aria-label"] for tag, attributes in reader.elements if tag == "svg"]
        assert " ".join(sentence.split()) in label
    assert "75 % of 8 pairs" in reader.row("mask", "75")
    assert "<details open>" in html
    universes = [" ".join(row.split()) for row in reader.rows[-12:]]
    assert universes[0] == "a 0.210 mask human 1 0.510 0.300"
    assert [row.split()[0] for row in universes] == ["a"] * 6 + ["b"] * 4 + ["nobody:"] * 2
    assert universes[-1].startswith("nobody: collapsed –")


def test_the_page_loads_nothing_and_hostile_names_are_texts():
    html = multiverse_html(hostile(), HOSTILE[0])
    reader = Reader(html)
    assert all(value.startswith("#") or value == "data:," for value in reader.links)
    assert not {"script", "img"} & {tag for tag, _ in reader.elements}
    assert reader.handlers == []
    assert "<script>window.hacked = 1</script>" in " ".join(reader.texts)
    assert "\u202e" not in html
    assert html.encode()


def test_a_multiverse_of_one_and_one_that_ranks_nobody():
    one = analyse("f1", [Universe({}, {"a": 0.5, "b": 0.4})])
    assert sentences(one) == ["By F1, a wins in the only universe."]
    assert multiverse_html(one)
    tied = analyse("f1", [Universe({}, {"a": 0.5, "b": 0.5})])
    assert sentences(tied) == ["By F1, none of 1 universes has a winner. 1 of them is tied."]
    assert multiverse_html(tied)
    nobody = analyse("f1", worlds(lambda c: {"a": None, "b": None}))
    assert "No universe has a lead." in multiverse_html(nobody)
    assert printed(nobody)


def test_same_multiverse_same_bytes_written_whole(tmp_path):
    write_multiverse(tmp_path / "a.html", make(), "Mine")
    assert (tmp_path / "a.html").read_bytes() == multiverse_html(make(), "Mine").encode()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="can't be written"):
        write_multiverse(tmp_path / "file" / "b.html", make())


@in_a_browser
@pytest.mark.parametrize("given", [make, hostile, many])
def test_in_a_browser(chromium, tmp_path, given):
    look_at(chromium, multiverse_html(given()), tmp_path / "page.html")
