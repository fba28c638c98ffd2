"""Hugging Face's trainer on trees of responses: checkpoints, resuming and several processes are its own."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from raison.annotators.policy import Policy, token_log_probabilities
from raison.annotators.trees import Steps, Unit, collate
from raison.models.generator import LocalGenerator
from raison.records import InputError
from raison.training.runs import (
    Progress,
    arguments,
    counting,
    evaluated,
    finish,
    last_checkpoint,
    part_of,
    watch,
)

WARM_UP = 0.03  # share of the steps in which the learning rate rises
CHOSEN_BY = "score"  # the measure by which an epoch is chosen

# What a batch costs: token log-probabilities and the batch -> a loss for each of what counts, and what is logged of it
# (means over a step).
Objective = Callable[[Tensor, Mapping[str, Tensor]], tuple[Tensor, Mapping[str, Tensor]]]
Measure = Callable[[LocalGenerator], Mapping[str, float | None]]


class Run(NamedTuple):
    """What surrounds a training."""

    folder: Path  # of the model to come
    frame: dict[str, Any]  # what it is made from
    counts: dict[str, int]  # of what it is made from, known only now
    measure: Measure | None  # of the model, after each epoch
    progress: Progress | None


def check(config: Any) -> None:
    """Refuse settings, of either stage, that can't be trained with.

    Raises:
        InputError: with the name of the setting.
    """
    if not 0 < config.lr < math.inf:
        raise InputError(f"lr {config.lr}: expected a number above 0")
    for name in ("rank", "alpha", "epochs", "batch", "patience", "max_tokens"):
        if (value := getattr(config, name, None)) is not None and value < 1:
            raise InputError(f"{name} {value}: expected at least 1")
    if not 0 <= getattr(config, "dropout", 0.0) < 1 or config.seed < 0 or config.weight_decay < 0:
        raise InputError("dropout must be at least 0 and below 1, seed and weight_decay at least 0")


def chosen_by(measure: Measure | None) -> dict[str, Any]:
    """Give what a training's frame says of its measure, whose `config`, if it has one, tells what the choice is by."""
    config = getattr(measure, "config", None)
    return {} if config is None else {"chosen_by": config}


def in_bfloat16(wanted: bool | None) -> bool:
    """Settle whether bfloat16 is used: as wanted, or else where the accelerator has it."""
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported() if wanted is None else wanted


def fit(policy: Policy, items: Sequence[Sequence[Unit]], objective: Objective, config: Any, run: Run) -> None:
    """Train a policy, and save it with its tokenizer; interrupted, it goes on from the last epoch.

    The loss of a step is the mean over all that counts in it, however it is spread over batches and processes.

    Args:
        policy: the model.
        items: the units of each item.
        objective: what is minimised.
        config: has `epochs`, `batch` (items of a step), `lr`, `weight_decay`, `patience`, `bf16` and `seed`.
        run: what surrounds the training.
    """
    settings = _settings(config, run, len(items))
    steps = Steps(items, config.batch, policy.max_tokens, config.epochs, config.seed, settings.world_size)
    settings.gradient_accumulation_steps = steps.accumulate
    trainer = make_trainer(policy, steps, objective, settings, run.measure)
    watch(trainer, config.patience if run.measure else None, run.progress)
    trainer.train(resume_from_checkpoint=last_checkpoint(part_of(run.folder)))
    if trainer.is_world_process_zero():
        counts = {**run.counts, "together": policy.together, "parameters": trained(policy.network)}
        told = {**run.frame, "counts": counts}
        saving = {"save_embedding_layers": False} if hasattr(policy.network, "peft_config") else {}
        finish(trainer, policy.tokenizer, run.folder, told, **saving)
    trainer.accelerator.wait_for_everyone()


def trained(network: Any) -> int:
    """Count the parameters that are trained."""
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)


def _settings(config: Any, run: Run, items: int) -> Any:
    chosen: dict[str, Any] = {
        "eval_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": CHOSEN_BY,
        "greater_is_better": True,
        "eval_on_start": last_checkpoint(part_of(run.folder)) is None,
    }
    return arguments(
        config,
        part_of(run.folder),
        None,
        per_device_train_batch_size=1,  # a batch is put together by `Steps`
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(math.ceil(items / config.batch) * config.epochs * WARM_UP),
        label_names=["token"],
        use_cpu=not torch.cuda.is_available(),
        **(chosen if run.measure else {}),
    )


def make_trainer(
    policy: Policy, steps: Steps, objective: Objective, settings: Any, measure: Measure | None = None
) -> Any:
    """Give Hugging Face's trainer with an objective of ours.

    Args:
        policy: the model.
        steps: the batches.
        objective: what is minimised.
        settings: the trainer's arguments.
        measure: of the model, after an epoch; its "score" chooses the epoch that is kept.
    """
    from torch.utils.data import SequentialSampler
    from transformers import Trainer

    seen: dict[str, list[Tensor]] = {}

    class Tutor(Trainer):
        """Hugging Face's, with our batches, our loss over a whole step, and our measure of the model."""

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return SequentialSampler(train_dataset or steps)

        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
            batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
            counted = torch.tensor(float(sum(int(batch["counted"]) for batch in batches)), device=device)
            return batches, self.accelerator.reduce(counted, "mean")  # gradients are averaged over processes

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            values = token_log_probabilities(self.accelerator.unwrap_model(model), inputs, model)
            losses, told = objective(values, inputs)
            for name, value in told.items():
                seen.setdefault(name, []).append(value.detach().float()[: int(inputs["counted"])])
            return losses.sum() / num_items_in_batch

        def log(self, logs: dict[str, float], *rest: Any, **named: Any) -> None:
            super().log({**logs, **taken(seen)} if "loss" in logs else logs, *rest, **named)

        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            return evaluated(self, measured(policy, measure))

    given: dict[str, Any] = {"train_dataset": steps, "eval_dataset": [0] if measure else None}  # it reads none itself
    trainer: Any = Tutor(
        model=policy.network,
        args=settings,
        data_collator=lambda rows: collate(rows[0][0], policy.padding, counted=rows[0][1]),
        callbacks=[counting(steps)],
        **given,
    )
    trainer.model_accepts_loss_kwargs = True  # so the loss, a mean over a step already, is not divided again
    return trainer


def taken(seen: dict[str, list[Tensor]]) -> dict[str, float]:
    """Give the means of what was seen since last, of this process."""
    means = {name: float(torch.cat(values).mean()) for name, values in seen.items()}
    seen.clear()
    return means


def measured(policy: Policy, measure: Measure | None) -> Mapping[str, float | None]:
    """Measure a model in training; neither its mode nor the dice are changed by it."""
    if measure is None:
        return {}
    network, training = policy.network, policy.network.training
    model = network.get_base_model() if hasattr(network, "get_base_model") else network
    with torch.random.fork_rng():
        found = measure(LocalGenerator(model, policy.tokenizer, name="in training"))
    network.train(training)
    return found
