"""Input marginalisation: how much evidence for a label is lost when words give way to whatever else might stand there.

Kim et al. 2020 ("Interpretation of NLP models through input marginalization"), for one word; Chen et al. 2023 (UIMER,
section 3.2) replace all words of a set together. Everything is computed in log space, so that neither a probability
near 0 nor one near 1 loses its gradient.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raison.attribution.gradients import Scored
from raison.attribution.target import Target
from raison.masking import ModelInput
from raison.models.classifier import LOADING_ERRORS, expect_folder, expect_weights, first_line
from raison.models.scorer import Scorer
from raison.records import InputError
from raison.words import Floats, Ints, Mask, Tokens

Replacement = Literal["mask", "uniform", "prior", "masked-lm"]
Weights = Literal["unbiased", "renormalised"]
DRAWS = 4
Candidates = Mapping[str, tuple[Ints, NDArray[np.float64]]]  # record -> ids and probabilities (tokens, candidates)


class Draws(NamedTuple):
    """What stands in the place of some tokens of a record, several times."""

    ids: Ints  # (draws, tokens): the whole inputs
    log_weights: NDArray[np.float64]  # (draws,), of a mean: their exponentials add up to 1


# ---------------------------------------------------------------------------------------------------- mathematics


def log_odds(log_p: Tensor, log_not: Tensor) -> Tensor:
    """Give the odds of a probability as a base-2 logarithm, from log p and log(1 - p), of any shape."""
    return (log_p - log_not) / math.log(2)


def marginal_log_odds(log_p: Tensor, log_not: Tensor, log_weights: Tensor) -> Tensor:
    """Give the log-odds of the mean probability: lo(sum over s of w_s p_s), in base 2.

    Kim et al. 2020, eq. 4, with a sample for the sum over the vocabulary; UIMER's m_R and m_N.

    Args:
        log_p: (..., draws), of the label given each replaced input.
        log_not: (..., draws), log(1 - p) of the same, so that nothing is lost near p = 1.
        log_weights: (..., draws); their exponentials add up to 1.
    """
    return log_odds(torch.logsumexp(log_p + log_weights, dim=-1), torch.logsumexp(log_not + log_weights, dim=-1))


def log_probabilities(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Give log p and log(1 - p) of one label of each row.

    Args:
        logits: (rows, labels).
        labels: (rows,) indices.
    """
    every = torch.log_softmax(logits.float() if logits.dtype != torch.float64 else logits, dim=-1)
    chosen = torch.nn.functional.one_hot(labels, logits.shape[-1]).bool()
    return every[chosen], torch.logsumexp(every.masked_fill(chosen, -math.inf), dim=-1)


# -------------------------------------------------------------------------------------------------- replacements


class Replacer:
    """Draws tokens for the place of others.

    Args:
        kind: `mask` (the tokenizer's mask token, else its unknown one; a single draw), `uniform` (any token of the
            vocabulary), `prior` (by the tokens' frequency in `corpus`), or `masked-lm` (by what a masked language model
            expects at that place of the record, see `candidates_of`).
        tokenizer: of the model. Its special tokens, and those named as unused, are never drawn.
        corpus: texts as the model reads them, for `prior`.
        candidates: for `masked-lm`.
        weights: of the draws: `unbiased`, all alike, since draws already come as often as they are likely; or
            `renormalised`, as the published code of UIMER has it: the draws' own probabilities, made to add up to 1 at
            each place, and averaged over places (section 3.2). For `prior` that counts a probability twice.

    Raises:
        InputError: the kind is unknown, or what it needs is missing.
    """

    def __init__(
        self,
        kind: str,
        tokenizer: Any,
        corpus: Sequence[Tokens] = (),
        candidates: Candidates | None = None,
        weights: str = "unbiased",
    ) -> None:
        expect_names(kind, weights)
        self.kind, self.weights, self.candidates = kind, weights, candidates
        self.name = kind
        found = (tokenizer.mask_token_id, tokenizer.unk_token_id)
        self.mask = next((int(index) for index in found if index is not None), -1)
        if kind == "mask" and self.mask < 0:
            raise InputError("the tokenizer has neither a mask nor an unknown token; use uniform or prior")
        if kind == "masked-lm" and candidates is None:
            raise InputError("masked-lm replacements need a language model with the same tokenizer: masked-lm:NAME")
        self.known = drawable(tokenizer)
        counts = np.ones(len(self.known))
        if kind == "prior":
            inside = [row.ids[row.word >= 0] for row in corpus]
            counts = np.bincount(np.concatenate([*inside, np.empty(0, dtype=np.int64)]), minlength=self.known.max() + 1)
            counts = counts[self.known].astype(np.float64)
            if not counts.any():
                raise InputError("prior replacements need texts to count tokens in")
        self.probabilities = counts / counts.sum()
        self._steps = np.cumsum(self.probabilities)

    def draw(self, tokens: Tokens, chosen: Mask, draws: int, rng: np.random.Generator) -> Draws:
        """Replace the chosen tokens (tokens,) together, `draws` times; `mask` is one draw, whatever is asked for."""
        places = np.flatnonzero(chosen)
        draws = 1 if self.kind == "mask" else draws
        ids = np.repeat(tokens.ids[None], draws, axis=0)
        if self.kind == "mask":
            ids[:, places] = self.mask
            return Draws(ids, np.zeros(1))
        if self.kind == "masked-lm":
            assert self.candidates is not None
            table, chances = self.candidates[tokens.grid.record_id]
            found, expected = table[places], chances[places]
            picked = (rng.random((draws, len(places), 1)) > np.cumsum(expected, axis=1)[None, :, :-1]).sum(axis=2)
            ids[:, places] = found[np.arange(len(places)), picked]
            likely = expected[np.arange(len(places)), picked]
        else:
            picked = np.minimum(np.searchsorted(self._steps, rng.random((draws, len(places)))), len(self.known) - 1)
            ids[:, places] = self.known[picked]
            likely = self.probabilities[picked]
        return Draws(ids, self._log_weights(likely))

    def _log_weights(self, likely: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weigh draws by the probabilities (draws, places) of what was drawn."""
        if self.weights == "unbiased" or not likely.size:
            return np.full(len(likely), -math.log(len(likely)))
        return np.log((likely / likely.sum(axis=0)).mean(axis=1))


def expect_names(kind: str, weights: str) -> None:
    """Refuse a kind of `Replacer`, or weights, that there are not.

    Raises:
        InputError: one line that says which there are.
    """
    for name, said, known in (("replacement", kind, Replacement), ("weights", weights, Weights)):
        if said not in get_args(known):
            raise InputError(f"{name} {said!r}: expected {', '.join(get_args(known))}")


def drawable(tokenizer: Any) -> Ints:
    """Give the ids that may stand in a text: neither special tokens nor those a vocabulary keeps unused."""
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    names: dict[str, int] = tokenizer.get_vocab()
    free = [index for name, index in names.items() if index not in special and not name.startswith("[unused")]
    return np.array(sorted(free), dtype=np.int64)


def candidates_of(network: Any, model: Scorer, tokens: Sequence[Tokens], count: int = 64) -> Candidates:
    """Ask a masked language model what might stand at each place of each record, the rest as it is.

    Args:
        network: any `AutoModelForMaskedLM` with the tokenizer of the model.
        model: says which tokenizer, device, and size of a batch.
        tokens: the encoded records.
        count: how many of the likeliest tokens are kept. The token that stands there is never one of them.

    Returns:
        record id -> ids and probabilities (tokens, count); those of places outside the words are never used.
    """
    known = torch.from_numpy(drawable(model.tokenizer)).to(model.device)
    count = min(count, len(known) - 1)
    barred = torch.full((len(model.tokenizer),), -math.inf, device=model.device)
    barred[known] = 0.0
    types = "token_type_ids" in model.tokenizer.model_input_names
    found: dict[str, tuple[Ints, NDArray[np.float64]]] = {}
    for row in tokens:
        ids = np.zeros((len(row.ids), count), dtype=np.int64)
        chances = np.zeros((len(row.ids), count))
        size = max(1, model.max_tokens // max(1, len(row.ids)))
        for places in torch.from_numpy(np.flatnonzero(row.word >= 0)).to(model.device).split(size):
            here = torch.arange(len(places), device=model.device)
            given = torch.from_numpy(row.ids).to(model.device).repeat(len(places), 1)
            given[here, places] = model.tokenizer.mask_token_id
            kinds = {"token_type_ids": torch.from_numpy(row.types).to(given).expand_as(given)} if types else {}
            with torch.inference_mode():
                logits = network(input_ids=given, attention_mask=torch.ones_like(given), **kinds).logits
            scores = logits[here, places][:, : len(barred)].float() + barred
            scores[here, torch.from_numpy(row.ids).to(model.device)[places]] = -math.inf
            best = scores.topk(count, dim=1)
            ids[places.cpu()] = best.indices.numpy(force=True)
            chances[places.cpu()] = torch.softmax(best.values.double(), dim=1).numpy(force=True)
        found[row.grid.record_id] = (ids, chances)
    return found


def make_replacer(name: str, model: Scorer, tokens: Sequence[Tokens], weights: str = "unbiased") -> Replacer:
    """Make what draws replacements for records.

    Args:
        name: a kind of `Replacer`; of masked-lm with the folder or hub id of the language model: `masked-lm:NAME`.
        model: whose tokens are replaced.
        tokens: the encoded records, for `prior` and `masked-lm`.
        weights: see `Replacer`.

    Raises:
        InputError: as `Replacer` and `load_masked_lm`.
    """
    kind, given, path = name.partition(":")
    if given and kind != "masked-lm":
        raise InputError(f"{name!r}: only masked-lm takes the name of a model")
    candidates = candidates_of(load_masked_lm(path, model), model, tokens) if given else None
    replacer = Replacer(kind, model.tokenizer, tokens, candidates, weights)
    replacer.name = name
    return replacer


def load_masked_lm(name: str, model: Scorer) -> Any:
    """Load the masked language model that `candidates_of` asks, onto the device of the model.

    Raises:
        InputError: there is no such model, or it has no head, or its tokenizer is not the model's.
    """
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    expect_folder(name)
    try:
        vocabulary = AutoTokenizer.from_pretrained(name).get_vocab()
        load: Any = AutoModelForMaskedLM.from_pretrained  # gives two things with `output_loading_info`
        network, found = load(name, use_safetensors=True, output_loading_info=True)
    except LOADING_ERRORS as error:
        raise InputError(f"{name}: can't be loaded as a masked language model ({first_line(error)})") from None
    expect_weights(found, name, "masked language model")
    if vocabulary != model.tokenizer.get_vocab() or model.tokenizer.mask_token_id is None:
        raise InputError(f"{name}: its tokens are not those of {model.name}")
    return network.eval().to(model.device)


# --------------------------------------------------------------------------------------------------- attribution


def input_marginalisation(
    model: Scorer,
    tokens: Sequence[Tokens],
    target: Target,
    *,
    replacer: Replacer,
    draws: int = DRAWS,
    seed: int = 0,
    progress: str | None = None,
) -> Scored:
    """Give each word's weight of evidence, lo p(y | x) - lo of the mean of p(y | x, word replaced), in base 2.

    Kim et al. 2020, eq. 3 and 4; all tokens of a word are replaced together.

    Args:
        model: what scores labels.
        tokens: the encoded records.
        target: the label explained; a contrast of two labels has no odds.
        replacer: draws what stands in the place of a word.
        draws: how often each word is replaced.
        seed: of the draws, which depend on it and on the record alone.
        progress: title of the progress bar.

    Returns:
        Scores (words,) of each record, weights of the logits explained (records, labels), and no notes.

    Raises:
        InputError: the target is a contrast, there is a single label, or fewer than one draw is asked for.
    """
    check_odds(model, target, draws)
    drawn = [_each_word(replacer, row, draws, seed) for row in tokens]
    inputs = [
        ModelInput(ids, row.types, np.ones(len(ids), dtype=np.bool_))
        for row, words in zip(tokens, drawn, strict=True)
        for ids in (row.ids, *(line for one in words.values() for line in one.ids))
    ]
    sizes = [1 + sum(len(one.ids) for one in words.values()) for words in drawn]
    of = [row for row, size in zip(tokens, sizes, strict=True) for _ in range(size)]
    logits = np.split(model.logits(inputs, progress, of), np.cumsum(sizes))[: len(tokens)]
    first = np.array([rows[0] for rows in logits]).reshape(len(tokens), len(model.labels))
    weights = target.resolve(torch.from_numpy(first), np.arange(len(tokens))).numpy()
    scores: list[Floats] = []
    for row, words, rows, weight in zip(tokens, drawn, logits, weights, strict=True):
        label = torch.full((len(rows),), int(weight.argmax()))
        log_p, log_not = log_probabilities(torch.from_numpy(rows).double(), label)
        whole, place = log_odds(log_p[0], log_not[0]), 1
        values = np.full(len(row.grid), np.nan, dtype=np.float32)
        for word, one in words.items():
            part = slice(place, place + len(one.ids))
            mean = marginal_log_odds(log_p[part], log_not[part], torch.from_numpy(one.log_weights))
            values[word] = float(whole - mean)
            place = part.stop
        scores.append(values)
    return scores, weights, [{} for _ in tokens]


def check_odds(model: Scorer, target: Target, draws: int) -> None:
    """Refuse what has no odds.

    Raises:
        InputError: see `input_marginalisation`.
    """
    if draws < 1:
        raise InputError(f"draws {draws}: expected at least one")
    if len(model.labels) < 2:
        raise InputError(f"{model.name} has a single output, which has no odds")
    if target.against is not None:
        raise InputError("input_marginalisation explains one label; a contrast of two has no odds")


def _each_word(replacer: Replacer, row: Tokens, draws: int, seed: int) -> dict[int, Draws]:
    rng = np.random.default_rng([seed, *row.grid.record_id.encode()])
    return {word: replacer.draw(row, row.word == word, draws, rng) for word in np.flatnonzero(row.seen).tolist()}
