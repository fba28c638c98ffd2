"""Give an encoder a head that fills in masked words, trained on unlabelled texts: what `masked-lm` replacements ask.

    python benchmarks/masked_lm.py --model ENCODER --data snips/train.jsonl.gz --out runs/masked-lm

Only the head and what it is tied to start from nothing but the encoder's own embeddings; all of it is trained. Labels
and rationales are not read.
"""

import argparse
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
    set_seed,
)

from raison.sources import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="an encoder's folder or hub id")
    parser.add_argument("--data", required=True, help="records; only their texts are used")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--limit", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    set_seed(options.seed)
    tokenizer: Any = AutoTokenizer.from_pretrained(options.model)
    model: Any = AutoModelForMaskedLM.from_pretrained(options.model, use_safetensors=True)
    texts = [" ".join(record.fields.values()) for record in islice(load(options.data), options.limit)]
    rows: Any = [{"input_ids": ids} for ids in tokenizer(texts, truncation=True, max_length=128).input_ids]
    held, rows = rows[: len(rows) // 20], rows[len(rows) // 20 :]
    arguments = TrainingArguments(
        output_dir=str(options.out / "checkpoints"),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch,
        per_device_eval_batch_size=options.batch,
        learning_rate=options.lr,
        lr_scheduler_type="cosine",
        warmup_steps=50,
        weight_decay=0.01,
        logging_steps=50,
        eval_strategy="epoch",
        save_strategy="no",
        seed=options.seed,
        report_to=[],
        train_sampling_strategy="group_by_length",
        dataloader_pin_memory=False,
    )
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=held, data_collator=collate)
    trainer.train()
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    print(f"wrote {options.out}: loss of held-out texts {trainer.evaluate()['eval_loss']:.3f}")


if __name__ == "__main__":
    main()
