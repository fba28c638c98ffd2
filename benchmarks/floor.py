"""The floor: the same arithmetic as straight torch code, on token ids, with nothing around it.

Inputs of like length stand together in batches of at most 1,024 tokens, parameters are frozen, and that is all: no
words, no progress, no conventions, no result objects. An implementation in Python can hardly be faster on a CPU.
"""

from typing import Any

import numpy as np
import torch

TOKENS = 1024
Sequences = list[tuple[list[int], list[int]]]  # ids and token types


def _batches(rows: Sequences) -> list[list[int]]:
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i][0]))
    found: list[list[int]] = []
    while order:
        size = max(1, TOKENS // len(rows[order[0]][0]))
        found.append(order[:size])
        order = order[size:]
    return found


def _pad(rows: Sequences) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in rows])
    types = torch.tensor([types + [0] * (longest - len(types)) for _, types in rows])
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows])
    return ids, types, mask


def freeze(model: Any) -> None:
    for parameter in model.parameters():
        parameter.requires_grad_(False)


def gradients(model: Any, rows: Sequences, target: int, product: bool) -> list[np.ndarray]:
    """Give the L2 norm of the gradient of each token, or the product of embedding and gradient."""
    result: list[Any] = [None] * len(rows)
    for batch in _batches(rows):
        ids, types, mask = _pad([rows[i] for i in batch])
        embeds = model.get_input_embeddings()(ids).detach().requires_grad_()
        logits = model(inputs_embeds=embeds, attention_mask=mask, token_type_ids=types).logits
        (grads,) = torch.autograd.grad(logits[:, target].sum(), embeds)
        scores = (grads * embeds).sum(-1) if product else grads.norm(dim=-1)
        for i, values in zip(batch, scores.detach().numpy(), strict=True):
            result[i] = values[: len(rows[i][0])]
    return result


def integrated_gradients(model: Any, rows: Sequences, target: int, steps: int = 50) -> list[np.ndarray]:
    """Give integrated gradients from the zero embedding by Gauss-Legendre quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    points = [(i, step) for i in range(len(rows)) for step in range(steps)]
    result = [np.zeros(len(ids)) for ids, _ in rows]
    for batch in _batches([rows[i] for i, _ in points]):
        chosen = [points[j] for j in batch]
        ids, types, mask = _pad([rows[i] for i, _ in chosen])
        end = model.get_input_embeddings()(ids).detach()
        shares = torch.tensor([[[(1 + nodes[step]) / 2]] for _, step in chosen], dtype=end.dtype)
        embeds = (shares * end).requires_grad_()
        logits = model(inputs_embeds=embeds, attention_mask=mask, token_type_ids=types).logits
        (grads,) = torch.autograd.grad(logits[:, target].sum(), embeds)
        for (i, step), values in zip(chosen, (grads * end).sum(-1).numpy(), strict=True):
            result[i] += weights[step] / 2 * values[: len(result[i])]
    return result


@torch.inference_mode()
def occlusion(
    model: Any, rows: Sequences, target: int, features: list[list[list[int]]], mask_id: int
) -> list[np.ndarray]:
    """Give the drop of the logit when the tokens of a feature (positions) are masked, for each feature of each row."""
    inputs: Sequences = []
    for (ids, types), groups in zip(rows, features, strict=True):
        inputs.append((ids, types))
        for group in groups:
            inputs.append(([mask_id if position in group else i for position, i in enumerate(ids)], types))
    logits = np.zeros(len(inputs), dtype=np.float32)
    for batch in _batches(inputs):
        ids, types, mask = _pad([inputs[i] for i in batch])
        logits[batch] = model(input_ids=ids, attention_mask=mask, token_type_ids=types).logits[:, target].numpy()
    result: list[np.ndarray] = []
    start = 0
    for groups in features:
        result.append(logits[start] - logits[start + 1 : start + 1 + len(groups)])
        start += len(groups) + 1
    return result
