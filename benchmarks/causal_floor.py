"""The floor of causal models: the same arithmetic as straight torch code, on token ids, with nothing around it.

Prompts of like length stand together in batches of at most 1,024 tokens, parameters are frozen, and only positions that
are read meet the vocabulary. Occlusion shares no prefix; of a continuation, one pass of a masked prompt answers for all
of its tokens.
"""

from typing import Any

import numpy as np
import torch

TOKENS = 1024
Rows = list[list[int]]


def batches(rows: Rows) -> list[list[int]]:
    """Group rows of like length, longest first."""
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    found: list[list[int]] = []
    while order:
        size = max(1, TOKENS // len(rows[order[0]]))
        found.append(order[:size])
        order = order[size:]
    return found


def pad(rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad on the right: ids and mask."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [1] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


def log_probabilities(model: Any, embeddings: torch.Tensor, mask: torch.Tensor, targets: list[int]) -> torch.Tensor:
    """Give the log-probability of each row's target after its last token: (rows,)."""
    hidden = model.model(inputs_embeds=embeddings, attention_mask=mask, use_cache=False).last_hidden_state
    rows = torch.arange(len(mask))
    logits = model.lm_head(hidden[rows, mask.sum(dim=1) - 1])
    return logits.log_softmax(dim=-1)[rows, torch.tensor(targets)]


def gradients(model: Any, rows: Rows, targets: list[int], product: bool) -> list[np.ndarray]:
    """Give the L2 norm of the gradient of each token, or the product of embedding and gradient."""
    result: list[Any] = [None] * len(rows)
    for batch in batches(rows):
        ids, mask = pad([rows[i] for i in batch])
        embeds = model.get_input_embeddings()(ids).detach().requires_grad_()
        (grads,) = torch.autograd.grad(
            log_probabilities(model, embeds, mask, [targets[i] for i in batch]).sum(), embeds
        )
        scores = (grads * embeds).sum(-1) if product else grads.norm(dim=-1)
        for i, values in zip(batch, scores.detach().numpy(), strict=True):
            result[i] = values[: len(rows[i])]
    return result


def integrated_gradients(model: Any, rows: Rows, targets: list[int], unknown: int, steps: int = 50) -> list[np.ndarray]:
    """Give integrated gradients from the unknown token in the place of all but the first, by Gauss-Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    points = [(i, step) for i in range(len(rows)) for step in range(steps)]
    result = [np.zeros(len(ids)) for ids in rows]
    embed = model.get_input_embeddings()
    for batch in batches([rows[i] for i, _ in points]):
        chosen = [points[j] for j in batch]
        ids, mask = pad([rows[i] for i, _ in chosen])
        base = torch.full_like(ids, unknown)
        base[:, 0] = ids[:, 0]
        start, end = embed(base).detach(), embed(ids).detach()
        shares = torch.tensor([[[(1 + nodes[step]) / 2]] for _, step in chosen], dtype=end.dtype)
        embeds = (start + shares * (end - start)).requires_grad_()
        (grads,) = torch.autograd.grad(
            log_probabilities(model, embeds, mask, [targets[i] for i, _ in chosen]).sum(), embeds
        )
        for (i, step), values in zip(chosen, (grads * (end - start)).sum(-1).numpy(), strict=True):
            result[i] += weights[step] / 2 * values[: len(result[i])]
    return result


@torch.inference_mode()
def occlusion(model: Any, rows: Rows, targets: list[int], unknown: int) -> list[np.ndarray]:
    """Give the drop of the log-probability when a token is unknown; 0 for the first."""
    versions: list[tuple[int, list[int]]] = []
    for i, ids in enumerate(rows):
        versions.append((i, ids))
        versions += [(i, [*ids[:p], unknown, *ids[p + 1 :]]) for p in range(1, len(ids))]
    values = np.zeros(len(versions))
    for batch in batches([ids for _, ids in versions]):
        ids, mask = pad([versions[j][1] for j in batch])
        embeds = model.get_input_embeddings()(ids)
        values[batch] = log_probabilities(model, embeds, mask, [targets[versions[j][0]] for j in batch]).numpy()
    cuts = np.split(values, np.cumsum([len(ids) for ids in rows])[:-1])
    return [np.append(0.0, part[0] - part[1:]) for part in cuts]


def _reply(model: Any, embeddings: torch.Tensor, reply: list[int]) -> torch.Tensor:
    """Give the log-probability of each token of a reply at the end of a prompt and reply: (rows, reply tokens)."""
    hidden = model.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state[:, -len(reply) :]
    return model.lm_head(hidden).log_softmax(dim=-1)[:, torch.arange(len(reply)), torch.tensor(reply)]


@torch.inference_mode()
def occlusion_of_reply(model: Any, ids: list[int], reply: list[int], unknown: int) -> np.ndarray:
    """Give the drops (tokens, reply tokens) when a token of the prompt is unknown; 0 for the first."""
    whole = [*ids, *reply[:-1]]
    versions = [whole, *([*whole[:p], unknown, *whole[p + 1 :]] for p in range(1, len(ids)))]
    embed, size = model.get_input_embeddings(), max(1, TOKENS // len(whole))
    parts = [
        _reply(model, embed(torch.tensor(versions[start : start + size])), reply)
        for start in range(0, len(versions), size)
    ]
    values = torch.cat(parts).numpy()
    return np.concatenate([np.zeros((1, len(reply))), values[0] - values[1:]])


def gradients_of_reply(model: Any, ids: list[int], reply: list[int]) -> np.ndarray:
    """Give embedding times gradient (tokens, reply tokens): one pass forward, one backward for each reply token."""
    embeds = model.get_input_embeddings()(torch.tensor([[*ids, *reply[:-1]]])).detach().requires_grad_()
    values = _reply(model, embeds, reply)[0]
    columns = [
        (torch.autograd.grad(value, embeds, retain_graph=True)[0] * embeds.detach()).sum(-1)[0] for value in values
    ]
    return torch.stack(columns, dim=1).numpy()[: len(ids)]
