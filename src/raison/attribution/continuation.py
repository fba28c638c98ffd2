"""Attribution of a continuation: how much each word of a prompt speaks for each token that follows it.

One pass of the model answers for all tokens of a continuation: every position predicts its next token, so the
log-probabilities of T tokens stand side by side at the last T positions. Only these meet the vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raison.attribution.erasure import default_operator
from raison.attribution.gradients import frozen
from raison.masking import ModelInput, Operator, apply
from raison.models.answerer import Answerer
from raison.models.batching import Indices, bar, run
from raison.models.prefix import SharedPrefix
from raison.models.scorer import Batch, embeddings_are, projected
from raison.records import InputError
from raison.words import Floats, Ints, Tokens, pool

VALUES = 2**28  # logits that are held at once: 1 GB
Combine = Callable[[Tensor, Tensor], Tensor]
_COMBINE: dict[str, Combine] = {
    "gradient": lambda _, grads: grads.norm(dim=-1),
    "input_x_gradient": lambda embeds, grads: (embeds * grads).sum(dim=-1),
}


def continuation(
    model: Answerer,
    prompt: Tokens,
    reply: Sequence[int],
    method: str = "occlusion",
    *,
    operator: Operator | None = None,
    reduction: str = "sum",
    progress: str | None = None,
) -> Floats:
    """Score each word of a prompt for each token of what follows it.

    What is explained is the log-probability of each token of the continuation after the prompt and the tokens before
    it, which are left as they are: `log p(y_t | x, y_<t)`.

    Args:
        model: its language model and tokenizer are used; its labels play no part.
        prompt: as `model.encode` gives it.
        reply: token ids of the continuation, whoever wrote it.
        method: `occlusion` (the drop without the word, as `raison.attribution.occlusion`), `gradient` (L2 norm) or
            `input_x_gradient`.
        operator: occlusion: what stands in the place of a word; default as in `raison.attribution.occlusion`.
        reduction: gradients: from tokens to words, see `raison.words.pool`.
        progress: title of the progress bar.

    Returns:
        (words, tokens of the continuation) float32; NaN for words that the model did not see. Columns sum to scores of
        the whole continuation, but for `gradient`, whose norms do not add up.

    Raises:
        InputError: the continuation is empty or longer than the model reads after the prompt, or there is no such
            method.
    """
    ids = np.asarray(reply, dtype=np.int64)
    if not len(ids):
        raise InputError("the continuation is empty: there is nothing to explain")
    if len(prompt.ids) + len(ids) - 1 > model.max_length:
        raise InputError(
            f"prompt and continuation have {len(prompt.ids)} and {len(ids)} tokens; "
            f"{model.name} reads {model.max_length} in all"
        )
    if method == "occlusion":
        return _occlusion(model, prompt, ids, operator or default_operator(model), progress)
    if method not in _COMBINE:
        raise InputError(f"unknown method {method!r}; expected one of occlusion, {', '.join(_COMBINE)}")
    return _gradients(model, prompt, ids, _COMBINE[method], (reduction, progress))


# ------------------------------------------------------------------------------------------------------- occlusion


def _occlusion(model: Answerer, prompt: Tokens, reply: Ints, operator: Operator, progress: str | None) -> Floats:
    words = np.flatnonzero(prompt.seen)
    masks = np.zeros((len(words) + 1, len(prompt.grid)), dtype=np.bool_)
    masks[np.arange(len(words)) + 1, words] = True
    versions = [_followed(given, reply[:-1]) for given in apply(operator, prompt, masks)]
    longest = max(len(version.ids) for version in versions)
    if longest > model.max_length:
        raise InputError(f"with words replaced, prompt and continuation have {longest} tokens; use a shorter text")
    values = _log_probabilities(model, versions, reply, progress)
    scores = np.full((len(prompt.grid), len(reply)), np.nan, dtype=np.float32)
    scores[words] = values[0] - values[1:]
    return scores


def _followed(prompt: ModelInput, ids: Ints) -> ModelInput:
    return ModelInput(
        np.concatenate([prompt.ids, ids]),
        np.concatenate([prompt.types, np.zeros_like(ids)]),
        np.concatenate([prompt.attention, np.ones(len(ids), dtype=np.bool_)]),
    )


def _log_probabilities(model: Answerer, versions: Sequence[ModelInput], reply: Ints, progress: str | None) -> Floats:
    """Give log p of each token of the reply at the end of each version (versions, reply tokens).

    Versions share what they have in common with the first, the unchanged prompt, where the model takes that.
    """
    result = np.zeros((len(versions), len(reply)), dtype=np.float32)
    max_tokens = max(1, min(model.max_tokens, VALUES // model.model.get_output_embeddings().weight.shape[0]))

    def step(indices: Indices, batch: Batch | None = None, past: Any = None) -> Floats:
        with torch.inference_mode():
            batch = model.batch([versions[i] for i in indices]) if batch is None else batch
            return _reply_scores(model, batch, reply, past=past).numpy(force=True)

    shared = _shares(model, versions[0], reply)
    if not shared:
        for indices, values in run([len(row.ids) for row in versions], step, max_tokens, progress):
            result[indices] = values
        return result
    of, prefix = [versions[0]] * len(versions), SharedPrefix(model.model)
    with bar(progress, len(versions)) as advance, torch.inference_mode():
        for indices, batch, past in prefix.batches(versions, of, max_tokens, model.batch, last=len(reply)):
            result[indices] = step(indices, batch, past)
            advance(len(indices))
    return result


def _shares(model: Answerer, whole: ModelInput, reply: Ints) -> bool:
    """Whether the model answers the same from the keys and values of a prompt's beginning: tried on the prompt."""
    rows = [whole, whole]
    with torch.inference_mode():
        plain = _reply_scores(model, model.batch([whole]), reply)
        try:
            given = SharedPrefix(model.model).batches(rows, rows, model.max_tokens, model.batch, last=len(reply))
            found = torch.cat([_reply_scores(model, batch, reply, past=past) for _, batch, past in given])
        except (RuntimeError, IndexError, TypeError, ValueError, AttributeError):
            return False
    close = 1e-4 if model.model.dtype == torch.float32 else 3e-2
    return torch.allclose(found, plain.expand_as(found), rtol=close, atol=close * float(plain.abs().max()))


def _reply_scores(
    model: Answerer, batch: Batch, reply: Ints, embeddings: Tensor | None = None, past: Any = None
) -> Tensor:
    """Give log p of each token of the reply, at the last positions of each row: (rows, reply tokens) float32.

    With `past`, the keys and values of the first tokens, the ids are those of the rest, as in `SharedPrefix.batches`.
    """
    tokens = batch.ids.shape[1]
    before, device = batch.attention.shape[1] - tokens, batch.ids.device
    wanted = torch.from_numpy(reply).to(device)
    places = batch.lengths[:, None] - before + torch.arange(-len(reply), 0, device=device)
    given: dict[str, Any] = {}
    if past is not None:
        positions = torch.arange(before, before + tokens, device=device).expand(len(batch.ids), -1)
        given = {"past_key_values": past, "position_ids": positions}
    with embeddings_are(model.model, embeddings), projected(model.model, places):
        output = model.model(input_ids=batch.ids, attention_mask=batch.attention, use_cache=past is not None, **given)
    values = output.logits.float()
    chosen = values.gather(-1, wanted.expand(len(values), -1)[..., None])[..., 0]
    return chosen - values.logsumexp(dim=-1)


# -------------------------------------------------------------------------------------------------------- gradients


def _gradients(model: Answerer, prompt: Tokens, reply: Ints, combine: Combine, how: tuple[str, str | None]) -> Floats:
    """Run forward once, and backward once for each token of the reply."""
    reduction, progress = how
    columns: list[Floats] = []
    with frozen(model.model), bar(progress, len(reply)) as advance:
        batch = model.batch([_followed(_whole(prompt), reply[:-1])])
        embeds = model.embed(batch).requires_grad_()
        values = _reply_scores(model, batch, reply, embeds)[0]
        for value in values:
            (grads,) = torch.autograd.grad(value, embeds, retain_graph=True)
            tokens = combine(embeds.detach(), grads)[0].float().numpy(force=True)
            columns.append(pool(tokens[: len(prompt.ids)], prompt, reduction))
            advance(1)
    return np.stack(columns, axis=1)


def _whole(prompt: Tokens) -> ModelInput:
    return ModelInput(prompt.ids, prompt.types, np.ones(len(prompt.ids), dtype=np.bool_))
