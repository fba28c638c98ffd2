"""By what an epoch is chosen: the model in training answers dev items in people's names, and that is scored.

The score is the composite by which systems are compared (`raison.annotators.measuring`). Its attributor must not have
been fitted on texts that it judges, nor on those that the model learns from: so the dev items are parted in two halves,
each judged by an attributor that was fitted on the other, and the mean of both scores counts.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from raison.annotators.controls import ANOTHER, HUMAN, another_person, first_of, human_ceiling
from raison.annotators.examples import draw
from raison.annotators.imitate import imitate
from raison.annotators.measuring import COMPOSITE_K, Measured, Options
from raison.annotators.prompts import Prompts
from raison.annotators.resampling import Panel, Values, geometric_mean
from raison.annotators.responses import Response, responses_of
from raison.annotators.scoring import Ground, make_ground, make_panel
from raison.annotators.splits import Split
from raison.models.generator import LocalGenerator
from raison.records import InputError, Record
from raison.runs import hash_records

TOLD = ("score", "label", "mrr", "imitation")
IT = "it"  # the model among the sources


class Rehearsal(NamedTuple):
    """How a model in training is tried."""

    split: Split  # of which train and dev are taken; test is never looked at
    temperature: float = 0.0  # 0 = the most probable tokens; best as people will be imitated in the end
    reply_tokens: int = 128
    seed: int = 0  # of the halves, and of the draws

    @property
    def config(self) -> dict[str, Any]:
        """What a choice by it depends on."""
        dev = {"records": len(self.split.dev), "sha256": hash_records(self.split.dev)}
        return {**self._asdict(), "split": dev}

    def measure(self, prompts: Prompts, person: str = "") -> "Rehearsed":
        """Make the measure of one training.

        Args:
            prompts: as the model is asked.
            person: whom alone it learns; empty = everybody.

        Raises:
            InputError: dev has too little to fit an attributor on each half, or the person answered nothing in one.
        """
        return Rehearsed(self, prompts, person)


class Rehearsed:
    """Measures a model: call it with a generator.

    It gives `score`, and what that is made of: agreement on the `label`, grounding (`mrr`) and normalised `imitation`
    at k = 5, of all people or of the one that it was made for; None where undefined. If the prompts name nobody and
    everybody is to be imitated, nothing that the model says can be any one's own: then `score` is without imitation.
    """

    def __init__(self, how: Rehearsal, prompts: Prompts, person: str) -> None:
        self.how, self.prompts = how, prompts
        self.config = how.config
        self.pooled = not person and not prompts.tag
        dev = sorted(how.split.dev, key=lambda record: draw(how.seed, "half", record.id))
        one, other = dev[: len(dev) // 2], dev[len(dev) // 2 :]
        self.halves = [_half(how, known, judged, person) for known, judged in ((one, other), (other, one))]
        self.people = [person] if person else sorted({name for half in self.halves for name in half.ground.people})

    def __call__(self, generator: LocalGenerator) -> Mapping[str, float | None]:
        """Have the model answer every dev item as everybody, and score it."""
        how = self.how
        speaking = LocalGenerator(
            generator.model, generator.tokenizer, name=generator.name,
            max_new_tokens=how.reply_tokens, temperature=how.temperature, seed=how.seed,
        )  # fmt: skip
        said = imitate(lambda *_: speaking, self.prompts, how.split.dev, self.people)
        scores = [half.scores(said, pooled=self.pooled) for half in self.halves]
        means = {name: float(np.mean([one[name] for one in scores])) for name in TOLD}
        return {name: None if np.isnan(value) else value for name, value in means.items()}


class _Half(NamedTuple):
    """Dev items that are judged, and what they are judged against."""

    ground: Ground
    person: str
    controls: dict[str, Panel]

    def scores(self, said: Sequence[Response], *, pooled: bool) -> dict[str, float]:
        """Score what was said of its items; NaN where undefined."""
        items = {record.id for record in self.ground.items}
        panel, _ = make_panel(self.ground, [[one for one in said if one.record_id in items]])
        panels = self.controls | {IT: _only(panel, self.ground, self.person)}
        found = Measured(self.ground, panels, Options(resamples=0)).found
        own: dict[str, Values] = found[IT]
        score = own["composite"]
        if pooled:
            parts = (("right_of_all", ANOTHER), ("mrr_of_all", HUMAN))
            score = geometric_mean([own[name] / found[source][name] for name, source in parts])
        told = (score, own["label"], own["mrr"], own[f"imitation_{COMPOSITE_K}_normalised"])
        return {name: float(value[0]) for name, value in zip(TOLD, told, strict=True)}


def _half(how: Rehearsal, known: Sequence[Record], judged: Sequence[Record], person: str) -> _Half:
    """Prepare to judge some dev items by an attributor fitted on the others."""
    split = Split(how.split.train, tuple(known), tuple(judged))
    ground = make_ground(split, responses_of([record for part in split for record in part]), "words")
    ground = ground._replace(measures={})  # similarity is no part of the score, and most of the work
    if person and person not in ground.people:
        raise InputError(f"dev items: {person!r} answered none of {len(judged)}, by which an epoch would be chosen")
    targets = first_of([one for answers in ground.targets.values() for one in answers])
    said = {HUMAN: human_ceiling(targets), ANOTHER: another_person(targets, how.seed)}
    return _Half(
        ground, person, {name: _only(make_panel(ground, [run])[0], ground, person) for name, run in said.items()}
    )


def _only(panel: Panel, ground: Ground, person: str) -> Panel:
    """Keep what was said in one person's name, if there is one."""
    if not person:
        return panel
    place = ground.people.index(person)
    others = np.arange(len(ground.people)) != place
    evidence = panel.evidence.copy()
    evidence[:, others] = np.nan
    return panel.only(place)._replace(evidence=evidence)
