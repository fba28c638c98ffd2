"""Any Hugging Face encoder as a function from texts to vectors: the mean of the last states over the text's tokens."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from raison.annotators.vectors import Encode
from raison.models.batching import TOKENS, run
from raison.models.classifier import LOADING_ERRORS, device_of, expect_folder, first_line
from raison.records import InputError


def load_encoder(model: str, *, device: str | None = None, trust_remote_code: bool = False) -> Encode:
    """Load an encoder; see `raison.annotators.vectors.sentence_encoder`."""
    from transformers import AutoModel, AutoTokenizer

    accelerator = torch.accelerator.current_accelerator() or torch.device("cpu")
    place = torch.device(device_of(device)) if device else accelerator
    expect_folder(model)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)
        network: Any = AutoModel.from_pretrained(model, use_safetensors=True, trust_remote_code=trust_remote_code)
    except LOADING_ERRORS as error:
        raise InputError(f"encoder {model!r}: can't be loaded ({first_line(error)})") from None
    if network.config.is_encoder_decoder:
        raise InputError(f"encoder {model!r}: has a decoder, too; expected an encoder")
    network.to(place).eval()
    longest = min(tokenizer.model_max_length, getattr(network.config, "max_position_embeddings", 512))

    def encode(texts: Sequence[str]) -> NDArray[Any]:
        inputs = [tokenizer(text, truncation=True, max_length=longest)["input_ids"] for text in texts]
        found = np.zeros((len(texts), network.config.hidden_size))

        def step(rows: NDArray[np.int64]) -> NDArray[Any]:
            batch = tokenizer.pad({"input_ids": [inputs[row] for row in rows]}, return_tensors="pt").to(place)
            with torch.inference_mode():
                states = network(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None].to(states.dtype)
            mean = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
            return torch.nn.functional.normalize(mean, dim=1).float().cpu().numpy()

        for rows, vectors in run([max(len(ids), 1) for ids in inputs], step, TOKENS):
            found[rows] = vectors
        return found

    return encode
