"""People: who is in the data, who opted out, and names that nobody knows them by.

Both work on all that a record says of a person: their annotations and what was derived from them, their judgments of
others' explanations, and lists and notes in `extra` and `meta` that name them. The texts themselves are left alone:
an item's fields, and what others wrote.
"""

import hmac
import os
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from raison.records import Annotation, InputError, Record, open_lines
from raison.sources.common import majority
from raison.sources.explained import PREFIX
from raison.sources.varierr import error_labels

_GONE = object()  # stands for what is left out: None is a value
_AUTHOR = frozenset(
    (
        "annotator",
        "annotator_id",
        "author",
        "completed_by",
        "judge",
        "rater",
        "reviewer",
        "user",
        "user_id",
        "worker_id",
    )
)  # keys beside which a number is a person's name
_NAMED = ("judgments", "idk")  # in the extras of annotations and in `meta`: names, also of people who said nothing else
_SECRET = 16  # characters that a salt has at least: names are few, and a short salt can be found by trying
_DIGITS = 10  # of a pseudonym: 40 bits, so that among 1,000 people two are alike once in two million


def people_of(records: Iterable[Record]) -> dict[str, int]:
    """Give everybody in the data and the number of their annotations, in the order of the names.

    People who only judged others' explanations, or could not say, have none.
    """
    found: dict[str, int] = {}
    for record in records:
        for said in record.annotations:
            if said.annotator is not None:
                name = _person(said.annotator)
                found[name] = found.get(name, 0) + (name == said.annotator)
        for kept in (record.meta, *(said.extra for said in record.annotations)):
            for name in _names_in(kept):
                found.setdefault(name, 0)
    return dict(sorted(found.items(), key=lambda pair: (len(pair[0]), pair[0])))


def _names_in(kept: Mapping[str, Any]) -> Iterable[str]:
    groups = [kept[key] for key in _NAMED if isinstance(kept.get(key), dict | list)]
    return [name for group in groups for name in list(group) if isinstance(name, str)]


def _person(annotator: str) -> str:
    """Name the person behind an annotator: `explanation:NAME` was derived from what NAME wrote."""
    return annotator.removeprefix(PREFIX)


# ------------------------------------------------------------------------------------------------------- opting out


def read_names(given: str | Path | Iterable[str]) -> frozenset[str]:
    """Read who opted out: the path of a file with one name a line, or names.

    Blank lines, and lines that begin with `#`, are no names. A text that is no file is names with commas between.

    Raises:
        InputError: it looks like a path, and there is no such file; or the file is not UTF-8.
    """
    if not isinstance(given, str | Path):
        return frozenset(given)
    if not Path(given).is_file():
        if isinstance(given, Path) or "/" in given or given.endswith((".txt", ".csv", ".list")):
            raise InputError(f"{given}: no such file; expected one name a line, or names with commas between")
        return frozenset(part.strip() for part in given.split(",") if part.strip())
    names: set[str] = set()
    for number, line in open_lines(given):
        try:
            name = line.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise InputError(f"{given}:{number}: not UTF-8 text; expected one name a line") from None
        if not name.startswith("#"):
            names.add(name)
    return frozenset(names)


def opted_out(records: Iterable[Record], people: Collection[str]) -> list[Record]:
    """Give the records as if these people had never taken part.

    Gone are: their annotations, and rationales derived from their explanations; in `extra` and `meta`, at any depth,
    keys and texts that are their name, objects inside which name them (their judgments of others, say), and what is
    empty after that. A record's label that was the majority of the annotations is that of the rest (null on a tie, or
    where nobody is left); so are VariErr's `error_labels`. Items stay, so that published splits keep their meaning.

    A label that only looks like the majority (a gold label that agrees with it) can't be told apart: where nobody else
    labelled the item it goes as well.
    """
    names = frozenset([people] if isinstance(people, str) else people)
    return [_opted_out(record, names) for record in records] if names else list(records)


def _opted_out(record: Record, names: frozenset[str]) -> Record:
    kept = tuple(
        msgspec.structs.replace(said, extra=cleaned(said.extra, names))
        for said in record.annotations
        if said.annotator is None or _person(said.annotator) not in names
    )
    before, after = _labels(record.annotations), _labels(kept)
    recount = len(after) < len(before) and record.label == majority(before)
    return msgspec.structs.replace(
        record,
        annotations=kept,
        label=majority(after) if recount else record.label,
        meta=_meta(record, kept, cleaned(record.meta, names)),
    )


def _labels(annotations: Iterable[Annotation]) -> list[str]:
    """Give the labels that people chose; rationales derived from their explanations have none of their own."""
    return [said.label for said in annotations if said.label is not None and not _derived(said)]


def _derived(said: Annotation) -> bool:
    return said.annotator is not None and said.annotator != _person(said.annotator)


def _meta(record: Record, kept: Sequence[Annotation], meta: dict[str, Any]) -> dict[str, Any]:
    """Count again what was counted over people who have left."""
    judged = any("judgments" in said.extra for said in record.annotations)
    if not judged or len(kept) == len(record.annotations):
        return meta
    wrong = error_labels(kept)
    rest = {name: value for name, value in meta.items() if name != "error_labels"}
    return {**rest, "error_labels": wrong} if wrong else rest


def cleaned(kept: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Give `extra` or `meta` without what names one of the people (see `opted_out`)."""
    found = {key: _cleaned(value, names) for key, value in kept.items() if key not in names}
    return {key: value for key, value in found.items() if value is not _GONE}


def _cleaned(value: Any, names: Collection[str]) -> Any:
    if isinstance(value, str):
        return _GONE if _person(value) in names else value
    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        left = [item for item in (_cleaned(item, names) for item in items) if item is not _GONE]
        return left if left or not items else _GONE
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        if any(_names_author(key, inner, names) for key, inner in fields.items()):
            return _GONE
        left = {key: _cleaned(inner, names) for key, inner in fields.items() if _person(key) not in names}
        left = {key: inner for key, inner in left.items() if inner is not _GONE}
        return left if left or not fields else _GONE
    return value


def _names_author(key: str, value: Any, names: Collection[str]) -> bool:
    """Whether a field says whose an object is; names that are numbers stand as numbers in some files."""
    if isinstance(value, str):
        return _person(value) in names
    return key in _AUTHOR and isinstance(value, int) and not isinstance(value, bool) and str(value) in names


# ------------------------------------------------------------------------------------------------------- pseudonyms


def read_salt(path: str | Path) -> str:
    """Read the secret that pseudonyms are made with; where there is no such file, make one that only we can read.

    Raises:
        InputError: the secret is too short, the file is not UTF-8, or it can't be written.
    """
    place = Path(path)
    try:
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            with open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(f"{secrets.token_hex(32)}\n")
        salt = place.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}; expected a file with a secret") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; expected a file with a secret") from None
    if len(salt) < _SECRET:
        raise InputError(f"{path}: expected a secret of at least {_SECRET} characters, found {len(salt)}")
    return salt


def pseudonyms(people: Iterable[str], salt: str) -> dict[str, str]:
    """Give each name another that can't be led back to it without the salt: `p-` and ten hexadecimal digits.

    The same name and salt give the same pseudonym in every file (HMAC-SHA-256), so data of several sources still fit
    together. Whoever has the salt can find a person by trying names: keep it apart from what you publish.

    Raises:
        InputError: two names have one pseudonym, or the salt is too short to keep a secret.
    """
    if len(salt) < _SECRET:
        raise InputError(f"pseudonyms: expected a salt of at least {_SECRET} characters, found {len(salt)}")
    given = {name: f"p-{hmac.digest(salt.encode(), name.encode(), 'sha256').hex()[:_DIGITS]}" for name in people}
    if len(set(given.values())) < len(given):
        raise InputError("pseudonyms: two names have the same pseudonym with this salt; take another salt")
    return given


def renamed(records: Sequence[Record], names: Mapping[str, str]) -> list[Record]:
    """Give the records with people under other names, wherever `opted_out` would find them.

    Annotations, judgments and lists of names come in the order of the new names, since their old order may tell who is
    who. People that are not in `names` keep theirs.
    """
    return [
        msgspec.structs.replace(
            record,
            annotations=tuple(
                sorted(
                    (_renamed_annotation(said, names) for said in record.annotations),
                    key=lambda said: (said.annotator is None, said.annotator or ""),
                )
            ),
            meta=_renamed(record.meta, names),
        )
        for record in records
    ]


def _renamed_annotation(said: Annotation, names: Mapping[str, str]) -> Annotation:
    name = None if said.annotator is None else _new_name(said.annotator, names)
    return msgspec.structs.replace(said, annotator=name, extra=_renamed(said.extra, names))


def _new_name(annotator: str, names: Mapping[str, str]) -> str:
    person = _person(annotator)
    return annotator.removesuffix(person) + names.get(person, person)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _new_name(value, names) if _person(value) in names else value
    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        new = [_renamed(item, names) for item in items]
        are_names = any(isinstance(item, str) and item in names for item in items)
        return sorted(new, key=str) if are_names else new
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        new_fields = {
            _renamed(key, names): names.get(str(inner), inner)
            if key in _AUTHOR and isinstance(inner, int)
            else _renamed(inner, names)
            for key, inner in fields.items()
        }
        return dict(sorted(new_fields.items())) if any(key in names for key in fields) else new_fields
    return value
