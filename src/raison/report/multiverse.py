"""How often the winner changes and which choice changes it: tables for a terminal, and one self-contained HTML page."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raison.evaluation.multiverse import Factor, Multiverse
from raison.report import text
from raison.report.glossary import describe
from raison.report.page import render_page, write_page
from raison.report.specification import colours, percent, placed, specification_curve

TITLE = "The multiverse of choices"
FEW = 100  # universes whose table is open at first
NAMED = 4  # sources in one sentence; of more, those that win most seldom are counted


class Level(NamedTuple):
    """One level of a choice, and who wins there."""

    name: str
    universes: int
    winners: dict[str, int]
    tied: int  # universes in which the best are equal
    nobody: int  # universes that rank nobody


def multiverse_table(multiverse: Multiverse) -> Group:
    """Give what a terminal shows: who wins how often, and which choice changes the winner; 100 columns."""
    return Group(*_lines(multiverse))


def multiverse_html(multiverse: Multiverse, title: str = TITLE) -> str:
    """Render a multiverse as one self-contained HTML document. The same multiverse gives the same text."""
    return render_page(
        "multiverse.html",
        title=title,
        multiverse=multiverse,
        metric=describe(multiverse.metric),
        sentences=sentences(multiverse),
        picture=specification_curve(multiverse, _described(multiverse)),
        factors=[(factor, levels(factor, multiverse)) for factor in multiverse.factors],
        universes=placed(multiverse),
        sources=list(dict.fromkeys(source for universe in multiverse.universes for source in universe.values)),
        colours=colours(multiverse),
        few=FEW,
        percent=percent,
    )  # fmt: skip


def write_multiverse(path: str | Path, multiverse: Multiverse, title: str = TITLE) -> None:
    """Write the page, whole or not at all.

    Raises:
        InputError: the folder can't be made or written to.
    """
    write_page(path, multiverse_html(multiverse, title))


def levels(factor: Factor, multiverse: Multiverse) -> list[Level]:
    """Give the levels of a choice with how many universes each has, and who wins them."""
    found: list[Level] = []
    for name in factor.levels:
        own = [universe for universe in multiverse.universes if universe.choices[factor.name] == name]
        winners = factor.winners.get(name, {})
        tied = sum(universe.tied(multiverse.better) for universe in own)
        found.append(Level(name, len(own), winners, tied, len(own) - tied - sum(winners.values())))
    return found


# ------------------------------------------------------------------------------------------------- in words


def sentences(multiverse: Multiverse) -> list[str]:
    """Say who wins how often, which choice changes the winner most, and which never does."""
    told = [_who_wins(multiverse)]
    tested = [factor for factor in multiverse.factors if factor.switched is not None]
    switching = [factor for factor in tested if factor.switched]
    if switching:
        told.append(
            f"“{switching[0].name}” changes the winner most: of {switching[0].pairs:,} pairs of universes that are "
            f"alike but for it, {percent(switching[0].switched)} have different winners."
        )
    still = ", ".join(f"“{factor.name}”" for factor in tested if not factor.switched)
    if tested and not switching:
        told.append("No choice changes the winner by itself.")
    elif still:
        told.append(f"Without effect on the winner by themselves: {still}.")
    unknown = ", ".join(f"“{factor.name}”" for factor in multiverse.factors if factor.switched is None)
    if unknown:
        told.append(f"Not to be told, since no two ranked universes differ in it alone: {unknown}.")
    return told


def _who_wins(multiverse: Multiverse) -> str:
    total, title, withheld = (
        len(multiverse.universes),
        text.within(describe(multiverse.metric).title),
        multiverse.withheld,
    )
    nobody = f" {multiverse.tied:,} of them {'is' if multiverse.tied == 1 else 'are'} tied." if multiverse.tied else ""
    nobody += f" {withheld:,} of them rank{'s' if withheld == 1 else ''} nobody." if withheld else ""
    if not multiverse.winners:
        none = "has a winner" if multiverse.tied else "ranks anybody"
        return f"By {title}, none of {total:,} universes {none}.{nobody if multiverse.tied else ''}"
    (first, most), *others = [(source or "(no name)", count) for source, count in multiverse.winners.items()]
    if most == total:
        return f"By {title}, {first} wins in {'the only universe' if total == 1 else f'all {total:,} universes'}."
    named = others if len(others) <= NAMED else others[: NAMED - 1]
    told = [f"{source} in {count:,} ({percent(count / total)})" for source, count in named]
    rest = sum(count for _, count in others[len(named) :])
    told += [f"{len(others) - len(named)} other sources in {rest:,}"] if rest else []
    then = f", {', '.join(told)}" if told else ", and no other source in any"
    return f"By {title}, {first} wins in {most:,} of {total:,} universes ({percent(most / total)}){then}.{nobody}"


def _described(multiverse: Multiverse) -> str:
    """Tell what the picture shows to those who don't see it."""
    told = " ".join(text.plain(sentence, 1000) for sentence in sentences(multiverse))
    return f"Specification curve: all universes, the largest lead first, with their choices. {told} The tables say all."


# ------------------------------------------------------------------------------------------------- terminal


def _lines(multiverse: Multiverse) -> Iterator[RenderableType]:
    for sentence in sentences(multiverse):
        yield Text(text.plain(sentence, 1000))
    if multiverse.factors:
        yield Text()
        yield _factors_table(multiverse)
        yield Text(
            "switches: of pairs of universes alike but for this choice, those with different winners (those tied or "
            "withheld stand in no pair). η²: share of the variance of the lead that it explains by itself.",
            style="dim",
        )
    reasons = dict.fromkeys(universe.withheld for universe in multiverse.universes if universe.withheld)
    for reason in reasons:
        count = sum(universe.withheld == reason for universe in multiverse.universes)
        yield Text(f"withheld in {count:,}: {text.plain(reason, 1000)}", style="dim")


def _winners(level: Level) -> str:
    """Name those who win most often at a level, and count the others."""
    named = list(level.winners.items())
    named = named if len(named) <= NAMED else named[: NAMED - 1]
    told = [f"{text.plain(source, 60)} {count:,}" for source, count in named]
    rest = level.universes - level.tied - level.nobody - sum(count for _, count in named)
    told += [f"{len(level.winners) - len(named)} others {rest:,}"] if rest else []
    none = [f"({what} {count:,})" for what, count in (("tied", level.tied), ("nobody", level.nobody)) if count]
    return ", ".join([*told, *none])


def _factors_table(multiverse: Multiverse) -> Table:
    table = Table(title="What each choice does", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
                  pad_edge=False)  # fmt: skip
    table.add_column("choice", overflow="fold", max_width=20)
    table.add_column("switches", justify="right")
    table.add_column("η²", justify="right")
    table.add_column("level", overflow="fold", max_width=24)
    table.add_column("winners", overflow="fold")
    for factor in multiverse.factors:
        for index, level in enumerate(levels(factor, multiverse)):
            start = [text.plain(factor.name, 60), percent(factor.switched), text.short(factor.spread, 2)]
            row = [*(start if index == 0 else [""] * 3), text.plain(level.name, 60), _winners(level)]
            table.add_row(*map(Text, row))
        table.add_section()
    return table
