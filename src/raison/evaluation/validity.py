"""Can the metrics say anything here? The gate that is passed before any table of faithfulness.

A model that gives nearly one answer whatever it reads, or that answers the same when everything is masked, flips no
label for any rationale: then no method can score, and a ranking of methods is noise.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from scipy import stats

from raison.evaluation.faithfulness import MIN_ROOM, Labels
from raison.evaluation.statistics import Estimate, wilson

Verdict = Literal["too few", "collapsed", "weak", "ok"]

MIN_RECORDS = 30  # below, flip rates must differ by 23 points to be told apart (discordance 0.2)
COLLAPSED_SHARE = 0.9
COLLAPSED_FLIPS = 0.1
LEVEL = 0.95  # of the test against the majority class


class Validity(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a model's predictions on the records judged, and what may be concluded from them."""

    verdict: Verdict
    reasons: tuple[str, ...]  # in plain words, the weightiest first; never empty
    rankings_withheld: bool  # of any family
    withheld: dict[str, str]  # family ("alignment", "flips", "probabilities") -> why its rankings are withheld
    n: int  # records
    invalid_rate: float | None  # share without a valid answer; None for no records
    predicted_shares: dict[str, float]  # label -> share of the valid answers
    share_max: float | None  # the largest of them; None without a valid answer
    normalised_entropy: float | None  # H(predicted) / log C, 1 = all labels alike; None for fewer than two labels
    effective_labels: float | None  # exp H(predicted)
    kl_to_gold: float | None  # KL(predicted || gold) in nats; None = no gold, or a predicted label that gold lacks
    accuracy: Estimate | None  # None = unknown, no gold labels; an invalid answer is wrong
    majority_share: float | None  # accuracy of always answering the most frequent gold label
    accuracy_p: float | None  # exact binomial, one-sided: accuracy is no better than that
    macro_f1: float | None  # mean F1 over gold labels
    majority_macro_f1: float | None  # the same of always answering the most frequent gold label
    flip_rate_full: float | None  # labels that change when every word is masked; None = not measured
    flip_rate_random: float | None
    room: float | None  # between the two: what a rationale can show


def assess(
    predicted: Labels,
    gold: Labels,
    label_set: Sequence[str],
    *,
    flip_rate_full: float | None = None,
    flip_rate_random: float | None = None,
) -> Validity:
    """Judge whether a model's predictions leave faithfulness anything to measure.

    The verdict is the first that holds: `too few` (under 30 valid answers), `collapsed` (90 % or more of the answers
    are one label, or masking everything flips under 10 %), `weak` (accuracy not significantly above the majority class,
    at 5 %), else `ok`. Rankings are withheld for everything where the records are too few, for flips and probabilities
    where the predictions have collapsed, and for flips where full and random masking are under 5 points apart.

    Args:
        predicted: (n,) labels on the whole input; None = no valid answer.
        gold: (n,) labels; None = unknown, such records count for nothing that needs gold.
        label_set: labels that the model can answer; those that occur are added.
        flip_rate_full: share of labels flipped by masking every word; None = not measured.
        flip_rate_random: share flipped by random words, as many as the rationales have; None = not measured.

    Raises:
        ValueError: `predicted` and `gold` differ in length, or a rate is outside [0, 1].
    """
    answers, truth = list(predicted), list(gold)
    if len(answers) != len(truth):
        raise ValueError(f"{len(answers)} predictions do not fit {len(truth)} gold labels")
    for rate in (flip_rate_full, flip_rate_random):
        if rate is not None and not 0 <= rate <= 1:
            raise ValueError(f"a flip rate must be in [0, 1], got {rate}")
    known = [(answer, label) for answer, label in zip(answers, truth, strict=True) if label is not None]
    shares = _shares(answers, label_set)
    accuracy, majority, p = _accuracy(known)
    room = None if flip_rate_full is None or flip_rate_random is None else flip_rate_full - flip_rate_random
    valid = sum(answer is not None for answer in answers)
    few = _few(valid)
    collapsed = _collapsed(shares, flip_rate_full)
    weak = _weak(accuracy, majority, p)
    withheld = _withheld(few, collapsed, _cramped(room, flip_rate_full, flip_rate_random))
    verdict: Verdict = "too few" if few else "collapsed" if collapsed else "weak" if weak else "ok"
    return Validity(
        verdict=verdict,
        reasons=_reasons([*few, *collapsed, *weak], accuracy, majority, flip_rate_full, withheld),
        rankings_withheld=bool(withheld),
        withheld=withheld,
        n=len(answers),
        invalid_rate=1 - valid / len(answers) if answers else None,
        predicted_shares=shares,
        share_max=max(shares.values()) if valid else None,
        normalised_entropy=_entropy(shares) / math.log(len(shares)) if valid and len(shares) > 1 else None,
        effective_labels=math.exp(_entropy(shares)) if valid else None,
        kl_to_gold=_divergence(shares, [label for _, label in known]) if valid else None,
        accuracy=accuracy,
        majority_share=majority,
        accuracy_p=p,
        macro_f1=_macro_f1(known),
        majority_macro_f1=_macro_f1([(_majority(known), label) for _, label in known]),
        flip_rate_full=flip_rate_full,
        flip_rate_random=flip_rate_random,
        room=room,
    )


# ------------------------------------------------------------------------------------------------ reasons


def _few(valid: int) -> list[str]:
    if valid >= MIN_RECORDS:
        return []
    return [f"only {valid} records have a valid prediction; under {MIN_RECORDS} hardly any difference can be resolved"]


def _collapsed(shares: dict[str, float], full: float | None) -> list[str]:
    found: list[str] = []
    label = max(shares, key=lambda name: shares[name]) if shares else ""
    if shares and shares[label] >= COLLAPSED_SHARE - 1e-12:
        found.append(f"the model answers {label!r} in {shares[label]:.1%} of the records, whatever they say")
    if full is not None and full < COLLAPSED_FLIPS:
        found.append(f"masking every word changes only {full:.1%} of the answers, so no rationale can change more")
    return found


def _weak(accuracy: Estimate | None, majority: float | None, p: float | None) -> list[str]:
    if accuracy is None or accuracy.value is None or p is None or p < 1 - LEVEL:
        return []
    return [
        f"accuracy {accuracy.value:.1%} is not significantly above always answering the most frequent label "
        f"({majority:.1%}; p = {p:.2g}, n = {accuracy.n})"
    ]


def _cramped(room: float | None, full: float | None, random: float | None) -> list[str]:
    if room is None or room >= MIN_ROOM - 1e-12:
        return []
    return [
        f"masking everything flips {full:.1%} and random words {random:.1%}: no room for a rationale to show itself"
    ]


def _withheld(few: list[str], collapsed: list[str], cramped: list[str]) -> dict[str, str]:
    """Give family -> reason; a family that may be ranked is absent."""
    reasons = {"alignment": few, "flips": few or collapsed or cramped, "probabilities": few or collapsed}
    return {family: found[0] for family, found in reasons.items() if found}


def _reasons(
    found: list[str], accuracy: Estimate | None, majority: float | None, full: float | None, withheld: dict[str, str]
) -> tuple[str, ...]:
    """Put the faults first, then what is known of a sound model, then what is not known."""
    if accuracy is not None and accuracy.value is not None and not found:
        found = [f"accuracy {accuracy.value:.1%} is significantly above the most frequent label ({majority:.1%})"]
    found += [reason for reason in withheld.values() if reason not in found][:1]
    if accuracy is None:
        found = [*found, "accuracy unknown: no record has a gold label"]
    if full is None:
        found = [*found, "masking every word was not measured"]
    return tuple(found)


# ------------------------------------------------------------------------------------------------ numbers


def _shares(answers: Sequence[str | None], label_set: Sequence[str]) -> dict[str, float]:
    counts = Counter(answer for answer in answers if answer is not None)
    total = max(counts.total(), 1)
    return {label: counts[label] / total for label in dict.fromkeys([*label_set, *counts])}


def _entropy(shares: dict[str, float]) -> float:
    return -sum(share * math.log(share) for share in shares.values() if share > 0)


def _divergence(shares: dict[str, float], gold: list[str]) -> float | None:
    reference = _shares(gold, ())
    present = {label: share for label, share in shares.items() if share > 0}
    if any(label not in reference for label in present):
        return None
    return sum(share * math.log(share / reference[label]) for label, share in present.items())


def _majority(known: list[tuple[str | None, str]]) -> str | None:
    return Counter(label for _, label in known).most_common(1)[0][0] if known else None


def _accuracy(known: list[tuple[str | None, str]]) -> tuple[Estimate | None, float | None, float | None]:
    """Give accuracy, that of the majority class, and the binomial p-value that the first is no higher."""
    if not known:
        return None, None, None
    n, majority = len(known), _majority(known)
    correct = sum(answer == label for answer, label in known)
    share = sum(label == majority for _, label in known) / n
    p = float(stats.binomtest(correct, n, share, alternative="greater").pvalue)
    return wilson(correct, n, level=LEVEL), share, p


def _macro_f1(known: Sequence[tuple[str | None, str]]) -> float | None:
    """Give the mean over gold labels of 2 TP / (predicted + gold); None without gold."""
    if not known:
        return None
    predicted, gold = Counter(answer for answer, _ in known), Counter(label for _, label in known)
    hits = Counter(label for answer, label in known if answer == label)
    return float(np.mean([2 * hits[label] / (predicted[label] + gold[label]) for label in gold]))
