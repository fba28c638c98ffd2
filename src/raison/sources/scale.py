"""Ordinal labels: whether the labels of a set are steps of a scale, and which number each step has."""

import re
from collections.abc import Sequence

from raison.records import InputError

_NUMBER = r"[+\-\u2212]?\d+(?:\.\d+)?"  # U+2212 is the minus sign that word processors write
_STEP = re.compile(rf"\s*({_NUMBER})(?!\w)(?:\s*[-\u2013:.)(=]?\s*[^\W\d].*)?\s*", re.DOTALL)  # and what it means
_RANGE = re.compile(r"\s*([+\-\u2212]?\d+)\s*\.\.\s*([+\-\u2212]?\d+)\s*")
_LONGEST = 1001  # steps of a range: more is a slip of the pen


def ordinal_scale(label_set: Sequence[str]) -> dict[str, float] | None:
    """Give the number of each label of an ordinal set; None where the labels are only names.

    Labels are ordinal if each is a number, or begins with one (`-5`, `+2`, `1 (not at all)`, `3 - neutral`,
    `5: fully`), and no two have the same. A single label is no scale. Whether `0`, `1`, `2` count something, or are
    the numbers of classes, can't be seen from them: give classes their names.

    Args:
        label_set: the labels, in any order.

    Returns:
        Label -> number, in the order of the numbers.
    """
    steps = {label: match for label in label_set if (match := _STEP.fullmatch(label))}
    numbers = {label: _number(match[1]) for label, match in steps.items()}
    if len(numbers) < 2 or len(numbers) < len(set(label_set)) or len(set(numbers.values())) < len(numbers):
        return None
    return dict(sorted(numbers.items(), key=lambda pair: pair[1]))


def spelled(label: str, label_set: Sequence[str]) -> str:
    """Give a label as its set spells it: `4.0`, `+4` and `\u22124` are numbers of a scale that has `4` and `-4`.

    A label that is no number, or not on the scale, stays as it is.
    """
    if label in label_set or not re.fullmatch(rf"\s*{_NUMBER}\s*", label):
        return label
    scale = ordinal_scale(label_set) or {}
    return next((step for step, number in scale.items() if number == _number(label)), label)


def in_range(text: str) -> tuple[str, ...] | None:
    """Give the labels of a range such as `-5..5`, ends included; None where the text is no range.

    Raises:
        InputError: its end does not lie above its start, or it has more than a thousand steps.
    """
    ends = _RANGE.fullmatch(text)
    if ends is None:
        return None
    first, last = (int(_number(end)) for end in ends.groups())
    if not first < last < first + _LONGEST:
        raise InputError(f"label set {text!r}: expected a range from low to high, such as -5..5")
    return tuple(str(step) for step in range(first, last + 1))


def _number(text: str) -> float:
    return float(text.replace("\u2212", "-"))
