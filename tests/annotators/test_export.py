"""Pairs for other trainers: in their forms, and taken by TRL itself."""

import json

import pytest

from answerers import causal, tokenizer
from panel import panel
from raison.annotators.export import FORMS, export_pairs, file_name, lost_weights
from raison.annotators.pairs import make_options, make_pairs
from raison.annotators.prompts import Prompts
from raison.annotators.wording import wording_for
from raison.records import InputError

RECORDS = panel(3)
PAIRS = make_pairs(Prompts(wording_for(RECORDS), RECORDS)).pairs


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_trl_takes_conversations_or_texts(tmp_path):
    files = export_pairs(tmp_path, PAIRS, "trl", together=False)
    assert [path.name for path in files] == ["capo-a.jsonl", "capo-b.jsonl", "capo-c.jsonl"]
    own = [pair for pair in PAIRS if pair.annotator == "b"]
    assert lines(files[1]) == [
        {
            "prompt": [{"role": "user", "content": pair.prompt}],
            "chosen": [{"role": "assistant", "content": pair.chosen}],
            "rejected": [{"role": "assistant", "content": pair.rejected}],
        }
        for pair in own
    ]
    (plain,) = export_pairs(tmp_path / "plain", PAIRS, "trl-plain", together=True, name="mine")
    assert plain.name == "mine.jsonl"
    assert lines(plain)[-1] == {"prompt": PAIRS[-1].prompt, "chosen": PAIRS[-1].chosen, "rejected": PAIRS[-1].rejected}


def test_llama_factory_finds_each_set_in_its_list(tmp_path):
    (tmp_path / "dataset_info.json").write_text('{"identity": {"file_name": "identity.json"}}')
    files = export_pairs(tmp_path, PAIRS, "llama-factory", together=False)
    listed = json.loads((tmp_path / "dataset_info.json").read_text())
    assert listed.pop("identity") == {"file_name": "identity.json"}
    assert [*listed] == ["capo-a", "capo-b", "capo-c"]
    for name, told in listed.items():
        assert (told["file_name"], told["ranking"]) == (f"{name}.json", True)
        rows = json.loads((tmp_path / told["file_name"]).read_text())
        own = [pair for pair in PAIRS if pair.annotator == name[-1]]
        for row, pair in zip(rows, own, strict=True):
            read = {key: row[column] for key, column in told["columns"].items()}
            assert read == {"prompt": pair.prompt, "query": "", "chosen": pair.chosen, "rejected": pair.rejected}
    assert len(files) == 3


def test_what_is_there_and_no_list_of_data_sets_is_left_alone(tmp_path):
    (tmp_path / "dataset_info.json").write_text("[1]")
    with pytest.raises(InputError, match="not a list of data sets"):
        export_pairs(tmp_path, PAIRS, "llama-factory", together=True)
    assert [path.name for path in tmp_path.iterdir()] == ["dataset_info.json"]


def test_names_of_people_are_names_of_files():
    assert file_name("w-16_é") == "w-16_é"
    assert file_name("../a b") == "%2E%2E%2Fa%20b"
    assert len({file_name(name) for name in ("a b", "a%20b", "a/b")}) == 3


def test_weights_are_lost_and_counted():
    assert lost_weights(PAIRS) == 0
    weighed = make_pairs(Prompts(wording_for(RECORDS), RECORDS), make_options({"weights": ["per-item"]})).pairs
    assert lost_weights(weighed) == len(weighed)


def test_an_unknown_form():
    with pytest.raises(InputError, match=f"export 'x': expected {', '.join(FORMS)}"):
        export_pairs("nowhere", PAIRS, "x", together=True)


@pytest.mark.slow
@pytest.mark.parametrize(("form", "chat"), [("trl", True), ("trl-plain", False)])
def test_trl_trains_on_what_was_exported(form, chat, tmp_path):
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")
    (file,) = export_pairs(tmp_path, PAIRS, form, together=True)
    words = tokenizer("byte", chat)
    arguments = trl.DPOConfig(
        str(tmp_path / "run"), max_steps=1, per_device_train_batch_size=4, max_length=512, report_to=[], use_cpu=True,
        bf16=False, save_strategy="no", gradient_checkpointing=False,
    )  # fmt: skip
    rows = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
    policy, reference = causal("llama", words), causal("llama", words)
    trainer = trl.DPOTrainer(policy, reference, arguments, train_dataset=rows, processing_class=words)
    first = trainer.train_dataset[0]
    shown = words.decode(first["prompt_ids"]), words.decode(first["chosen_ids"])
    assert PAIRS[0].prompt.strip() in shown[0]
    assert PAIRS[0].chosen in shown[1]
    assert trainer.train().training_loss == pytest.approx(0.6931, abs=1e-3)
