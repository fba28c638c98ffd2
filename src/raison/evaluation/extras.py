"""Metrics of faithfulness that are computed when they are asked for, by name: what each needs, costs, and gives.

RankDel, which Huang et al. (2023) use beside DFMIT and DFFrac, is the rank correlation with leaving single words out
that `Options.one_out` gives (`tau_loo`).
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from raison.evaluation import companions, looks, naopc
from raison.evaluation.looks import Found, Look
from raison.evaluation.observe import Chosen, Predictor, Slot, gives_probabilities
from raison.records import InputError, Record
from raison.words import SEGMENTERS, Mask, Tokens

if TYPE_CHECKING:
    from raison.evaluation.evaluate import Options

Needs = Literal["answers", "probabilities", "weights", "a tuned model"]


class Size(NamedTuple):
    """What a cost depends on."""

    words: int
    sources: int
    draws: int
    beam: int


class Extra(NamedTuple):
    """One group of metrics."""

    needs: Needs
    metrics: tuple[str, ...]
    cost: Callable[[Size], int]  # forward passes for a record, at most; those of the metrics always given come free
    function: Callable[[Look], Found]
    ask: Callable[[Tokens, Mapping[str, Chosen]], dict[Slot, Mask]] | None = None  # maskings to be run with all others


EXTRAS: dict[str, Extra] = {
    "normalised": Extra(
        "probabilities", ("normalised_comprehensiveness", "normalised_sufficiency"), lambda size: 0, looks.normalised
    ),
    "log-odds": Extra("probabilities", ("log_odds",), lambda size: 0, looks.log_odds),
    "flips": Extra(
        "answers",
        ("flip_fraction", "flip_top"),
        lambda size: size.words * (1 + size.sources),
        looks.flips,
        looks.ask_flips,
    ),
    "naopc": Extra(
        "probabilities",
        ("naopc_comprehensiveness", "naopc_sufficiency"),
        lambda size: 2 * size.words * size.sources + naopc.cost(size.words, size.beam),
        looks.normalised_area,
        looks.ask_orders,
    ),
    "soft": Extra(
        "weights",
        ("soft_comprehensiveness", "soft_sufficiency"),
        lambda size: 2 * size.draws * size.sources + 1,
        looks.soft,
    ),
    "f-fidelity": Extra(
        "a tuned model",
        ("f_fidelity_plus", "f_fidelity_minus"),
        lambda size: 4 * companions.FIDELITY_DRAWS * size.sources,
        looks.fidelity,
    ),
}


def expect_known(names: Sequence[str]) -> None:
    """Refuse a name that is not one of `EXTRAS`.

    Raises:
        InputError: naming the nearest.
    """
    for name in names:
        if name == "roar":
            raise InputError("roar retrains the model many times: call raison.evaluation.roar.roar from Python")
        if name not in EXTRAS:
            near = difflib.get_close_matches(name, EXTRAS, n=1, cutoff=0)
            meant = f"did you mean {near[0]}? " if near else ""
            raise InputError(f"unknown further metric {name!r}: {meant}There are {', '.join(EXTRAS)}")


def expect_possible(
    names: Sequence[str], model: Predictor | None, tuned: Predictor | None, one_out: bool = False
) -> None:
    """Refuse metrics for which something is missing, before anything is run.

    Raises:
        InputError: naming the metric and what it needs.
    """
    _expect_enough(names, model, one_out)
    for name in names:
        needs = EXTRAS[name].needs
        if model is None:
            raise InputError(f"{name} needs {needs}: without a model only the agreement with people is measured")
        if needs == "weights" and not hasattr(model, "predict_soft"):
            raise InputError(f"{name} needs weights, which {model.name} does not give")
        if needs == "a tuned model" and tuned is None:
            raise InputError(
                f"{name} needs a tuned model: the same one trained on with words masked at random (--tuned)"
            )
    if tuned is not None and model is not None:
        if not any(EXTRAS[name].needs == "a tuned model" for name in names):
            raise InputError(f"{tuned.name}: a tuned model serves f-fidelity alone, which was not asked for")
        if {label.casefold() for label in tuned.labels} != {label.casefold() for label in model.labels}:
            raise InputError(f"{tuned.name} has the labels {', '.join(tuned.labels)}, not those of {model.name}")


def _expect_enough(names: Sequence[str], model: Predictor | None, one_out: bool) -> None:
    """Refuse what needs more than labels of a model that gives no more."""
    if model is None or gives_probabilities(model):
        return
    needed = {name: EXTRAS[name].needs for name in names}
    for name, needs in {**needed, **({"one_out": "probabilities"} if one_out else {})}.items():
        if needs != "answers":
            raise InputError(f"{name} needs {needs}: {model.name} gives labels alone")


def names_in(given: Sequence[str], more: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part what a command line gave: (names of metrics, files).

    Args:
        given: to `--also`; commas part names.
        more: what followed an option that takes several values, be it metrics or files of scores: what is no file and
            follows `--also` is a metric.
    """
    names = [name for text in given for name in text.split(",") if name]
    files = [text for text in more if not given or Path(text).exists()]
    return [*names, *(text for text in more if text not in files)], files


def bill(options: "Options", records: Sequence[Record], sources: int) -> list[str]:
    """Say what the further metrics need and cost, before they are run: a line for each."""
    segment = SEGMENTERS[options.words]
    words = [sum(len(segment(text)) for text in record.fields.values()) for record in records]
    lines: list[str] = []
    for name in dict.fromkeys(options.also):
        sizes = [Size(count, sources, options.draws, options.beam) for count in words]
        passes = sum(EXTRAS[name].cost(size) for size in sizes)
        each = passes / max(len(records), 1)
        lines.append(
            f"{name}: needs {EXTRAS[name].needs}; at most {each:,.0f} further forward passes for each record, "
            f"{passes:,} in all"
        )
    return lines
