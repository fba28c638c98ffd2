"""What is explained: the score of a label, or the difference between two."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raison.models.scorer import Scorer
from raison.records import InputError, Record

PREDICTED, RUNNER_UP = -1, -2  # stand for outputs that are known only once the model has answered


@dataclass(frozen=True)
class Target:
    """The output explained for each record, and the one it is contrasted with.

    Both are arrays (records,) of label indices, or `PREDICTED` or `RUNNER_UP`; `against` is None without a contrast.
    """

    of: NDArray[np.int64]
    against: NDArray[np.int64] | None = None

    def resolve(self, logits: Tensor, indices: NDArray[np.int64]) -> Tensor:
        """Give the weights of the logits (rows, labels) whose weighted sum is the score explained.

        Args:
            logits: (rows, labels).
            indices: (rows,) which records the rows belong to.
        """
        order = logits.detach().argsort(dim=-1, descending=True, stable=True)
        weights = torch.zeros_like(logits)
        weights.scatter_(1, _known(self.of[indices], order), 1.0)
        if self.against is not None:
            weights.scatter_add_(1, _known(self.against[indices], order), torch.full_like(logits[:, :1], -1.0))
        return weights


def _known(wanted: NDArray[np.int64], order: Tensor) -> Tensor:
    """Put label indices in the place of `PREDICTED` and `RUNNER_UP`: (rows, 1)."""
    labels = torch.from_numpy(wanted).to(order.device)
    labels = torch.where(labels == PREDICTED, order[:, 0], labels)
    if order.shape[1] > 1:
        labels = torch.where(labels == RUNNER_UP, order[:, 1], labels)
    return labels.unsqueeze(1)


def parse_target(text: str, model: Scorer, records: Sequence[Record]) -> Target:
    """Read a target: `predicted`, `gold`, a label, `runner-up`, or a contrast of two of these as `A - B`.

    Raises:
        InputError: a label is unknown, or a record has no gold label.
    """
    if any(name.casefold() == text.casefold() for name in model.labels):  # a label may hold " - " itself
        return Target(_outputs(text, model, records))
    of, contrast, against = text.partition(" - ")
    first = _outputs(of.strip(), model, records)
    if not contrast:
        return Target(first)
    second = _outputs(against.strip(), model, records)
    if of.strip().casefold() == against.strip().casefold():
        raise InputError(f"target {text!r}: contrasts a label with itself")
    return Target(first, second)


def _outputs(part: str, model: Scorer, records: Sequence[Record]) -> NDArray[np.int64]:
    if part == "runner-up" and len(model.labels) < 2:
        raise InputError(f"target {part}: {model.name} has a single output")
    if part in ("predicted", "runner-up"):
        return np.full(len(records), PREDICTED if part == "predicted" else RUNNER_UP)
    if part == "gold":
        missing = next((record.id for record in records if record.label is None), None)
        if missing is not None:
            raise InputError(f"target gold: record {missing!r} has no label")
        return np.array([model.label_index(record.label or "") for record in records], dtype=np.int64)
    return np.full(len(records), model.label_index(part))


def name_targets(weights: NDArray[np.float32], labels: Sequence[str]) -> list[str | None]:
    """Name the labels explained from their weights (records, labels): "a", or "a - b" for a contrast.

    None stands where a contrast fell on one label (such as `predicted - gold` where the model is right).
    """
    names: list[str | None] = []
    for row in weights:
        if not row.any():
            names.append(None)
            continue
        against = f" - {labels[int(row.argmin())]}" if row.min() < 0 else ""
        names.append(f"{labels[int(row.argmax())]}{against}")
    return names
