"""A shortcut through the last layer of encoders whose head reads the first token alone.

After the last attention no token sees another one, so only the first has to go on. That saves two thirds of a layer:
an eighth of the time with four layers, a twentieth with twelve. Whether a model is of this kind is found by trying.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from raison.models.watch import unobserved


class Shortcut:
    """Lets a model's last layer go on with the first token alone, where that changes nothing.

    Args:
        model: any Hugging Face sequence classifier; it is hooked only while the shortcut is taken.
        probe: gives the model's logits for a few inputs of different lengths.
    """

    def __init__(self, model: Any, probe: Callable[[], Tensor]) -> None:
        self._place = _last_attention(model)
        self._probe = probe

    @cached_property
    def holds(self) -> bool:
        """Whether the model answers the same with the shortcut; tried once."""
        if self._place is None:
            return False
        with torch.inference_mode(), unobserved():
            try:
                whole = self._probe().float()
                with _first_token_alone(self._place):
                    short = self._probe().float()
            except (RuntimeError, IndexError, TypeError, ValueError, AttributeError):
                return False  # what comes after needs the other tokens
        if whole.shape != short.shape or not float((whole - whole[0]).abs().max()) > 0:
            return False  # answers that do not depend on the input can't tell
        near = 1e-4 if next(self._place.parameters()).dtype == torch.float32 else 3e-2
        return torch.allclose(whole, short, rtol=near, atol=near * float(whole.abs().max()))

    @contextmanager
    def taken(self) -> Generator[None]:
        """Take the shortcut inside the context, if it holds."""
        if self._place is None or not self.holds:
            yield
            return
        with _first_token_alone(self._place):
            yield


def _last_attention(model: Any) -> Any:
    """Give the module of the last layer after which tokens stay apart, in BERT's and DistilBERT's kin; else None."""
    base = getattr(model, "base_model", None)
    for encoder in ("encoder", "transformer"):
        layers = getattr(getattr(base, encoder, None), "layer", None)
        if isinstance(layers, torch.nn.ModuleList) and len(layers):
            last = layers[-1]
            return getattr(last, "sa_layer_norm" if hasattr(last, "sa_layer_norm") else "attention", None)
    return None


@contextmanager
def _first_token_alone(place: torch.nn.Module) -> Generator[None]:
    def cut(_module: Any, _given: Any, output: Any) -> Any:
        return (output[0][:, :1], *output[1:]) if isinstance(output, tuple) else output[:, :1]

    handle = place.register_forward_hook(cut)
    try:
        yield
    finally:
        handle.remove()
