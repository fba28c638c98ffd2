"""Attention as it is computed, layer by layer: seen by whoever asks for it, and never kept whole.

Models of transformers compute attention through a function that can be exchanged. Ours computes the output in the fast
way, which returns no weights, and hands queries, keys and values to an observer, who takes from them what is needed:
one row of the matrix where only one position counts.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

NAME = "raison_watch"
_observers: list[Callable[["Layer"], None]] = []
_hidden: list[bool] = []  # one for each `unobserved` that is open
_whole: list[bool] = []  # one for each `whole` that is open
_PROJECTIONS = ("o_proj", "c_proj", "out_proj", "out_lin", "dense")


class Layer(NamedTuple):
    """What one layer's attention is computed from."""

    module: Any
    query: Tensor  # (rows, heads, tokens, width)
    key: Tensor  # (rows, heads, tokens, width); each head's own, also where heads share them
    value: Tensor  # (rows, heads, tokens, width)
    mask: Tensor | None  # added to the scores: (rows or 1, heads or 1, tokens, tokens)
    scaling: float
    softcap: float | None

    def weights(self, start: int, stop: int) -> Tensor:
        """Give attention from positions `start` to `stop` to all: (rows, heads, stop - start, tokens)."""
        mask = None if self.mask is None else self.mask[:, :, start:stop]
        return self._attend(self.query[:, :, start:stop], mask)

    def weights_of(self, places: Tensor) -> Tensor:
        """Give attention from one position of each row (rows,): (rows, heads, tokens)."""
        rows = torch.arange(len(places), device=places.device)
        mask = None
        if self.mask is not None:
            mask = self.mask.expand(len(places), *self.mask.shape[1:])[rows, :, places].unsqueeze(2)
        return self._attend(self.query[rows, :, places].unsqueeze(2), mask).squeeze(2)

    def _attend(self, query: Tensor, mask: Tensor | None) -> Tensor:
        scores = (query @ self.key.transpose(2, 3)) * self.scaling
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        if mask is not None:
            scores = scores + mask
        exact = torch.promote_types(query.dtype, torch.float32)
        return torch.softmax(scores, dim=-1, dtype=exact).to(query.dtype)


@contextmanager
def watched(model: Any, see: Callable[[Layer], None]) -> Generator[None]:
    """Let `see` be called with each layer's attention, in the order of computation; the model is put back after.

    A model whose attention can't be exchanged is not seen at all.
    """
    before = model.config._attn_implementation
    _register()
    model.set_attn_implementation(NAME)
    _observers.append(see)
    try:
        yield
    finally:
        _observers.pop()
        model.set_attn_implementation(before)


@contextmanager
def unobserved() -> Generator[None]:
    """Let nobody see what is computed inside: for runs that are no part of what is watched."""
    waiting = _observers[:]
    _observers.clear()
    _hidden.append(True)
    try:
        yield
    finally:
        _hidden.pop()
        _observers.extend(waiting)


def is_observed() -> bool:
    """Whether a run is one that may be looked at, and not `unobserved`."""
    return not _hidden


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, eager_mask)


def _attention(  # noqa: PLR0917
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    shared = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(shared, dim=1) if shared > 1 else part for part in (key, value))
    mask = attention_mask if attention_mask is None or attention_mask.dtype != torch.bool else None
    if attention_mask is not None and mask is None:
        mask = torch.zeros_like(attention_mask, dtype=query.dtype)
        mask = mask.masked_fill(~attention_mask, torch.finfo(query.dtype).min)
    layer = Layer(module, query, key, value, mask, scale, softcap)
    if softcap is None:
        output = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale
        )
    else:
        output = layer.weights(0, query.shape[2]) @ value
    if _observers:
        _observers[-1](layer)
    return output.transpose(1, 2).contiguous(), None


@contextmanager
def whole() -> Generator[None]:
    """Let each position go through all layers inside, also where nothing but the states is read from it."""
    _whole.append(True)
    try:
        yield
    finally:
        _whole.pop()


def is_whole() -> bool:
    """Whether somebody reads the states of all positions."""
    return bool(_whole)


def output_projection(model: Any, attention: Any) -> Callable[[Tensor], Tensor] | None:
    """Give the linear map from the heads' joined outputs to the hidden states, without its bias.

    Args:
        model: the model that the attention is of.
        attention: the module that computes it.

    Returns:
        The map; None where there is none that we know.
    """
    parents = {id(child): module for module in model.modules() for child in module.children()}
    beside = getattr(parents.get(id(attention)), "output", None)  # BERT's kin keep it in a module next to it
    for holder in (attention, beside):
        for name in _PROJECTIONS:
            found = getattr(holder, name, None)
            if isinstance(found, torch.nn.Module):
                return lambda joined, found=found: found(joined) - found(torch.zeros_like(joined[..., :1, :]))
    return None
