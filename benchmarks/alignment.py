"""What a training step with rationales costs: CPU milliseconds, and multiples of a step for the task alone.

    python benchmarks/alignment.py --data snips/train.jsonl.gz --json alignment.json

A BERT with 4 layers, hidden size 256, 4 heads and a vocabulary of 30,522, random weights by seed; 24 records of each
intent of SNIPS (168), batches of 24, one thread. A step is everything: drawing and padding, forward and backward
passes, clipping, Adam. Each variant trains a model of its own; in each round all of them take one step, on the same
records, and times are the process's own (CPU) seconds. `times_task` is the median over rounds of the ratio to our own
task step of the same round, `times_plain` that to the plain loop: the task's step as one writes it by hand, with the
model's own loss, the tokenizer's padding and `torch.optim.AdamW` as it comes. The aims are in multiples of that one.

Batches are padded to their longest record; in the second half of the table to 50 tokens, as UIMER's code does it.
Words are one token each, so that no pretrained tokenizer is needed: 11 tokens a record, as with BERT's own.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

import common
from raison.attribution.diffmask import Fitting
from raison.models import Classifier
from raison.models.scorer import Batch
from raison.records import Record
from raison.sources import load
from raison.training import Alignment
from raison.training.align import examples, objective_for
from raison.training.aligned import Collator, Examples
from raison.training.finetune import few_shot, label_names
from raison.training.learners import LabelLearner
from raison.training.teachers import DiffMask

VOCABULARY = 30_522
SHOTS, BATCH, WIDTH = 24, 24, 50
TASK, PLAIN = "task alone", "plain loop"
AIMS = {
    PLAIN: 1.0, TASK: 1.0, "GB sign": 1.5, "GB order": 1.5, "IM uniform, 4 draws": 4.4,
    "DM extractor": 0.66, "DM model": 1.04,
}  # fmt: skip


class Padded(Classifier):
    """Pads every batch to one width."""

    def pad(self, inputs: Sequence[Any]) -> Batch:
        """Pad to the longest first, and then on."""
        made = super().pad(inputs)
        more = (0, WIDTH - made.ids.shape[1])
        wide = [torch.nn.functional.pad(part, more) for part in (made.types, made.attention)]
        return Batch(torch.nn.functional.pad(made.ids, more, value=self._padding), *wide, made.lengths)


def make_tokenizer(records: Sequence[Record]) -> Any:
    """Make a tokenizer with a token for each word of the records, and others that stand in no text."""
    known = sorted({word for record in records for text in record.fields.values() for word in text.lower().split()})
    rest = [f"unseen{index}" for index in range(VOCABULARY - len(common.FILES) - len(known))]
    tokens = {token: index for index, token in enumerate([*common.FILES.values(), *known, *rest])}
    backend = Tokenizer(models.WordLevel(tokens, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    sides = [(name, tokens[name]) for name in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=sides)
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=inputs, **common.FILES)


def make_learner(tokenizer: Any, labels: Sequence[str], padded: bool) -> LabelLearner:
    """Make an untrained model, the same each time."""
    torch.manual_seed(0)
    network = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=256, num_hidden_layers=4, num_attention_heads=4,
            intermediate_size=1024, num_labels=len(labels),
        )
    ).train()  # fmt: skip
    return LabelLearner((Padded if padded else Classifier)(network, tokenizer, labels=tuple(labels)))


def stepper(
    learner: LabelLearner, records: Sequence[Record], alignment: Alignment | None
) -> Callable[[list[int]], None]:
    """Give what takes a training step on some of the records, and another one each time."""
    rows = examples(learner, records, alignment)
    objective = objective_for(learner, rows, alignment)
    data, collator = Examples(rows, objective.teacher, 0), Collator(learner, objective.name)
    weights = list(learner.network.parameters())
    optimiser = torch.optim.AdamW(weights, lr=1e-4, fused=True)

    def step(chosen: list[int]) -> None:
        data.set_epoch(data.epoch + 1)  # draws anew
        inputs = collator([data[index] for index in chosen])
        totals = torch.tensor([float(len(chosen)), float(inputs["counted"].sum())])
        objective.loss(learner.network, inputs, totals, 1.0).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


def plain_stepper(
    tokenizer: Any, records: Sequence[Record], labels: Sequence[str], padded: bool
) -> Callable[[list[int]], None]:
    """Give what takes a step for the task alone, written by hand, without raison."""
    network = make_learner(tokenizer, labels, padded).network
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    inputs = [tokenizer(" ".join(record.fields.values())) for record in records]
    gold = torch.tensor([labels.index(record.label or "") for record in records])
    padding = {"padding": "max_length", "max_length": WIDTH} if padded else {"padding": "longest"}

    def step(chosen: list[int]) -> None:
        batch = tokenizer.pad([inputs[index] for index in chosen], return_tensors="pt", **padding)
        network(**batch, labels=gold[chosen]).loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


def extractor_stepper(learner: LabelLearner, records: Sequence[Record]) -> Callable[[list[int]], Any]:
    """Give what takes a step of an extractor's training, the model as it is."""
    alignment = Alignment("diffmask", people="uimer-intent")
    rows = examples(learner, records, alignment)
    teacher = objective_for(learner, rows, alignment).teacher
    assert isinstance(teacher, DiffMask)
    fitting = Fitting(learner.scorer, teacher.extractor, compare=learner.compare)
    return lambda chosen: fitting.step([rows[index].tokens for index in chosen])


def variants(records: Sequence[Record], tokenizer: Any, padded: bool) -> dict[str, Callable[[list[int]], Any]]:
    """Give what takes a step, by name."""
    labels = label_names(records)
    aligned = {
        TASK: None,
        "GB sign": Alignment("gradient-sum", people="uimer-intent"),
        "GB order": Alignment("gradient-l1", people="uimer-intent"),
        "IM uniform, 4 draws": Alignment("input-marginalisation", people="uimer-intent"),
        "DM model": Alignment("diffmask", people="uimer-intent"),
    }
    found: dict[str, Callable[[list[int]], Any]] = {
        name: stepper(make_learner(tokenizer, labels, padded), records, one) for name, one in aligned.items()
    }
    extractor = extractor_stepper(make_learner(tokenizer, labels, padded), records)
    return {**found, "DM extractor": extractor, PLAIN: plain_stepper(tokenizer, records, labels, padded)}


def batches(size: int, rounds: int) -> Iterator[list[int]]:
    """Draw batches, epoch after epoch."""
    generator = torch.Generator().manual_seed(0)
    left = 0
    while left < rounds:
        for chosen in torch.randperm(size, generator=generator).split(BATCH):
            yield chosen.tolist()
            left += 1


def measure(records: Sequence[Record], tokenizer: Any, padded: bool, rounds: int) -> list[dict[str, Any]]:
    """Let all variants take steps in turn, and give a row for each."""
    steps = variants(records, tokenizer, padded)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn, chosen in enumerate(batches(len(records), rounds + 1)):
        if turn > rounds:
            break
        order = list(steps) if turn % 2 else list(steps)[::-1]  # whoever goes first has the colder caches
        for name in order:
            spent, _ = common.seconds(lambda name=name, chosen=chosen: steps[name](chosen))
            if turn:  # the first step of each is not counted
                times[name].append(spent)
    return [
        {
            "case": name,
            "padding": f"to {WIDTH}" if padded else "to the longest",
            "ours_s": round(statistics.median(times[name]), 5),
            "times_task": ratio(times[name], times[TASK]),
            "times_plain": ratio(times[name], times[PLAIN]),
            "aim": aim,
        }
        for name, aim in AIMS.items()
    ]


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """Give the median of the ratios of rounds."""
    return round(statistics.median(one / other for one, other in zip(times, others, strict=True)), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="records of SNIPS with the rationales of UIMER's word lists")
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=21, help="steps of each variant")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    common.clock = time.process_time if options.threads == 1 else time.perf_counter
    records = few_shot(load(options.data), SHOTS)
    tokenizer = make_tokenizer(records)
    rows: list[dict[str, Any]] = []
    for padded in (False, True):
        found = measure(records, tokenizer, padded, options.rounds)
        common.show(found, ("case", "padding", "ours_s", "times_task", "times_plain", "aim"))
        rows += found
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
