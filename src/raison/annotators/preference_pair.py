"""The pair of responses that a preference is trained on: what a person said, before what they did not."""

from typing import Literal

import msgspec

Source = Literal["people", "sft-sample", "own-other-item"]


class PreferencePair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """To one prompt, a response that an annotator gave and one that is less theirs."""

    record_id: str
    annotator: str  # whose preference it is
    prompt: str  # the user's message; the chat template is put around it when it becomes tokens
    chosen: str  # what the annotator said, serialised
    rejected: str
    rejected_annotator: str | None = None  # who said that; None = no person did, for this item
    source: Source = "people"  # of what is rejected: other people, a sample of the pooled SFT model, or their own
    weight: float = 1.0  # of the pair's loss
    beta: float | None = None  # None = the run's
    same_label: bool | None = None  # whether both name one label; None = not known
