"""HateXplain: `dataset.json`, one object from post id to its words, annotators and rationales.

The file does not say whose a rationale is: rationales are given, in order, to the annotators who chose a toxic label
where there are as many of these; otherwise each is an annotation without annotator and label.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from raison.records import Annotation, Fault, InputError, Record, Spans, problems
from raison.sources.common import Item, checked_lines, explain, majority, unknown
from raison.words import spans_of_words, whitespace_words

LABELS = ("hatespeech", "normal", "offensive")


class _Annotator(msgspec.Struct):
    label: str
    annotator_id: int | str
    target: list[str] | None = None


class _Post(msgspec.Struct):
    annotators: list[_Annotator]
    post_tokens: list[str]
    rationales: list[list[int]] = []


def read_hatexplain(path: str | Path, split: str | None = None) -> Iterator[Item]:
    """Yield the records of HateXplain; the label is the majority of the annotators, null on a tie.

    Args:
        path: `dataset.json`. It is held in memory while it is read (the published one has 12 MB).
        split: a name in `post_id_divisions.json`, which then must lie beside it: only its posts, in its order.
    """
    data = bytearray()
    for item in checked_lines(path, blank=True):
        if isinstance(item, Fault):
            yield item
            return
        data += item[1]
    if not data.strip():
        return
    try:
        posts = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        lines = _lines(bytes(data), posts)
        chosen = posts if split is None else _split(path, split, posts)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        yield Fault(str(path), 1, f"expected one JSON object from post id to post ({error})")
        return
    for name in chosen:
        try:
            yield lines[name], _record(name, posts[name])
        except InputError as error:
            yield Fault(str(path), lines[name], f"post {name!r}: {error}")


def _lines(data: bytes, posts: dict[str, msgspec.Raw]) -> dict[str, int]:
    """Find the line on which each post begins."""
    lines: dict[str, int] = {}
    position, line = 0, 1
    for name in posts:
        found = data.find(msgspec.json.encode(name), position)
        if found >= 0:  # not so where the file writes the name with other escapes
            line += data.count(b"\n", position, found)
            position = found
        lines[name] = line
    return lines


def _split(path: str | Path, split: str, posts: dict[str, msgspec.Raw]) -> list[str]:
    beside = Path(path).with_name("post_id_divisions.json")
    try:
        splits = msgspec.json.decode(beside.read_bytes(), type=dict[str, list[str]])
    except OSError:
        raise InputError(f"{beside}: no such file; it says which posts are in split {split!r}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InputError(f"{beside}: expected one JSON object from split to post ids") from None
    if split not in splits:
        raise InputError(f"{beside}: {unknown('split', split, splits)}")
    absent = next((name for name in splits[split] if name not in posts), None)
    if absent is not None:
        raise InputError(f"{beside}: post {absent!r} is not in {path}")
    return splits[split]


def _record(name: str, raw: msgspec.Raw) -> Record:
    try:
        post = msgspec.json.decode(raw, type=_Post)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(explain(error) if isinstance(error, msgspec.DecodeError) else "not UTF-8 text") from None
    text = " ".join(post.post_tokens)
    rationales = [_rationale(index, flags, post, text) for index, flags in enumerate(post.rationales)]
    record = Record(
        id=name,
        task="hate_speech",
        fields={"text": text},
        label=majority([annotator.label for annotator in post.annotators]),
        label_set=LABELS,
        annotations=tuple(_annotations(post.annotators, rationales)),
    )
    if problem := next(problems(record), None):
        raise InputError(problem)
    return record


def _rationale(index: int, flags: list[int], post: _Post, text: str) -> Spans:
    place, size = f"field `rationales[{index}]`", len(post.post_tokens)
    if len(flags) != size:
        raise InputError(f"{place}: has {len(flags)} flags for {size} words")
    if not {0, 1}.issuperset(flags):
        raise InputError(f"{place}: expected 0 or 1 for each word, found {max(flags, key=abs)}")
    words = whitespace_words(text)
    if len(words) != len(flags):
        raise InputError("field `post_tokens`: a token is empty or has whitespace in it")
    return {"text": spans_of_words(words, np.array(flags, dtype=np.bool_))}


def _annotations(annotators: list[_Annotator], rationales: list[Spans]) -> Iterator[Annotation]:
    toxic = [annotator.label != "normal" for annotator in annotators]
    owned = iter(rationales if sum(toxic) == len(rationales) else [])
    for annotator, is_toxic in zip(annotators, toxic, strict=True):
        yield Annotation(
            annotator=str(annotator.annotator_id),
            label=annotator.label,
            rationale=next(owned, None) if is_toxic else None,
            extra={} if annotator.target is None else {"targets": cast("list[Any]", annotator.target)},
        )
    if sum(toxic) != len(rationales):
        yield from (Annotation(rationale=rationale) for rationale in rationales)
