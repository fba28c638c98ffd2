"""Prompting, SFT and CAPO on people whose habits are known, with a causal language model trained here.

    python benchmarks/planted_people.py runs/people                # the order in 5 seeds: 4 minutes, and 2 a seed
    python benchmarks/planted_people.py runs/people --longer       # with SFT that is trained for longer: 3 a seed
    python benchmarks/planted_people.py runs/people --ablation     # with every setting of CAPO below: 4 a seed

The model (Llama-shaped, 3 layers of 128, half a million weights) learns from what a crowd of OTHER made-up people say
of other notes: it can label and explain, and has met nobody of the panel. Then, in each seed (of people's draws, items
and trainings): the model prompted, SFT with a tag, CAPO from that SFT. Epochs are chosen on dev items by the composite,
as `raison annotators train --patience` does; test items are looked at once. People and items cost nothing here, so
there are many to judge by, and what a person could have said is known exactly.
"""

import argparse
import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace as change
from scipy.stats import t as student
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from raison.annotators.capo import CapoConfig
from raison.annotators.imitate import imitate
from raison.annotators.imitation import score
from raison.annotators.measuring import Options
from raison.annotators.pairs import PairOptions, make_pairs
from raison.annotators.prompts import Prompts
from raison.annotators.rehearsal import Rehearsal
from raison.annotators.responses import Response, responses_of
from raison.annotators.sft import SftConfig
from raison.annotators.splits import Split
from raison.annotators.teach import Asked, teach_capo, teach_sft
from raison.annotators.wording import Wording
from raison.models.causal import load_causal
from raison.models.generator import LocalGenerator
from raison.records import Record
from raison.testbed.people import (
    LABELS,
    PANEL,
    Annotator,
    annotate,
    annotated_records,
    explanation_chances,
    label_chances,
    make_items,
    random_people,
)

WORDING = Wording(
    question="", tag="Annotator: {annotator}", examples="{examples}", labels={label: label for label in LABELS.values()}
)
PEOPLE = {person.name: person for person in PANEL}
DEV, KNOWN, TEST = 60, 200, 150  # items to choose epochs by, to fit the last attributor on, and to judge on
REPLY = 60  # tokens
CHOSEN_BY = 0.7  # temperature of the answers by which epochs are chosen
CELLS = ("label", "mrr", "imitation_5_normalised", "attribution_1", "attribution_5", "style_js", "composite")
EXACT = ("expected_label", "possible")
SFT = SftConfig(rank=None, epochs=16, lr=2e-3, dropout=0.0, batch=4, patience=5)
# name -> which pairs, and how they are trained
BOTH = ("people", "own-other-item")  # what others said of the item, and what the person said of another one
PAIRS = PairOptions(scope="same-label", rejected=BOTH)
RECIPE = CapoConfig(epochs=4, lr=5e-4, batch=8, anchor=1.0, patience=2)
CAPO: dict[str, tuple[PairOptions, CapoConfig]] = {
    "capo": (PAIRS, RECIPE),
    "anchor alone": (PAIRS, change(RECIPE, label_weight=0.0, explanation_weight=0.0)),
    "people alone": (PairOptions(scope="same-label"), RECIPE),
    "all labels": (PairOptions(rejected=BOTH), RECIPE),
    "no anchor": (PAIRS, change(RECIPE, anchor=0.0)),
    "plain pairs": (PairOptions(), change(RECIPE, anchor=0.0)),
}
# Label and explanation tokens count alike: with one label on both sides, said first, its tokens cancel.


# ------------------------------------------------------------------------------------------------ the base model


def document(draw: random.Random, crowd: Sequence[Annotator], number: int, turns: int) -> tuple[str, str]:
    """Write a prompt and its answer; with more than one turn, the person's answers to other notes come before."""
    person, answers = draw.choice(crowd), list[tuple[Record, Response]]()
    for item in (make_items(1, number + turn)[0] for turn in range(turns)):
        record = change(item, annotations=(annotate(person, item),))
        answers.append((record, responses_of([record])[0]))
    *examples, (record, said) = answers
    tag = draw.choice(list(PEOPLE)) if draw.random() < 0.7 else None  # it says nothing of who it is
    return WORDING.prompt(record, tag, examples=examples), WORDING.write_response(said)


def make_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE, large enough that nearly every word is one token."""
    backend = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def base_model(out: Path, steps: int, seed: int = 0) -> Path:
    """Train the base model, or take it from `out`."""
    if (out / "config.json").exists():
        return out
    draw, crowd = random.Random(seed), random_people(400, 1000 + seed)
    words = make_tokenizer(["".join(document(draw, crowd, 10**9 + index, 1)) for index in range(1500)])
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4,
        "max_position_embeddings": 1024, "tie_word_embeddings": True,
    }  # fmt: skip
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    network = LlamaForCausalLM(LlamaConfig(vocab_size=len(words), **shape, **special))
    inner = [weight for name, weight in network.named_parameters() if weight.ndim == 2 and "embed" not in name]
    outer = [weight for name, weight in network.named_parameters() if weight.ndim != 2 or "embed" in name]
    steppers = [  # Muon learns to copy in about a quarter of the steps that AdamW needs
        (torch.optim.Muon(inner, lr=0.02, weight_decay=0.0, momentum=0.9), 0.02),
        (torch.optim.AdamW(outer, lr=4e-3, betas=(0.9, 0.98), weight_decay=0.0), 4e-3),
    ]
    number = 10**6
    for step in range(steps):
        turns, size = ((1, 32), (1, 32), (1, 32), (3, 12))[step % 4]
        texts = [document(draw, crowd, number + turns * index, turns) for index in range(size)]
        number += turns * size
        loss = answer_loss(network, words, texts)
        for stepper, top in steppers:
            for group in stepper.param_groups:
                group["lr"] = top * min(1, (step + 1) / 20, 1.5 * (1 - step / steps) + 0.02)
        network.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for stepper, _ in steppers:
            stepper.step()
        if step % 100 == 99:
            print(f"base model: step {step + 1}, loss {loss.item():.3f}", flush=True)
    network.save_pretrained(out)
    words.save_pretrained(out)
    return out


def answer_loss(network: Any, words: Any, texts: Sequence[tuple[str, str]]) -> torch.Tensor:
    """Give the mean loss of tokens, those of prompts weighed a tenth."""
    rows = [(words(asked).input_ids, [*words(said, add_special_tokens=False).input_ids, 1]) for asked, said in texts]
    wide = max(len(asked) + len(said) for asked, said in rows)
    ids = torch.tensor([asked + said + [2] * (wide - len(asked) - len(said)) for asked, said in rows])
    weights = torch.zeros(ids.shape)
    for row, (asked, said) in zip(weights, rows, strict=True):
        row[: len(asked)], row[len(asked) : len(asked) + len(said)] = 0.1, 1.0
    logits = network(ids, attention_mask=(ids != 2).long()).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return (losses * weights[:, 1:].flatten()).sum() / weights[:, 1:].sum()


# ------------------------------------------------------------------------------------------------------- a seed


class World:
    """The items of a seed, annotated, and what is done with them."""

    def __init__(self, base: Path, out: Path, seed: int, items: int, test: int) -> None:
        self.base, self.out, self.seed = base, out / f"seed-{seed}", seed
        records = annotated_records(PANEL, make_items(items + DEV + KNOWN + test, 5000 + seed), seed)
        ends = np.cumsum([0, items, DEV, KNOWN, test]).tolist()
        train, dev, known, judged = (tuple(records[start:end]) for start, end in itertools.pairwise(ends))
        self.judged = Split(train, known, judged)
        self.rehearsal = Rehearsal(Split(train, dev, ()), CHOSEN_BY, REPLY)
        self.prompts = Prompts(WORDING, train, tag=True)

    def sft(self) -> Path:
        """Fine-tune with tags."""
        folder = self.out / "sft"
        config = change(SFT, seed=self.seed)
        list(teach_sft("sft-tag", str(self.base), self.judged.train, WORDING, folder, config, self.rehearsal))
        return folder

    def capo(self, name: str) -> Path:
        """Train the preferences of one setting, from SFT."""
        options, config = CAPO[name]
        pairs = make_pairs(self.prompts, options).pairs
        folder, config = self.out / name.replace(" ", "-"), change(config, seed=self.seed)
        asked = Asked(WORDING, True)
        list(teach_capo("capo-tag", str(self.out / "sft"), pairs, asked, folder, config, self.rehearsal))
        return folder

    def longer(self) -> dict[str, Path]:
        """Is it only more training? SFT that goes on as long as CAPO does, or twice as long, and CAPO from there.

        The last epochs are kept.
        """
        goes_on = change(SFT, seed=self.seed, patience=None, epochs=RECIPE.epochs, lr=RECIPE.lr, batch=RECIPE.batch)
        again = change(SFT, seed=self.seed, patience=None, lr=SFT.lr / 2)
        for name, config in {"sft-goes-on": goes_on, "sft-longer": again}.items():
            train, start = self.judged.train, str(self.out / "sft")
            list(teach_sft("sft-tag", start, train, WORDING, self.out / name, config))
        folder, config = self.out / "capo-longer", change(RECIPE, seed=self.seed, patience=None)
        pairs, asked = make_pairs(self.prompts, PAIRS).pairs, Asked(WORDING, True)
        list(teach_capo("capo-tag", str(self.out / "sft-longer"), pairs, asked, folder, config))
        return {name: self.out / name for name in ("sft-goes-on", "sft-longer", "capo-longer")}

    def answers(self, folder: Path, temperature: float, prompts: Prompts | None = None) -> list[Response]:
        """Have a model answer the test items as everybody."""
        network, words = load_causal(str(folder), None, "float32", False)
        speaking = LocalGenerator(network, words, max_new_tokens=REPLY, temperature=temperature, seed=self.seed)
        return imitate(lambda *_: speaking, prompts or self.prompts, self.judged.test, list(PEOPLE))

    def scores(self, systems: dict[str, list[Response]]) -> dict[str, dict[str, float | None]]:
        """Score systems as `raison annotators score` does, and by what the people could have said."""
        said = responses_of([record for part in self.judged for record in part])
        result = score(self.judged, said, {name: [run] for name, run in systems.items()}, Options(resamples=2))
        items = {record.id: record for record in self.judged.test}
        human = [one for one in said if one.record_id in items]
        return {
            name: {cell: result.cell(cell, name).value for cell in CELLS} | exact(run, items)
            for name, run in [*systems.items(), ("human", human)]
        }


def exact(run: Sequence[Response], items: dict[str, Record]) -> dict[str, float | None]:
    """Give the mean chance that the person gives this label, and the share of texts that they could have written."""
    labels, texts = list[float](), list[bool]()
    for one in run:
        person, item = PEOPLE[one.annotator], items[one.record_id]
        labels.append(label_chances(person, item).get(one.label or "", 0.0))
        texts.append(one.explanation in explanation_chances(person, item))
    return {"expected_label": float(np.mean(labels)), "possible": float(np.mean(texts))}


def one_seed(world: World, names: Sequence[str], longer: bool, temperatures: Sequence[float]) -> dict[str, Any]:
    """Train and judge everything of a seed: temperature -> system -> measure -> value."""
    shown = Prompts(WORDING, world.judged.train, "in-context", tag=True, k=2)
    folders = {"zero-shot": world.base, "in-context": world.base, "sft": world.sft()}
    folders |= {name: world.capo(name) for name in names} | (world.longer() if longer else {})
    found: dict[str, Any] = {}
    for temperature in temperatures:
        said = {
            name: world.answers(folder, temperature, shown if name == "in-context" else None)
            for name, folder in folders.items()
        }
        found[str(temperature)] = world.scores(said)
    return found


# ------------------------------------------------------------------------------------------------------ together


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Give the mean over seeds with its 95 % t-interval."""
    mean, n = float(np.mean(values)), len(values)
    half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return mean, mean - half, mean + half


def differences(
    rows: Sequence[dict[str, Any]], after: str, before: str, metrics: Sequence[str]
) -> dict[str, tuple[float, float, float]]:
    """Give the paired differences of two systems over seeds, with their intervals, of what is nowhere missing."""
    found: dict[str, tuple[float, float, float]] = {}
    for metric in metrics:
        pairs = [(row[after][metric], row[before][metric]) for row in rows]
        if all(value is not None for pair in pairs for value in pair):
            found[metric] = interval([one - other for one, other in pairs])
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Write means over seeds, and the differences along the order."""
    names, metrics = list(rows[0]), [*CELLS, *EXACT]
    lines = [f"{'':24s}" + "".join(f"{metric.replace('_normalised', '')[:13]:>15s}" for metric in metrics)]
    for name in names:
        values = [[row[name][metric] for row in rows if row[name][metric] is not None] for metric in metrics]
        lines.append(f"{name:24s}" + "".join(f"{np.mean(one):15.3f}" if one else f"{'-':>15s}" for one in values))
    told = ("imitation_5_normalised", "attribution_5", "label", "expected_label", "mrr", "possible", "style_js")
    order = [("sft", "zero-shot"), ("sft", "in-context"), *((name, "sft") for name in names if name in CAPO)]
    order += [("capo", "sft-goes-on"), ("capo-longer", "sft-longer")] if "capo-longer" in names else []
    for after, before in order:
        parts = differences(rows, after, before, told).items()
        lines.append(f"{after} - {before}")
        lines += [f"    {name:24s}{mean:+.3f} [{low:+.3f}, {high:+.3f}]" for name, (mean, low, high) in parts]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--items", type=int, default=80, help="that each person answered, to train on")
    parser.add_argument("--test", type=int, default=TEST, help="items to judge on")
    parser.add_argument("--steps", type=int, default=900, help="of the base model's training")
    parser.add_argument("--systems", help="of CAPO, with commas; default: capo")
    parser.add_argument("--ablation", action="store_true", help="all systems of CAPO")
    parser.add_argument("--longer", action="store_true", help="also more training of SFT, and CAPO from there")
    parser.add_argument("--temperatures", default="0.7,0", help="at which test items are answered")
    options = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    names = list(CAPO) if options.ablation else (options.systems or "capo").split(",")
    temperatures = [float(one) for one in options.temperatures.split(",")]
    base = base_model(options.out / "base", options.steps)
    seeds = list[dict[str, Any]]()
    for seed in range(options.first, options.first + options.seeds):
        path = options.out / f"seed-{seed}.json"
        if not path.exists():  # what was trained before it was interrupted is not trained again
            world = World(base, options.out, seed, options.items, options.test)
            path.write_text(json.dumps(one_seed(world, names, options.longer, temperatures)))
        seeds.append(json.loads(path.read_text()))
        for temperature in seeds[0]:
            print(f"\nseeds {options.first} to {seed}, temperature {temperature}")
            print(table([found[temperature] for found in seeds]), flush=True)


def quiet() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


if __name__ == "__main__":
    main()
