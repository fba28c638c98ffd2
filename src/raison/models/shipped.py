"""Wordings that are data: TOML files that come with the package, and a user's own beside them."""

import difflib
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import TypeVar

import msgspec

from raison.records import InputError

T = TypeVar("T")
Read = Callable[[bytes, str], T]  # (content, name of the file)


def shipped(package: str, folder: str, read: Read[T]) -> dict[str, T]:
    """Read all TOML files of a package's folder: name without ending -> what is in it, in the order of names."""
    place = resources.files(package) / folder
    files = sorted((file for file in place.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return {file.name[:-5]: read(file.read_bytes(), file.name) for file in files}


def named(kind: str, name: str, known: Mapping[str, T], read: Read[T]) -> T:
    """Give what has a name, or read it from a TOML file.

    Args:
        kind: what it is, for the message.
        name: a known one, or the path of a file that ends in `.toml`.
        known: those that there are.
        read: makes it of a file's content.

    Raises:
        InputError: there is no such thing or file; or as `read`.
    """
    if name in known:
        return known[name]
    path = Path(name)
    if path.suffix == ".toml":
        try:
            return read(path.read_bytes(), name)
        except OSError as error:
            raise InputError(f"{name}: can't be read ({error.strerror})") from None
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"expected one of {', '.join(known)}, or a .toml file"
    raise InputError(f"unknown {kind} {name!r}; {hint}")


def own_or(path: str | None, package: str, file: str, kind: type[T]) -> tuple[T, str]:
    """Read a TOML file, or the one that comes with a package; give its content and its name.

    Raises:
        InputError: it can't be read, or is no such thing; one line that names the file.
    """
    name = path or file
    try:
        content = Path(path).read_bytes() if path else (resources.files(package) / file).read_bytes()
    except OSError as error:
        raise InputError(f"{name}: can't be read ({error.strerror})") from None
    return decoded(content, name, kind), name


def decoded(content: bytes, name: str, kind: type[T]) -> T:
    """Decode TOML.

    Raises:
        InputError: it is no TOML, or not of this kind; one line that names the file.
    """
    try:
        return msgspec.toml.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # a ValidationError is a DecodeError
        raise InputError(f"{name}: {' '.join(str(error).split())}") from None
