import sys

import pytest

from raison.records import Annotation, InputError, Record
from raison.sources import load, scan

datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    features = datasets.Features(
        {
            "key": datasets.Value("string"),
            "tokens": datasets.Sequence(datasets.Value("string")),
            "flags": datasets.Sequence(datasets.Value("int64")),
            "y": datasets.ClassLabel(names=["no", "yes"]),
            "who": datasets.Value("int64"),
        }
    )
    rows = {
        "key": ["a", "a", "b", "c"],
        "tokens": [["A", "tall", "man"], ["A", "tall", "man"], ["A", "boy"], ["A", "girl"]],
        "flags": [[0, 1, 1], [0, 0, 1], None, [1]],
        "y": [1, 1, 0, None],
        "who": [1, 2, 1, 1],
    }
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "train.parquet")
    return folder / "train.parquet"


MAPPING = ["id=key", "text=tokens", "rationale=flags", "rationale_format=flags", "label=y", "annotator=who"]
EXPECTED = [
    Record(
        "a",
        {"text": "A tall man"},
        label="yes",
        annotations=(Annotation("1", "yes", {"text": ((2, 10),)}), Annotation("2", "yes", {"text": ((7, 10),)})),
    ),
    Record("b", {"text": "A boy"}, label="no", annotations=(Annotation("1", "no"),)),
]


def test_a_local_parquet_file_and_its_folder(parquet, split_items):
    for path, source in ((parquet, None), (parquet.parent, "hub")):
        records, faults = split_items(scan(path, source, MAPPING))
        assert records == EXPECTED
        assert faults == [f"{path}:4: field `rationale.text`: column 'flags': has 1 flags for 2 words"]


def test_a_local_folder_of_json_lines(write):
    path = write("data/train.jsonl", '{"sentence": "A boy.", "y": "no"}\n')
    assert load(path.parent, "hub", ["text=sentence", "label=y"]) == [Record("1", {"text": "A boy."}, label="no")]


def test_a_missing_column_is_answered_with_the_nearest(parquet):
    with pytest.raises(InputError, match="unknown column 'tokns'; did you mean 'tokens'"):
        load(parquet, mapping=["text=tokns"])


@pytest.mark.parametrize("options", [["split=nowhere"], ["config=nothing", "split=nowhere"]])
def test_what_cannot_be_had_is_one_line(parquet, options):
    with pytest.raises(InputError) as caught:
        load(parquet.parent, "hub", ["text=tokens", *options])
    assert "can't be read as a Hugging Face data set" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_id_without_network_is_one_line(monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="raison-tests/nothing-here: can't be read as a Hugging Face data set"):
        load("raison-tests/nothing-here", mapping=["text=tokens"])


def test_without_the_package_it_says_what_to_install(parquet, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'raison\[hub\]'"):
        load(parquet, mapping=["text=tokens"])


def test_a_mapping_is_needed(parquet):
    with pytest.raises(InputError, match="name at least one field"):
        load(parquet)
