"""A data set of the Hugging Face hub, or a local file or folder that `datasets` can read, with a column mapping."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from raison.records import Fault, InputError
from raison.sources.common import Item, is_missing, unknown
from raison.sources.mapping import ColumnMap, column_map, records_of_rows


def read_hub(
    path: str | Path, split: str = "train", config: str | None = None, revision: str | None = None, **options: Any
) -> Iterator[Item]:
    """Yield the records of a data set; it is streamed, and no code of its own is ever run.

    Numbered classes become their names. The "line" of faults is the row, counted from 1.

    Args:
        path: an id such as `owner/name`, a local Parquet file, or a local folder of data files.
        split: which part of it.
        config: which configuration, where it has several.
        revision: which commit, tag or branch of its repository.
        options: the column mapping, see `mapping.ColumnMap`; a name that is no option is that of a field.

    Raises:
        InputError: `datasets` is not installed, the data set can't be had, or the mapping is wrong.
    """
    mapping = column_map(options)
    data = _open(str(path), split, config, revision)
    names = cast("list[str]", data.column_names or [])
    if names:
        for column in mapping.columns:
            if column.split(".")[0] not in names and column not in names:
                raise InputError(f"{path}: {unknown('column', column, names)}")
    yield from records_of_rows(str(path), _rows(str(path), data, mapping), mapping)


def _open(path: str, split: str, config: str | None, revision: str | None) -> Any:
    try:
        import datasets
    except ImportError:
        raise InputError("reading from the hub needs the package `datasets`: pip install 'raison[hub]'") from None
    parquet = Path(path).is_file()
    place: dict[str, Any] = {"path": "parquet", "data_files": path} if parquet else {"path": path, "name": config}
    try:
        return datasets.load_dataset(**place, split=split, revision=revision, streaming=True)
    except Exception as error:  # whatever it is: no network, no such id, no such split, a script
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{path}: can't be read as a Hugging Face data set ({reason})") from None


def _rows(file: str, data: Any, mapping: ColumnMap) -> Iterator[tuple[int, Mapping[str, Any]] | Fault]:
    classes = {name: feature.names for name, feature in (data.features or {}).items() if hasattr(feature, "names")}
    number, stream = 0, iter(data)
    while True:
        number += 1
        try:
            row = next(stream)
        except StopIteration:
            return
        except Exception as error:  # the connection, or a damaged file: nothing can follow
            yield Fault(file, number, f"can't be read ({' '.join(str(error).split())[:300] or type(error).__name__})")
            return
        yield number, {**row, **{name: _name(row.get(name), names) for name, names in classes.items()}}


def _name(value: Any, names: list[str]) -> Any:
    return names[value] if not is_missing(value) and isinstance(value, int) and 0 <= value < len(names) else None
