"""Splits: items parted into train, dev and test, published as ids and hashes, and looked through for leaks.

A part holds whole items, with all that everybody said of them. A split file has no texts: it can be published where the
data can't, and whoever has the data gets the same parts from it, or one line that says why not.
"""

import hashlib
import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import msgspec

from raison.records import InputError, Record, write_json

SIZES = (300, 100, 100)
PARTS = ("train", "dev", "test")
GRAM = 5  # characters in a row, of which near duplicates share most
NEAR = 0.8  # least share of them (Jaccard)


class Split(NamedTuple):
    """Items in three parts, in the order of the data."""

    train: tuple[Record, ...]
    dev: tuple[Record, ...]
    test: tuple[Record, ...]


def split_items(
    records: Sequence[Record],
    sizes: tuple[int, int, int] = SIZES,
    seed: int = 13,
    together: Collection[str] = (),
) -> Split:
    """Part items at random, each part in the order of the data; the same ids are parted alike in any order.

    Args:
        records: of distinct ids.
        sizes: of train, dev and test. If there are fewer or more records, the parts keep these proportions.
        seed: of the draw.
        together: fields; items that have the same text in one of them (`normalised`) go to the same part, such as the
            hypotheses of one premise. Sizes are then met as nearly as the groups allow.

    Raises:
        InputError: there are fewer than three records, an id stands twice, a size is negative or all are 0, there is no
            such field, or nothing is left for dev or test.
    """
    ids = _checked_ids(records, sizes, together)
    groups = _groups(records, together)
    drawn = sorted({min(group) for group in groups.values()}, key=lambda name: _draw(seed, name))
    train, dev, _ = _proportions(sizes, len(ids))
    parts: tuple[set[str], set[str], set[str]] = (set(), set(), set())
    before = 0  # items that were drawn before this group
    for name in drawn:
        middle = before + len(groups[name]) / 2
        parts[0 if middle < train else 1 if middle < train + dev else 2].update(groups[name])
        before += len(groups[name])
    for name, size, part in zip(PARTS, sizes, parts, strict=True):
        if size and not part:
            raise InputError(f"split: no item is left for {name}; too many have the same {' or '.join(together)}")
    return Split(*(tuple(record for record in records if record.id in part) for part in parts))


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode()).digest()


def _checked_ids(records: Sequence[Record], sizes: tuple[int, int, int], together: Collection[str]) -> list[str]:
    if len(records) < len(PARTS):
        raise InputError(f"split: expected at least 3 items, got {len(records)}")
    if min(sizes) < 0 or not sum(sizes):
        raise InputError(f"split: sizes {', '.join(map(str, sizes))}: expected none below 0, and not all 0")
    ids = [record.id for record in records]
    twice = next((name for name, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"split: id {twice!r} stands in the data twice")
    for field in together:
        if field not in records[0].fields:
            raise InputError(f"split: no field {field!r}; there are {', '.join(records[0].fields)}")
    return ids


def _proportions(sizes: tuple[int, int, int], n: int) -> tuple[int, int, int]:
    """Scale sizes to n items; a part that is asked for gets at least one of three or more."""
    whole = sum(sizes)
    dev, test = (size if whole == n else max(1, round(n * size / whole)) if size else 0 for size in sizes[1:])
    while dev + test > n - min(sizes[0], 1):
        dev, test = (dev - 1, test) if dev > test else (dev, test - 1)
    return n - dev - test, dev, test


def _groups(records: Sequence[Record], together: Collection[str]) -> dict[str, list[str]]:
    """Give each id the ids that must be in its part: those with which it is linked by the same texts."""
    groups = {record.id: [record.id] for record in records}
    for field in together:
        first: dict[str, str] = {}
        for record in records:
            one = groups[first.setdefault(normalised(record.fields[field]), record.id)]
            other = groups[record.id]
            if one is not other:
                one.extend(other)
                groups.update(dict.fromkeys(other, one))
    return groups


# -------------------------------------------------------------------------------------------------------- published


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """A split as it stands on disk."""

    split: int  # version of this form
    seed: int | None
    together: tuple[str, ...]
    hash: str  # of all ids and hashes below
    parts: dict[str, dict[str, str]]  # part -> id -> hash of the item's texts


def text_hash(record: Record) -> str:
    """Give 16 hexadecimal digits of the SHA-256 of an item's texts, field by field, white space as single spaces.

    What people said of the item is no part of it: who opts out, or is renamed, changes no hash.
    """
    texts = [[name, " ".join(text.split())] for name, text in record.fields.items()]
    return hashlib.sha256(msgspec.json.encode(texts)).hexdigest()[:16]


def write_split(path: str | Path, split: Split, seed: int | None = None, together: Collection[str] = ()) -> None:
    """Write the ids of a split with the hashes of their texts, and how it was drawn; no texts and no people."""
    parts = {name: {record.id: text_hash(record) for record in part} for name, part in zip(PARTS, split, strict=True)}
    file = _File(1, seed, tuple(together), _hash_of(parts), parts)
    write_json(path, cast("dict[str, object]", msgspec.to_builtins(file)))


def read_split(path: str | Path, records: Sequence[Record]) -> Split:
    """Part records as a split file says.

    Raises:
        InputError: the file is missing, no split file, or was changed; or the records are not those it was written for:
            an item is missing, has other texts, or is in no part.
    """
    try:
        file = msgspec.json.decode(Path(path).read_bytes(), type=_File)
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}; expected a split file") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not a split file as `raison annotators split` writes it: {reason}") from None
    if file.split != 1 or tuple(file.parts) != PARTS:
        raise InputError(f"{path}: field `parts`: expected {', '.join(PARTS)} in a split file of version 1")
    if _hash_of(file.parts) != file.hash:
        raise InputError(
            f"{path}: field `hash`: does not fit the ids and hashes; the file was changed after it was made"
        )
    _compare(path, file.parts, records)
    return Split(*(tuple(record for record in records if record.id in file.parts[name]) for name in PARTS))


def _hash_of(parts: dict[str, dict[str, str]]) -> str:
    lines = sorted(f"{part} {name} {texts}" for part, hashes in parts.items() for name, texts in hashes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _compare(path: str | Path, parts: dict[str, dict[str, str]], records: Sequence[Record]) -> None:
    wanted = {name: texts for hashes in parts.values() for name, texts in hashes.items()}
    given = {record.id: text_hash(record) for record in records}
    if sum(map(len, parts.values())) > len(wanted):
        raise InputError(f"{path}: field `parts`: an item stands in two parts")
    for ids, what in (
        ([name for name in wanted if name not in given], "of the split is not in the data"),
        ([name for name in wanted if name in given and given[name] != wanted[name]], "has other texts in the data"),
        ([name for name in given if name not in wanted], "of the data is in no part"),
    ):
        if ids:
            more = f" ({len(ids):,} such items)" if len(ids) > 1 else ""
            raise InputError(f"{path}: made for other data: item {ids[0]!r} {what}{more}")


# ------------------------------------------------------------------------------------------------------------ leaks


class Leak(msgspec.Struct, frozen=True):
    """Something of one item that stands in another part as well."""

    kind: str  # text, near, FIELD (the same text in this field), or explanation
    part: str
    record_id: str
    other_part: str
    other_id: str
    annotator: str | None = None  # whose explanation it is
    similarity: float = 1.0  # of the texts


def normalised(text: str) -> str:
    """Give a text as it is compared: NFKC, no case, letters and digits only, single spaces between words."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in plain).split())


def split_leaks(split: Split) -> list[Leak]:
    """Find what of an item stands in an earlier part, too; each item of dev and test at most once for each kind.

    - `text`: an item whose texts are the same in every field, `normalised`.
    - `near`: one whose texts are nearly the same in every field: of the sets of 5 characters in a row at least 80 % are
      shared (Jaccard). All pairs are compared; a prefix filter (Bayardo et al. 2007) spares those that can't be.
    - the name of a field, where there are several: one that has the same text in it, such as a premise.
    - `explanation`: an explanation of the item, which somebody gave, word for word (`normalised`), of an item of train.
    """
    placed = [(name, record) for name, part in zip(PARTS, split, strict=True) for record in part]
    keys: dict[str, Callable[[Record], str]] = {"text": lambda record: "\n".join(_texts(record))}
    fields = list(placed[0][1].fields) if placed else []
    keys |= {field: _field_key(field) for field in fields if len(fields) > 1}
    same = {kind: [*_same(kind, placed, key)] for kind, key in keys.items()}
    whole = {leak.record_id for leak in same["text"]}
    near = [leak for leak in _near(placed, fields) if leak.record_id not in whole]
    partly = [leak for field in fields for leak in same.get(field, ()) if leak.record_id not in whole]
    return [*same["text"], *near, *partly, *_copied(split)]


def leak_lines(leaks: Iterable[Leak]) -> list[str]:
    """Say in a line for each kind and part how many items leak, with an example; nothing leaks: no line."""
    groups: dict[tuple[str, str], list[Leak]] = defaultdict(list)
    for leak in leaks:
        groups[leak.kind, leak.part].append(leak)
    return [_line(kind, part, found) for (kind, part), found in groups.items()]


def _line(kind: str, part: str, found: list[Leak]) -> str:
    first = found[0]
    such = f"such as {first.record_id!r} and {first.other_id!r}"
    if kind == "explanation":
        people = Counter(leak.annotator for leak in found).most_common(5)
        names = ", ".join(f"{name} {count:,}" for name, count in people)
        return f"explanations of {part} items that stand in train word for word: {len(found):,} ({names}), {such}"
    parts = " or ".join(sorted({leak.other_part for leak in found}))
    what = {"text": f"with the texts of an item of {parts}", "near": f"that are nearly those of {parts}"}
    told = what.get(kind, f"with the {kind} of an item of {parts}")
    return f"{part} items {told}: {len(found):,}, {such}"


def _field_key(field: str) -> Callable[[Record], str]:
    return lambda record: normalised(record.fields[field])


def _texts(record: Record) -> list[str]:
    return [normalised(text) for text in record.fields.values()]


def _same(kind: str, placed: list[tuple[str, Record]], key: Callable[[Record], str]) -> Iterator[Leak]:
    first: dict[str, tuple[str, str]] = {}
    for part, record in placed:
        value = key(record)
        other = first.setdefault(value, (part, record.id))
        if value.strip() and other[0] != part:
            yield Leak(kind, part, record.id, *other)


def _copied(split: Split) -> Iterator[Leak]:
    train: dict[str, str] = {}
    for record in split.train:
        for said in record.annotations:
            if said.explanation and (words := normalised(said.explanation)):
                train.setdefault(words, record.id)
    for part, records in zip(PARTS[1:], split[1:], strict=True):
        for record in records:
            for said in record.annotations:
                source = train.get(normalised(said.explanation)) if said.explanation else None
                if source is not None:
                    yield Leak("explanation", part, record.id, "train", source, said.annotator)


def _near(placed: list[tuple[str, Record]], fields: list[str]) -> Iterator[Leak]:
    """Find near duplicates across parts.

    Two sets share at least a share t (Jaccard) only if they share one of the rarest |s| - ceil(t |s|) + 1 of either: so
    only items that meet there are compared. They are looked up by the field with the most different texts.
    """
    grams = [{field: _grams(normalised(record.fields[field])) for field in fields} for _, record in placed]
    telling = max(fields, key=lambda field: len({record.fields[field] for _, record in placed}), default="")
    counts = Counter(gram for sets in grams for gram in sets[telling]) if telling else Counter[str]()
    met: dict[str, list[int]] = defaultdict(list)
    for index, (part, record) in enumerate(placed):
        rare = sorted(grams[index][telling], key=lambda gram: (counts[gram], gram))
        prefix = rare[: len(rare) - math.ceil(NEAR * len(rare) - 1e-9) + 1]
        candidates = sorted({other for gram in prefix for other in met[gram] if placed[other][0] != part})
        best = max(((_similarity(grams[index], grams[other]), -other) for other in candidates), default=(0.0, 0))
        if best[0] >= NEAR:
            other_part, other = placed[-best[1]]
            yield Leak("near", part, record.id, other_part, other.id, similarity=best[0])
        for gram in prefix:
            met[gram].append(index)


def _grams(text: str) -> frozenset[str]:
    return frozenset(text[at : at + GRAM] for at in range(max(1, len(text) - GRAM + 1)) if text)


def _similarity(one: dict[str, frozenset[str]], other: dict[str, frozenset[str]]) -> float:
    """Give the smallest share over the fields; two empty texts are the same."""
    unions = {field: len(one[field] | other[field]) for field in one}
    return min(len(one[field] & other[field]) / union if union else 1.0 for field, union in unions.items())
