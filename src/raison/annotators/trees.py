"""A prompt and all that is said to it as one sequence: every token attends to what stands before it in its own text.

Texts with a common beginning are the paths of a tree: the prompt is its trunk, every response a branch, and so are the
tags at the end of a prompt that is otherwise the same. Each token stands there once, at the position that it has in
its own text. The tree is written down depth first, so that what stands behind a token and belongs to it is one run of
columns: a token i is seen by j where i <= j < end(i).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
SHARED = 0.5  # part of a prompt that it must have in common with another one to be computed with it


class Said(NamedTuple):
    """A response as tokens, and the prompt that they follow."""

    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    label: tuple[bool, ...]  # which of them say the label


class Row(NamedTuple):
    """A tree of tokens, depth first; arrays (tokens,)."""

    ids: Ints
    position: Ints  # tokens before it in its own text
    end: Ints  # the first column that does not stand behind it


class Unit(NamedTuple):
    """What is computed together: some prompts with their responses, and what is asked of these.

    Arrays (tokens,) are of the responses' tokens, one response after the other.
    """

    rows: tuple[Row, ...]
    row: Ints  # (tokens,) the row that predicts the token
    column: Ints  # (tokens,) and the column there
    token: Ints  # (tokens,)
    response: Ints  # (tokens,) the response that it is of
    label: NDArray[np.bool_]  # (tokens,) whether it says the label
    reference: Floats  # (tokens,) its log-probability under the reference; zeros where there is none
    chosen: Ints  # (pairs,) a response; where there are no pairs, (responses,) those to be learned
    rejected: Ints  # (pairs,)
    weight: Floats  # of each of these
    beta: Floats  # (pairs,)

    @property
    def width(self) -> int:
        """Tokens of its longest row."""
        return max(len(row.ids) for row in self.rows)


# -------------------------------------------------------------------------------------------------------- trees


def grow(texts: Sequence[Sequence[int]]) -> tuple[Row, list[Ints]]:
    """Make the tree of texts, none of them empty, and give the columns of each text's tokens.

    In the order of their tokens, texts with a common beginning follow each other, so each adds what it does not share
    with the one before it.
    """
    ids, position, end = list[int](), list[int](), list[int]()
    paths: list[Ints] = [np.zeros(0, dtype=np.int64)] * len(texts)
    before: Sequence[int] = ()
    path: list[int] = []
    for index in sorted(range(len(texts)), key=lambda index: tuple(texts[index])):
        text = texts[index]
        same = common(before, text)
        for column in path[same:]:
            end[column] = len(ids)
        path = path[:same] + list(range(len(ids), len(ids) + len(text) - same))
        ids += text[same:]
        position += range(same, len(text))
        end += [0] * (len(text) - same)
        paths[index] = np.array(path, dtype=np.int64)
        before = text
    for column in path:
        end[column] = len(ids)
    return Row(*(np.array(values, dtype=np.int64) for values in (ids, position, end))), paths


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Give the length of what two texts begin with alike."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))


def lay_out(said: Sequence[Said], *, together: bool = True) -> Unit:
    """Lay out responses, without pairs: one tree, or for models that read none, one row for each distinct text.

    The last token of a response is never read, only predicted.
    """
    texts = [[*one.prompt, *one.ids[:-1]] for one in said]
    if together:
        row, paths = grow(texts)
        rows, row_of = [row], [0] * len(said)
    else:
        distinct = list(dict.fromkeys(map(tuple, texts)))
        rows = [grow([text])[0] for text in distinct]
        row_of = [distinct.index(tuple(text)) for text in texts]
        paths = [np.arange(len(text)) for text in texts]
    sizes = [len(one.ids) for one in said]
    none = np.zeros(0, dtype=np.float32)
    return Unit(
        rows=tuple(rows),
        row=np.repeat(row_of, sizes),
        column=np.concatenate([path[len(one.prompt) - 1 :] for path, one in zip(paths, said, strict=True)]),
        token=np.concatenate([one.ids for one in said]),
        response=np.repeat(np.arange(len(said)), sizes),
        label=np.concatenate([one.label for one in said]),
        reference=np.zeros(sum(sizes), dtype=np.float32),
        chosen=np.arange(len(said)),
        rejected=np.zeros(0, dtype=np.int64),
        weight=np.ones(len(said), dtype=np.float32),
        beta=none,
    )


def groups(prompts: Sequence[tuple[int, ...]], sizes: Sequence[int], most: int) -> list[list[int]]:
    """Say which prompts are computed in one tree: those that share enough of their beginning.

    Args:
        prompts: as tokens.
        sizes: tokens of each with its responses.
        most: tokens of a tree, as if nothing were shared; a prompt with more is a tree of its own.

    Returns:
        Indices of the prompts of each tree.
    """
    found: list[list[int]] = []
    order = sorted(range(len(prompts)), key=lambda index: prompts[index])
    for before, index in zip([None, *order], order, strict=False):
        alike = before is not None and common(prompts[before], prompts[index]) >= SHARED * len(prompts[index])
        if alike and sum(sizes[one] for one in [*found[-1], index]) <= most:
            found[-1].append(index)
        else:
            found.append([index])
    return found


# ------------------------------------------------------------------------------------------------------ batches


def collate(units: Sequence[Unit], padding: int, *, counted: bool = True) -> dict[str, Tensor]:
    """Put units into one batch.

    Args:
        units: at least one.
        padding: the token behind the end of a row.
        counted: False = the batch is there to fill a step, and nothing in it has weight.

    Returns:
        `input_ids` (rows, columns), with `position_ids` and `ends` of that shape, see `Row`, or, where every row is one
        text, `attention_mask`; `places` (rows, longest), the columns that predict something; of the responses' tokens
        (tokens,) `row`, `slot` (an index into the row's places), `token`, `response`, `label`, `reference`; `chosen`,
        `rejected`, `weight` and `beta` as in `Unit`; `responses` (), their number; and `counted` (), how many losses
        the batch has.
    """
    rows = [row for unit in units for row in unit.rows]
    width = max(len(row.ids) for row in rows)
    ids = np.full((len(rows), width), padding, dtype=np.int64)
    position = np.zeros((len(rows), width), dtype=np.int64)
    ends = np.tile(np.arange(1, width + 1), (len(rows), 1))  # padding is seen by itself alone
    for index, row in enumerate(rows):
        size = len(row.ids)
        ids[index, :size], position[index, :size], ends[index, :size] = row
    row_at = _starts([len(unit.rows) for unit in units])
    response_at = _starts([len(np.unique(unit.response)) for unit in units])
    row_of = _joined([unit.row + start for unit, start in zip(units, row_at, strict=False)])
    places, slot = _places(row_of, _joined([unit.column for unit in units]), len(rows))
    weight = _joined([unit.weight for unit in units])
    plain = all((row.position == np.arange(len(row.ids))).all() for row in rows)
    real = (np.arange(width) < np.array([len(row.ids) for row in rows])[:, None]).astype(np.int64)
    arrays: dict[str, NDArray[Any]] = {
        "input_ids": ids,
        **({"attention_mask": real} if plain else {"position_ids": position, "ends": ends}),
        "places": places,
        "row": row_of,
        "slot": slot,
        "token": _joined([unit.token for unit in units]),
        "response": _joined([unit.response + start for unit, start in zip(units, response_at, strict=False)]),
        "label": _joined([unit.label for unit in units]),
        "reference": _joined([unit.reference for unit in units]),
        "chosen": _joined([unit.chosen + start for unit, start in zip(units, response_at, strict=False)]),
        "rejected": _joined([unit.rejected + start for unit, start in zip(units, response_at, strict=False)]),
        "weight": weight if counted else np.zeros_like(weight),
        "beta": _joined([unit.beta for unit in units]),
        "responses": np.array(response_at[-1]),
        "counted": np.array(len(weight) if counted else 0),
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _starts(sizes: Sequence[int]) -> list[int]:
    return [0, *np.cumsum(sizes).tolist()]


def _joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(arrays)


def _places(row: Ints, column: Ints, rows: int) -> tuple[Ints, Ints]:
    """Give the distinct columns that each row is read at, padded with column 0, and the slot of each token there."""
    width = int(column.max()) + 1
    known, slot = np.unique(row * width + column, return_inverse=True)
    counts = np.bincount(known // width, minlength=rows)
    first = np.cumsum(counts) - counts
    places = np.zeros((rows, int(counts.max())), dtype=np.int64)
    places[known // width, np.arange(len(known)) - first[known // width]] = known % width
    return places, slot - first[row]


def attention_mask(ends: Tensor) -> Tensor:
    """Say what each token sees: (rows, 1, columns, columns) boolean, from the ends (rows, columns) of a batch."""
    order = torch.arange(ends.shape[1], device=ends.device)
    return ((order <= order[:, None]) & (order[:, None] < ends[:, None, :]))[:, None]


# -------------------------------------------------------------------------------------------------------- steps


def parted(units: Sequence[Unit], max_tokens: int) -> list[list[Unit]]:
    """Part units into batches of at most `max_tokens` padded tokens, longest first; a longer unit is alone."""
    found: list[list[Unit]] = []
    rows = 0
    for unit in sorted(units, key=lambda unit: -unit.width):
        rows += len(unit.rows)
        if not found or rows * found[-1][0].width > max_tokens:
            found.append([])
            rows = len(unit.rows)
        found[-1].append(unit)
    return found


class Steps:
    """The batches of a training, as the trainer's data set: a step takes some items, whatever fits into one batch.

    Items are shuffled anew in every epoch. Every step has the same number of batches, as the trainer wants it: the
    least that suffices for all, for each process the same; where a step has too few units to be parted so often, there
    are batches without weight.

    Args:
        items: the units of each item.
        batch: items of a step.
        max_tokens: padded tokens of a batch.
        epochs: how many there will be.
        seed: of the shuffling.
        processes: that share the work of a step.
    """

    def __init__(  # noqa: PLR0917
        self, items: Sequence[Sequence[Unit]], batch: int, max_tokens: int, epochs: int, seed: int, processes: int = 1
    ) -> None:
        self.items, self.batch, self.max_tokens, self.seed = items, batch, max_tokens, seed
        self.filler = min((unit for units in items for unit in units), key=lambda unit: unit.width)
        most = max(len(batches) for epoch in range(epochs) for batches in self._steps(epoch))
        self.accumulate = -(-most // processes)  # batches of a step in one process
        self.parts = self.accumulate * processes
        self.epoch, self.steps = 0, self._steps(0)

    def _steps(self, epoch: int) -> list[list[list[Unit]]]:
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.items)).tolist()
        chosen = [order[start : start + self.batch] for start in range(0, len(order), self.batch)]
        return [parted([unit for index in some for unit in self.items[index]], self.max_tokens) for some in chosen]

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch it is."""
        self.epoch, self.steps = epoch, self._steps(epoch)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self.steps) * self.parts

    def __getitem__(self, index: int) -> tuple[Sequence[Unit], bool]:
        """Give the units of a batch, and whether they count."""
        batches = list(self.steps[index // self.parts])
        while len(batches) < self.parts and (longest := max(batches, key=len))[1:]:
            place = batches.index(longest)
            half = len(longest) // 2
            batches[place : place + 1] = [longest[:half], longest[half:]]
        part = index % self.parts
        return (batches[part], True) if part < len(batches) else ([self.filler], False)
