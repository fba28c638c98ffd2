"""The hidden states of a model, layer by layer: seen as they are computed, and exchanged for others.

State 0 is what the word embeddings give, state 1 what the first layer reads, and the others what each layer gives: two
more than there are layers. They are caught where they pass, so that any pass can be looked at, with or without
gradients.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from raison.models.watch import is_observed, whole
from raison.records import InputError

Change = Callable[[Tensor], Tensor]


@contextmanager
def seen(model: Any, tokens: int | None = None) -> Generator[list[Tensor]]:
    """Catch the hidden states of the first pass inside.

    Args:
        model: any Hugging Face encoder or decoder, with any head.
        tokens: how many of a state's columns belong to the input; a model that scores labels may read more behind it.

    Yields:
        A list that has the states (rows, tokens, width), in order, once the model has run.

    Raises:
        InputError: the model's layers are not found.
    """
    caught: list[Tensor] = []
    places = count(model)

    def catcher(index: int) -> Change:
        def see(state: Tensor) -> Tensor:
            if len(caught) == index and is_observed():
                caught.append(state[:, :tokens])
            return state

        return see

    hooks = [hook for index in range(places) for hook in _hook(model, index, catcher(index))]
    try:
        with whole():
            yield caught
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def changed(model: Any, index: int, change: Change) -> Generator[None]:
    """Let a model go on with `change(state)` in the place of one of its states."""
    hooks = _hook(model, index, change)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def count(model: Any) -> int:
    """Give the number of a model's states: its layers and two.

    Raises:
        InputError: the model's layers are not found.
    """
    return len(_layers(model)) + 2


def _layers(model: Any) -> nn.ModuleList:
    """Give a model's list of layers: the first one that has as many members as the configuration says."""
    wanted = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == wanted:
            return module
    raise InputError(f"{type(model).__name__}: the list of its {wanted} layers is not found")


def _hook(model: Any, index: int, change: Change) -> list[Any]:
    """Let `change` see, and answer for, one of the states."""

    def given(_module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (change(arguments[0]), *arguments[1:])

    def result(_module: Any, _arguments: Any, output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    layers = _layers(model)
    if index == 0:
        return [model.get_input_embeddings().register_forward_hook(result)]
    if index <= len(layers):
        return [layers[index - 1].register_forward_pre_hook(given)]
    return [layers[-1].register_forward_hook(result)]
