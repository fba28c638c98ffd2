"""Supervised fine-tuning on people's responses: pooled, with a tag in one adapter, or an adapter for each person.

Which of these it is, the prompts say: without a tag and of everybody; with one; or of one person alone. The loss of a
response is the mean of -log p(token | what is before it) over its tokens, the one that ends it among them; each
response counts the same.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from raison.annotators.fit import Measure, Run, check, chosen_by, fit, in_bfloat16
from raison.annotators.policy import Adapter, Rows, load_policy, takes_trees, units_of
from raison.annotators.preference import response_scores
from raison.annotators.responses import Response
from raison.annotators.said import tokens_of_turns
from raison.annotators.trees import Said
from raison.annotators.wording import Wording
from raison.records import InputError, Record
from raison.runs import digest, provenance
from raison.training.runs import Progress, begin, is_done, part_of


class Turn(msgspec.Struct, frozen=True):
    """What somebody is asked, and says."""

    record_id: str
    annotator: str
    prompt: str  # the user's message; the chat template is put around it when it becomes tokens
    response: str


class SftConfig(msgspec.Struct, frozen=True):
    """How a model is fine-tuned on responses."""

    rank: int | None = 16  # of a new adapter on all projections; None = what is there is trained, see `load_policy`
    only: tuple[str, ...] = ()  # tokens whose embeddings alone are trained; none = as the rank says
    alpha: int = 32  # the adapter is scaled by alpha / rank
    dropout: float = 0.05  # on what the adapter reads
    epochs: int = 3  # passes over the items
    lr: float = 1e-4  # highest learning rate; it rises over the first 3 % of the steps and falls to 0 as a cosine
    batch: int = 16  # items per step, each with all its responses
    weight_decay: float = 0.0
    patience: int | None = None  # epochs without a better score after which it ends; None = never
    max_tokens: int | None = None  # padded tokens that are computed at once; None = by device
    bf16: bool | None = None  # base weights and arithmetic in bfloat16; None = where the accelerator has it
    seed: int = 0


def turns_of(
    wording: Wording, records: Sequence[Record], responses: Sequence[Response], *, tagged: bool = False
) -> list[Turn]:
    """Give the turns that responses are learned from, in their order; those without label or explanation are left out.

    Args:
        wording: how they are asked for, and written.
        records: the items; responses to others are left out.
        responses: of everybody, or of one person.
        tagged: name the annotator in the prompt.
    """
    items = {record.id: record for record in records}
    return [
        Turn(said.record_id, said.annotator, wording.prompt(items[said.record_id], name), wording.write_response(said))
        for said in responses
        if said.record_id in items and said.label is not None and said.explanation
        for name in [said.annotator if tagged else None]
    ]


def sft(  # noqa: PLR0917
    model: str | Path,
    turns: Sequence[Turn],
    out: str | Path,
    config: SftConfig | None = None,
    measure: Measure | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Fine-tune a causal language model on responses, and save it with its tokenizer.

    Until the training is done everything is in `OUT.part`; interrupted, it goes on from the last epoch, with the same
    result. A prompt and all its responses are computed as one tree, where the model takes its mask.

    Args:
        model: a folder or hub id of a causal language model, or a folder with an adapter, which then learns on.
        turns: what is learned.
        out: the folder of the model or adapter; its `raison.json` says how it was made.
        config: see `SftConfig`.
        measure: called before the training and after each epoch with a generator that is the model in training; the
            epoch with the highest `score` is kept, and what else it gives goes into the history.
        trust_remote_code: run code that comes with the model.
        progress: called with the share that is done, and with what the trainer logs.

    Returns:
        `out`, which generators and `capo` load.

    Raises:
        InputError: the model can't be loaded, no turn is left, a setting is wrong, or `out` holds something else.
    """
    config = config or SftConfig()
    check(config)
    config = msgspec.structs.replace(config, bf16=in_bfloat16(config.bf16))
    frame = provenance({"command": "annotators sft", "model": str(model), **msgspec.to_builtins(config)}, [], {})
    frame["data"] = {"turns": len(turns), "sha256": digest(turns)}
    frame |= chosen_by(measure)
    folder = Path(out)
    if is_done(folder, frame):
        return folder
    adapter = Adapter(config.rank, config.alpha, config.dropout, config.seed) if config.rank else None
    learning = Rows(config.only) if config.only else adapter
    dtype = "bfloat16" if config.bf16 else "float32"
    options: dict[str, Any] = {"max_tokens": config.max_tokens, "trust_remote_code": trust_remote_code}
    policy = load_policy(str(model), learning, dtype=dtype, **options)
    said = tokens_of_turns(policy.tokenizer, [(turn.prompt, turn.response) for turn in turns], policy.limit)
    by_item: dict[str, list[Said]] = {}
    for turn in turns:
        if (turn.prompt, turn.response) in said:
            by_item.setdefault(turn.record_id, []).append(said[turn.prompt, turn.response])
    if not by_item:
        raise InputError("no response is left to learn from" if not turns else "every response is too long")
    policy = policy._replace(together=takes_trees(policy, max(len(one.prompt) + len(one.ids) for one in said.values())))
    items = [[unit for _, unit in units_of(policy, some)] for some in by_item.values()]
    begin(part_of(folder), frame)
    kept = sum(map(len, by_item.values()))
    counts = {"turns": kept, "items": len(items), "too_long": len(turns) - kept}
    fit(policy, items, likelihood, config, Run(folder, frame, counts, measure, progress))
    return folder


def likelihood(values: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Give the loss of each response, see the module: (responses,)."""
    size = int(batch["responses"])
    means = response_scores(values, batch["response"], size, values.new_ones(len(values)), mean=True)
    return -means[batch["chosen"]] * batch["weight"], {}
