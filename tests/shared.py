"""Where the data for tests lies: under $RAISON_SHARED, or in a folder `shared` beside the repository."""

import os
from pathlib import Path

import pytest


def shared_file(name):
    """Give the path of a shared file, or skip the test where it is absent."""
    roots = [Path(os.environ["RAISON_SHARED"])] if "RAISON_SHARED" in os.environ else []
    for folder in [*roots, *(parent / "shared" for parent in Path(__file__).resolve().parents)]:
        if (folder / name).exists():
            return folder / name
    return pytest.skip(f"{name} is in no folder `shared` above the tests; set RAISON_SHARED to have it tested")
