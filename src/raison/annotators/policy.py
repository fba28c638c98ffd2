"""The model that learns to answer as a person: loaded with what is to learn, run on trees, remembered as it was."""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from raison.annotators.trees import Floats, Said, Unit, attention_mask, collate, groups, lay_out, parted
from raison.models import batching
from raison.models.branches import additive
from raison.models.causal import load_causal, tokens_tied
from raison.models.classifier import longest
from raison.models.scorer import projected
from raison.records import InputError
from raison.training.lora import adapted, wrapped

TOKENS_GPU = 4096  # padded tokens of a training batch on an accelerator: what they leave behind stays for the gradients


class Adapter(NamedTuple):
    """A new adapter to be trained (LoRA, Hu et al. 2022)."""

    rank: int
    alpha: int
    dropout: float
    seed: int


class Rows(NamedTuple):
    """A new adapter that is but the embeddings of some tokens (peft's trainable tokens)."""

    tokens: tuple[str, ...]


class Policy(NamedTuple):
    """A model in training."""

    network: Any
    tokenizer: Any
    limit: int  # longest sequence in tokens
    max_tokens: int  # padded tokens of a batch
    together: bool = False  # whether it reads a prompt and all its responses as one sequence

    @property
    def padding(self) -> int:
        """The token behind the end of a row."""
        known = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id)
        return next((index for index in known if index is not None), 0)


def load_policy(
    name: str,
    adapter: Adapter | Rows | None,
    *,
    dtype: str,
    max_tokens: int | None = None,
    trust_remote_code: bool = False,
) -> Policy:
    """Load a model to be trained.

    Args:
        name: a folder or hub id of a causal language model, or a folder with a LoRA adapter.
        adapter: a new one, which alone is trained; None = the folder's adapter is, or else all weights.
        dtype: of the weights that are loaded; those to be trained are float32.
        max_tokens: padded tokens of a batch; default: by device.
        trust_remote_code: run code that comes with the model.

    Raises:
        InputError: it can't be loaded, or has an adapter already where a new one is wanted.
    """
    folder = Path(name)
    if (folder / "adapter_config.json").exists():
        if adapter is not None:
            raise InputError(f"{name}: has an adapter already; give the model that it was made for")
        network, tokenizer = _with_adapter(folder, dtype, trust_remote_code)
    else:
        network, tokenizer = load_causal(name, None, dtype if adapter else "float32", trust_remote_code)
        if hasattr(network, "peft_config"):
            raise InputError(f"{name}: has an adapter already; give a folder with it, or the model it was made for")
        if isinstance(adapter, Rows):
            network = _with_rows(network, name, [*tokenizer.convert_tokens_to_ids([*adapter.tokens])])
        elif adapter is not None:
            network = adapted(network, name, *adapter)
    device = network.get_input_embeddings().weight.device
    limit = longest(network.config, tokenizer)
    most = max_tokens or (batching.TOKENS if device.type == "cpu" else TOKENS_GPU)
    return Policy(network, tokenizer, limit, most)


def _with_adapter(folder: Path, dtype: str, trust: bool) -> tuple[Any, Any]:
    import peft
    from transformers import AutoTokenizer

    base = peft.PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    model, tokenizer = load_causal(str(base), None, dtype, trust)
    with tokens_tied(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")  # peft's to mend
        network: Any = peft.PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    own = (folder / "tokenizer_config.json").exists()
    return network, AutoTokenizer.from_pretrained(folder, trust_remote_code=trust) if own else tokenizer


def _with_rows(model: Any, name: str, tokens: list[int]) -> Any:
    """Let the embeddings of some tokens learn, and nothing else."""
    import peft

    settings = peft.TrainableTokensConfig(
        task_type="CAUSAL_LM", token_indices=tokens, target_modules=[_name_of(model, model.get_input_embeddings())]
    )
    with tokens_tied():
        return wrapped(model, name, settings)


def _name_of(model: Any, wanted: Any) -> str:
    return next(name for name, module in model.named_modules() if module is wanted)


# ----------------------------------------------------------------------------------------------------- running it


def token_log_probabilities(network: Any, batch: Mapping[str, Tensor], run: Any = None) -> Tensor:
    """Give the log-probability of each response's tokens: (tokens,) float32.

    Args:
        network: the model; only the columns that predict something go through its last layer and its vocabulary.
        batch: see `raison.annotators.trees.collate`.
        run: what is called in its place, where it is wrapped for several devices.
    """
    if "ends" in batch:
        mask = attention_mask(batch["ends"])
        if getattr(network.config, "_attn_implementation", None) != "sdpa":
            mask = additive(mask, network.get_input_embeddings().weight.dtype)
        given = {"attention_mask": mask, "position_ids": batch["position_ids"]}
    else:
        given = {"attention_mask": batch["attention_mask"]}
    with projected(network, batch["places"]):
        logits = (run or network)(input_ids=batch["input_ids"], use_cache=False, **given).logits
    logits = logits.float()
    row, slot = batch["row"], batch["slot"]
    return logits[row, slot, batch["token"]] - logits.logsumexp(dim=-1)[row, slot]


def takes_trees(policy: Policy, longest: int) -> bool:
    """Whether a model gives responses in a tree the same probabilities as each by itself: tried on made-up ones.

    Args:
        policy: the model.
        longest: tokens of the longest text. Our mask would open a sliding window that is shorter than that.
    """
    config = policy.network.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    if window is not None and window < longest and getattr(config, "use_sliding_window", True):
        return False
    rng, known = np.random.default_rng(0), len(policy.network.get_input_embeddings().weight)

    def drawn(size: int) -> tuple[int, ...]:
        return tuple(rng.integers(0, known, size).tolist())

    first = drawn(1)
    rows = [[(drawn(7), [(*first, *drawn(3)), (*first, *drawn(2)), drawn(1)])], [(drawn(4), [drawn(3), drawn(5)])]]
    said = [[Said(p, r, (False,) * len(r)) for p, some in prompts for r in some] for prompts in rows]
    units = [[lay_out(some, together=together) for some in said] for together in (True, False)]
    training = policy.network.training
    policy.network.eval()
    try:
        with torch.inference_mode():
            one, many = (
                token_log_probabilities(policy.network, on_device(policy, collate(some, policy.padding)))
                for some in units
            )
    except (RuntimeError, IndexError, TypeError, ValueError, AttributeError):
        return False
    finally:
        policy.network.train(training)
    close = 1e-4 if policy.network.dtype == torch.float32 else 3e-2
    return torch.allclose(one, many, rtol=close, atol=close * float(many.abs().max()))


def on_device(policy: Policy, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Move a batch to where the model is."""
    device = policy.network.get_input_embeddings().weight.device
    return {name: tensor.to(device) for name, tensor in batch.items()}


def units_of(policy: Policy, said: Iterable[Said]) -> list[tuple[list[Said], Unit]]:
    """Lay out the distinct responses of one item: one unit for the prompts that are computed in one tree."""
    by_prompt: dict[tuple[int, ...], list[Said]] = {}
    for one in dict.fromkeys(said):
        by_prompt.setdefault(one.prompt, []).append(one)
    prompts = list(by_prompt)
    sizes = [len(prompt) + sum(len(one.ids) for one in by_prompt[prompt]) for prompt in prompts]
    trees = groups(prompts, sizes, policy.max_tokens) if policy.together else [[i] for i in range(len(prompts))]
    found = [[one for index in tree for one in by_prompt[prompts[index]]] for tree in trees]
    return [(some, lay_out(some, together=policy.together)) for some in found]


def still(network: Any) -> None:
    """Take all dropout out of a model, so that policy and reference are the same before the first step."""
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in [name for name, value in vars(module).items() if "dropout" in name and isinstance(value, float)]:
            setattr(module, name, 0.0)


# ---------------------------------------------------------------------------------------------------- as it was


def log_probabilities(
    policy: Policy, items: Sequence[Iterable[Said]], *, bf16: bool = False, progress: str | None = None
) -> dict[Said, Floats]:
    """Give the log-probabilities of the tokens of each response, without gradients.

    Args:
        policy: the model.
        items: the responses to each item.
        bf16: compute in bfloat16, as the training does.
        progress: title of the progress bar.
    """
    pairs = [pair for item in items for pair in units_of(policy, item)]
    names = {id(unit): some for some, unit in pairs}
    found: dict[Said, Floats] = {}
    training = policy.network.training
    policy.network.eval()
    device = policy.network.get_input_embeddings().weight.device
    with batching.bar(progress, len(pairs)) as advance, torch.inference_mode():
        for units in parted([unit for _, unit in pairs], policy.max_tokens):
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                values = token_log_probabilities(policy.network, on_device(policy, collate(units, policy.padding)))
            said = [one for unit in units for one in names[id(unit)]]
            ends = np.cumsum([len(one.ids) for one in said])[:-1]
            found.update(zip(said, np.split(values.float().cpu().numpy(), ends), strict=True))
            advance(len(units))
    policy.network.train(training)
    return found


def remembered(
    policy: Policy, items: Sequence[Iterable[Said]], folder: Path, *, bf16: bool = False, progress: str | None = None
) -> dict[Said, Floats]:
    """Do `log_probabilities`, but of each response once: they are kept in a file named by the model's weights.

    Args:
        policy: the model as it is to be remembered.
        items: the responses to each item.
        folder: of such files; what is not in them is computed and added.
        bf16: compute in bfloat16; such values are kept apart.
        progress: title of the progress bar.
    """
    from safetensors.numpy import load_file, save_file

    path = folder / f"{fingerprint(policy.network)}{'-bf16' if bf16 else ''}.safetensors"
    known: dict[str, Floats] = load_file(path) if path.exists() else {}
    wanted = [[one for one in item if _key(one) not in known] for item in items]
    if any(wanted):
        found = log_probabilities(policy, wanted, bf16=bf16, progress=progress)
        known.update((_key(one), values) for one, values in found.items())
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        save_file(known, part)
        os.replace(part, path)
    return {one: known[_key(one)] for item in items for one in item}


def _key(said: Said) -> str:
    ids = np.array([len(said.prompt), *said.prompt, *said.ids], dtype=np.int64)
    return blake2b(ids.tobytes(), digest_size=16).hexdigest()


def fingerprint(network: Any) -> str:
    """Give a hash of all weights of a model, and of their names and types."""
    found = blake2b(digest_size=16)
    for name, tensor in sorted(network.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()
