"""Attribution by erasure: how much a logit drops when words are taken away."""

from collections.abc import Sequence

import numpy as np
import torch

from raison.attribution.gradients import Scored
from raison.attribution.target import Target
from raison.masking import Operator, apply, default_name, make_operator
from raison.models.scorer import Scorer
from raison.records import InputError
from raison.words import Floats, Mask, Tokens


def occlusion(
    model: Scorer,
    tokens: Sequence[Tokens],
    target: Target,
    *,
    operator: Operator | None = None,
    window: int = 1,
    progress: str | None = None,
) -> Scored:
    """Give the target's logit minus that of the input without the word (Zeiler and Fergus 2014; leave-one-out).

    Args:
        model: what scores labels.
        tokens: the encoded records.
        target: the logits explained; the predicted label is that of the whole input.
        operator: what stands in the place of a word; default: one mask token per word, or deletion where the tokenizer
            has none.
        window: how many neighbouring words of a field are taken away together. A word's score is then the mean over
            the windows that hold it, as in Captum. A field with fewer words is one window.
        progress: title of the progress bar.

    Returns:
        Scores (words,) of each record, weights of the logits explained (records, labels), and no notes.

    Raises:
        InputError: the window is smaller than one word.
    """
    if window < 1:
        raise InputError(f"window {window}: expected at least one word")
    operator = operator or default_operator(model)
    windows = [_windows(row, window) for row in tokens]
    inputs = [
        given
        for row, masks in zip(tokens, windows, strict=True)
        for given in (*apply(operator, row, np.zeros((1, len(row.grid)), dtype=np.bool_)), *apply(operator, row, masks))
    ]
    of = [row for row, masks in zip(tokens, windows, strict=True) for _ in range(len(masks) + 1)]
    logits = model.logits(inputs, progress, of)
    starts = np.cumsum([0, *(len(masks) + 1 for masks in windows)])
    whole = logits[starts[:-1]]
    weights = target.resolve(torch.from_numpy(whole), np.arange(len(tokens))).numpy()
    scores: list[Floats] = []
    for index, (row, masks) in enumerate(zip(tokens, windows, strict=True)):
        rest = logits[starts[index] + 1 : starts[index + 1]]
        drops = (whole[index] - rest) @ weights[index]
        covered = np.maximum(masks.sum(axis=0), 1)
        scores.append(np.where(row.seen, drops @ masks / covered, np.nan).astype(np.float32))
    return scores, weights, [{} for _ in tokens]


def default_operator(model: Scorer) -> Operator:
    """Give one mask token per word, or deletion where the tokenizer has no mask token."""
    return make_operator(default_name(model.tokenizer), model.tokenizer)


def _windows(tokens: Tokens, width: int) -> Mask:
    """Give each stretch of `width` seen words of a field: (windows, words) boolean."""
    stretches: list[list[int]] = []
    for words in tokens.grid.split(np.arange(len(tokens.grid))).values():
        seen: list[int] = words[tokens.seen[words]].tolist()
        stretches += [seen[start : start + width] for start in range(max(len(seen) - width, 0) + 1)]
    masks = np.zeros((len(stretches), len(tokens.grid)), dtype=np.bool_)
    for mask, stretch in zip(masks, stretches, strict=True):
        mask[stretch] = True
    return masks[masks.any(axis=1)]
