"""A prompt of 4,000 tokens: how much the peak of the resident memory rises.

Run as a script in a fresh process for each of them (`python causal_memory.py FOLDER WHO THREADS`), it prints one line
of JSON. Linux alone tells a process its peak and lets it start anew.
"""

import ctypes
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import causal_floor
import causal_texts
import common
import floor
from memory import resident

OWN = "the model's own forward and backward"
EAGER = "transformers, eager, output_attentions=True"
STEPS = 10  # time, not memory, grows with their number
GRADIENTS = ("gradient", "input_x_gradient", f"integrated_gradients, {STEPS} steps")
WHO = (OWN, *GRADIENTS, "attention", "attention_rollout", EAGER)
AIM = 2.5


def call_of(who: str, folder: Path) -> Callable[[str], Any]:
    """Give the function that explains a text."""
    model, tokenizer, _ = causal_texts.load(folder)
    if who in (OWN, EAGER):
        floor.freeze(model)
        run = _own if who == OWN else _eager
        return lambda text: run(model, tokenizer(text).input_ids)
    from causal import answerer
    from raison.attribution import extract
    from raison.records import Record

    ours, _ = answerer(folder)
    method, _, steps = who.partition(", ")
    options = {"steps": STEPS} if steps else {}
    return lambda text: extract(ours, [Record("1", {"text": text})], method, **options)


def _own(model: Any, ids: list[int]) -> None:
    """Run forward and backward to the embeddings; the answer position alone meets the vocabulary."""
    rows, mask = causal_floor.pad([ids])
    embeds = model.get_input_embeddings()(rows).detach().requires_grad_()
    torch.autograd.grad(causal_floor.log_probabilities(model, embeds, mask, [3]).sum(), embeds)


def _eager(model: Any, ids: list[int]) -> Any:
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        return model(torch.tensor([ids]), output_attentions=True, use_cache=False, logits_to_keep=1).attentions


def main() -> None:
    folder, who, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(threads)
    explain, text = call_of(who, folder), causal_texts.load(folder)[2].long
    explain(" ".join(text.split()[:8]))  # imports and buffers that any first call makes
    ctypes.CDLL(None).malloc_trim(0)  # what loading left over would hide a part of the rise
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    took, _ = common.seconds(lambda: explain(text))
    rise = resident("VmHWM") - before
    print("@@" + json.dumps({"mb": round(rise, 1), "seconds": took}))


if __name__ == "__main__":
    main()
