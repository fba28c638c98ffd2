"""What is measured of each answer given in a person's name, before anything is averaged."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import nan
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from raison.annotators.agreement import label_error
from raison.annotators.attribution import Attributor, fit_attributor
from raison.annotators.controls import first_of, nearest_own
from raison.annotators.grounding import input_text, retrieve, tfidf
from raison.annotators.memorisation import copying, same_text
from raison.annotators.population import jensen_shannon, manhattan, shares
from raison.annotators.resampling import Ints, Panel, Values
from raison.annotators.responses import Response
from raison.annotators.similarity import MEASURES, Encode, Measure, cosine, specificity
from raison.annotators.splits import Split
from raison.annotators.style import BINS, FEATURES, binned, edges_of, features
from raison.records import InputError, Record
from raison.sources.scale import ordinal_scale

Key = tuple[str, str]  # (record id, annotator)
Answers = dict[Key, list[Response]]  # all that was said by one person of one item, by number


class Ground(NamedTuple):
    """All that answers are judged against."""

    items: tuple[Record, ...]  # to be judged on
    people: tuple[str, ...]
    labels: tuple[str, ...]
    numbers: Values | None  # of the labels, where they are ordinal
    targets: Answers  # what people said of these items
    history: dict[str, list[Response]]  # what each said of the items that a model may learn from
    near: dict[Key, Response]  # what the person said of the most similar of those
    encode: Encode  # TF-IDF of all items' texts
    attributor: Attributor  # fitted on people's texts of items that are neither judged nor learnt from
    measures: dict[str, Measure]
    edges: dict[tuple[str, str], Values]  # of the bins of a person's style features
    several: bool  # whether a person gave several labels to an item


def make_ground(split: Split, said: Sequence[Response], vectors: str, encode: Encode | None = None) -> Ground:
    """Prepare what answers to the test items are judged against.

    The attributor is fitted on what people said of the dev items: on texts that the generator never saw, and of items
    that are not judged. Fitted on the generator's training texts it takes every copy for the person it is copied from.

    Args:
        split: items in three parts.
        said: people's responses to all of them.
        vectors: what the attributor sees of a text.
        encode: makes vectors of texts, for a further measure of similarity, `embedding`.

    Raises:
        InputError: a part has too little of what is needed.
    """
    part = {record.id: name for name, records in split._asdict().items() for record in records}
    by_part: dict[str, list[Response]] = defaultdict(list)
    for response in said:
        by_part[part[response.record_id]].append(response)
    targets, people = _answers(by_part["test"]), tuple(sorted({response.annotator for response in by_part["test"]}))
    records = [record for records in split for record in records]
    history: dict[str, list[Response]] = {person: [] for person in people}
    for response in by_part["train"]:
        if response.annotator in history:
            history[response.annotator].append(response)
    wanted = first_of(by_part["test"])
    near = zip(wanted, nearest_own(records, by_part["train"], wanted), strict=True)
    labels = _labels(records, said)
    scale = ordinal_scale(labels)
    return Ground(
        items=split.test,
        people=people,
        labels=labels,
        numbers=np.array([scale[label] for label in labels]) if scale else None,
        targets=targets,
        history=history,
        near={(target.record_id, target.annotator): own for target, own in near if own is not None},
        encode=tfidf([input_text(record) for record in sorted(records, key=lambda record: record.id)]),
        attributor=_attributor(by_part["dev"], people, vectors),
        measures=MEASURES | ({} if encode is None else {"embedding": cosine(encode)}),
        edges=_edges(split.test, targets, people),
        several=any(len(answers) > 1 for answers in targets.values()),
    )


def _labels(records: Sequence[Record], said: Sequence[Response]) -> tuple[str, ...]:
    given = {response.label for response in said if response.label is not None}
    stated = dict.fromkeys(label for record in records for label in record.label_set)
    return (*stated, *sorted(given - stated.keys()))


def _answers(responses: Sequence[Response]) -> Answers:
    found: Answers = defaultdict(list)
    for response in sorted(responses, key=lambda response: response.number):
        found[response.record_id, response.annotator].append(response)
    return dict(found)


def _attributor(said: Sequence[Response], people: Sequence[str], vectors: str) -> Attributor:
    known = [response for response in said if response.annotator in people and (response.explanation or "").strip()]
    counts = Counter(response.annotator for response in known)
    for person in people:
        if counts[person] < 2:
            raise InputError(
                f"dev items: {counts[person]} explanations of {person!r}; expected at least 2, to fit the attributor on"
            )
    if len(people) < 2:
        raise InputError(f"test items: expected at least 2 people, got {len(people)}")
    known.sort(key=lambda response: (response.record_id, response.annotator, response.number))
    texts, whose = [response.explanation or "" for response in known], [response.annotator for response in known]
    return fit_attributor(texts, whose, vectors=vectors)


def _edges(items: Sequence[Record], targets: Answers, people: Sequence[str]) -> dict[tuple[str, str], Values]:
    found: dict[tuple[str, str], Values] = {}
    for person in people:
        own = [record for record in items if _text(targets, (record.id, person)) is not None]
        texts = [_text(targets, (record.id, person)) or "" for record in own]
        counted = features(texts, [input_text(record) for record in own], items[0].fields)
        found |= {(person, name): edges_of(values) for name, values in counted.items()}
    return found


def _text(answers: Answers, key: Key) -> str | None:
    """Give the explanation of the first answer; None where there is none or it is empty."""
    said = answers.get(key)
    text = said[0].explanation if said else None
    return text if text and text.strip() else None


# ---------------------------------------------------------------------------------------------------- the panel


class Counted(msgspec.Struct, frozen=True):
    """How many answers there should be, and what became of them."""

    wanted: int  # one for each answer of a person, in every seed
    missing: int  # for which there is none
    unread: int  # of which no label could be read, with an explanation or not
    silent: int  # of which no explanation could be read, with a label or not
    unasked: int  # to items that the person did not answer: not judged
    failures: dict[str, int]  # kind of reason -> answers


def make_panel(ground: Ground, runs: Sequence[Sequence[Response]]) -> tuple[Panel, Counted]:
    """Measure what one system said as everybody.

    Args:
        ground: what it is judged against.
        runs: its responses in each seed. Of several to one item as one person, the first is judged; the further ones
            count for `label_error` alone.

    Raises:
        InputError: a response is of no item to be judged, as nobody known, or stands there twice.
    """
    answered = [_checked(ground, run) for run in runs]
    tables = [_measured(ground, answers) for answers in answered]
    items = len(ground.items)
    panel = Panel(
        items=np.tile(np.arange(items), len(runs)),
        seeds=np.repeat(np.arange(len(runs)), items),
        wanted=np.concatenate([_codes(ground, ground.targets)] * len(runs)),
        given=np.concatenate([_codes(ground, answers) for answers in answered]),
        values={name: np.concatenate([table[name] for table in tables]) for name in tables[0]},
        evidence=np.concatenate([_evidence(ground, answers) for answers in answered]),
        wanted_bins=np.concatenate([_bins(ground, ground.targets)] * len(runs)),
        given_bins=np.concatenate([_bins(ground, answers) for answers in answered]),
    )
    return panel, _counted(ground, runs, answered)


def _checked(ground: Ground, run: Sequence[Response]) -> Answers:
    ids, seen = {record.id for record in ground.items}, set[tuple[str, str, int]]()
    for response in run:
        place = f"response to item {response.record_id!r} as {response.annotator!r}"
        if response.record_id not in ids:
            raise InputError(f"{place}: this is no test item")
        if response.annotator not in ground.people:
            raise InputError(f"{place}: unknown; the people are {', '.join(ground.people)}")
        if (response.record_id, response.annotator, response.number) in seen:
            raise InputError(f"{place}: it stands there twice; several are told apart by `number`")
        seen.add((response.record_id, response.annotator, response.number))
    return {key: said for key, said in _answers(run).items() if key in ground.targets}


def _codes(ground: Ground, answers: Answers) -> Ints:
    """Give the first label of everybody, (items, people); -1 = none, or not one of the labels."""
    places = {label: place for place, label in enumerate(ground.labels)}
    found = np.full((len(ground.items), len(ground.people)), -1, dtype=np.int64)
    for (row, column), key in _cells(ground):
        if key in answers:
            found[row, column] = places.get(answers[key][0].label or "", -1)
    return found


def _cells(ground: Ground) -> list[tuple[tuple[int, int], Key]]:
    return [
        ((row, column), (record.id, person))
        for row, record in enumerate(ground.items)
        for column, person in enumerate(ground.people)
    ]


def _measured(ground: Ground, answers: Answers) -> dict[str, Values]:
    """Give every measure that is a number of one answer, each (items, people)."""
    found = _of_labels(ground, answers)
    spoken = [(place, key) for place, key in _cells(ground) if _text(answers, key) and _text(ground.targets, key)]
    texts = [_text(answers, key) or "" for _, key in spoken]
    targets = [_text(ground.targets, key) or "" for _, key in spoken]
    others = [_others(ground, key) for _, key in spoken]
    columns: dict[str, Values] = {}
    for name, measure in ground.measures.items():
        scores = specificity(measure, texts, targets, others)
        columns |= {name: scores.target, f"{name}_margin": scores.margin, f"{name}_wins": scores.wins}
    places = {record.id: row for row, record in enumerate(ground.items)}
    search = retrieve(
        texts, [input_text(record) for record in ground.items], [places[item] for _, (item, _) in spoken], ground.encode
    )
    columns |= {"mrr": search.reciprocal, "retrieved": search.first, **_copied(ground, spoken, texts)}
    for name, values in columns.items():
        found[name] = _spread(ground, spoken, values)
    for name in ("mrr", "retrieved"):
        found[f"{name}_of_all"] = np.where(_asked(ground), np.nan_to_num(found[name]), nan)
    return found


def _asked(ground: Ground) -> NDArray[np.bool_]:
    """Tell where a person explained: where an answer in their name should have an explanation, too."""
    found = np.zeros((len(ground.items), len(ground.people)), dtype=np.bool_)
    for place, key in _cells(ground):
        found[place] = _text(ground.targets, key) is not None
    return found


def _spread(ground: Ground, spoken: Sequence[tuple[tuple[int, int], Key]], values: Values) -> Values:
    found = np.full((len(ground.items), len(ground.people)), nan)
    for (place, _), value in zip(spoken, values, strict=True):
        found[place] = value
    return found


def _others(ground: Ground, key: Key) -> list[str]:
    item, person = key
    texts = [_text(ground.targets, (item, other)) for other in ground.people if other != person]
    return [text for text in texts if text is not None]


def _of_labels(ground: Ground, answers: Answers) -> dict[str, Values]:
    wanted, given = _codes(ground, ground.targets), _codes(ground, answers)
    same = _agreeing(ground, wanted, given)
    right = np.where(wanted >= 0, (same & (given >= 0)).astype(np.float64), nan)
    # Of answers that can't be read: left out of accuracy, and not right where systems are to be chosen among.
    found = {"right_of_all": right, "unread": np.where(wanted >= 0, given < 0, nan)}
    if ground.several:
        found["label_error"] = np.full(wanted.shape, nan)
        for place, key in _cells(ground):
            one, other = (_label_set(ground, said.get(key, [])) for said in (ground.targets, answers))
            if one and other:
                found["label_error"][place] = label_error(one, other, ground.labels)
    count = len(ground.labels)
    real, imitated = (np.where((wanted >= 0) & (given >= 0), codes, -1) for codes in (wanted, given))
    pair = (shares(real, count), shares(imitated, count))
    for name, apart in (("population_manhattan", manhattan), ("population_jsd", jensen_shannon)):
        found[name] = np.full(wanted.shape, nan)
        found[name][:, 0] = apart(*pair)  # a number of the item, not of a person
    return found


def _agreeing(ground: Ground, wanted: Ints, given: Ints) -> NDArray[np.bool_]:
    """Tell where labels agree in what counts: their sign, where they are ratings on both sides of 0."""
    if not signed(ground):
        return wanted == given
    assert ground.numbers is not None
    signs = np.sign(ground.numbers)
    return signs[wanted] == signs[given]


def signed(ground: Ground) -> bool:
    """Tell whether the labels are ratings on both sides of 0."""
    return ground.numbers is not None and bool(ground.numbers.min() < 0 < ground.numbers.max())


def _label_set(ground: Ground, said: Sequence[Response]) -> set[str]:
    return {response.label or "" for response in said if response.label in ground.labels}


def _copied(
    ground: Ground, spoken: Sequence[tuple[tuple[int, int], Key]], texts: Sequence[str]
) -> Mapping[str, Values]:
    names = ("longest_run", "copied_share", "copied_whole", "nearest_copied")
    found = {name: np.full(len(texts), nan) for name in names}
    for person in ground.people:
        rows = [row for row, (_, (_, whose)) in enumerate(spoken) if whose == person]
        own = [response.explanation or "" for response in ground.history[person]]
        if not own:
            continue
        for name, values in zip(names[:3], copying([texts[row] for row in rows], own), strict=True):
            found[name][rows] = values
        for row in rows:
            found["nearest_copied"][row] = same_text(texts[row], [ground.near[spoken[row][1]].explanation or ""])
    return found


def _evidence(ground: Ground, answers: Answers) -> Values:
    """Give the log-probabilities of who wrote each text, (items, people, people in the order of `Ground.people`)."""
    spoken = [(place, key) for place, key in _cells(ground) if _text(answers, key) and key in ground.targets]
    found = np.full((len(ground.items), len(ground.people), len(ground.people)), nan)
    if spoken:
        vectors = ground.attributor.vectors([_text(answers, key) or "" for _, key in spoken])
        order = [list(ground.attributor.people).index(person) for person in ground.people]
        scores = np.asarray(ground.attributor.log_probabilities(vectors), dtype=np.float64)[:, order]
        for (place, _), row in zip(spoken, scores, strict=True):
            found[place] = row
    return found


def _bins(ground: Ground, answers: Answers) -> Ints:
    """Give the bin of each style feature of each text, (items, people, features); -1 = no text."""
    found = np.full((len(ground.items), len(ground.people), len(FEATURES)), -1, dtype=np.int64)
    for column, person in enumerate(ground.people):
        rows = [row for row, record in enumerate(ground.items) if _text(answers, (record.id, person))]
        texts = [_text(answers, (ground.items[row].id, person)) or "" for row in rows]
        counted = features(texts, [input_text(ground.items[row]) for row in rows], ground.items[0].fields)
        for place, (name, values) in enumerate(counted.items()):
            found[rows, column, place] = np.minimum(binned(values, ground.edges[person, name]), BINS - 1)
    return found


def _counted(ground: Ground, runs: Sequence[Sequence[Response]], answered: Sequence[Answers]) -> Counted:
    failures: Counter[str] = Counter()
    missing = unread = silent = 0
    for answers in answered:
        missing += len(ground.targets.keys() - answers.keys())
        for said in answers.values():
            read = said[0].label is not None and said[0].label in ground.labels
            unread += not read
            silent += not (said[0].explanation or "").strip()
            if said[0].failure is not None or not read:
                why = said[0].failure or ("no label" if said[0].label is None else "a label that is not one")
                failures[why.partition(": ")[0]] += 1
    unasked = sum(len(run) for run in runs) - sum(len(said) for answers in answered for said in answers.values())
    return Counted(len(ground.targets) * len(answered), missing, unread, silent, unasked, dict(failures.most_common()))
