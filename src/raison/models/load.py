"""Load whatever can be explained: a sequence classifier, or a causal language model that is asked by a prompt."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from raison.models.answerer import Answerer
from raison.models.classifier import LOADING_ERRORS, Classifier, expect_folder, first_line
from raison.models.scorer import Scorer
from raison.models.tasks import labels_of, task_of
from raison.models.writer import Writer
from raison.records import InputError, Record

ADAPTER = "adapter_config.json"
ANSWERS: dict[str, Any] = {"calibrate": "none", "normalise": "none", "shuffle": None}  # options of an Answerer


def load_scorer(
    path: str | Path,
    records: Sequence[Record],
    *,
    task: str | None = None,
    trust_remote_code: bool = False,
    **options: Any,
) -> Scorer:
    """Load a model by what it is: an `Answerer` or `Writer` by its task, else a `Classifier`.

    Args:
        path: a folder or hub id.
        records: what it is to label; they tell the task and the labels where these are not given.
        task: see `Answerer`; it makes an `Answerer` of whatever can be one.
        trust_remote_code: run code that comes with the model. Off unless asked for.
        options: of `Answerer.load`, `Writer.load` or `Classifier.load`.

    Raises:
        InputError: there is no such model, or an option that its kind does not take; the task or labels are not known.
    """
    if task is None and not is_causal(str(path), trust_remote_code):
        plain = _plain(str(path), options, "is a sequence classifier", ANSWERS | {"four_bit": False})
        return Classifier.load(path, trust_remote_code=trust_remote_code, **plain)
    asked = task_of(records, task)
    if asked.free:
        plain = _plain(str(path), options, "writes", ANSWERS)
        return Writer.load(path, asked, trust_remote_code=trust_remote_code, **plain)
    labels = labels_of(asked, records)
    return Answerer.load(path, asked, labels=labels, trust_remote_code=trust_remote_code, **options)


def is_causal(name: str, trust_remote_code: bool = False) -> bool:
    """Whether a folder or hub id holds a causal language model, or an adapter of one.

    Raises:
        InputError: it can't be read, or is a tagger of words.
    """
    from transformers import AutoConfig

    from raison.models.tagger_network import TaggerConfig

    expect_folder(name)
    try:
        adapter = Path(name) / ADAPTER
        if adapter.is_file():
            return msgspec.json.decode(adapter.read_bytes()).get("task_type") == "CAUSAL_LM"
        config: Any = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (*LOADING_ERRORS, msgspec.DecodeError) as error:
        raise InputError(f"{name}: can't be loaded ({first_line(error)})") from None
    if isinstance(config, TaggerConfig):
        raise InputError(f"{name}: a tagger of words; only models that score labels or write are taken here")
    heads: list[str] = config.architectures or []
    return any(head.endswith(("ForCausalLM", "LMHeadModel")) for head in heads)


def _plain(name: str, options: dict[str, Any], kind: str, others: dict[str, Any]) -> dict[str, Any]:
    """Leave out options that are for other kinds of models, and refuse those that say something."""
    for key, default in others.items():
        if options.get(key, default) != default:
            whose = "models that answer with a label" if key in ANSWERS else "causal language models"
            raise InputError(f"{name} {kind}: option {key} is for {whose}")
    return {key: value for key, value in options.items() if key not in others}
