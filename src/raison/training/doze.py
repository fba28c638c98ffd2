"""Records that are aligned already are left alone for a while: of a hinge that is 0 the gradient is 0 too.

A record whose alignment loss was 0 sits out the next epoch; still 0 after that, the next 2, then 4, and so on up to a
limit. One look at a loss above 0 ends it. What is known changes between epochs alone, and all processes share it, so
that neither their number nor an interruption makes a difference.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from raison.records import write_json

STATE = "doze.json"  # in each checkpoint
_UNSEEN, _ALIGNED, _ACTIVE = -1, 0, 1


class Dozing:
    """Which training records sit out, by their index.

    Args:
        size: how many records there are.
        most: longest time that one sits out, in epochs.
    """

    def __init__(self, size: int, most: int) -> None:
        self.most = most
        self.until = torch.zeros(size, dtype=torch.long)  # the epoch in which each takes part again
        self.length = torch.zeros(size, dtype=torch.long)  # of its last time out
        self._seen = torch.full((size,), _UNSEEN)

    def sleeps(self, index: int, epoch: int) -> bool:
        """Whether a record sits out in an epoch."""
        return epoch < int(self.until[index])

    def saw(self, index: Tensor, losses: Tensor) -> None:
        """Take note of the alignment losses (rows,) of records (rows,), in the epoch that runs."""
        self._seen[index.cpu()] = torch.where(losses.detach().cpu() > 0, _ACTIVE, _ALIGNED)

    def close(self, epoch: int, gather: Callable[[Tensor], Tensor] = lambda seen: seen) -> None:
        """Decide at an epoch's end who sits out from the next one on.

        Args:
            epoch: the one that ends.
            gather: puts the tensors of all processes one behind the other.
        """
        seen = gather(self._seen).view(-1, len(self._seen)).amax(dim=0)
        longer = (2 * self.length).clamp(min=1, max=self.most)
        self.length = torch.where(seen == _ACTIVE, 0, torch.where(seen == _ALIGNED, longer, self.length))
        self.until = torch.where(seen == _UNSEEN, self.until, epoch + 1 + self.length)
        self._seen.fill_(_UNSEEN)

    def save(self, folder: Path) -> None:
        """Write what a checkpoint needs to go on; between epochs."""
        write_json(folder / STATE, {"until": self.until.tolist(), "length": self.length.tolist()})

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint, if it is one."""
        if (folder / STATE).exists():
            found = msgspec.json.decode((folder / STATE).read_bytes(), type=dict[str, list[int]])
            self.until, self.length = torch.tensor(found["until"]), torch.tensor(found["length"])


def dozing_of(size: int, most: int) -> Dozing | None:
    """Give a `Dozing`; None where no record may sit out."""
    return Dozing(size, most) if most else None


def add_dozing(trainer: Any, dozing: Dozing | None) -> None:
    """Let a trainer decide between epochs who sits out; None = nobody does."""
    from transformers import TrainerCallback

    if dozing is None:
        return

    class Doze(TrainerCallback):
        """Tells it when an epoch ends, before its checkpoint is written."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            dozing.load(Path(args.output_dir) / f"checkpoint-{state.global_step}")

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            accelerator = trainer.accelerator
            dozing.close(round(state.epoch) - 1, lambda seen: accelerator.gather(seen.to(accelerator.device)).cpu())

    trainer.beside = dozing.save
    trainer.add_callback(Doze())
