"""Preference training beside TRL's DPOTrainer, on the same pairs: items per second, and how far the memory rises.

    python benchmarks/capo.py --threads 1 --json capo.json
    python benchmarks/capo.py --items 16 --rounds 2 --no-memory     # a first look

Run with `--memory WHO FOLDER` it is the fresh process in which one of them is measured.
"""

import argparse
import copy
import ctypes
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import causal_texts
import common
from memory import resident
from raison.annotators.capo import CapoConfig, pair_units, preference, responses_in, tokenised
from raison.annotators.fit import Run, fit
from raison.annotators.policy import Adapter, Policy, load_policy, log_probabilities, on_device, token_log_probabilities
from raison.annotators.preference_pair import PreferencePair
from raison.annotators.trees import collate

PROMPT, RESPONSE, PEOPLE = 150, 25, 4  # tokens, with the one before a prompt and the one behind a response
BATCH = 8  # items of a step
BETA = 0.1
FORMS = ("one person", "all persons, tagged")  # 3 pairs of an item under one prompt; 12 under four, one a person
PEERS = {
    # TRL's own defaults: 8 pairs at once, checkpointed activations, the reference computed in every step
    "trl, default": {"per_device_train_batch_size": 8},
    "trl, best": {
        "per_device_train_batch_size": 8,
        "gradient_checkpointing": False,
        "precompute_ref_log_probs": True,
    },
    "trl, one item at once": {
        "per_device_train_batch_size": 3,
        "gradient_checkpointing": False,
        "precompute_ref_log_probs": True,
    },
}
OURS = {"ours": None, "ours, one item at once": PROMPT + PEOPLE * RESPONSE}  # padded tokens at once; None = default
AIM = 3.5


# -------------------------------------------------------------------------------------------- model and pairs


def texts(form: str, items: int, prompt: int) -> list[PreferencePair]:
    """Draw the pairs: words are one token each, and no two responses begin alike.

    One person: what the first said before what each of the others said. All: the same for each of them, under a
    prompt that ends with their tag.
    """
    rng = np.random.default_rng(0)
    known = np.array(common.words())
    pairs: list[PreferencePair] = []
    for item in range(items):
        tagged = form != FORMS[0]
        asked = " ".join(rng.choice(known, prompt - 1 - tagged))
        said = [" ".join(rng.choice(known, RESPONSE - 1)) for _ in range(PEOPLE)]
        for own in range(PEOPLE if tagged else 1):
            text = f"{asked} {known[own]}\n" if tagged else f"{asked}\n"
            others = [other for other in range(PEOPLE) if other != own]
            pairs += [PreferencePair(str(item), str(own), text, said[own], said[other], str(other)) for other in others]
    return pairs


def load(folder: Path, max_tokens: int | None) -> Policy:
    return load_policy(str(folder / "adapter"), None, dtype="float32", max_tokens=max_tokens)


def make(folder: Path, prompt: int) -> None:
    """Write the model with an adapter that has learned something, as after supervised fine-tuning, and its pairs."""
    causal_texts.make(folder)
    _, tokenizer, _ = causal_texts.load(folder)
    tokenizer.save_pretrained(folder / "model")
    policy = load_policy(str(folder / "model"), Adapter(16, 32, 0.0, 0), dtype="float32")
    disturb(policy.network)
    policy.network.save_pretrained(folder / "adapter")
    tokenizer.save_pretrained(folder / "adapter")


def disturb(network: Any) -> None:
    """Move what is trained, by the same draw wherever this is done."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.requires_grad and ".ref." not in name:
                weight.add_(torch.randn_like(weight) * 0.01)


# -------------------------------------------------------------------------------------------------- both sides


def ours(policy: Policy, pairs: Sequence[PreferencePair], folder: Path, epochs: int = 1) -> None:
    """Do what `capo` does between loading and the end: tokenise, remember the reference, train, save."""
    config = CapoConfig(batch=BATCH, epochs=epochs, bf16=False, beta=BETA, anchor=0.0)
    policy, laid = tokenised(policy, pairs, None)
    reference = log_probabilities(policy, [responses_in(some) for some in laid.values()])
    items = [pair_units(policy, some, reference, BETA) for some in laid.values()]
    fit(policy, items, preference(config), config, Run(folder, {}, {}, None, lambda *_: None))


def trl_trainer(policy: Policy, pairs: Sequence[PreferencePair], folder: Path, setting: dict[str, Any]) -> Any:
    """Make TRL's trainer: it tokenises, and computes the reference where it does so once."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rows = [{"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected} for pair in pairs]
    step = BATCH * len(pairs) // len({pair.record_id for pair in pairs})  # as many pairs as ours
    options = {
        **setting,
        "gradient_accumulation_steps": max(1, step // setting["per_device_train_batch_size"]),
        "output_dir": str(folder),
        "beta": BETA,
        "learning_rate": 1e-5,
        "num_train_epochs": 1,
        "max_length": None,
        "bf16": False,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_strategy": "epoch",
    }
    return DPOTrainer(
        policy.network,
        args=DPOConfig(**options),
        train_dataset=Dataset.from_list(rows),
        processing_class=policy.tokenizer,
    )


def difference(policy: Policy, pairs: Sequence[PreferencePair], folder: Path) -> float:
    """Give how far the losses of the same 6 pairs are apart, both policies moved alike."""
    few = list(pairs[:6])
    mine, peer = copy.deepcopy(policy), copy.deepcopy(policy)
    mine, laid = tokenised(mine, few, None)
    reference = log_probabilities(mine, [responses_in(some) for some in laid.values()])
    units = [unit for some in laid.values() for unit in pair_units(mine, some, reference, BETA)]
    disturb(mine.network)
    batch = on_device(mine, collate(units, mine.padding))
    with torch.no_grad():
        losses, _ = preference(CapoConfig(beta=BETA, anchor=0.0))(token_log_probabilities(mine.network, batch), batch)
    trainer = trl_trainer(peer, few, folder, {"per_device_train_batch_size": 6, "gradient_checkpointing": False})
    disturb(trainer.model)
    given = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        found = trainer.compute_loss(trainer.model.eval(), given)
    return abs(float(losses.mean()) - float(found))


def speed(folder: Path, form: str, items: int, rounds: int, prompt: int) -> list[dict[str, Any]]:
    pairs = texts(form, items, prompt)
    policy = load(folder, None)
    apart = difference(policy, pairs, folder / "trl")
    rows: list[dict[str, Any]] = []
    for name in ("trl, best", "trl, default"):

        def mine() -> None:
            with tempfile.TemporaryDirectory() as place:
                ours(copy.deepcopy(policy), pairs, Path(place) / "out")

        def peer(setting: dict[str, Any] = PEERS[name]) -> tuple[float, Any]:
            with tempfile.TemporaryDirectory() as place:
                fresh = copy.deepcopy(policy)
                return common.seconds(lambda: trl_trainer(fresh, pairs, Path(place), setting).train())

        timed = common.paired(mine, peer, rounds)
        row = common.row(f"{form}, prompt {prompt}", name, timed, apart)
        more = {"ours_items_s": items / timed.ours_s, "peer_items_s": items / timed.peer_s, "aim": AIM}
        rows.append({**row, **more})
        common.show(rows[-1:], ("case", "peer", "ours_s", "peer_s", "ratio", "max_abs_diff"))
    return rows


# ------------------------------------------------------------------------------------------------------- memory


def measure(who: str, folder: Path, form: str, prompt: int) -> None:
    """Print how far the peak of the resident memory rises in a training of two steps, in MB."""
    pairs = texts(form, 2 * BATCH, prompt)
    policy = load(folder, OURS.get(who))
    with tempfile.TemporaryDirectory() as place:
        if who in OURS:
            ours(copy.deepcopy(policy), pairs[:3], Path(place) / "warm")  # imports and buffers of any first call
        else:
            trl_trainer(copy.deepcopy(policy), pairs[:8], Path(place) / "warm", PEERS[who]).train()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = resident("VmRSS")
        if who in OURS:
            ours(policy, pairs, Path(place) / "out")
        else:
            trl_trainer(policy, pairs, Path(place) / "out", PEERS[who]).train()
        print("@@" + json.dumps({"mb": round(resident("VmHWM") - before, 1)}))


def memory(folder: Path, form: str, prompt: int, threads: int, runs: int = 3) -> list[dict[str, Any]]:
    def ask(who: str) -> float:
        command = [sys.executable, __file__, "--memory", who, str(folder), "--forms", form, "--threads", str(threads)]
        done = subprocess.run([*command, "--prompt", str(prompt)], capture_output=True, text=True, check=False)
        told = [line for line in done.stdout.splitlines() if line.startswith("@@")]
        if not told:
            raise RuntimeError(done.stderr[-2000:])
        return json.loads(told[0][2:])["mb"]

    found = {who: median(ask(who) for _ in range(runs)) for who in [*OURS, *PEERS]}
    sides = (("ours", "trl, default"), ("ours", "trl, best"), ("ours, one item at once", "trl, one item at once"))
    rows = [
        {"case": f"memory: {form}, prompt {prompt}, {own}", "peer": peer, "ours_mb": found[own], "peer_mb": found[peer]}
        for own, peer in sides
    ]
    common.show(rows, ("case", "peer", "ours_mb", "peer_mb"))
    return rows


def verdicts(rows: Sequence[dict[str, Any]]) -> list[str]:
    said = [
        f"{row['case']}, {row['peer']}: {row['ratio']:.2f} times, "
        f"{row['ours_items_s']:.2f} and {row['peer_items_s']:.2f} items per second "
        f"({'holds' if row['ratio'] >= AIM else 'missed'}: {AIM})"
        for row in rows
        if "ratio" in row
    ]
    return said + [
        f"{row['case']}, {row['peer']}: {row['ours_mb']} MB, {row['peer_mb']} MB "
        f"({'holds' if row['ours_mb'] <= row['peer_mb'] else 'missed'}: no more)"
        for row in rows
        if "ours_mb" in row
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, default=48)
    parser.add_argument("--prompt", type=int, default=PROMPT)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--cpu-time", action="store_true", help="count processor seconds, on a busy machine")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--memory", nargs=2, metavar=("WHO", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.cpu_time:
        common.clock = time.process_time
    if args.memory:
        measure(args.memory[0], Path(args.memory[1]), args.forms[0], args.prompt)
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        make(Path(place), args.prompt)
        for form in args.forms:
            rows += speed(Path(place), form, args.items, args.rounds, args.prompt)
            rows += [] if args.no_memory else memory(Path(place), form, args.prompt, args.threads)
    print("\n".join(verdicts(rows)))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
