"""The study of training with rationales: its cells, its curves and its page."""

import os
import socket
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from raison.evaluation.statistics import bootstrap_mean
from raison.records import Annotation, InputError, Record, Span, write_records
from raison.studies.uimer import Cell, Store
from raison.studies.uimer_curves import plots_of, series_of, turning_rate, turns_of
from raison.studies.uimer_page import lines_of, write_uimer
from raison.studies.variants import Settings, Variant, around, families, grid, settings_of, sources_of
from raison.training.align import check_alignment
from raison.training.aligned import Alignment

BEST = Variant("IM uniform", Alignment(alpha=1.0, margin=1.0))


def cell(part, variant, seed, score, shots=1):
    return Cell(f"{variant.name} {shots} {seed}", part, shots, variant.name, seed, 7, score, 1.0, made_from=variant)


def study(seeds=5):
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=0.01, size=seeds)
    cells = [cell("main", Variant("task alone"), seed, 0.6 + noise[seed]) for seed in range(seeds)]
    cells += [cell("main", BEST, seed, 0.7 + noise[seed]) for seed in range(seeds)]
    for variant in around("noise", BEST, []):
        for seed in range(seeds):
            cells.append(cell("noise", variant, seed, 0.7 - 0.25 * variant.rate + noise[seed]))
    for variant in around("strength", BEST, []):
        cells += [cell("strength", variant, seed, 0.65) for seed in range(seeds)]
    return cells


def test_gains_are_paired_by_seed():
    found = {(line.part, line.variant): line for line in lines_of(study())}
    gain = found["main", "IM uniform"].gain
    assert gain is not None
    assert gain.value == pytest.approx(0.1)
    assert gain.high - gain.low < 1e-9  # the seeds' noise is common to both
    assert found["main", "task alone"].gain is None


def test_curves_hold_what_was_varied():
    curves = series_of(study(), "noise")["IM uniform, 1 shots"]
    assert [curve.name for curve in curves] == ["drop", "shift", "swap", "replace"]
    assert curves[0].xs == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    np.testing.assert_allclose([np.mean(values) for values in curves[0].gains], 0.1 - 0.25 * np.array(curves[0].xs))
    margins = series_of(study(), "strength")["IM uniform, 1 shots"]
    assert [curve.name for curve in margins] == ["margin 0.25", "margin 1", "margin 4"]
    assert margins[0].points[0][1] == bootstrap_mean(margins[0].gains[0])


def test_the_turning_rate_is_where_the_line_crosses_zero():
    assert turns_of(study())[0].rate.value == pytest.approx(0.4)
    assert turning_rate([0, 0.5, 1], [[0.2, 0.2], [0.1, 0.1], [-0.1, -0.1]]).value == pytest.approx(0.75)
    assert turning_rate([0, 1], [[0.2, 0.1], [0.1, 0.1]]).value is None  # it never comes down
    assert turning_rate([0, 1], [[-0.2, -0.1], [0.1, 0.1]]).value is None  # nothing to lose


def test_the_interval_of_the_turning_rate_covers_it():
    rng = np.random.default_rng(1)
    rates, hits = np.linspace(0, 1, 6), 0
    for _ in range(100):
        table = 0.1 - 0.2 * rates[:, None] + rng.normal(scale=0.05, size=(6, 12))
        found = turning_rate(rates.tolist(), table.tolist(), resamples=300)
        hits += found.low is not None and found.low <= 0.5 <= found.high
    assert 85 <= hits <= 99


def test_a_cell_keeps_its_key_when_options_are_added():
    assert BEST.given == {"name": "IM uniform", "alignment": {"margin": 1.0}}
    assert msgspec.structs.replace(BEST, lr=1e-3).given["lr"] == 1e-3
    assert Variant("task alone").given == {"name": "task alone", "alignment": None}


@pytest.mark.parametrize("task", ["intent", "slots", "nli"])
def test_every_family_is_tuned_with_the_same_care(task):
    found = families(Settings(task=task, masked_lm="some-model"))
    assert {len(tried) for tried in found.values()} == {6}
    assert all(len(set(tried)) == 6 for tried in found.values())
    for tried in found.values():
        for alignment in tried:
            check_alignment(alignment)
    assert len(grid(task, 7)) == 6
    assert ("attention" in found) == (task != "slots")


def test_of_more_records_a_training_is_shorter_and_so_is_its_warm_up():
    lengths = {size: sorted({one.epochs for one in grid("nli", size)}) for size in (7, 100, 500, 13_084)}
    assert lengths == {7: [30, 60], 100: [15, 30], 500: [3, 6], 13_084: [2, 4]}
    settings = Settings(task="nli")
    assert {one.warm_up for one in families(settings)["IM uniform (warm)"]} == {10}
    assert {one.warm_up for one in families(settings, 6)["IM uniform (warm)"]} == {2}


def test_sources_of_rationales_are_found():
    def note(name, explanation=None):
        return Annotation(name, "a", {"text": (Span(0, 3),)}, explanation)

    one = Record("1", {"text": "one two"}, annotations=(note("rules"),))
    assert sources_of([one]) == ["rules"]
    two = Record("2", {"text": "one two"}, annotations=(note("x", "because"), note("y")))
    assert sources_of([two]) == ["x", "y", "soft", "majority", "union", "explanations"]
    varied = list(around("source", BEST, sources_of([two])))
    assert [(one.alignment.people, one.explained) for one in varied][-2:] == [("union", False), ("soft", True)]


def test_wrong_settings_are_told():
    with pytest.raises(InputError, match="task"):
        settings_of(task="poetry")
    with pytest.raises(InputError, match="IM uniform"):
        settings_of(only=["IM nothing"])
    with pytest.raises(InputError, match="at least 0"):
        settings_of(shots=[-1])


def test_a_line_that_was_cut_off_is_made_again(tmp_path):
    store = Store(tmp_path)
    first, second = cell("main", BEST, 0, 0.5), cell("main", BEST, 1, 0.6)
    store.add(first)
    store.add(second)
    store.path.write_bytes(store.path.read_bytes()[:-9])
    assert list(Store(tmp_path).cells) == [first.key]


def test_the_page_shows_curves_and_the_turning_rate(tmp_path):
    cells = study()
    write_uimer(tmp_path / "study.html", cells, Settings())
    page = (tmp_path / "study.html").read_text(encoding="utf-8")
    assert page.count('<svg class="plot"') == sum(len(plots) for plots in plots_of(cells).values()) == 2
    assert "0.400 [" in page


@pytest.mark.slow
def test_two_processes_finish_every_cell(tmp_path, tiny):
    """Both train together; the first one writes. Stopped after some cells, one process goes on from these."""
    classifier = tiny.build("bert")
    classifier.model.save_pretrained(tmp_path / "model")
    classifier.tokenizer.save_pretrained(tmp_path / "model")
    words = {"a": "happy", "b": "red"}
    made = []
    for index in range(12):
        label = "ab"[index % 2]
        text = f"the man {words[label]} in the park {index}"
        start = text.index(words[label])
        note = Annotation("ann", label, {"text": (Span(start, start + len(words[label])),)})
        made.append(Record(str(index), {"text": text}, "intent", label, ("a", "b"), (note,)))
    write_records(tmp_path / "data.jsonl", made)
    data = tmp_path / "data.jsonl"
    (tmp_path / "study.py").write_text(
        "import sys\nfrom raison.cli import main\nfrom raison.studies import uimer\n"
        "uimer.grid = lambda task: [uimer.Variant('task alone', None, lr, 2) for lr in (1e-4, 2e-4)]\n"
        "main(sys.argv[1:])\n"
    )
    study = [tmp_path / "study.py", "study", "uimer", "--model", tmp_path / "model", "--train", data, "--dev", data]
    study += ["--test", data, "--seeds", "2", "--tuning-seeds", "1", "--only", "GB order", "--people", "ann"]
    study += ["--batch", "4", "--out", tmp_path / "out"]
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        number = port.getsockname()[1]
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1"]
    launch += ["--master_port", number]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [str(part) for part in (sys.executable, *launch, *study)]
    done = subprocess.run(command, check=False, capture_output=True, env=environment, timeout=500)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    lines = (tmp_path / "out" / "cells.jsonl").read_bytes().splitlines(keepends=True)
    cells = [msgspec.json.decode(line, type=Cell) for line in lines]
    assert len(cells) == len({one.key for one in cells}) == 2 + 2 + 6 + 2
    assert done.stdout.decode().count("GB order") == 1  # one table
    (tmp_path / "out" / "cells.jsonl").write_bytes(b"".join(lines[:-2]))
    command = [str(part) for part in (sys.executable, *study)]
    done = subprocess.run(command, check=False, capture_output=True, env=environment, timeout=500)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert len((tmp_path / "out" / "cells.jsonl").read_bytes().splitlines()) == len(lines)
