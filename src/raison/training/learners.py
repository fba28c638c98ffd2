"""What a model in training is asked for, whatever it is: labels of texts by a head or by a prompt, or tags of words."""

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from raison.attribution.diffmask import compare_labels, compare_logits
from raison.attribution.marginalisation import log_probabilities
from raison.models.scorer import Batch, Scorer
from raison.models.slots import span_f1
from raison.models.tagger import Tagger, collate
from raison.records import InputError, Record
from raison.words import Ints, Tokens

IGNORED = -100  # gold tag of a word that is not seen


class Learner(Protocol):
    """A model in training."""

    network: Any  # what is trained: the module that is saved
    tokenizer: Any
    metric: str  # what `score` gives first
    scorer: Any  # what an extractor reads, see `raison.attribution.diffmask`

    def through(self, wrapped: Any) -> AbstractContextManager[None]:
        """Let the network be run through what it is wrapped in, such as the wrapper for several devices."""
        ...

    def encode(self, records: Sequence[Record]) -> list[Tokens]:
        """Tokenize records as the model reads them."""
        ...

    def gold(self, record: Record, tokens: Tokens) -> Any:
        """Give what the model should answer, as an index or an array of them.

        Raises:
            InputError: the model knows no such label.
        """
        ...

    def pad(self, tokens: Sequence[Tokens]) -> Batch:
        """Pad records to a batch, on the CPU."""
        ...

    def reads_from(self, batch: Batch) -> Tensor:
        """Give the position of each row (rows,) that its answer is read from."""
        ...

    def forward(self, batch: Batch, word: Tensor, embeddings: Tensor | None = None, **options: Any) -> Any:
        """Run the model; `.logits` of the result are scores of labels (rows, labels) or of tags (rows, words, tags)."""
        ...

    def losses(self, logits: Tensor, gold: Tensor) -> Tensor:
        """Give the task's loss of each row: (rows,)."""
        ...

    def evidence(self, logits: Tensor, gold: Tensor) -> Tensor:
        """Give what attributions explain, for each row: (rows,)."""
        ...

    def odds(self, logits: Tensor, gold: Tensor) -> tuple[Tensor, Tensor]:
        """Give log p and log(1 - p) of the gold answer: (rows,) each."""
        ...

    def score(self, records: Sequence[Record], tokens: Sequence[Tokens]) -> dict[str, float]:
        """Measure the model as it is."""
        ...

    def compare(self, before: Any, after: Any) -> tuple[Tensor, Tensor]:
        """Give divergence and agreement (rows,) of two outputs, see `raison.attribution.diffmask.Fitting`."""
        ...


class LabelLearner:
    """A model that scores labels, a `Classifier` or an `Answerer`, in training.

    The task's loss is the cross entropy of the labels; what attributions explain is the gold label's score. A label
    that an `Answerer` spells with several tokens has their summed log-probability as its score.
    """

    metric = "accuracy"

    def __init__(self, scorer: Scorer, network: Any = None) -> None:
        """Take a model, and the module that is trained and saved where it is another one (an adapter around it)."""
        self.scorer = scorer
        self.network, self.tokenizer = network or scorer.model, scorer.tokenizer

    def through(self, wrapped: Any) -> AbstractContextManager[None]:
        """Let the network be run through what it is wrapped in."""
        return run_through(self.scorer, wrapped)

    def encode(self, records: Sequence[Record]) -> list[Tokens]:
        """Tokenize records as the model reads them."""
        return self.scorer.encode(records)

    def gold(self, record: Record, tokens: Tokens) -> int:
        """Give the index of the record's label."""
        folded = [label.casefold() for label in self.scorer.labels]
        if record.label is None or record.label.casefold() not in folded:
            names = ", ".join(self.scorer.labels)
            raise InputError(f"record {record.id!r}: label {record.label!r} is not one of {names}")
        return folded.index(record.label.casefold())

    def pad(self, tokens: Sequence[Tokens]) -> Batch:
        """Pad records to a batch, on the CPU."""
        return self.scorer.pad(tokens)

    def reads_from(self, batch: Batch) -> Tensor:
        """Give the position of each row (rows,) that its answer is read from."""
        return self.scorer.read_from(batch)

    def forward(self, batch: Batch, word: Tensor, embeddings: Tensor | None = None, **options: Any) -> Any:
        """Run the model; `.logits` of the result are scores of labels (rows, labels)."""
        return self.scorer.forward(batch, embeddings, **options)

    def losses(self, logits: Tensor, gold: Tensor) -> Tensor:
        """Give the cross entropy of each row: (rows,)."""
        return torch.nn.functional.cross_entropy(logits.float(), gold, reduction="none")

    def evidence(self, logits: Tensor, gold: Tensor) -> Tensor:
        """Give the gold label's score of each row: (rows,)."""
        return logits.gather(1, gold[:, None])[:, 0]

    def odds(self, logits: Tensor, gold: Tensor) -> tuple[Tensor, Tensor]:
        """Give log p and log(1 - p) of the gold label: (rows,) each."""
        return log_probabilities(logits, gold)

    def score(self, records: Sequence[Record], tokens: Sequence[Tokens]) -> dict[str, float]:
        """Give the accuracy."""
        guesses = self.scorer.logits(tokens).argmax(axis=1)
        gold = [self.gold(record, row) for record, row in zip(records, tokens, strict=True)]
        return {"accuracy": float((guesses == gold).mean())}

    def compare(self, before: Any, after: Any) -> tuple[Tensor, Tensor]:
        """Compare distributions over labels."""
        return compare_labels(before, after)


class TagLearner:
    """A `Tagger` in training, with or without a random field.

    The task's loss is -log p of a record's whole sequence of tags; its log-likelihood is what attributions explain, and
    what has odds. Words that the model does not see take no part. The published code explains the likelihood itself,
    which is 0 in float32 for most sequences before training (fault 7 of its list), and so has no gradient.
    """

    metric = "f1"

    def __init__(self, tagger: Tagger) -> None:
        self.tagger = tagger
        self.network, self.tokenizer = tagger.model, tagger.tokenizer
        self.scorer = _TagReader(tagger)

    def through(self, wrapped: Any) -> AbstractContextManager[None]:
        """Let the network be run through what it is wrapped in."""
        return run_through(self.tagger, wrapped)

    def encode(self, records: Sequence[Record]) -> list[Tokens]:
        """Tokenize records as the model reads them."""
        return self.tagger.encode(records)

    def gold(self, record: Record, tokens: Tokens) -> Ints:
        """Give the index of each word's tag (words,); -100 = a word that the model does not see."""
        return np.where(tokens.seen, self.tagger.gold([record])[0], IGNORED)

    def pad(self, tokens: Sequence[Tokens]) -> Batch:
        """Pad records to a batch, on the CPU."""
        made = collate(tokens, padding=self.tagger.padding)
        lengths = torch.tensor([max(1, len(row.ids)) for row in tokens])
        return Batch(made["input_ids"], made["token_type_ids"], made["attention_mask"], lengths)

    def reads_from(self, batch: Batch) -> Tensor:
        """Refuse: a tagger reads every word.

        Raises:
            InputError: always.
        """
        raise InputError("a tagger classifies every word; attention from one position does not explain it")

    def forward(self, batch: Batch, word: Tensor, embeddings: Tensor | None = None, **options: Any) -> Any:
        """Run the model; `.logits` of the result are scores of tags (rows, words, tags)."""
        return _tag(self.tagger, batch, word, embeddings)

    def losses(self, logits: Tensor, gold: Tensor) -> Tensor:
        """Give -log p of each row's tags: (rows,)."""
        return -self.evidence(logits, gold)

    def evidence(self, logits: Tensor, gold: Tensor) -> Tensor:
        """Give log p of each row's tags: (rows,)."""
        gold = gold[:, : logits.shape[1]]  # words behind the last one that is seen in any row
        return self.network.log_likelihood(logits, gold.clamp(min=0), gold != IGNORED)

    def odds(self, logits: Tensor, gold: Tensor) -> tuple[Tensor, Tensor]:
        """Give log p and log(1 - p) of each row's tags: (rows,) each."""
        log_p = self.evidence(logits, gold).clamp(max=-1e-6)
        return log_p, torch.where(log_p > -0.7, torch.log(-torch.expm1(log_p)), torch.log1p(-torch.exp(log_p)))

    def score(self, records: Sequence[Record], tokens: Sequence[Tokens]) -> dict[str, float]:
        """Give the F1 of slots; 0 where there is neither a gold nor a predicted one."""
        return {"f1": span_f1(records, self.tagger.predict(records), self.tagger.segment) or 0.0}

    def compare(self, before: Any, after: Any) -> tuple[Tensor, Tensor]:
        """Compare distributions over each word's tags, and take the mean over the words that are seen."""
        return compare_logits(before.logits, after.logits, before.seen)


class _TagReader:
    """What an extractor needs of a tagger: batches that know their words."""

    labels: tuple[str, ...]

    def __init__(self, tagger: Tagger) -> None:
        self.tagger, self.model, self.tokenizer = tagger, tagger.model, tagger.tokenizer
        self.name, self.labels, self.device = tagger.name, tagger.tags, tagger.device
        self.max_tokens = tagger.max_tokens

    def batch(self, tokens: Sequence[Tokens]) -> "_WordBatch":
        made = self.tagger.batch(tokens)
        word = pad_sequence([torch.from_numpy(row.word) for row in tokens], batch_first=True, padding_value=-1)
        types = made.get("token_type_ids", torch.zeros_like(made["input_ids"]))
        lengths = made["attention_mask"].sum(dim=1)
        return _WordBatch(made["input_ids"], types, made["attention_mask"], lengths, word.to(self.device))

    def forward(self, batch: "_WordBatch", embeddings: Tensor | None = None, **_: Any) -> Any:
        return _tag(self.tagger, batch, batch.word, embeddings)


class _WordBatch(NamedTuple):
    ids: Tensor
    types: Tensor
    attention: Tensor
    lengths: Tensor
    word: Tensor


def _tag(tagger: Tagger, batch: Any, word: Tensor, embeddings: Tensor | None) -> Any:
    """Score the tags of words: `.logits` (rows, words, tags), and which words are `.seen`."""
    index = first_columns(word)
    types = {"token_type_ids": batch.types} if tagger.reads_types else {}
    output = tagger.model(
        input_ids=batch.ids, attention_mask=batch.attention, word_index=index, inputs_embeds=embeddings, **types
    )
    return SimpleNamespace(logits=output.emissions, seen=index >= 0)


def first_columns(word: Tensor) -> Tensor:
    """Give the position of each word's first token (rows, words) from the word of each token (rows, tokens); -1 = none.

    There are as many columns as the last word that any row sees needs.
    """
    words, (rows, tokens) = max(1, int(word.max()) + 1), word.shape
    place = torch.where(word >= 0, word, words)
    columns = torch.arange(tokens, device=word.device).expand(rows, -1)
    first = torch.full((rows, words + 1), tokens, device=word.device)
    first = first.scatter_reduce(1, place, columns, "amin")[:, :words]
    return torch.where(first < tokens, first, -1)


class _Through:
    """A network as its own code sees it, which is run through what it is wrapped in."""

    def __init__(self, network: Any, wrapped: Any) -> None:
        self._network, self._wrapped = network, wrapped

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._wrapped(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


@contextmanager
def run_through(holder: Any, wrapped: Any) -> Generator[None]:
    """Let the model that `holder` calls be run through a wrapper of it, such as the one for several devices."""
    network = holder.model
    if wrapped is not network:
        holder.model = _Through(network, wrapped)
    try:
        yield
    finally:
        holder.model = network
