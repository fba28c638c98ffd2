"""A page that needs nothing else: style and script inside, every foreign text escaped."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from raison.records import written_whole
from raison.report import text, view


def render_page(template: str, *, script: str = "", **values: Any) -> str:
    """Fill in a template of the folder `templates`.

    Args:
        template: its file name; it extends `base.html`.
        script: the only one that the page's policy allows to run; empty for a page without.
        values: what the template shows, `title` among them.
    """
    return _environment().get_template(template).render(
        **values,
        style=Markup(resource("report.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip


def write_page(path: str | Path, html: str) -> None:
    """Write a page, whole or not at all.

    Raises:
        InputError: the folder can't be made or written to.
    """
    with written_whole(path) as part:
        part.write_text(html, encoding="utf-8", newline="\n")


def resource(name: str) -> str:
    """Give the text of a file of the folder `templates`."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _environment() -> Environment:
    loader = PackageLoader("raison.report", "templates")
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters.update(
        shown=text.shown, number=text.number, p=text.probability, plain=text.plain, slice_title=view.slice_title
    )
    found.globals["interval"] = text.interval  # pyright: ignore[reportArgumentType]
    return found
