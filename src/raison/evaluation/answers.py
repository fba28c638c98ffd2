"""Is it still the same answer? Two texts compared as question answering compares them."""

import re
import string
from collections import Counter
from collections.abc import Iterable
from typing import Literal

import msgspec
import numpy as np

from raison.evaluation.faithfulness import flip_rate

REDRAWS = 5  # random rationales of each size without which outputs are written anew; writing is slow


class Rewriting(msgspec.Struct, frozen=True):
    """How outputs are written anew without words, and when one still is the original."""

    rewrite: bool = True  # off: log-probabilities alone, which is many times faster
    match: Literal["exact", "f1"] = "exact"  # the same words after normalisation, or enough of them
    least: float = 0.5  # token F1 from which two outputs match, with `match` f1
    redraws: int = REDRAWS  # random rationales of each size


def normalised(text: str) -> list[str]:
    """Give the words of an answer as SQuAD's evaluation compares them (Rajpurkar et al. 2016, section 6.1).

    Lower case; ASCII punctuation and the articles a, an and the are left out.
    """
    plain = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def token_f1(one: str, other: str) -> float:
    """Give the F1 of two answers' normalised words as bags; without words in either, 1 if both have none, else 0."""
    first, second = normalised(one), normalised(other)
    if not first or not second:
        return float(first == second)
    common = (Counter(first) & Counter(second)).total()
    return 2 * common / (len(first) + len(second))


def matches(original: str, output: str, how: Rewriting) -> bool:
    """Say whether an output still is the original one."""
    if how.match == "f1":
        return token_f1(original, output) >= how.least
    return normalised(original) == normalised(output)


def flipped(original: str, outputs: Iterable[str | None], how: Rewriting) -> float:
    """Give the share of outputs that no longer match the original; None among them is left out, NaN if none is left."""
    rate = flip_rate([float(not matches(original, text, how)) for text in outputs if text is not None])
    return np.nan if rate is None else rate
