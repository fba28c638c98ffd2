"""What went wrong in a model's replies: rates per source, each with the number it is a share of."""

from collections.abc import Iterable, Sequence
from typing import Any

from raison.prompting.parse import CUT, EMPTY, UNREADABLE
from raison.rationales import REFUSED, Rationale

Rate = dict[str, float | int | None]  # "value" (None where n is 0) and "n"


def tally(rationales: Iterable[Rationale]) -> dict[str, dict[str, Rate]]:
    """Count what happened to the replies of each source.

    Of the records: `not_asked` (no budget or no answer to explain), `no_reply` (of those asked). Of the replies:
    `parse_failure` (empty, cut off or without a list; refusals apart), `refusal`, `cut`. Of the items in the replies:
    `hallucinated`, `partial`, `from_prompt`, `fuzzy`. Of the replies that were read and had a budget: `over_budget`,
    `under_budget`. And `mask_fraction`, the mean share of its record's words that a rationale has, over replies that
    were read: one that could not be read has no rationale, which is not one of no words.

    Args:
        rationales: of any sources; those that were not prompted (without `asked` in their notes) are left out.

    Returns:
        source -> rate -> {"value", "n"}; a share of nothing is None.
    """
    groups: dict[str, list[Rationale]] = {}
    for item in rationales:
        if "asked" in item.notes:
            groups.setdefault(item.source, []).append(item)
    return {source: _rates(group) for source, group in groups.items()}


def _rates(group: Sequence[Rationale]) -> dict[str, Rate]:
    replies = [item for item in group if "reply" in item.notes]
    silent = [item for item in group if (item.failure or "").startswith("no reply")]
    idle = len(group) - len(replies) - len(silent)
    read = [item for item in replies if item.failure is None]
    bound = [item.notes for item in read if item.notes["asked"] is not None]
    items = sum(item.notes["items"] for item in read)
    fractions = [share for share in map(_fraction, read) if share is not None]
    counted = ("hallucinated", "partial", "from_prompt", "fuzzy")
    return {
        "not_asked": _rate(idle, len(group)),
        "no_reply": _rate(len(silent), len(group) - idle),
        "parse_failure": _rate(sum(item.failure in (EMPTY, CUT, UNREADABLE) for item in replies), len(replies)),
        "refusal": _rate(sum(item.failure == REFUSED for item in replies), len(replies)),
        "cut": _rate(sum(bool(item.notes["cut"]) for item in replies), len(replies)),
        **{name: _rate(sum(item.notes[name] for item in read), items) for name in counted},
        "over_budget": _rate(sum(note["over"] > 0 for note in bound), len(bound)),
        "under_budget": _rate(sum(note["under"] > 0 for note in bound), len(bound)),
        "mask_fraction": _rate(sum(fractions), len(fractions)),
    }


def _rate(part: float, n: int) -> Rate:
    return {"value": part / n if n else None, "n": n}


def _fraction(item: Rationale) -> float | None:
    words: Any = sum(mask.size for mask in item.words.values())
    return float(sum(mask.sum() for mask in item.words.values()) / words) if words else None
