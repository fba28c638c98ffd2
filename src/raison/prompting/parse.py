"""From a reply to what it names: words, numbers of words, or the text with marks in it.

A reply is read by rules alone, in a fixed order, and what cannot be read is a stated failure: no reply is sent to a
second model to be mended. `read_reply` never raises, whatever the text. What it gives is looked for in the record by
`raison.prompting.match`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import msgspec

from raison.prompting.values import kept, leaves
from raison.prompting.wording import REFUSAL, field_of, letters, normalise
from raison.rationales import REFUSED
from raison.words import Segmenter, whitespace_words, words_in_spans

Form = Literal["json", "numbers", "marked"]
Said = list[tuple[str, str | None]]  # what is named, and the field it is named under

EMPTY, CUT, UNREADABLE = "empty reply", "cut off", "no list found"  # with REFUSED all the failures there are
TRIES = 64  # places in a reply where a list may begin
LONGEST = 6  # words of an item that stands in no brackets, quotation marks or bullets: more are a sentence


class Items(msgspec.Struct, frozen=True):
    """What a reply names, in its order, before it is looked for in the record."""

    form: Form  # what was asked for
    said: tuple[str, ...] = ()  # marked: every word of the text as it was written out again
    under: tuple[str | None, ...] = ()  # the field that the reply names each under; None = it names none
    marked: tuple[bool, ...] | None = None  # of a text written out again: which words are marked
    how: str | None = None  # how it was read: json, brackets, lines, commas, quotes, digits, marks, none
    failure: str | None = None  # why nothing could be read
    cut: bool = False  # the reply or its list has no end; what was complete is here


def read_reply(
    text: str | None,
    form: Form = "json",
    *,
    fields: Sequence[str] = (),
    marks: tuple[str, str] = ("**", "**"),
    segment: Segmenter = whitespace_words,
    cut: bool = False,
) -> Items:
    """Read what a reply names.

    Lists are looked for as JSON (anywhere in the reply, nested, as objects), in brackets, as bullets or lines, between
    commas, in quotation marks, in this order; the first that is found counts. An empty list is an answer. What a
    reasoning model thinks aloud (up to `</think>`) is not read.

    Args:
        text: the reply; None is an empty one.
        form: what was asked for: a `json` list of words, the `numbers` of words, or the text `marked`.
        fields: the record's fields, by which a reply may group its words.
        marks: what was to stand before and after a marked word; other usual marks are known too.
        segment: how texts are cut into words.
        cut: the reply was ended by its length: an item that may be incomplete is left out.
    """
    answer = read_spoken(text or "")
    if not answer.strip():
        return Items(form, failure=CUT if cut else EMPTY, cut=cut)
    shown = _marked(answer, marks, segment, cut) if form == "marked" else None
    if shown and shown.marked and any(shown.marked):
        return shown
    names = {normalise(said): name for name in fields for said in (name, name.replace("_", " "))}
    found = _listed(answer, form, names, cut)
    if found:
        how, said, unclosed = found
        items, under = zip(*said, strict=True) if said else ((), ())
        return Items(form, items, under, how=how, cut=cut or unclosed)
    if REFUSAL.search(answer[:300]):
        return Items(form, failure=REFUSED, cut=cut)
    return shown or Items(form, failure=CUT if cut else UNREADABLE, cut=cut)


def read_spoken(text: str) -> str:
    """Leave out what a model thinks before it answers, and the boxes of a list of tasks."""
    _, _, answer = text.rpartition("</think>")
    if answer.lstrip().startswith("<think>"):
        return ""
    return re.sub(r"(?m)^(\s*[-*+]\s+)\[[ xX]?\][ \t]+(?=\S)", r"\1", answer)


def _listed(text: str, form: Form, fields: Mapping[str, str], cut: bool) -> tuple[str, Said, bool] | None:
    """Give (how it was read, what was named, whether the list has no end); None where there is no list."""
    found, unclosed = _json(text, form, fields)
    if found is not None:
        return "json", found, unclosed
    if form == "marked":
        return None  # commas, quotes and brackets may be the text's own
    found = _brackets(text, form)
    if found is not None:
        return "brackets", found, False
    found = _unclosed(text, cut)
    if found is not None:
        return "brackets", found, True
    return None if REFUSAL.search(text[:300]) else _listed_bare(text, form, fields, cut)


def _listed_bare(text: str, form: Form, fields: Mapping[str, str], cut: bool) -> tuple[str, Said, bool] | None:
    """Read a list that stands in no brackets."""
    if normalise(text) in ("none", "nothing", "no words", "n/a", "empty", "empty list"):
        return "none", [], False
    ways = {"lines": _lines(text, form, fields, cut), "commas": _commas(text, cut), "quotes": _plain(_quoted(text))}
    if form == "numbers":
        ways = {"lines": ways["lines"], "digits": _digits(text, cut), "quotes": ways["quotes"]}
    for how, said in ways.items():
        if said and not _is_json(text):
            return how, said, False
    numbers, _ = _json(text, "numbers", fields)  # asked for words, answered with numbers alone
    return ("json", numbers, False) if numbers else None


def _plain(items: Sequence[str]) -> Said:
    return [(item, None) for item in items]


# ------------------------------------------------------------------------------------------------------- JSON

_DECODER = json.JSONDecoder()
_OPENING = re.compile(r"[\[{]")


def _json(text: str, form: Form, fields: Mapping[str, str]) -> tuple[Said | None, bool]:
    """Read the first list or object of JSON; further objects, and lists under the name of a field, go with it.

    The second value says that a further list has no end; what is complete in it is there.
    """
    found: Said | None = None
    position = end = 0
    for _ in range(TRIES):
        opening = _OPENING.search(text, position)
        if not opening:
            break
        start = opening.start()
        try:
            value, position = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            position = start + 1
            continue
        under = _field_before(text[:start], fields)
        if found is not None and isinstance(value, list) and under is None:
            return found, False
        part = _answer_in(value, form, fields, under)
        if part is not None:
            found, end = (found or []) + part, position
    rest = _unclosed(text[end:], cut=False) if found is not None else None
    under = _field_before(text[: end + max(0, text[end:].find("["))], fields)
    if found is None or not rest or under is None:
        return found, False
    return found + [(item, under) for item, _ in rest], True


def _is_json(text: str) -> bool:
    """Whether the whole reply is a list or an object of JSON, in a fence or not."""
    inside = re.sub(r"^```\w*|```$", "", text.strip()).strip()
    try:
        return inside[:1] in ("[", "{") and _DECODER.raw_decode(inside)[1] == len(inside)
    except (ValueError, RecursionError):
        return False


def _field_before(text: str, fields: Mapping[str, str]) -> str | None:
    """Give the field whose name stands right before a list."""
    line = (text[-80:].rstrip(" \n\"'*_:=`“”").splitlines() or [""])[-1]
    return next((name for key, name in fields.items() if key and normalise(line[-len(name) :]) == key), None)


def _answer_in(value: Any, form: Form, fields: Mapping[str, str], under: str | None) -> Said | None:
    """Give what a JSON value names; None where it is no answer (numbers for words, a label alone)."""
    said = list(leaves(value, fields, under))
    if said:
        return said if form == "numbers" or any(letters(item).strip("0123456789.") for item, _ in said) else None
    parts = [value] if isinstance(value, list) else [part for _, part in kept(value, fields)]
    return [] if any(part is None or isinstance(part, list) for part in parts) else None


# ---------------------------------------------------------------------------------------------- lists in brackets

_QUOTE = (
    r"\"((?:[^\"\\\n]|\\.){0,300})\"|“([^”\"\n]{0,300})[”\"]|„([^“”\"\n]{0,300})[“”\"]|«([^»\n]{0,300})»"
    r"|「([^」\n]{0,300})」|『([^』\n]{0,300})』|`{1,3}([^`\n]{1,300})`{1,3}|\*\*([^*\n]{1,300})\*\*"
    r"|(?<!\w)['‘]((?:[^'’\n]|(?<=\w)['’](?=\w)){1,300})['’](?!\w)"
)
_QUOTED = re.compile(_QUOTE)
_COMMAS = re.compile(r"[,;，、；،؛\n]")


def _quoted(text: str) -> list[str]:
    """Give what stands in quotation marks, backticks or bold type; keys of objects only where nothing else does."""
    found = [(match[match.lastindex or 0], match.end()) for match in _QUOTED.finditer(text)]
    found = [(item.replace('\\"', '"'), end) for item, end in found if item.strip()]
    values = [item for item, end in found if not re.match(r"\s*:", text[end : end + 20])]
    return values or [item for item, _ in found]


def _brackets(text: str, form: Form) -> Said | None:
    """Read the first balanced list in brackets that holds words (or numbers, where they were asked for)."""
    for start, end in _balanced(text)[:TRIES]:
        inside = text[start + 1 : end].replace("[", " ").replace("]", " ")
        items = _quoted(inside) or [part.strip() for part in _COMMAS.split(inside) if part.strip()]
        if not items or form == "numbers" or any(letters(item).strip("0123456789.") for item in items):
            return _plain(items)
    return None


def _balanced(text: str) -> list[tuple[int, int]]:
    """Give (opening, closing) of every bracket that is closed, in the order of the openings."""
    opened: list[int] = []
    pairs: list[tuple[int, int]] = []
    for bracket in re.finditer(r"[\[\]]", text):
        if bracket[0] == "[":
            opened.append(bracket.start())
        elif opened:
            pairs.append((opened.pop(), bracket.start()))
    return sorted(pairs)


def _unclosed(text: str, cut: bool) -> Said | None:
    """Read what is complete in a list that is never closed; bare words only where the reply is known to be cut."""
    start = text.find("[")
    if start < 0:
        return None
    inside = text[start + 1 :]
    bare = _COMMAS.split(inside)[:-1] if cut and not re.search(r"[\"“'‘]", inside) else []
    return _plain(_quoted(inside) or [part.strip() for part in bare if part.strip()]) or None


# ------------------------------------------------------------------------------------------- lists without brackets

_BULLET = re.compile(r"\s*(?:[-*+•‣◦·–—]\s+|\(?\d{1,3}(?:[.):]\s+|[、）])|\(?[a-z][.)]\s+)(?=\S)(.*)")
_ASIDE = re.compile(r":\s|\s[-–—=→]+>?\s|\s\(|：|\sbecause\s")
_FIRST = re.compile(rf"(?:(?:{_QUOTE})(?:\s*(?:,|/|&|and|und|et|y)\s*)?)+")


def _lines(text: str, form: Form, fields: Mapping[str, str], cut: bool) -> Said:
    """Read bullets, numbered lines, lines that begin with the name of a field, or one short item a line."""
    lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("```")]
    if cut and not text.endswith("\n"):
        lines = lines[:-1]
    said: Said = []
    under: str | None = None
    for line in lines:
        bullet = _BULLET.match(line)
        content = bullet[1] if bullet else line
        field, rest = field_of(content, fields)
        under = field or under
        if field:
            said += [(item, field) for item in _parts(rest)]
        elif bullet:
            numbered = form == "numbers" and not re.search(r"\d", content)
            said += [(item, under) for item in ([line.strip()] if numbered else _head(content))]
    return said or _short_lines(lines)


def _head(content: str) -> list[str]:
    """Give what a bullet names, without the reason that may follow it."""
    first = _FIRST.match(content)
    if first:
        return _quoted(first[0].rstrip(" :"))
    head = _ASIDE.split(content, maxsplit=1)[0].strip()
    return [head] if letters(head) else []


def _short_lines(lines: Sequence[str]) -> Said:
    items = [line.strip() for line in lines if not line.rstrip().endswith((":", "："))]
    short = len(items) > 1 and all(len(item.split()) < LONGEST and not _COMMAS.search(item) for item in items)
    return _plain(items) if short and not any(_QUOTED.search(item) for item in items) else []


def _commas(text: str, cut: bool) -> Said:
    """Read the first line that is a list between commas, after a lead-in such as `The words are:`."""
    if _quoted(text):
        return []
    lines = [line for line in text.splitlines() if line.strip()]
    for line in lines:
        _, colon, rest = line.replace("：", ":").rpartition(":")
        parts = _parts(rest, cut and line == lines[-1])
        alone = len(lines) == 1 and len(rest.split()) <= 3 and not cut
        if parts and (len(parts) > 1 or colon or alone or (cut and _COMMAS.search(rest))):
            return _plain(parts)
    return []


def _parts(text: str, cut: bool = False) -> list[str]:
    """Cut `a, b and c` into its items; none where one of them is as long as a sentence, or the text says `none`."""
    parts = [part.strip() for part in _COMMAS.split(text)]
    if cut:
        parts = parts[:-1]
    if len(parts) > 1:
        parts[-1:] = re.split(r"\s+(?:and|or|und|et|y|e|&)\s+", re.sub(r"^(?:and|or|und|et|y|e|&)\s+", "", parts[-1]))
    parts = [part for part in parts if letters(part)]
    sentence = any(len(part.split()) >= LONGEST for part in parts)
    return [] if sentence or [normalise(part) for part in parts] in (["none"], ["nothing"]) else parts


def _digits(text: str, cut: bool) -> Said:
    """Read the numbers in a sentence, behind its colon where there is one; the last may be cut."""
    _, _, behind = text.rpartition(":")
    source = behind if re.search(r"\d", behind) else text
    found = [match[0] for match in re.finditer(r"\d+(?:\s?[-–]\s?\d+)?", source)]
    return _plain(found[:-1] if cut and re.search(r"\d\s*$", source) else found)


# ---------------------------------------------------------------------------------------------------- marked text

_MARKS = (("**", "**"), ("<mark>", "</mark>"), ("<b>", "</b>"), ("<strong>", "</strong>"), ("<em>", "</em>"),
          ("[[", "]]"), ("==", "=="), ("__", "__"), ("<<", ">>"), ("*", "*"), ("`", "`"))  # fmt: skip


def _marked(text: str, marks: tuple[str, str], segment: Segmenter, cut: bool) -> Items:
    """Read a text written out again: its words, and which of them are marked by the first known pair of marks."""
    for opening, closing in (marks, *_MARKS):
        pattern = rf"(?<![A-Za-z0-9]){re.escape(opening)}(?!\s)(.{{1,2000}}?){re.escape(closing)}"
        pieces = re.split(pattern, text, flags=re.DOTALL)  # outside, inside, outside, ...
        if len(pieces) > 1:
            break
    else:
        pieces = [text]
    plain, spans = "", list[tuple[int, int]]()
    for index, piece in enumerate(pieces):
        spans += [(len(plain), len(plain) + len(piece))] if index % 2 else []
        plain += piece
    words = segment(plain)
    flags = words_in_spans(words, cast("Any", spans)).tolist()
    if cut and words and words[-1].end == len(plain) and len(pieces[-1]):
        words, flags = words[:-1], flags[:-1]
    said = tuple(plain[start:end] for start, end in words)
    return Items("marked", said, (None,) * len(said), tuple(flags), how="marks", cut=cut)
