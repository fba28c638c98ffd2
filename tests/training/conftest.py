"""What tests of trainings share."""

import pytest


@pytest.fixture(scope="module")
def base(tiny, tmp_path_factory):
    """A folder with an untrained classifier, with dropout."""
    folder = tmp_path_factory.mktemp("models") / "base"
    classifier = tiny.build("bert")
    classifier.model.save_pretrained(folder)
    classifier.tokenizer.save_pretrained(folder)
    return folder
