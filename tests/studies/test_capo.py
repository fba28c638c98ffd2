"""The study of CAPO: its cells, what it compares, and that it goes on where it was killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import msgspec
import pytest

from answerers import causal, tokenizer
from crowd import LABELS, records
from raison.annotators.capo import CapoConfig
from raison.annotators.pairs import PairOptions
from raison.annotators.prompts import Prompts
from raison.annotators.sft import SftConfig
from raison.annotators.splits import Split, split_items
from raison.cli import main
from raison.records import InputError, write_records
from raison.studies import capo_plan as plan
from raison.studies import capo_results
from raison.studies.capo import Data, Field, Study, made_up
from raison.studies.capo_plan import Crowd, Newcomer, Settings, settings_of
from raison.studies.shelf import Job, Shelf


class Note(msgspec.Struct, frozen=True):
    value: int


def field(rows=None, settings=None, **options):
    rows = rows or records(30)
    return Field(Data("set", split_items(rows)), settings or Settings(), **options)


# ------------------------------------------------------------------------------------------------------------ cells


def test_each_cell_is_made_once_and_behind_what_it_needs(tmp_path):
    made = []

    def job(name, *needs):
        return Job(name, needs, lambda folder: made.append(folder.name) or Note(len(made)))

    shelf = Shelf(tmp_path, Note)
    jobs = [job("a"), job("b", "a"), job("c", "b")]
    shelf.make(jobs[:2])
    shelf.make(jobs)
    assert made == ["a", "b", "c"]
    assert shelf.get("b") == Note(2)
    assert shelf.get("d") is None


def test_an_interrupted_cell_goes_on_in_its_folder(tmp_path):
    def broken(folder):
        (folder / "half").write_text("done")
        raise KeyboardInterrupt

    shelf = Shelf(tmp_path, Note)
    with pytest.raises(KeyboardInterrupt):
        shelf.make([Job("a", (), broken)])
    assert shelf.get("a") is None
    shelf.make([Job("a", (), lambda folder: Note(len((folder / "half").read_text())))])
    assert shelf.get("a") == Note(4)


def test_processes_share_the_cells(tmp_path, monkeypatch):
    monkeypatch.setattr("raison.studies.shelf.POLL", 0.01)
    made, both = [], threading.Barrier(2, timeout=20)

    def make(folder):
        made.append(folder.name)
        if folder.name in ("a", "b"):
            both.wait()  # only two at once get past this
        return Note(1)

    jobs = [Job("a", (), make), Job("b", (), make), Job("c", ("a", "b"), make)]
    workers = [threading.Thread(target=lambda: Shelf(tmp_path, Note).make(jobs)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=30)
    assert sorted(made) == ["a", "b", "c"]
    assert made[-1] == "c"


def test_a_broken_cell_is_told(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cell.json").write_text('{"value": "no"}')
    with pytest.raises(InputError, match=r"cell\.json"):
        Shelf(tmp_path, Note).get("a")


# --------------------------------------------------------------------------------------------------- what is compared


def test_an_ablation_changes_one_thing():
    settings = Settings(capo=CapoConfig(anchor=0.1))
    whole = plan.capo_system(settings, "tag")
    found = list(plan.ablations(settings, ("validity", "distinctiveness")))
    assert len({one.name for one in found}) == len(found) == 3 + 2 + 2 + 2 + 2
    for one in found:
        changed = [
            name
            for own, other in ((one.capo, whole.capo), (one.pairs, whole.pairs))
            for name in own.__struct_fields__
            if getattr(own, name) != getattr(other, name)
        ]
        assert len(changed) == 1, (one.name, changed)
    assert {one.how for one in plan.ablations(Settings(forms=("person",)), ())} == {"capo-person"}
    assert "scope all" in {one.name for one in plan.ablations(Settings(scope="same-label"), ())}


def test_the_main_part_has_every_baseline():
    names = [one.name for one in plan.main_systems(Settings())]
    assert names == ["zero-shot", "profile", "in-context", "SFT, pooled", "SFT, tag", "SFT, person", "CAPO, tag",
                     "CAPO, person"]  # fmt: skip
    assert [one.name for one in plan.main_systems(Settings(forms=("tag",)))][-1] == "CAPO, tag"


def test_weights_are_those_that_the_data_have():
    assert field().weights == ("distinctiveness",)
    assert field(records(30, missing={("ann", 1), ("ann", 2), ("ben", 5)})).weights == ("distinctiveness", "per-item")
    scale = tuple(str(step) for step in range(-2, 3))
    rated = [
        msgspec.structs.replace(
            row,
            label_set=scale,
            annotations=tuple(
                msgspec.structs.replace(note, label=str(LABELS.index(note.label) - 1), extra={"judgments": {"x": True}})
                for note in row.annotations
            ),
        )
        for row in records(30)
    ]
    assert field(rated).weights == ("distinctiveness", "validity", "ordinal")


def test_a_crowd_is_scored_on_its_first_people():
    crowd = Crowd((2, 5), 20)
    found = field(made_up(crowd), Settings(crowd=crowd), first=2)
    assert len(found.order) == 5
    assert found.people == found.order[:2]
    assert {one.annotator for one in found.said} == {*found.people}
    with pytest.raises(InputError, match="5 people; a crowd of 9"):
        field(made_up(crowd), Settings(crowd=Crowd((2, 9))), first=2)


def test_wrong_settings_are_told():
    for given, told in (
        ({"parts": ("poetry",)}, "poetry"),
        ({"forms": ("tag", "tag")}, "each form once"),
        ({"newcomer": Newcomer(sizes=())}, "sizes"),
        ({"crowd": {"sizes": ["4", "x"]}}, "crowd"),
    ):
        with pytest.raises(InputError, match=told):
            settings_of(**given)
    assert settings_of(crowd={"sizes": ["4", "8"]}).crowd == Crowd((4, 8))


def test_a_cell_is_known_by_what_it_is_made_from(tmp_path):
    def names(settings, rows=None):
        study, one = Study("model", [], tmp_path, settings), field(rows, settings)
        return {system.name: study.name_of(one, system, 0) for system in plan.main_systems(settings)}

    plain = names(Settings())
    assert len({*plain.values()}) == len(plain)
    other = names(Settings(capo=CapoConfig(beta=0.5)))
    assert {name for name in plain if plain[name] != other[name]} == {"CAPO, tag", "CAPO, person"}
    shots = names(Settings(shots=3))
    assert {name for name in plain if plain[name] != shots[name]} == {"in-context"}
    assert not {*plain.values()} & {*names(Settings(), records(31)).values()}
    study, one = Study("model", [], tmp_path, Settings()), field()
    zero, sft = list(plan.main_systems(Settings()))[::4][:2]
    assert study.name_of(one, zero, 1) == study.name_of(one, zero, 0)  # it answers alike with every seed
    assert study.name_of(one, sft, 1) != study.name_of(one, sft, 0)


def test_a_cell_of_a_crowd_is_known_by_who_is_imitated(tmp_path):
    """The same models answer as other people where the smallest crowd is another."""
    rows, names = made_up(Crowd((2, 4, 6), 20)), []
    for sizes in ((2, 4, 6), (4, 6)):
        settings = Settings(crowd=Crowd(sizes, 20))
        one = field(rows, settings, first=min(sizes))
        study = Study("model", [], tmp_path, settings, one)
        names.append({system.size: study.name_of(one, system, 0) for system in study.systems(one, "crowd")})
    assert names[0][4] != names[1][4]
    assert names[0][6] != names[1][6]


def test_a_model_is_tried_only_as_the_people_that_it_learns(tmp_path, monkeypatch):
    """Not as who is left out to be new later, nor as the rest of a crowd: by them no epoch is chosen."""
    settings, learned, tried = Settings(sft=SftConfig(patience=2), crowd=Crowd((2, 4), 20)), [], []

    def teach(how, model, train, wording, *others):
        learned.append(sorted({note.annotator for record in train for note in record.annotations}))
        tried.append(others[-1].measure(Prompts(wording, (), tag=True)).people)
        return []

    monkeypatch.setattr("raison.studies.capo.teach_sft", teach)
    one = field(made_up(settings.crowd), settings, first=2)
    study = Study("model", [one], tmp_path, settings, one)
    for system in (*plan.crowds(settings), *plan.main_systems(settings), next(plan.newcomers(settings))):
        if system.how in ("crowd", "others", "sft-tag"):
            study._teach(one, system, 0, tmp_path)
    assert [len(people) for people in learned] == [2, 4, 4, 3, 3]
    assert tried == learned


def test_no_pair_holds_a_held_out_text(tmp_path):
    """An item of test that stands in train as well is found before anything is trained on it."""
    rows = records(12)
    twin = msgspec.structs.replace(rows[0], id="twin")
    bad = Field(Data("set", Split((twin, *rows[1:6]), tuple(rows[6:9]), (*rows[9:], rows[0]))), Settings())
    whole = plan.capo_system(Settings(), "tag")
    study = Study("model", [bad], tmp_path, Settings())
    asked = plan.System("x", "main", "capo-tag", capo=CapoConfig(), pairs=PairOptions())
    from raison.annotators.teach import Asked

    assert study._pairs(bad, whole, Asked(bad.wording, tag=True), 0)  # the same text in train is no leak of it
    leaky = Field(Data("set", Split(tuple(rows[:6]), tuple(rows[6:9]), tuple(rows[9:]))), Settings())
    leaky.split = leaky.split._replace(test=(*leaky.split.test, leaky.split.train[0]))
    with pytest.raises(InputError, match="no pair may hold"):
        study._pairs(leaky, asked, Asked(leaky.wording, tag=True), 0)


# ----------------------------------------------------------------------------------------------------- the whole


def said_wrong(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(["study", "capo", *map(str, arguments)])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_wrong_use_costs_one_line(tmp_path, capsys, monkeypatch):
    write_records(tmp_path / "set.jsonl", records(12))
    known = ["--model", tmp_path / "model", "--out", tmp_path / "out"]
    for option, value, told in (
        ("--parts", "poetry", "--parts 'poetry': expected main, ablations, growing"),
        ("--form", "tag,x", "--form 'x': expected tag, person"),
        ("--scope", "x", "--scope 'x': expected all, same-label, different-label, mixed"),
        ("--rejected", "sft-sample", "--rejected 'sft-sample': expected people, own-other-item"),
        ("--select", "x", "--select 'x': expected random, stratified, nearest, mmr"),
        ("--views", "surface,x", "--views 'x': expected raw, normalised"),
        ("--sizes", "x", "--sizes 'x': expected whole numbers by commas"),
        ("--crowd-sizes", "0", "--crowd-sizes: expected numbers of at least 1"),
        ("--dtype", "x", "dtype 'x': expected float32"),
    ):
        assert told in said_wrong(capsys, "--data", tmp_path / "set", option, value, *known)
    assert "no data set" in said_wrong(capsys, "--data", tmp_path / "set", "--split", "x=y", *known)
    assert "NAME=FILE" in said_wrong(capsys, "--data", f"a={tmp_path}/set.jsonl,a={tmp_path}/set.jsonl", *known)
    assert "nothing" in said_wrong(capsys, "--data", tmp_path / "nothing", *known)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "launcher" in said_wrong(capsys, "--data", tmp_path / "set", *known)


def test_the_cells_of_the_tables_are_written_as_json(tmp_path, monkeypatch):
    monkeypatch.setattr(Study, "run", lambda _: None)
    monkeypatch.setattr(capo_results, "write_results", lambda *_: [])
    write_records(tmp_path / "set.jsonl", records(12))
    where = ["--out", tmp_path / "out", "--json", tmp_path / "cells.json"]
    with pytest.raises(SystemExit) as end:
        main(["study", "capo", "--model", "none", "--data", *map(str, (tmp_path / "set", *where))])
    assert not end.value.code
    assert json.loads((tmp_path / "cells.json").read_text()) == []


@pytest.mark.slow
def test_a_killed_study_goes_on_and_processes_share_it(tmp_path):
    """Killed after some cells, two processes finish it: no cell is made twice, and every part has its page."""
    write_records(tmp_path / "set.jsonl", records(40))
    words = tokenizer()
    causal("llama", words, positions=1024).save_pretrained(tmp_path / "model")
    words.save_pretrained(tmp_path / "model")
    study = ["-m", "raison", "study", "capo", "--data", "set", "--model", "model", "--out", "out", "--full"]
    study += ["--parts", "main,ablations,growing", "--seeds", "1", "--wording", "bare", "--train-items", "6"]
    study += ["--test-items", "5", "--epochs", "1", "--capo-epochs", "1", "--shots", "2", "--reply-tokens", "8"]
    study += [
        "--sizes",
        "2,3",
        "--new-epochs",
        "1",
        "--crowd-sizes",
        "3,4",
        "--permutations",
        "99",
        "--views",
        "surface",
    ]
    study += ["--resamples", "20", "--form", "tag"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    how = {"cwd": tmp_path, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    cells = tmp_path / "out" / "cells"

    def done():
        return {path: path.stat().st_mtime_ns for path in cells.rglob("cell.json")}

    first = subprocess.Popen([sys.executable, *study], **how)
    while len(done()) < 6 and first.poll() is None:
        time.sleep(0.1)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    before = done()
    assert len(before) >= 6
    both = [subprocess.Popen([sys.executable, *study], **how) for _ in range(2)]
    told = [worker.communicate(timeout=2000) for worker in both]
    assert [worker.returncode for worker in both] == [0, 0], told[0][1].decode()[-3000:]
    after = done()
    assert all(after[path] == when for path, when in before.items())
    made = [line.split(":")[0] for _, heard in told for line in heard.decode().splitlines() if "of training" in line]
    assert len(made) == len(set(made))
    assert min(sum("of training" in line for line in heard.decode().splitlines()) for _, heard in told) > 0
    for page in ("study.html", "set/stability.html", "set/main/index.html", "set/main/person-4.html",
                 "set/ablations/index.html", "set/growing/index.html", "made-up-people/crowd/index.html"):  # fmt: skip
        assert (tmp_path / "out" / page).exists(), page
    found = json.loads((tmp_path / "out" / "set" / "growing" / "imitation.json").read_bytes())
    assert found["systems"][0] == "SFT, tag"
    assert len(found["controls"]) == 4
    cost = {cell["system"]: cell for cell in (json.loads(path.read_bytes()) for path in after)}
    assert cost["the tag, 2 items"]["parameters"] == 4 * 4 * 32  # people, tokens of a tag, width
    assert cost["the tag, 2 items"]["bytes"] < cost["an adapter, 2 items"]["bytes"] < cost["SFT, person"]["bytes"]
