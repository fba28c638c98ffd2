"""Training with rationales: from records and what is asked of an alignment to examples, a teacher, and a trainer.

UIMER (Chen et al. 2023): L = task loss + alpha * alignment(attribution(model, x), people's rationale), eq. 1.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from raison.attribution.diffmask import BATCH, new_extractor
from raison.attribution.marginalisation import Replacer, make_replacer
from raison.rationales import check_people, confidence, voted_rationale
from raison.records import InputError, Record
from raison.training.aligned import Alignment, Measure, Objective, make_trainer
from raison.training.learners import Learner
from raison.training.losses import LOSSES
from raison.training.rounds import Rounds, add_rounds
from raison.training.teachers import Attention, DiffMask, Example, Gradients, InputMarginalisation, Occlusion, Teacher

Curve = Callable[[Any, Sequence[Record]], Mapping[str, float | None]]
TEACHERS = (*Gradients.COMBINE, "attention", "occlusion", "input-marginalisation", "diffmask")
RANGES = {
    **dict.fromkeys(("patience", "every", "draws", "rounds", "extractor_epochs"), (1, math.inf)),
    **dict.fromkeys(("alpha", "margin", "ramp", "stop", "doze"), (0, 1e9)),
    **dict.fromkeys(("extractor_rate", "decay"), (1e-9, 1e9)),
    "most": (1e-9, 1),
}
CONFIDENT = 1.0  # of a rationale that one person alone has given


def check_alignment(alignment: Alignment) -> Alignment:
    """Refuse what can't be trained with.

    Raises:
        InputError: a name is unknown, or a number is out of range.
    """
    for said, known in ((alignment.by, TEACHERS), (alignment.loss, (None, *LOSSES))):
        if said not in known:
            raise InputError(f"--align: {said!r}: expected one of {', '.join(filter(None, known))}")
    warm_up = alignment.warm_up
    if (isinstance(warm_up, str) and warm_up != "rest") or (isinstance(warm_up, int) and warm_up < 0):
        raise InputError(f"warm-up {warm_up!r}: expected a number of epochs, or rest")
    if alignment.doze and alignment.by != "input-marginalisation":
        raise InputError(f"doze: only input-marginalisation can leave records out, not {alignment.by}")
    for name, (least, most) in RANGES.items():
        value = getattr(alignment, name)
        if value is not None and not least <= value <= most:
            upper = "" if math.isinf(most) else f" and at most {most:g}"
            raise InputError(f"{name} {value}: expected at least {least:g}{upper}")
    return alignment


def expect_dev(alignment: Alignment | None, dev: Sequence[Record]) -> None:
    """Refuse a schedule that goes by a dev metric where there is none.

    Raises:
        InputError: the alignment would begin, or stop, by it.
    """
    if alignment is not None and not dev and (alignment.warm_up == "rest" or alignment.stop):
        raise InputError(f"{'warm-up rest' if alignment.warm_up == 'rest' else 'stop'}: needs dev records")


def examples(learner: Learner, records: Sequence[Record], alignment: Alignment | None = None) -> list[Example]:
    """Make examples of records.

    A record where nobody was asked for words, or nobody marked one, has no rationale: it takes part in the task alone.

    Raises:
        InputError: a label is not the model's, or the alignment names people who are not in the records.
    """
    if alignment is not None:
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
    return InputMarginalisation(replacer, alignment.draws, alignment.most, fresh=alignment.fresh)


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
