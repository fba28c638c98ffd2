"""How a model is asked for its reasons: requests are data, in TOML files; those of raison lie in `requests/`.

A file has three tables. `[orders]` holds the whole request for each order, `[budgets]` and `[forms]` the sentences that
it takes in; `requests/words.toml` is the default and says which slots there are. A file may leave out entries that are
not used.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import msgspec

from raison.models.chat import Message
from raison.models.shipped import decoded, named, shipped
from raison.prompting.parse import Form
from raison.records import InputError, Record
from raison.words import Segmenter, whitespace_words

Order = Literal["predict-then-explain", "explain-then-predict", "fresh-session"]
Limit = Literal["unbound", "exactly", "at-most"]

# what an entry must take in, and what it may
_NEEDED: dict[str, dict[str, set[str]]] = {
    "orders": {
        "predict-then-explain": {"budget", "form"},
        "explain-then-predict": {"budget", "form", "prompt"},
        "fresh-session": {"budget", "form", "prompt"},
    },
    "budgets": {"unbound": set(), "exactly": {"count"}, "at-most": {"count"}},
    "forms": {"json": set(), "numbers": {"words"}, "marked": set()},
}
_TAKEN = {
    "orders": {"prompt", "label", "fields", "budget", "form"},
    "budgets": {"count", "fields"},
    "forms": {"words", "fields", "open", "close"},
}
_SLOT = re.compile(r"\{(\w+)\}")


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The wording of a request, see the module."""

    orders: dict[Order, str]
    budgets: dict[Limit, str]
    forms: dict[Form, str]
    marks: tuple[str, str] = ("**", "**")  # what stands before and after a marked word
    name: str = ""

    def names_label(self, order: Order) -> bool:
        """Whether the model reads a label: its answer in the same chat, or one that the request names."""
        return order == "predict-then-explain" or "{label}" in self.orders[order]

    def expect(self, order: str, limit: str, form: str) -> None:
        """Refuse an order, budget or form that the request has no words for.

        Raises:
            InputError: naming it, and what there is.
        """
        for kind, wanted, known in (
            ("order", order, self.orders),
            ("budget", limit, self.budgets),
            ("form", form, self.forms),
        ):
            if wanted not in known:
                raise InputError(f"request {self.name}: no {kind} {wanted!r}; it has {', '.join(known)}")


def ask(
    request: Request,
    task_messages: Sequence[Message],
    record: Record,
    *,
    label: str | None,
    count: int | None = None,
    order: Order = "predict-then-explain",
    form: Form = "json",
    limit: Limit = "exactly",
    fields: Sequence[str] | None = None,
    segment: Segmenter = whitespace_words,
) -> list[Message]:
    """Give the conversation that asks for a rationale.

    Predict-then-explain: the question of the task, the answer as the model's own turn, the request.
    Explain-then-predict: the question and the request in one turn, before any answer. Fresh session: a conversation in
    which nobody was asked for the answer; it names none unless the request does.

    Args:
        request: the wording.
        task_messages: the conversation that asks for the label; its last message is the user's.
        record: what is explained.
        label: the word of the answer; may be None where the model reads none.
        count: how many words to choose; None = any number, whatever `limit` says.
        order: see above.
        form: of the reply.
        limit: whether `count` is `exactly` or `at-most`.
        fields: where words may be chosen; default: all.
        segment: how texts are cut into the words that are shown with numbers.

    Raises:
        InputError: the request has no words for the order, budget or form.
        ValueError: a label is needed and None; or the task's messages don't end with the user's.
    """
    limit = "unbound" if count is None else limit
    request.expect(order, limit, form)
    if request.names_label(order) and label is None:
        raise ValueError(f"order {order} needs a label")
    if not task_messages or task_messages[-1]["role"] != "user":
        raise ValueError("expected a conversation that ends with a message of the user")
    names = list(record.fields) if fields is None else [name for name in record.fields if name in fields]
    known = {"fields": listed([name.replace("_", " ") for name in names]), "label": label or ""}
    known |= {"count": f"{count} word{'s' * (count != 1)}", "open": request.marks[0], "close": request.marks[1]}
    known |= {"prompt": task_messages[-1]["content"], "words": numbered(record, names, segment)}
    known |= {"budget": _fill(request.budgets[limit], known), "form": _fill(request.forms[form], known)}
    wanted: Message = {"role": "user", "content": _fill(request.orders[order], known)}
    if order == "predict-then-explain":
        return [*task_messages, {"role": "assistant", "content": label or ""}, wanted]
    return [*task_messages[:-1], wanted]


def then_asked(asked: Sequence[Message], reply: str, question: Message) -> list[Message]:
    """Give how a conversation goes on that asks for the label after the words: the reply, then the task's question."""
    return [*asked, {"role": "assistant", "content": reply}, question]


def _fill(template: str, known: Mapping[str, str]) -> str:
    """Fill the slots in one pass: what a text has in braces stays as it is."""
    return _SLOT.sub(lambda slot: known.get(slot[1], slot[0]), template).strip()


def numbered(record: Record, fields: Sequence[str], segment: Segmenter = whitespace_words) -> str:
    """Show the words with their numbers, from 1 over all fields, one field a line."""
    lines: list[str] = []
    number = 0
    for name in fields:
        words: list[str] = []
        for start, end in segment(record.fields[name]):
            number += 1
            words.append(f"[{number}] {record.fields[name][start:end]}")
        lines.append(f"{name.replace('_', ' ')}: {' '.join(words)}" if len(fields) > 1 else " ".join(words))
    return "\n".join(lines)


def listed(names: Sequence[str]) -> str:
    """Give `a`, `a and b`, or `a, b and c`."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


# ------------------------------------------------------------------------------------------------------- files


@cache
def _shipped() -> dict[str, Request]:
    return shipped("raison.prompting", "requests", _read)


def load_request(name: str) -> Request:
    """Give a request that comes with raison by its name, or one from a TOML file.

    Raises:
        InputError: there is no such request or file, or the file has a fault; one line that names file and field.
    """
    return named("request", name, _shipped(), _read)


def _read(content: bytes, name: str) -> Request:
    request = decoded(content, name, Request)
    for table, needed in _NEEDED.items():
        entries: dict[str, str] = getattr(request, table)
        if not entries:
            raise InputError(f"{name}: `{table}`: expected at least one of {', '.join(needed)}")
        for key, text in entries.items():
            _check(f"{name}: `{table}.{key}`", text, needed[key], _TAKEN[table])
    if not all(mark.strip() for mark in request.marks):
        raise InputError(f"{name}: `marks`: expected two texts that are not empty")
    return msgspec.structs.replace(request, name=Path(name).stem)


def _check(place: str, text: str, needed: set[str], taken: set[str]) -> None:
    slots = set[str](_SLOT.findall(text))
    missing, strange = sorted(needed - slots), sorted(slots - taken)
    if not text.strip():
        raise InputError(f"{place}: expected a text that is not empty")
    if missing:
        raise InputError(f"{place}: expected {{{missing[0]}}} in it")
    if strange:
        raise InputError(
            f"{place}: unknown {{{strange[0]}}}; expected {', '.join(f'{{{slot}}}' for slot in sorted(taken))}"
        )


ORDERS: tuple[str, ...] = get_args(Order)
FORMS: tuple[str, ...] = get_args(Form)
