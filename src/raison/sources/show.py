"""Records and descriptions as text for a terminal. Texts are data: nothing in them is taken for markup or control."""

import itertools
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from raison.records import Annotation, Record, Span
from raison.sources.common import all_labels
from raison.sources.describe import Description
from raison.words import Segmenter, human_masks, whitespace_words, word_grid

_SHADES = ("black on color(230)", "black on color(222)", "black on color(214)")  # few, some, most of the people
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def visible(text: str) -> str:
    """Make control characters, bidirectional and invisible ones, and lone surrogates visible.

    A line break becomes `⏎`, a tab `⇥`, another control character its picture (`␛`), anything else `<U+202E>`. The
    joiners that emoji and some scripts need stay.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _picture(character) for character in text)


def _picture(character: str) -> str:
    if character in ("\n", "\t"):
        return {"\n": "⏎", "\t": "⇥"}[character]
    if character < " ":
        return chr(0x2400 + ord(character))
    if character in ("\u200c", "\u200d") or unicodedata.category(character) in ("Zs", "Co", "Cn"):
        return character
    return f"<U+{ord(character):04X}>"


def show(records: Iterable[Record], console: Console | None = None, segment: Segmenter = whitespace_words) -> None:
    """Print records with what people marked in them.

    In colour, the more people marked a word the stronger its background. Without (not a terminal, or NO_COLOR) marked
    words stand in [brackets]; where several people were asked, a raised number says how many marked them.

    Args:
        records: what to print.
        console: where to; standard output by default.
        segment: what a word is.
    """
    console = console or Console()
    coloured = console.color_system is not None and not console.no_color
    for record in records:
        for indent, line in record_lines(record, coloured, segment):
            if console.is_terminal:
                console.print(Padding(line, (0, 0, 0, indent)))
            else:  # one line of text stays one line
                console.print(Text(" " * indent) + line, soft_wrap=True)
        console.print()


def record_lines(record: Record, coloured: bool, segment: Segmenter = whitespace_words) -> Iterator[tuple[int, Text]]:
    """Give the lines that show one record, each with its indent: head, fields with their marks, annotations."""
    head = [record.id, record.task, "no label" if record.label is None else f"label: {record.label}"]
    yield 0, Text(" · ".join(visible(part) for part in head if part), style="bold")
    grid = word_grid(record, segment)
    masks = human_masks(record, grid)
    counts = grid.split(masks.sum(axis=0))
    for name, text in record.fields.items():
        shown = marked_text(text, grid.words[name], counts[name], len(masks), coloured)
        yield 2, Text.assemble((f"{visible(name)}: ", "cyan"), shown)
    for annotation in record.annotations:
        yield 4, _said(annotation, record)


def marked_text(text: str, words: Iterable[Span], counts: Iterable[int], people: int, coloured: bool) -> Text:
    """Show one text with its marked words.

    Args:
        text: the text.
        words: its words.
        counts: for each word, how many people marked it.
        people: how many were asked.
        coloured: by background, else by brackets.
    """
    result, position = Text(), 0
    pairs = zip(words, (int(count) for count in counts), strict=True)
    for count, run in itertools.groupby(pairs, key=lambda pair: pair[1]):
        spans = [word for word, _ in run]
        start, end = spans[0].start, spans[-1].end
        result.append(visible(text[position:start]))
        shown, position = visible(text[start:end]), end
        if not count:
            result.append(shown)
        elif coloured:
            result.append(shown, style=_SHADES[int(np.ceil(len(_SHADES) * count / people)) - 1])
        else:
            result.append(f"[{shown}]{str(count).translate(_SUPERSCRIPTS) if people > 1 else ''}")
    return result.append(visible(text[position:]))


def _said(annotation: Annotation, record: Record) -> Text:
    """Show in one line what one person said."""
    parts = ["(no name)" if annotation.annotator is None else annotation.annotator]
    parts.append(" | ".join(all_labels(annotation.label, annotation.extra)) or "no label")
    if annotation.rationale is None:
        parts.append("not asked to mark")
    else:
        marked = [record.fields[name][slice(*span)] for name, spans in annotation.rationale.items() for span in spans]
        parts.append(
            ", ".join(f'"{textwrap.shorten(part, 60, placeholder=" …")}"' for part in marked) or "marked nothing"
        )
    if annotation.explanation:
        parts.append(f"because: {annotation.explanation}")
    return Text(visible(" · ".join(parts)), style="dim")


def summary(description: Description) -> Table:
    """Give a description as a table of two columns. Faults are only counted: print them line by line."""
    table = Table(title=Text(visible(description.file)), show_header=False, title_justify="left")
    for name, value in _rows(description):
        table.add_row(Text(name, style="bold"), Text(visible(value)))
    return table


def _rows(it: Description) -> Iterator[tuple[str, str]]:
    """Name what is worth saying of a description."""
    yield "records", f"{it.records:,}"
    yield "tasks", _counted(it.tasks)
    yield "fields", ", ".join(it.fields)
    unlabelled = f"without a label {it.unlabelled:,}" if it.unlabelled else ""
    yield "labels", ", ".join(part for part in (_counted(it.labels), unlabelled) if part)
    yield "annotations", f"{it.annotations:,} by {it.annotators:,} annotators"
    if it.annotators:
        yield "most active", _counted(it.top_annotators)
    yield "asked for a rationale", _share(it.asked, it.annotations)
    yield "marked something", _share(it.marked, it.asked)
    yield "without a rationale", _share(it.without_rationale, it.records)
    if it.words_marked is not None and it.share_marked is not None:
        yield "rationale length", f"{it.words_marked:.1f} words, {it.share_marked:.0%} of the text (where marked)"
    yield "explained", _share(it.explained, it.annotations)
    if it.several:
        yield "several labels at once", f"{_share(it.several, it.annotations)}, left out of the agreement of labels"
    yield "agreement, rationales", _agreement(it)
    yield "agreement, labels", "undefined" if it.label_alpha is None else f"Krippendorff's alpha {it.label_alpha:.3f}"
    yield "faults", f"{it.fault_count:,}" if it.fault_count else "none"


def _agreement(it: Description) -> str:
    """Say how far people's rationales agree, overall and for each label."""
    if it.agreement is None:
        return "undefined: no record has rationales of two people"
    by_label = (f"{label} {value:.3f}" for label, (value, _) in it.agreement_by_label.items())
    parts = [f"mean pairwise F1 {it.agreement:.3f} over {it.agreement_pairs:,} pairs", ", ".join(by_label)]
    if it.agreement_empty:
        parts.append(f"without {it.agreement_empty:,} pairs of records where nobody marked a word")
    return "; ".join(part for part in parts if part)


def _counted(counts: dict[str, int], most: int = 12) -> str:
    shown = [f"{name or '(none)'} {count:,}" for name, count in list(counts.items())[:most]]
    return ", ".join([*shown, f"… {len(counts) - most} more"] if len(counts) > most else shown)


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / whole:.0%})" if whole else "none"
