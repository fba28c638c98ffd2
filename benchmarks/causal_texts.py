"""What the benchmarks of causal models share: the model, its tokenizer and the prompts. Needs torch and transformers.

It is also imported in the peers' own environments, where raison is not installed.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import common

LABELS = ("yes", "no", "maybe")
SPECIAL = ("<s>", "<pad>", "<unk>")
SIZE = 8000  # of the vocabulary
REPLY = 16  # tokens of a continuation


class Texts(NamedTuple):
    """The texts of the benchmarks; every word is one token, and <s> stands before them."""

    prompts: list[str]  # about 120 tokens each
    replies: list[str]  # a continuation of 16 tokens for each prompt
    long: str  # a prompt of 4,000 tokens


def texts(items: int, seed: int = 0) -> Texts:
    """Draw the texts."""
    rng = np.random.default_rng(seed)
    known = np.array(_vocabulary()[len(SPECIAL) + len(LABELS) :])
    lengths = np.clip(rng.normal(119, 15, items), 60, 180).round().astype(int)
    prompts = [" ".join(rng.choice(known, size)) for size in lengths]
    replies = [" ".join(rng.choice(known, REPLY)) for _ in prompts]
    return Texts(prompts, replies, " ".join(rng.choice(known, 3999)))


def _vocabulary() -> list[str]:
    made = common.words()
    return [*SPECIAL, *LABELS, *made, *(f"{word}x" for word in made)][:SIZE]


def make(folder: Path, items: int = 16, scale: float = 0.1) -> None:
    """Write model, tokenizer and texts into a folder, from which every process reads the same.

    Weights are drawn with the standard deviation `scale`: 0.1 makes scores of some size, so that differences say
    something; Llama's own is 0.02.

    The beginning of a text is its end as well (`<s>`), as in GPT-2: Inseq keeps the end in its baseline, and raison
    keeps all that is no word, so that both start from the same point.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM

    ids = {word: index for index, word in enumerate(_vocabulary())}
    backend = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 0)])
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    wide = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=SIZE,
        **wide,
        initializer_range=scale,
        max_position_embeddings=8192,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    (folder / "texts.json").write_text(json.dumps(texts(items)._asdict()))


def load(folder: Path) -> tuple[Any, Any, Texts]:
    """Read model, tokenizer and texts."""
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=8192,
        bos_token="<s>",
        eos_token="<s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    model = LlamaForCausalLM.from_pretrained(folder / "model").eval()
    return model, tokenizer, Texts(**json.loads((folder / "texts.json").read_text()))
