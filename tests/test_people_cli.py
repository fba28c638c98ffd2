"""`raison annotators people`, `split` and `collect`, as a user meets them."""

import json
from itertools import chain

import pytest

from raison.cli import main
from raison.records import Annotation, Record, read_records, write_records


def run(*arguments):
    """Run a command in this process, and give its exit status."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code or 0


@pytest.fixture
def data(tmp_path):
    records = [
        Record(
            f"i{n}",
            {"text": f"It rains {n} times."},
            label="yes",
            label_set=("yes", "no"),
            annotations=(Annotation("ann", "yes", None, "Sure."), Annotation("ben", "yes", None, f"{n}, so yes.")),
        )
        for n in range(10)
    ]
    write_records(tmp_path / "x.jsonl", records)
    return tmp_path / "x.jsonl"


def test_people_are_told_left_out_and_renamed(data, capsys, tmp_path):
    out = tmp_path / "y.jsonl"
    (tmp_path / "gone.txt").write_text("ben\nzoe\n")
    assert run("annotators", "people", "--data", data, "--without", tmp_path / "gone.txt", "--out", out,
               "--pseudonyms", tmp_path / "salt", "--json", tmp_path / "cells.json") == 0  # fmt: skip
    shown = capsys.readouterr()
    assert "left out: 1 who opted out; not in the data: zoe" in shown.err
    assert f"wrote {out} (10 records)" in shown.err
    (name,) = {one.annotator for record in read_records(out) for one in record.annotations}
    assert name.startswith("p-")
    assert "ann" not in out.read_text().replace("annota", "")
    assert name in shown.out
    assert {cell["source"] for cell in json.loads((tmp_path / "cells.json").read_text())} == {name}
    salt = (tmp_path / "salt").read_text().strip()
    assert not [path for path in (out, tmp_path / "cells.json") if salt in path.read_text()]
    assert salt not in shown.out + shown.err


def test_a_split_is_written_and_checked_again(data, capsys, tmp_path):
    split, cells = tmp_path / "split.json", tmp_path / "cells.json"
    assert run("annotators", "split", "--data", data, "--out", split, "--records", tmp_path / "parts",
               "--sizes", "6,2,2", "--json", cells) == 0  # fmt: skip
    shown = capsys.readouterr()
    assert "explanations of test items that stand in train word for word: 2 (ann 2)" in shown.err
    sizes = {c["slice"]: c["value"] for c in json.loads(cells.read_text()) if c["metric"] == "items"}
    assert sizes == {"train": 6, "dev": 2, "test": 2}
    parts = {name: [r.id for r in read_records(tmp_path / f"parts/{name}.jsonl")] for name in sizes}
    assert sorted(chain(*parts.values())) == [f"i{n}" for n in range(10)]
    assert run("annotators", "split", "--data", data, "--check", split, "--records", tmp_path / "again",
               "--without", "ann") == 0  # fmt: skip
    assert {name: [r.id for r in read_records(tmp_path / f"again/{name}.jsonl")] for name in sizes} == parts
    assert "ann" not in (tmp_path / "again/test.jsonl").read_text().replace("annota", "")
    capsys.readouterr()
    write_records(tmp_path / "other.jsonl", list(read_records(data))[1:])
    assert run("annotators", "split", "--data", tmp_path / "other.jsonl", "--check", split) == 2
    assert (
        capsys.readouterr().err == f"raison: {split}: made for other data: item 'i0' of the split is not in the data\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("split", "--sizes", "3,2"), "--sizes '3,2': expected three numbers, TRAIN,DEV,TEST"),
        (("split", "--check", "x", "--out", "y"), "--out: not beside --check"),
        (("split", "--together", "premise"), "split: no field 'premise'; there are text"),
        (("people", "--without", "nowhere.txt"), "nowhere.txt: no such file; expected one name a line"),
        (("collect", "--tool", "argila", "--out", "y"), "--tool: unknown tool 'argila'; did you mean 'argilla'?"),
    ],
)
def test_wrong_input_is_one_line(data, capsys, arguments, message):
    command, *rest = arguments
    assert run("annotators", command, "--data", data, *rest) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"raison: {message}")
    assert shown.count("\n") == 1


def test_a_table_of_nobody_is_a_line(data, capsys, tmp_path):
    assert run("annotators", "people", "--data", data, "--without", "ann,ben") == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "left out: 2 who opted out\nthere is no annotation of anybody\n")
    write_records(tmp_path / "y.jsonl", [Record("1", {"text": "a"}, annotations=(Annotation(None, "x"),))])
    assert run("annotators", "people", "--data", tmp_path / "y.jsonl") == 0
    assert capsys.readouterr().err == "none of 1 annotations says whose it is\n"


def test_an_empty_part_is_warned_of(data, capsys):
    assert run("annotators", "split", "--data", data, "--sizes", "3,0,1") == 0
    shown = capsys.readouterr().err
    assert "warning: dev is empty; `raison annotators score` can't tell who wrote what" in shown
    assert shown.count("is empty") == 1


def test_items_of_categories_that_are_not_in_the_data_are_counted(capsys, tmp_path):
    given = {"premise": "p", "hypothesis": "h", "explanation": "So.", "explanation_category": "x"}
    (tmp_path / "litex.jsonl").write_text("".join(json.dumps({**given, "pairID": name}) + "\n" for name in "123"))
    item = {"context": "p", "statement": "h", "neutral": [{"annotator": 0, "reason": "So."}], "entailment": [],
            "contradiction": []}  # fmt: skip
    (tmp_path / "varierr.json").write_text("".join(json.dumps({**item, "id": name}) + "\n" for name in "230"))
    command = ("annotators", "people", "--data", tmp_path / "varierr.json", "--map")
    assert run(*command, f"categories={tmp_path / 'litex.jsonl'}") == 0
    assert f"categories: 2 of 3 items of {tmp_path / 'litex.jsonl'} are in the data\n" in capsys.readouterr().err
    (tmp_path / "litex.jsonl").write_text(json.dumps({**given, "pairID": "7"}) + "\n")
    assert run(*command, f"categories={tmp_path / 'litex.jsonl'}") == 2
    assert capsys.readouterr().err == (
        f"raison: {tmp_path / 'litex.jsonl'}: none of its items is in the data; is it the same data set?\n"
    )


@pytest.mark.parametrize("tool", ["label-studio", "argilla"])
def test_a_project_is_made_and_what_comes_of_it_is_read(data, capsys, tmp_path, tool):
    project = tmp_path / "project"
    assert run("annotators", "collect", "--data", data, "--tool", tool, "--out", project, "--limit", "2") == 0
    assert "wrote" in capsys.readouterr().err
    if tool == "argilla":
        rows = json.loads((project / "records.json").read_text())
        rows[0]["responses"] = {"label": [{"value": "no", "user_id": "u"}]}
        (project / "records.json").write_text(json.dumps(rows))
        export = project
    else:
        (task, *_) = json.loads((project / "tasks.json").read_text())
        chosen = {"type": "choices", "to_name": "text", "value": {"choices": ["no"]}}
        export = tmp_path / "export.json"
        export.write_text(json.dumps([{"id": 1, **task, "annotations": [{"completed_by": 4, "result": [chosen]}]}]))
    assert run("annotators", "people", "--data", export, "--out", tmp_path / "y.jsonl") == 0
    record = next(iter(read_records(tmp_path / "y.jsonl")))
    assert (record.id, record.label, len(record.annotations)) == ("i0", "no", 1)
    assert run("annotators", "collect", "--data", data, "--tool", tool, "--out", project) == 2
    assert "expected an empty folder" in capsys.readouterr().err
