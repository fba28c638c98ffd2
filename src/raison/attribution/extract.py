"""From a model and records to scores per word: one call for every method, and one that can be interrupted."""

import difflib
import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from raison.attribution.attention import attention, attention_rollout, value_weighted_attention
from raison.attribution.diffmask import diffmask, train_extractor
from raison.attribution.erasure import default_operator, occlusion
from raison.attribution.extractor import Extractor
from raison.attribution.gradients import Scored, gradient, input_x_gradient, integrated_gradients
from raison.attribution.marginalisation import (
    Replacer,
    check_odds,
    input_marginalisation,
    make_replacer,
)
from raison.attribution.random import random
from raison.attribution.target import Target, name_targets, parse_target
from raison.masking import Operator, Unit, corpus_of, make_operator
from raison.models.batching import write_chunks
from raison.models.scorer import Scorer
from raison.rationales import WordScores, to_row
from raison.records import InputError, Record
from raison.runs import Unfinished, provenance
from raison.words import REDUCTIONS

METHODS: dict[str, Callable[..., Scored]] = {
    "random": random,
    "attention": attention,
    "attention_rollout": attention_rollout,
    "value_weighted_attention": value_weighted_attention,
    "gradient": gradient,
    "input_x_gradient": input_x_gradient,
    "integrated_gradients": integrated_gradients,
    "occlusion": occlusion,
    "input_marginalisation": input_marginalisation,
}
LEARNED: dict[str, Callable[..., Scored]] = {"diffmask": diffmask}  # what learns from all records before it scores one
OURS = {"model", "tokens", "target", "progress", "operator", "replacer"}  # what users do not give to a method
SPELLED = {"occlusion": {"mask", "unit", "seed"}, "input_marginalisation": {"replacement"}}
CHUNK = 256  # records scored together; an interrupted extraction goes on after the last whole chunk


def extract(
    model: Scorer,
    records: Sequence[Record],
    method: str = "input_x_gradient",
    *,
    target: str = "predicted",
    progress: str | None = None,
    **options: Any,
) -> list[WordScores]:
    """Score the words of records by one method.

    Args:
        model: what scores labels.
        records: what it classifies.
        method: one of `METHODS`, or `diffmask`; hyphens are as good as underscores.
        target: the logit explained: `predicted`, `gold`, a label, `runner-up`, or a contrast of two as `A - B`.
        progress: title of the progress bar; None shows none.
        options: of the method: `reduction` (of gradients, attention and diffmask), `steps`, `baseline`, `tolerance`
            (integrated_gradients), `mask`, `unit`, `window` (occlusion), `replacement`, `draws`
            (input_marginalisation), `seed` (random; the unigram operator; input_marginalisation; diffmask),
            `gate`, `epochs`, `extractor` (diffmask, which is trained on these records unless it is given an
            `Extractor` or the file of one).

    Returns:
        One `WordScores` for each record, in order; words that the model did not see have NaN, and so do all words
        where a contrast falls on one label (`predicted - gold` where the model is right; the target is then None).

    Raises:
        InputError: the method, target or an option is unknown, or the records don't fit the model.
    """
    name = method_name(method)
    arguments = _arguments(name, model, records, options)
    if name in LEARNED:
        arguments["extractor"] = _extractor(model, records, arguments, progress)
    return list(_score(name, model, records, (target, arguments), progress))


def method_name(name: str) -> str:
    """Give the method's name as the tables have it.

    Raises:
        InputError: there is no such method; the nearest one is named.
    """
    plain = name.replace("-", "_").casefold()
    known = METHODS | LEARNED
    if plain in known:
        return plain
    nearest = difflib.get_close_matches(plain, known, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"expected one of {', '.join(known)}"
    raise InputError(f"unknown method {name!r}; {hint}")


def _function(name: str) -> Callable[..., Scored]:
    return LEARNED[name] if name in LEARNED else METHODS[name]


def _arguments(name: str, model: Scorer, records: Sequence[Record], options: dict[str, Any]) -> dict[str, Any]:
    """Turn options as users give them into the arguments of the method."""
    taken = inspect.signature(_function(name)).parameters.keys() - OURS
    known = taken | SPELLED.get(name, set())
    strange = sorted(options.keys() - known)
    if strange:
        raise InputError(f"{name} takes no option {strange[0]!r}; it takes {', '.join(sorted(known)) or 'none'}")
    if options.get("reduction", "sum") not in REDUCTIONS:
        raise InputError(f"unknown reduction {options['reduction']!r}; expected one of {', '.join(REDUCTIONS)}")
    arguments = {key: value for key, value in options.items() if key in taken}
    if name == "occlusion":
        arguments["operator"] = _operator(model, records, options)
    if name == "input_marginalisation":
        arguments["replacer"] = _replacer(model, records, options)
    given = arguments.get("extractor")
    if given is not None:
        spare = next((key for key in ("gate", "epochs", "seed") if key in arguments), None)
        if spare:
            raise InputError(f"{name}: {spare} is of the training, and the extractor is trained already")
        arguments["extractor"] = given if isinstance(given, Extractor) else Extractor.load(given)
    return arguments


def _operator(model: Scorer, records: Sequence[Record], options: dict[str, Any]) -> Operator:
    """Give what stands in the place of words taken away."""
    unit: Unit = options.get("unit", "word")
    operator = default_operator(model)
    if "mask" in options or unit != "word":
        corpus = corpus_of(records) if options.get("mask") == "unigram" else ()
        kind = options.get("mask", operator.name)
        operator = make_operator(kind, model.tokenizer, unit, corpus, options.get("seed", 0))
    return operator


def _replacer(model: Scorer, records: Sequence[Record], options: dict[str, Any]) -> Replacer:
    """Give what draws replacements: by all records, however few of them are scored together."""
    kind: str = options.get("replacement", "uniform")
    return make_replacer(kind, model, [] if kind in ("uniform", "mask") else model.encode(records))


def _extractor(model: Scorer, records: Sequence[Record], arguments: dict[str, Any], progress: str | None) -> Extractor:
    """Give the extractor that is there, or train one on the records."""
    if "extractor" in arguments:
        return arguments["extractor"]
    options = {key: value for key, value in arguments.items() if key in ("gate", "epochs", "seed")}
    return train_extractor(model, model.encode(records), progress=progress and f"training {progress}", **options)


def _parsed(name: str, model: Scorer, records: Sequence[Record], target: str, arguments: dict[str, Any]) -> Target:
    wanted = parse_target(target, model, records)
    if name == "input_marginalisation":
        check_odds(model, wanted, arguments.get("draws", 1))
    return wanted


def _score(
    name: str,
    model: Scorer,
    records: Sequence[Record],
    what: tuple[str, dict[str, Any]],
    progress: str | None = None,
) -> Iterator[WordScores]:
    target, arguments = what
    tokens = model.encode(records)
    wanted = _parsed(name, model, records, target, arguments)
    values, weights, notes = _function(name)(model, tokens, wanted, progress=progress, **arguments)
    common = _convention(name, model, target, arguments)
    names = name_targets(weights, model.labels)
    for row, found, label, note in zip(tokens, values, names, notes, strict=True):
        scores = found if label is not None else np.full_like(found, np.nan)  # a contrast of a label with itself
        per_field = {key: np.ascontiguousarray(part) for key, part in row.grid.split(scores).items()}
        yield WordScores(row.grid.record_id, name, label, per_field, {**common, **note})


def _convention(name: str, model: Scorer, target: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Say what the numbers mean: what peers differ in."""
    defaults = {
        key: parameter.default
        for key, parameter in inspect.signature(_function(name)).parameters.items()
        if key in ("reduction", "steps", "baseline", "window", "seed", "tolerance", "layers", "heads", "draws")
    }
    said = {**defaults, **{key: value for key, value in arguments.items() if key not in {*OURS, "extractor"}}}
    if said.get("steps") != "auto":
        said.pop("tolerance", None)
    if name in LEARNED:
        said = {"reduction": said["reduction"], "extractor": arguments["extractor"].hash}
    if "operator" in arguments:
        said.update(arguments["operator"].convention)
    if "replacer" in arguments:
        said["replacement"] = arguments["replacer"].name
    signed = name in ("input_x_gradient", "integrated_gradients", "occlusion", "input_marginalisation")
    score = "none" if name in ("random", *LEARNED) or "attention" in name else model.scored
    score = "log_odds" if name == "input_marginalisation" else score
    return {"score": score, "target": target, "signed": signed, "special_tokens": "left out", **said}


# ---------------------------------------------------------------------------------------------- to a file


def extract_to_file(
    path: str | Path,
    model: Scorer,
    records: Sequence[Record],
    method: str = "input_x_gradient",
    *,
    target: str = "predicted",
    progress: str | None = None,
    **options: Any,
) -> int:
    """Do `extract` into a file of JSON lines, chunk by chunk, and go on where an interrupted run stopped.

    The file appears when it is whole; until then its lines are in `PATH.part`. Beside it, `PATH.meta.json` says what it
    was made with. The result equals that of a run that was not interrupted. The extractor of `diffmask` is written to
    `PATH.extractor.safetensors`.

    Args:
        path: the file.
        model: see `extract`, also for the rest.
        records: see `extract`.
        method: see `extract`.
        target: see `extract`.
        progress: title of the progress bar.
        options: see `extract`.

    Returns:
        How many records were found done already.

    Raises:
        InputError: as `extract`; or the file, or an unfinished one, was made with something else.
    """
    name = method_name(method)
    arguments = _arguments(name, model, records, options)
    _parsed(name, model, records, target, arguments)
    words = getattr(model.segment, "__name__", "own")
    told = {**options, "extractor": arguments["extractor"].hash} if "extractor" in arguments else options
    frame = provenance(
        {"command": "extract", "method": name, "target": target, "words": words, **told},
        records,
        {model.name: fingerprint(model)},
    )
    work = Unfinished(path, frame, CHUNK)
    if work.finished:
        return len(records)
    if name in LEARNED:
        kept = Path(f"{path}.extractor.safetensors")
        if work.resume() and kept.exists() and "extractor" not in arguments:
            arguments["extractor"] = Extractor.load(kept)
        arguments["extractor"] = _extractor(model, records, arguments, progress)
        kept.parent.mkdir(parents=True, exist_ok=True)
        arguments["extractor"].save(kept)
    return write_chunks(
        work, records, lambda part: map(to_row, _score(name, model, part, (target, arguments))), progress
    )


def fingerprint(model: Scorer) -> str:
    """Give a short hash of a model: its configuration, what it is asked, and a sample of every weight."""
    digest = hashlib.sha256(model.model.config.to_json_string(use_diff=True).encode())
    if model.convention:
        digest.update(msgspec.json.encode(model.convention, order="sorted"))
    for name, tensor in model.model.state_dict().items():
        flat = tensor.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 1024)].float().cpu().numpy()
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + sample.tobytes())
    return digest.hexdigest()[:16]
