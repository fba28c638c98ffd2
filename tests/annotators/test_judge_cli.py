"""The commands: a judge behind a server, a dry run, a kit and its results; and what is wrong with their input."""

import csv
import json
import re

import pytest

import answerers
from crowd import PEOPLE, explained, imitated, records
from faulty_server import Faulty, completion
from raison.annotators.responses import responses_of, write_responses
from raison.annotators.splits import split_items
from raison.cli import main
from raison.models import patience
from raison.records import write_records
from shared import shared_file


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(patience, "LONGEST_WAIT", 0.1)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def data(tmp_path):
    rows = records(60)
    write_records(tmp_path / "data.jsonl", rows)
    test = split_items(rows).test
    write_responses(tmp_path / "copy.jsonl", responses_of(test))
    write_responses(tmp_path / "flat.jsonl", imitated(test, text="no habit at all on {item}"))
    return tmp_path


def run(*arguments, status=0):
    with pytest.raises(SystemExit) as end:
        main(["annotators", *map(str, arguments)])
    assert end.value.code == status


def judging(folder, *more):
    systems = ("--outputs", f"copy={folder}/copy.jsonl", "--outputs", f"flat={folder}/flat.jsonl")
    return ("judge", "--data", folder / "data.jsonl", *systems, "--out", folder / "run", *more)


HABITS = {"ann": "so it must be true!", "ben": "— maybe", "cem": "is in both", "dua": "can't be known"}


def knowing(content, attempt):
    """Judge by the habits: the letter under which the habit of the texts stands among the references."""
    before, after = content.split("Now texts that one of these people wrote")
    habit = next((said for said in HABITS.values() if said in after), None)
    letter = re.search(rf"\n([A-D]): [^\n]*{re.escape(habit)}", before)[1] if habit else "I cannot tell."
    return (200, completion(letter, prompt_tokens=50, reply_tokens=1), {})


def test_a_judge_behind_a_server(data, capsys):
    arguments = ("--groups", 2, "--texts", "1,3", "--price", "1,10", "--json", data / "cells.json")
    with Faulty(knowing) as server:
        run(*judging(data, "--model", "m", "--server", server.url, *arguments))
        asked = len(server.bodies)
        out, err = capsys.readouterr()
        run(*judging(data, "--model", "m", "--server", server.url, *arguments))
        assert len(server.bodies) == asked  # the second time nothing is asked
    cells = {(row["source"], row["slice"]): row for row in json.loads((data / "cells.json").read_text())}
    assert cells["human", "texts=1"]["value"] == 1
    assert cells["copy", "texts=3"]["value"] == 1
    assert cells["copy", "texts=3"]["frame"] == {"chance": 0.25, "ceiling": 1.0, "floor": 0.0, "relative": 1.0}
    assert (cells["flat", "texts=1"]["value"], cells["flat", "texts=1"]["n"]) == (None, 0)
    assert f"{256:,} questions" in err
    assert "no answer (flat, texts=1): 32 of 32 (nobody named 32)" not in err
    assert "no answer (flat, texts=1): 32 of 32 (refusal 32)" in err
    assert re.search(rf"{asked} conversations, {50 * asked:,} prompt and {asked} reply tokens, cost 0\.0\d+", err)
    assert "judge_accuracy, texts=1: human – copy = +0.00, p = 1.000 (Holm): not resolved at n = 8" in out
    found = json.loads((data / "run" / "findings.json").read_text())
    assert found["spent"]["cost"] == pytest.approx(asked * (50 + 10) / 1e6)
    assert capsys.readouterr().out == out


def test_the_copy_of_a_persons_texts_asks_nothing_of_its_own(data):
    """Its conversations are those of the person: the generator asks each once."""
    with Faulty(knowing) as server:
        run(*judging(data, "--model", "m", "--server", server.url, "--groups", 1, "--texts", "1"))
        assert len(server.bodies) == 4 * 4 * 3


def test_a_server_that_goes_away_and_comes_back(data, capsys):
    server = Faulty(
        lambda content, attempt: (
            (503, {}, {}) if len(served) >= 70 else served.append(content) or knowing(content, attempt)
        )
    )
    served = []
    arguments = judging(data, "--model", "m", "--server", server.url, "--patience", 0, "--groups", 3, "--texts", "1")
    with server:
        run(*arguments, status=2)
        assert "start again to go on" in capsys.readouterr().err
        del served[:]
        server.fault = lambda content, attempt: served.append(content) or knowing(content, attempt)
        run(*arguments)
    assert max(server.asked[content] for content in served) <= 2
    assert len(served) == 4 * 4 * 3 * 3 - 70


def test_a_dry_run_tries_out_the_design(data, capsys):
    run(
        *judging(
            data, "--dry-run", "0.9,0.2", "--variants", "plain,no-label+pairwise", "--texts", "1", "--price", "2,2"
        )
    )
    out, err = capsys.readouterr()
    assert re.search(r"[\d,]+ questions, about [\d,]+ prompt tokens, cost about \d+\.\d\d and that of the replies", err)
    found = json.loads((data / "run" / "findings.json").read_text())
    plain, pairs = found["positions"]
    assert plain["bias"]["A"]["low"] <= 0.2 <= plain["bias"]["A"]["high"]
    assert [*pairs["bias"]] == ["A", "B"]
    assert "positions (no-label+pairwise)" in out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "expected a judge: either --model or --dry-run"),
        (("--model", "m", "--dry-run", "1,0"), "expected a judge: either --model or --dry-run"),
        (("--dry-run", "1"), "--dry-run '1': expected ACCURACY,BIAS, such as 0.8,0.1"),
        (("--dry-run", "1.5,0"), "oracle: expected shares from 0 to 1"),
        (("--dry-run", "1,0", "--texts", "a"), "--texts 'a': expected whole numbers by commas"),
        (("--dry-run", "1,0", "--texts", ""), "expected at least 1 of each"),
        (("--dry-run", "1,0", "--variants", "loud"), "unknown variant 'loud'"),
        (("--dry-run", "1,0", "--outputs", "x"), "--outputs 'x': expected NAME=FILE, each name once"),
        (("--dry-run", "1,0", "--outputs", "copy=x"), "--outputs 'copy=x': expected NAME=FILE, each name once"),
        (("--dry-run", "1,0", "--outputs", "new=x"), "x: no such file"),
        (("--model", "m", "--price", "1,1"), "--price: only for a model behind a server"),
        (
            ("--model", "m", "--server", "http://127.0.0.1:9/v1", "--replies"),
            "--replies: only for a model that is loaded here",
        ),
        (("--model", "m", "--dtype", "foo"), "dtype 'foo': expected float32, bfloat16, float16"),
        (("--model", "/nowhere"), "/nowhere"),
    ],
)
def test_bad_input_costs_one_line(data, capsys, more, said):
    run(*judging(data, *more), status=2)
    (line,) = capsys.readouterr().err.splitlines()  # nothing is told before
    assert said in line
    assert line.startswith("raison: ")
    assert not (data / "run" / "verdicts.jsonl").exists()


def test_another_judge_does_not_go_on_in_the_same_folder(data, capsys):
    run(*judging(data, "--dry-run", "0.9,0", "--texts", "1", "--groups", 1))
    run(*judging(data, "--dry-run", "0.8,0", "--texts", "1", "--groups", 1), status=2)
    assert "exists already, made from something else" in capsys.readouterr().err


def test_who_opted_out_is_never_shown(data):
    run(*judging(data, "--without", "dua", "--dry-run", "1,0", "--texts", "1", "--groups", 1))
    lines = [json.loads(line) for line in (data / "run" / "verdicts.jsonl").read_text().splitlines()]
    assert {who for line in lines for who in line["question"]["options"]} == {"ann", "ben", "cem"}
    assert not any("dua" in line["question"]["references"] for line in lines)


def test_a_kit_that_is_smaller_than_asked_says_so(data, capsys):
    more = ("--slots", 4000, "--shared", 50, "--per-person", 400)
    run("kit", "--data", data / "data.jsonl", "--out", data / "kit", *more)
    err = capsys.readouterr().err.splitlines()
    assert err[:3] == [
        "48 inputs, not 4,000: no other test item has a text of every source and of another person",
        "all 48 are every rater's, as 50 were to be",
        "some people are shown on 36 training items, not 400: they explained no more",
    ]
    run("kit", "--data", data / "data.jsonl", "--out", data / "small")
    assert capsys.readouterr().err.startswith(f"wrote {data}/small/")


def test_kit_and_its_results(data, capsys):
    systems = ("--outputs", f"copy={data}/copy.jsonl", "--outputs", f"flat={data}/flat.jsonl")
    run("kit", "--data", data / "data.jsonl", *systems, "--out", data / "kit", "--slots", 10, "--shared", 4)
    err = capsys.readouterr().err
    assert f"keep {data}/kit.key.json from the raters" in err
    key = json.loads((data / "kit.key.json").read_text())
    assert not (data / "kit" / "kit.key.json").exists()
    items = {item["id"]: item for item in key["items"]}
    sheets = [data / "kit" / f"{rater}.csv" for rater in key["raters"]]
    for sheet in sheets:
        rows = [*csv.DictReader(sheet.read_text(encoding="utf-8-sig").splitlines(keepends=True))]
        for row in rows:
            item = items[row["item"]]
            writer = item["rival"] if item["source"] == "other" else item["target"]
            letter = item["letter"] if writer == item["target"] else "AB".replace(item["letter"], "")
            row["style"] = "unsure" if item["source"] == "flat" else letter
            row["valid"] = "yes"
        with sheet.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, [*rows[0]])
            writer.writeheader()
            writer.writerows(rows)
    run("kit-results", *sheets, "--key", data / "kit.key.json", "--json", data / "cells.json")
    out, err = capsys.readouterr()
    cells = {(row["metric"], row["source"], row["slice"]): row for row in json.loads((data / "cells.json").read_text())}
    assert cells["human_style", "copy", "all"]["value"] == 1
    assert cells["human_style", "other", "all"]["value"] == 0
    assert cells["human_style", "flat", "all"]["value"] is None
    assert cells["human_valid", "human", "all"]["n"] == 10
    assert "style: rater-1 and rater-2, 12 items of both: agreed 1.00 [0.76, 1.00], kappa 1.00 [1.00, 1.00]" in out
    assert "rater-1, style: decided 21, unsure 7" in err
    run("kit-results", sheets[0], sheets[0], "--key", data / "kit.key.json", status=2)
    assert re.search(r"rater-1.csv:\d+: rater-1 has answered item 'i\d+' already", capsys.readouterr().err)
    run("kit", "--data", data / "data.jsonl", "--out", data / "k2", "--key", data / "k2" / "key.json", status=2)
    assert "the key lies in the folder that raters get" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["data/varierr/all.jsonl", "data/lewidi_par"])
def test_real_people(name, tmp_path, capsys):
    """On the real data every person can be judged, and an oracle's accuracy comes back."""
    path = shared_file(name)
    if path.is_dir():
        joined = tmp_path / "all.jsonl"
        joined.write_bytes(b"".join((path / f"{part}.jsonl").read_bytes() for part in ("train", "dev", "test")))
        path = joined
    run(
        "judge",
        "--data",
        path,
        "--dry-run",
        "0.8,0",
        "--texts",
        "1,10",
        "--out",
        tmp_path / "run",
        "--json",
        tmp_path / "c.json",
    )
    cells = {(row["source"], row["slice"]): row for row in json.loads((tmp_path / "c.json").read_text())}
    assert cells["human", "texts=1"]["n"] == 80
    assert cells["human", "texts=1"]["low"] - 0.03 <= 0.8 <= cells["human", "texts=1"]["high"] + 0.03
    assert cells["human", "texts=10"]["n"] >= 32
    run("kit", "--data", path, "--out", tmp_path / "kit")
    assert "rater-1: 36 items" in capsys.readouterr().err


def test_the_crowd_is_what_the_server_takes_it_for():
    assert all(HABITS[who] in explained(who, 3) for who in PEOPLE)


@pytest.mark.slow
@pytest.mark.parametrize("replies", [False, True])
def test_a_model_that_is_loaded_here(data, capsys, replies):
    """It scores the letters; or replies in words, of which a model of random weights finds none that can be read."""
    words = answerers.tokenizer()
    folder = data / "model"
    answerers.causal("llama", words, positions=4096).save_pretrained(folder)
    words.save_pretrained(folder)
    arguments = ("--model", folder, "--texts", "1", "--groups", 1, "--per-person", 1, "--device", "cpu")
    run(*judging(data, *arguments, *(("--replies", "--reply-tokens", 2) if replies else ())))
    lines = [json.loads(line) for line in (data / "run" / "verdicts.jsonl").read_text().splitlines()]
    assert len(lines) == 4 * 4 * 4
    heard = [line["heard"] for line in lines]
    assert all((one["probabilities"] is None) == replies and one["prompt_tokens"] > 100 for one in heard)
    if not replies:
        assert all(sum(one["probabilities"].values()) == pytest.approx(1) for one in heard)
        assert "judge_log_loss" in capsys.readouterr().out
