"""Prompting < SFT < CAPO on people with planted habits: the first seeds of the benchmark, which anyone can start."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "planted_people.py"
SEEDS = 2


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Give what each seed found: system -> measure -> value."""
    out = tmp_path_factory.mktemp("people")
    command = [sys.executable, str(SCRIPT), str(out), "--seeds", str(SEEDS), "--temperatures", "0.7"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads((out / f"seed-{seed}.json").read_text())["0.7"] for seed in range(SEEDS)]


def gain(seeds, metric, after="capo", before="sft"):
    """Give the paired differences of two systems, one for each seed."""
    return np.array([found[after][metric] - found[before][metric] for found in seeds])


@pytest.mark.slow
def test_capo_is_told_more_easily_than_sft_and_sft_than_prompting(seeds):
    assert (gain(seeds, "imitation_5_normalised", "sft", "zero-shot") > 0.2).all()
    assert (gain(seeds, "imitation_5_normalised", "sft", "in-context") > 0.2).all()
    assert (gain(seeds, "imitation_5_normalised") > 0).all()


@pytest.mark.slow
def test_neither_labels_nor_grounding_pay_for_it(seeds):
    for metric in ("expected_label", "mrr"):
        assert gain(seeds, metric).mean() > -0.02


@pytest.mark.slow
def test_people_are_the_ceiling_of_what_is_known_exactly(seeds):
    for found in seeds:
        assert found["human"]["possible"] == 1
        assert found["human"]["imitation_5_normalised"] == pytest.approx(1)
        assert found["zero-shot"]["possible"] < found["sft"]["possible"]
