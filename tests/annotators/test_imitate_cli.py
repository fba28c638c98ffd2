"""`raison annotators pairs · train · imitate`, from records to responses."""

import json

import pytest

from answerers import CORPUS, causal, tokenizer
from faulty_server import Faulty, completion
from panel import SCALE, panel
from raison.annotators import teach
from raison.annotators.pairs import read_pairs, write_pairs
from raison.annotators.preference_pair import PreferencePair
from raison.annotators.responses import read_responses, responses_of
from raison.annotators.splits import split_items, write_split
from raison.annotators.teach import Asked, note, read_asked, teach_capo
from raison.annotators.wording import wording_for
from raison.cli import main
from raison.cli.teach import _progress
from raison.records import write_records


@pytest.fixture
def raison(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write_records("data.jsonl", panel(15))
    write_records("rated.jsonl", panel(10, labels=SCALE))

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["annotators", *map(str, arguments)])
        said = capsys.readouterr()
        return end.value.code, said.out + said.err

    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    place = tmp_path_factory.mktemp("model")
    words = tokenizer("byte", True, CORPUS)
    causal("llama", words).save_pretrained(place)
    words.save_pretrained(place)
    return place


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_pairs_with_their_books_and_exports(raison, tmp_path):
    status, said = raison("pairs", "--data", "data.jsonl", "--out", "pairs", "--export", "trl,llama-factory",
                          "--rejected", "people,own-other-item", "--weigh", "distinctiveness")  # fmt: skip
    assert status == 0, said
    made = read_pairs(tmp_path / "pairs/pairs.jsonl")
    assert len(made) == 9 * 3 * 3  # 15 items are parted 9, 3, 3
    assert "81 pairs of 9 items" in said
    assert "no text of the 6 held-out items is in any pair" in said
    assert "the weights of 81 pairs are lost in the export" in said
    assert "next: raison annotators train --how capo-person --model 'runs/sft-person/{annotator}'" in said
    audit = rows(tmp_path / "pairs/audit.jsonl")
    assert [one["pair"] for one in audit] == [*range(81)]
    meta = json.loads((tmp_path / "pairs/pairs.jsonl.meta.json").read_text())
    assert meta["counts"]["sources"] == {"own-other-item": 27, "people": 54}
    assert meta["config"]["pairs"]["weights"] == ["distinctiveness"]
    assert sorted(path.name for path in (tmp_path / "pairs/trl").iterdir()) == [f"capo-{who}.jsonl" for who in "abc"]
    assert "capo-b" in json.loads((tmp_path / "pairs/llama-factory/dataset_info.json").read_text())


def test_a_split_file_and_people_who_opted_out_are_honoured(raison, tmp_path):
    records = panel(15)
    write_split("split.json", split_items(records, (6, 4, 5), 3), 3)
    status, said = raison("pairs", "--data", "data.jsonl", "--split", "split.json", "--without", "b", "--out", "pairs",
                          "--how", "in-context", "--shots", 3, "--json", "told.json")  # fmt: skip
    assert status == 0, said
    text = (tmp_path / "pairs/pairs.jsonl").read_text()
    train = {record.id for record in split_items(records, (6, 4, 5), 3).train}
    assert {one["record_id"] for one in rows(tmp_path / "pairs/pairs.jsonl")} == train
    assert "b says" not in text
    assert "a says" in text
    assert json.loads((tmp_path / "told.json").read_text())["annotators"] == {"a": 6, "c": 6}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scope", "some"], "scope 'some': expected all"),
        (["--export", "csv"], "--export 'csv': expected trl, trl-plain, llama-factory"),
        (["--samples", "x.jsonl"], "--samples: only beside --rejected sft-sample"),
        (["--rejected", "sft-sample"], "--rejected sft-sample: the samples are needed (--samples)"),
        (["--weigh", "validity"], "validity needs people's judgments of each other's responses, and there are none"),
        (["--weigh", "ordinal"], "ordinal needs labels that are steps of a scale"),
        (["--how", "persona"], "nothing is known of the people"),
        (["--known", "x.json"], "--known: only beside --how persona"),
        (["--wording", "nil"], "did you mean nli"),
        (["--split", "none.json"], "expected a split file"),
    ],
)
def test_wrong_options_of_pairs_cost_one_line(raison, options, message, tmp_path):
    status, said = raison("pairs", "--data", "data.jsonl", "--out", "pairs", *options)
    assert (status, said.count("\n")) == (2, 1)
    assert message in said
    assert not (tmp_path / "pairs").exists()


def test_nothing_comes_in_by_a_file_of_who_opted_out(raison, tmp_path):
    """Neither what a model said as them, nor what a file tells of them, nor pairs that were made before."""
    train = split_items(panel(15)).train
    (tmp_path / "samples.jsonl").write_text("".join(
        json.dumps({"record_id": one.id, "annotator": who, "label": "neutral", "explanation": f"a sample as {who}"})
        + "\n"
        for one in train for who in ("b", "pooled")
    ))  # fmt: skip
    (tmp_path / "known.json").write_text(json.dumps({who: {"Age": f"{place + 30}"} for place, who in enumerate("abc")}))
    status, said = raison("pairs", "--data", "data.jsonl", "--without", "b", "--rejected", "sft-sample", "--samples",
                          "samples.jsonl", "--how", "persona", "--known", "known.json", "--out", "pairs")  # fmt: skip
    assert status == 0, said
    text = (tmp_path / "pairs/pairs.jsonl").read_text()
    assert "a sample as pooled" in text
    assert "a sample as b" not in text
    meta = json.loads((tmp_path / "pairs/pairs.jsonl.meta.json").read_text())
    assert [*meta["config"]["people"]] == ["a", "c"]
    assert raison("pairs", "--data", "data.jsonl", "--tag", "--out", "before")[0] == 0
    status, said = raison("train", "--model", "nowhere", "--how", "capo-tag", "--pairs", "before/pairs.jsonl",
                          "--patience", 2, "--data", "data.jsonl", "--without", "b", "--out", "run")  # fmt: skip
    assert status == 2
    assert "a pair is of 'b', who is not in the data" in said


def test_a_sample_that_tells_of_a_held_out_item_is_found(raison, tmp_path):
    split = split_items(panel(15))
    held_out, train = split.test[0], split.train[0]
    text = responses_of([held_out])[0].explanation
    (tmp_path / "samples.jsonl").write_text(
        json.dumps({"record_id": train.id, "annotator": "pooled", "label": "neutral", "explanation": text}) + "\n"
    )
    status, said = raison("pairs", "--data", "data.jsonl", "--out", "pairs", "--rejected", "sft-sample",
                          "--samples", "samples.jsonl")  # fmt: skip
    assert status == 2
    assert f"a text of the held-out item {held_out.id!r}, which no pair may hold (1 such leaks)" in said
    assert not (tmp_path / "pairs").exists()


def test_what_is_known_of_people_is_told(raison, tmp_path):
    (tmp_path / "known.json").write_text(json.dumps({who: {"Age": f"{place + 30}"} for place, who in enumerate("abc")}))
    status, said = raison(
        "pairs", "--data", "data.jsonl", "--out", "pairs", "--how", "persona", "--known", "known.json"
    )
    assert status == 0, said
    for one in read_pairs(tmp_path / "pairs/pairs.jsonl"):
        assert one.prompt.startswith(f"You are a person of whom this is known: Age: {30 + 'abc'.index(one.annotator)}.")


def test_a_server_imitates(raison, tmp_path):
    def answer(content, attempt):
        assert "These are some of your earlier answers." in content
        return (200, completion("Label: 1\nExplanation: so" if "item1\n" not in content else "no"), {})

    with Faulty(answer) as server:
        command = ["imitate", "--model", "m", "--server", server.url, "--cache", "cache.db", "--data", "rated.jsonl",
                   "--part", "test", "--how", "in-context", "--shots", 2, "--select", "nearest", "--annotators", "a,c",
                   "--price", "1,2", "--out", "out.jsonl"]  # fmt: skip
        status, said = raison(*command)
        assert status == 0, said
        assert raison(*command)[0] == 0
        assert set(server.asked.values()) == {1}
    given = read_responses(tmp_path / "out.jsonl")
    assert [one.annotator for one in given] == ["a", "a", "c", "c"]
    assert f"of {len(given)} replies can't be read" in said
    assert "4 conversations" in said
    assert "cost 0.0001" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--samples", 2], "--samples: without --temperature all samples are the same"),
        (["--part", "all"], "--part 'all': expected train, dev, test"),
        (["--annotators", "a,z"], "--annotators 'z': answered no training item; there are a, b, c"),
        (["--how", "magic"], "how 'magic'"),
        (["--rate", 3], "--rate: only for a model behind a server"),
        (["--order", "last"], "order 'last'"),
        (["--dtype", "foo"], "dtype 'foo': expected float32, bfloat16, float16"),
        (["--model", "sftx/{annotator}"], "sftx/a: no such folder"),
    ],
)
def test_wrong_options_of_imitate_cost_one_line(raison, options, message):
    status, said = raison("imitate", "--model", "nowhere", "--data", "data.jsonl", "--out", "out.jsonl", *options)
    assert (status, said.count("\n")) == (2, 1)
    assert message in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--how", "sft"], "--how 'sft': expected sft-pooled, sft-tag, sft-person, capo-person, capo-tag"),
        (["--how", "sft-tag"], "--how sft-tag: the records are needed (--data)"),
        (["--how", "sft-tag", "--beta", 0.1], "--beta: not of --how sft-tag"),
        (["--how", "capo-tag"], "--how capo-tag: the pairs are needed (--pairs)"),
        (["--how", "capo-tag", "--data", "data.jsonl"], "--how capo-tag: the pairs are needed (--pairs)"),
        (["--how", "capo-tag", "--pairs", "x", "--data", "y"], "--data: not of --how capo-tag, without --patience"),
        (["--how", "capo-tag", "--pairs", "x", "--patience", 2], "--how capo-tag: the records are needed (--data)"),
        (["--how", "sft-tag", "--temperature", 0.7], "--temperature: not of --how sft-tag, without --patience"),
        (["--how", "capo-tag", "--pairs", "x.jsonl"], "x.jsonl: no such file"),
        (["--how", "capo-tag", "--pairs", "empty.jsonl"], "empty.jsonl: the file is empty"),
        (["--how", "capo-tag", "--pairs", "data.jsonl"], "data.jsonl:1: not a preference pair (Object"),
        (["--how", "capo-tag", "--pairs", "pairs.jsonl"], "pairs.jsonl.meta.json: no such file; it tells how"),
        (["--how", "capo-tag", "--pairs", "odd.jsonl"], "odd.jsonl.meta.json: does not say how the pairs were made"),
    ],
)
def test_wrong_options_of_train_cost_one_line(raison, options, message, tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "odd.jsonl.meta.json").write_text("{}")
    for name in ("pairs.jsonl", "odd.jsonl"):
        write_pairs(tmp_path / name, [PreferencePair("i1", "a", "?", "yes", "no", "b")])
    status, said = raison("train", "--model", "nowhere", "--out", "run", *options)
    assert (status, said.count("\n")) == (2, 1)
    assert message in said


def taught(folder, tag, *people):
    """Leave what training leaves beside a model, without the model."""
    note(folder, Asked(wording_for(panel(15)), tag, people))


def test_capo_from_a_model_that_was_not_fine_tuned_is_told(raison, tmp_path):
    taught(tmp_path / "sft", True, "a", "b")
    taught(tmp_path / "each" / "a", False, "a")
    for tag, how in ((["--tag"], "capo-tag"), ([], "capo-person")):
        assert raison("pairs", "--data", "data.jsonl", *tag, "--out", how)[0] == 0
        for model in ("sft", "nowhere", "each/{annotator}"):
            told = raison("train", "--model", model, "--how", how, "--pairs", f"{how}/pairs.jsonl", "--out", "x")[1]
            assert ("warning: nowhere: nothing says that it was fine-tuned" in told) == (model == "nowhere")
    assert told.splitlines() == ["raison: each/b: no such folder"]


def test_the_next_command_reads_what_the_pairs_were_made_from(raison, monkeypatch):
    monkeypatch.setattr(teach, "teach_capo", lambda *_, **__: iter(()))
    write_split("split.json", split_items(panel(15), (6, 4, 5), 3), 3)
    assert raison("pairs", "--data", "data.jsonl", "--split", "split.json", "--tag", "--out", "pairs")[0] == 0
    train = ["train", "--model", "sft", "--how", "capo-tag", "--pairs", "pairs/pairs.jsonl", "--out", "capo"]
    told = raison(*train)[1]
    assert "next: raison annotators imitate --model capo --data data.jsonl --split split.json --out" in told
    told = raison(*train, "--patience", 2, "--data", "data.jsonl", "--without", "c", "--format", "records")[1]
    assert told.endswith("--model capo --data data.jsonl --without c --format records --out responses.jsonl\n")


def test_a_model_asked_as_somebody_it_never_learned_is_told(raison, tmp_path):
    taught(tmp_path / "sft" / "a", False, "a")
    taught(tmp_path / "old", True)
    command = ["imitate", "--data", "data.jsonl", "--out", "out.jsonl"]
    told = raison(*command, "--model", "sft/a", "--annotators", "a,b,c")[1]
    assert "warning: sft/a was never taught to answer as b, c\n" in told
    assert "warning" not in raison(*command, "--model", "sft/a", "--annotators", "a")[1]
    assert "warning" not in raison(*command, "--model", "old")[1]  # it does not say


def test_models_know_whom_they_were_taught_to_answer_as(tmp_path, monkeypatch):
    monkeypatch.setattr(teach, "sft", lambda model, turns, folder, *_, **__: folder)
    monkeypatch.setattr(teach, "capo", lambda model, pairs, folder, *_, **__: folder)
    train, wording = panel(4), wording_for(panel(4))
    for how, people in (("sft-tag", ["abc"]), ("sft-pooled", ["abc"]), ("sft-person", "abc")):
        made = [*teach.teach_sft(how, "lm", train, wording, tmp_path / how, None)]
        assert ["".join(read_asked(folder).people) for _, folder in made] == [*people]
    pairs = [PreferencePair("i1", who, "?", "yes", "no", "b") for who in "ad"]
    taught(tmp_path / "old", True)
    for model, people in (("sft-tag", "abcd"), ("nowhere", "ad"), ("old", "")):
        asked = Asked(wording, True)
        if model == "old":
            note(tmp_path / model, asked)
        ((_, folder),) = teach_capo("capo-tag", str(tmp_path / model), pairs, asked, tmp_path / "capo", None)
        assert "".join(read_asked(folder).people) == people
    pooled, asked = str(tmp_path / "sft-pooled"), Asked(wording, False)
    made = [*teach_capo("capo-person", pooled, pairs, asked, tmp_path / "each", None)]
    assert [read_asked(folder).people for _, folder in made] == [("a",), ("d",)]


def test_the_log_of_a_training_has_no_negative_zero(capsys):
    _progress()(0.5, {"loss": 0.7, "margin": -1e-6, "preferred": 0.5})
    assert capsys.readouterr().err == " 50%  loss 0.700, margin 0.000, preferred 0.500\n"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["tag", "person"])
def test_from_records_to_responses(raison, model, form, tmp_path):
    sft = ["train", "--model", model, "--data", "data.jsonl", "--how", f"sft-{form}", "--wording", "bare",
           "--epochs", 1, "--rank", 2, "--out", "sft"]  # fmt: skip
    status, said = raison(*sft)
    assert status == 0, said
    tag = ["--tag"] if form == "tag" else []
    status, said = raison("pairs", "--data", "data.jsonl", "--wording", "bare", *tag, "--out", "pairs")
    assert status == 0, said
    place = "{annotator}" if form == "person" else ""
    capo = ["train", "--model", f"sft/{place}", "--pairs", "pairs/pairs.jsonl", "--how", f"capo-{form}", "--epochs", 1,
            "--label-weight", 0.5, "--out", "capo"]  # fmt: skip
    status, said = raison(*capo)
    assert status == 0, said
    assert raison(*capo)[0] == 0  # done: found again
    status, said = raison("imitate", "--model", f"capo/{place}", "--data", "data.jsonl", "--reply-tokens", 5, "--out",
                          "out.jsonl", "--device", "cpu")  # fmt: skip
    assert status == 0, said
    given = read_responses(tmp_path / "out.jsonl")
    assert len(given) == 3 * 3
    assert "9 of 9 replies can't be read" in said
    meta = json.loads((tmp_path / "out.jsonl.meta.json").read_text())
    assert meta["config"]["wording"]["name"] == "bare"  # asked as it was taught
    assert meta["config"]["tag"] is (form == "tag")
    assert len(meta["models"]) == (1 if form == "tag" else 3)
    other = ["pairs", "--data", "data.jsonl", *tag, "--out", "other"]
    assert raison(*other)[0] == 0
    status, said = raison(*capo[:3], "--pairs", "other/pairs.jsonl", *capo[5:-1], "again")
    assert (status, said.count("\n")) == (2, 1)
    assert "was taught with another wording than the pairs" in said


@pytest.mark.slow
@pytest.mark.parametrize("form", ["tag", "person"])
def test_the_best_epoch_on_dev_items_is_kept(raison, model, form, tmp_path):
    """An untrained model says nothing that can be read: its score is missing, and the training ends all the same."""
    write_split("split.json", split_items(panel(15), (6, 4, 5), 3), 3)
    data = ["--data", "data.jsonl", "--split", "split.json"]
    trying = [*data, "--epochs", 5, "--patience", 2, "--temperature", 0.5, "--reply-tokens", 5]
    status, said = raison("train", "--model", model, *trying, "--how", f"sft-{form}", "--rank", 2, "--out", "sft")
    assert status == 0, said
    assert "dev: score -, label -, mrr -, imitation -" in said
    tag = ["--tag"] if form == "tag" else []
    assert raison("pairs", *data, *tag, "--out", "pairs")[0] == 0
    place = "/{annotator}" if form == "person" else ""
    capo = ["train", "--model", f"sft{place}", "--pairs", "pairs/pairs.jsonl", "--how", f"capo-{form}", *trying]
    status, said = raison(*capo, "--out", "capo")
    assert status == 0, said
    assert "dev: score -" in said
    folder = tmp_path / "capo" / ("a" if form == "person" else "")
    told = json.loads((folder / "raison.json").read_text())
    assert told["chosen_by"]["split"]["records"] == 4
    scores = [row["eval_score"] for row in told["history"] if "eval_score" in row]
    assert scores == [None] * 4  # before, and after 3 of 5 epochs
    write_split("other.json", split_items(panel(15), (6, 4, 5), 4), 4)
    status, said = raison(*capo[:-2], "--split", "other.json", "--out", "again")
    assert (status, said.count("\n")) == (2, 1)
    assert "a pair is of a held-out item" in said
