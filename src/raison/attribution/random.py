"""Scores drawn at random: the method every other one has to beat."""

from collections.abc import Sequence

import numpy as np
import torch

from raison.attribution.gradients import Scored
from raison.attribution.target import Target
from raison.models.scorer import Scorer
from raison.records import InputError
from raison.words import Tokens


def random(
    model: Scorer, tokens: Sequence[Tokens], target: Target, *, seed: int = 0, progress: str | None = None
) -> Scored:
    """Draw a score between 0 and 1 for every word the model sees; it depends on the seed and the record alone.

    Args:
        model: what scores labels; asked for nothing but its prediction.
        tokens: the encoded records.
        target: the logits that the scores pretend to explain.
        seed: of the draws.
        progress: title of the progress bar.

    Returns:
        Scores (words,) of each record, weights of the logits explained (records, labels), and no notes.

    Raises:
        InputError: the seed is below 0.
    """
    if seed < 0:
        raise InputError(f"seed {seed}: expected 0 or more")
    logits = torch.from_numpy(model.logits(tokens, progress))
    weights = target.resolve(logits, np.arange(len(tokens))).numpy()
    scores = [
        np.where(
            row.seen, np.random.default_rng([seed, *row.grid.record_id.encode()]).random(len(row.grid)), np.nan
        ).astype(np.float32)
        for row in tokens
    ]
    return scores, weights, [{} for _ in tokens]
