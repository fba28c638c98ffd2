"""Numbers and foreign texts as a reader sees them: nothing hidden in them, nothing too long, undefined never as 0."""

import math
import re

from markupsafe import Markup, escape

UNDEFINED = "–"
LONGEST = 300  # characters of a name or note that are shown

# Controls that would be invisible, or would reorder the text around them: C0 and C1 (without tab and line feeds), marks
# of direction, zero-width space, line and paragraph separators, byte-order mark; and lone surrogates.
HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]"
)


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with a true minus sign; an en dash where it is undefined."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def short(value: float | None, digits: int = 3) -> str:
    """Write a number without the zero before its point."""
    return re.sub(r"^(−?)0\.", r"\1.", number(value, digits))


def interval(low: float | None, high: float | None, digits: int = 3) -> str:
    """Write an interval; empty where either end is undefined."""
    if low is None or high is None:
        return ""
    return f"[{number(low, digits)}, {number(high, digits)}]"


def probability(value: float | None) -> str:
    """Write a p-value; small ones as `< 0.001`."""
    return "< 0.001" if value is not None and value < 0.001 else number(value)


def shorten(text: str, longest: int = LONGEST) -> str:
    """Cut a long text and say how long it was."""
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"


def plain(text: str, longest: int = LONGEST) -> str:
    """Make a foreign text safe for a terminal or a plot: one line, shortened, hidden characters as their code."""
    return HIDDEN.sub(lambda hit: f"<{_code(hit)}>", " ".join(shorten(text, longest).split()))


def within(title: str) -> str:
    """Write a title as it stands within a sentence: `flip rate`, but `F1` and `AOPC sufficiency`."""
    return title[:1].lower() + title[1:] if title[1:2].islower() else title


def shown(text: str, longest: int = LONGEST) -> Markup:
    """Make a foreign text safe for HTML: escaped, isolated, shortened, hidden characters as a visible code."""
    escaped = str(escape(shorten(text, longest)))
    return Markup("<bdi>{}</bdi>").format(
        Markup(HIDDEN.sub(lambda hit: f'<span class="hidden-character">{_code(hit)}</span>', escaped))
    )


def _code(hit: re.Match[str]) -> str:
    return f"U+{ord(hit[0]):04X}"
