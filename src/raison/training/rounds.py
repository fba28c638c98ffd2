"""Alternating rounds of UIMER-DM: an extractor learns what the model rests on, then the model learns to rest elsewhere.

Chen et al. 2023, section 3.3. Each round goes on from the best model so far, trains the extractor on it, and then the
model for some epochs, in the trainer's own loop.
"""

import logging
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from raison.attribution.diffmask import train_extractor
from raison.attribution.extractor import Extractor
from raison.records import write_json
from raison.training.aligned import Objective, dev_metrics
from raison.words import Tokens

WEIGHTS, STATE = "extractor.safetensors", "rounds.json"  # in each checkpoint
log = logging.getLogger(__name__)


class State(msgspec.Struct):
    """How far the rounds have come; when they began, and what they brought, follows from the dev metrics."""

    done: int = 0  # rounds that have begun
    rates: list[float] = []  # learning rates of the first round


class Rounds:
    """The alternation, as the trainer's events drive it.

    Args:
        objective: the losses; its teacher reads the extractor.
        tokens: the training records.
        extractor: is trained in place.
        seed: of the extractor's training.
    """

    def __init__(self, objective: Objective, tokens: Sequence[Tokens], extractor: Extractor, seed: int) -> None:
        self.objective, self.tokens, self.extractor, self.seed = objective, tokens, extractor, seed
        self.state = State()
        self.ended = False  # already when the training began: it was interrupted between its last round and its end
        self.top, self.best = -math.inf, dict[str, Any]()  # metric and weights, where no checkpoints are written

    def enter(self, trainer: Any) -> None:
        """Begin a round if one begins with this epoch: take the model back to its best, and train the extractor."""
        if self.ended:
            return
        alignment, epochs = self.objective.alignment, trainer.args.num_train_epochs
        start = alignment.start(dev_metrics(trainer))
        epoch = round(trainer.state.epoch or 0.0)
        if start is None or epoch < start or (epoch - start) % alignment.each(epochs, start):
            return
        if self.state.done >= alignment.rounds:  # epochs that are left over belong to the last round
            return
        if not self.state.done and alignment.warm_up == "rest" and epochs - start < alignment.rounds:
            log.warning(
                "rounds %d: after a warm-up of %d epochs there are %d left", alignment.rounds, start, epochs - start
            )
        if self.state.done and self.best:
            self.objective.learner.network.load_state_dict(self.best)
        elif self.state.done and trainer.state.best_model_checkpoint:
            trainer._load_best_model()
        self.begin(trainer.optimizer, trainer.lr_scheduler)

    def begin(self, optimiser: Any, schedule: Any) -> None:
        """Begin a round: lower the learning rates, and train the extractor."""
        alignment, state = self.objective.alignment, self.state
        factor = alignment.decay**state.done
        state.rates = state.rates or list(schedule.base_lrs)
        schedule.base_lrs = [rate * factor for rate in state.rates]
        for group, rate in zip(optimiser.param_groups, schedule.base_lrs, strict=True):
            group["lr"] *= rate / (group["initial_lr"] or 1.0)
            group["initial_lr"] = rate
        schedule._last_lr = [group["lr"] for group in optimiser.param_groups]  # what is logged
        learn = partial(
            train_extractor,
            self.objective.learner.scorer,
            self.tokens,
            self.extractor,
            epochs=alignment.extractor_epochs,
            seed=self.seed + state.done,
            rate=alignment.extractor_rate * factor,
            compare=self.objective.learner.compare,
        )
        self.objective.costs.extract(learn)
        state.done += 1

    def keep(self, metric: float | None) -> None:
        """Keep the weights if their dev metric is the best so far."""
        if metric is None or metric <= self.top:
            return
        weights = self.objective.learner.network.state_dict()
        self.top, self.best = metric, {name: tensor.detach().clone() for name, tensor in weights.items()}

    def is_over(self, trainer: Any) -> bool:
        """Whether `Alignment.stop` whole rounds in a row have brought no better dev metric than all epochs before them.

        Each is looked at when it ends, so that none is cut short.
        """
        alignment, metrics, since = self.objective.alignment, dev_metrics(trainer), 0
        start = alignment.start(metrics)
        if not alignment.stop or start is None:
            return False
        each = alignment.each(trainer.args.num_train_epochs, start)
        for begin in range(start, start + each * (alignment.rounds - 1), each):  # the last one ends the training anyway
            end = begin + each
            if end > len(metrics):
                return False
            since = 0 if max(metrics[begin:end]) > max(metrics[:begin], default=-math.inf) else since + 1
            if since == alignment.stop:
                return True
        return False

    def save(self, folder: Path) -> None:
        """Write what a checkpoint needs to go on."""
        self.extractor.save(folder / WEIGHTS)
        write_json(folder / STATE, msgspec.to_builtins(self.state))

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint, if it has rounds."""
        if (folder / STATE).exists():
            self.extractor.load_state_dict(Extractor.load(folder / WEIGHTS).state_dict())
            self.state = msgspec.json.decode((folder / STATE).read_bytes(), type=State)


def add_rounds(trainer: Any, rounds: Rounds) -> None:
    """Let a trainer train the extractor at the beginning of each round.

    The first round begins when the warm-up is over, and the epochs that are left are divided among the rounds. Where
    there are dev records, every later one begins with the best model so far, and when no round out of `Alignment.stop`
    has brought a better one, the training ends. Learning rates fall by `Alignment.decay` from round to round.
    """
    from transformers import TrainerCallback

    class Alternate(TrainerCallback):
        """Tells the rounds what happens."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            rounds.load(Path(args.output_dir) / f"checkpoint-{state.global_step}")
            rounds.ended = rounds.is_over(trainer)

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            rounds.enter(trainer)

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop |= rounds.ended  # after this step, which the trainer can't be kept from

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            for what in ("should_evaluate", "should_save", "should_log"):  # and which leaves no trace
                setattr(control, what, getattr(control, what) and not rounds.ended)

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
            if args.save_strategy == "no":
                rounds.keep((metrics or {}).get(f"eval_{args.metric_for_best_model}"))
            control.should_training_stop |= rounds.is_over(trainer)

    trainer.beside = rounds.save
    trainer.add_callback(Alternate())
