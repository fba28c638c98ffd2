"""From what a reply names to words on the grid, with a count of everything that did not come out as it should."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from functools import cached_property
from typing import Literal

import msgspec
import numpy as np

from raison.prompting.parse import UNREADABLE, Items
from raison.prompting.wording import letters, nearly, normalise
from raison.records import InputError, Record
from raison.words import Mask, WordGrid

Repeats = Literal["all", "first", "consume"]
REPEATS = ("all", "first", "consume")
FUZZY = 5  # letters a word must have before one of them may be wrong


class Matched(msgspec.Struct, frozen=True, eq=False):
    """The words that a reply names, and what came of its items: items = matched + partial + hallucinated + from_prompt.

    A reply with a failure has no words and no items.
    """

    words: dict[str, Mask]  # field -> (words,) boolean
    failure: str | None = None
    how: str | None = None  # see `Items`
    cut: bool = False  # see `Items`
    items: int = 0  # how many the reply names; of marked text, each marked word is one
    matched: int = 0  # stand in the text, whole or word by word
    partial: int = 0  # some of their words do
    hallucinated: int = 0  # stand neither in the text nor in the prompt
    from_prompt: int = 0  # stand in the instruction or the labels, not in the text
    fuzzy: int = 0  # of matched and partial: have a word that was found with one letter wrong
    over: int = 0  # words named beyond the budget
    under: int = 0  # words short of the budget

    @property
    def counts(self) -> dict[str, int]:
        """Every count by its name."""
        return {name: getattr(self, name) for name in COUNTS}


COUNTS = ("items", "matched", "partial", "hallucinated", "from_prompt", "fuzzy", "over", "under")


def match(
    items: Items,
    record: Record,
    grid: WordGrid,
    *,
    prompt: Sequence[str] = (),
    fields: Sequence[str] | None = None,
    budget: int | None = None,
    repeats: Repeats = "all",
    fuzzy: bool = False,
) -> Matched:
    """Find what a reply names in the words of a record.

    An item is looked for as neighbouring words of one field: equal without case and the punctuation around them; else
    with the same letters, wherever spaces and punctuation stand (`don't` is `do n't`); else word by word; else, if
    `fuzzy`, with one letter wrong in words of five letters or more. An item that a reply puts under the name of a field
    is looked for there first. A number means the word shown with it, counted from 1 over the fields. A text written
    out again is laid beside the record's words in order.

    Over the budget, the first words that the reply names are kept, and of a word that stands in the text several times
    its first place counts before any other; under the budget nothing is added.

    Args:
        items: what `read_reply` gave.
        record: the record.
        grid: its words.
        prompt: what else the model read: the instruction and the labels.
        fields: where words may be chosen; default: all.
        budget: how many words may be chosen; None = any number.
        repeats: which places a word that stands in the text several times means: `all`, the `first`, or as many of the
            first as it is named (`consume`).
        fuzzy: allow one wrong letter.

    Raises:
        InputError: `repeats` is unknown, or a field is not the record's.
    """
    allowed = _allowed(record, fields, repeats)
    none = {name: np.zeros(size, dtype=np.bool_) for name, size in zip(grid.words, grid.sizes, strict=True)}
    if items.failure:
        return Matched(none, items.failure, items.how, items.cut)
    search = _Search(record, grid, allowed, prompt, repeats, fuzzy)
    if items.marked is not None:
        if not any(items.marked) and not search.is_copy(items.said):
            return Matched(none, UNREADABLE, None, items.cut)
        search.align(items.said, items.marked)
    else:
        for said, under in zip(items.said, items.under, strict=True):
            search.number(said) if items.form == "numbers" else search.item(said, under)
    order = list(dict.fromkeys([*search.named, *search.further]))
    kept = order if budget is None else order[:budget]
    mask = np.zeros(len(grid), dtype=np.bool_)
    mask[kept] = True
    over = 0 if budget is None else max(0, len(dict.fromkeys(search.named)) - budget)
    under = 0 if budget is None else max(0, budget - len(kept))
    found = {name: search.counts[name] for name in COUNTS[:6]}
    return Matched(grid.split(mask), None, items.how, items.cut, **found, over=over, under=under)


def _allowed(record: Record, fields: Sequence[str] | None, repeats: str) -> tuple[str, ...]:
    if repeats not in REPEATS:
        raise InputError(f"unknown repeats {repeats!r}; expected one of {', '.join(REPEATS)}")
    for name in fields or ():
        if name not in record.fields:
            raise InputError(f"record {record.id!r} has no field {name!r}; it has {', '.join(record.fields)}")
    return tuple(name for name in record.fields if fields is None or name in fields)


class _Words:
    """Neighbouring words to look for items in; `first` is the place of the first of them on the flat axis."""

    def __init__(self, words: Sequence[str], first: int = 0) -> None:
        self.first = first
        self.normal = [normalise(word) for word in words]
        bare = [letters(word) for word in words]
        self.joined = "".join(bare)
        ends = np.cumsum([0, *map(len, bare)]).tolist()
        self.starts = {ends[i]: i for i, part in enumerate(bare) if part}
        self.ends = {ends[i + 1]: i + 1 for i, part in enumerate(bare) if part}

    def find(self, said: str) -> list[range]:
        """Give every place of an item, as flat indices."""
        wanted = [normalise(word) for word in said.split()]
        size = len(wanted)
        exact = [
            i for i, word in enumerate(self.normal) if wanted[:1] == [word] and self.normal[i : i + size] == wanted
        ]
        found = [range(i, i + size) for i in exact] or list(self._same_letters(letters(said)))
        return [range(self.first + place.start, self.first + place.stop) for place in found]

    def _same_letters(self, wanted: str) -> Iterator[range]:
        position = self.joined.find(wanted) if wanted else -1
        while position >= 0:
            if position in self.starts and position + len(wanted) in self.ends:
                yield range(self.starts[position], self.ends[position + len(wanted)])
            position = self.joined.find(wanted, position + 1)

    def nearest(self, said: str) -> list[range]:
        """Give the places of the first word that has at most one letter wrong."""
        wanted = letters(said)
        if len(wanted) < FUZZY:
            return []
        close = (word for word in self.normal if len(word) >= FUZZY and nearly(letters(word), wanted))
        word = next(close, None)
        return self.find(word) if word else []


class _Search:
    """One reply's search through one record: the places found so far, and the counts."""

    def __init__(  # noqa: PLR0917
        self,
        record: Record,
        grid: WordGrid,
        allowed: Sequence[str],
        prompt: Sequence[str],
        repeats: Repeats,
        fuzzy: bool,
    ) -> None:
        self.repeats, self.fuzzy = repeats, fuzzy
        self.named: list[int] = []  # one place for each word that the reply names, in its order
        self.further: list[int] = []  # the other places of those words
        self.counts: Counter[str] = Counter()
        self.mentions: Counter[str] = Counter()
        self.fields: dict[str, _Words] = {}
        self.shown: list[int] = []  # flat index of the words that may be chosen
        self.words: list[str] = []  # and these words
        first = 0
        for (name, spans), text in zip(grid.words.items(), record.fields.values(), strict=True):
            if name in allowed:
                words = [text[start:end] for start, end in spans]
                self.fields[name] = _Words(words, first)
                self.shown += range(first, first + len(spans))
                self.words += words
            first += len(spans)
        self._prompt = prompt

    @cached_property
    def prompt(self) -> list[_Words]:
        """The words of the prompt, with punctuation and without."""
        return [_Words(words) for text in self._prompt for words in (text.split(), re.findall(r"\w+", text))]

    # --------------------------------------------------------------------------------------------- words

    def item(self, said: str, under: str | None = None) -> None:
        """Look for an item as it is, then word by word."""
        words = [said]
        found = [self._places(said, under, fuzzy=False)]
        if not found[0]:
            words = [word for word in re.split(r"[\s,;/|、،，]+", said) if word]
            found = [self._places(word, under, fuzzy=self.fuzzy) for word in words]
        for word, places in zip(words, found, strict=True):
            self._take(word, places)
        self._count(said, [bool(places) for places in found])

    def _places(self, said: str, under: str | None, fuzzy: bool) -> list[range]:
        """Give the places of a phrase or word, in the field it is named under where it is there."""
        for exact in (True, False) if fuzzy else (True,):
            per_field = {
                name: words.find(said) if exact else words.nearest(said) for name, words in self.fields.items()
            }
            places = per_field.get(under or "") or [place for found in per_field.values() for place in found]
            if places:
                self.counts["_fuzzy"] += not exact
                return places
        return []

    def _take(self, said: str, places: Sequence[range]) -> None:
        """Note the places that a mention means: one as named, the others after all that is named."""
        if not places:
            return
        key = normalise(said)
        mention = min(self.mentions[key], len(places) - 1) if self.repeats == "consume" else 0
        self.mentions[key] += 1
        self.named += places[mention]
        if self.repeats == "all":
            self.further += (index for place in places for index in place)

    def _count(self, said: str, found: Sequence[bool]) -> None:
        fuzzy = self.counts.pop("_fuzzy", 0)
        self.counts["items"] += 1
        self.counts["fuzzy"] += bool(fuzzy)
        if any(found):
            self.counts["matched" if all(found) else "partial"] += 1
        else:
            self.counts["from_prompt" if any(words.find(said) for words in self.prompt) else "hallucinated"] += 1

    # ------------------------------------------------------------------------------------------- numbers

    def number(self, said: str) -> None:
        """Take the word of a number, or of each number of a range; an item with the word beside it may have both."""
        spoken = re.fullmatch(r"\D*?(\d{1,6})(?:\.0+)?\s*(?:(?:-|–|—|to|\.\.+)\s*(\d{1,6}))?(\D*)", said)
        if not spoken:
            self.item(said)
            return
        first, last = int(spoken[1]), int(spoken[2] or spoken[1])
        beside = letters(re.sub(r"[\d.]+", " ", said)) if spoken[2] is None else ""
        if beside and not self._is(first, beside) and self._places(_without_digits(said), None, fuzzy=False):
            self.item(_without_digits(said))
            return
        inside = list(range(max(first, 1), min(last, len(self.shown)) + 1))
        self.named += [self.shown[n - 1] for n in inside]
        self._count("", [True] * bool(inside) + [False] * (len(inside) < max(last - first + 1, 1)))

    def _is(self, number: int, beside: str) -> bool:
        """Whether the word shown with a number is the one that stands beside it."""
        return 1 <= number <= len(self.words) and letters(self.words[number - 1]) == beside

    # --------------------------------------------------------------------------------------- marked text

    def align(self, said: Sequence[str], marked: Sequence[bool]) -> None:
        """Lay a text written out again beside the words; a marked word without a place is looked for as an item."""
        place = self._beside(said)
        for index, (word, chosen) in enumerate(zip(said, marked, strict=True)):
            if chosen and index in place:
                self.named.append(place[index])
                self._count(word, [True])
            elif chosen:
                self.item(word)

    def _beside(self, said: Sequence[str]) -> Mapping[int, int]:
        """Give index in the reply -> flat index, for the words that both have in the same order."""
        ours, theirs = ([letters(word) or word for word in words] for words in (self.words, said))
        blocks = SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks()
        return {b + step: self.shown[a + step] for a, b, size in blocks for step in range(size)}

    def is_copy(self, said: Sequence[str]) -> bool:
        """Whether most of the record's words are written out again, so that no mark means no word."""
        return bool(self.words) and 2 * len(self._beside(said)) > len(self.words)


def _without_digits(text: str) -> str:
    return re.sub(r"\d+", " ", text).strip(" .:()[]-#")
