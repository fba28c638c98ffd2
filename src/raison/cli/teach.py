"""`raison annotators train`: a model learns to answer as people do, and then as one person does."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from raison.cli.common import Format, Map, Model, Seed, Trust, annotators, following, given_of, quiet, say
from raison.cli.imitate import Order, Parts, Wording, asked_of, split_of
from raison.cli.people import Without
from raison.records import InputError

if TYPE_CHECKING:
    from raison.annotators.splits import Split
    from raison.annotators.teach import Asked


@annotators.command("train")
def annotators_train(
    model: Model,
    how: Annotated[str, Option(help="sft-pooled, sft-tag, sft-person, capo-tag, capo-person.")],
    out: Annotated[str, Option(help="Folder of the model; of a model for each person, of their folders.")],
    data: Annotated[str | None, Option(help="Of sft: records, a file or a Hugging Face datasets id.")] = None,
    split: Parts = None,
    pairs: Annotated[str | None, Option(help="Of capo: file of `raison annotators pairs`.")] = None,
    epochs: Annotated[int | None, Option(min=1, help="Passes over the items; sft 3, capo 2.")] = None,
    lr: Annotated[float | None, Option(help="Highest learning rate; sft 1e-4, capo 1e-5.")] = None,
    batch: Annotated[int | None, Option(min=1, help="Items per step; 16.")] = None,
    rank: Annotated[int | None, Option(min=0, help="Of sft: of the adapter; 16. 0 trains all weights.")] = None,
    beta: Annotated[float | None, Option(help="Of capo: how dear it is to leave the reference; 0.1.")] = None,
    loss: Annotated[str | None, Option(help="Of capo: sigmoid (default), ipo.")] = None,
    smoothing: Annotated[float | None, Option(help="Of capo: share of pairs taken to be wrong; 0.")] = None,
    anchor: Annotated[float | None, Option(help="Of capo: weight of the likelihood of what is chosen; 1.")] = None,
    mean: Annotated[bool | None, Option("--mean", help="Of capo: score by the mean over tokens, not the sum.")] = None,
    label_weight: Annotated[float | None, Option(min=0, help="Of capo: of a token of the label; 1.")] = None,
    explanation_weight: Annotated[float | None, Option(min=0, help="Of capo: of any other token; 1.")] = None,
    patience: Annotated[
        int | None, Option(min=1, help="Try on dev items; end after N epochs without a better.")
    ] = None,
    temperature: Annotated[float | None, Option(min=0, help="Of these tries: as you will imitate; 0.")] = None,
    reply_tokens: Annotated[int | None, Option(min=1, help="Of these tries: longest reply; 128.")] = None,
    wording: Wording = None,
    order: Order = None,
    without: Without = None,
    seed: Seed = 0,
    source: Format = None,
    mapping: Map = None,
    trust: Trust = False,
) -> None:
    """Teach a causal model to answer as people do (sft), then to prefer what one person said (capo).

    Example: raison annotators train --model ID --data varierr.json --split split.json --how sft-tag --out runs/sft-tag
    """
    from raison.annotators.rehearsal import Rehearsal
    from raison.annotators.teach import CAPO, SFT

    of_both = given_of(epochs=epochs, lr=lr, batch=batch, patience=patience, seed=seed)
    of_sft = given_of(rank=rank)
    of_capo = given_of(
        beta=beta, loss=loss, smoothing=smoothing, anchor=anchor, mean=mean, label_weight=label_weight,
        explanation_weight=explanation_weight,
    )  # fmt: skip
    asking = given_of(wording=wording, order=order)
    trying = given_of(temperature=temperature, reply_tokens=reply_tokens)
    reading = given_of(data=data, split=split, without=without, source=source, map=mapping)
    if how not in (*SFT, *CAPO):
        raise InputError(f"--how {how!r}: expected {', '.join((*SFT, *CAPO))}")
    if how in CAPO and pairs is None:
        raise InputError(f"--how {how}: the pairs are needed (--pairs)")
    if not patience:
        _only(f"--how {how}, without --patience", {**trying, **(reading if how in CAPO else {})})
    _only(f"--how {how}", {**of_capo, **given_of(pairs=pairs)} if how in SFT else {**of_sft, **asking})
    parts = _parts(how, reading) if how in SFT or patience else None
    tried = Rehearsal(parts, seed=seed, **trying) if parts and patience else None
    told: dict[str, Any] = {"rehearsal": tried, "trust_remote_code": trust, "progress": _progress()}
    if parts and how in SFT:
        made = _sft(how, model, out, (parts, asking), of_both | of_sft, told)
    else:
        made = _capo(how, model, out, str(pairs), of_both | of_capo, told)
    _told(made)
    taught = f"{out}/{{annotator}}" if how.endswith("person") else out
    say(following("annotators imitate", model=taught, **_read(reading, pairs), out="responses.jsonl"))


def _read(reading: dict[str, Any], pairs: str | None) -> dict[str, Any]:
    """Give the options by which the data were read, here or where the pairs were made."""
    found = {"data": "FILE"} | (reading if pairs is None or reading else _books(pairs).get("read", {}))
    return {"format" if name == "source" else name: value for name, value in found.items()}


def _told(made: Iterator[tuple[str, Path]]) -> None:
    for person, folder in made:
        say(f"wrote {folder}{f' ({person})' if person else ''}")


def _parts(how: str, reading: dict[str, Any]) -> "Split":
    if "data" not in reading:
        raise InputError(f"--how {how}: the records are needed (--data)")
    return split_of(reading["data"], *(reading.get(name) for name in ("split", "without", "source", "map")))


def _sft(
    how: str,
    model: str,
    out: str,
    asking: "tuple[Split, dict[str, Any]]",
    settings: dict[str, Any],
    told: dict[str, Any],
) -> Iterator[tuple[str, Path]]:
    from msgspec.structs import replace

    from raison.annotators.sft import SftConfig
    from raison.annotators.teach import teach_sft

    parts, asked = asking
    wording = asked_of(None, parts, asked.get("wording"), asked.get("order")).wording
    config = replace(SftConfig(), **settings | ({"rank": settings["rank"] or None} if "rank" in settings else {}))
    quiet()
    return teach_sft(how, model, parts.train, wording, out, config, **told)


def _capo(
    how: str, model: str, out: str, pairs: str, settings: dict[str, Any], told: dict[str, Any]
) -> Iterator[tuple[str, Path]]:
    from msgspec.structs import replace

    from raison.annotators.capo import CapoConfig
    from raison.annotators.pairs import read_pairs
    from raison.annotators.speakers import model_of
    from raison.annotators.teach import read_asked, teach_capo

    config, made = replace(CapoConfig(), **settings), read_pairs(pairs)
    asked = _asked_by(pairs)
    people = dict.fromkeys(one.annotator for one in made) if how == "capo-person" else [""]
    for name in [model_of(model, person) for person in people]:
        if read_asked(name) is None:
            say(f"warning: {name}: nothing says that it was fine-tuned (--how sft-...), and that is where CAPO begins")
    quiet()
    return teach_capo(how, model, made, asked, out, config, **told)


def _asked_by(pairs: str) -> "Asked":
    """Give the wording and tag that pairs were made with, as the file beside them says."""
    from msgspec import MsgspecError, convert

    from raison.annotators.teach import Asked

    try:
        config = _books(pairs)["config"]
        return convert({"wording": config["wording"], "tag": config["tag"]}, Asked)
    except (MsgspecError, KeyError, TypeError) as error:
        raise InputError(f"{pairs}.meta.json: does not say how the pairs were made ({error})") from None


def _books(pairs: str) -> dict[str, Any]:
    """Read the file beside pairs."""
    from msgspec import MsgspecError
    from msgspec.json import decode

    meta = f"{pairs}.meta.json"
    try:
        return decode(Path(meta).read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        raise InputError(f"{meta}: no such file; it tells how the pairs were made, and belongs beside them") from None
    except (OSError, MsgspecError) as error:
        raise InputError(f"{meta}: does not say how the pairs were made ({error})") from None


def _only(how: str, others: dict[str, Any]) -> None:
    """Refuse options that this way of training does not have."""
    for name, value in others.items():
        if value is not None:
            raise InputError(f"--{name.replace('_', '-')}: not of {how}")


def _progress() -> Callable[[float, dict[str, Any]], None]:
    """Tell the loss now and then, at each tenth of a training, and how it went on dev items."""
    last = [-1]

    def tell(share: float, logs: dict[str, Any]) -> None:
        if "loss" in logs and int(share * 10) != last[0]:
            last[0] = int(share * 10)
            told = ", ".join(f"{name} {logs[name]:z.3f}" for name in ("loss", "margin", "preferred") if name in logs)
            say(f"{share:4.0%}  {told}")
        if "eval_score" in logs:
            parts = {name.removeprefix("eval_"): value for name, value in logs.items() if name.startswith("eval_")}
            found = ", ".join(f"{name} {'-' if value is None else f'{value:.3f}'}" for name, value in parts.items())
            say(f"{share:4.0%}  dev: {found}")

    return tell
