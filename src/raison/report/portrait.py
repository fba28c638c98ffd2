"""A page for one person: their profile, what is said in their name beside what they said, and where they part."""

from collections.abc import Sequence
from typing import NamedTuple

from raison.annotators.controls import CONTROLS, HUMAN
from raison.annotators.imitation import Imitation
from raison.annotators.portraits import OWN, Portrait, Said
from raison.annotators.profile import Profile
from raison.annotators.style import Habit
from raison.report import text
from raison.report.imitation_words import FEATURES, MAIN, METRICS
from raison.report.lineup import INDEX, Row, pictured
from raison.report.page import render_page
from raison.report.plots import dots

PICTURED = ("label", "mrr", "attribution_5", "style_js")
PARTED, LEAST, ANSWERS = 40, 10, 120  # items open to read: so many, or fewer with many answers each; others are folded
HABITS = 3  # that are named in a sentence


class Moved(NamedTuple):
    """How often the person's label became another in their name."""

    wanted: str
    given: str
    items: int


def portrait_html(found: Imitation, person: str, rows: Sequence[Row], following: str) -> str:
    """Render the page of one person.

    Args:
        found: the result.
        person: whose page.
        rows: of the main table, for this person (`lineup`).
        following: file of the next person's page.
    """
    slice = f"annotator={person}"
    portrait = next(one for one in found.portraits if one.annotator == person)
    said = [one for one in found.said if one.annotator == person]
    shown = [name for name in found.systems if name in portrait.given]
    parts = sorted(said, key=lambda one: (-_apart(one, shown), one.record_id))
    return render_page(
        "portrait.html",
        title=f"{person}, imitated",
        person=person,
        found=found,
        systems=shown,
        rows=rows,
        metrics=METRICS,
        main_group=MAIN,
        figures=[(METRICS[name], dots(METRICS[name], pictured(found, name, slice))) for name in PICTURED],
        profile=_profile(portrait.profile),
        habits=_habits(found.habits, person, shown),
        labels=_labels(portrait, found.labels, shown),
        moves=[(system, _moves(portrait, system)) for system in shown],
        where=[(system, told) for system in shown if (told := where_they_part(found, person, system))],
        parts=[(one, _differs(one, shown)) for one in parts],
        open=min(PARTED, max(LEAST, ANSWERS // max(1, len(shown)))),
        index=INDEX,
        following=following,
        controls=CONTROLS,
        human=HUMAN,
    )  # fmt: skip


def where_they_part(found: Imitation, person: str, system: str) -> list[str]:
    """Say in which labels and habits a system parts most from a person."""
    portrait = next(one for one in found.portraits if one.annotator == person)
    told: list[str] = []
    moved = [move for move in _moves(portrait, system) if move.given]
    if moved:
        most = moved[0]
        told.append(
            f"{system} gives another label on {sum(move.items for move in moved)} items, most often {most.given} "
            f"where they say {most.wanted} ({most.items})."
        )
    apart = [one for one in found.habits if (one.annotator, one.source) == (person, system) and one.js is not None]
    apart.sort(key=lambda one: (-(one.js or 0.0), one.feature))
    named = [
        f"{FEATURES.get(one.feature, one.feature)} ({_pair(one)})" for one in apart[:HABITS] if (one.js or 0.0) >= 0.02
    ]
    if named:
        told.append(f"{system} parts most from their habits in {', '.join(named)}.")
    return told


def _pair(one: Habit) -> str:
    if one.theirs is None or one.given is None:
        return f"{text.short(one.js, 2)} bits apart"
    return f"they {text.number(one.theirs, 2)}, {one.source} {text.number(one.given, 2)}"


def _profile(profile: Profile) -> list[tuple[str, str]]:
    """Give the profile as pairs of a name and what is known."""
    low, middle, high = profile.words
    shares = {name: _shares(values) for name, values in (("labels", profile.labels), ("kinds", profile.categories))}
    known = [
        ("Answers to learn from", f"{profile.answers:,}, of which {profile.explained:,} are explained"),
        ("Labels", shares["labels"]),
        ("Length", f"about {middle:.0f} words, half of them {low:.0f} to {high:.0f}" if profile.explained else ""),
        ("Whole explanations used again", _shares(profile.whole)),
        ("Often begins with", _shares(profile.openings)),
        ("Kinds of reasoning", shares["kinds"]),
    ]
    return [(name, value) for name, value in known if value]


def _shares(values: dict[str, float]) -> str:
    return ", ".join(f"{name} ({100 * share:.0f}\u00a0%)" for name, share in values.items())


def _habits(habits: Sequence[Habit], person: str, systems: Sequence[str]) -> list[tuple[str, list[Habit | None]]]:
    """Give a row for each feature: its name, and the habit of each system."""
    known = {(one.source, one.feature): one for one in habits if one.annotator == person}
    names = [name for name in FEATURES if any((system, name) in known for system in systems)]
    return [(FEATURES[name], [known.get((system, name)) for system in systems]) for name in names]


def _labels(portrait: Portrait, labels: Sequence[str], systems: Sequence[str]) -> list[tuple[str, list[float | None]]]:
    """Give a row for each label: its share in the person's answers to the test items, then in each system's."""
    columns = [portrait.given[name].labels for name in (OWN, *systems)]
    return [(label, [column.get(label, 0.0) if column else None for column in columns]) for label in labels]


def _moves(portrait: Portrait, system: str) -> list[Moved]:
    found = [
        Moved(wanted, given, items)
        for wanted, row in portrait.moves.get(system, {}).items()
        for given, items in row.items()
        if given != wanted
    ]
    return sorted(found, key=lambda move: (-move.items, move.wanted, move.given))


def _differs(one: Said, systems: Sequence[str]) -> bool:
    return any(one.voices[name].label != one.label for name in systems)


def _apart(one: Said, systems: Sequence[str]) -> float:
    """Rank items by how far the systems are from the person: other labels first, then other words."""
    voices = [one.voices[name] for name in systems]
    labels = sum(voice.label != one.label for voice in voices)
    words = sum(1 - voice.measures.get("rouge_l", 0.0) for voice in voices)
    return labels + words / (2 * max(1, len(voices)))
