"""The words in which a model under check is spoken to: data, in a TOML file; `wording.toml` is the default."""

import re
from collections.abc import Mapping
from functools import cache

import msgspec

from raison.models.shipped import own_or
from raison.records import InputError

_SLOT = re.compile(r"\{(\w+)\}")
# what a text must take in
_NEEDED = {
    "unknown.announce": ("unknown",),
    "redaction.redact": ("prompt", "marker", "form"),
    "redaction.edit": ("prompt", "target", "form"),
    "chain.mistake": ("prompt", "chain", "sentence"),
}
_TAKEN = ("prompt", "label", "target", "fields", "marker", "unknown", "form", "chain", "sentence")


class Unknown(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model is told that words may be missing, and what it may answer then."""

    marker: str
    word: str
    announce: str


class Redaction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model is asked to rewrite a text."""

    redact: str
    edit: str


class Forms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a rewritten text is to be given: where the task shows one field, and where it shows several."""

    one: str
    several: str


class Explanation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model is asked to explain the answer that it has just given."""

    ask: str


class Chain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"go_on": "continue"}):
    """How a model is made to reason, and what is done to its reasoning."""

    think: str
    lead: str
    conclude: str
    mistake: str
    go_on: str
    filler: str


class Wording(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that the checks say to a model, see `wording.toml`."""

    unknown: Unknown
    redaction: Redaction
    forms: Forms
    explanation: Explanation
    chain: Chain


@cache
def load_wording(path: str | None = None) -> Wording:
    """Give the wording that comes with raison, or one from a TOML file with the same tables.

    Raises:
        InputError: the file can't be read or has a fault; one line that names file and field.
    """
    found, name = own_or(path, "raison.checks", "wording.toml", Wording)
    for table, texts in msgspec.to_builtins(found).items():
        for key, text in texts.items():
            _check(name, f"{table}.{key}", text)
    return found


def _check(file: str, place: str, text: str) -> None:
    if not text.strip():
        raise InputError(f"{file}: `{place}`: expected a text that is not empty")
    slots = set[str](_SLOT.findall(text))
    for slot in _NEEDED.get(place, ()):
        if slot not in slots:
            raise InputError(f"{file}: `{place}`: expected {{{slot}}} in it")
    strange = sorted(slots.difference(_TAKEN))
    if strange:
        raise InputError(f"{file}: `{place}`: unknown {{{strange[0]}}}; expected {', '.join(_TAKEN)} in braces")


def fill(template: str, known: Mapping[str, str]) -> str:
    """Fill the slots in one pass: what a text has in braces stays as it is."""
    return _SLOT.sub(lambda slot: known.get(slot[1], slot[0]), template).strip()
