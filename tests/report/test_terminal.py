"""The table for a terminal."""

import io

from rich.console import Console

from raison.report import table


def printed(verdict, width=100):
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=False).print(table(verdict))
    return stream.getvalue()


def test_fits_100_columns_without_colour(make):
    text = printed(make(40))
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text
    assert "integrated_gradients " in text  # in one piece
    for part in ("validity: ok", "F1 ↑", "Sufficiency ↓", "chance", "random words", "What can be concluded", "note: "):
        assert part in text


def test_undefined_and_withheld_are_said(make):
    text = printed(make(60, "collapsed", sources=("occlusion", "prompted")))
    assert "validity: collapsed · the model answers 'neutral'" in text
    assert "AUPRC is undefined for prompted" in text
    assert "in brackets: not to be ranked" in text
    assert "No ranking: the model answers 'neutral'" in text


def test_markup_and_controls_in_names_are_text(make):
    text = printed(make(10, sources=("[bold red]x[/]", "tab\x1b[31m")))
    assert "[bold red]x[/]" in text
    assert "tab<U+001B>[31m" in text


def test_without_a_model(make):
    text = printed(make(20, "people"))
    assert "not assessed" in text
    assert "Faithfulness" not in text


def test_a_verdict_shows_itself(make):
    verdict = make(12)
    assert "What can be concluded" in repr(verdict)
    assert "<iframe" in verdict._repr_html_()
