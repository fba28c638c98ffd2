import os
from pathlib import Path

import pytest
from hypothesis import settings

from raison.records import Fault

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def shared():
    """The folder of real data beside the repository."""
    folder = Path(os.environ.get("RAISON_SHARED", Path(__file__).parents[3] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no data in {folder} (set RAISON_SHARED)")
    return folder


@pytest.fixture
def split_items():
    """Part the items of a reader into records and faults, as texts."""

    def split(items):
        records, faults = [], []
        for item in items:
            (faults if isinstance(item, Fault) else records).append(item)
        return records, [str(fault) for fault in faults]

    return split


@pytest.fixture
def write(tmp_path):
    """Write a file and give its path."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write
