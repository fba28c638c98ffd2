"""Which models a way of teaching trains, and from what: one for all people, or one for each.

Beside each model stands `asked.json`, the wording that it was taught with, so that it is asked in the same way, and
whom it was taught to answer as.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from raison.annotators.capo import CapoConfig, capo
from raison.annotators.export import file_name
from raison.annotators.preference_pair import PreferencePair
from raison.annotators.prompts import Prompts
from raison.annotators.rehearsal import Rehearsal
from raison.annotators.responses import responses_of
from raison.annotators.sft import SftConfig, sft, turns_of
from raison.annotators.speakers import model_of
from raison.annotators.wording import Wording
from raison.records import InputError, Record, write_json

SFT = ("sft-pooled", "sft-tag", "sft-person")
CAPO = ("capo-person", "capo-tag")
ASKED = "asked.json"


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model was asked when it was taught."""

    wording: Wording
    tag: bool  # the prompt names the annotator
    people: tuple[str, ...] = ()  # as whom; none = it does not say


def teach_sft(  # noqa: PLR0917
    how: str,
    model: str,
    train: Sequence[Record],
    wording: Wording,
    out: str | Path,
    config: SftConfig,
    rehearsal: Rehearsal | None = None,
    **options: Any,
) -> Iterator[tuple[str, Path]]:
    """Fine-tune on people's responses; yield (person, folder of the model), the person empty for all together.

    Args:
        how: "sft-pooled" (nobody is named), "sft-tag" (the prompt names the person) or "sft-person" (a model each).
        model: what is tuned.
        train: the training items.
        wording: how they are asked for.
        out: folder of the model; of `sft-person`, of a folder for each.
        config: of the training.
        rehearsal: how the model is tried on dev items after each epoch; the best epoch is kept. None = the last is.
        options: further arguments of `sft`.

    Raises:
        InputError: as `sft`; or there is no such way.
    """
    if how not in SFT:
        raise InputError(f"how {how!r}: expected {', '.join(SFT)}")
    said = responses_of(train)
    for person in sorted({one.annotator for one in said}) if how == "sft-person" else [""]:
        own = [one for one in said if not person or one.annotator == person]
        folder = Path(out) / file_name(person) if person else Path(out)
        options |= _tried(rehearsal, Asked(wording, how == "sft-tag"), person)
        yield person, sft(model, turns_of(wording, train, own, tagged=how == "sft-tag"), folder, config, **options)
        note(folder, Asked(wording, how == "sft-tag", tuple(sorted({one.annotator for one in own}))))


def teach_capo(  # noqa: PLR0917
    how: str,
    model: str,
    pairs: Sequence[PreferencePair],
    asked: Asked,
    out: str | Path,
    config: CapoConfig,
    rehearsal: Rehearsal | None = None,
    **options: Any,
) -> Iterator[tuple[str, Path]]:
    """Train preferences; yield (person, folder of the model), the person empty for all together.

    Args:
        how: "capo-tag" (one model, pairs with tags) or "capo-person" (a model each).
        model: what is tuned, a folder of `teach_sft`; `{annotator}` in it stands for each person's.
        pairs: of all people.
        asked: how the pairs were made to ask.
        out: folder of the model; of `capo-person`, of a folder for each.
        config: of the training.
        rehearsal: see `teach_sft`.
        options: further arguments of `capo`.

    Raises:
        InputError: as `capo`; there is no such way; the pairs have tags and the way has none, or the other way round;
            the model was taught with another wording or other tags, or somebody has none; or a pair is of a dev or test
            item, or of somebody who is not among the people of the rehearsal (who opted out).
    """
    if how not in CAPO:
        raise InputError(f"how {how!r}: expected {', '.join(CAPO)}")
    if asked.tag != (how == "capo-tag"):
        raise InputError(f"{how}: the pairs were made {'with' if asked.tag else 'without'} tags")
    held_out = {record.id for part in rehearsal.split[1:] for record in part} if rehearsal else set[str]()
    people = {None, *(one.annotator for one in responses_of(rehearsal.split.train if rehearsal else ()))}
    groups: dict[str, list[PreferencePair]] = defaultdict(list)
    for pair in pairs:
        if pair.record_id in held_out:
            raise InputError(
                f"record {pair.record_id!r}: a pair is of a held-out item; was it made with another split?"
            )
        if rehearsal and (gone := {pair.annotator, pair.rejected_annotator} - people):
            raise InputError(f"record {pair.record_id!r}: a pair is of {gone.pop()!r}, who is not in the data")
        groups["" if how == "capo-tag" else pair.annotator].append(pair)
    names = {person: model_of(model, person) for person in sorted(groups)}
    for person, name in names.items():
        before, own = read_asked(name), groups[person]
        if before is not None and (before.wording, before.tag) != (asked.wording, asked.tag):
            raise InputError(f"{name}: was taught with another wording than the pairs, or other tags (see its {ASKED})")
        folder = Path(out) / file_name(person) if person else Path(out)
        options |= _tried(rehearsal, asked, person)
        yield person, capo(name, own, folder, config, asked.wording, **options)
        known = {pair.annotator for pair in own} | {*(before.people if before and not person else ())}
        says = person or before is None or before.people
        note(folder, msgspec.structs.replace(asked, people=tuple(sorted(known)) if says else ()))


def read_asked(folder: str | Path) -> Asked | None:
    """Give how a model was asked when it was taught; None where it does not say.

    Raises:
        InputError: what it says can't be read.
    """
    path = Path(folder) / ASKED
    try:
        return msgspec.json.decode(path.read_bytes(), type=Asked)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(f"{path}: can't be read ({error})") from None


def _tried(rehearsal: Rehearsal | None, asked: Asked, person: str) -> dict[str, Any]:
    if rehearsal is None:
        return {}
    return {"measure": rehearsal.measure(Prompts(asked.wording, (), tag=asked.tag), person)}


def note(folder: Path, asked: Asked) -> None:
    """Write beside a model how it was asked."""
    write_json(folder / ASKED, msgspec.to_builtins(asked))
