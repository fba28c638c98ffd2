"""What every model that scores labels has in common: batches, label scores, predictions, masked predictions."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raison.masking import ModelInput, Operator, apply
from raison.models import batching
from raison.records import InputError, Prediction, Record
from raison.words import Mask, Segmenter, Tokens

Probabilities = NDArray[np.float64]


class Batch(NamedTuple):
    """Padded inputs on the model's device; tensors (rows, tokens)."""

    ids: Tensor
    types: Tensor
    attention: Tensor
    lengths: Tensor  # (rows,) tokens of each row without padding


class Scorer:
    """A model that gives every label a score: what attribution and evaluation need of one, whatever it is made of.

    Those below say how records become tokens (`encode`) and how a batch is scored (`forward`).
    """

    model: Any
    tokenizer: Any
    labels: tuple[str, ...]
    name: str
    segment: Segmenter
    device: torch.device
    max_tokens: int  # padded tokens of one batch
    max_length: int  # longest input in tokens
    scored: str = "logit"  # what the scores of labels are
    reads_last: bool  # whether labels are scored at the last token (causal models) or at the first
    _padding: int

    @property
    def convention(self) -> dict[str, Any]:
        """What a result says about how labels are asked for; nothing where a model has a head for them."""
        return {}

    def encode(self, records: Sequence[Record]) -> list[Tokens]:
        """Tokenize records as the model reads them, and align the tokens with the words."""
        raise NotImplementedError

    def forward(self, batch: Batch, embeddings: Tensor | None = None, **options: Any) -> Any:
        """Run the model on a batch; differentiable; `.logits` of what it gives is (rows, labels)."""
        raise NotImplementedError

    def batch(self, inputs: Sequence[ModelInput | Tokens]) -> Batch:
        """Pad inputs on the right to the longest of them; one without any token reads a single padding token.

        An input that replacements have made longer than the model reads loses its last tokens but the very last.
        """
        inputs = [_cut(row, self.max_length) if len(row.ids) > self.max_length else row for row in inputs]
        longest = max([1, *(len(row.ids) for row in inputs)])
        ids = np.full((len(inputs), longest), self._padding, dtype=np.int64)
        types = np.zeros((len(inputs), longest), dtype=np.int64)
        attention = np.zeros((len(inputs), longest), dtype=np.int64)
        for index, row in enumerate(inputs):
            size = len(row.ids)
            ids[index, :size] = row.ids
            types[index, :size] = row.types
            attention[index, :size] = row.attention if isinstance(row, ModelInput) else 1
            attention[index, 0] |= size == 0
        lengths = np.array([max(1, len(row.ids)) for row in inputs], dtype=np.int64)
        return Batch(*(torch.from_numpy(array).to(self.device) for array in (ids, types, attention, lengths)))

    def embed(self, batch: Batch) -> Tensor:
        """Give the word embeddings of a batch, detached: (rows, tokens, hidden)."""
        with torch.no_grad():
            return self.model.get_input_embeddings()(batch.ids)

    def logits(
        self,
        inputs: Sequence[ModelInput | Tokens],
        progress: str | None = None,
        of: Sequence[Tokens] | None = None,
    ) -> NDArray[np.float32]:
        """Score inputs: (inputs, labels) float32. The order and size of batches make no difference.

        Args:
            inputs: encoded records, or versions of them in which words are masked.
            progress: title of the progress bar.
            of: the encoded record that each input is a version of, for models that can make use of it.
        """
        result = np.zeros((len(inputs), len(self.labels)), dtype=np.float32)

        def step(indices: batching.Indices) -> NDArray[np.float32]:
            with torch.inference_mode():
                return self.forward(self.batch([inputs[i] for i in indices])).logits.float().cpu().numpy()

        lengths = [len(row.ids) for row in inputs]
        for indices, values in batching.run(lengths, step, self.max_tokens, progress):
            result[indices] = values
        return result

    def predict(self, records: Sequence[Record], progress: str | None = None) -> list[Prediction]:
        """Predict a label, with probabilities, for each record."""
        probabilities = softmax(self.logits(self.encode(records), progress))
        return [
            Prediction(
                record.id,
                self.name,
                self.labels[int(row.argmax())],
                dict(zip(self.labels, row.tolist(), strict=True)),
            )
            for record, row in zip(records, probabilities, strict=True)
        ]

    def predict_masked(
        self,
        tokens: Sequence[Tokens],
        masks: Sequence[Mask],
        operator: Operator,
        known: dict[bytes, Probabilities] | None = None,
    ) -> list[Probabilities]:
        """Predict records with words taken away; every distinct input is run once.

        Args:
            tokens: the encoded records.
            masks: for each record (masks, words) boolean; True = taken away.
            operator: what stands in the place of masked words.
            known: answers of earlier calls, by input; used and added to.

        Returns:
            For each record (masks, labels) probabilities.
        """
        known = {} if known is None else known
        keys: list[list[bytes]] = []
        new: dict[bytes, tuple[ModelInput, Tokens]] = {}
        for record, wanted in zip(tokens, masks, strict=True):
            rows = apply(operator, record, wanted)
            keys.append([_key(row) for row in rows])
            new.update((key, (row, record)) for key, row in zip(keys[-1], rows, strict=True) if key not in known)
        inputs, of = [row for row, _ in new.values()], [record for _, record in new.values()]
        known.update(zip(new, softmax(self.logits(inputs, of=of)), strict=True))
        return [np.array([known[key] for key in row]).reshape(len(row), len(self.labels)) for row in keys]

    def label_index(self, label: str) -> int:
        """Give the output of a label; names are compared without case.

        Raises:
            InputError: the model has no such label.
        """
        for index, name in enumerate(self.labels):
            if name.casefold() == label.casefold():
                return index
        raise InputError(f"{self.name} has no label {label!r}; it has {', '.join(self.labels)}")


def _cut(row: ModelInput | Tokens, length: int) -> ModelInput | Tokens:
    """Keep the first tokens of an input and the last, which is special in most models."""
    assert isinstance(row, ModelInput), "encoded records are cut by their tokenizer"
    kept = np.append(np.arange(length - 1), len(row.ids) - 1)
    return ModelInput(row.ids[kept], row.types[kept], row.attention[kept])


def _key(row: ModelInput) -> bytes:
    """Give what tells one input from another, in 16 bytes."""
    return blake2b(b"".join(array.tobytes() for array in row), digest_size=16).digest()


def softmax(logits: NDArray[Any]) -> Probabilities:
    """Turn logits (..., labels) into probabilities, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponents = np.exp(shifted)
    return exponents / exponents.sum(axis=-1, keepdims=True)


@contextmanager
def embeddings_are(model: Any, embeddings: Tensor | None) -> Generator[None]:
    """Let the model's embedding layer give `embeddings`, whatever ids it is asked for."""
    if embeddings is None:
        yield
        return
    hook = model.get_input_embeddings().register_forward_hook(lambda *_: embeddings)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def projected(model: Any, places: Tensor) -> Generator[None]:
    """Let only some places of each row meet the vocabulary: (rows, places) columns of the hidden states."""
    rows = torch.arange(len(places), device=places.device)[:, None]

    def pick(_module: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (given[0][rows.to(given[0].device), places.to(given[0].device)], *given[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(pick)
    try:
        yield
    finally:
        hook.remove()
