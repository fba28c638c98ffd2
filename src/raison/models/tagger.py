"""A tagger of words, for slot filling: any encoder with a head over BIO tags, and a random field over them or none."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from raison.models import batching
from raison.models.classifier import LOADING_ERRORS, device_of, expect_folder, first_line, longest
from raison.models.slots import OUTSIDE, tags_of_slots
from raison.records import InputError, Record
from raison.words import Ints, Segmenter, Tokens, tokenize, whitespace_words, word_grid

if TYPE_CHECKING:
    from raison.models.tagger_network import TaggerNetwork


def first_tokens(tokens: Tokens) -> Ints:
    """Give the position of each word's first token (words,); -1 = a word that the model does not see."""
    result = np.full(len(tokens.grid), -1, dtype=np.int64)
    words, positions = np.unique(tokens.word, return_index=True)
    result[words[words >= 0]] = positions[words >= 0]
    return result


def collate(
    tokens: Sequence[Tokens], tags: Sequence[Ints] | None = None, *, padding: int = 0, types: bool = True
) -> dict[str, Tensor]:
    """Pad records to the longest of them, as the arguments of `TaggerNetwork.forward`; on the CPU.

    Args:
        tokens: encoded records.
        tags: for each of them (words,) indices of its gold tags.
        padding: the id that fills rows up.
        types: whether the encoder reads token types.

    Returns:
        `input_ids`, `attention_mask` and, if wanted, `token_type_ids` (rows, tokens); `word_index` (rows, words) and,
        if given, `tags` (rows, words). A row without any token reads a single padding token.
    """

    def pad(rows: Sequence[Ints], fill: int) -> Tensor:
        return pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True, padding_value=fill)

    empty = np.zeros(1, dtype=np.int64)
    batch = {
        "input_ids": pad([row.ids if len(row.ids) else empty + padding for row in tokens], padding),
        "attention_mask": pad([np.ones_like(row.ids) if len(row.ids) else empty + 1 for row in tokens], 0),
        "word_index": pad([first_tokens(row) for row in tokens], -1),
    }
    if types:
        batch["token_type_ids"] = pad([row.types if len(row.types) else empty for row in tokens], 0)
    if tags is not None:
        batch["tags"] = pad(tags, -1)
    return batch


class Tagger:
    """A word tagger with its tokenizer. Both are left as the caller gave them, except that dropout is off.

    The words of a pair are one sequence, those of the first field before those of the second.

    To train one, give `model` to transformers' `Trainer` with a collator that calls `collate`, and
    `label_names=["tags"]` among the arguments for a loss in evaluation.

    Args:
        model: the network.
        tokenizer: its fast tokenizer.
        name: what results call the model; default: the name in its configuration.
        segment: how texts are cut into words.
        max_tokens: padded tokens of one batch; default: by device.
    """

    def __init__(
        self,
        model: "TaggerNetwork",
        tokenizer: Any,
        *,
        name: str | None = None,
        segment: Segmenter = whitespace_words,
        max_tokens: int | None = None,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.segment = segment
        config: Any = model.config
        self.name = name or Path(str(config._name_or_path)).name or type(model).__name__
        self.tags: tuple[str, ...] = tuple(config.id2label[index] for index in range(config.num_labels))
        self.device: torch.device = next(model.parameters()).device
        self.max_tokens = max_tokens or (batching.TOKENS if self.device.type == "cpu" else batching.TOKENS_GPU)
        self.max_length = longest(config.encoder, tokenizer)
        own = getattr(config.encoder, "pad_token_id", None)
        self.padding = int(own if own is not None else tokenizer.pad_token_id or 0)
        self.reads_types = "token_type_ids" in tokenizer.model_input_names

    @classmethod
    def build(
        cls,
        encoder: str | Path,
        tags: Sequence[str],
        *,
        crf: bool = True,
        dropout: float = 0.1,
        seed: int = 0,
        device: str | None = None,
        **options: Any,
    ) -> "Tagger":
        """Put a new head on an encoder.

        Args:
            encoder: a folder or hub id of any encoder; weights as safetensors only. A head that it has is left out.
            tags: all tags, `O` among them; see `raison.models.slots.bio_tags`.
            crf: whether tags that follow each other are scored together, by a conditional random field.
            dropout: of the states that the head reads, in training.
            seed: draws the weights of the head.
            device: "cpu", "cuda", ...; default: the first accelerator, else the CPU.
            options: of the constructor.

        Raises:
            InputError: the encoder can't be loaded, or reads and writes (T5), or the tags are not distinct or lack `O`.
        """
        from transformers import AutoModel, AutoTokenizer

        from raison.models.tagger_network import TaggerConfig, TaggerNetwork

        name = str(encoder)
        expect_folder(name)
        if len(set(tags)) < len(tags) or OUTSIDE not in tags:
            raise InputError(f"tags must be distinct, and {OUTSIDE} one of them; got {', '.join(tags)}")
        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
            body = AutoModel.from_pretrained(name, dtype=torch.float32, use_safetensors=True)
        except LOADING_ERRORS as error:
            raise InputError(f"{name}: can't be loaded as an encoder ({first_line(error)})") from None
        if body.config.is_encoder_decoder:
            raise InputError(f"{name}: an encoder with a decoder; a tagger needs an encoder alone")
        names = dict(enumerate(tags))
        config = TaggerConfig(
            body.config, crf=crf, dropout=dropout, id2label=names, label2id={tag: i for i, tag in names.items()}
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network: Any = TaggerNetwork(config, body)
        options.setdefault("name", Path(name).name)
        return cls(network.to(device_of(device)), tokenizer, **options)

    @classmethod
    def load(cls, path: str | Path, *, device: str | None = None, dtype: str = "float32", **options: Any) -> "Tagger":
        """Load a tagger from a folder that `save` wrote, or a hub id; weights as safetensors only.

        Args:
            path: the folder or hub id.
            device: "cpu", "cuda", "cuda:1", ...; default: the first accelerator, else the CPU.
            dtype: "float32", "bfloat16" or "float16"; the random field stays in float32.
            options: of the constructor.

        Raises:
            InputError: there is no such model, it is not a tagger, or some of its weights are missing.
        """
        from transformers import AutoTokenizer

        from raison.models.tagger_network import TaggerConfig, TaggerNetwork

        name = str(path)
        expect_folder(name)
        try:
            kind = TaggerConfig.get_config_dict(name)[0].get("model_type")
            if kind is None:
                raise OSError("there is no configuration of a model")
            if kind != TaggerConfig.model_type:
                raise InputError(f"{name}: a {kind}, not a tagger; build one on it and train it")
            tokenizer = AutoTokenizer.from_pretrained(name)
            read: Any = TaggerNetwork.from_pretrained  # gives two things with `output_loading_info`
            network, found = read(name, dtype=getattr(torch, dtype), use_safetensors=True, output_loading_info=True)
        except LOADING_ERRORS as error:
            raise InputError(f"{name}: can't be loaded as a tagger ({first_line(error)})") from None
        if found["missing_keys"]:
            raise InputError(f"{name}: the file of weights lacks {min(found['missing_keys'])}")
        options.setdefault("name", Path(name).name)
        return cls(network.to(device_of(device)), tokenizer, **options)

    def save(self, folder: str | Path) -> None:
        """Write network and tokenizer into a folder, for `load`."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    # ------------------------------------------------------------------------------------------------ encoding

    def encode(self, records: Sequence[Record]) -> list[Tokens]:
        """Tokenize records as the model reads them: one field as a text, two as a pair, in the order of the record.

        Raises:
            InputError: records have more than two fields, or not the same number.
        """
        grids = [word_grid(record, self.segment) for record in records]
        return tokenize(self.tokenizer, grids, [tuple(record.fields.values()) for record in records], self.max_length)

    def gold(self, records: Sequence[Record]) -> list[Ints]:
        """Give the gold tags of records, from `meta.slots`: for each (words,) indices into `tags`.

        Raises:
            InputError: a slot is malformed (see `tags_of_slots`), or the model has no tag for it.
        """
        index = {tag: number for number, tag in enumerate(self.tags)}
        result: list[Ints] = []
        for record in records:
            tags = tags_of_slots(record, word_grid(record, self.segment))
            strange = next((tag for tag in tags if tag not in index), None)
            if strange is not None:
                raise InputError(f"record {record.id!r}: {self.name} has no tag {strange!r}")
            result.append(np.array([index[tag] for tag in tags], dtype=np.int64))
        return result

    def batch(self, tokens: Sequence[Tokens], tags: Sequence[Ints] | None = None) -> dict[str, Tensor]:
        """Pad records, on the model's device: the arguments of `model`, see `collate`."""
        padded = collate(tokens, tags, padding=self.padding, types=self.reads_types)
        return {name: tensor.to(self.device) for name, tensor in padded.items()}

    # ----------------------------------------------------------------------------------------------- predictions

    def predict(self, records: Sequence[Record], progress: str | None = None) -> list[list[str]]:
        """Tag the words of records: for each record (words,) tags.

        Words that the model does not see, since its input is too long or its tokenizer drops them, are tagged `O`.
        The order and size of batches make no difference.
        """
        tokens = self.encode(records)
        result: list[list[str]] = [[] for _ in records]

        def step(indices: batching.Indices) -> list[list[int]]:
            with torch.inference_mode():
                batch = self.batch([tokens[i] for i in indices])
                return self.model.decode(self.model(**batch).emissions, batch["word_index"] >= 0).tolist()

        for indices, rows in batching.run([len(row.ids) for row in tokens], step, self.max_tokens, progress):
            for index, row in zip(indices, rows, strict=True):
                own = row[: len(tokens[index].grid)]
                result[index] = [self.tags[tag] if tag >= 0 else OUTSIDE for tag in own]
        return result
