"""What every result says of its making: configuration, versions, data and models."""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import msgspec

from raison.records import Record, from_record

PACKAGES = ("raison", "torch", "transformers", "tokenizers", "numpy", "scipy")


def provenance(config: Mapping[str, Any], records: Sequence[Record], models: Mapping[str, str]) -> dict[str, Any]:
    """Give the frame of a result file.

    Args:
        config: the resolved configuration.
        records: the data.
        models: name -> hash of each model that took part.

    Returns:
        `config`, `data` (number of records and a hash of their content), `models`, `versions`.
    """
    return {
        "config": dict(config),
        "data": {"records": len(records), "sha256": hash_records(records)},
        "models": dict(models),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    }


def hash_records(records: Sequence[Record]) -> str:
    """Give a hash of the records' content, in order."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(msgspec.json.encode(from_record(record), order="sorted"))
    return digest.hexdigest()[:16]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"
