"""Pairs and answers for other trainers: TRL and LLaMA-Factory. Neither knows weights of pairs, which are lost there."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from raison.annotators.preference_pair import PreferencePair
from raison.records import InputError, write_json, write_jsonl

Form = Literal["trl", "trl-plain", "llama-factory"]
FORMS: tuple[str, ...] = get_args(Form)
REGISTRY = "dataset_info.json"  # where LLaMA-Factory looks data sets up

Row = dict[str, Any]


def trl_row(pair: PreferencePair) -> Row:
    """Give a pair as TRL's DPOTrainer takes conversations: it puts the chat template around them."""
    return {
        "prompt": [{"role": "user", "content": pair.prompt}],
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
    }


def trl_plain_row(pair: PreferencePair) -> Row:
    """Give a pair as TRL's DPOTrainer takes texts: for models without a chat template."""
    return {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}


def llama_factory_row(pair: PreferencePair) -> Row:
    """Give a pair in LLaMA-Factory's alpaca format for preferences."""
    return {"instruction": pair.prompt, "input": "", "chosen": pair.chosen, "rejected": pair.rejected}


_ROWS: dict[str, Callable[[PreferencePair], Row]] = {
    "trl": trl_row,
    "trl-plain": trl_plain_row,
    "llama-factory": llama_factory_row,
}


def export_pairs(
    folder: str | Path, pairs: Sequence[PreferencePair], form: str, *, together: bool, name: str = "capo"
) -> list[Path]:
    """Write pairs as another trainer reads them, in a folder of their own.

    TRL: `NAME.jsonl`, for `load_dataset("json", data_files=...)`. LLaMA-Factory: `NAME.json` and an entry in
    `dataset_info.json` of the same folder, which is its `dataset_dir`; other entries stay.

    Args:
        folder: made where it is not there.
        pairs: the pairs.
        form: "trl" (conversations), "trl-plain" (texts) or "llama-factory".
        together: all pairs in one file, for one model with tags; else a file `NAME-PERSON` for each person.
        name: of the data set.

    Returns:
        The files of pairs that were written.

    Raises:
        InputError: there is no such form, the folder can't be written to, or its `dataset_info.json` is something else.
    """
    if form not in FORMS:
        raise InputError(f"export {form!r}: expected {', '.join(FORMS)}")
    groups: dict[str, list[Row]] = defaultdict(list)
    for pair in pairs:
        groups[name if together else f"{name}-{file_name(pair.annotator)}"].append(_ROWS[form](pair))
    registry = Path(folder) / REGISTRY
    known = _registered(registry) if form == "llama-factory" else {}
    written: list[Path] = []
    for stem, rows in groups.items():
        path = Path(folder) / f"{stem}.{'json' if form == 'llama-factory' else 'jsonl'}"
        if form == "llama-factory":
            write_json(path, rows)
            known[stem] = _description(path.name)
        else:
            write_jsonl(path, rows)
        written.append(path)
    if form == "llama-factory":
        write_json(registry, known)
    return written


def lost_weights(pairs: Iterable[PreferencePair]) -> int:
    """Count the pairs whose weight or beta another trainer would not see."""
    return sum(pair.weight != 1 or pair.beta is not None for pair in pairs)


def _description(file: str) -> Mapping[str, Any]:
    columns = {"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"}
    return {"file_name": file, "ranking": True, "columns": columns}


def _registered(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(f"{path}: not a list of data sets that can be added to ({error})") from None


def file_name(annotator: str) -> str:
    """Give a name as part of a file's: letters, digits, `-` and `_` stay, others become `%` and their code."""
    return "".join(c if c.isalnum() or c in "-_" else f"%{ord(c):02X}" for c in annotator)
