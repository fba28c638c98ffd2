"""A classifier of texts or pairs of texts: any `AutoModelForSequenceClassification`."""

import inspect
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from raison.masking import ModelInput
from raison.models import batching
from raison.models.scorer import Batch, Scorer, embeddings_are
from raison.models.shortcut import Shortcut
from raison.records import InputError, Record
from raison.words import Segmenter, Tokens, tokenize, whitespace_words, word_grid

LOADING_ERRORS = (
    OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError, UnpicklingError,
)  # fmt: skip


class Classifier(Scorer):
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
            InputError: there is no such model or device, or it is not a sequence classifier.
        """
        from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

        name = str(path)
        expect_folder(name)
        place = device_of(device)
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
            model = model.to(place)
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
        with nullcontext() if plain else self._shortcut.taken(), embeddings_are(self.model, embeddings):
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
    """Refuse a file, and a name that can only be a folder's and is none.

    A hub id has one slash at most, and no dot or slash first.

    Raises:
        InputError: it is empty, or a file, or there is no such folder.
    """
    if not name:
        raise InputError("the model has an empty name; expected a folder or a hub id")
    if Path(name).is_file():
        raise InputError(f"{name}: a file; expected the folder of a model, or a hub id")
    if (name.startswith(("/", ".", "~")) or name.count("/") > 1) and not Path(name).is_dir():
        raise InputError(f"{name}: no such folder")


def expect_weights(found: Mapping[str, Any], name: str, kind: str) -> None:
    """Refuse a model that was loaded with weights made up, since its file lacks them.

    Args:
        found: how loading went, see transformers' `output_loading_info`.
        name: its folder or hub id.
        kind: what it should be.

    Raises:
        InputError: one line that names a weight.
    """
    if found["missing_keys"]:
        raise InputError(f"{name}: not a {kind}: the file of weights lacks {min(found['missing_keys'])}")


def device_of(wanted: str | None) -> str:
    """Give the device asked for; None = the first accelerator, else the CPU.

    Raises:
        InputError: there is no such device here.
    """
    if wanted is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=wanted).item()
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts
        raise InputError(f"device {wanted!r}: there is none here ({first_line(error)})") from None
    return wanted


def _expect_classifier(config: Any, name: str) -> None:
    """Refuse a model that was saved with another head: it would be given a random one without a word."""
    heads: list[str] = config.architectures or []
    if heads and not any(head.endswith("ForSequenceClassification") for head in heads):
        raise InputError(f"{name}: a {heads[0]}, not a sequence classifier; train one first (raison train)")
