"""Cross-annotator preference optimisation (Chen et al. 2026, arXiv 2605.28802): what a person said, before what others
said of the same item, which is as valid and less theirs.

Known are the pairs, that the loss is of the DPO family, and that the reference is the model after supervised
fine-tuning; exact loss, settings and weights are not, so these are our reconstruction. Two forms, told by the pairs: an
adapter for each person, from pairs of this person; or one adapter for all, from pairs whose prompts end with the
annotator's tag, each with its mirror under the other one's tag.
"""  # noqa: D205

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raison.annotators.fit import Measure, Objective, Run, check, chosen_by, fit, in_bfloat16
from raison.annotators.policy import Policy, load_policy, log_probabilities, remembered, still, takes_trees, units_of
from raison.annotators.preference import Loss, floor, preference_losses, response_scores
from raison.annotators.preference_pair import PreferencePair
from raison.annotators.said import Texts, tokens_of_turns
from raison.annotators.trees import Floats, Said, Unit
from raison.annotators.wording import Wording
from raison.records import InputError
from raison.runs import digest, provenance
from raison.training.runs import Progress, begin, is_done, part_of

SLACK = 1e-4  # below the floor, of rounding, before a leak is reported; times the floor


class CapoConfig(msgspec.Struct, frozen=True):
    """How preferences are trained."""

    loss: Loss = "sigmoid"  # see `raison.annotators.preference.preference_losses`
    beta: float = 0.1  # how dear it is to leave the reference; a pair may have its own
    smoothing: float = 0.0  # share of pairs taken to be the wrong way round
    mean: bool = False  # score a response by the mean over its tokens, not their sum
    label_weight: float = 1.0  # what a token of the label counts in the preference
    explanation_weight: float = 1.0  # and any other one
    # Weight of the chosen response's mean -log p(token), which is added to each pair's loss. With 0 (plain DPO) labels
    # and the form of an answer are soon lost where other people's correct labels are rejected (docs, Annotators).
    anchor: float = 1.0
    epochs: int = 2  # passes over the items
    lr: float = 1e-5  # highest learning rate; it rises over the first 3 % of the steps and falls to 0 as a cosine
    batch: int = 16  # items per step, each with all its pairs
    weight_decay: float = 0.0
    patience: int | None = None  # epochs without a better score after which it ends; None = never
    max_tokens: int | None = None  # padded tokens that are computed at once; None = by device
    bf16: bool | None = None  # arithmetic in bfloat16; None = where the accelerator has it
    seed: int = 0


def capo(  # noqa: PLR0917
    model: str | Path,
    pairs: Sequence[PreferencePair],
    out: str | Path,
    config: CapoConfig | None = None,
    wording: Wording | None = None,
    measure: Measure | None = None,
    cache: str | Path | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Train a fine-tuned model to prefer what a person said, and save it with its tokenizer.

    The model as it is loaded is the reference; its log-probabilities are computed once, without dropout, and kept on
    disk by its weights' hash, so that trainings from the same model share them. Until the training is done everything
    is in `OUT.part`; interrupted, it goes on from the last epoch, with the same result. A prompt and all responses in
    its pairs are computed as one tree, where the model takes its mask, else each by itself; a response that stands in
    several pairs is computed once in either case.

    Args:
        model: a folder of `sft`: its adapter learns on, or all its weights if it has none.
        pairs: what is preferred.
        out: the folder of the model or adapter; its `raison.json` says how it was made.
        config: see `CapoConfig`.
        wording: finds the label in responses; needed where label and explanation do not count the same.
        measure: see `raison.annotators.sft.sft`.
        cache: folder of the reference's log-probabilities; default: `reference` beside `out`.
        trust_remote_code: run code that comes with the model.
        progress: called with the share that is done, and with what the trainer logs. Beside the loss these are `margin`
            (the mean m), `preferred` (the share of pairs with m > 0; one with m = 0, as all have before the first step,
            counts half), and `chosen` and `rejected`: how much more probable, in log, than under the reference. Where
            both fall, `anchor` holds them.

    Returns:
        `out`, which generators load.

    Raises:
        InputError: the model can't be loaded, no pair is left, a setting is wrong, or `out` holds something else.
        ValueError: label and explanation do not count the same, and no wording is given.
    """
    config = _checked(config or CapoConfig(), wording)
    if strange := [pair for pair in pairs if pair.weight < 0 or (pair.beta is not None and not pair.beta > 0)]:
        raise InputError(f"record {strange[0].record_id!r}: a pair's weight must be at least 0, its beta above 0")
    said_of = {"model": str(model), **msgspec.to_builtins(config)}
    frame = provenance({"command": "annotators capo", **said_of}, [], {})
    frame["data"] = {"pairs": len(pairs), "sha256": digest(pairs)}
    frame |= chosen_by(measure)
    folder = Path(out)
    if is_done(folder, frame):
        return folder
    dtype = "bfloat16" if config.bf16 else "float32"
    options: dict[str, Any] = {"max_tokens": config.max_tokens, "trust_remote_code": trust_remote_code}
    policy = load_policy(str(model), None, dtype=dtype, **options)
    still(policy.network)
    policy, laid = tokenised(policy, pairs, wording)
    if not laid:
        raise InputError("no pair is left to learn from" if not pairs else "every pair is too long")
    begin(part_of(folder), frame)
    kept = [pair for some in laid.values() for pair in some]
    place = Path(cache) if cache is not None else folder.parent / "reference"
    with torch.random.fork_rng():
        asked = [responses_in(some) for some in laid.values()]
        reference = remembered(policy, asked, place, bf16=bool(config.bf16), progress="reference")
    items = [pair_units(policy, some, reference, config.beta) for some in laid.values()]
    counts = {"pairs": len(kept), "items": len(items), "too_long": len(pairs) - len(kept)}
    fit(policy, items, preference(config), config, Run(folder, frame, counts, measure, progress))
    return folder


def _checked(config: CapoConfig, wording: Wording | None) -> CapoConfig:
    check(config)
    if config.loss not in get_args(Loss):
        raise InputError(f"unknown loss {config.loss!r}; expected {' or '.join(get_args(Loss))}")
    if not config.beta > 0 or not 0 <= config.smoothing < 0.5:
        raise InputError("beta must be above 0, smoothing at least 0 and below 0.5")
    if min(config.anchor, config.label_weight, config.explanation_weight) < 0:
        raise InputError("anchor, label_weight and explanation_weight must be at least 0")
    if config.label_weight != config.explanation_weight and wording is None:
        raise ValueError("a wording is needed to tell labels from explanations")
    return msgspec.structs.replace(config, bf16=in_bfloat16(config.bf16))


# --------------------------------------------------------------------------------------------------------- pairs


class Pair(NamedTuple):
    """A pair as tokens."""

    chosen: Said
    rejected: Said
    weight: float
    beta: float | None


def tokenised(
    policy: Policy, pairs: Sequence[PreferencePair], wording: Wording | None
) -> tuple[Policy, dict[str, list[Pair]]]:
    """Tokenise pairs, those of each item together, and settle whether the model takes trees of such lengths."""
    texts = [turn for pair in pairs for turn in _texts(pair)]
    said = tokens_of_turns(policy.tokenizer, texts, policy.limit, wording)
    laid: dict[str, list[Pair]] = {}
    for pair in pairs:
        chosen, rejected = _texts(pair)
        if chosen in said and rejected in said:
            one = Pair(said[chosen], said[rejected], pair.weight, pair.beta)
            laid.setdefault(pair.record_id, []).append(one)
    longest = max((len(one.prompt) + len(one.ids) for one in said.values()), default=0)
    return policy._replace(together=takes_trees(policy, longest)), laid


def _texts(pair: PreferencePair) -> tuple[Texts, Texts]:
    return (pair.prompt, pair.chosen), (pair.prompt, pair.rejected)


def responses_in(pairs: Sequence[Pair]) -> list[Said]:
    """Give the distinct responses of pairs."""
    return list(dict.fromkeys(said for pair in pairs for said in (pair.chosen, pair.rejected)))


def pair_units(policy: Policy, pairs: Sequence[Pair], reference: Mapping[Said, Floats], beta: float) -> list[Unit]:
    """Lay out the pairs of one item.

    Args:
        policy: the model.
        pairs: of one item.
        reference: log-probabilities of each response's tokens.
        beta: of pairs without their own.
    """
    found: list[Unit] = []
    for said, unit in units_of(policy, responses_in(pairs)):
        place = {one: index for index, one in enumerate(said)}
        own = [pair for pair in pairs if pair.chosen in place]
        found.append(
            unit._replace(
                reference=np.concatenate([reference[one] for one in said]),
                chosen=np.array([place[pair.chosen] for pair in own]),
                rejected=np.array([place[pair.rejected] for pair in own]),
                weight=np.array([pair.weight for pair in own], dtype=np.float32),
                beta=np.array([beta if pair.beta is None else pair.beta for pair in own], dtype=np.float32),
            )
        )
    return found


# ---------------------------------------------------------------------------------------------------------- loss


def preference(config: CapoConfig) -> Objective:
    """Give the loss of a batch: for each pair (pairs,) weight * loss(m) + anchor * mean -log p(chosen token)."""

    def objective(values: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Mapping[str, Tensor]]:
        size, response = int(batch["responses"]), batch["response"]
        weights = torch.where(batch["label"], config.label_weight, config.explanation_weight)
        ratios = response_scores(values - batch["reference"], response, size, weights, mean=config.mean)
        chosen, rejected = ratios[batch["chosen"]], ratios[batch["rejected"]]
        losses = preference_losses(chosen - rejected, batch["beta"], config.loss, config.smoothing) * batch["weight"]
        if config.anchor:
            means = response_scores(values, response, size, torch.ones_like(values), mean=True)
            losses = losses - config.anchor * means[batch["chosen"]] * (batch["counted"] > 0)
        preferred = ((chosen - rejected).sign() + 1) / 2
        told = {"margin": chosen - rejected, "preferred": preferred, "chosen": chosen, "rejected": rejected}
        return losses, told

    return objective


# ---------------------------------------------------------------------------------------------------------- leaks


class Leak(NamedTuple):
    """What symmetric pairs cost a model that is not told whose preference it is."""

    loss: float
    floor: float  # the least that is possible without knowing it
    leaks: bool  # the loss is below that: something beside the tag tells annotators apart


def margins(  # noqa: PLR0917
    model: str | Path,
    reference: str | Path,
    pairs: Sequence[PreferencePair],
    config: CapoConfig | None = None,
    wording: Wording | None = None,
    trust_remote_code: bool = False,
) -> NDArray[np.float64]:
    """Give the margin m of each pair: (pairs,), NaN for one that is too long.

    Args:
        model: a folder of `capo`.
        reference: the folder of `sft` that it was trained from.
        pairs: any, those of development items say.
        config: whose `mean`, `label_weight` and `explanation_weight` are taken.
        wording: see `capo`.
        trust_remote_code: run code that comes with the models.
    """
    config = _checked(config or CapoConfig(), wording)
    scores: list[dict[Texts, float]] = []
    for name in (model, reference):
        policy = load_policy(str(name), None, dtype="float32", trust_remote_code=trust_remote_code)
        policy, _ = tokenised(policy, pairs, wording)
        texts = [turn for pair in pairs for turn in _texts(pair)]
        said = tokens_of_turns(policy.tokenizer, texts, policy.limit, wording)
        values = log_probabilities(policy, [list(said.values())])
        scores.append({turn: _score(one, values[one], config) for turn, one in said.items()})
    gain = {turn: scores[0][turn] - scores[1][turn] for turn in scores[0].keys() & scores[1].keys()}
    missing = float("nan")
    return np.array([gain.get(one, missing) - gain.get(other, missing) for one, other in map(_texts, pairs)])


def _score(said: Said, values: Floats, config: CapoConfig) -> float:
    weights = np.where(said.label, config.label_weight, config.explanation_weight)
    total = float((values * weights).sum(dtype=np.float64))
    return total / max(float(weights.sum()), 1e-30) if config.mean else total


def unmirrored(pairs: Sequence[PreferencePair]) -> list[PreferencePair]:
    """Give the pairs whose mirror is missing: the same two responses to the item, preferred the other way round."""
    known = {(pair.record_id, pair.annotator, pair.chosen, pair.rejected_annotator, pair.rejected) for pair in pairs}
    return [
        pair
        for pair in pairs
        if (pair.record_id, pair.rejected_annotator, pair.rejected, pair.annotator, pair.chosen) not in known
    ]


def untagged(pairs: Sequence[PreferencePair], untag: Callable[[PreferencePair], str]) -> list[PreferencePair]:
    """Give pairs with the prompts that `untag` makes of them: those in which nobody is named."""
    return [msgspec.structs.replace(pair, prompt=untag(pair)) for pair in pairs]


def leak_of(found: NDArray[np.floating[Any]], pairs: Sequence[PreferencePair], config: CapoConfig) -> Leak:
    """Say whether a model without tags prefers each person's own all the same, which it then knows by a leak.

    Where the prompts of a pair and its mirror are the same, their margins are m and -m, and the mean of their losses is
    at least that of the margin 0, since these are convex: log 2 for the sigmoid. Each pair counts once, with the run's
    beta.

    Args:
        found: (pairs,) margins under prompts without tags, see `margins` and `untagged`.
        pairs: each with its mirror.
        config: of the run.

    Raises:
        ValueError: a pair has no mirror, or a margin is NaN.
    """
    if alone := unmirrored(pairs):
        raise ValueError(f"record {alone[0].record_id!r}: a pair of {alone[0].annotator} has no mirror")
    if not np.isfinite(found).all():
        raise ValueError("every pair needs a margin")
    losses = preference_losses(torch.from_numpy(found.astype(np.float64)), config.beta, config.loss, config.smoothing)
    least = floor(config.beta, config.loss)
    return Leak(float(losses.mean()), least, float(losses.mean()) < least * (1 - SLACK))
