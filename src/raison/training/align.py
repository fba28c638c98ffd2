"""Training with rationales: from records and what is asked of an alignment to examples, a teacher, and a trainer.

UIMER (Chen et al. 2023): L = task loss + alpha * alignment(attribution(model, x), people's rationale), eq. 1.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import torch

from raison.attribution.diffmask import BATCH, new_extractor
from raison.attribution.marginalisation import Replacer, expect_names, make_replacer
from raison.rationales import check_people, confidence, voted_rationale
from raison.records import InputError, Record
from raison.training.aligned import Alignment, Measure, Objective, make_trainer
from raison.training.learners import Learner
from raison.training.losses import LOSSES, defined
from raison.training.rounds import Rounds, add_rounds
from raison.training.teachers import (
    Attention,
    DiffMask,
    Example,
    Gradients,
    InputMarginalisation,
    Occlusion,
    Teacher,
    two_sets,
)

Curve = Callable[[Any, Sequence[Record]], Mapping[str, float | None]]
LOSS_OF = {  # the loss that goes with each attribution where no other is named
    **Gradients.LOSS,
    "attention": Attention.loss,
    "occlusion": Occlusion.loss,
    "input-marginalisation": InputMarginalisation.LOSS,
    "diffmask": DiffMask.LOSS,
}
TEACHERS = tuple(LOSS_OF)
SIGNED = ("gradient-sum", "input-x-gradient", "occlusion", "input-marginalisation")  # the others give scores from 0 on
OF = {  # settings that one attribution alone reads
    "input-marginalisation": ("replacement", "draws", "fresh", "doze", "weights", "most"),
    "diffmask": ("gate", "rounds", "extractor_epochs", "extractor_rate", "decay", "stop"),
}
RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {  # what is expected, and whether a value is that
    **dict.fromkeys(
        ("patience", "every", "draws", "rounds", "extractor_epochs"), ("at least 1", lambda value: value >= 1)
    ),
    **dict.fromkeys(("ramp", "stop", "doze"), ("at least 0", lambda value: value >= 0)),
    **dict.fromkeys(("alpha", "margin"), ("a finite number of at least 0", lambda value: 0 <= value < math.inf)),
    **dict.fromkeys(("extractor_rate", "decay"), ("a finite number above 0", lambda value: 0 < value < math.inf)),
    "most": ("a number above 0 and at most 1", lambda value: 0 < value <= 1),
}
CONFIDENT = 1.0  # of a rationale that one person alone has given


def loss_of(alignment: Alignment) -> str:
    """Name the loss of an alignment: the one that it names, else its attribution's own."""
    return alignment.loss or LOSS_OF[alignment.by]


def told_of(alignment: Alignment) -> dict[str, Any]:
    """Give what a training's file says of an alignment: its settings, with the loss and margin that they come to."""
    loss, margin = loss_of(alignment), alignment.margin
    if margin is None and takes_margin(loss):
        margin = inspect.signature(LOSSES[loss]).parameters["margin"].default
    return {**msgspec.to_builtins(alignment), "loss": loss, "margin": margin}


def takes_margin(loss: str) -> bool:
    """Whether a loss of LOSSES has a margin."""
    return "margin" in inspect.signature(LOSSES[loss]).parameters


def fits(loss: str, by: str) -> bool:
    """Whether a loss says anything of an attribution: `ratio` needs scores from 0 on, `sign` scores with a sign."""
    return loss not in ("ratio", "sign") or (loss == "sign") == (by in SIGNED)


def check_alignment(alignment: Alignment) -> Alignment:
    """Refuse what can't be trained with.

    Raises:
        InputError: a name is unknown, a number is out of range, or a setting does not go with the attribution or loss.
    """
    for option, said, known in (("align", alignment.by, TEACHERS), ("align-loss", alignment.loss, (None, *LOSSES))):
        if said not in known:
            raise InputError(f"--{option} {said!r}: expected one of {', '.join(filter(None, known))}")
    warm_up = alignment.warm_up
    if (isinstance(warm_up, str) and warm_up != "rest") or (isinstance(warm_up, int) and warm_up < 0):
        raise InputError(f"warm-up {warm_up!r}: expected a number of epochs, or rest")
    for name, (expected, fits_in) in RANGES.items():
        value = getattr(alignment, name)
        if value is not None and not fits_in(value):
            raise InputError(f"{name} {value:g}: expected {expected}")
    _check_pairing(alignment)
    expect_names(alignment.replacement.partition(":")[0], alignment.weights)
    return alignment


def _check_pairing(alignment: Alignment) -> None:
    """Refuse a loss that does not fit the attribution, and settings that it, or its loss, has no use for."""
    by, loss, plain = alignment.by, loss_of(alignment), Alignment()
    for owner, names in OF.items():
        stray = next((name for name in names if getattr(alignment, name) != getattr(plain, name)), None)
        if stray and by != owner:
            raise InputError(f"{stray}: a setting of {owner}, not of {by}")
    if not fits(loss, by):
        asked, given = ("from 0 on", "have a sign") if loss == "ratio" else ("with a sign", "have none")
        fitting = ", ".join(name for name in LOSSES if fits(name, by))
        raise InputError(f"loss {loss}: is for scores {asked}, and those of {by} {given}; take one of {fitting}")
    if alignment.margin is not None and not takes_margin(loss):
        having = ", ".join(filter(takes_margin, LOSSES))
        raise InputError(f"margin {alignment.margin:g}: the loss {loss} has no margin; those that have one: {having}")


def expect_schedule(
    alignment: Alignment | None, dev: Sequence[Record], epochs: int, patience: int | None = None
) -> None:
    """Refuse a schedule by which the alignment would never take part, or that needs a dev metric where there is none.

    Args:
        alignment: what is asked of it; None = there is nothing to refuse.
        dev: records to watch.
        epochs: of the training.
        patience: epochs without a better dev metric after which the training ends; None = never.

    Raises:
        InputError: one line that says why.
    """
    if alignment is None:
        return
    check_alignment(alignment)
    rests = alignment.warm_up == "rest"
    if not dev and (rests or alignment.stop):
        raise InputError(f"{'warm-up rest' if rests else 'stop'}: needs dev records")
    if alignment.aligned_epochs(epochs) < 1:
        when = f" ends after epoch {alignment.patience + 1} at the earliest (patience {alignment.patience})"
        raise InputError(
            f"warm-up {alignment.warm_up}:{when if rests else ''} of a training of {epochs} epochs, so that the "
            "alignment would never take part"
        )
    if rests and patience is not None and patience <= alignment.patience:
        raise InputError(
            f"warm-up rest: the training ends after {patience} epochs without a better dev metric, the warm-up after "
            f"{alignment.patience}, so that the alignment would never take part"
        )


def fewer_rounds(alignment: Alignment, epochs: int) -> str | None:
    """Say so if a training has too few epochs for the rounds that are asked for; None = it has enough."""
    most = alignment.aligned_epochs(epochs)
    if alignment.by != "diffmask" or alignment.rounds <= most:
        return None
    return f"rounds {alignment.rounds}: the training has epochs for {most} at most, after the warm-up"


def rationales_of(rows: Sequence[Example], alignment: Alignment) -> dict[str, float]:
    """Count the records whose rationale can't take part in the alignment.

    Nobody marked a word of it that the model sees; or its loss is undefined (see `raison.training.losses.defined`); or
    the people asked have nothing in common, and their agreement is its weight; or, with input-marginalisation, no word,
    or every one, has half of the votes.

    Returns:
        How many `records` there are, how many are `without_rationale`, and the `share_without`.

    Raises:
        InputError: all of them are.
    """
    without = sum(not _is_usable(row, alignment) for row in rows)
    if without == len(rows):
        raise InputError(f"no training record has a rationale to align with: {_why_none(rows, alignment)}")
    return {"records": len(rows), "without_rationale": without, "share_without": without / len(rows)}


def _is_usable(row: Example, alignment: Alignment) -> bool:
    if row.target is None or row.confidence <= 0:
        return False
    seen = row.tokens.seen
    if alignment.by == "input-marginalisation" and two_sets(row.target, seen, 1.0, np.random.default_rng(0)) is None:
        return False
    return bool(defined(torch.from_numpy(row.target)[None], torch.from_numpy(seen)[None], loss_of(alignment))[0])


def _why_none(rows: Sequence[Example], alignment: Alignment) -> str:
    marked = [row.target for row in rows if row.target is not None]
    if not marked:
        return f"{alignment.people} marked no word that the model sees"
    if not any(row.confidence > 0 for row in rows if row.target is not None):
        return "people agree on none, and confident=true goes by that"
    halves = any((target >= 0.5).any() for target in marked)
    if alignment.by == "input-marginalisation" and not halves:
        return "input-marginalisation takes words from half of the votes on; --people union takes what anyone marked"
    return f"the loss {loss_of(alignment)} compares words, and all of a record's have the same votes"


def examples(
    learner: Learner, records: Sequence[Record], alignment: Alignment | None = None, *, drawn: bool = False
) -> list[Example]:
    """Make examples of records.

    A record where nobody was asked for words, or nobody marked one, has no rationale: it takes part in the task alone.

    Args:
        learner: encodes them, and knows their labels.
        records: the records.
        alignment: says whose rationales are taken; None = nobody's.
        drawn: they are a few of many, in which the people whom the alignment names may be missing.

    Raises:
        InputError: a label is not the model's, or the alignment names people who are not in records that are not drawn.
    """
    if alignment is not None and not drawn:
        check_people(records, alignment.people)
    rows: list[Example] = []
    for record, tokens in zip(records, learner.encode(records), strict=True):
        target = voted_rationale(record, tokens.grid, alignment.people) if alignment is not None else None
        target = target if target is not None and (target[tokens.seen] > 0).any() else None
        sure = confidence(record, tokens.grid) if alignment is not None and alignment.confident else CONFIDENT
        rows.append(Example(tokens, learner.gold(record, tokens), target, CONFIDENT if np.isnan(sure) else sure))
    return rows


def teacher_of(
    alignment: Alignment,
    learner: Learner,
    rows: Sequence[Example],
    seed: int = 0,
) -> Teacher:
    """Give the attribution that an alignment trains through.

    Raises:
        InputError: its name, or that of its loss, is unknown, or what it needs is missing.
    """
    check_alignment(alignment)
    if alignment.by in Gradients.COMBINE:
        return Gradients(alignment.by)
    if alignment.by == "attention":
        return Attention()
    if alignment.by == "diffmask":
        first = [row.tokens for row in rows[:BATCH]]
        return DiffMask(new_extractor(learner.scorer, first, alignment.gate, seed), alignment.loss)
    if alignment.by == "occlusion":
        return Occlusion(Replacer("mask", learner.tokenizer))
    corpus = [row.tokens for row in rows]
    replacer = make_replacer(alignment.replacement, learner.scorer, corpus, alignment.weights)
    return InputMarginalisation(replacer, alignment.draws, alignment.most, alignment.loss, fresh=alignment.fresh)


def measure_of(learner: Learner, dev: Sequence[Record], curve: Curve | None = None, most: int = 100) -> Measure | None:
    """Give what measures a learner after an epoch; None without dev records.

    Args:
        learner: what is trained.
        dev: records to measure it on.
        curve: measures more, on those of the first `most` dev records in which somebody marked words.
        most: see `curve`.
    """
    if not dev:
        return None
    tokens = learner.encode(dev)
    for record, row in zip(dev, tokens, strict=True):
        learner.gold(record, row)  # a strange label is found before the training
    watched = [record for record in dev if any(note.rationale for note in record.annotations)][:most]

    def measure() -> dict[str, float | None]:
        learner.network.eval()
        more = curve(learner.scorer, watched) if curve is not None and watched else {}
        return {**learner.score(dev, tokens), **more}

    return measure


def objective_for(
    learner: Learner,
    rows: Sequence[Example],
    alignment: Alignment | None = None,
    seed: int = 0,
) -> Objective:
    """Give the losses to train for; without an alignment, the task's alone. Raises what `teacher_of` raises."""
    teacher = teacher_of(alignment, learner, rows, seed) if alignment is not None else None
    return Objective(learner, teacher, alignment or Alignment())


def trainer_for(objective: Objective, rows: Sequence[Example], settings: Any, measure: Measure | None = None) -> Any:
    """Give Hugging Face's trainer, with rounds if an extractor is part of it; see `make_trainer`."""
    trainer = make_trainer(objective, rows, settings, measure)
    if isinstance(objective.teacher, DiffMask):
        tokens = [row.tokens for row in rows]
        add_rounds(trainer, Rounds(objective, tokens, objective.teacher.extractor, settings.seed))
    return trainer
