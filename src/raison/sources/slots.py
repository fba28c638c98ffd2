"""Slots as they stand in a record: stretches of its texts with a name, in `meta.slots`."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, cast

import msgspec

from raison.records import InputError, Record


class Slot(msgspec.Struct, frozen=True):
    """One slot, as it stands in `meta.slots`; `start` and `end` are Python string indices, half open."""

    field: str
    start: int
    end: int
    slot: Annotated[str, msgspec.Meta(min_length=1)]


def slots_of(record: Record) -> list[Slot]:
    """Give the gold slots of a record; an empty list says that it has none.

    Raises:
        InputError: `meta.slots` is absent, or is no list of `{"field", "start", "end", "slot"}`.
    """
    if "slots" not in record.meta:
        raise InputError(f"record {record.id!r}: field `meta.slots`: absent; expected a list of slots, empty for none")
    try:
        return msgspec.convert(record.meta["slots"], list[Slot])
    except msgspec.ValidationError as error:
        raise InputError(f"record {record.id!r}: {_explain(error)}") from None


def misplaced(slot: Slot, fields: Mapping[str, str]) -> str | None:
    """Say why a slot can't be in a record's fields, name -> text; None where it can."""
    if slot.field not in fields:
        return f"the record has no field {slot.field!r}"
    size = len(fields[slot.field])
    return None if 0 <= slot.start < slot.end <= size else f"does not lie in a text of {size} characters"


def slot_problems(record: Record) -> Iterator[str]:
    """Yield what is wrong with the slots of a record, each as a line that names the field.

    `meta` is free, so `meta.slots` is held to be slots only where it is a list with an object that has a `slot`.
    """
    given = record.meta.get("slots")
    if not isinstance(given, list) or not any("slot" in one for one in cast("list[Any]", given) if _is_object(one)):
        return
    try:
        slots = msgspec.convert(given, list[Slot])
    except msgspec.ValidationError as error:
        yield _explain(error)
        return
    for index, slot in enumerate(slots):
        if fault := misplaced(slot, record.fields):
            yield f"field `meta.slots[{index}]`: slot {slot.slot!r} at {slot.start}-{slot.end}: {fault}"


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _explain(error: msgspec.ValidationError) -> str:
    """Turn msgspec's message and path into one that names our field first."""
    message, _, path = str(error).partition(" - at `$")
    return f"field `meta.slots{path.rstrip('`')}`: {message[0].lower()}{message[1:]}"
