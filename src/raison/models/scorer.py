"""What every model that scores labels has in common: batches, label scores, predictions, masked predictions."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raison.masking import ModelInput, Operator, apply
from raison.models import batching
from raison.models.last import asking
from raison.models.watch import NAME as WATCHED
from raison.models.watch import is_whole
from raison.records import InputError, Prediction, Record
from raison.words import Mask, Segmenter, Tokens

Probabilities = NDArray[np.float64]
T = TypeVar("T")


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
    tail: int = 1  # tokens at the end of an input that no cut takes away; the last is special in most models
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

    def read_from(self, batch: Batch) -> Tensor:
        """Give the position of each row that its scores are read from: (rows,)."""
        return batch.lengths - 1 if self.reads_last else torch.zeros_like(batch.lengths)

    def batch(self, inputs: Sequence[ModelInput | Tokens]) -> Batch:
        """Pad inputs on the right to the longest of them; one without any token reads a single padding token.

        An input that replacements have made longer than the model reads loses its last tokens, but never the `tail`.
        """
        return Batch(*(tensor.to(self.device) for tensor in self.pad(inputs)))

    def pad(self, inputs: Sequence[ModelInput | Tokens]) -> Batch:
        """Do `batch` without moving anything to the model's device."""
        inputs = [cut(row, self.max_length, self.tail) if len(row.ids) > self.max_length else row for row in inputs]
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
        return Batch(*(torch.from_numpy(array) for array in (ids, types, attention, lengths)))

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

        def ask(inputs: Sequence[ModelInput], of: Sequence[Tokens]) -> Probabilities:
            return softmax(self.logits(inputs, of=of))

        answers = each_once(apply_all(operator, tokens, masks), tokens, ask, known)
        return [np.array(rows).reshape(len(rows), len(self.labels)) for rows in answers]

    def predict_soft(
        self, tokens: Sequence[Tokens], keep: Sequence[NDArray[Any]], draws: int, seed: int = 0
    ) -> list[Probabilities]:
        """Predict records with words taken away in part, see `raison.models.soft.predict_soft`."""
        from raison.models.soft import predict_soft  # which builds on this file

        return predict_soft(self, tokens, keep, draws, seed)

    def label_index(self, label: str) -> int:
        """Give the output of a label; names are compared without case.

        Raises:
            InputError: the model has no such label.
        """
        for index, name in enumerate(self.labels):
            if name.casefold() == label.casefold():
                return index
        raise InputError(f"{self.name} has no label {label!r}; it has {', '.join(self.labels)}")


def apply_all(operator: Operator, tokens: Sequence[Tokens], masks: Sequence[Mask]) -> list[list[ModelInput]]:
    """Mask the words of each record in each way (masks, words)."""
    return [apply(operator, record, wanted) for record, wanted in zip(tokens, masks, strict=True)]


def each_once(
    versions: Sequence[Sequence[ModelInput]],
    of: Sequence[Tokens],
    ask: Callable[[Sequence[ModelInput], Sequence[Tokens]], Iterable[T]],
    known: dict[bytes, T] | None = None,
) -> list[list[T]]:
    """Ask for every distinct input once.

    Args:
        versions: of each record.
        of: the records.
        ask: takes inputs, and the record that each is a version of, and gives their answers in order.
        known: answers of earlier calls, by input; used and added to.

    Returns:
        For each record the answers to its versions.
    """
    known = {} if known is None else known
    keys = [[_key(row) for row in rows] for rows in versions]
    new: dict[bytes, tuple[ModelInput, Tokens]] = {}
    for record, rows, names in zip(of, versions, keys, strict=True):
        new.update((key, (row, record)) for key, row in zip(names, rows, strict=True) if key not in known)
    answers = ask([row for row, _ in new.values()], [record for _, record in new.values()])
    known.update(zip(new, answers, strict=True))
    return [[known[key] for key in names] for names in keys]


def cut(row: ModelInput | Tokens, length: int, tail: int) -> ModelInput:
    """Keep the first tokens of an input that is longer than `length`, and its last, the `tail`: `length` in all."""
    assert isinstance(row, ModelInput), "encoded records are cut by their tokenizer"
    last = min(tail, length)
    kept = np.r_[: length - last, len(row.ids) - last : len(row.ids)]
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
    """Let only some places of each row go through the last layer, but for their keys and values, and the vocabulary.

    After the last attention no token sees another one, so what the others ask there, and become, is read by nobody,
    unless by who looks at hidden states (see `raison.models.watch.whole`).

    Args:
        model: any Hugging Face causal language model.
        places: (rows, places) columns of the hidden states, those of a row distinct.
    """
    rows = torch.arange(len(places), device=places.device)[:, None]

    def at(states: Tensor) -> tuple[Tensor, Tensor]:
        return rows.to(states.device), places.to(states.device)

    def pick(_module: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (given[0][at(given[0])], *given[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(pick)
    try:
        with ExitStack() as stack:
            for module in [] if is_whole() else _last_modules(model):
                stack.enter_context(_narrowed(module, at))
            attention = None if is_whole() else _last_attention(model)
            if attention is not None:
                stack.enter_context(asking(model, attention, places))
            yield
    finally:
        hook.remove()


@contextmanager
def _narrowed(module: Any, at: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Generator[None]:
    """Let a module that takes each position by itself run on some places alone; it gives zeros for the others."""
    whole: list[Tensor] = []  # what it was given, while it runs

    def narrow(_module: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if len(given) != 1 or given[0].dim() != 3:
            return given
        whole.append(given[0])
        return (given[0][at(given[0])],)

    def widen(_module: Any, _given: Any, output: Any) -> Any:
        if not whole:
            return output
        states = whole.pop()
        empty = output.new_zeros(*states.shape[:2], output.shape[-1])
        return empty.index_put_(at(states), output)

    hooks = [module.register_forward_pre_hook(narrow), module.register_forward_hook(widen)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _last_attention(model: Any) -> Any:
    """Give the attention module of a causal model's last layer; None where it is not known or not torch's own."""
    layer = _last_layer(model)
    own = getattr(model.config, "_attn_implementation", None) == "sdpa"
    return getattr(layer, "self_attn", None) if own and getattr(model, "_supports_attention_backend", False) else None


def _last_layer(model: Any) -> Any:
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    lists = [child for child in decoder.children() if isinstance(child, torch.nn.ModuleList)] if decoder else []
    return lists[0][-1] if lists and len(lists[0]) else None


def _last_modules(model: Any) -> list[Any]:
    """Give what a causal model's last layer may run on some positions alone; nothing of layers that are not known.

    These are the feed-forward module, and those that make queries and project attention's output; the latter two only
    where nobody reads the whole attention matrix.
    """
    last, found = _last_layer(model), list[Any]()
    feed = getattr(last, "mlp", None)
    if feed is not None and not any("router" in name or name == "gate" for name, _ in feed.named_children()):
        found.append(feed)  # a mixture of experts returns its choices too
    if getattr(model.config, "_attn_implementation", "eager") not in ("eager", WATCHED):
        attention = getattr(last, "self_attn", None)
        found += [getattr(attention, name) for name in ("q_proj", "o_proj") if hasattr(attention, name)]
    return found
