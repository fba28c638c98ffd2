import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from raison.records import Annotation, Record, Span, write_records
from raison.sources.describe import describe
from raison.sources.show import show, summary, visible

ONE = Record(
    "7",
    {"premise": "A tall man sleeps.", "hypothesis": "He rests."},
    "nli",
    "yes",
    ("yes", "no"),
    (
        Annotation("ann", "yes", {"premise": (Span(2, 17),), "hypothesis": ()}, "so it is"),
        Annotation("bob", "no", {"premise": (Span(2, 6),), "hypothesis": (Span(3, 5),)}),
        Annotation(None, None, {"premise": (), "hypothesis": ()}),
        Annotation("eve", "no"),
    ),
)


def printed(records, **options):
    stream = io.StringIO()
    show(records, Console(file=stream, **options))
    return stream.getvalue()


def test_without_colour_marked_words_stand_in_brackets():
    assert printed([ONE]).splitlines() == [
        "7 · nli · label: yes",
        "  premise: A [tall]² [man sleeps.]¹",
        "  hypothesis: He [rests.]¹",
        '    ann · yes · "tall man sleeps" · because: so it is',
        '    bob · no · "tall", "re"',
        "    (no name) · no label · marked nothing",
        "    eve · no · not asked to mark",
        "",
    ]


def test_one_person_needs_no_number():
    record = Record("1", {"text": "a b c"}, annotations=(Annotation("x", None, {"text": (Span(2, 5),)}),))
    assert "text: a [b c]\n" in printed([record])


def test_in_colour_the_background_says_how_many(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = printed([ONE], force_terminal=True, color_system="256", width=80)
    assert "\x1b[30;48;5;222mtall\x1b[0m" in text  # two of three
    assert "\x1b[30;48;5;230mman sleeps.\x1b[0m" in text  # one of three
    assert "[tall]" not in text


def test_no_color_is_heeded():
    text = printed([ONE], force_terminal=True, color_system="256", no_color=True, width=80)
    assert "[tall]²" in text


def test_texts_are_data():
    nasty = "[red]x[/red] :smile: \x1b[31mred\x07 \u202eevil\u200b <script> \ud800 a\u200db\nnext\tcell"
    record = Record(nasty, {nasty: nasty}, nasty, nasty, annotations=(Annotation(nasty, nasty, {nasty: ()}, nasty),))
    text = printed([record])
    assert "[red]x[/red] :smile: ␛[31mred␇ <U+202E>evil<U+200B> <script> <U+D800> a\u200db⏎next⇥cell" in text
    assert not any(character in text for character in "\x1b\x07\u202e\u200b\ud800\t")


def test_a_long_line_is_one_line_when_it_is_not_for_a_terminal():
    text = printed([Record("1", {"text": "word " * 500})])
    assert len(text.splitlines()) == 3
    assert len(printed([Record("1", {"text": "word " * 500})], force_terminal=True, width=80).splitlines()) > 20


@given(st.text(max_size=40))
def test_nothing_of_a_text_is_lost(text):
    record = Record(
        "1", {"text": text}, annotations=(Annotation("x", None, {"text": (Span(0, len(text)),) if text else ()}),)
    )
    line = printed([record]).split("text: ", 1)[1].split("\n    x")[0]
    assert line.replace("[", "").replace("]", "") == visible(text).replace("[", "").replace("]", "")


@given(st.text())
def test_visible_text_has_no_control_characters(text):
    assert all(
        character.isprintable() or character in "\u200c\u200d" or not ord(character) < 0xA0
        for character in visible(text)
    )
    assert "\x1b" not in visible(text)


def test_a_summary_is_a_table(tmp_path):
    write_records(tmp_path / "x[b].jsonl", [ONE])
    stream = io.StringIO()
    Console(file=stream, width=300).print(summary(describe(tmp_path / "x[b].jsonl")))
    text = stream.getvalue().replace("\n", "")  # a long path is folded
    for part in ("x[b].jsonl", "nli 1", "yes 1", "4 by 3 annotators", "3 of 4 (75%)", "faults", "none"):
        assert part in text
    assert "mean pairwise F1" in text


@pytest.mark.parametrize("marked", [(), (Span(0, 1),)])
def test_a_summary_of_little(tmp_path, marked):
    write_records(
        tmp_path / "x.jsonl", [Record("1", {"text": "a"}, annotations=(Annotation(rationale={"text": marked}),))]
    )
    stream = io.StringIO()
    Console(file=stream, width=120).print(summary(describe(tmp_path / "x.jsonl")))
    assert "undefined" in stream.getvalue()
