"""A causal language model that writes: an answer, a summary. What is explained is the text that it wrote.

The model's own output is kept as token ids behind the prompt, and its score is the mean log-probability of its tokens.
Words of the record are taken away in the prompt alone, so whatever explains and judges labels works on outputs as well.
"""

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raison.masking import ModelInput, Operator
from raison.models import batching
from raison.models.cache import content_hash
from raison.models.classifier import longest
from raison.models.generator import LocalGenerator
from raison.models.prefix import SharedPrefix
from raison.models.prompt import Prompt, lay_out, shortened, tokens_of
from raison.models.scorer import Batch, Scorer, apply_all, each_once, embeddings_are, projected
from raison.models.tasks import Task, load_task
from raison.records import InputError, Prediction, Record
from raison.words import Ints, Mask, Segmenter, Tokens, whitespace_words, word_grid, words_of_places

NEW_TOKENS = 64


class Writer(Scorer):
    """A causal language model with its tokenizer and a free task. All are left as the caller gave them; dropout is off.

    It has one "label", its output, whose score is the mean log-probability of the output's tokens after the prompt, in
    nats: `(1/T) sum_t log p(y_t | x, y_<t)`. The token that ends an output is no part of it. Where a record's output is
    empty the score is NaN, and so is every attribution computed from it.

    Args:
        model: any Hugging Face causal language model.
        tokenizer: its fast tokenizer.
        task: what is asked: a free `Task`, the name of one that comes with raison, or a TOML file.
        name: what results call the model; default: the name in its configuration.
        segment: how texts are cut into words.
        max_tokens: padded tokens of one batch; default: by device.
        max_new_tokens: an output is cut there. That of a model without a chat template, which would go on and on, also
            ends with its first line.
        given: record id -> output, where these are not to be written by the model; white space around them is left out.
    """

    reads_last = True
    labels: tuple[str, ...] = ("output",)
    scored = "mean token log-probability"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        task: Task | str,
        *,
        name: str | None = None,
        segment: Segmenter = whitespace_words,
        max_tokens: int | None = None,
        max_new_tokens: int = NEW_TOKENS,
        given: Mapping[str, str] | None = None,
    ) -> None:
        self.task = load_task(task) if isinstance(task, str) else task
        if not self.task.free:
            raise InputError(f"task {self.task.name} asks for a label; one for a model that writes has `free = true`")
        self.generator = LocalGenerator(model, tokenizer, name=name, max_new_tokens=max_new_tokens)
        self.model, self.tokenizer, self.name = model, tokenizer, self.generator.name
        self.segment, self.given = segment, given
        self.device = model.get_input_embeddings().weight.device
        self.max_tokens = max_tokens or (batching.TOKENS if self.device.type == "cpu" else batching.TOKENS_GPU)
        self.max_length = longest(model.config, tokenizer)
        known = (tokenizer.pad_token_id, tokenizer.eos_token_id)
        self._padding = next((index for index in known if index is not None), 0)
        first = tokenizer.bos_token_id
        self._opening = self._padding if first is None else first  # what an empty prompt is read as
        self._prefix = SharedPrefix(model)
        self._written: dict[bytes, Ints | None] = {}  # what follows a prompt, by its ids

    @classmethod
    def load(
        cls,
        path: str | Path,
        task: Task | str,
        *,
        device: str | None = None,
        dtype: str = "float32",
        four_bit: bool = False,
        trust_remote_code: bool = False,
        **options: Any,
    ) -> "Writer":
        """Load a causal language model from a folder or a hub id, or a LoRA adapter with its base; safetensors only.

        Args:
            path: a folder that `save_pretrained` wrote, or a hub id.
            task: see the constructor.
            device: "cpu", "cuda", "cuda:1", ...; default: the first accelerator, else the CPU.
            dtype: "float32", "bfloat16" or "float16".
            four_bit: load the weights in 4 bits (needs the package bitsandbytes and a platform that it serves).
            trust_remote_code: run code that comes with the model. Off unless asked for.
            options: of the constructor.

        Raises:
            InputError: there is no such model, it is not a causal language model, or the task is not free.
        """
        made = LocalGenerator.load(
            path, device=device, dtype=dtype, four_bit=four_bit, trust_remote_code=trust_remote_code
        )
        options.setdefault("name", made.name)
        return cls(made.model, made.tokenizer, task, **options)

    @property
    def convention(self) -> dict[str, Any]:
        """What a result says about how outputs are asked for."""
        return {
            "task": self.task.name,
            "prompt": self.task.prompt,
            "max_new_tokens": self.generator.max_new_tokens,
            "outputs": "own" if self.given is None else content_hash(dict(self.given))[:16],
        }

    # ------------------------------------------------------------------------------------------------ encoding

    def write(self, records: Sequence[Record]) -> list[str]:
        """Give each record's output: what the model writes (greedily), or what was given; "" where it wrote nothing.

        Raises:
            InputError: as `encode`.
        """
        if self.given is not None:
            return [self._given(record) for record in records]
        return [self._text(row.ids[row.types > 0]) for row in self.encode(records)]

    def encode(self, records: Sequence[Record]) -> list[Tokens]:
        """Give the ids of each record's prompt with its output behind, aligned with the record's words.

        Tokens of the output belong to no word. Their `types` are 1 + their ids, those of the prompt 0: what is scored
        is told apart from what is read. Of a prompt that leaves no room for an output, the longest field loses its
        last words.

        Raises:
            InputError: the tokenizer is a slow one, a record lacks a field or a given output, or no word would be left
                of a text.
        """
        if self.given is not None:
            return [self._with_given(record) for record in records]
        prompts = [self._prompt(record)[0] for record in records]
        outputs = self._continue([prompt.ids for prompt in prompts])
        return [
            _followed(prompt, np.zeros(0, dtype=np.int64) if ids is None or not self._text(ids) else ids)
            for prompt, ids in zip(prompts, outputs, strict=True)
        ]

    def _given(self, record: Record) -> str:
        if self.given is None or record.id not in self.given:
            raise InputError(f"record {record.id!r} has no given output")
        return self.given[record.id].strip()

    def _with_given(self, record: Record) -> Tokens:
        """Encode a record with its given output: the tokens that follow the prompt in the text of both."""
        text = self._given(record)
        laid = lay_out(self.tokenizer, self.task, record, ())
        before, _ = tokens_of(self.tokenizer, laid.text, laid.add_special)
        space = "" if laid.text[-1:].isspace() or self.tokenizer.chat_template else " "
        ids, _ = tokens_of(self.tokenizer, laid.text + space + text, laid.add_special)
        apart = np.array_equal(ids[: len(before)], before)  # else the first token holds characters of both
        output = ids[len(before) :] if apart else tokens_of(self.tokenizer, text, add_special=False)[0]
        return _followed(self._prompt(record, laid, len(output))[0], output if text else output[:0])

    def _prompt(self, record: Record, laid: Prompt | None = None, room: int = 0) -> tuple[Tokens, Prompt]:
        """Encode a record's prompt, leaving room for an output."""
        laid = laid or lay_out(self.tokenizer, self.task, record, ())
        ids, offsets = tokens_of(self.tokenizer, laid.text, laid.add_special)
        grid = word_grid(record, self.segment)
        word = words_of_places(offsets, grid, laid.places)
        limit = self.max_length - max(room, self.generator.max_new_tokens)
        if len(ids) > limit:
            kept = shortened(word, grid.sizes, limit)
            if kept is None:
                raise InputError(f"record {record.id!r}: the prompt of task {self.task.name} alone is too long")
            ids, word = ids[kept], word[kept]
        if not len(ids):
            ids, word = np.array([self._opening]), np.array([-1])
        return Tokens(grid, ids, np.zeros_like(ids), word), laid

    def batch(self, inputs: Sequence[ModelInput | Tokens]) -> Batch:
        """Pad inputs on the right. An output whose prompt has lost all of its tokens follows the token of beginning.

        Raises:
            InputError: replacements have made an input longer than the model reads.
        """
        rows = [self._opened(row) for row in inputs]
        size = max([0, *(len(row.ids) for row in rows)])
        if size > self.max_length:
            raise InputError(f"masked, prompt and output have {size} tokens; {self.name} reads {self.max_length}")
        return super().batch(rows)

    def _opened(self, row: ModelInput | Tokens) -> ModelInput | Tokens:
        if isinstance(row, Tokens) or (len(row.ids) and not row.types[0]):
            return row
        ids, types = np.append(self._opening, row.ids), np.append(0, row.types)
        return ModelInput(ids, types, np.append(True, row.attention))

    # ------------------------------------------------------------------------------------------------- scoring

    def read_from(self, batch: Batch) -> Tensor:
        """Give the last position of each prompt, which predicts the output's first token: (rows,)."""
        return batch.lengths - (batch.types > 0).sum(dim=1) - 1

    def forward(self, batch: Batch, embeddings: Tensor | None = None, **options: Any) -> Any:
        """Score the outputs of a batch; differentiable. Only the positions of outputs meet the vocabulary.

        Args:
            batch: padded prompts with their outputs.
            embeddings: (rows, tokens, hidden) taken in place of the word embeddings of `batch.ids`.
            options: further arguments of the model.

        Returns:
            An object whose `.logits` are the mean log-probabilities (rows, 1) float32; NaN for an empty output.
        """
        return self._score(batch, embeddings, options)

    def _score(
        self, batch: Batch, embeddings: Tensor | None, options: Mapping[str, Any], past: Any = None
    ) -> SimpleNamespace:
        """Score the outputs. With `past`, ids and types are those behind the tokens whose keys and values it has."""
        tokens = batch.ids.shape[1]
        before = batch.attention.shape[1] - tokens
        counts = (batch.types > 0).sum(dim=1, keepdim=True)
        steps = torch.arange(-max(1, int(counts.max())), 0, device=self.device)
        real = steps >= -counts
        columns = batch.lengths[:, None] - before + steps  # an output stands at the end of its row
        wanted = (batch.types.gather(1, columns % tokens) - 1).clamp(min=0)
        more = dict(options)
        if past is not None:
            positions = torch.arange(before, before + tokens, device=self.device).expand(len(batch.ids), -1)
            more |= {"past_key_values": past, "position_ids": positions}
        with embeddings_are(self.model, embeddings), projected(self.model, (columns - 1) % tokens):
            output = self.model(input_ids=batch.ids, attention_mask=batch.attention, use_cache=past is not None, **more)
        values = output.logits.float()
        chosen = values.gather(-1, wanted[..., None])[..., 0] - values.logsumexp(dim=-1)
        weights = real.float() / counts  # 0 / 0, not a number, for an empty output
        mean = (chosen.masked_fill(~real & (counts > 0), 0.0) * weights).sum(dim=1, keepdim=True)
        return SimpleNamespace(logits=mean, attentions=getattr(output, "attentions", None))

    def logits(
        self,
        inputs: Sequence[ModelInput | Tokens],
        progress: str | None = None,
        of: Sequence[Tokens] | None = None,
    ) -> NDArray[np.float32]:
        """Score outputs: (inputs, 1) float32. The order and size of batches make no difference.

        Args:
            inputs: prompts with their outputs, or versions of them in which words are masked.
            progress: title of the progress bar.
            of: the unchanged one of each input. Versions of one prompt share the computation of what they have in
                common with it up to their first masked word.
        """
        if of is None or not self._sharing:
            return super().logits(inputs, progress)
        with batching.bar(progress, len(inputs)) as advance:
            return self._shared(inputs, of, self.max_tokens, advance)

    def _shared(
        self,
        inputs: Sequence[ModelInput | Tokens],
        of: Sequence[ModelInput | Tokens],
        max_tokens: int,
        advance: Callable[[int], None],
    ) -> NDArray[np.float32]:
        result = np.zeros((len(inputs), 1), dtype=np.float32)
        groups: dict[int, list[int]] = {}
        for index, whole in enumerate(of):
            groups.setdefault(id(whole), []).append(index)
        with torch.inference_mode():
            for members in groups.values():
                whole = of[members[0]]
                own, last = [inputs[i] for i in members], int((whole.types > 0).sum()) + 1
                for rows, batch, past in self._prefix.batches(
                    own, [whole] * len(own), max_tokens, self.batch, last=last
                ):
                    result[np.array(members)[rows]] = self._score(batch, None, {}, past).logits.cpu().numpy()
                    advance(len(rows))
        return result

    @cached_property
    def _sharing(self) -> bool:
        """Whether prompts can go on from the keys and values of a common beginning: tried once on made-up ones."""
        rng, vocabulary = np.random.default_rng(0), self.model.get_input_embeddings().num_embeddings
        ids = rng.integers(0, vocabulary, 28)
        types = np.append(np.zeros(25, dtype=np.int64), 1 + ids[25:])
        whole = ModelInput(ids, types, np.ones(28, dtype=np.bool_))
        left = np.delete(np.arange(28), (21, 22))
        rows = [whole, ModelInput(ids[left], types[left], whole.attention[left])]
        plain = super().logits(rows)
        try:
            found = self._shared(rows, [whole] * 2, 1024, lambda _: None)
        except (RuntimeError, IndexError, TypeError, ValueError, AttributeError):
            return False
        close = 1e-4 if self.model.dtype == torch.float32 else 3e-2
        return np.allclose(found, plain, rtol=close, atol=close * float(np.abs(plain).max()))

    # ------------------------------------------------------------------------------------------------- masking

    def score_masked(
        self,
        tokens: Sequence[Tokens],
        masks: Sequence[Mask],
        operator: Operator,
        known: dict[bytes, float] | None = None,
    ) -> list[NDArray[np.float64]]:
        """Score the original outputs after prompts with words taken away; every distinct input is run once.

        Args:
            tokens: the encoded records.
            masks: for each record (masks, words) boolean; True = taken away.
            operator: what stands in the place of masked words.
            known: answers of earlier calls, by input; used and added to.

        Returns:
            For each record (masks,) mean log-probabilities; NaN where the output is empty.
        """

        def ask(inputs: Sequence[ModelInput], of: Sequence[Tokens]) -> list[float]:
            return self.logits(inputs, of=of)[:, 0].astype(np.float64).tolist()

        return [np.array(row) for row in each_once(apply_all(operator, tokens, masks), tokens, ask, known)]

    def write_masked(
        self, tokens: Sequence[Tokens], masks: Sequence[Mask], operator: Operator
    ) -> list[list[str | None]]:
        """Give what the model writes, greedily, after prompts with words taken away; every distinct one is run once.

        Arguments are those of `score_masked`. Prompts are masked as ids, and go to the model as ids.

        Returns:
            For each record the outputs, one for each mask; None where a prompt leaves the model no room to write.

        Raises:
            InputError: the operator leaves holes in a prompt (`pad`), which models count as positions or not.
        """
        if operator.name == "pad":
            raise InputError("outputs can't be written anew with the mask operator pad; use delete, mask or unknown")
        versions = apply_all(operator, tokens, masks)
        found = iter(self._continue([self._prompt_of(row) for rows in versions for row in rows]))
        return [[None if ids is None else self._text(ids) for _ in rows for ids in [next(found)]] for rows in versions]

    def _prompt_of(self, row: ModelInput) -> Ints:
        ids = row.ids[row.types == 0]
        return ids if len(ids) else np.array([self._opening])

    def _continue(self, prompts: Sequence[Ints]) -> list[Ints | None]:
        """Give the ids that the model writes after each prompt; every distinct prompt is run once."""
        keys = [prompt.tobytes() for prompt in prompts]
        new = {key: prompt.tolist() for key, prompt in zip(keys, prompts, strict=True) if key not in self._written}
        found = self.generator.continue_ids([*new.values()])
        self._written.update(zip(new, map(self._one_line, found), strict=True))
        return [self._written[key] for key in keys]

    def _one_line(self, output: Sequence[int] | None) -> Ints | None:
        """Cut the output of a model without a chat template where its first line ends."""
        if output is None:
            return None
        ids = np.array(output, dtype=np.int64)
        if self.tokenizer.chat_template:
            return ids
        beyond = bisect(range(1, len(ids) + 1), False, key=lambda size: "\n" in self._decode(ids[:size]).lstrip())
        return ids[:beyond] if self._text(ids[:beyond]) else ids[: beyond + 1]

    def _text(self, ids: Ints) -> str:
        return self._decode(ids).strip()

    def _decode(self, ids: Ints) -> str:
        return self.tokenizer.decode(ids.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    # ------------------------------------------------------------------------------------------------- no labels

    def predict(self, records: Sequence[Record], progress: str | None = None) -> list[Prediction]:
        """Refuse: a model that writes has no labels.

        Raises:
            InputError: always.
        """
        raise InputError(f"{self.name} writes texts and predicts no labels; see `write` and `evaluate_outputs`")

    def predict_masked(self, tokens: Any, masks: Any, operator: Any, known: Any = None) -> Any:
        """Refuse, as `predict` does."""
        raise InputError(f"{self.name} writes texts and predicts no labels; see `score_masked` and `evaluate_outputs`")


def _followed(prompt: Tokens, output: Ints) -> Tokens:
    """Put an output behind a prompt."""
    ids, types = np.append(prompt.ids, output), np.append(prompt.types, output + 1)
    return Tokens(prompt.grid, ids, types, np.append(prompt.word, np.full(len(output), -1)))
