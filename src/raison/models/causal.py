"""Loading a causal language model and its tokenizer: what everybody who asks one begins with."""

import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from raison.models.classifier import LOADING_ERRORS, device_of, expect_folder, expect_weights, first_line
from raison.records import InputError

OTHER_HEADS = (
    "ForMaskedLM", "ForPreTraining", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering",
)  # fmt: skip


def load_causal(
    name: str, device: str | None, dtype: str, trust_remote_code: bool, four_bit: bool = False
) -> tuple[Any, Any]:
    """Load a model and its tokenizer from a folder or a hub id, or a LoRA adapter with its base; safetensors only.

    Args:
        name: the folder or hub id.
        device: "cpu", "cuda", "cuda:1", ...; None = the first accelerator, else the CPU.
        dtype: "float32", "bfloat16" or "float16".
        trust_remote_code: run code that comes with the model.
        four_bit: load the weights in 4 bits (needs the package bitsandbytes and a platform that it serves).

    Raises:
        InputError: there is no such model or device, or it is not a causal language model: it was saved with another
            head, or weights of the head are missing.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    expect_folder(name)
    place = device_of(device)
    kind = getattr(torch, dtype)
    quantised: dict[str, Any] = {}
    try:
        if four_bit:
            config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=kind)
            quantised = {"quantization_config": config, "device_map": place}
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
        with tokens_tied():
            load: Any = AutoModelForCausalLM.from_pretrained  # gives two things with `output_loading_info`
            model, found = load(
                name,
                dtype=kind,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
                **quantised,
            )
        _expect_head(model, found, name)
        return model if four_bit else model.to(place), tokenizer
    except LOADING_ERRORS as error:
        raise InputError(f"{name}: can't be loaded as a causal language model ({first_line(error)})") from None


def _expect_head(model: Any, found: Mapping[str, Any], name: str) -> None:
    """Refuse a model that was made for something else: it would be given a random head, or one that sees what follows.

    Args:
        model: as it was loaded.
        found: how that went.
        name: its folder or hub id.
    """
    strange = next((head for head in model.config.architectures or [] if head.endswith(OTHER_HEADS)), None)
    if strange is not None:
        raise InputError(f"{name}: a {strange}, not a causal language model")
    if not hasattr(model, "peft_config"):  # of an adapter it says how that was loaded
        expect_weights(found, name, "causal language model")


@contextmanager
def tokens_tied() -> Generator[None]:
    """Silence peft's warning that embeddings of single tokens, trained beside a tied output layer, are not tied.

    They are: it ties trainable tokens, and warns by the names of the layers alone.
    """
    with warnings.catch_warnings():
        said = "Model has `tie_word_embeddings=True` and a tied layer is part of the adapter, but no implementation"
        warnings.filterwarnings("ignore", said)
        yield
