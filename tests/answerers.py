"""Tiny random causal language models with tokenizers of three kinds, with and without a chat template."""

import string

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

CHAT = (
    "{{ '<s>' }}{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] | trim }}</s>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
ROLES = ["<|system|>", "<|user|>", "<|assistant|>"]
CORPUS = (
    "Premise: Hypothesis: Does the premise entail the hypothesis, contradict it, or leave it open (neutral)?",
    "Answer with one of: entailment, neutral or contradiction. Answer: the a man plays reads red book in park",
    "Passage: Claim: Is the claim supported or refuted by the passage? Post: What kind of post is this?",
)
TOKENIZERS = ("byte", "sentencepiece", "wordpiece")


def tokenizer(kind="byte", chat=True, corpus=CORPUS, size=330):
    """Train a tokenizer: byte-level BPE, SentencePiece's way (spaces as ▁, bytes for the unknown), or WordPiece."""
    special = [*SPECIAL, *ROLES]
    if kind == "byte":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=special,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
    elif kind == "sentencepiece":
        special += [f"<0x{byte:02X}>" for byte in range(256)]
        backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
        lines = pre_tokenizers.Split("\n", "isolated")  # a line break is a piece of its own, as SentencePiece has it
        backend.pre_tokenizer = pre_tokenizers.Sequence([lines, pre_tokenizers.Metaspace(prepend_scheme="first")])
        backend.decoder = decoders.Metaspace()
        trainer = trainers.BpeTrainer(
            vocab_size=size + 300,
            special_tokens=special,
            initial_alphabet=list(string.ascii_letters + string.punctuation),
            show_progress=False,
        )
    else:
        special += ["[UNK]"]
        backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=False)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    backend.train_from_iterator(list(corpus), trainer)
    backend.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", backend.token_to_id("<s>"))])
    unknown = "[UNK]" if kind == "wordpiece" else "<unk>"
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": unknown}
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, model_input_names=["input_ids", "attention_mask"], extra_special_tokens=ROLES, **names
    )
    made.chat_template = CHAT if chat else None
    return made


def causal(kind, words, seed=0, positions=512, **options):
    """Make a small random model that is not too sure of anything."""
    wide = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    common = {
        "vocab_size": len(words),
        "pad_token_id": words.pad_token_id,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "initializer_range": 0.25,
    }
    rotary = {**common, **wide, "num_key_value_heads": 2, "max_position_embeddings": positions, **options}
    config = {
        "llama": lambda: LlamaConfig(**rotary),
        "qwen": lambda: Qwen2Config(**rotary),
        "mistral": lambda: MistralConfig(**{**rotary, "sliding_window": None} | options),
        "gpt2": lambda: GPT2Config(**common, n_embd=32, n_layer=2, n_head=4, n_positions=positions),
    }[kind]()
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config).eval()
