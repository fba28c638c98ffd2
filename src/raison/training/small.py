"""Small models of a testbed corpus, trained from scratch in half a minute, and the tokenizer that goes with them."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raison.models.classifier import Classifier
from raison.records import Record
from raison.testbed.corpus import LABELS, Kind, make_corpus, truth_mask
from raison.words import tokenize, word_grid

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = 420  # small enough that rare words are several tokens
RECORDS, STEPS, FIRST_BATCH, BATCH = 4000, 1300, 128, 32
CURRICULUM = 0.5  # share of the steps in which distracting words are still left out of some texts
LEARNING_RATE = 1e-3


def small_model(kind: Kind, seed: int = 0, progress: Callable[[float], None] | None = None) -> Classifier:
    """Train a small BERT (3 layers, hidden 64) on a testbed corpus; about half a minute on one core.

    The texts it learns from are masked in the ways that faithfulness is measured with, so that masked inputs are
    nothing new to it: some words give way to one mask token each, or to zero vectors (the embedding of the padding
    token). Distracting words are masked more often, and early in training are left out altogether, so that the model
    comes to rest on all of the planted words and on nothing else. It is a model with a known reason, not an example of
    how to train one.

    Args:
        kind: `single` or `pair`, as in `make_corpus`.
        seed: of the corpus and the training; the same seed gives the same model.
        progress: called with the share that is done.

    Returns:
        The classifier. Its `model` and `tokenizer` can be saved with `save_pretrained` and loaded by any tool.
    """
    records = make_corpus(kind, RECORDS, seed)
    tokenizer = _tokenizer(records)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = _network(len(tokenizer), LABELS[kind])
        _train(network, _Texts(tokenizer, records, LABELS[kind]), progress or (lambda share: None))
    return Classifier(network, tokenizer, name=f"testbed-{kind}-{seed}")


def untrained(kind: Kind, seed: int = 0) -> Classifier:
    """Give the classifier that `small_model` starts from: random weights, and a tokenizer of the corpus."""
    tokenizer = _tokenizer(make_corpus(kind, RECORDS, seed))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = _network(len(tokenizer), LABELS[kind])
    return Classifier(network, tokenizer, name=f"untrained-{kind}-{seed}")


def _tokenizer(records: Sequence[Record]) -> Any:
    """Train a lower-casing WordPiece tokenizer on the records."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    texts = [text for record in records for text in record.fields.values()]
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    inner = sorted(
        {f"##{letter}" for text in texts for word in re.findall(r"\w+", text.lower()) for letter in word[1:]}
    )
    # The trainer numbers letters inside words as it meets them, in no fixed order, and breaks ties by these numbers.
    # Named beforehand they have fixed ones; in the tokenizer itself they are no special tokens.
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY, special_tokens=[*SPECIAL, *inner], initial_alphabet=letters, show_progress=False
    )
    found = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    found.normalizer = normalizers.BertNormalizer(lowercase=True)
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    found.train_from_iterator(texts, trainer)
    backend = Tokenizer(models.WordPiece(found.get_vocab(), unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = found.normalizer, found.pre_tokenizer
    backend.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **dict(zip(names, SPECIAL, strict=True)),
    )


def _network(vocabulary: int, labels: Sequence[str]) -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=256,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.12,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    return BertForSequenceClassification(config)


class _Texts:
    """All training texts as padded tensors, and ways to draw masked batches of them."""

    def __init__(self, tokenizer: Any, records: Sequence[Record], labels: Sequence[str]) -> None:
        grids = [word_grid(record) for record in records]
        tokens = tokenize(tokenizer, grids, [tuple(record.fields.values()) for record in records], 256)
        self.mask, self.pad = tokenizer.mask_token_id, tokenizer.pad_token_id
        self.labels = torch.tensor([labels.index(record.label or "") for record in records])
        self.lengths = torch.tensor([len(row.ids) for row in tokens])
        self.ids = _padded([row.ids for row in tokens], self.pad)
        self.types = _padded([row.types for row in tokens], 0)
        self.word = _padded([row.word for row in tokens], -1)
        self.planted = _padded(
            [truth_mask(record, grid) for record, grid in zip(records, grids, strict=True)], fill=False
        )
        self.leads = torch.ones_like(self.word, dtype=torch.bool)  # the first token of each word
        self.leads[:, 1:] = self.word[:, 1:] != self.word[:, :-1]

    def draw(self, rows: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
        """Draw masked inputs: ids, types, attention. `share` says how much of the training is over."""
        longest = int(self.lengths[rows].max())
        word, ids = self.word[rows, :longest], self.ids[rows, :longest]
        inside, planted, count = word >= 0, self.planted[rows], len(rows)
        ramp = min(1.0, share / CURRICULUM)
        rate = torch.where(torch.rand(count, 1) < 0.2, torch.rand(count, 1), torch.tensor(0.07)) * ramp
        hidden = torch.rand(planted.shape) < rate
        noise = torch.where(torch.rand(count, 1) < 0.3, torch.rand(count, 1), torch.tensor(0.0))
        hidden |= (torch.rand(planted.shape) < noise) & ~planted
        left_out = (torch.rand(planted.shape) < 2 * (1 - ramp)) & ~planted
        masked = hidden.gather(1, word.clamp(min=0)) & inside
        zero = torch.rand(count, 1) < 0.5
        keep = torch.arange(longest)[None] < self.lengths[rows, None]
        keep &= ~(masked & ~zero & ~self.leads[rows, :longest])  # one mask token for each word
        keep &= ~(left_out.gather(1, word.clamp(min=0)) & inside)
        ids = torch.where(masked, torch.where(zero, self.pad, self.mask), ids)
        order = keep.byte().argsort(dim=1, descending=True, stable=True)[:, : int(keep.sum(dim=1).max())]
        return ids.gather(1, order), self.types[rows, :longest].gather(1, order), keep.gather(1, order).long()


def _padded(rows: Sequence[Any], fill: int | bool) -> Tensor:
    table = np.full((len(rows), max(len(row) for row in rows)), fill)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return torch.from_numpy(table)


def _train(network: Any, texts: _Texts, progress: Callable[[float], None]) -> None:
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=STEPS, pct_start=0.1)
    network.train()
    queue = torch.empty(0, dtype=torch.long)
    for step in range(STEPS):
        share = step / STEPS
        size = int(BATCH + (FIRST_BATCH - BATCH) * min(1.0, max(0.0, 2 * (1 - share / CURRICULUM))))
        if len(queue) < size:
            queue = torch.cat([queue, torch.randperm(len(texts.labels))])
        rows, queue = queue[:size], queue[size:]
        ids, types, attention = texts.draw(rows, share)
        logits = network(input_ids=ids, token_type_ids=types, attention_mask=attention).logits
        torch.nn.functional.cross_entropy(logits, texts.labels[rows]).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        progress((step + 1) / STEPS)
    network.eval()
