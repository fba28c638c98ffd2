"""Versions of one prompt share the computation of what they have in common with it: its beginning."""

from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from raison.masking import ModelInput
from raison.models.scorer import Batch
from raison.words import Tokens

LEAST = 16  # tokens in common below which a version is better run whole
AGAIN = 1 / 16  # of a batch's tokens, that may be computed again although a row shares them
Given = ModelInput | Tokens


class SharedPrefix:
    """Computes the keys and values of a prompt once, for all of its versions.

    Args:
        model: any Hugging Face causal language model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def batches(  # noqa: PLR0917
        self,
        inputs: Sequence[Given],
        of: Sequence[Given],
        max_tokens: int,
        pad: Callable[[Sequence[Given]], Batch],
        least: int = LEAST,
        last: int = 1,
    ) -> Generator[tuple[NDArray[np.int64], Batch, Any]]:
        """Give batches of what each input has after the part that it shares.

        Args:
            inputs: versions of prompts.
            of: the unchanged prompt of each input; those of one object are computed together.
            max_tokens: padded tokens of one batch.
            pad: makes a batch.
            least: shortest beginning that is shared.
            last: how many tokens at the end of each input are read, so that they are never taken as shared.

        Returns:
            Indices, the batch (its ids are those of the rest, attention and lengths those of the whole), and the
            keys and values of the shared part; None where a batch shares nothing.
        """
        groups: dict[int, list[int]] = {}
        for index, whole in enumerate(of):
            groups.setdefault(id(whole), []).append(index)
        for members in groups.values():
            whole = of[members[0]]
            common = np.array([_in_common(inputs[index], whole, last) for index in members])
            order = np.array(members)[np.argsort(-common, kind="stable")]
            common = -np.sort(-common, kind="stable")
            layers = self._layers(whole.ids[: common[0]]) if common[0] >= least and len(members) > 1 else []
            start = 0
            while start < len(order):
                stop = _batch_end(inputs, order, common, start, max_tokens)
                rows = order[start:stop]
                shared = int(common[stop - 1])
                batch = pad([inputs[index] for index in rows.tolist()])
                if shared < least or not layers:
                    yield rows, batch, None
                else:
                    rest = batch._replace(ids=batch.ids[:, shared:], types=batch.types[:, shared:])
                    yield rows, rest, self._cache(layers, shared, len(rows))
                start = stop

    def _layers(self, ids: NDArray[np.int64]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Compute keys and values (1, heads, tokens, width) of every layer."""
        from transformers import DynamicCache

        cache: Any = DynamicCache()
        device = self.model.get_input_embeddings().weight.device
        row = torch.from_numpy(np.ascontiguousarray(ids)).to(device)[None]
        self.model.base_model(input_ids=row, attention_mask=torch.ones_like(row), past_key_values=cache, use_cache=True)
        return [(layer.keys, layer.values) for layer in cache.layers]

    @staticmethod
    def _cache(layers: Sequence[tuple[torch.Tensor, torch.Tensor]], size: int, rows: int) -> Any:
        from transformers import DynamicCache

        cache = DynamicCache()
        for index, (keys, values) in enumerate(layers):
            cache.update(keys[:, :, :size], values[:, :, :size], index)
            kept: Any = cache.layers[index]  # a view: what all rows have is held once
            kept.keys, kept.values = (part.expand(rows, -1, -1, -1) for part in (kept.keys, kept.values))
        return cache


def _in_common(row: Given, whole: Given, last: int = 1) -> int:
    """Count the tokens that a version begins with like its whole prompt; its last ones are never counted."""
    size = max(min(len(row.ids) - last, len(whole.ids)), 0)
    same = row.ids[:size] == whole.ids[:size]
    if isinstance(row, ModelInput):
        same = same & row.attention[:size]
    return int(size if same.all() else same.argmin())


def _batch_end(
    inputs: Sequence[Given], order: NDArray[np.int64], common: NDArray[np.int64], start: int, max_tokens: int
) -> int:
    """Give where the batch ends that begins at `start`.

    Rows times the longest rest are at most `max_tokens`. A batch shares what all its rows share, so the more they
    differ the more is computed again; that is at most `AGAIN` of `max_tokens`.
    """
    longest, again, stop = 0, 0, start
    while stop < len(order):
        longest = max(longest, len(inputs[int(order[stop])].ids))
        again += (stop - start) * int(common[max(stop - 1, start)] - common[stop])
        full = (stop + 1 - start) * (longest - int(common[stop])) > max_tokens
        if stop > start and (full or again > AGAIN * max_tokens):
            break
        stop += 1
    return stop
