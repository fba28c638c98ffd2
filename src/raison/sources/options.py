"""What a reader is told besides the file: options from a TOML file, from `name=value` pairs, or from Python."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from raison.records import InputError

OptionsLike = Mapping[str, Any] | str | Path | Sequence[str] | None


def read_options(given: OptionsLike, pair: str = "name=column") -> dict[str, Any]:
    """Bring a reader's options into one form.

    Args:
        given: a mapping as it is; `name=value` (a dot goes one level down: `fields.text=tweet`); the path of a TOML
            file; or a sequence of the last two, later ones over earlier ones.
        pair: what a message calls such a pair.

    Raises:
        InputError: a TOML file is missing or broken, or a text is neither a pair nor the path of a file.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return dict(given)
    options: dict[str, Any] = {}
    for text in [given] if isinstance(given, str | Path) else given:
        if isinstance(text, str) and "=" in text:
            name, _, value = text.partition("=")
            _put(options, name.strip().split("."), value.strip(), pair)
        else:
            options |= read_toml(text, f"{pair}, or the path of a TOML file")
    return options


def _put(options: dict[str, Any], names: list[str], value: str, pair: str) -> None:
    """Set one option, going down one table for each name but the last."""
    for name in names[:-1]:
        inner = options.setdefault(name, {})
        if not isinstance(inner, dict):
            raise InputError(
                f"option `{'.'.join(names)}`: `{name}` is given twice, once with names in it and once without"
            )
        options = cast("dict[str, Any]", inner)
    if not all(names):
        raise InputError(f"option `{'.'.join(names)}={value}`: expected {pair}")
    options[names[-1]] = value


def read_toml(path: str | Path, wanted: str = "a TOML file") -> dict[str, Any]:
    """Read a TOML file; `wanted` is what a message says that was expected where there is none.

    Raises:
        InputError: it is missing, not UTF-8, or not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}; expected {wanted}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None


def listed(value: str | Iterable[str]) -> tuple[str, ...]:
    """Give the items of a list, or of a text that names them with commas between."""
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(part.strip() for part in parts)
