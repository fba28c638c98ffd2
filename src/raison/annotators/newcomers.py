"""Somebody new: a model that has learned others takes a person in, by their tag alone or by an adapter of their own.

A model that was taught with tags is first made ready (`ready`): an adapter goes into its weights, and a few tokens are
added that stand for whoever is new. They begin as the mean of the names that it knows. Then, from a few items, either
the embeddings of these tokens are trained and nothing else (`new-tag`), or a LoRA adapter beside them (`new-adapter`).
The paper leaves new annotators open: this is ours.
"""

import os
import shutil
from collections.abc import Sequence
from hashlib import file_digest
from pathlib import Path
from typing import Any

import msgspec
import torch

from raison.annotators.examples import draw
from raison.annotators.policy import load_policy
from raison.annotators.responses import Response
from raison.annotators.sft import SftConfig, sft, turns_of
from raison.annotators.teach import ASKED, note, read_asked
from raison.records import InputError, Record, write_json

NEW = ("new-tag", "new-adapter")
TOKENS = tuple(f"<|new-{index}|>" for index in range(4))  # of a newcomer's name
SLOT = "{annotator}"
SOURCE = "ready.json"  # in the folder: hashes of what it was made of


def ready(model: str | Path, out: str | Path, known: Sequence[str], *, trust_remote_code: bool = False) -> Path:
    """Make a model ready to take people in.

    Args:
        model: a folder that was taught with tags.
        out: the folder to make; one that is there already, and was made of this model, stays as it is.
        known: names of people that the model has learned.
        trust_remote_code: run code that comes with the model.

    Raises:
        InputError: the model can't be loaded, or does not say with which tags it was taught; or the folder was made of
            another model.
    """
    folder, asked, source = Path(out), read_asked(model), {"weights": _weights(Path(model))}
    if (folder / ASKED).exists():
        if not (folder / SOURCE).exists() or msgspec.json.decode((folder / SOURCE).read_bytes()) != source:
            raise InputError(f"{folder}: was made of another model than {model} is now; remove it, or choose another")
        return folder
    if asked is None or not asked.tag:
        raise InputError(f"{model}: was not taught with tags, so nobody new can have one")
    policy = load_policy(str(model), None, dtype="float32", trust_remote_code=trust_remote_code)
    network, tokenizer = policy.network, policy.tokenizer
    if hasattr(network, "merge_and_unload"):
        network = network.merge_and_unload()
    names: Any = [index for name in known for index in tokenizer(f" {name}", add_special_tokens=False).input_ids]
    tokenizer.add_tokens([*TOKENS], special_tokens=True)
    rows: Any = tokenizer.convert_tokens_to_ids([*TOKENS])
    if max(rows) >= network.get_input_embeddings().num_embeddings:
        network.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for weight in {id(layer.weight): layer.weight for layer in _tables(network)}.values():
            weight[rows] = weight[names].mean(dim=0) if names else weight[: min(rows)].mean(dim=0)
    part = folder.with_name(f"{folder.name}.ready")
    shutil.rmtree(part, ignore_errors=True)
    network.save_pretrained(part)
    tokenizer.save_pretrained(part)
    wording = msgspec.structs.replace(asked.wording, tag=asked.wording.tag.replace(SLOT, "".join(TOKENS)))
    note(part, msgspec.structs.replace(asked, wording=wording))
    write_json(part / SOURCE, source)
    os.replace(part, folder)
    return folder


def _weights(folder: Path) -> dict[str, str]:
    """Give a hash of each file of weights in a folder."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb") as stream:
            found[path.name] = file_digest(stream, "sha256").hexdigest()
    return found


def _tables(network: Any) -> list[Any]:
    """Give the embeddings and, where it is another table, the layer that predicts tokens."""
    return [network.get_input_embeddings(), network.get_output_embeddings()]


def first_items(said: Sequence[Response], person: str, items: int | None, seed: int = 0) -> list[Response]:
    """Give what a person said of so many items; those drawn for fewer are among those drawn for more. None = of all."""
    own = [one for one in said if one.annotator == person]
    drawn = sorted({one.record_id for one in own}, key=lambda item: draw(seed, person, item))[:items]
    return [one for one in own if one.record_id in drawn]


def welcome(  # noqa: PLR0917
    how: str,
    base: str | Path,
    records: Sequence[Record],
    said: Sequence[Response],
    out: str | Path,
    config: SftConfig,
    **options: Any,
) -> Path:
    """Teach a model that is ready one new person.

    Args:
        how: "new-tag" (the embeddings of the new tokens alone) or "new-adapter" (LoRA of the rank of the config).
        base: a folder of `ready`.
        records: the items.
        said: what the person said of them, and nobody else.
        out: folder of the adapter; it is asked as `asked.json` beside it says.
        config: of the training; of `new-tag`, `rank` is passed over.
        options: further arguments of `sft`.

    Raises:
        InputError: as `sft`; there is no such way; several people's responses are given; or the base is not ready.
    """
    if how not in NEW:
        raise InputError(f"how {how!r}: expected {', '.join(NEW)}")
    if len(people := sorted({one.annotator for one in said})) > 1:
        raise InputError(f"one person is taken in at a time, not {', '.join(people)}")
    asked = read_asked(base)
    if asked is None or "".join(TOKENS) not in asked.wording.tag:
        raise InputError(f"{base}: is not ready to take anybody in (see raison.annotators.newcomers.ready)")
    chosen = {"rank": None, "only": TOKENS} if how == "new-tag" else {"rank": config.rank or 16, "only": ()}
    turns = turns_of(asked.wording, records, said, tagged=True)
    folder = sft(str(base), turns, out, msgspec.structs.replace(config, **chosen), **options)
    note(folder, msgspec.structs.replace(asked, people=tuple(people)))
    return folder
