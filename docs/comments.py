"""A griffe extension: the comments beside the fields of a class are their documentation, on the Python page too."""

import io
import tokenize
from collections.abc import Iterator
from typing import Any

import griffe


class FieldComments(griffe.Extension):
    """Adds the fields of a class, with their comments and defaults, to its docstring."""

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Look at one class after griffe has read it."""
        fields = [*_fields(cls)]
        if fields and cls.docstring and "Attributes:" not in cls.docstring.value:
            cls.docstring.value = "\n".join([cls.docstring.value, "", "Attributes:", *fields])


def _fields(cls: griffe.Class) -> Iterator[str]:
    for name, attribute in cls.attributes.items():
        if attribute.is_alias or attribute.annotation is None or name.startswith("_") or attribute.docstring:
            continue
        default = "" if attribute.value is None else f"Default: `{attribute.value}`."
        said = comments(attribute.source)
        yield f"    {name}: {' '.join(part for part in (said, default) if part) or 'Required.'}"


def comments(source: str) -> str:
    """Give the comments in some lines of Python, one after the other, as a sentence."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = [token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT]
    said = " ".join(text for text in found if not text.startswith(("noqa", "pyright", "type:", "fmt")))
    return f"{said[:1].upper()}{said[1:]}." if said else ""
