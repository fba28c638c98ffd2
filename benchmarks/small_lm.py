"""Train a small causal language model from scratch, where no pretrained one is at hand: Llama-shaped, 4 layers of 256.

    python benchmarks/small_lm.py --data esnli/dev.jsonl.gz --data fever/val.jsonl.gz --out runs/small-lm

It learns to model the texts, and the form of a conversation: the question of the task, an answer, the request for the
words behind it, a JSON list; and to repeat words. The answers in these conversations are labels drawn AT RANDOM, so
that the model learns how an answer looks and nothing of which is right; the lists are words that people marked. It
stands for a model that can talk but was never tuned to the task. Its tokenizer is a byte-level BPE trained on the same
texts.

With `--explained` it learns from records that people labelled and explained, asked and answered as annotators are, with
nobody named: the model that the study of annotators begins with, where no pretrained one is at hand.

    python benchmarks/small_lm.py --explained esnli/dev.jsonl.gz --parted varierr.jsonl --parted paraphrase.jsonl \
        --hidden 128 --layers 2 --vocabulary 3000 --out runs/small-lm

Of a `--parted` file only the training part is learned from, by the split of `raison study capo`; records of any file
that have the texts of held-out items are left out.

Evaluate on other records than these.
"""

import argparse
import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Trainer, TrainingArguments, set_seed

from raison.annotators.splits import normalised, split_items
from raison.annotators.wording import wording_for
from raison.models.chat import render
from raison.models.tasks import labels_of, load_task
from raison.prompting.requests import ask, load_request
from raison.records import Record
from raison.sources import load
from raison.words import human_masks, word_grid

ROLES = ["<|system|>", "<|user|>", "<|assistant|>"]
CHAT = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] | trim }}"
    "{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def make_tokenizer(texts: list[str], size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE."""
    backend = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<pad>", "<unk>", *ROLES]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 0)])
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    made = PreTrainedTokenizerFast(tokenizer_object=backend, extra_special_tokens=ROLES, **names)
    made.chat_template = CHAT
    return made


def marked(record: Record, rng: np.random.Generator) -> list[str]:
    """Give the words that one of the people marked."""
    grid = word_grid(record)
    masks = human_masks(record, grid)
    if not masks.any():
        return []
    mask = masks[rng.choice(np.flatnonzero(masks.any(axis=1)))]
    words = [record.fields[name][a:b] for name, spans in grid.words.items() for a, b in spans]
    return [words[index] for index in np.flatnonzero(mask)]


def conversation(record: Record, labels: tuple[str, ...], rng: np.random.Generator) -> list[dict[str, str]]:
    """Make a conversation with an answer at random and somebody's words."""
    task, request = load_task(record.task), load_request("words")
    label = task.word(str(rng.choice(labels)))
    words = marked(record, rng)
    count = len(words) if rng.random() < 0.5 and words else None
    asked = task.messages(task.texts(record), labels)
    order = "fresh-session" if rng.random() < 0.2 else "predict-then-explain"
    turns = ask(request, asked, record, label=label, count=count, order=order)
    return [dict(turn) for turn in turns] + [{"role": "assistant", "content": json.dumps(words, ensure_ascii=False)}]


def repetition(words: list[str], rng: np.random.Generator) -> list[dict[str, str]]:
    """Make a conversation that repeats words drawn at random: what teaches a small model to copy at all."""
    drawn = [str(word) for word in rng.choice(words, size=int(rng.integers(4, 13)))]
    listed = json.dumps(drawn, ensure_ascii=False)
    return [{"role": "user", "content": " ".join(drawn)}, {"role": "assistant", "content": listed}]


def examples(records: list[Record], tokenizer: Any, longest: int, seed: int) -> list[list[int]]:
    """Give token ids of a conversation for each record, where it fits, and of a repetition beside it."""
    rng, labels = np.random.default_rng(seed), labels_of(load_task(records[0].task), records)
    words = sorted({word for record in records for text in record.fields.values() for word in text.split()})
    made: list[list[int]] = []
    for record in records:
        for turns in (conversation(record, labels, rng), repetition(words, rng)):
            text = render(tokenizer, turns)[0].removesuffix("<|assistant|>\n")
            ids = tokenizer(text, add_special_tokens=False).input_ids
            made += [ids] if len(ids) <= longest else []
    return made


def explained(records: list[Record], name: str, tokenizer: Any, longest: int) -> list[list[int]]:
    """Give token ids of a conversation for each explanation, where it fits: the item, and a label with its reason."""
    wording, made = wording_for(records, name), list[list[int]]()
    for record in records:
        for said in record.annotations:
            if said.label is not None and said.explanation:
                answer = wording.write(said.label, said.explanation)
                turns = [{"role": "user", "content": wording.prompt(record)}, {"role": "assistant", "content": answer}]
                text = render(tokenizer, turns)[0].removesuffix("<|assistant|>\n")
                ids = tokenizer(text, add_special_tokens=False).input_ids
                made += [ids] if len(ids) <= longest else []
    return made


def explained_files(whole: list[str], parted: list[str], limit: int) -> list[list[Record]]:
    """Read records with explanations: all of some files, the training parts of others, nothing of held-out items."""
    splits = [split_items(load(path)) for path in parted]
    held_out = {words_of(record) for split in splits for record in (*split.dev, *split.test)}
    files = [list(islice(load(path), limit)) for path in whole] + [list(split.train) for split in splits]
    kept = [[record for record in records if words_of(record) not in held_out] for records in files]
    print(f"left out: {sum(map(len, files)) - sum(map(len, kept))} records with the texts of held-out items")
    return kept


def words_of(record: Record) -> str:
    return normalised("\n".join(record.fields.values()))


class Collator:
    """Pads on the right."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: list[list[int]]) -> dict[str, torch.Tensor]:
        """Pad token ids; padding counts for nothing."""
        fill = torch.nn.utils.rnn.pad_sequence
        ids = fill([torch.tensor(row) for row in rows], batch_first=True, padding_value=self.pad)
        real = fill([torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True)
        return {"input_ids": ids, "attention_mask": real, "labels": ids.masked_fill(real == 0, -100)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", default=[], help="records with marked words, several may be given")
    parser.add_argument("--explained", action="append", default=[], help="records with explanations")
    parser.add_argument("--parted", action="append", default=[], help="the same, of which the training part is taken")
    parser.add_argument("--wording", default="bare", help="how explanations are asked for")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--limit", type=int, default=10_000, help="records of each file")
    parser.add_argument("--longest", type=int, default=512, help="tokens of a conversation; longer ones are left out")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    files = [list(islice(load(path), options.limit)) for path in options.data]
    texts = [text for records in files for record in records for text in record.fields.values()]
    rng = np.random.default_rng(options.seed)
    requests = [turn["content"] for records in files for turn in conversation(records[0], ("a", "b"), rng)]
    words = [label for records in files for label in labels_of(load_task(records[0].task), records)]
    people = explained_files(options.explained, options.parted, options.limit)
    texts += [text for records in people for record in records for text in record.fields.values()]
    texts += [said.explanation or "" for records in people for record in records for said in record.annotations]
    heads = [wording_for(records, options.wording).write("label", "why") for records in people]
    tokenizer = make_tokenizer([*texts, *requests * 50, *words * 50, *heads * 50], options.vocabulary)
    rows = [row for records in files for row in examples(records, tokenizer, options.longest, options.seed)]
    for records in people:
        rows += explained(records, options.wording, tokenizer, options.longest)
    print(f"{len(rows)} conversations of {np.mean([len(row) for row in rows]):.0f} tokens")
    set_seed(options.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=options.hidden,
        intermediate_size=options.hidden * 8 // 3 // 32 * 32,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // 64,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    arguments = TrainingArguments(
        output_dir=str(options.out / "checkpoints"),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch,
        learning_rate=options.lr,
        lr_scheduler_type="cosine",
        warmup_steps=50,
        weight_decay=0.01,
        logging_steps=50,
        save_strategy="no",
        seed=options.seed,
        report_to=[],
        remove_unused_columns=False,
        train_sampling_strategy="group_by_length",
        dataloader_pin_memory=False,
    )
    data: Any = [{"input_ids": row} for row in rows]
    collate = Collator(tokenizer.pad_token_id)
    Trainer(
        model=model,
        args=arguments,
        train_dataset=data,
        data_collator=lambda batch: collate([row["input_ids"] for row in batch]),
    ).train()
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    print(f"wrote {options.out}: {sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
