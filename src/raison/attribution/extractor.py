"""The extractor of DiffMask: reads a model's hidden states, and says which tokens the model could do without.

De Cao et al. (2020), "How do decisions emerge across layers in neural models?", with the gates that UIMER trains
through (Chen et al. 2023, section 3.3).
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from raison.attribution import gates
from raison.attribution.gates import Gate
from raison.records import InputError

Kind = Literal["input", "hidden"]
RAISED = 200.0  # a multiplier never grows beyond


class Extractor(nn.Module):
    """Gates over the tokens of a model's input, one set for each of its hidden states, and what stands behind them.

    State 0 is what the word embeddings give, state 1 what the first layer reads, the others what each layer gives. With
    `input` gates, layer l's gates read states 0 and l; a token's gate up to l is the product of its gates of all states
    up to l, and its word embedding h becomes h z + b (1 - z), with one learned placeholder b. With `hidden` gates,
    layer l's gates read state l and state l is what they change, with a placeholder of its own.

    Only tokens of words have gates. All others (special, template, padding) are what they are: their gate is 1.

    Args:
        widths: of the states, from the word embeddings to the last layer.
        kind: what the gates change.
        seed: of the first weights.

    Raises:
        InputError: the kind is unknown.
    """

    def __init__(self, widths: Sequence[int], kind: Kind = "input", seed: int = 0) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise InputError(f"gate {kind!r}: expected {' or '.join(get_args(Kind))}")
        self.widths, self.kind = tuple(widths), kind
        generator = torch.Generator().manual_seed(seed)
        reads = [width + (self.widths[0] if kind == "input" else 0) for width in self.widths]
        self.gates = nn.ModuleList(
            Gate(read, max(1, width // 4), generator) for read, width in zip(reads, self.widths, strict=True)
        )
        behind = self.widths[:1] if kind == "input" else self.widths
        self.placeholders = nn.ParameterList(torch.zeros(width) for width in behind)
        self.multipliers: Tensor
        self.register_buffer("multipliers", torch.ones(len(self.widths)))  # one constraint for each state

    def logits(self, states: Sequence[Tensor], layer: int | None = None, *, learn: bool = True) -> Tensor:
        """Give the logits of the gates that a token's gate at a layer is the product of.

        Args:
            states: (rows, tokens, width) of each state, at least up to the layer.
            layer: up to which (`input`) or of which (`hidden`) state; default: the last.
            learn: whether gradients reach the extractor's weights; they reach the states in any case.

        Returns:
            (factors, rows, tokens).
        """
        last = len(self.widths) - 1 if layer is None else layer
        if self.kind == "hidden":
            return self.gates[last]([states[last]], learn)[None]
        first = states[0]
        return torch.stack([self.gates[index]([first, states[index]], learn) for index in range(last + 1)])

    def mix(self, state: Tensor, keep: Tensor, layer: int) -> Tensor:
        """Put the placeholder in the place of what the gates do not keep.

        Args:
            state: the word embeddings (`input`), or the state of the layer (`hidden`): (rows, tokens, width). Columns
                behind those of the gates stay.
            keep: gates (rows, tokens).
            layer: whose gates they are.
        """
        behind = self.placeholders[0 if self.kind == "input" else layer].to(state.dtype)
        share = nn.functional.pad(keep, (0, state.shape[1] - keep.shape[1]), value=1.0)[..., None].to(state.dtype)
        return state * share + behind * (1 - share)

    def keep(
        self,
        states: Sequence[Tensor],
        layer: int | None = None,
        *,
        sampled: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Give each token's gate, differentiable with respect to the states, and through them the model.

        The extractor's own weights get no gradient.

        Args:
            states: of one pass of the model, see `raison.attribution.states.seen`.
            layer: see `logits`. Default: the last for `input` gates; for `hidden` ones the mean over all layers.
            sampled: draw the gates, or take what they are on average.
            generator: of the draws; on the CPU.

        Returns:
            (rows, tokens) from 0 to 1, also for tokens that are not gated.
        """
        layers = range(len(self.widths)) if self.kind == "hidden" and layer is None else (layer,)
        found: list[Tensor] = []
        for index in layers:
            logits = self.logits(states, index, learn=False)
            factors = gates.sample(logits, generator) if sampled else gates.expected(logits)
            found.append(factors.prod(dim=0))
        return torch.stack(found).mean(dim=0)

    def scores(
        self,
        states: Sequence[Tensor],
        word: Tensor,
        *,
        words: int | None = None,
        layer: int | None = None,
        sampled: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Score words by the mean of their tokens' gates: what aligns a model with people's rationales (UIMER-DM).

        Args:
            states: see `keep`, also for the rest.
            word: (rows, tokens) index of each token's word on the record's word axis; -1 = of no word, or padding.
            words: how many columns the result has; default: as many as the longest record needs.
            layer: see `keep`.
            sampled: see `keep`.
            generator: see `keep`.

        Returns:
            (rows, words) from 0 to 1; NaN for words that have no token.
        """
        return word_means(self.keep(states, layer, sampled=sampled, generator=generator), word, words)

    @property
    def hash(self) -> str:
        """A short hash of the extractor, by which results name it."""
        digest = hashlib.sha256(self.kind.encode())
        for name, tensor in self.state_dict().items():
            digest.update(name.encode() + tensor.float().numpy(force=True).tobytes())
        return digest.hexdigest()[:16]

    def save(self, path: str | Path) -> None:
        """Write the extractor as safetensors."""
        from safetensors.torch import save_file

        tensors = {name: tensor.detach().contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, path, {"raison": "diffmask", "kind": self.kind, "widths": json.dumps(self.widths)})

    @classmethod
    def load(cls, path: str | Path) -> "Extractor":
        """Read an extractor that `save` wrote, to the CPU.

        Raises:
            InputError: there is no such file, or it is none of ours.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                said = file.metadata() or {}
                extractor = cls(json.loads(said["widths"]), said["kind"])
                extractor.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError):
            raise InputError(f"{path}: not an extractor that raison wrote") from None
        return extractor


def gated(keep: Tensor, word: Tensor) -> Tensor:
    """Open the gates of all tokens that belong to no word: special, template and padding tokens."""
    return torch.where(word >= 0, keep, 1.0)


def mean_log_open(log_open: Tensor, word: Tensor) -> Tensor:
    """Give the mean of log P(z != 0) over the tokens of words, for each row (rows,); 0 where there are none.

    This is the penalty of DiffMask. A gate that is a product of independent gates is not 0 with the product of their
    chances, so its logarithm is the sum of theirs. The mean of the logarithms is at most the logarithm of the expected
    share of open gates (Jensen), which L0 counts. It is a surrogate: unlike that share it goes on pushing at gates
    that are nearly closed, so that no factor of a product is left without a gradient once another is near 0.

    Args:
        log_open: log P(z != 0) of each token (rows, tokens).
        word: (rows, tokens), -1 = of no word; these take no part.
    """
    inside = word >= 0
    return torch.where(inside, log_open, 0.0).sum(dim=1) / inside.sum(dim=1).clamp(min=1)


def word_means(values: Tensor, word: Tensor, words: int | None = None) -> Tensor:
    """Pool tokens (rows, tokens) to words (rows, words) by their mean; differentiable.

    Args:
        values: of the tokens.
        word: (rows, tokens) index of each token's word; -1 = of no word.
        words: columns of the result; default: as many as there are words in the longest row.

    Returns:
        (rows, words); NaN for words without a token.
    """
    inside = word >= 0
    size = int(word.max()) + 1 if words is None else words
    place = torch.where(inside, word, size)  # one column more, for all that is of no word
    empty = values.new_zeros(len(word), size + 1)
    sums = empty.scatter_add(1, place, values)[:, :size]
    counts = empty.scatter_add(1, place, torch.ones_like(values))[:, :size]
    return torch.where(counts > 0, sums / counts.clamp(min=1), torch.nan)
