"""Portraits: one person beside those who speak in their name: habits, labels, and what was said item by item."""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from raison.annotators.controls import first_of
from raison.annotators.grounding import input_text
from raison.annotators.profile import Profile, profile_of
from raison.annotators.resampling import Panel
from raison.annotators.responses import Response
from raison.annotators.scoring import Ground
from raison.annotators.style import Habit, category_habit, corpus_habits, features, habit


class Portrait(msgspec.Struct, frozen=True):
    """A person as they are, and as each source has them."""

    annotator: str
    profile: Profile  # of what they said of the train items
    given: dict[str, Profile]  # source -> of what was said in their name of the test items; "themselves" = they did
    moves: dict[str, dict[str, dict[str, int]]]  # source -> label of the person -> label given -> items


class Voice(msgspec.Struct, frozen=True):
    """What a source said of one item in a person's name, and how near it comes."""

    label: str | None
    explanation: str | None
    failure: str | None
    taken_for: str | None  # by the attributor, of this text alone; None = no text
    measures: dict[str, float]  # rouge_l, rouge_l_margin, mrr, longest_run


class Said(msgspec.Struct, frozen=True):
    """One item, what a person said of it, and what was said in their name."""

    record_id: str
    annotator: str
    fields: dict[str, str]
    label: str | None
    explanation: str | None
    voices: dict[str, Voice]


SHOWN = ("rouge_l", "rouge_l_margin", "mrr", "longest_run")
OWN = "themselves"


def portraits(ground: Ground, sources: Mapping[str, Sequence[Response]]) -> tuple[list[Habit], list[Portrait]]:
    """Compare each person's habits with what every source has them say on the same items.

    A habit is compared over all the person's explanations of the test items, and all that were given in their name.
    """
    habits: list[Habit] = []
    found: list[Portrait] = []
    for person in ground.people:
        own = first_of([said[0] for (_, whose), said in ground.targets.items() if whose == person])
        by_source = {name: _of(run, person, ground) for name, run in sources.items()}
        for name, run in by_source.items():
            habits += _habits(ground, person, name, own, run)
        found.append(
            Portrait(
                person,
                profile_of(person, ground.history[person]),
                {OWN: profile_of(person, own), **{name: profile_of(person, run) for name, run in by_source.items()}},
                {name: _moves(own, run) for name, run in by_source.items()},
            )
        )
    return habits, found


def _of(run: Sequence[Response], person: str, ground: Ground) -> list[Response]:
    own = [response for response in run if response.annotator == person]
    return [response for response in first_of(own) if (response.record_id, person) in ground.targets]


def _habits(ground: Ground, person: str, source: str, own: Sequence[Response], run: Sequence[Response]) -> list[Habit]:
    inputs = {record.id: input_text(record) for record in ground.items}
    sides = [[response for response in side if (response.explanation or "").strip()] for side in (own, run)]
    texts = [[response.explanation or "" for response in side] for side in sides]
    names = ground.items[0].fields
    counted = [
        features(column, [inputs[response.record_id] for response in side], names)
        for column, side in zip(texts, sides, strict=True)
    ]
    kinds = [[kind for response in side if isinstance(kind := response.extra.get("category"), str)] for side in sides]
    by_kind = category_habit(person, source, *kinds)
    return [
        *(habit(person, source, name, counted[0][name], counted[1][name]) for name in counted[0]),
        *corpus_habits(person, source, *texts),
        *([by_kind] if by_kind else []),
    ]


def _moves(own: Sequence[Response], run: Sequence[Response]) -> dict[str, dict[str, int]]:
    given = {response.record_id: response.label for response in run}
    counts = Counter((response.label, given.get(response.record_id)) for response in own)
    found: dict[str, dict[str, int]] = {}
    for (wanted, label), count in sorted(counts.items(), key=lambda pair: (str(pair[0]), pair[1])):
        if wanted is not None:
            found.setdefault(wanted, {})[label or ""] = count
    return found


def said_of(ground: Ground, sources: Mapping[str, Sequence[Response]], panels: Mapping[str, Panel]) -> list[Said]:
    """Give what every person said of every item, and what each source said in their name (in the first seed)."""
    answers = {
        name: {(response.record_id, response.annotator): response for response in first_of(run)}
        for name, run in sources.items()
    }
    found: list[Said] = []
    for column, person in enumerate(ground.people):
        for row, record in enumerate(ground.items):
            said = ground.targets.get((record.id, person))
            if said is None:
                continue
            voices = {
                name: _voice(ground, given.get((record.id, person)), panels[name], row, column)
                for name, given in answers.items()
            }
            found.append(Said(record.id, person, record.fields, said[0].label, said[0].explanation, voices))
    return found


def _voice(ground: Ground, response: Response | None, panel: Panel, row: int, column: int) -> Voice:
    if response is None:
        return Voice(None, None, "missing", None, {})
    evidence = panel.evidence[row, column]
    taken = None if np.isnan(evidence).any() else ground.people[int(evidence.argmax())]
    values = {name: float(panel.values[name][row, column]) for name in SHOWN if name in panel.values}
    known = {name: value for name, value in values.items() if not np.isnan(value)}
    return Voice(response.label, response.explanation, response.failure, taken, known)
