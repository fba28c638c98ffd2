"""What tests of trainings share."""

import pytest


@pytest.fixture(scope="module")
def base(tiny, tmp_path_factory):
    """A folder with an untrained classifier, with dropout."""
    return tiny.save(tmp_path_factory.mktemp("models") / "base")
