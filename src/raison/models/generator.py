"""Generators: conversations in, replies out. The local one runs a causal language model in batches."""

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raison.models import batching
from raison.models.cache import Keep, Usage, ask_once, content_hash
from raison.models.causal import load_causal
from raison.models.chat import Conversation, Message, Reply, failed, render
from raison.records import InputError
from raison.words import settings_kept

__all__ = ["Conversation", "Generator", "LocalGenerator", "Message", "Reply", "Usage"]

# Prompt and reply tokens of a batch. A step of generation reads one token of each row, so that wide batches pay.
TOKENS, TOKENS_GPU = 8192, 65536
HEADS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


class Generator(Protocol):
    """Anything that answers conversations."""

    name: str

    def generate(self, conversations: Sequence[Conversation], progress: str | None = None) -> list[Reply]:
        """Give one reply for each conversation, in their order; one that fails says why and stops no other."""
        ...


class LocalGenerator:
    """A causal language model with its tokenizer. Both are left as the caller gave them, except that dropout is off.

    A reply is the most probable token at each step (greedy), whatever sampling, penalties or beams the model's own
    generation settings ask for: a repetition penalty, which some models come with, would keep a model from naming the
    words of its prompt. With a temperature it is a draw, which depends on the seed and the prompt alone. In float32
    replies do not depend on the size or the order of batches.

    Args:
        model: any Hugging Face causal language model.
        tokenizer: its tokenizer; what of its chat template is read, and what without one, `chat.render` says.
        name: what results call the model; default: the name in its configuration.
        max_new_tokens: a reply is cut there, or where the model has no position left.
        temperature: 0 is greedy; above, tokens are drawn from softmax(logits / temperature).
        seed: of the draws.
        max_tokens: padded tokens of one batch, prompts and replies; default: by device.
        cache: a file that keeps replies, see `ask_once`.
        identity: what tells the model from every other in the cache, such as a hash of its weights.

    Attributes:
        usage: what was asked, and how many tokens it took.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
        max_tokens: int | None = None,
        cache: str | Path | None = None,
        identity: str | None = None,
    ) -> None:
        if cache is not None and not identity:
            raise ValueError("a cache needs the model's identity, by which its replies are told from others'")
        if max_new_tokens < 1 or temperature < 0:
            raise ValueError(f"expected max_new_tokens >= 1 and temperature >= 0, got {max_new_tokens}, {temperature}")
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.name = name or Path(str(getattr(model.config, "_name_or_path", ""))).name or type(model).__name__
        self.max_new_tokens = max_new_tokens
        self.temperature = float(temperature)
        self.seed = seed
        self.device = next(model.parameters()).device
        self.max_tokens = max_tokens or (TOKENS if self.device.type == "cpu" else TOKENS_GPU)
        self.cache = cache
        self.identity = identity
        self.usage = Usage()
        self._positions: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self._ends = _ends(model, tokenizer)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str | None = None,
        dtype: str = "float32",
        four_bit: bool = False,
        trust_remote_code: bool = False,
        **options: Any,
    ) -> "LocalGenerator":
        """Load a model from a folder or a hub id, or a LoRA adapter with its base; weights as safetensors only.

        Args:
            path: a folder that `save_pretrained` wrote, or a hub id.
            device: "cpu", "cuda", "cuda:1", ...; default: the first accelerator, else the CPU.
            dtype: "float32", "bfloat16" or "float16".
            four_bit: load the weights in 4 bits (needs the package bitsandbytes and a platform that it serves).
            trust_remote_code: run code that comes with the model. Off unless asked for.
            options: of the constructor.

        Raises:
            InputError: there is no such model, or it is not a causal language model.
        """
        name = str(path)
        model, tokenizer = load_causal(name, device, dtype, trust_remote_code, four_bit)
        heads: list[str] = model.config.architectures or []
        if heads and not any(head.endswith(HEADS) for head in heads):
            raise InputError(f"{name}: a {heads[0]}, not a causal language model")
        options.setdefault("name", Path(name).name)
        return cls(model, tokenizer, **options)

    def generate(self, conversations: Sequence[Conversation], progress: str | None = None) -> list[Reply]:
        """Give one reply for each conversation, in their order; the same conversation is run once.

        A prompt that is empty, or that leaves the model no position for a reply, has a reply that says so.

        Raises:
            InputError: the chat template refuses a conversation, or the cache can't be used.
        """
        prompts = [self.encode(conversation) for conversation in conversations]
        settings = [self.identity, self.max_new_tokens, self.temperature, self.seed if self.temperature else None]
        keys = [content_hash([settings, prompt]) for prompt in prompts]

        def ask(places: list[int], keep: Keep) -> None:
            able: list[int] = []
            for place in places:
                problem = self._problem(len(prompts[place]))
                if problem:
                    keep(place, failed(problem, len(prompts[place])))
                else:
                    able.append(place)
            self._run(able, prompts, keep)

        return ask_once(keys, ask, usage=self.usage, path=self.cache, progress=progress)

    def encode(self, conversation: Conversation) -> list[int]:
        """Give the ids of a conversation as the model reads it, up to where its reply begins."""
        text, special = render(self.tokenizer, conversation)
        with settings_kept(self.tokenizer):
            encoded = self.tokenizer(text, add_special_tokens=special, truncation=False, padding=False, verbose=False)
        return encoded["input_ids"]

    def continue_ids(self, prompts: Sequence[Sequence[int]]) -> list[list[int] | None]:
        """Give the ids that follow each prompt, without the token that ended them.

        None stands where a prompt is empty, or leaves the model no position for a reply.
        """
        found: list[list[int] | None] = [None] * len(prompts)
        able = [place for place, prompt in enumerate(prompts) if not self._problem(len(prompt))]
        for index, ids in self._answers([list(prompts[place]) for place in able]):
            found[able[index]] = ids[:-1] if ids[-1] in self._ends else ids
        return found

    def _problem(self, length: int) -> str | None:
        """Say why a prompt of this many tokens can't be answered."""
        if not length:
            return "the prompt is empty"
        if self._room(length) < 1:
            return f"the prompt has {length} tokens, and the model reads {self._positions} with its reply"
        return None

    def _room(self, length: int) -> int:
        """Give how many tokens a reply to a prompt of this length can have."""
        return min(self.max_new_tokens, self._positions - length) if self._positions else self.max_new_tokens

    def _run(self, places: list[int], prompts: list[list[int]], keep: Keep) -> None:
        """Make replies of what follows the prompts."""
        for index, ids in self._answers([prompts[place] for place in places]):
            text = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            finish = "stop" if ids[-1] in self._ends else "length"
            keep(places[index], Reply(text, finish, None, len(prompts[places[index]]), len(ids)))

    def _answers(self, prompts: list[list[int]]) -> Iterator[tuple[int, list[int]]]:
        """Generate in batches; a prompt with less room than the others is a batch of its own."""
        sizes = [len(prompt) for prompt in prompts]
        lengths = [
            size + self.max_new_tokens if self._room(size) == self.max_new_tokens else self.max_tokens for size in sizes
        ]

        def step(indices: batching.Indices) -> list[list[int]]:
            return self._replies([prompts[i] for i in indices.tolist()])

        for indices, replies in batching.run(lengths, step, self.max_tokens):
            for index, ids in zip(indices.tolist(), replies, strict=True):
                self.usage.requests += 1
                self.usage.count(sizes[index], len(ids))
                yield index, ids

    def _replies(self, prompts: list[list[int]]) -> list[list[int]]:
        """Generate the ids of replies to prompts, padded on the left; each with the token that ended it, if any did."""
        from transformers import GenerationConfig, LogitsProcessorList

        longest = max(len(prompt) for prompt in prompts)
        padding = self._ends[0] if self._ends else 0  # masked in the prompt, cut from the reply: any token will do
        ids = np.full((len(prompts), longest), padding, dtype=np.int64)
        attention = np.zeros((len(prompts), longest), dtype=np.int64)
        for index, prompt in enumerate(prompts):
            ids[index, longest - len(prompt) :] = prompt
            attention[index, longest - len(prompt) :] = 1
        settings = GenerationConfig(
            max_new_tokens=self._room(longest),
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            eos_token_id=list(self._ends) or None,
            pad_token_id=padding,
        )
        draws = [_drawing(prompts, self.temperature, self.seed)] if self.temperature else []
        with torch.inference_mode():
            found: Tensor = self.model.generate(
                torch.from_numpy(ids).to(self.device),
                attention_mask=torch.from_numpy(attention).to(self.device),
                generation_config=settings,
                logits_processor=LogitsProcessorList(draws),
            )
        return [self._cut(row) for row in found[:, longest:].cpu().numpy()]

    def _cut(self, row: NDArray[np.int64]) -> list[int]:
        """Cut what stands behind the first token that ends a reply."""
        ends = np.flatnonzero(np.isin(row, self._ends))
        return row[: ends[0] + 1].tolist() if len(ends) else row.tolist()


def _ends(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Give the tokens that end a reply: those of the generation settings, and the tokenizer's, which may be another."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    found = [*(configured if isinstance(configured, list) else [configured]), tokenizer.eos_token_id]
    return tuple(dict.fromkeys(int(token) for token in found if token is not None))


def _drawing(prompts: list[list[int]], temperature: float, seed: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Make a step of generation that turns the most probable token into a draw from softmax(logits / temperature).

    The largest of logits / temperature + Gumbel noise is such a draw (Maddison et al. 2014, "A* Sampling"). Every row
    has noise of its own, so that a draw does not depend on the rows beside it.
    """
    sources: list[torch.Generator] = []
    for prompt in prompts:
        key = blake2b(np.array([seed, *prompt], dtype=np.int64).tobytes(), digest_size=8).digest()
        sources.append(torch.Generator().manual_seed(int.from_bytes(key, "little") >> 1))

    def draw(_: Tensor, logits: Tensor) -> Tensor:
        waits = [torch.empty(logits.shape[1], dtype=torch.float64).exponential_(generator=g) for g in sources]
        noise = -torch.stack(waits).clamp_min(torch.finfo(torch.float64).tiny).log()
        return logits / temperature + noise.to(logits)

    return draw
