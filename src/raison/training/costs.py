"""What each term of a training's loss costs in time.

Both terms share a pass forward and one backward, so no clock can tell them apart in a step itself. So now and then a
batch's task loss is also computed and differentiated alone, and thrown away: what this takes, of what the whole step on
the same batch takes, is the task's share of all steps in which the alignment takes part. The rest is the alignment's,
and so is the training of an extractor. Reading the data and the optimiser's update are in neither.
"""

import time
from collections.abc import Callable
from typing import Any

import torch

EVERY = 25  # from one comparison to the next, in batches with an alignment: 4 % more of the task, at most


class Costs:
    """Seconds that the task and the alignment took, of one process."""

    def __init__(self) -> None:
        self._seen = 0  # batches with an alignment
        self._compared = [0.0, 0.0]  # seconds of the task alone, and of the whole step, on the same batches
        self._plain = self._aligned = self._extractor = 0.0  # seconds since last told

    def batch(self, run: Callable[[], Any], alone: Callable[[], Any], *, aligned: bool) -> Any:
        """Run a batch forward and backward, and give what that gives.

        Args:
            run: does so.
            alone: does so with the task's loss alone, without any effect.
            aligned: whether the alignment takes part.
        """
        compared = aligned and self._seen % EVERY == 0
        if compared:
            if not self._seen:
                alone()  # whatever is slow the first time
            self._compared[0] += _seconds(alone)[0]
        self._seen += aligned
        seconds, result = _seconds(run, wait=compared)
        if compared:
            self._compared[1] += seconds
        if aligned:
            self._aligned += seconds
        else:
            self._plain += seconds
        return result

    def extract(self, train: Callable[[], Any]) -> None:
        """Train an extractor."""
        self._extractor += _seconds(train)[0]

    def told(self) -> dict[str, float]:
        """Give `task_seconds` and `alignment_seconds` since last: forward and backward passes, and the extractor's.

        On an accelerator a step that is not compared ends for the clock when its losses are known; its backward pass is
        counted with the next one.
        """
        alone, both = self._compared
        share = min(1.0, alone / both) if both else 1.0
        task = self._plain + share * self._aligned
        found = {"task_seconds": task, "alignment_seconds": (1 - share) * self._aligned + self._extractor}
        self._plain = self._aligned = self._extractor = 0.0
        return found


def _seconds(run: Callable[[], Any], *, wait: bool = True) -> tuple[float, Any]:
    """Give the seconds that something takes, and what it gives; `wait` until accelerators are done."""
    waits = wait and torch.accelerator.is_available()
    if waits:
        torch.accelerator.synchronize()
    started = time.perf_counter()
    result = run()
    if waits:
        torch.accelerator.synchronize()
    return time.perf_counter() - started, result
