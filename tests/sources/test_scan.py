import json

import pytest

import raison.sources
from raison.records import InputError, Record, write_records
from raison.sources import SOURCES, load, scan
from raison.sources.guess import guess
from raison.sources.options import read_options

RECORDS = [Record(str(n), {"text": f"word {n}"}) for n in range(3)]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x.jsonl", '{"id": "1", "fields": {"text": "a"}}', "records"),
        ("x.txt", '\n{"id": "1", "fields": {"text": "a"}}', "records"),
        ("x.jsonl", '{broken\n{"id": "1", "fields": {"text": "a"}}', "records"),
        ("x.jsonl", "{broken", "records"),
        ("x.jsonl", "", "records"),
        ("x.jsonl", "nonsense", "records"),
        ("val.jsonl", '{"annotation_id": "1", "evidences": [], "query": ""}', "eraser"),
        (
            "x.csv",
            "pairID,gold_label,Sentence1,Sentence2,Explanation_1,Sentence1_marked_1,Sentence2_marked_1\n",
            "esnli",
        ),
        ("dataset.json", '{"p": {"post_tokens": []}}', "hatexplain"),
        ("dataset.json", '{\n "p": {\n  "post_tokens": []}}', "hatexplain"),
        ("x.parquet", "PAR1", "hub"),
    ],
)
def test_a_format_is_told_from_the_file(write, name, content, expected):
    path = write(name, content)
    assert guess(path, mapped=False) == expected
    assert guess(path, mapped=True) == ("table" if content in ("{broken", "nonsense", "") else expected)


def test_a_folder_of_three_files_is_snips(write):
    for name in ("seq.in", "seq.out", "label"):
        path = write(f"dev/{name}", "a\n")
    assert guess(path.parent, mapped=False) == "snips"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", "text,label\n"),
        ("x.tsv", "text\tlabel\n"),
        ("x.jsonl", '{"text": "a"}'),
        ("x.txt", "text;label\n"),
        ("x.json", '{"a": NaN}'),
    ],
)
def test_a_table_is_one_only_with_a_mapping(write, name, content):
    path = write(name, content)
    assert guess(path, mapped=True) == "table"
    with pytest.raises(InputError, match=r"`--format`, or say which column is what: `--map text=COLUMN") as caught:
        guess(path, mapped=False)
    assert str(caught.value).isprintable()


def test_what_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"no such file \(a Hugging Face data set: `--format hub` and a mapping\)"):
        guess(tmp_path / "x.jsonl", mapped=False)
    assert guess("owner/name", mapped=True) == "hub"
    for path in ("owner/name.csv", "/a/b/c", "owner/name"):
        with pytest.raises(InputError, match="no such file"):
            guess(path, mapped=path.endswith(("csv", "c")))


def test_json_over_several_lines_and_folders_of_something_else(write, tmp_path):
    with pytest.raises(InputError, match="no line of it is a JSON object; expected one object a line"):
        guess(write("x.json", '{\n "a": 1\n}'), mapped=False)
    with pytest.raises(InputError, match=r"a folder without seq\.in, seq\.out, label; expected a file"):
        guess(tmp_path, mapped=False)


@pytest.mark.parametrize("indent", [None, 1])
def test_tasks_that_nobody_has_annotated_are_no_export_yet(write, indent):
    tasks = [{"id": n, "data": {"text": f"word {n}"}} for n in range(60)]
    for given in (tasks, [{**task, "annotations": []} for task in tasks]):
        with pytest.raises(
            InputError, match=r"tasks of Label Studio that nobody has annotated; import .*`raison annot"
        ):
            guess(write("tasks.json", json.dumps(given, indent=indent)), mapped=False)
    tasks[-1]["annotations"] = [{"completed_by": 1, "result": []}]  # behind the lines that are looked at first
    assert guess(write("tasks.json", json.dumps(tasks, indent=indent)), mapped=False) == "label-studio"


def test_an_empty_table_is_told_as_empty(write):
    for name in ("x.csv", "x.jsonl"):
        with pytest.raises(InputError, match=r"the file is empty; expected at least one record"):
            load(write(name, ""), mapping=["id=item", "text=tweet"])


def test_unknown_names_are_answered_with_the_nearest(write):
    path = write("x.jsonl", "")
    with pytest.raises(
        InputError, match=r"unknown format 'ersaer'; did you mean 'eraser'\? \(there are: records, table"
    ):
        scan(path, "ersaer")
    with pytest.raises(InputError, match="format 'eraser': unknown option 'doc'; did you mean 'docs'"):
        scan(path, "eraser", ["doc=x"])
    with pytest.raises(InputError, match="format 'eraser': option `docs`: expected a text, found int"):
        scan(path, "eraser", {"docs": 3})
    with pytest.raises(InputError, match=r"format 'esnli': unknown option 'x'; \(there are: none\)"):
        scan(path, "esnli", ["x=y"])


def test_every_reader_has_a_docstring_and_takes_a_path():
    for reader in SOURCES.values():
        assert reader.__doc__
        assert next(iter(reader.__annotations__)) == "path"


def test_scan_and_load_read_the_same(tmp_path):
    path = tmp_path / "x.jsonl.gz"
    write_records(path, RECORDS)
    assert load(path) == list(scan(path)) == load(str(path), "records") == RECORDS


def test_limit(tmp_path):
    path = tmp_path / "x.jsonl"
    write_records(path, RECORDS)
    with open(path, "a") as stream:
        stream.write("{broken")
    assert load(path, limit=2) == RECORDS[:2]
    with pytest.raises(InputError, match="limit: expected at least 1, got 0"):
        load(path, limit=0)


def test_options_from_pairs_and_files(write):
    toml = write("map.toml", 'id = "a"\n[fields]\ntext = "b"\n')
    assert read_options(None) == {}
    assert read_options({"id": "x"}) == {"id": "x"}
    assert read_options("id=x") == {"id": "x"}
    assert read_options(toml) == read_options(str(toml)) == {"id": "a", "fields": {"text": "b"}}
    assert read_options([str(toml), "id=z", "fields.other=c=d"]) == {"id": "z", "fields": {"text": "b", "other": "c=d"}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["label"], "label: no such file or directory; expected name=column, or the path of a TOML file"),
        (["=x"], "option `=x`: expected name=column"),
        (["a..b=x"], "expected name=column"),
        (["a=x", "a.b=y"], "`a` is given twice"),
    ],
)
def test_options_that_cannot_be_read(given, message):
    with pytest.raises(InputError) as caught:
        read_options(given)
    assert message in str(caught.value)


@pytest.mark.parametrize(("content", "message"), [(b"\xff", "not UTF-8 text"), (b"a = ", "not valid TOML")])
def test_toml_that_cannot_be_read(write, content, message):
    with pytest.raises(InputError, match=message):
        read_options(write("map.toml", content))


def test_faults_of_a_table_are_told_by_load(write):
    path = write("x.csv", "t\n")
    with pytest.raises(InputError, match="the file is empty; expected at least one record"):
        load(path, mapping=["text=t"])


def test_public_names():
    assert all(hasattr(raison.sources, name) for name in raison.sources.__all__)


def test_all_of_the_data_folder_is_read(shared):
    for path in sorted((shared / "data").glob("*/*.jsonl*")):
        assert load(path, limit=20), path


def test_a_mapping_in_json_is_not_needed_for_records(write):
    row = {"id": "1", "fields": {"text": "a"}, "meta": {"post_tokens": ["a"]}}
    assert [record.id for record in load(write("x.jsonl", json.dumps(row)))] == ["1"]
