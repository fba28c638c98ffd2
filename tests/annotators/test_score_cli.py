"""`raison annotators score`: files in, a table, cells and pages out; what is wrong costs one line."""

import json

import msgspec
import numpy as np
import pytest

from crowd import records
from raison.annotators.responses import responses_of, write_responses
from raison.annotators.splits import split_items, write_split
from raison.cli import main
from raison.records import write_records

ITEMS = records(60)
SPLIT = split_items(ITEMS)
TEST = responses_of(SPLIT.test)


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["annotators", "score", *map(str, arguments)])
    return end.value.code


@pytest.fixture
def files(tmp_path):
    write_records(tmp_path / "data.jsonl", ITEMS)
    write_split(tmp_path / "split.json", SPLIT, 13)
    write_responses(tmp_path / "own.jsonl", TEST)
    write_responses(tmp_path / "flat.jsonl", [msgspec.structs.replace(one, label="neutral") for one in TEST])
    return tmp_path


def test_files_in_a_table_cells_and_pages_out(files, capsys):
    code = run(
        "--data", files / "data.jsonl", "--split", files / "split.json", "--responses", files / "own.jsonl",
        "--responses", f"flat={files / 'flat.jsonl'}", "--without", "dua", "--json", files / "cells.json",
        "--out", files / "out",
    )  # fmt: skip
    shown = capsys.readouterr().out
    assert code == 0, shown
    assert "Did it learn the person?" in shown
    cells = json.loads((files / "cells.json").read_text())
    assert {cell["source"] for cell in cells} >= {"own", "flat", "human", "another person"}
    assert not any("dua" in cell["slice"] for cell in cells)
    assert sorted(path.name for path in (files / "out").iterdir()) == [
        "imitation.json", "index.html", "person-1.html", "person-2.html", "person-3.html",
    ]  # fmt: skip
    assert all("dua" not in path.read_text() for path in (files / "out").iterdir())


def test_similarity_by_a_sentence_encoder(files, monkeypatch):
    loaded = []

    def encoder(model, **how):
        loaded.append((model, how))
        return lambda texts: np.array([[text.count("a"), len(text)] for text in texts])

    monkeypatch.setattr("raison.annotators.vectors.sentence_encoder", encoder)
    code = run(
        "--data", files / "data.jsonl", "--split", files / "split.json", "--responses", files / "own.jsonl",
        "--encoder", "mini", "--json", files / "cells.json",
    )  # fmt: skip
    assert code == 0
    assert loaded == [("mini", {"device": None, "trust_remote_code": False})]
    cells = json.loads((files / "cells.json").read_text())
    (cell,) = [cell for cell in cells if (cell["metric"], cell["source"], cell["slice"]) == ("embedding", "own", "all")]
    assert cell["value"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--responses", "absent.jsonl"], "absent.jsonl: no such file"),
        (["--responses", "=x"], "--responses =x: expected FILE or NAME=FILE"),
        (["--responses", "human={own}"], "responses 'human': a control has this name; taken are human, another person"),
        (["--responses", "{own}", "--vectors", "foo"], "--vectors 'foo': expected words, chars"),
        (["--responses", "{own}", "--encoder", "/nowhere", "--device", "foo"], "device 'foo': there is none here"),
        (["--responses", "{own}", "--divisor", "0"], "--divisor 0: expected a number above 0"),
    ],
)
def test_what_is_wrong_costs_one_line(files, capsys, arguments, line):
    given = [argument.format(own=files / "own.jsonl") for argument in arguments]
    assert run("--data", files / "data.jsonl", *given) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1


def test_the_help_names_the_choices(capsys):
    assert run("--help") == 0
    assert "words, chars" in " ".join(capsys.readouterr().out.split())
