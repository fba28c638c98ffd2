"""`extract_to_file`: whatever moment it is killed at, the file ends as if nothing had happened."""

import json
import os
import random
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from raison.attribution import extract, extract_to_file
from raison.attribution import extract as extract_function
from raison.rationales import load_scores
from raison.records import InputError, Record, write_records

module = sys.modules[extract_function.__module__]


@pytest.fixture
def many():
    return [Record(str(i), {"text": f"the dog {'plays in the park ' * (i % 4)}"}, label="neutral") for i in range(23)]


@pytest.fixture
def chunks_of_five(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 5)


@pytest.mark.usefixtures("chunks_of_five")
def test_the_file_holds_what_extract_gives(classifiers, many, tmp_path):
    path = tmp_path / "folder" / "scores.jsonl"
    assert extract_to_file(path, classifiers["bert"], many, "input-x-gradient", target="gold") == 0
    for a, b in zip(load_scores(path), extract(classifiers["bert"], many, target="gold"), strict=True):
        assert (a.record_id, a.method, a.target, a.convention) == (b.record_id, b.method, b.target, b.convention)
        np.testing.assert_allclose(a.scores["text"], b.scores["text"], atol=1e-5)
    meta = json.loads((tmp_path / "folder" / "scores.jsonl.meta.json").read_text())
    assert meta["config"]["method"] == "input_x_gradient"
    assert meta["data"]["records"] == 23
    assert sorted(os.listdir(path.parent)) == ["scores.jsonl", "scores.jsonl.meta.json"]
    assert extract_to_file(path, classifiers["bert"], many, "input_x_gradient", target="gold") == 23


@pytest.mark.usefixtures("chunks_of_five")
def test_a_file_cut_at_any_byte_is_finished_to_the_same_bytes(classifiers, many, tmp_path):
    """What a kill leaves: the first n bytes of the lines, for n over all ends of lines, their neighbours and more."""
    whole = tmp_path / "whole.jsonl"
    extract_to_file(whole, classifiers["bert"], many, "gradient")
    content = whole.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    cuts = {0, 1, len(content), *(end + shift for end in ends for shift in (-1, 0, 1) if end + shift <= len(content))}
    for cut in random.Random(0).sample(sorted(cuts), 25):
        path = tmp_path / f"{cut}.jsonl"
        (tmp_path / f"{cut}.jsonl.part").write_bytes(content[:cut])
        (tmp_path / f"{cut}.jsonl.meta.json").write_bytes((tmp_path / "whole.jsonl.meta.json").read_bytes())
        done = extract_to_file(path, classifiers["bert"], many, "gradient")
        assert done == sum(end <= cut for end in ends) // 5 * 5
        assert path.read_bytes() == content
        assert not (tmp_path / f"{cut}.jsonl.part").exists()


@pytest.mark.usefixtures("chunks_of_five")
@pytest.mark.parametrize("finished", [True, False])
def test_something_else_on_the_same_path_is_refused(tiny, many, tmp_path, finished):
    path = tmp_path / "scores.jsonl"
    bert = tiny.build("bert")
    extract_to_file(path, bert, many, "occlusion")
    if not finished:
        path.rename(tmp_path / "scores.jsonl.part")
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    others = {
        "method": (bert, many, "gradient", {}),
        "target": (bert, many, "occlusion", {"target": "gold"}),
        "option": (bert, many, "occlusion", {"window": 2}),
        "data": (bert, many[:-1], "occlusion", {}),
        "model": (tiny.build("bert", seed=1), many, "occlusion", {}),
    }
    for name, (model, records, method, options) in others.items():
        with pytest.raises(InputError, match="made from something else") as caught:
            extract_to_file(path, model, records, method, **options)
        assert "\n" not in str(caught.value), name
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before
    assert extract_to_file(path, bert, many, "occlusion") == (23 if finished else 20)


def test_a_foreign_file_is_never_overwritten(classifiers, many, tmp_path):
    (tmp_path / "mine.jsonl").write_text("precious\n")
    with pytest.raises(InputError, match="exists already"):
        extract_to_file(tmp_path / "mine.jsonl", classifiers["bert"], many)
    with pytest.raises(InputError, match="a folder; expected a file"):
        extract_to_file(tmp_path, classifiers["bert"], many)
    assert os.listdir(tmp_path) == ["mine.jsonl"]
    assert (tmp_path / "mine.jsonl").read_text() == "precious\n"


def test_wrong_options_leave_no_file(classifiers, many, tmp_path):
    for options in ({"method": "magic"}, {"target": "maybe"}, {"steps": 3}):
        with pytest.raises(InputError):
            extract_to_file(tmp_path / "scores.jsonl", classifiers["bert"], many, **options)
    assert os.listdir(tmp_path) == []


def test_a_method_that_fails_leaves_a_run_that_can_go_on(classifiers, many, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 5)
    bert, path = classifiers["bert"], tmp_path / "scores.jsonl"
    extract_to_file(tmp_path / "whole.jsonl", bert, many, "random")
    calls = []

    def flaky(*given, **options):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("the machine broke")
        return before(*given, **options)

    before = module.METHODS["random"]
    flaky.__signature__ = __import__("inspect").signature(before)
    monkeypatch.setitem(module.METHODS, "random", flaky)
    with pytest.raises(RuntimeError):
        extract_to_file(path, bert, many, "random")
    assert not path.exists()
    assert extract_to_file(path, bert, many, "random") == 10
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


# One process imports everything once, then forks a child for each attempt and kills it after a random time.
KILLER = textwrap.dedent(
    """
    import os, random, signal, sys, time
    import torch
    torch.set_num_threads(1)
    import transformers.models.bert.modeling_bert
    import raison.attribution
    from raison.models import Classifier
    from raison.records import read_records
    module = sys.modules[raison.attribution.extract.__module__]
    module.CHUNK = 4
    folder, rounds, partly = sys.argv[1], int(sys.argv[2]), 0

    def work():
        model = Classifier.load(folder + "/model", device="cpu")
        records = list(read_records(folder + "/data.jsonl"))
        module.extract_to_file(folder + "/scores.jsonl", model, records, "integrated_gradients", steps=20)

    def attempt(seconds):
        child = os.fork()
        if child == 0:
            work()
            os._exit(0)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if os.waitpid(child, os.WNOHANG)[0]:
                return time.monotonic() - end + seconds, False
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return seconds, True

    attempt(1e9)  # the first load of a model is slower than all that follow
    for name in ("scores.jsonl", "scores.jsonl.meta.json"):
        os.remove(f"{folder}/{name}")
    whole, _ = attempt(1e9)
    draw, kills = random.Random(0), 0
    for number in range(rounds):
        os.rename(f"{folder}/scores.jsonl", f"{folder}/{number}.jsonl")
        os.remove(f"{folder}/scores.jsonl.meta.json")
        here = kills
        while not os.path.exists(folder + "/scores.jsonl"):
            kills += attempt(whole * draw.uniform(0.1, 0.7) if kills < here + 10 else 1e9)[1]
            part = folder + "/scores.jsonl.part"
            if os.path.exists(part) and os.path.getsize(part):
                partly += 1
    os.rename(f"{folder}/scores.jsonl", f"{folder}/{rounds}.jsonl")
    print(kills, partly)
    """
)


@pytest.mark.slow
def test_a_killed_extraction_ends_with_the_same_bytes(tiny, tmp_path):
    bert = tiny.build("bert")
    bert.model.save_pretrained(tmp_path / "model")
    bert.tokenizer.save_pretrained(tmp_path / "model")
    write_records(tmp_path / "data.jsonl", [Record(str(i), {"text": "the dog plays " * (i % 9)}) for i in range(60)])
    rounds = 4
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path), str(rounds)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kills, _ = map(int, done.stdout.split()[-2:])
    assert kills >= 2 * rounds
    whole = (tmp_path / "0.jsonl").read_bytes()  # never interrupted
    assert whole.count(b"\n") == 60
    for number in range(1, rounds + 1):
        assert (tmp_path / f"{number}.jsonl").read_bytes() == whole
    assert not (tmp_path / "scores.jsonl.part").exists()
