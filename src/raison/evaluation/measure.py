"""What one record says: every metric of one source, and beside it the references it must be read with.

A value stands under the metric's name, its references under `metric.reference`, and a metric at a share of words under
`metric@share`. NaN means undefined for this record.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from raison.evaluation.alignment import (
    Rule,
    against,
    auprc,
    chance,
    chance_of_ranking,
    f1,
    human_ceiling,
    iou,
    merged,
    overlap_counts,
    precision,
    recall,
    span_counts,
)
from raison.evaluation.faithfulness import aopc, comprehensiveness, flip_rate, flips
from raison.evaluation.observe import Chosen, Observation, answers
from raison.rationales import REFUSED, SILENT, Rationale
from raison.words import Mask

Metrics = dict[str, float]
MASK_METRICS: dict[str, Callable[..., Any]] = {"f1": f1, "precision": precision, "recall": recall, "iou": iou}


class Agreement:
    """The people of one record: what they marked, and what does not depend on the source scored against them."""

    def __init__(self, people: Mask, seen: Mask, sizes: Sequence[int], rule: Rule, seed: int) -> None:
        self.people, self.seen, self.sizes, self.seed = people, seen, sizes, seed
        self.rule: Rule = rule
        everything = np.ones(people.shape[1], dtype=np.bool_)
        self.fixed: Metrics = {}
        for name, metric in MASK_METRICS.items():
            self.fixed[f"{name}.human"] = human_ceiling(metric, people, rule)
            self.fixed[f"{name}.select_all"] = against(metric, everything, people, rule)
        self.ranked: Metrics = {}

    def measure(self, choice: Chosen) -> Metrics:
        """Score one source against the people of the record."""
        found = dict(self.fixed)
        eligible = self.seen if choice.scores is not None else np.ones_like(self.seen)  # who has no scores sees all
        size = int(choice.mask.sum())
        for name, metric in MASK_METRICS.items():
            found[name] = against(metric, choice.mask, self.people, self.rule)
            found[f"{name}.chance"] = chance(metric, size, self.people, self.rule, eligible=eligible, seed=self.seed)
        if choice.scores is not None:
            found |= self._ranking(choice.scores)
        overlap = self._pooled(overlap_counts, choice.mask)
        spans = self._pooled(partial(_each_span_counts, sizes=self.sizes), choice.mask)
        found |= dict(zip(("overlap", "chosen", "marked"), overlap, strict=True))
        found |= dict(zip(("spans_hit", "spans_chosen", "spans_marked"), spans, strict=True))
        return found

    def _ranking(self, scores: NDArray[Any]) -> Metrics:
        if not self.ranked:
            self.ranked = {
                "auprc.chance": chance_of_ranking(auprc, self.people, self.rule, seed=self.seed),
                "auprc.human": human_ceiling(auprc, self.people, self.rule),
            }
        return {"auprc": against(auprc, scores, self.people, self.rule), **self.ranked}

    def _pooled(self, count: Callable[[Mask, Mask], NDArray[np.float64]], mask: Mask) -> list[float]:
        """Give counts to be pooled over records: summed over people, or those of the best or of the merged one."""
        if self.rule in ("majority", "union"):
            return count(mask, merged(self.people, self.rule)[None])[0].tolist()
        rows = count(mask, self.people)
        chosen = np.nanmax(rows[:, 1])
        rows[np.isnan(rows[:, 0])] = [0.0, chosen, 0.0]  # nothing that was chosen is theirs
        if self.rule == "best":
            return rows[np.argmax(rows[:, 0] / np.maximum(rows[:, 1] + rows[:, 2], 1))].tolist()
        return rows.sum(axis=0).tolist()


def _each_span_counts(mask: Mask, people: Mask, sizes: Sequence[int]) -> NDArray[np.float64]:
    return np.array([span_counts(mask, row, sizes) for row in people]).reshape(-1, 3)


def measure_reply(said: Rationale) -> Metrics:
    """Give what became of a model's reply to the request for its words; nothing where none was asked for.

    `reply_missing` is 1 where no reply came; else `reply_unreadable`, `reply_refused` and `reply_cut` are 0 or 1. Of a
    reply that was read: the shares of its items that are not in the text (`reply_hallucinated`), are from the question
    alone (`reply_from_prompt`), stand in the text in part (`reply_partial`) or but for a letter (`reply_fuzzy`), all
    undefined without items; the share of words chosen (`reply_share`); and where a number of words was asked for, 0 or
    1 for too many (`reply_over`) and too few (`reply_under`). Where the model was asked for its answer after that, 0 or
    1 for none that is a label (`reply_then_unreadable`) and, if there is one, for the same as without explaining
    (`reply_then_agrees`).
    """
    notes = said.notes
    if "reply" not in notes:
        return {"reply_missing": 1.0} if (said.failure or "").startswith(SILENT) else {}
    refused = said.failure == REFUSED
    found: Metrics = {
        "reply_missing": 0.0,
        "reply_unreadable": float(said.failure is not None and not refused),
        "reply_refused": float(refused),
        "reply_cut": float(bool(notes.get("cut"))),
    }
    if said.failure is None:
        items, words = notes.get("items", 0), sum(mask.size for mask in said.words.values())
        for what in ("hallucinated", "from_prompt", "partial", "fuzzy"):
            found[f"reply_{what}"] = notes.get(what, 0) / items if items else np.nan
        found["reply_share"] = sum(int(mask.sum()) for mask in said.words.values()) / words if words else np.nan
        if notes.get("asked") is not None:
            found |= {f"reply_{side}": float(notes.get(side, 0) > 0) for side in ("over", "under")}
    if "then" in notes:
        found["reply_then_unreadable"] = float(notes["then"] is None)
        known = notes["then"] is not None and notes.get("alone") is not None
        found["reply_then_agrees"] = float(notes["then"] == notes["alone"]) if known else np.nan
    return found


def measure_behaviour(seen: Observation, source: str, choice: Chosen, ratios: Sequence[float]) -> Metrics:
    """Give what taking words away, or keeping only them, does to the model's own decision.

    Args:
        seen: the model's answers for the record.
        source: whose words.
        choice: what the source chose.
        ratios: the shares of words of `removed_steps` and `kept_steps`; none = the model gives labels alone, so drops
            of probability are undefined, and answers that are no label are counted (`flip_unreadable`).
    """
    flipped, dropped = partial(_flipped, seen), partial(_dropped, seen) if ratios else _undefined
    found: Metrics = {}
    for away, kind in ((True, "removed"), (False, "kept")):
        rate = "flip_rate" if away else "sufficiency_flip_rate"
        drop = "comprehensiveness" if away else "sufficiency"
        references = {"random": (f"random_{kind}", source), "full": ("full", "")}
        if away:
            references |= {"human": ("people", ""), "least": ("least", source)}
        measures = {rate: flipped, drop: dropped}
        if away and not ratios:
            measures["flip_unreadable"] = partial(_unreadable, seen)
        for metric, measure in measures.items():
            found[metric] = measure((kind, source))
            found |= {f"{metric}.{name}": measure(slot) for name, slot in references.items() if slot in seen}
        if choice.scores is not None and not ratios:
            found[f"aopc_{drop}"] = np.nan
        elif choice.scores is not None:
            steps = _drops(seen, (f"{kind}_steps", source))
            found |= {f"{drop}@{ratio:g}": float(step) for ratio, step in zip(ratios, steps[0], strict=True)}
            found[f"aopc_{drop}"] = float(aopc(steps)[0])
    if ("one_out", "") in seen and choice.scores is not None:
        found["tau_loo"] = rank_correlation(choice.scores, _drops(seen, ("one_out", ""))[0])
    return found


def _flipped(seen: Observation, slot: tuple[str, str]) -> float:
    """Give the share of maskings after which the answer is another; NaN where there is no masking.

    Without a valid answer to the whole it is NaN; maskings without one are left out.
    """
    rate = flip_rate(flips(answers(seen["whole", ""]), answers(seen[slot])[None]))
    return np.nan if rate is None else rate


def _unreadable(seen: Observation, slot: tuple[str, str]) -> float:
    """Give the share of maskings without a valid answer; NaN where there is no masking, or none to the whole."""
    if not len(seen[slot]) or np.isnan(seen["whole", ""]).any():
        return np.nan
    return float(np.isnan(seen[slot]).any(axis=1).mean())


def _undefined(_: tuple[str, str]) -> float:
    return np.nan


def _dropped(seen: Observation, slot: tuple[str, str]) -> float:
    """Give the mean drop of the answer's probability over maskings; NaN where there is no masking."""
    drops = _drops(seen, slot)
    return float(drops.mean()) if drops.size else np.nan


def _drops(seen: Observation, slot: tuple[str, str]) -> NDArray[np.float64]:
    """Give the drop of the answer's probability for each masking: (1, maskings)."""
    answer = seen["whole", ""].argmax(axis=1)
    return comprehensiveness(seen["whole", ""][0, answer], seen[slot][:, answer[0]][None])


def rank_correlation(scores: NDArray[Any], drops: NDArray[np.float64]) -> float:
    """Give Kendall's tau-b of scores with the drops of leaving each scored word out (Jain and Wallace 2019).

    Args:
        scores: (words,), NaN = not scored.
        drops: (words,) drop of the answer's probability when the word is taken away.

    Returns:
        NaN where either is constant, or where there are fewer than two words.
    """
    known = ~np.isnan(scores)
    scored, drops = scores[known], drops[known]
    if len(scored) < 2 or np.ptp(scored) == 0 or np.ptp(drops) == 0:
        return np.nan
    result: Any = kendalltau(scored, drops)
    return float(result.statistic)
