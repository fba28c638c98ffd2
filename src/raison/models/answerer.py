"""A causal language model that classifies by a prompt: any `AutoModelForCausalLM`, with or without a chat template.

Every label has a word, and the model's score of a label is the log-probability of that word's tokens after the prompt.
Words of the record are traced through the chat template to their tokens; everything else in the prompt belongs to no
word, so it is never chosen, and never taken away.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raison.masking import ModelInput
from raison.models import batching
from raison.models.branches import additive, attention_mask, grow, label_scores
from raison.models.causal import load_causal
from raison.models.classifier import expect_folder, longest
from raison.models.prefix import SharedPrefix
from raison.models.prompt import Frames, Prompt, lay_out, shortened, tokens_of, tokens_of_all
from raison.models.scorer import Batch, Scorer, embeddings_are, projected, softmax
from raison.models.tasks import Task, load_task, shuffled
from raison.models.watch import unobserved
from raison.records import InputError, Record
from raison.words import Ints, Segmenter, Tokens, whitespace_words, word_grid, words_of_places

Normalise = Literal["none", "length"]
Calibrate = Literal["none", "prior", "contextual"]
Score = Literal["log_probability", "logit"]
PROMPTS = 256  # tokenized in one call
CONTENT_FREE = ("N/A", "[MASK]", "")  # Zhao et al. 2021, section 5


class Answerer(Scorer):
    """A causal language model with its tokenizer and a task. All are left as the caller gave them; dropout is off.

    Args:
        model: any Hugging Face causal language model.
        tokenizer: its fast tokenizer.
        task: what is asked: a `Task`, the name of one that comes with raison, or a TOML file.
        labels: to choose from, in order; default: those of the task.
        name: what results call the model; default: the name in its configuration.
        segment: how texts are cut into words.
        max_tokens: padded tokens of one batch; default: by device.
        score: of a label: the sum of its tokens' log-probabilities, or of their logits.
        normalise: "length" divides a label's score by its number of tokens.
        calibrate: "prior" takes from each score what the label has after a prompt with empty fields (Holtzman et al.
            2021, domain conditional PMI); "contextual" divides probabilities by their mean over three prompts without
            content (Zhao et al. 2021, eq. 1, with W = diag(p_cf)^-1).
        shuffle: seed by which each record's prompt names the labels in an order of its own; None = always the same.
    """

    reads_last = True

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        task: Task | str,
        *,
        labels: Sequence[str] | None = None,
        name: str | None = None,
        segment: Segmenter = whitespace_words,
        max_tokens: int | None = None,
        score: Score = "log_probability",
        normalise: Normalise = "none",
        calibrate: Calibrate = "none",
        shuffle: int | None = None,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.task = load_task(task) if isinstance(task, str) else task
        self.labels = tuple(labels or self.task.labels)
        if len(self.labels) < 2:
            raise InputError(f"task {self.task.name}: expected at least two labels to choose from")
        for said, known in ((score, Score), (normalise, Normalise), (calibrate, Calibrate)):
            if said not in get_args(known):
                raise InputError(f"{said!r}: expected {', '.join(get_args(known))}")
        self.segment = segment
        self.name = name or Path(str(getattr(model.config, "_name_or_path", ""))).name or type(model).__name__
        self.device = model.get_input_embeddings().weight.device
        self.max_tokens = max_tokens or (batching.TOKENS if self.device.type == "cpu" else batching.TOKENS_GPU)
        self.scored, self.normalise, self.calibrate, self.shuffle = score, normalise, calibrate, shuffle
        known = (tokenizer.pad_token_id, tokenizer.eos_token_id)
        self._padding = next((index for index in known if index is not None), 0)
        self.label_ids, self.tail = self._ending()
        self._branches = grow(self.label_ids)
        self.max_length = longest(model.config, tokenizer) - max(len(ids) for ids in self.label_ids)
        self._sizes = torch.tensor([len(ids) for ids in self.label_ids], dtype=torch.float32, device=self.device)
        self._prefix = SharedPrefix(model)

    @classmethod
    def load(
        cls,
        path: str | Path,
        task: Task | str | None = None,
        *,
        device: str | None = None,
        dtype: str = "float32",
        four_bit: bool = False,
        trust_remote_code: bool = False,
        **options: Any,
    ) -> "Answerer":
        """Load a causal language model from a folder or a hub id, or a LoRA adapter with its base; safetensors only.

        Args:
            path: a folder that `save_pretrained` wrote, or a hub id.
            task: see the constructor; default, with the labels: what `raison train --lora` tuned it for.
            device: "cpu", "cuda", "cuda:1", ...; default: the first accelerator, else the CPU.
            dtype: "float32", "bfloat16" or "float16".
            four_bit: load the weights in 4 bits (needs the package bitsandbytes and a platform that it serves).
            trust_remote_code: run code that comes with the model. Off unless asked for.
            options: of the constructor.

        Raises:
            InputError: there is no such model, it is not a causal language model, or no task is known.
        """
        name = str(path)
        expect_folder(name)
        if task is None:
            task, labels = _tuned_for(Path(name))
            options.setdefault("labels", labels)
        model, tokenizer = load_causal(name, device, dtype, trust_remote_code, four_bit)
        options.setdefault("name", Path(name).name)
        return cls(model, tokenizer, task, **options)

    @property
    def convention(self) -> dict[str, Any]:
        """What a result says about how labels are asked for and scored."""
        return {
            "task": self.task.name,
            "prompt": self.task.prompt,
            "label_words": {label: self.task.word(label) for label in self.labels},
            "score": self.scored,
            "normalise": self.normalise,
            "calibrate": self.calibrate,
            "shuffle": self.shuffle,
        }

    # ------------------------------------------------------------------------------------------------ encoding

    def encode(self, records: Sequence[Record]) -> list[Tokens]:
        """Write the prompt of each record, tokenize it, and align its tokens with the record's words.

        Of a prompt that is longer than the model reads, the longest field loses its last words.

        Raises:
            InputError: the tokenizer is a slow one, a record lacks a field, or no word would be left of a text.
        """
        found: list[Tokens] = []
        frames: Frames = {}
        for start in range(0, len(records), PROMPTS):
            some = records[start : start + PROMPTS]
            orders = [shuffled(self.labels, self.shuffle, record.id) for record in some]
            found += self._encoded(some, orders, frames)
        return found

    def _encoded(self, records: Sequence[Record], orders: Sequence[Sequence[str]], frames: Frames) -> list[Tokens]:
        """Tokenize the prompts of some records, in each of which the labels have an order of their own."""
        rows = zip(records, orders, strict=True)
        prompts = [lay_out(self.tokenizer, self.task, record, order, frames) for record, order in rows]
        tokens = tokens_of_all(self.tokenizer, [prompt.text for prompt in prompts], prompts[0].add_special)
        return [self._aligned(*row) for row in zip(records, prompts, tokens, strict=True)]

    def _aligned(self, record: Record, prompt: Prompt, tokens: tuple[Ints, Ints]) -> Tokens:
        ids, offsets = tokens
        grid = word_grid(record, self.segment)
        word = words_of_places(offsets, grid, prompt.places)
        if len(ids) > self.max_length:
            kept = shortened(word, grid.sizes, self.max_length)
            if kept is None:
                raise InputError(f"record {record.id!r}: the prompt of task {self.task.name} alone is too long")
            ids, word = ids[kept], word[kept]
        return Tokens(grid, ids, np.zeros_like(ids), word)

    def _ending(self) -> tuple[list[list[int]], int]:
        """Give the tokens of each label as they follow a prompt, and how many tokens it has after its last text.

        These ask the question, and end where the answer begins.
        """
        record = Record("", dict.fromkeys(self.task.fields, "x"))
        prompt = lay_out(self.tokenizer, self.task, record, self.labels)
        before, offsets = tokens_of(self.tokenizer, prompt.text, prompt.add_special)
        word = words_of_places(offsets, word_grid(record, self.segment), prompt.places)
        return self._label_ids(prompt, before), len(word) - 1 - int(np.flatnonzero(word >= 0)[-1])

    def _label_ids(self, prompt: Prompt, before: Ints) -> list[list[int]]:
        """Give the tokens of each label as they follow a prompt, of which `before` are the tokens."""
        space = "" if prompt.text[-1:].isspace() or self.tokenizer.chat_template else " "
        found: dict[tuple[int, ...], str] = {}
        for label in self.labels:
            word = self.task.word(label)
            ids, _ = tokens_of(self.tokenizer, prompt.text + space + word, prompt.add_special)
            rest = tuple(ids[len(before) :].tolist())
            if ids[: len(before)].tolist() != before.tolist() or not rest:
                raise InputError(f"label {label!r}: its word {word!r} does not follow the prompt as tokens of its own")
            if rest in found:
                raise InputError(f"labels {found[rest]!r} and {label!r} have the same tokens")
            found[rest] = label
        return [list(ids) for ids in found]

    # ------------------------------------------------------------------------------------------------- scoring

    def forward(self, batch: Batch, embeddings: Tensor | None = None, **options: Any) -> Any:
        """Score the labels after a batch of prompts; differentiable. Only the places of labels meet the vocabulary.

        Args:
            batch: padded prompts.
            embeddings: (rows, tokens, hidden) taken in place of the word embeddings of `batch.ids`.
            options: further arguments of the model.

        Returns:
            An object whose `.logits` are the scores (rows, labels): log-probabilities, calibrated as asked.
        """
        if len(self._branches.nodes) and not self._branching:
            scores = self._spelled_out(batch, embeddings, options)
        else:
            scores = self._branched(batch, embeddings, options)
        return SimpleNamespace(logits=self._adjusted(scores))

    def _adjusted(self, scores: Tensor) -> Tensor:
        scores = scores / self._sizes if self.normalise == "length" else scores
        return scores if self.calibrate == "none" else scores - self._prior

    def _branched(
        self, batch: Batch, embeddings: Tensor | None, options: Mapping[str, Any], past: Any = None
    ) -> Tensor:
        """Score the labels (rows, labels) in one pass.

        With `past`, the keys and values of the prompts' first tokens, the ids are those of the rest, while `attention`
        and `lengths` are those of the whole prompts.
        """
        tree, (rows, tokens) = self._branches, batch.ids.shape
        before = batch.attention.shape[1] - tokens
        nodes = torch.from_numpy(tree.nodes).to(self.device).expand(rows, -1)
        ends = batch.lengths[:, None] - 1
        ids, attention, given = batch.ids, batch.attention, dict[str, Any]()
        positions = torch.arange(before, before + tokens, device=self.device).expand(rows, -1)
        places = ends - before
        if len(tree.nodes):
            ids = torch.cat([ids, nodes], dim=1)
            attention = additive(attention_mask(attention, tree, before), self.model.dtype)
            depths = torch.from_numpy(tree.depth).to(self.device)
            positions = torch.cat([positions, ends + depths], dim=1)
            columns = tokens + torch.arange(len(tree.nodes), device=self.device)
            places = torch.cat([places, columns.expand(rows, -1)], dim=1)
            if embeddings is not None:
                embeddings = torch.cat([embeddings, self._embedded(nodes)], dim=1)
        if past is not None or len(tree.nodes):
            given = {"position_ids": positions}
        if past is not None:
            given["past_key_values"] = past
        elif not len(tree.nodes) and self._skips_padding(batch):
            attention = None  # the fast kernel for causal attention takes no mask
        with embeddings_are(self.model, embeddings), projected(self.model, places):
            output = self.model(input_ids=ids, attention_mask=attention, use_cache=past is not None, **given, **options)
        return label_scores(output.logits, tree, normalised=self.scored == "log_probability")

    def _skips_padding(self, batch: Batch) -> bool:
        """Whether nothing but padding is hidden, which stands behind all that is read and so needs no mask."""
        columns = torch.arange(batch.ids.shape[1], device=self.device)
        fast = getattr(self.model.config, "_attn_implementation", None) == "sdpa"
        return fast and torch.equal(batch.attention.bool(), columns < batch.lengths[:, None])

    def _spelled_out(self, batch: Batch, embeddings: Tensor | None, options: Mapping[str, Any]) -> Tensor:
        """Score the labels (rows, labels) with one sequence for each; for models that take no mask of ours."""
        scores: list[Tensor] = []
        for index, ids in enumerate(self.label_ids):
            tree = grow([ids])
            size, rows = len(tree.nodes), len(batch.ids)
            width = batch.ids.shape[1]
            columns = torch.arange(width + size, device=self.device)
            behind = columns - batch.lengths[:, None]  # 0 = the first place after the prompt
            extra = torch.from_numpy(tree.nodes).to(self.device)
            new = (behind >= 0) & (behind < size)
            long = torch.nn.functional.pad(batch.ids, (0, size), value=self._padding)
            tokens = torch.where(new, extra[behind.clamp(0, max(size - 1, 0))] if size else long, long)
            attention = torch.nn.functional.pad(batch.attention, (0, size)) | new.long()
            if embeddings is not None:
                wide = torch.nn.functional.pad(embeddings, (0, 0, 0, size))
                embeddings_here = torch.where(new[..., None], self._embedded(tokens), wide)
            else:
                embeddings_here = None
            places = batch.lengths[:, None] - 1 + torch.arange(len(ids), device=self.device)
            hidden = unobserved() if index else nullcontext()  # attention is that of the prompt, which is one
            with hidden, embeddings_are(self.model, embeddings_here), projected(self.model, places):
                output = self.model(input_ids=tokens, attention_mask=attention, use_cache=False, **options)
            found = label_scores(output.logits, tree, normalised=self.scored == "log_probability")
            assert found.shape == (rows, 1)
            scores.append(found)
        return torch.cat(scores, dim=1)

    def _embedded(self, ids: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model.get_input_embeddings()(ids)

    @cached_property
    def _branching(self) -> bool:
        """Whether the model takes our mask over branches: tried once on made-up prompts."""
        window = getattr(self.model.config, "sliding_window", None)
        if window is not None and window < self.max_length and getattr(self.model.config, "use_sliding_window", True):
            return False  # a mask of ours would open the window
        batch = self.batch(self._made_up())
        with torch.inference_mode(), unobserved():
            try:
                one = self._branched(batch, None, {})
            except (RuntimeError, IndexError, TypeError, ValueError, AttributeError):
                return False
            many = self._spelled_out(batch, None, {})
        return _near(one, many, self.model.dtype)

    def _made_up(self) -> list[ModelInput]:
        rng, known = np.random.default_rng(0), self.model.get_input_embeddings().num_embeddings
        rows = [rng.integers(0, known, size) for size in (9, 6, 3)]
        return [ModelInput(ids, np.zeros_like(ids), np.ones(len(ids), dtype=np.bool_)) for ids in rows]

    @cached_property
    def _prior(self) -> Tensor:
        """Give what is taken from the labels' scores: (labels,)."""
        texts = ("",) if self.calibrate == "prior" else CONTENT_FREE
        records = [Record(str(index), dict.fromkeys(self.task.fields, text)) for index, text in enumerate(texts)]
        plain, self.calibrate = self.calibrate, "none"
        try:
            with unobserved():
                scores = self.logits(self._encoded(records, [self.labels] * len(records), {}))
        finally:
            self.calibrate = plain
        found = scores[0] if plain == "prior" else np.log(softmax(scores).mean(axis=0))
        return torch.tensor(found, dtype=torch.float32, device=self.device)

    def logits(
        self,
        inputs: Sequence[ModelInput | Tokens],
        progress: str | None = None,
        of: Sequence[Tokens] | None = None,
    ) -> NDArray[np.float32]:
        """Score the labels: (inputs, labels) float32. The order and size of batches make no difference.

        Args:
            inputs: prompts, or versions of prompts in which words are masked.
            progress: title of the progress bar.
            of: the unchanged prompt of each input. Versions of one prompt share the computation of what they have in
                common with it up to their first masked word.
        """
        if of is None or not self._sharing:
            return super().logits(inputs, progress)
        result = np.zeros((len(inputs), len(self.labels)), dtype=np.float32)
        with batching.bar(progress, len(inputs)) as advance, torch.inference_mode():
            for indices, batch, past in self._prefix.batches(inputs, of, self.max_tokens, self.batch):
                scores = self._adjusted(self._branched(batch, None, {}, past))
                result[indices] = scores.float().cpu().numpy()
                advance(len(indices))
        return result

    @cached_property
    def _sharing(self) -> bool:
        """Whether prompts can go on from the keys and values of a common beginning: tried once."""
        if len(self._branches.nodes) and not self._branching:
            return False
        whole = self._made_up()[0]
        changed = whole._replace(ids=np.concatenate([whole.ids[:6], whole.ids[:2]]), types=whole.types[:8])
        rows = [whole, changed._replace(attention=whole.attention[:8])]
        with torch.inference_mode():
            many = self._branched(self.batch(rows), None, {})
            try:
                shared = torch.zeros_like(many)
                for indices, batch, past in self._prefix.batches(rows, [rows[0]] * 2, 1, self.batch, least=1):
                    shared[indices] = self._branched(batch, None, {}, past)
            except (RuntimeError, IndexError, TypeError, ValueError, AttributeError):
                return False
        return _near(shared, many, self.model.dtype)


def _tuned_for(folder: Path) -> tuple[Task, tuple[str, ...]]:
    """Give task and labels of a model that raison has tuned."""
    try:
        told = msgspec.json.decode((folder / "raison.json").read_bytes())["config"]
        return msgspec.convert(told["task"], Task), tuple(told["labels"])
    except (OSError, KeyError, TypeError, msgspec.DecodeError):
        raise InputError(f"{folder}: a task is needed, since no raison.json there says what it was tuned for") from None


def _near(one: Tensor, other: Tensor, dtype: torch.dtype) -> bool:
    close = 1e-4 if dtype == torch.float32 else 3e-2
    return torch.allclose(one, other, rtol=close, atol=close * float(other.abs().max()))
