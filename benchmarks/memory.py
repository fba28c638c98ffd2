"""Integrated gradients of one text of 500 tokens: how much the peak of the resident memory rises.

Run as a script in a fresh process for each of them (`python memory.py FOLDER WHO THREADS`), it prints one line of JSON.
Linux alone tells a process its peak and lets it start anew.
"""

import ctypes
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import common
import floor
from common import TARGET

WHO = ("ours", "ours, adaptive steps", "floor", "captum", "captum, internal_batch_size=8", "interpreto", "ferret")


def call_of(who: str, folder: Path) -> tuple[Callable[[str], Any], str]:
    """Give the function that explains a text, and the text of 500 tokens."""
    model, tokenizer, texts = common.load(folder)
    if who.startswith("ours"):
        return _ours(model, tokenizer, "auto" if "adaptive" in who else 50), texts.long
    if who == "floor":
        floor.freeze(model)
        return lambda text: floor.integrated_gradients(model, [_encoded(tokenizer, text)], TARGET), texts.long
    if who == "interpreto":
        from interpreto import IntegratedGradients

        explainer = IntegratedGradients(model, tokenizer, n_perturbations=50)
        return lambda text: explainer(text, torch.tensor([TARGET])), texts.long
    if who == "ferret":
        from ferret.explainers.gradient import IntegratedGradientExplainer

        return lambda text: IntegratedGradientExplainer(model, tokenizer)(text, target=TARGET), texts.long
    return _captum(model, tokenizer, 8 if "8" in who else None), texts.long


def _ours(model: Any, tokenizer: Any, steps: int | str) -> Callable[[str], Any]:
    from raison.attribution import extract
    from raison.models import Classifier
    from raison.records import Record

    ours = Classifier(model, tokenizer)
    options = {"target": common.LABELS[TARGET], "steps": steps}
    return lambda text: extract(ours, [Record("1", {"text": text})], "integrated_gradients", **options)


def _captum(model: Any, tokenizer: Any, size: int | None) -> Callable[[str], Any]:
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(lambda embeds, mask: model(inputs_embeds=embeds, attention_mask=mask).logits)

    def explain(text: str) -> Any:
        given = tokenizer(text, return_tensors="pt")
        embeds = model.get_input_embeddings()(given.input_ids).detach()
        more = {"additional_forward_args": given.attention_mask, "internal_batch_size": size}
        return method.attribute(embeds, target=TARGET, **more)

    return explain


def _encoded(tokenizer: Any, text: str) -> tuple[list[int], list[int]]:
    found = tokenizer(text)
    return found.input_ids, found.token_type_ids


def resident(name: str) -> float:
    """Give the resident memory (VmRSS) or its peak (VmHWM) in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def main() -> None:
    folder, who, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(threads)
    explain, text = call_of(who, folder)
    explain(text[:40])  # imports and buffers that any first call makes
    ctypes.CDLL(None).malloc_trim(0)  # what loading left over would hide a part of the rise
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    took, _ = common.seconds(lambda: explain(text))
    rise = resident("VmHWM") - before
    print("@@" + json.dumps({"mb": round(rise, 1), "seconds": took}))


if __name__ == "__main__":
    main()
