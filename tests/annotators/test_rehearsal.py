"""By what an epoch is chosen: the composite on each half of dev, judged by an attributor fitted on the other."""

import random

import msgspec
import numpy as np
import pytest

from answerers import causal, tokenizer
from raison.annotators import rehearsal as module
from raison.annotators.capo import CapoConfig
from raison.annotators.imitation import score
from raison.annotators.measuring import Options
from raison.annotators.preference_pair import PreferencePair
from raison.annotators.prompts import Prompts
from raison.annotators.rehearsal import Rehearsal
from raison.annotators.responses import Response, responses_of
from raison.annotators.sft import SftConfig, sft, turns_of
from raison.annotators.splits import Split
from raison.annotators.teach import Asked, teach_capo
from raison.annotators.wording import Wording
from raison.models.generator import LocalGenerator
from raison.records import InputError
from raison.testbed.people import LABELS, PANEL, annotated_records, make_items

WORDING = Wording("", labels={label: label for label in LABELS.values()}, tag="Annotator: {annotator}")
RECORDS = annotated_records(PANEL, make_items(50, 3), 3)
SPLIT = Split(tuple(RECORDS[:20]), tuple(RECORDS[20:]), ())
AGAIN = [one for one in responses_of(annotated_records(PANEL, make_items(50, 3), 4)) if one.annotator != "ann-2"]
TOLD = {"label": "label", "mrr": "mrr", "imitation": "imitation_5_normalised", "score": "composite"}


@pytest.fixture(scope="module")
def model():
    words = tokenizer("byte", False)
    return causal("llama", words), words


@pytest.fixture
def says(model, monkeypatch):
    """Give what a model that said this would be measured as."""

    def measured(said, rehearsal, tag=True, person=""):
        def spoken(speakers, prompts, records, people):
            ids = {record.id for record in records}
            return [one for one in said if one.record_id in ids and one.annotator in people]

        monkeypatch.setattr(module, "imitate", spoken)
        return rehearsal.measure(Prompts(WORDING, (), tag=tag), person)(LocalGenerator(*model))

    return measured


def judged(said, dev):
    """Score each half of dev by the other with what scores systems in the end."""
    found = []
    for known, half in (dev, dev[::-1]):
        ids = {record.id for record in half}
        own = [one for one in said if one.record_id in ids]
        parts = Split(SPLIT.train, tuple(known), tuple(half))
        people = responses_of([record for part in parts for record in part])
        found.append(score(parts, people, {"it": [own]}, Options(resamples=2)))
    return found


def halves(rehearsal):
    return [half.ground.items for half in rehearsal.measure(Prompts(WORDING, (), tag=True)).halves][::-1]


def test_the_score_is_the_composite_of_both_halves(says):
    found = says(AGAIN, Rehearsal(SPLIT))
    both = judged(AGAIN, halves(Rehearsal(SPLIT)))
    for name, metric in TOLD.items():
        assert found[name] == pytest.approx(np.mean([one.cell(metric, "it").value for one in both]))
    assert set(found) == set(TOLD)


def test_no_half_is_judged_by_what_it_says_itself():
    parts = halves(Rehearsal(SPLIT))
    ids = [{record.id for record in part} for part in parts]
    assert not ids[0] & ids[1]
    assert ids[0] | ids[1] == {record.id for record in SPLIT.dev}
    assert [len(part) for part in ids] == [15, 15]


def test_of_one_person_only_what_is_said_in_their_name_counts(says):
    rehearsal = Rehearsal(SPLIT)
    found = says(AGAIN, rehearsal, tag=False, person="ann-3")
    both = judged(AGAIN, halves(rehearsal))
    for name in ("label", "mrr"):
        assert found[name] == pytest.approx(np.mean([one.cell(name, "it", "annotator=ann-3").value for one in both]))
    wrong = [msgspec.structs.replace(one, label="no", explanation="Hm.") for one in AGAIN if one.annotator != "ann-3"]
    alone = [one for one in AGAIN if one.annotator == "ann-3"]
    assert says(alone + wrong, rehearsal, tag=False, person="ann-3") == found
    assert says(alone, rehearsal, tag=False, person="ann-3") == found
    assert says(wrong, rehearsal, tag=False, person="ann-4")["score"] != found["score"]


def test_a_model_that_knows_nobody_is_not_asked_who_it_sounds_like(says):
    found = says(AGAIN, Rehearsal(SPLIT), tag=False)
    both = judged(AGAIN, halves(Rehearsal(SPLIT)))
    expected = [
        np.sqrt(
            one.cell("label", "it").value * (1 - one.cell("unread", "it").value)
            / one.cell("label", "another person").value * one.cell("mrr", "it").value * 0.75
            / one.cell("mrr", "human").value
        )
        for one in both
    ]  # fmt: skip
    assert found["score"] == pytest.approx(np.mean(expected))


def test_the_order_of_the_records_makes_no_difference(says):
    mixed = random.Random(0).sample(SPLIT.dev, len(SPLIT.dev))
    assert says(AGAIN, Rehearsal(SPLIT._replace(dev=tuple(mixed)))) == says(AGAIN, Rehearsal(SPLIT))


def test_what_is_undefined_is_missing(model, says):
    silent = [Response(one.record_id, one.annotator, None, None, 0, "no reply") for one in AGAIN]
    assert says(silent, Rehearsal(SPLIT)) == {"score": None, "label": None, "mrr": None, "imitation": None}


def test_a_model_is_asked_with_its_tag_at_the_temperature(model):
    """Untrained, it says nothing that can be read, of nobody."""
    rehearsal = Rehearsal(SPLIT._replace(dev=SPLIT.dev[:12]), temperature=0.7, reply_tokens=3)
    found = rehearsal.measure(Prompts(WORDING, (), tag=True))(LocalGenerator(*model))
    assert found["score"] is None
    assert rehearsal.config["split"]["records"] == 12
    assert rehearsal.config["temperature"] == 0.7


def test_too_little_to_choose_by_costs_one_line():
    with pytest.raises(InputError, match="dev items: 1 explanations of 'ann-1'; expected at least 2"):
        Rehearsal(SPLIT._replace(dev=SPLIT.dev[:3])).measure(Prompts(WORDING, (), tag=True))
    with pytest.raises(InputError, match="dev items: 'zoe' answered none of 15"):
        Rehearsal(SPLIT).measure(Prompts(WORDING, ()), "zoe")


def test_pairs_of_held_out_items_are_refused(tmp_path):
    pair = PreferencePair(SPLIT.dev[0].id, "ann-1", "p", "a", "b", "ann-2")
    with pytest.raises(InputError, match="a pair is of a held-out item"):
        list(teach_capo("capo-tag", "none", [pair], Asked(WORDING, True), tmp_path, CapoConfig(), Rehearsal(SPLIT)))


@pytest.mark.parametrize(("scores", "best"), [((None, 0.1, None), 1), ((0.9, None, 0.2), 2), ((None, None, None), 2)])
def test_a_missing_score_is_below_every_other(model, scores, best, tmp_path):
    """What is measured before the first epoch is told, not chosen. Where no score is defined the last epoch is kept."""
    model[0].save_pretrained(tmp_path / "base")
    model[1].save_pretrained(tmp_path / "base")
    turns = turns_of(WORDING, SPLIT.train, responses_of(SPLIT.train[:2]))
    seen = []

    def measure(generator):
        weights = [value.detach().clone() for name, value in generator.model.named_parameters() if "lora_B" in name]
        seen.append(weights)
        return {"score": scores[len(seen) - 1]}

    config = SftConfig(rank=2, epochs=2, lr=1e-2, batch=2, patience=2, bf16=False)
    out = sft(tmp_path / "base", turns, tmp_path / "out", config, measure)
    rows = [row["eval_score"] for row in msgspec.json.decode((out / "raison.json").read_bytes())["history"]
            if "eval_score" in row]  # fmt: skip
    assert rows == [*scores]
    kept = LocalGenerator.load(out, device="cpu").model
    saved = [value for name, value in kept.named_parameters() if "lora_B" in name]
    assert all((one - other).abs().max() < 1e-6 for one, other in zip(saved, seen[best], strict=True))
