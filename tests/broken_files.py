"""Files that are broken in one way each, and a part of the one line that says so.

`tests` is no package (pytest imports by path): load this with
`runpy.run_path(str(Path(__file__).with_name("broken_files.py")))["broken_files"]`.
"""

import gzip
import json

GOOD = {
    "id": "1",
    "task": "nli",
    "fields": {"premise": "A man sleeps.", "hypothesis": "A man rests."},
    "label": "yes",
    "label_set": ["yes", "no"],
    "annotations": [{"annotator": "a", "label": "yes", "rationale": {"premise": [[6, 13]]}, "explanation": None}],
}


def _line(**changes):
    row = {**GOOD, **changes}
    return json.dumps({key: value for key, value in row.items() if value is not ...}).encode() + b"\n"


def _said(**changes):
    return _line(annotations=[{**GOOD["annotations"][0], **changes}])


def _marked(spans, field="premise"):
    return _said(rationale={field: spans})


def _second(**changes):
    return _line() + _line(**{"id": "2", **changes})


_FIRST_LINE = {
    "not json": (b"{id: 1, fields\n", "not valid JSON"),
    "json cut short": (_line()[:60] + b"\n", "not valid JSON"),
    "json over several lines": (json.dumps(GOOD, indent=1).encode(), "not valid JSON"),
    "two objects on a line": (_line().strip() + _line(), "trailing characters"),
    "nan": (_line(meta={"x": float("nan")}), "not valid JSON"),
    "nested too deeply": (b'{"fields":' + b"[" * 100_000 + b"\n", "nested too deeply"),
    "lone surrogate": (_line().replace(b"A man sleeps.", rb"A \ud800 man sleeps."), "not valid JSON"),
    "an array": (b"[1, 2]\n", "expected `object`, got `array`"),
    "a number": (_line() + b"17\n", ":2: expected `object`, got `int`"),
    "no id": (_line(id=...), "missing required field `id`"),
    "id is a number": (_line(id=1), "field `id`: expected `str`, got `int`"),
    "id is empty": (_line(id=""), "field `id`: expected a text that is not empty"),
    "no fields": (_line(fields=...), "missing required field `fields`"),
    "fields are empty": (_line(fields={}, annotations=[]), "field `fields`: expected at least one text"),
    "fields are a list": (_line(fields=["A man"]), "field `fields`: expected `object`, got `array`"),
    "text is a number": (_line(fields={"premise": 3}), "expected `str`, got `int`"),
    "label is a number": (_line(label=1), "field `label`: expected `str | null`, got `int`"),
    "label is unknown": (_line(label="maybe"), "field `label`: 'maybe' is not one of yes, no"),
    "label set with a double": (_line(label_set=["yes", "yes"]), "field `label_set`"),
    "label set is a text": (_line(label_set="yes"), "field `label_set`: expected `array`, got `str`"),
    "unknown key": (_line(source="me"), "unknown field `source` (extra information belongs under `meta`)"),
    "meta is a list": (_line(meta=[]), "field `meta`: expected `object`, got `array`"),
    "annotations are an object": (_line(annotations={}), "field `annotations`: expected `array`, got `object`"),
    "annotation is a text": (_line(annotations=["a"]), "field `annotations[0]`: expected `object`, got `str`"),
    "annotator is a number": (_said(annotator=7), "field `annotations[0].annotator`"),
    "explanation is a list": (_said(explanation=["x"]), "field `annotations[0].explanation`"),
    "unknown label of a person": (_said(label="maybe"), "field `annotations[0].label`: 'maybe' is not one of yes, no"),
    "extra is a number": (_said(extra=5, more=1), "field `annotations[0].extra`"),
    "rationale is a list": (_said(rationale=[[0, 1]]), "field `annotations[0].rationale`: expected `object"),
    "rationale of no field": (_marked([[0, 1]], "text"), "field `annotations[0].rationale.text`: the record has no"),
    "span outside": (_marked([[6, 99]]), "span [6, 99] does not lie in a text of 13 characters"),
    "span is negative": (_marked([[-3, 4]]), "span [-3, 4] does not lie"),
    "span is empty": (_marked([[4, 4]]), "span [4, 4] does not lie"),
    "span is reversed": (_marked([[6, 2]]), "span [6, 2] does not lie"),
    "spans overlap": (_marked([[0, 5], [2, 9]]), "span [2, 9] overlaps"),
    "spans out of order": (_marked([[6, 9], [0, 1]]), "span [0, 1] overlaps the one before it, or is out of order"),
    "span of three": (_marked([[0, 1, 2]]), "expected `array` of length 2, got 3"),
    "span of fractions": (_marked([[0.5, 1]]), "expected `int`, got `float`"),
    "span of texts": (_marked([["0", "1"]]), "expected `int`, got `str`"),
    "key with a line break": (_line(**{"a\nb": 1}), r"unknown field `a\nb`"),
}

_LATER_LINE = {
    "id stands there twice": (_line() + _line(), ":2: record '1': field `id`: this id stands in the file already"),
    "other fields": (
        _second(fields={"premise": "A man sleeps."}),
        ":2: record '2': field `fields`: has premise, where",
    ),
    "another label set": (_second(label_set=["yes"]), ":2: record '2': field `label_set`: has yes, where"),
    "fault after a blank line": (_line() + b"\n\n{}\n", ":4: object missing required field `id`"),
}

_BYTES = {
    "empty file": (b"", "the file is empty"),
    "blank lines only": (b"\n  \n\n", "the file is empty"),
    "latin-1": (_line().replace(b"A man sleeps.", b"Une \xe9cole."), "not UTF-8 text"),
    "utf-16": (_line().decode().encode("utf-16"), "UTF-16 text; expected UTF-8"),
    "binary": (bytes(range(128, 256)) * 20, "not UTF-8 text"),
    "null bytes": (b"\x00" * 100, "not valid JSON"),
    "gzip cut short": (
        gzip.compress(b"".join(_line(id=f"{n}") for n in range(50)))[:-20],
        "the gzip stream is damaged",
    ),
    "gzip of another kind": (b"\x1f\x8b" + b"\x00" * 50, "the gzip stream is damaged"),
    "another table": (b'{"sentence": "A man sleeps.", "y": 1}\n', "not a format that can be recognised"),
}

_HEADER = "pairID,gold_label,Sentence1,Sentence2,Explanation_1,Sentence1_marked_1,Sentence2_marked_1\n"

_CSV = {
    "csv without a mapping": (
        "text,label\nA man sleeps.,yes\n",
        "a table with the header 'text,label'; give a `--format`, or say",
    ),
    "e-snli cut short": (_HEADER + "7,neutral,A man sleeps.\n", ":2: expected 7 cells, as in the header, found 3"),
    "e-snli label": (
        _HEADER + "7,maybe,A man.,A boy.,x,A man.,A *boy.*\n",
        ":2: field `gold_label`: 'maybe' is not one",
    ),
    "e-snli mark": (_HEADER + "7,neutral,A man.,A boy.,x,A man.,A *boy.\n", "`Sentence2_marked_1`: unbalanced mark"),
    "e-snli other words": (_HEADER + "7,neutral,A man.,A boy.,x,A dog.,A boy.\n", "another word for word 1: 'dog.'"),
    "e-snli quotation mark": (_HEADER + '7,neutral,"A man.,A boy.,x,A man.,A boy.\n', "a quotation mark is left open"),
    "header only": (_HEADER, "the file is empty"),
}

CASES = {
    **{name: ("jsonl", content, message) for name, (content, message) in (_FIRST_LINE | _LATER_LINE | _BYTES).items()},
    **{name: ("csv", content.encode(), message) for name, (content, message) in _CSV.items()},
}


def broken_files(folder):
    """Write each broken file into `folder` and yield (name, path, a part of the expected message)."""
    for name, (kind, content, message) in CASES.items():
        path = folder / f"{name.replace(' ', '_')}.{kind}"
        path.write_bytes(content)
        yield name, path, message
    yield "no such file", folder / "nowhere.jsonl", "no such file"
    inside = folder / "a_folder.jsonl"
    inside.mkdir(exist_ok=True)
    yield "a folder", inside, "a folder"
