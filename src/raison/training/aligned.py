"""Hugging Face's trainer with a second term: task loss + alpha * alignment(attribution, people's rationales).

The loss of a step is the mean of the task's over all its records, plus alpha times the mean of the alignment's over
those that have a rationale, weighed by confidence; however the step's records are spread over batches and processes.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from raison.attribution.extractor import Kind
from raison.models.scorer import Batch
from raison.training.costs import Costs
from raison.training.doze import Dozing, add_dozing, dozing_of
from raison.training.learners import IGNORED, Learner
from raison.training.losses import LOSSES, defined
from raison.training.runs import counting, evaluated, weigh
from raison.training.teachers import Example, Step, Teacher, stacked

Measure = Callable[[], Mapping[str, float | None]]
TOLD = ("task", "alignment", "active")


class Alignment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is added to the task's loss, and when."""

    by: str = "input-marginalisation"  # the attribution trained through, see `raison.training.teachers`
    loss: str | None = None  # one of `raison.training.losses.LOSSES`; None = the attribution's own
    alpha: float = 1.0  # weight of the alignment loss
    margin: float | None = None  # of the losses that have one; None = theirs
    warm_up: int | str = 0  # epochs of the task alone; `rest` = until the dev metric has not risen for `patience`
    patience: int = 3  # of `rest`, in epochs
    ramp: int = 0  # epochs over which alpha then rises from 0
    balance: bool = False  # alpha times the ratio of the two gradients' norms, batch by batch
    every: int = 1  # the alignment is added in every so many-th step, with so many times the weight
    replacement: str = "uniform"  # of input-marginalisation, see `raison.attribution.marginalisation.make_replacer`
    draws: int = 4  # of input-marginalisation: how often each set of words is replaced
    fresh: bool = True  # of input-marginalisation: draw anew in every epoch
    doze: int = 0  # of input-marginalisation: epochs that a record aligned already sits out at most, see `doze.py`
    weights: str = "unbiased"  # of input-marginalisation's draws
    most: float = 0.5  # of input-marginalisation: largest share of words that are taken as the rationale
    gate: Kind = "input"  # of diffmask, see `raison.attribution.extractor.Extractor`
    rounds: int = 1  # of diffmask: how often the extractor is trained, and the model after it
    extractor_epochs: int = 50  # of diffmask: passes over the training records in each round
    extractor_rate: float = 1.0  # of diffmask: factor on the extractor's learning rates
    decay: float = 1.0  # of diffmask: factor on all learning rates from one round to the next
    stop: int = 0  # of diffmask: rounds without a better dev metric after which it ends; 0 = never
    people: str = "soft"  # whose rationales, see `raison.rationales.voted_rationale`
    confident: bool = False  # a record counts by how far people agree on it, see `raison.rationales.confidence`

    def start(self, metrics: Sequence[float]) -> int | None:
        """Give the epoch in which the alignment begins, from the dev metric after each epoch so far; None = not yet."""
        return self.warm_up if isinstance(self.warm_up, int) else rested(metrics, self.patience)

    def aligned_epochs(self, epochs: float) -> int:
        """Give the epochs that the alignment takes part in, at most, of all those of a training."""
        return max(0, int(epochs) - (self.warm_up if isinstance(self.warm_up, int) else self.patience + 1))

    def each(self, epochs: float, start: int) -> int:
        """Give the epochs of one round, of those that a training has left when its warm-up ends; 1 at least.

        What can't be divided is left to the last round. Of fewer epochs than rounds there are as many rounds as epochs.
        """
        return max(1, int(epochs - start) // self.rounds)

    def share(self, epoch: float, metrics: Sequence[float]) -> float:
        """Give the part of alpha that is in force.

        Args:
            epoch: epochs that are done, with their fraction.
            metrics: the dev metric after each epoch so far.
        """
        start = self.start(metrics)
        if start is None or epoch < start:
            return 0.0
        return min(1.0, (epoch - start) / self.ramp) if self.ramp else 1.0


def rested(metrics: Sequence[float], patience: int) -> int | None:
    """Give the first epoch after which a metric had not risen for `patience` epochs; None = it still rises."""
    best, since = -np.inf, 0
    for epoch, value in enumerate(metrics, 1):
        since = 0 if value > best else since + 1
        best = max(best, value)
        if since >= patience:
            return epoch
    return None


# --------------------------------------------------------------------------------------------------------- data


class Examples:
    """Training examples as the trainer's data set; what a teacher draws depends on seed, epoch and record alone."""

    def __init__(
        self, rows: Sequence[Example], teacher: Teacher | None, seed: int, dozing: Dozing | None = None
    ) -> None:
        self.rows, self.teacher, self.seed, self.dozing = rows, teacher, seed, dozing
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch it is; with several processes no loader does so, hence `make_trainer`."""
        self.epoch = epoch

    def __len__(self) -> int:
        """How many examples there are."""
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Example, dict[str, Any]]:
        """Give an example, with what the teacher drew for it."""
        row = self.rows[index]
        if self.teacher is None:
            return row, {}
        drawn_in = self.epoch if getattr(self.teacher, "fresh", True) else 0
        rng = np.random.default_rng([self.seed, drawn_in, *row.tokens.grid.record_id.encode()])
        if self.dozing is None:
            return row, self.teacher.draw(row, rng)
        sleeps = self.dozing.sleeps(index, self.epoch)
        drawn = self.teacher.draw(row._replace(target=None) if sleeps else row, rng)
        return row, {**drawn, "index": np.array([index]), "sleeps": np.array([sleeps])}


class Collator:
    """Pads examples to a batch."""

    def __init__(self, learner: Learner, loss: str | None) -> None:
        self.learner, self.loss = learner, loss

    def __call__(self, given: Sequence[tuple[Example, dict[str, Any]]]) -> dict[str, Tensor]:
        """Give the tensors of a `Step`, one by one, and the weights of each record, and of its rationale.

        `weight` and `counted`, (rows,) each; see `raison.training.runs.weigh`.
        """
        rows = [row for row, _ in given]
        batch = self.learner.pad([row.tokens for row in rows])
        words = max(1, *(len(row.tokens.grid) for row in rows))
        shape = (len(rows), words)
        word = torch.full(batch.ids.shape, -1)
        target, valid = torch.zeros(shape), torch.zeros(shape, dtype=torch.bool)
        for index, row in enumerate(rows):
            word[index, : len(row.tokens.word)] = torch.from_numpy(row.tokens.word)
            if row.target is not None:
                valid[index, : len(row.target)] = torch.from_numpy(row.tokens.seen)
                target[index, : len(row.target)] = torch.from_numpy(row.target)
        found = dict(zip(Batch._fields, batch, strict=True))
        found |= {"word": word, "gold": _gold(rows, words), "target": target, "valid": valid}
        confidence = torch.tensor([row.confidence for row in rows], dtype=torch.float32)
        known = defined(target, valid, self.loss) if self.loss else torch.zeros(len(rows), dtype=torch.bool)
        drawn = stacked([one for _, one in given], batch.ids.shape[1])
        if "replaced_of" in drawn:
            taking_part = torch.isin(torch.arange(len(rows)), drawn["replaced_of"])
            known &= taking_part | drawn.get("sleeps", torch.tensor(False))  # who sits out has the loss 0
        weights = {"weight": torch.ones(len(rows)), "counted": confidence * known}
        return {"input_ids": found.pop("ids"), **found, **weights, **drawn}


def _gold(rows: Sequence[Example], words: int) -> Tensor:
    if np.ndim(rows[0].gold) == 0:
        return torch.tensor([row.gold for row in rows])
    return torch.from_numpy(
        np.array([np.pad(row.gold, (0, words - len(row.gold)), constant_values=IGNORED) for row in rows])
    )


def step_of(inputs: Mapping[str, Tensor]) -> Step:
    """Put a collated batch together again."""
    batch = Batch(inputs["input_ids"], *(inputs[name] for name in Batch._fields[1:]))
    named = {name: inputs[name] for name in ("word", "gold", "target", "valid")}
    known = {"input_ids", "weight", "counted", *Batch._fields, *named}
    return Step(batch, **named, drawn={name: part for name, part in inputs.items() if name not in known})


# ------------------------------------------------------------------------------------------------------ trainer


class Objective:
    """The two terms of a step's loss, and what is told about them.

    Args:
        learner: what is trained.
        teacher: the attribution trained through; None = the task alone.
        alignment: what is asked of it.
    """

    def __init__(self, learner: Learner, teacher: Teacher | None, alignment: Alignment) -> None:
        self.learner, self.teacher, self.alignment = learner, teacher, alignment
        self.name = (alignment.loss or teacher.loss) if teacher else None
        self.dozing: Dozing | None = None
        self.costs = Costs()
        self.settings: dict[str, Any] = dict(getattr(teacher, "settings", {}).get(self.name, {}))
        self.settings |= {} if alignment.margin is None else {"margin": alignment.margin}
        self._told: dict[str, tuple[float, float]] = {}  # sums and what to divide them by

    def loss(self, run: Any, inputs: Mapping[str, Tensor], totals: Tensor, share: float) -> Tensor:
        """Give a batch's part of the step's loss: ().

        Args:
            run: the network, or what it is wrapped in.
            inputs: a collated batch.
            totals: (2,) records of the whole step, and the weight of its rationales.
            share: the part of alpha that is in force.
        """
        step, counted = step_of(inputs), inputs["counted"]

        def of_task(logits: Tensor) -> Tensor:
            weight = inputs["weight"]
            losses = self.learner.losses(logits, step.gold) * weight
            return self._tell("task", losses.sum(), float(weight.sum())) / totals[0]

        with self.learner.through(run):
            if not self.teacher or not share:
                return of_task(self.learner.forward(step.batch, step.word).logits)
            taught = self.teacher(self.learner, step)
        task = of_task(taught.logits)
        assert self.name is not None
        losses = LOSSES[self.name](taught.scores, taught.target, taught.valid, **self.settings)
        if self.dozing is not None:
            awake = taught.valid.any(dim=1)
            self.dozing.saw(step.drawn["index"][awake], losses[awake])
        align = self._tell("alignment", (losses * counted).sum(), float(counted.sum())) / totals[1].clamp(min=1e-12)
        self._tell("active", ((losses > 0) & (counted > 0)).sum(), float((counted > 0).sum()))
        weight: Any = self.alignment.alpha * share * self.alignment.every
        if self.alignment.balance:
            weight = weight * gradient_ratio(task, align, self.learner.network)
        return task + weight * align

    def differentiate_task(self, inputs: Mapping[str, Tensor]) -> None:
        """Compute the gradient of a batch's task loss alone, to no effect, as if nothing had been drawn at random."""
        step, device = step_of(inputs), inputs["input_ids"].device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            logits = self.learner.forward(step.batch, step.word).logits
            weights = [weight for weight in self.learner.network.parameters() if weight.requires_grad]
            torch.autograd.grad(self.learner.losses(logits, step.gold).sum(), weights, allow_unused=True)

    def _tell(self, what: str, total: Tensor, size: float) -> Tensor:
        before = self._told.get(what, (0.0, 0.0))
        self._told[what] = (before[0] + float(total.detach()), before[1] + size)
        return total

    def told(self, added: Callable[[Tensor], Tensor] = lambda sums: sums) -> dict[str, float]:
        """Give what has been seen since last: means over records of `task`, and of `alignment`.

        `active` is the share of rationales whose loss is not 0. Of these two nothing is said where there were none.

        Args:
            added: adds up the sums (3, 2) of all processes.
        """
        sums = torch.tensor([self._told.get(what, (0.0, 0.0)) for what in TOLD], dtype=torch.float64)
        self._told = {}
        return {what: total / size for what, (total, size) in zip(TOLD, added(sums).tolist(), strict=True) if size}

    def logged(self, logs: dict[str, float], added: Callable[[Tensor], Tensor] = lambda sums: sums) -> dict[str, float]:
        """Give a trainer's log of its loss with what has been seen since last and what it cost; others as is.

        Args:
            logs: the trainer's.
            added: see `told`; costs are of this process.
        """
        if "loss" not in logs:
            return logs
        return {**logs, **self.told(added), **(self.costs.told() if self.teacher else {})}

    def share(self, step: int, epoch: float, metrics: Sequence[float]) -> float:
        """Give the part of alpha in force at a step, see `Alignment.share`; 0 where alpha is."""
        idle = not self.alignment.alpha or step % self.alignment.every
        return 0.0 if idle else self.alignment.share(epoch, metrics)


def gradient_ratio(task: Tensor, align: Tensor, network: Any) -> Tensor:
    """Give the norm of one loss's gradient over that of the other's, by all weights that learn: ().

    1 where the other has none. It costs a backward pass for each.
    """
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    norms = list[Tensor]()
    for term in (task, align):
        grads = torch.autograd.grad(term, weights, retain_graph=True, materialize_grads=True)
        norms.append(torch.stack([grad.float().norm() for grad in grads]).norm())
    return torch.where(norms[1] > 0, norms[0] / norms[1].clamp(min=1e-30), 1.0)


def dev_metrics(trainer: Any) -> list[float]:
    """Give the dev metric after each epoch so far; not what was measured before the first."""
    key = f"eval_{trainer.args.metric_for_best_model}"
    return [log[key] for log in trainer.state.log_history if key in log and log["step"]]


def share_now(trainer: Any, objective: Objective) -> float:
    """Give the part of alpha in force in a trainer's step."""
    return objective.share(trainer.state.global_step, trainer.state.epoch or 0.0, dev_metrics(trainer))


def save_beside(trainer: Any, folder: str | None) -> None:
    """Let a trainer write what else a checkpoint needs, if this process writes any."""
    if folder is not None and trainer.args.should_save:
        trainer.beside(Path(folder))


def timed_step(trainer: Any, objective: Objective, inputs: Mapping[str, Tensor], step: Callable[[], Any]) -> Any:
    """Run a trainer's step on a batch, forward and backward, and let the objective see what it costs."""

    def alone() -> None:
        with trainer.compute_loss_context_manager():
            objective.differentiate_task(inputs)

    objective.learner.network.train()
    aligned = objective.teacher is not None and share_now(trainer, objective) > 0
    return objective.costs.batch(step, alone, aligned=aligned)


def step_totals(trainer: Any, batches: Sequence[dict[str, Any]], device: torch.device) -> Tensor:
    """Weigh the records of a step's batches, and give what all weigh, and their rationales, by the process: (2,)."""
    weigh(trainer, batches, "gold")
    for batch in batches:
        batch["counted"] = batch["counted"] * batch["weight"]
    sums = [torch.stack([batch[name].sum() for batch in batches]).sum() for name in ("weight", "counted")]
    return trainer.accelerator.reduce(torch.stack(sums).to(device), "mean")  # gradients are averaged over processes


def added_up(trainer: Any, sums: Tensor) -> Tensor:
    """Add up the sums of all processes."""
    if trainer.accelerator.num_processes == 1:
        return sums
    total: Tensor = trainer.accelerator.reduce(sums.to(trainer.args.device))
    return total.cpu()


def make_trainer(objective: Objective, rows: Sequence[Example], settings: Any, measure: Measure | None = None) -> Any:
    """Give Hugging Face's trainer with both losses.

    Args:
        objective: what is trained for.
        rows: training examples.
        settings: the trainer's arguments.
        measure: measures the model after an epoch, the metric to choose by first.
    """
    from transformers import Trainer

    class Aligned(Trainer):
        """Hugging Face's, with our loss over a whole step's examples, and our measure of the model."""

        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
            batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
            return batches, step_totals(self, batches, device)

        def training_step(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            inputs = self._prepare_inputs(inputs)
            step = partial(super().training_step, model, inputs, *rest, **named)
            return timed_step(self, objective, inputs, step)

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            return objective.loss(model, inputs, num_items_in_batch, share_now(self, objective))

        def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
            super().save_model(output_dir, _internal_call)
            save_beside(self, output_dir)

        def beside(self, folder: Path) -> None:
            """Write what else a checkpoint needs; its state, which says that it is whole, is written after that."""

        def log(self, logs: dict[str, float], *rest: Any, **named: Any) -> None:
            super().log(objective.logged(logs, partial(added_up, self)), *rest, **named)

        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            return evaluated(self, measure() if measure else {})

    objective.dozing = dozing_of(len(rows), objective.alignment.doze)
    examples = Examples(rows, objective.teacher, settings.seed, objective.dozing)
    data: dict[str, Any] = {
        "train_dataset": examples,
        "eval_dataset": [0] if measure else None,  # it reads none itself
        "data_collator": Collator(objective.learner, objective.name),
    }
    trainer: Any = Aligned(model=objective.learner.network, args=settings, callbacks=[counting(examples)], **data)
    trainer.model_accepts_loss_kwargs = True  # so the loss, a mean over a step already, is not divided again
    add_dozing(trainer, objective.dozing)
    return trainer
