"""Soft masking: words are taken away in part, by setting single elements of their embeddings to zero at random."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from raison.models import batching
from raison.models.scorer import Probabilities, Scorer, softmax
from raison.words import Tokens


def predict_soft(
    model: Scorer, tokens: Sequence[Tokens], keep: Sequence[NDArray[Any]], draws: int, seed: int = 0
) -> list[Probabilities]:
    """Predict records with single elements of their words' embeddings set to zero at random.

    Each element of the embedding of each token of a word stays with the word's probability (Zhao and Aletras 2023,
    section 3). A draw depends on seed, record id and its number alone; it is the same for all variants of a record,
    which therefore differ by their probabilities and not by luck. Tokens of no word stay as they are.

    Args:
        model: what predicts.
        tokens: the encoded records.
        keep: for each record (variants, words), the probability that an element stays; not read for unseen words.
        draws: how often each variant is drawn.
        seed: of the draws.

    Returns:
        For each record (variants, draws, labels) probabilities.
    """
    places = [(r, v, d) for r, rows in enumerate(keep) for v in range(len(rows)) for d in range(draws)]
    logits = np.zeros((len(places), len(model.labels)), dtype=np.float32)

    def step(indices: batching.Indices) -> NDArray[np.float32]:
        rows = [places[i] for i in indices]
        batch = model.batch([tokens[record] for record, _, _ in rows])
        with torch.inference_mode():
            embeddings = model.embed(batch).clone()
            for row, (record, variant, draw) in enumerate(rows):
                stays = _elements(tokens[record], keep[record][variant], embeddings.shape[-1], draw, seed)
                embeddings[row, : len(stays)] *= torch.from_numpy(stays).to(embeddings)
            return model.forward(batch, embeddings).logits.float().cpu().numpy()

    for indices, values in batching.run([len(tokens[r].ids) for r, _, _ in places], step, model.max_tokens):
        logits[indices] = values
    parts = np.split(softmax(logits), np.cumsum([draws * len(rows) for rows in keep])[:-1])
    return [part.reshape(len(rows), draws, len(model.labels)) for part, rows in zip(parts, keep, strict=True)]


def _elements(tokens: Tokens, keep: NDArray[Any], size: int, draw: int, seed: int) -> NDArray[np.bool_]:
    """Draw which elements of a record's embeddings stay: (tokens, size)."""
    key = int.from_bytes(blake2b(tokens.grid.record_id.encode(), digest_size=16).digest(), "little")
    noise = np.random.default_rng([seed, draw, key]).random((len(tokens.ids), size), dtype=np.float32)
    chance = np.ones(len(tokens.ids), dtype=np.float32)
    inside = tokens.word >= 0
    chance[inside] = keep[tokens.word[inside]]
    return noise < chance[:, None]
