"""`raison data rationales` and the warnings of `raison data check`, as a user meets them."""

import json

import pytest

from raison.cli import main
from raison.records import Annotation, Record, Span, read_records, write_records

RULES = """
[lists.words]
play = ["song", "tune"]

[patterns]
patterns = ['(?P<x>the)']
"""


def run(*arguments):
    """Run a command in this process, and give its exit status."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code or 0


@pytest.fixture
def place(tmp_path):
    said = Annotation("ann", None, {"text": (Span(9, 13),)}, "it is the song")
    write_records(
        tmp_path / "x.jsonl",
        [
            Record(str(n), {"text": "play the song"}, label="play" if n else "rate", annotations=(said,) if n else ())
            for n in range(4)
        ],
    )
    (tmp_path / "rules.toml").write_text(RULES)
    return tmp_path


def test_rules_are_written_counted_and_warned_of(place, capsys):
    out = place / "y.jsonl"
    assert run("data", "rationales", place / "x.jsonl", "--rules", place / "rules.toml", "--out", out,
               "--json", place / "cells.json") == 0  # fmt: skip
    shown = capsys.readouterr()
    assert "75.0%" in shown.out  # `song` in the three records of `play`
    assert shown.err.splitlines() == [
        "warning: lists: word 'tune' of play is found in no record",
        f"wrote {out} (4 records)",
    ]
    cells = {(c["metric"], c["source"], c["slice"]): c["value"] for c in json.loads((place / "cells.json").read_text())}
    assert cells["with_rationale", "lists", "all"] == 3 / 4
    assert cells["records_found", "patterns", "(?P<x>the)"] == 4
    assert [a.annotator for a in list(read_records(out))[1].annotations] == ["ann", "lists", "patterns"]
    assert run("data", "check", out) == 0
    assert "warning: 'lists' looked at the gold label" in capsys.readouterr().err
    assert run("data", "rationales", out, "--rules", place / "rules.toml") == 2
    assert "'lists' already" in capsys.readouterr().err


def test_highlights_from_explanations_with_their_agreement(place, capsys):
    out = place / "y.jsonl"
    assert run("data", "rationales", place / "x.jsonl", "--from-explanations", "--out", out) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "explanation:ann" in shown
    assert "0.667" in shown  # `the song` beside `song`: 2 * 1 / (2 + 1)
    last = list(read_records(out))[3].annotations[-1]
    assert (last.annotator, last.rationale) == ("explanation:ann", {"text": (Span(5, 13),)})


def test_without_any_explanation_there_is_a_warning(place, capsys):
    write_records(place / "bare.jsonl", [Record("1", {"text": "play the song"}, label="play")])
    said = "warning: no record has an explanation; nothing was marked"
    for name, lines in (("bare", [said]), ("x", [])):
        assert run("data", "rationales", place / f"{name}.jsonl", "--from-explanations") == 0
        assert capsys.readouterr().err.splitlines() == lines


def test_slots_that_lie_in_no_text_are_faults_with_their_line(place, capsys):
    slot = {"field": "text", "start": 5, "end": 13, "slot": "what"}
    wrong = [{"end": 99}, {"field": "title"}, {"start": "5"}, {"start": 9, "end": 9}, {"start": -1}]
    metas = [[slot], *([slot, {**slot, **one}] for one in wrong), "of time", ["a", "b"], [{"from": 1}], []]
    rows = [Record(str(n), {"text": "play the song"}, meta={"slots": meta}) for n, meta in enumerate(metas)]
    write_records(place / "slots.jsonl", rows)
    assert run("data", "check", place / "slots.jsonl") == 2
    faults = capsys.readouterr().err.replace(f"{place}/", "").splitlines()
    assert faults == [
        "slots.jsonl:2: field `meta.slots[1]`: slot 'what' at 5-99: does not lie in a text of 13 characters",
        "slots.jsonl:3: field `meta.slots[1]`: slot 'what' at 5-13: the record has no field 'title'",
        "slots.jsonl:4: field `meta.slots[1].start`: expected `int`, got `str`",
        "slots.jsonl:5: field `meta.slots[1]`: slot 'what' at 9-9: does not lie in a text of 13 characters",
        "slots.jsonl:6: field `meta.slots[1]`: slot 'what' at -1-13: does not lie in a text of 13 characters",
    ]


@pytest.mark.parametrize("order", [("--from-explanations",), ()])
def test_noise_on_demand_in_new_rationales_or_in_all(place, capsys, order):
    out = place / "y.jsonl"
    assert run("data", "rationales", place / "x.jsonl", *order, "--noise", "drop:0.667", "--out", out) == 0
    assert "noise: drop in 2 of 3 records with a rationale (2 changed by it)" in capsys.readouterr().err
    who = "explanation:ann" if order else "ann"
    dropped = [a.annotator for r in read_records(out) for a in r.annotations if a.rationale is None]
    assert dropped == [who] * 2


def test_without_anything_to_do_it_tells_what_is_covered(place, capsys):
    assert run("data", "rationales", place / "x.jsonl") == 0
    assert "75.0%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--noise", "swap"), "expected KIND:RATE"),
        (("--noise", "swop:0.1"), "unknown noise 'swop'"),
        (("--noise", "swap:2"), "a rate from 0 to 1"),
        (("--rules", "nowhere.toml"), "nowhere.toml: no such file or directory; expected a TOML file of rules"),
        (("--words", "letters"), "unknown words"),
        (("--annotator", "bob"), "unknown annotator 'bob'"),
    ],
)
def test_wrong_input_costs_one_line(place, capsys, options, message):
    assert run("data", "rationales", place / "x.jsonl", *options, "--out", place / "y.jsonl") == 2
    assert message in capsys.readouterr().err
    assert not (place / "y.jsonl").exists()
