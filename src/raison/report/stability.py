"""Is there a person to learn: tables for a terminal, and one self-contained HTML page with its plots."""

from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raison.annotators.stability import Looked, Stability
from raison.annotators.verdict import LEVEL, TITLES
from raison.report import text
from raison.report.canvas import COLOURS, INK, MUTED, as_svg, drawing, fitting, legend_below, margin, new_figure
from raison.report.page import render_page, write_page

TITLE = "Is there a person to learn?"
REDUCTIONS = {
    "none": "as they are",
    "item": "less what others said of the item",
    "ridge": "less what input and label predict",
}


def stability_table(found: Stability) -> Group:
    """Give what a terminal shows, 100 columns wide: the verdict, accuracy at k by view, the tests of layers."""
    parts: list[RenderableType] = [Text(f"Verdict: {text.plain(found.finding.words, 500)}", style="bold"), Text()]
    parts += [_accuracy_table(found), _layer_table(found)]
    shares = (("item", found.item_share), ("person", found.person_share))
    parts += [
        Text(f"η²({name}) = {text.short(share.value)}, by chance {text.short(share.null)}")
        for name, share in shares
        if share.value is not None
    ]
    if found.categories is not None:
        known = found.categories
        told = (
            f"category × person: χ²({known.df}) = {known.chi2:.1f}, p {_p(known.p)}, Cramér's V = {text.short(known.v)}"
        )
        parts.append(Text(f"{told}, n = {known.n:,}"))
    parts += [Text(text.plain(note, 500), style="dim") for note in found.notes]
    return Group(*parts)


def stability_html(found: Stability, title: str = TITLE) -> str:
    """Render the result as one self-contained HTML document. The same result gives the same text."""
    return render_page(
        "stability.html",
        title=title,
        found=found,
        curves=[(told, _curves(found, name)) for name, told in REDUCTIONS.items() if _of(found, name)],
        confused=_confusion(found),
        shares=_shares(found),
        ks=_ks(found),
        reductions=REDUCTIONS,
        layers=TITLES,
        level=LEVEL,
    )


def write_stability(path: str | Path, found: Stability, title: str = TITLE) -> None:
    """Write the page, whole or not at all.

    Raises:
        InputError: the folder can't be made or written to.
    """
    write_page(path, stability_html(found, title))


def _ks(found: Stability) -> list[int]:
    return [one.k for one in found.looked[0].identified] if found.looked else []


def _of(found: Stability, reduction: str) -> list[Looked]:
    return [looked for looked in found.looked if looked.reduction == reduction]


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"= {text.short(value)}"


# ------------------------------------------------------------------------------------------------- terminal


def _accuracy_table(found: Stability) -> Table:
    title = f"Accuracy at k of a person's items (chance {text.short(1 / len(found.people), 2)})"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("view", overflow="fold", min_width=14, max_width=24)
    table.add_column("less")
    for k in _ks(found):
        table.add_column(str(k), justify="right")
    for name in ("p(1)", "S", "p(S)", "d′~k^", "for .9"):
        table.add_column(name, justify="right")
    for looked in found.looked:
        first = next((null.p for null in looked.nulls if null.k == 1), None)
        row = [text.plain(looked.view, 40), "–" if looked.reduction == "none" else looked.reduction]
        row += [text.short(one.accuracy.value, 2) for one in looked.identified]
        row += [text.short(first), text.short(looked.split_half, 2), text.short(looked.split_half_p)]
        row += [
            text.short(looked.exponent, 2),
            text.UNDEFINED if looked.items_needed is None else str(looked.items_needed),
        ]
        table.add_row(*map(Text, row))
    return table


def _layer_table(found: Stability) -> Table:
    title = "What tells people apart (p by permutation within items, and within labels; Holm)"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer")
    for name in ("accuracy at 1", "permuted", "p", "p (Holm)"):
        table.add_column(name, justify="right")
    for layer in found.finding.layers:
        numbers = (layer.accuracy, layer.null, layer.p, layer.p_holm)
        table.add_row(TITLES.get(layer.name, layer.name), *(text.short(number) for number in numbers))
    return table


# ------------------------------------------------------------------------------------------------- pictures


def _curves(found: Stability, reduction: str) -> Markup:
    """Plot accuracy against k, a line for each view, over chance and the widest band of permutations."""
    views = list(dict.fromkeys(looked.view for looked in found.looked))
    shown = _of(found, reduction)
    with drawing(f"stability {reduction}"):
        figure, axes = new_figure(280 + 18 * ((len(shown) + 2) // 2), left=36)
        axes.grid(axis="y")
        _band(axes, shown)
        axes.axhline(1 / len(found.people), color=MUTED, linestyle=(0, (4, 3)), linewidth=1.2, label="chance")
        for looked in shown:
            index = views.index(looked.view)
            points = [one for one in looked.identified if one.accuracy.value is not None]
            ks, values = [one.k for one in points], [one.accuracy.value for one in points]
            low = [one.accuracy.low if one.accuracy.low is not None else float("nan") for one in points]
            high = [one.accuracy.high if one.accuracy.high is not None else float("nan") for one in points]
            colour = COLOURS[index % len(COLOURS)]
            axes.fill_between(ks, low, high, color=colour, alpha=0.13, linewidth=0)
            axes.plot(
                ks,
                values,
                color=colour,
                marker="osD^vPX*"[index % 8],
                markersize=4.5,
                linewidth=1.6,
                linestyle="solid" if index < len(COLOURS) else (0, (5, 2)),
                label=fitting(looked.view),
            )
        axes.set_xscale("log")
        axes.set_xticks(_ks(found), [str(k) for k in _ks(found)], minor=False)
        axes.set_xticks([], minor=True)
        axes.set_ylim(0, 1.03)
        legend_below(figure, axes, columns=2)
        return as_svg(
            figure, "Accuracy of attribution against the number of items; the numbers are in the table below."
        )


def _band(axes: Any, shown: list[Looked]) -> None:
    by_k: dict[int, tuple[float, float]] = {}
    for null in (null for looked in shown for null in looked.nulls):
        low, high = by_k.get(null.k, (1.0, 0.0))
        by_k[null.k] = (min(low, null.low), max(high, null.high))
    if by_k:
        lows, highs = zip(*(by_k[k] for k in sorted(by_k)), strict=True)
        axes.fill_between(sorted(by_k), lows, highs, color=MUTED, alpha=0.18, linewidth=0, label="permuted people")


def _confusion(found: Stability) -> tuple[str, int, Any] | None:
    """Give the view, group size and confusion of the first view at k = 1, where there is most to see."""
    for looked in found.looked:
        for one in looked.identified:
            if one.confusion:
                return looked.view, one.k, one.confusion
    return None


def _shares(found: Stability) -> Markup | None:
    known = [(name, share) for name, share in (("item", found.item_share), ("person", found.person_share))
             if share.value is not None]  # fmt: skip
    if not known:
        return None
    with drawing("variance shares"):
        names = [name for name, _ in known]
        figure, axes = new_figure(110, left=margin(names))
        for row, (_, share) in enumerate(known):
            axes.barh(row, share.value, height=0.5, color=COLOURS[0], label="share of variance" if row == 0 else None)
            if share.null is not None:
                axes.plot([share.null] * 2, [row - 0.38, row + 0.38], color=INK, linewidth=2,
                          label="by chance" if row == 0 else None)  # fmt: skip
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        legend_below(figure, axes, columns=2)
        return as_svg(figure, "Shares of variance of item and person beside their values by chance.")
