"""Rationales by rule: word lists per label, and regular expressions with named groups.

A rule file is TOML; each table in it is one annotator:

    [intent-words.words]              # words of the record's own label: this annotator sees the label
    PlayMusic = ["play", "music", "put on"]

    [slot-patterns]                   # regular expressions: what their named groups match is marked
    patterns = ['(?P<place>nearest|closest)']
    fields = ["text"]                 # where to look; left out = in every field

An annotator with word lists writes `sees_label: true` into its annotations, so that nobody takes its rationales of test
records for something that could be known without their labels (see `sources.leaks`).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from raison.records import Annotation, InputError, Record, Span
from raison.sources.common import bare, explain, unknown
from raison.sources.options import read_toml
from raison.words import Segmenter, spans_of_words, whitespace_words, words_in_spans

SEES_LABEL = "sees_label"  # the key of `Annotation.extra`


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules of one annotator."""

    words: dict[str, list[str]] = {}  # label -> words or phrases marked where the record has this label
    patterns: list[str] = []  # regular expressions; every match counts, unnamed groups do not, nor does case
    fields: list[str] = []  # the fields they look at; none = all


class Rule(NamedTuple):
    """One line of a rule file: a word of a label's list, or a pattern."""

    annotator: str
    label: str | None  # None = a pattern
    text: str


def read_rules(path: str | Path) -> dict[str, Rules]:
    """Read a rule file: annotator -> rules.

    Raises:
        InputError: it is missing, not TOML, has no table or an unknown key, or a pattern that is no regular expression
            or names no group.
    """
    tables = read_toml(path, "a TOML file of rules")
    rules = {name: _rules_of(table, f"{path}: {name}") for name, table in tables.items()}
    for name, one in rules.items() or [("the file", Rules())]:
        if not one.words and not one.patterns:
            raise InputError(f"{path}: {name} has no rules; expected [annotator] with `words` or `patterns`")
        for pattern in one.patterns:
            try:
                named = re.compile(pattern).groupindex
            except re.error as error:
                raise InputError(f"{path}: {name}: {pattern!r} is not a regular expression ({error})") from None
            if not named:
                raise InputError(f"{path}: {name}: {pattern!r} has no named group, (?P<name>...), to be marked")
    return rules


def _rules_of(table: Any, where: str) -> Rules:
    """Read one table of a rule file; `where` names it."""
    if not isinstance(table, dict):
        raise InputError(f"{where}: expected a table, [annotator] with `words` or `patterns`, found {table!r}")
    given = cast("dict[str, Any]", table)
    strange = next((key for key in given if key not in Rules.__struct_fields__), None)
    if strange is not None:
        raise InputError(f"{where}: {unknown('key', strange, Rules.__struct_fields__)}")
    try:
        return msgspec.convert(given, Rules)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: {explain(error)}") from None


def apply_rules(
    rules: Mapping[str, Rules],
    record: Record,
    segment: Segmenter = whitespace_words,
    used: Counter[Rule] | None = None,
) -> Record:
    """Add one annotation for each annotator of a rule file. Whole words are marked.

    A word or phrase of a list is compared without case and without the punctuation around its words. An annotator who
    sees the label says that it is this label; of a record without one it was not asked (`rationale` is None). One that
    finds nothing has marked nothing (`{field: ()}`).

    Args:
        rules: annotator -> rules.
        record: the record.
        segment: what a word is.
        used: counts, for each rule, the records in which it found something.

    Raises:
        InputError: the record has an annotator of this name already, or lacks a field the rules name.
    """
    there = {annotation.annotator for annotation in record.annotations}
    twice = next((name for name in rules if name in there), None)
    if twice is not None:
        raise InputError(f"record {record.id!r} has annotations of {twice!r} already; give the rules another name")
    added = [_annotation(name, one, record, segment, used) for name, one in rules.items()]
    return msgspec.structs.replace(record, annotations=(*record.annotations, *added))


def _annotation(name: str, rules: Rules, record: Record, segment: Segmenter, used: Counter[Rule] | None) -> Annotation:
    extra = {SEES_LABEL: True} if rules.words else {}
    if rules.words and record.label is None:
        return Annotation(name, extra=extra)
    rationale: dict[str, tuple[Span, ...]] = {}
    seen: set[Rule] = set()
    for field in _fields(name, rules, record):
        text = record.fields[field]
        words = segment(text)
        found = [*_of_lists(name, rules, record.label, text, words, segment), *_of_patterns(name, rules, text)]
        seen.update(rule for rule, _ in found)
        rationale[field] = spans_of_words(words, words_in_spans(words, [span for _, span in found]))
    if used is not None:
        used.update(seen)
    return Annotation(name, record.label if rules.words else None, rationale, extra=extra)


def _fields(name: str, rules: Rules, record: Record) -> Iterable[str]:
    for field in rules.fields:
        if field not in record.fields:
            known = ", ".join(record.fields)
            raise InputError(f"rules of {name!r}: record {record.id!r} has no field {field!r}; it has {known}")
    return rules.fields or record.fields


def _of_lists(  # noqa: PLR0917
    name: str, rules: Rules, label: str | None, text: str, words: Sequence[Span], segment: Segmenter
) -> Iterator[tuple[Rule, Span]]:
    shown = [bare(text[start:end]) for start, end in words]
    for phrase in rules.words.get(label or "", ()):
        wanted = [bare(phrase[start:end]) for start, end in segment(phrase)]
        for first in range(len(shown) - len(wanted) + 1 if wanted else 0):
            if shown[first : first + len(wanted)] == wanted:
                yield Rule(name, label, phrase), Span(words[first].start, words[first + len(wanted) - 1].end)


def _of_patterns(name: str, rules: Rules, text: str) -> Iterator[tuple[Rule, Span]]:
    for pattern in rules.patterns:
        for match in re.finditer(pattern, text, re.IGNORECASE):
            for group in match.re.groupindex:
                if match[group]:
                    yield Rule(name, None, pattern), Span(*match.span(group))


def all_rules(rules: Mapping[str, Rules]) -> Iterator[Rule]:
    """Yield every line of a rule file."""
    for name, one in rules.items():
        for label, words in one.words.items():
            yield from (Rule(name, label, word) for word in dict.fromkeys(words))
        yield from (Rule(name, None, pattern) for pattern in dict.fromkeys(one.patterns))


def idle_rules(rules: Mapping[str, Rules], used: Mapping[Rule, int], labels: Iterable[str]) -> Iterator[str]:
    """Yield a line for every list whose label no record has, and for every other word or pattern that found nothing."""
    known = set(labels)
    for name, one in rules.items():
        for label in one.words:
            if label not in known:
                yield f"{name}: no record has the label {label!r} of its word list"
    for rule in all_rules(rules):
        if not used.get(rule) and (rule.label is None or rule.label in known):
            kind = f"pattern {rule.text!r}" if rule.label is None else f"word {rule.text!r} of {rule.label}"
            yield f"{rule.annotator}: {kind} is found in no record"
