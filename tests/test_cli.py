# ruff: noqa: E501 (the table of what can be wrong reads better in one line each)
"""The command line as a user meets it: its results, and one line with exit status 2 for whatever is wrong."""

import json
import logging
import os
import re
import runpy
import subprocess
import sys
import time
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

from raison.cli import app, main
from raison.cli.common import data, quiet
from raison.rationales import Rationale, save_scores
from raison.records import Annotation, InputError, Record, Span, write_records
from raison.words import word_grid, words_in_spans

BROKEN = runpy.run_path(str(Path(__file__).with_name("broken_files.py")))["broken_files"]
MINUTE = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def run(*arguments):
    """Run a command in this process, and give its exit status."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code or 0


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny):
    """A folder with a model and records that people have marked."""
    folder = tmp_path_factory.mktemp("cli")
    classifier = tiny.build("bert", seed=5)
    classifier.model.save_pretrained(folder / "model")
    classifier.tokenizer.save_pretrained(folder / "model")
    base = tiny.records()
    records = [
        Record(
            f"{record.id}.{copy}",
            {name: f"{text} the dog reads a book".strip() for name, text in record.fields.items()},
            "nli",
            record.label,
            ("entailment", "neutral", "contradiction"),
            (Annotation("ann", record.label, {"premise": (Span(0, 1),)}), Annotation("bob", record.label, None)),
        )
        for copy in range(12)
        for record in base
    ]
    write_records(folder / "data.jsonl", records)
    return folder


@pytest.fixture(scope="module")
def scored(place):
    """The folder, with scores of two methods in it."""
    for method in ("random", "input-x-gradient"):
        code = run(
            "extract",
            "--model",
            place / "model",
            "--data",
            place / "data.jsonl",
            "--method",
            method,
            "--out",
            place / f"{method}.jsonl",
        )
        assert code == 0
    return place


def test_the_whole_path(scored, tmp_path, capsys):
    out = tmp_path / "verdict"
    code = run("evaluate", "--model", scored / "model", "--data", scored / "data.jsonl",
               "--rationales", scored / "random.jsonl", scored / "input-x-gradient.jsonl",
               "--out", out, "--json", tmp_path / "cells.json")  # fmt: skip
    printed = capsys.readouterr()
    assert code == 0
    assert "Agreement with people" in printed.out
    assert "chance" in printed.out
    assert "report.html" in printed.err
    assert {path.name for path in out.iterdir()} == {
        "metrics.json", "records.parquet", "items.jsonl", "items.jsonl.meta.json", "report.html",
    }  # fmt: skip
    cells = json.loads((tmp_path / "cells.json").read_bytes())
    assert set(cells[0]) == {"metric", "source", "slice", "value", "low", "high", "n", "frame", "verdict"}
    assert {cell["source"] for cell in cells} == {"random", "input_x_gradient"}
    assert json.loads((out / "metrics.json").read_bytes())["provenance"]["models"]
    page = tmp_path / "other.html"
    assert run("report", out, "--out", page, "--title", "Mine") == 0
    assert "<title>Mine" in page.read_text()
    assert run("evaluate", "--model", scored / "model", "--data", scored / "data.jsonl", "--budget", "k:2",
               "--rationales", scored / "random.jsonl", "--out", out) == 2  # fmt: skip
    assert "made from something else" in capsys.readouterr().err


def test_two_files_of_one_method_are_told_apart(scored, tmp_path):
    run("extract", "--model", scored / "model", "--data", scored / "data.jsonl", "--method", "random",
        "--seed", 9, "--out", tmp_path / "again.jsonl")  # fmt: skip
    code = run("evaluate", "--data", scored / "data.jsonl", "--rationales", scored / "random.jsonl",
               "--rationales", tmp_path / "again.jsonl", "--out", tmp_path / "v", "--json", tmp_path / "c.json")  # fmt: skip
    assert code == 0
    sources = {cell["source"] for cell in json.loads((tmp_path / "c.json").read_bytes())}
    assert sources == {f"random ({scored / 'random.jsonl'})", f"random ({tmp_path / 'again.jsonl'})"}


def test_rationales_of_others_are_judged_without_a_model(place, tmp_path):
    records = [json.loads(line) for line in (place / "data.jsonl").read_text().splitlines()]
    said = []
    for row in records:
        grid = word_grid(Record(row["id"], row["fields"]))
        said.append(
            Rationale(row["id"], "llm", {"premise": words_in_spans(grid.words["premise"], [Span(0, 1)])}, "k:1")
        )
    save_scores(tmp_path / "llm.jsonl", said)
    assert run("evaluate", "--data", place / "data.jsonl", "--rationales", tmp_path / "llm.jsonl",
               "--out", tmp_path / "v", "--json", tmp_path / "c.json") == 0  # fmt: skip
    cells = {(c["metric"], c["slice"]): c for c in json.loads((tmp_path / "c.json").read_bytes())}
    assert cells["f1", "all"]["value"] == 1.0
    assert "flip_rate" not in {metric for metric, _ in cells}


@pytest.mark.parametrize("command", ["extract", "evaluate", "train", "check"])
def test_every_broken_file_is_one_line_and_leaves_nothing(command, scored, tmp_path, capsys):
    source = tmp_path / "broken"
    source.mkdir()
    out = tmp_path / "out"
    names = 0
    for name, path, message in BROKEN(source):
        names += 1
        arguments = {
            "extract": ("extract", "--model", scored / "model", "--data", path, "--out", out),
            "evaluate": ("evaluate", "--data", path, "--rationales", scored / "random.jsonl", "--out", out),
            "train": ("train", "--model", scored / "model", "--data", path, "--out", out),
            "check": ("data", "check", path),
        }[command]
        assert run(*arguments) == 2, name
        printed = capsys.readouterr().err
        assert message in printed, name
        assert "Traceback" not in printed
        if command != "check":
            assert printed.count("\n") == 1, name
        assert {child.name for child in tmp_path.iterdir()} == {"broken"}, name
    assert names >= 25


WRONG = {
    "no such data": (["extract", "--model", "MODEL", "--data", "nowhere.jsonl", "--out", "OUT"], "nowhere.jsonl"),
    "no such model": (["extract", "--model", "nowhere/model", "--data", "DATA", "--out", "OUT"], "nowhere/model"),
    "empty model folder": (["extract", "--model", "EMPTY", "--data", "DATA", "--out", "OUT"], "can't be loaded"),
    "model without a head": (["extract", "--model", "HEADLESS", "--data", "DATA", "--out", "OUT"], "not a sequence classifier"),
    "damaged weights": (["extract", "--model", "DAMAGED", "--data", "DATA", "--out", "OUT"], "can't be loaded"),
    "unknown method": (
        ["extract", "--model", "MODEL", "--data", "DATA", "--out", "OUT", "--method", "integrated-gradient"],
        "did you mean integrated_gradients",
    ),
    "unknown target": (["extract", "--model", "MODEL", "--data", "DATA", "--out", "OUT", "--target", "maybe"], "'maybe'"),
    "contrast with itself": (
        ["extract", "--model", "MODEL", "--data", "DATA", "--out", "OUT", "--target", "predicted - predicted"],
        "with itself",
    ),
    "option of another method": (
        ["extract", "--model", "MODEL", "--data", "DATA", "--out", "OUT", "--method", "gradient", "--steps", "9"],
        "takes no option 'steps'",
    ),
    "steps that are none": (
        ["extract", "--model", "MODEL", "--data", "DATA", "--out", "OUT", "--method", "integrated-gradients", "--steps", "x"],
        "steps 'x'",
    ),
    "unknown baseline": (
        ["extract", "--model", "MODEL", "--data", "DATA", "--out", "OUT", "--method", "integrated-gradients", "--baseline", "x"],
        "unknown baseline",
    ),
    "unknown reduction": (["extract", "--model", "MODEL", "--data", "DATA", "--out", "OUT", "--reduction", "x"], "unknown reduction"),
    "unknown operator": (
        ["extract", "--model", "MODEL", "--data", "DATA", "--out", "OUT", "--method", "occlusion", "--mask", "x"],
        "unknown mask operator",
    ),
    "out is a folder": (["extract", "--model", "MODEL", "--data", "DATA", "--out", "EMPTY"], "a folder"),
    "unknown format": (["data", "check", "DATA", "--format", "recods"], "records"),
    "unknown command": (["evalute"], "evaluate"),
    "unknown option": (["extract", "--modell", "MODEL"], "--modell"),
    "missing option": (["extract", "--model", "MODEL"], "--data"),
    "not a number": (["data", "show", "DATA", "-n", "many"], "valid integer"),
    "below the least": (["data", "show", "DATA", "-n", "0"], "greater than or equal to 1"),
    "scores of other records": (["evaluate", "--data", "OTHER", "--rationales", "SCORES", "--out", "OUT"], "not in the data"),
    "scores that are records": (["evaluate", "--data", "DATA", "--rationales", "DATA", "--out", "OUT"], "data.jsonl:1"),
    "no scores": (["evaluate", "--data", "DATA", "--rationales", "nowhere.jsonl", "--out", "OUT"], "nowhere.jsonl"),
    "unknown budget": (["evaluate", "--data", "DATA", "--rationales", "SCORES", "--out", "OUT", "--budget", "all"], "unknown budget"),
    "impossible budget": (["evaluate", "--data", "DATA", "--rationales", "SCORES", "--out", "OUT", "--budget", "k:0"], "k:0"),
    "unknown rule": (["evaluate", "--data", "DATA", "--rationales", "SCORES", "--out", "OUT", "--aggregate", "x"], "aggregate"),
    "no run": (["report", "EMPTY"], "no result of raison evaluate"),
    "too many shots": (["train", "--model", "MODEL", "--data", "DATA", "--shots", "99", "--out", "OUT"], "fewer than the 99 shots"),
    "seed below 0": (["extract", "--model", "MODEL", "--data", "DATA", "--out", "OUT", "--seed", "-1"], "greater than or equal to 0"),
    "no such device": (["extract", "--model", "MODEL", "--data", "DATA", "--out", "OUT", "--device", "foo"], "there is none here"),
    "out is where we stand": (["extract", "--model", "MODEL", "--data", "DATA", "--out", "."], "a folder"),
    "learning rate below 0": (["train", "--model", "MODEL", "--data", "DATA", "--lr", "-1", "--out", "OUT"], "lr -1"),
    "train no such model": (["train", "--model", "/nowhere/at/all", "--data", "DATA", "--out", "OUT"], "no such folder"),
    "judge into a file": (["evaluate", "--data", "DATA", "--rationales", "SCORES", "--out", "DATA"], "can't be written"),
    "cells into a folder": (["evaluate", "--data", "DATA", "--rationales", "SCORES", "--out", "OUT", "--json", "EMPTY"], "can't be written"),
    "train over something": (["train", "--model", "MODEL", "--data", "DATA", "--out", "MODEL"], "exists already"),
}  # fmt: skip


@pytest.fixture(scope="module")
def wrong(scored, tmp_path_factory, tiny):
    """What the words in capitals stand for."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "empty").mkdir()
    classifier = tiny.build("bert")
    base = classifier.model.bert
    base.save_pretrained(folder / "headless")
    classifier.tokenizer.save_pretrained(folder / "headless")
    classifier.model.save_pretrained(folder / "damaged")
    classifier.tokenizer.save_pretrained(folder / "damaged")
    weights = folder / "damaged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    write_records(folder / "other.jsonl", [Record("elsewhere", {"premise": "a", "hypothesis": "b"})])
    return {
        "MODEL": scored / "model", "DATA": scored / "data.jsonl", "SCORES": scored / "random.jsonl",
        "EMPTY": folder / "empty", "HEADLESS": folder / "headless", "DAMAGED": folder / "damaged",
        "OTHER": folder / "other.jsonl",
    }  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line_and_leaves_nothing(name, wrong, tmp_path, capsys):
    arguments, message = WRONG[name]
    before = sorted(path for value in wrong.values() if value.is_dir() for path in value.rglob("*"))
    places = {**wrong, "OUT": tmp_path / "out"}
    assert run(*(places.get(argument, argument) for argument in arguments)) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not list(tmp_path.iterdir())
    assert sorted(path for value in wrong.values() if value.is_dir() for path in value.rglob("*")) == before


def test_two_extractions_of_one_file_do_not_mix(scored, tmp_path):
    from raison.runs import Unfinished

    first = Unfinished(tmp_path / "x.jsonl", {"a": 1}, 2)
    first.append([{"n": 1}, {"n": 2}])
    second = Unfinished(tmp_path / "x.jsonl", {"a": 1}, 2)
    with pytest.raises(InputError, match="another process"):
        second.resume()
    first.append([{"n": 3}])
    with pytest.raises(InputError, match="another process"):
        first.finish(4)
    assert not (tmp_path / "x.jsonl").exists()


def test_what_a_word_is_belongs_to_a_result(scored, tmp_path, capsys):
    common = ("extract", "--model", scored / "model", "--data", scored / "data.jsonl", "--out", tmp_path / "x.jsonl")
    assert run(*common) == 0
    assert run(*common, "--words", "characters") == 2
    assert "made from something else" in capsys.readouterr().err


def test_limit_judges_a_part_of_what_has_scores(scored, tmp_path):
    assert run("evaluate", "--data", scored / "data.jsonl", "--rationales", scored / "random.jsonl", "--limit", 5,
               "--out", tmp_path / "v", "--json", tmp_path / "c.json") == 0  # fmt: skip
    assert max(cell["n"] for cell in json.loads((tmp_path / "c.json").read_bytes())) == 5


def test_help_has_an_example_for_every_command(capsys):
    for command in (["train"], ["extract"], ["evaluate"], ["report"], ["demo"], ["data", "check"], ["data", "show"]):
        assert run(*command, "--help") == 0
        assert "Example: raison" in capsys.readouterr().out


def test_an_option_of_several_commands_is_declared_once():
    first = {}
    for command in (*app.registered_commands, *data.registered_commands):
        for hint in get_type_hints(command.callback, include_extras=True).values():
            for option in getattr(hint, "__metadata__", ()):
                known = first.setdefault((type(option), option.help or option), option)
                assert known is option, f"{command.callback.__name__}: {option.help}"
    assert len(first) > 80


def test_help_is_instant_since_nothing_heavy_is_imported():
    code = "import sys, raison.cli; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_hostile_texts_pass_through_to_the_page(place, tmp_path):
    """HTML, scripts, right-to-left marks and 100,000 characters: extracted, judged, and shown as text by a browser."""
    sync_api = pytest.importorskip("playwright.sync_api")
    browser_path = next((p for p in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(p).exists()), None)
    if browser_path is None:
        pytest.skip("needs the system's Chromium")
    texts = [
        '<script>window.hacked = 1</script> <img src=x onerror="window.hacked=1"> a dog',
        "\u202ethe dog\u202c \u200freads\u200e a book",
        "</script><!-- --><b>bold</b> &amp; a man",
        "the dog " * 12_500,
        "\x07 control \x1b[31m characters a dog",
    ]
    records = [
        Record(
            str(i),
            {"premise": text, "hypothesis": "a dog"},
            label="neutral",
            annotations=(Annotation("<i>ann</i>", "neutral", {"premise": (Span(0, 3),)}),),
        )
        for i, text in enumerate(texts)
    ]
    write_records(tmp_path / "data.jsonl", records)
    for arguments in (
        ["extract", "--model", place / "model", "--data", tmp_path / "data.jsonl", "--out", tmp_path / "s.jsonl"],
        ["evaluate", "--model", place / "model", "--data", tmp_path / "data.jsonl",
         "--rationales", tmp_path / "s.jsonl", "--out", tmp_path / "v"],
    ):  # fmt: skip
        assert run(*arguments) == 0
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert len(rows[3]["scores"]["premise"]) == 25_000
    assert rows[3]["scores"]["premise"][-1] is None
    assert np.isfinite([x for x in rows[3]["scores"]["premise"] if x is not None]).all()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((tmp_path / "v" / "report.html").as_uri())
        page.wait_for_selector("text=onerror")
        body = page.inner_text("body")
        assert page.evaluate("window.hacked") is None
        browser.close()
    assert "<script>window.hacked" in body
    assert "<b>bold</b>" in body
    assert "<i>ann</i>" in body
    assert not errors


@pytest.mark.slow
def test_an_extraction_killed_three_times_goes_on_to_an_equal_result(place, tmp_path, tiny):
    base = tiny.records()
    records = [
        Record(f"{i}", {name: f"{text} {i % 7} dogs" for name, text in base[i % 4].fields.items()}) for i in range(1100)
    ]
    write_records(tmp_path / "many.jsonl", records)

    def command(out):
        return ["extract", "--model", str(place / "model"), "--data", str(tmp_path / "many.jsonl"), "--method",
                "occlusion", "--out", str(out)]  # fmt: skip

    out, part, program = tmp_path / "b.jsonl", tmp_path / "b.jsonl.part", [sys.executable, "-m", "raison"]
    for chunks in (1, 2, 3):
        killed = subprocess.Popen([*program, *command(out)], env=MINUTE, stderr=subprocess.DEVNULL)
        while killed.poll() is None and not (part.exists() and part.read_bytes().count(b"\n") >= 256 * chunks):
            time.sleep(0.01)
        killed.kill()
        assert killed.wait() != 0
        assert part.exists()
        with part.open("ab") as stream:
            stream.write(b'{"record_id": "cut in the mid')  # as if it had been killed while it wrote
    again = subprocess.run([*program, *command(out)], env=MINUTE, check=True, stderr=subprocess.PIPE, text=True)
    assert re.search("(768|1024) of 1100 records had been done before", again.stderr)
    assert not part.exists()
    assert run(*command(tmp_path / "a.jsonl")) == 0
    assert (tmp_path / "a.jsonl").read_bytes() == out.read_bytes()


def test_what_the_hub_retries_is_not_told():
    """A name that leads nowhere costs one line, not one for each of a dozen tries."""
    from huggingface_hub.utils import logging as hub

    hub.set_verbosity_warning()
    quiet()
    assert not logging.getLogger("huggingface_hub.utils._http").isEnabledFor(logging.WARNING)
