"""Somebody new: only the tag's embeddings or an adapter learn, the model of the others stays as it is."""

import shutil
import warnings

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from answerers import causal, tokenizer
from crowd import records
from raison.annotators.newcomers import TOKENS, first_items, ready, welcome
from raison.annotators.policy import Rows, load_policy
from raison.annotators.prompts import Prompts
from raison.annotators.responses import responses_of
from raison.annotators.sft import SftConfig
from raison.annotators.speakers import PERSON, Cast, Source
from raison.annotators.teach import Asked, note, read_asked, teach_sft
from raison.annotators.wording import wording_for
from raison.cli import main
from raison.models.causal import load_causal
from raison.records import InputError, write_records

ROWS = records(6)
SAID = responses_of(ROWS)
DUA = [one for one in SAID if one.annotator == "dua"]
LEARN = SftConfig(epochs=1, lr=1e-2, batch=3, rank=4, bf16=False)
LONG = msgspec.structs.replace(LEARN, epochs=6, lr=5e-2)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "base"
    words = tokenizer()
    causal("llama", words, positions=512).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["adapter", "whole"])
def taught(request, base, tmp_path_factory):
    """A model with tags that knows everybody but dua: an adapter, or all weights."""
    config = msgspec.structs.replace(LEARN, rank=4 if request.param == "adapter" else None)
    ((_, folder),) = teach_sft(
        "sft-tag", str(base), records(6, ("ann", "ben", "cem")), wording_for(ROWS, "bare"),
        tmp_path_factory.mktemp("sft") / "out", config,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def made(taught, tmp_path_factory):
    return ready(taught, tmp_path_factory.mktemp("ready") / "dua", ["ann", "ben", "cem"])


def logits(network, ids):
    with torch.inference_mode():
        return network.eval()(torch.tensor([ids])).logits[0]


@pytest.fixture(scope="module")
def tied(base, tmp_path_factory):
    """A model whose output layer is its embeddings, with the tokens of a newcomer."""
    folder, words = tmp_path_factory.mktemp("models") / "tied", tokenizer()
    words.add_tokens([*TOKENS], special_tokens=True)
    causal("llama", words, positions=512, tie_word_embeddings=True).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def test_tokens_of_a_tied_model_learn_on_both_ends_and_come_back_without_a_warning(tied, tmp_path):
    """Against the model with the new rows in its one table."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        policy = load_policy(str(tied), Rows(TOKENS), dtype="float32")
        (learns,) = [weight for weight in policy.network.parameters() if weight.requires_grad]
        torch.nn.init.normal_(learns, generator=torch.Generator().manual_seed(0))
        policy.network.save_pretrained(tmp_path / "new", save_embedding_layers=False)
        policy.tokenizer.save_pretrained(tmp_path / "new")
        spoken, words = load_causal(str(tmp_path / "new"), "cpu", "float32", False)
        again = load_policy(str(tmp_path / "new"), None, dtype="float32")
    plain = load_causal(str(tied), "cpu", "float32", False)[0]
    rows = words.convert_tokens_to_ids([*TOKENS])
    ids = [*words("a man reads", add_special_tokens=False).input_ids, *rows]
    before = logits(plain, ids)
    with torch.no_grad():
        plain.get_input_embeddings().weight[rows] = learns
    wanted = logits(plain, ids)
    assert not torch.allclose(wanted[0, rows], before[0, rows])  # what predicts the tokens has changed, too
    for network in (policy.network, spoken, again.network):
        torch.testing.assert_close(logits(network, ids), wanted)


def test_a_ready_model_is_the_old_one_with_a_few_tokens_more(taught, made):
    old = load_policy(str(taught), None, dtype="float32")
    new, words = load_causal(str(made), "cpu", "float32", False)
    ids = old.tokenizer("a man reads", add_special_tokens=False).input_ids
    before = logits(old.network, ids)
    torch.testing.assert_close(logits(new, ids)[:, : before.shape[1]], before)
    rows = words.convert_tokens_to_ids([*TOKENS])
    assert min(rows) >= len(old.tokenizer)
    name = [index for who in ("ann", "ben", "cem") for index in words(f" {who}", add_special_tokens=False).input_ids]
    table = new.get_input_embeddings().weight
    torch.testing.assert_close(table[rows[0]], table[name].mean(dim=0))
    asked = read_asked(made)
    assert asked.tag
    assert asked.people == ("ann", "ben", "cem")
    assert "".join(TOKENS) in asked.wording.tag
    assert words("".join(TOKENS), add_special_tokens=False).input_ids == rows


def test_of_the_tag_alone_only_its_embeddings_learn(made, tmp_path):
    out = welcome("new-tag", made, ROWS, DUA, tmp_path / "out", LONG)
    kept = load_file(next(out.glob("*.safetensors")))
    width = load_causal(str(made), "cpu", "float32", False)[0].config.hidden_size
    assert sum(tensor.numel() for tensor in kept.values()) == len(TOKENS) * width
    assert read_asked(out).people == ("dua",)
    told = msgspec.json.decode((out / "raison.json").read_bytes())
    assert told["counts"]["parameters"] == len(TOKENS) * width
    losses = [row["loss"] for row in told["history"] if "loss" in row]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("how", ["new-tag", "new-adapter"])
def test_what_was_learned_is_what_speaks(how, made, tmp_path):
    """A generator loads the same model that was trained, and asks it by the new tag."""
    out = welcome(how, made, ROWS, DUA[:3], tmp_path / "models" / "dua", LONG)
    trained = load_policy(str(out), None, dtype="float32")
    spoken, words = load_causal(str(out), "cpu", "float32", False)
    asked = read_asked(out)
    prompt = Prompts(asked.wording, ROWS, tag=True)(ROWS[0], "dua")
    ids = words(prompt, add_special_tokens=False).input_ids
    assert set(words.convert_tokens_to_ids([*TOKENS])) <= set(ids)
    torch.testing.assert_close(logits(spoken, ids), logits(trained.network, ids))
    still = load_causal(str(made), "cpu", "float32", False)[0]
    assert not torch.allclose(logits(spoken, ids)[-1], logits(still, ids)[-1])
    assert Cast(Source(f"{tmp_path}/models/{PERSON}"), ["dua"]).speaker("dua", 0).name.endswith("dua")


def test_the_items_of_fewer_are_among_those_of_more():
    known = [first_items(SAID, "dua", size, seed=1) for size in (2, 4, None)]
    assert [len(some) for some in known] == [2, 4, 6]
    assert {one.annotator for one in known[2]} == {"dua"}
    assert set(map(id, known[0])) < set(map(id, known[1])) < set(map(id, known[2]))
    assert first_items(SAID, "dua", 2, seed=1) == first_items(SAID[::-1], "dua", 2, seed=1)[::-1]


def test_wrong_use_is_refused(base, made, tmp_path):
    with pytest.raises(InputError, match="not taught with tags"):
        ready(base, tmp_path / "ready", ["ann"])
    with pytest.raises(InputError, match="one person"):
        welcome("new-tag", made, ROWS, SAID, tmp_path / "out", LEARN)
    with pytest.raises(InputError, match="not ready"):
        welcome("new-tag", base, ROWS, DUA, tmp_path / "out", LEARN)
    with pytest.raises(InputError, match="new-tag"):
        welcome("nothing", made, ROWS, DUA, tmp_path / "out", LEARN)


def test_wrong_use_of_the_command_costs_one_line(base, tmp_path, capsys):
    write_records(tmp_path / "set.jsonl", ROWS)
    for given, told in (
        (["--annotator", "eve"], "there are ann, ben, cem, dua"),
        (["--annotator", "dua", "--how", "sft-tag"], "new-tag, new-adapter"),
        (["--annotator", "dua"], "not taught with tags"),
    ):
        command = ["annotators", "welcome", "--model", base, "--data", tmp_path / "set.jsonl", "--out", tmp_path / "x"]
        with pytest.raises(SystemExit) as end:
            main([*map(str, command), *given])
        assert end.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line


def test_whom_the_model_knows_already_is_told(tmp_path, capsys):
    write_records(tmp_path / "set.jsonl", ROWS)
    note(tmp_path / "model", Asked(wording_for(ROWS, "bare"), True, ("ann", "dua")))
    for who, told in (("dua", True), ("ben", False)):
        command = ["annotators", "welcome", "--model", tmp_path / "model", "--data", tmp_path / "set.jsonl"]
        with pytest.raises(SystemExit):  # there are but notes
            main([*map(str, command), "--annotator", who, "--out", str(tmp_path / "x")])
        assert (f"model knows {who} already" in capsys.readouterr().err) == told


def test_a_folder_that_was_made_of_another_model_is_not_taken_for_this_one(taught, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(taught, model)
    made = ready(model, tmp_path / "ready", ["ann"])
    assert ready(model, tmp_path / "ready", ["ben"]) == made  # it is there
    (weights,) = model.glob("*model.safetensors")
    save_file({name: value + 1 for name, value in load_file(weights).items()}, weights)  # it is taught anew
    with pytest.raises(InputError, match="made of another model"):
        ready(model, tmp_path / "ready", ["ann"])
