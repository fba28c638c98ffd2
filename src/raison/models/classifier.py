"""A classifier of texts or pairs of texts: any `AutoModelForSequenceClassification`."""

import inspect
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from raison.masking import ModelInput, Operator, apply
from raison.models import batching
from raison.models.shortcut import Shortcut
from raison.records import InputError, Prediction, Record
from raison.words import Mask, Segmenter, Tokens, tokenize, whitespace_words, word_grid

Probabilities = NDArray[np.float64]
LOADING_ERRORS = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError)


class Batch(NamedTuple):
    """Padded inputs on the model's device; tensors (rows, tokens)."""

    ids: Tensor
    types: Tensor
    attention: Tensor


class Classifier:
    """A sequence classifier with its tokenizer. Both are left as the caller gave them, except that dropout is off.

    Args:
        model: any Hugging Face sequence classification model.
        tokenizer: its fast tokenizer.
        labels: names of the outputs, in order; default: those of the model's configuration.
        name: what results call the model; default: the name in its configuration.
        segment: how texts are cut into words.
        max_tokens: padded tokens of one batch; default: by device.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        labels: Sequence[str] | None = None,
        name: str | None = None,
        segment: Segmenter = whitespace_words,
        max_tokens: int | None = None,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.segment = segment
        self.name = name or Path(str(getattr(model.config, "_name_or_path", ""))).name or type(model).__name__
        configured: Mapping[int, str] = model.config.id2label
        self.labels = tuple(labels) if labels else tuple(configured[index] for index in sorted(configured))
        if len(self.labels) != len(configured):
            raise InputError(
                f"{self.name}: {len(self.labels)} labels given, but the model has {len(configured)} outputs"
            )
        self.device = next(model.parameters()).device
        self.max_tokens = max_tokens or (batching.TOKENS if self.device.type == "cpu" else batching.TOKENS_GPU)
        self.max_length = longest(model.config, tokenizer)
        self.reads_last = _is_causal(model.config.model_type)
        self._padding = _padding(model.config, tokenizer, self.name, self.reads_last)
        self._reads_types = "token_type_ids" in tokenizer.model_input_names
        self._shortcut = Shortcut(model, self._probe)
        # a causal model would keep every layer's keys and values for a next token that never comes
        self._fixed = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str | None = None,
        dtype: str = "float32",
        trust_remote_code: bool = False,
        **options: Any,
    ) -> "Classifier":
        """Load a classifier from a folder or a hub id; weights as safetensors only.

        Args:
            path: a folder that `save_pretrained` wrote, or a hub id.
            device: "cpu", "cuda", "cuda:1", ...; default: the first accelerator, else the CPU.
            dtype: "float32", "bfloat16" or "float16".
            trust_remote_code: run code that comes with the model. Off unless asked for.
            options: of the constructor.

        Raises:
            InputError: there is no such model, or it is not a sequence classifier.
        """
        from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

        name = str(path)
        expect_folder(name)
        try:
            config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
            _expect_classifier(config, name)
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
            model = AutoModelForSequenceClassification.from_pretrained(
                name,
                config=config,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
            )
            model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except LOADING_ERRORS as error:
            raise InputError(f"{name}: can't be loaded as a classifier ({first_line(error)})") from None
        options.setdefault("name", Path(name).name)
        return cls(model, tokenizer, **options)

    # ------------------------------------------------------------------------------------------------ encoding

    def encode(self, records: Sequence[Record]) -> list[Tokens]:
        """Tokenize records as the model reads them: one field as a text, two as a pair, in the order of the record.

        Raises:
            InputError: records have more than two fields, or not the same number.
        """
        grids = [word_grid(record, self.segment) for record in records]
        return tokenize(self.tokenizer, grids, [tuple(record.fields.values()) for record in records], self.max_length)

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
        return Batch(*(torch.from_numpy(array).to(self.device) for array in (ids, types, attention)))

    # ----------------------------------------------------------------------------------------------- forwards

    def forward(self, batch: Batch, embeddings: Tensor | None = None, **options: Any) -> Any:
        """Run the model on a batch; differentiable.

        Args:
            batch: padded inputs.
            embeddings: (rows, tokens, hidden) taken in place of the word embeddings of `batch.ids`. The ids still say
                where padding is and which positions the tokens have, so that every architecture reads the same input.
            options: further arguments of the model, such as `output_attentions`.

        Returns:
            The model's output; `.logits` is (rows, labels).
        """
        plain = bool(options) or self.model.training
        with nullcontext() if plain else self._shortcut.taken(), _embeddings_are(self.model, embeddings):
            return self._run(batch, **options)

    def _run(self, batch: Batch, **options: Any) -> Any:
        types = {"token_type_ids": batch.types} if self._reads_types else {}
        return self.model(input_ids=batch.ids, attention_mask=batch.attention, **types, **self._fixed, **options)

    def _probe(self) -> Tensor:
        """Score three made-up inputs of different lengths."""
        rng, known = np.random.default_rng(0), self.model.get_input_embeddings().num_embeddings
        rows = [rng.integers(0, known, size) for size in (9, 6, 3)]
        made = [ModelInput(ids, np.zeros_like(ids), np.ones(len(ids), dtype=np.bool_)) for ids in rows]
        return self._run(self.batch(made)).logits

    def embed(self, batch: Batch) -> Tensor:
        """Give the word embeddings of a batch, detached: (rows, tokens, hidden)."""
        with torch.no_grad():
            return self.model.get_input_embeddings()(batch.ids)

    def logits(self, inputs: Sequence[ModelInput | Tokens], progress: str | None = None) -> NDArray[np.float32]:
        """Score inputs: (inputs, labels) float32. The order and size of batches make no difference."""
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
        new: dict[bytes, ModelInput] = {}
        for record, wanted in zip(tokens, masks, strict=True):
            rows = apply(operator, record, wanted)
            keys.append([_key(row) for row in rows])
            new.update((key, row) for key, row in zip(keys[-1], rows, strict=True) if key not in known)
        known.update(zip(new, softmax(self.logits(list(new.values()))), strict=True))
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


def first_line(error: BaseException) -> str:
    """Give the first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _is_causal(model_type: str) -> bool:
    """Whether models of this type are causal, with a classification head that reads the last token."""
    from transformers.models.auto import modeling_auto

    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return model_type in causal and model_type not in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES


def _padding(config: Any, tokenizer: Any, name: str, reads_last: bool) -> int:
    """Give the id that fills rows up: the model's own, since heads and positions look for it, else the tokenizer's."""
    own = getattr(config, "pad_token_id", None)
    if own is None and reads_last:
        raise InputError(f"{name}: its configuration has no pad_token_id, by which it finds the last token of a text")
    return own if own is not None else tokenizer.pad_token_id or 0


def longest(config: Any, tokenizer: Any) -> int:
    """Give the longest input in tokens: the smaller of what the tokenizer and the model's positions allow."""
    positions = getattr(config, "max_position_embeddings", None) or 512
    if config.model_type in ("roberta", "xlm-roberta", "camembert", "longformer"):
        positions -= 2  # these count positions from after the padding token's
    return int(min(tokenizer.model_max_length, positions))


def expect_folder(name: str) -> None:
    """Refuse a name that can only be a folder and is none: a hub id has one slash at most, and no dot or slash first.

    Raises:
        InputError: there is no such folder.
    """
    if (name.startswith(("/", ".", "~")) or name.count("/") > 1) and not Path(name).is_dir():
        raise InputError(f"{name}: no such folder")


def _expect_classifier(config: Any, name: str) -> None:
    """Refuse a model that was saved with another head: it would be given a random one without a word."""
    heads: list[str] = config.architectures or []
    if heads and not any(head.endswith("ForSequenceClassification") for head in heads):
        raise InputError(f"{name}: a {heads[0]}, not a sequence classifier; train one first (raison train)")


@contextmanager
def _embeddings_are(model: Any, embeddings: Tensor | None) -> Generator[None]:
    """Let the model's embedding layer give `embeddings`, whatever ids it is asked for."""
    if embeddings is None:
        yield
        return
    hook = model.get_input_embeddings().register_forward_hook(lambda *_: embeddings)
    try:
        yield
    finally:
        hook.remove()
