import pytest

from raison.records import Annotation, Record, read_records
from raison.sources import load, scan

DEV = "pairID,gold_label,Sentence1,Sentence2," + ",".join(
    f"Explanation_{k},Sentence1_marked_{k},Sentence2_marked_{k},Sentence1_Highlighted_{k},Sentence2_Highlighted_{k}"
    for k in "123"
)
TRAIN = DEV.replace("Explanation_1,", "Explanation_1,WorkerId,")
ONE = "7r1,neutral,A boy  runs.,The boy is late.,He  may be early., A boy runs., The boy is *late.*,{},3"
LABELS = ("entailment", "neutral", "contradiction")


def test_dev_has_three_annotators(write):
    path = write(
        "x.csv",
        f"{DEV}\n{ONE},Why late?,A boy *runs.*,The *boy* *is* late.,2000,1,So.,A boy runs.,The boy is late.,,\n",
    )
    (record,) = load(path)
    assert record == Record(
        "7r1",
        {"premise": "A boy  runs.", "hypothesis": "The boy is late."},
        "nli",
        "neutral",
        LABELS,
        (
            Annotation("1", "neutral", {"premise": (), "hypothesis": ((11, 16),)}, "He may be early."),
            Annotation("2", "neutral", {"premise": ((7, 12),), "hypothesis": ((4, 10),)}, "Why late?"),
            Annotation("3", "neutral", {"premise": (), "hypothesis": ()}, "So."),
        ),
    )


def test_train_has_one_and_names_the_worker(write):
    row = ONE.replace("early.,", "early.,W9,") + ",NA" * 10
    (record,) = load(write("x.csv", f"{TRAIN}\n{row}\n"))
    assert [said.annotator for said in record.annotations] == ["W9"]


def test_marks_alone_and_explanations_alone(write):
    row = "8,neutral,A.,B.,NA,A.,*B.*,,,so,NA,NA,,,,,,,"
    (record,) = load(write("x.csv", f"{DEV}\n{row}\n"))
    assert [(said.rationale, said.explanation) for said in record.annotations] == [
        ({"premise": (), "hypothesis": ((0, 2),)}, None),
        (None, "so"),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            ONE.replace("neutral", "neutrl"),
            "field `gold_label`: 'neutrl' is not one of entailment, neutral, contradiction",
        ),
        (ONE.replace("*late.*", "*late."), "field `Sentence2_marked_1`: unbalanced mark in word 3: '*late.'"),
        (ONE.replace("*late.*", "*soon.*"), "field `Sentence2_marked_1`: the sentence has another word for word 3"),
        (ONE.replace("*late.*", "very *late.*"), "field `Sentence2_marked_1`: has 5 words where the sentence has 4"),
        (ONE.replace("The boy is late.,", ",", 1), "field `Sentence2`: empty; expected a text"),
        (ONE.replace("7r1", ""), "field `pairID`: empty; expected a text"),
        (ONE.replace(" A boy runs.", ""), "field `Sentence1_marked_1`: empty, its pair is not"),
    ],
)
def test_faults_name_the_column_and_cost_one_row(write, split_items, row, message):
    path = write("x.csv", f"{DEV}\n{row}{',' * 10}\n{ONE.replace('7r1', '8')}{',' * 10}\n")
    records, faults = split_items(scan(path))
    assert [record.id for record in records] == ["8"]
    assert len(faults) == 1
    assert faults[0].startswith(f"{path}:2: {message}")


def test_a_missing_column(write, split_items):
    header = DEV.replace("gold_label", "gold-label")
    _, faults = split_items(scan(write("x.csv", f"{header}\n{ONE}\n"), "esnli"))
    assert "unknown column 'gold_label'; did you mean 'gold-label'?" in faults[0]


def test_the_published_dev_file(shared):
    wanted = {record.id: record for record in read_records(shared / "data" / "esnli" / "dev.jsonl.gz")}
    found = load(shared / "raw" / "esnli" / "esnli_dev_head.csv")
    assert len(found) == 300
    assert found == [wanted[record.id] for record in found]


def test_the_published_train_file(shared):
    found = load(shared / "raw" / "esnli" / "esnli_train_head.csv")
    assert len(found) == 40
    assert all(len(record.annotations) == 1 and record.annotations[0].rationale for record in found)
    assert {record.annotations[0].annotator[0] for record in found} == {"W"}
    assert found[0].annotations[0].rationale == {"premise": (), "hypothesis": ((23, 31),)}
