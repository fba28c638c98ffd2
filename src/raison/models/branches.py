"""Label words of several tokens, scored in one pass: they grow as branches from the end of the prompt.

The last token of a label is never read, only predicted. What has to be read after the prompt are the proper beginnings
of the labels' tokens: the inner nodes of a tree, each of which attends to the prompt, its ancestors and itself.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]


class Branches(NamedTuple):
    """The tree of some labels' tokens. Places are 0 = the end of the prompt, i + 1 = node i."""

    nodes: Ints  # (nodes,) the token of each inner node; parents come before children
    depth: Ints  # (nodes,) 1 = directly after the prompt
    sees: NDArray[np.bool_]  # (nodes, nodes): which nodes a node attends to
    place: Ints  # (labels, longest): the place that predicts each token of a label
    token: Ints  # (labels, longest): the token predicted there
    real: NDArray[np.bool_]  # (labels, longest): False = the label has no such token


def grow(labels: Sequence[Sequence[int]]) -> Branches:
    """Make the tree of labels' tokens, each of at least one token."""
    nodes: dict[tuple[int, ...], int] = {}
    for ids in labels:
        for size in range(1, len(ids)):
            nodes.setdefault(tuple(ids[:size]), len(nodes))
    sees = np.zeros((len(nodes), len(nodes)), dtype=np.bool_)
    for beginning, index in nodes.items():
        for size in range(1, len(beginning) + 1):
            sees[index, nodes[beginning[:size]]] = True
    longest = max(len(ids) for ids in labels)
    place, token = np.zeros((2, len(labels), longest), dtype=np.int64)
    real = np.zeros((len(labels), longest), dtype=np.bool_)
    for row, ids in enumerate(labels):
        for column, given in enumerate(ids):
            place[row, column] = 0 if column == 0 else nodes[tuple(ids[:column])] + 1
            token[row, column], real[row, column] = given, True
    return Branches(
        nodes=np.array([beginning[-1] for beginning in nodes], dtype=np.int64),
        depth=np.array([len(beginning) for beginning in nodes], dtype=np.int64),
        sees=sees,
        place=place,
        token=token,
        real=real,
    )


def attention_mask(attention: Tensor, branches: Branches, before: int = 0) -> Tensor:
    """Give the mask under which the prompt is causal and every node sees the prompt, its ancestors and itself.

    Args:
        attention: (rows, before + tokens) 1 = a token of the prompt that may be attended to.
        branches: the tree.
        before: how many of the prompt's first tokens are read already.

    Returns:
        (rows, 1, tokens + nodes, before + tokens + nodes) boolean; a position always sees itself.
    """
    rows, width = attention.shape
    nodes, tokens = len(branches.nodes), width - before
    seen = attention.bool()
    mask = torch.zeros(rows, tokens + nodes, width + nodes, dtype=torch.bool, device=attention.device)
    order = torch.arange(width, device=attention.device)
    causal = order <= order[before:, None]
    own = order == order[before:, None]
    mask[:, :tokens, :width] = (causal & seen[:, None, :]) | own
    mask[:, tokens:, :width] = seen[:, None, :]
    mask[:, tokens:, width:] = torch.from_numpy(branches.sees).to(attention.device)
    return mask[:, None]


def label_scores(logits: Tensor, branches: Branches, *, normalised: bool = True) -> Tensor:
    """Sum the log-probabilities of each label's tokens, in float32 at least.

    Args:
        logits: (rows, places, vocabulary) at the end of the prompt and at every node.
        branches: the tree.
        normalised: log-probabilities; otherwise the logits themselves are summed.

    Returns:
        (rows, labels).
    """
    place, token, real = (
        torch.from_numpy(array).to(logits.device) for array in (branches.place, branches.token, branches.real)
    )
    values = logits.to(torch.promote_types(logits.dtype, torch.float32))
    chosen = values[:, place, token]
    if normalised:
        chosen = chosen - values.logsumexp(dim=-1)[:, place]
    return torch.where(real, chosen, torch.zeros_like(chosen)).sum(dim=-1)


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a boolean mask into what is added to attention scores."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
