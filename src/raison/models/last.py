"""The last layer's attention for the positions that are read alone: no other one's answer is read by anybody."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

NAME = "raison_last"
_asking: list[tuple[Any, Tensor]] = []  # the last layer's module, and the positions (rows, places) that are read


@contextmanager
def asking(model: Any, module: Any, places: Tensor) -> Generator[None]:
    """Let one layer of a model that uses torch's attention compute it for some positions alone, zeros elsewhere.

    Args:
        model: its attention is `sdpa`; it is put back after.
        module: the attention module of the layer.
        places: (rows, places), those of a row distinct.
    """
    _register()
    model.set_attn_implementation(NAME)
    _asking.append((module, places))
    try:
        yield
    finally:
        _asking.pop()
        model.set_attn_implementation("sdpa")


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if not _asking or _asking[-1][0] is not module:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    places = _asking[-1][1].to(query.device)
    rows = torch.arange(len(places), device=places.device)[:, None]
    if attention_mask is None:
        before = key.shape[2] - query.shape[2]  # of the prompt's beginning, kept from another pass
        mask = (torch.arange(key.shape[2], device=places.device) <= before + places[..., None])[:, None]
    else:
        mask = attention_mask.expand(len(places), *attention_mask.shape[1:])[rows, :, places].transpose(1, 2)
    asked = query[rows, :, places].transpose(1, 2)
    own: dict[str, Any] = {**options, "is_causal": False}
    found, _ = sdpa_attention_forward(module, asked, key, value, mask, **own)
    whole = found.new_zeros(len(places), query.shape[2], *found.shape[2:])
    return whole.index_put((rows, places), found), None
