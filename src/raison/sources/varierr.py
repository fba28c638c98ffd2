"""VariErr NLI: `varierr.json` as its authors publish it (Weber-Genzel et al. 2024); JSON lines, despite its name.

Four people labelled and explained each item, some with several labels, each explained apart; later they judged all
explanations, their own too. A label is in error where nobody who gave it stands by an explanation of it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from raison.records import Annotation, Fault, InputError, Record, problems
from raison.sources.common import Item, explain, json_lines, majority
from raison.sources.litex import LABELS, Categories, collapsed


class _Judgment(msgspec.Struct):
    annotator: int | str
    makes_sense: bool | None = None


class _Reason(msgspec.Struct):
    annotator: int | str
    reason: str
    judgments: list[_Judgment] = []
    self_corrected: bool | None = None


class _Item(msgspec.Struct):
    id: str
    context: str
    statement: str
    entailment: list[_Reason]
    neutral: list[_Reason]
    contradiction: list[_Reason]
    idk: list[int | str] = []
    error_labels: list[str] = []
    chaosnli_labels: dict[str, int] | None = None


def read_varierr(path: str | Path, categories: str | None = None) -> Iterator[Item]:
    """Yield the records of VariErr NLI: one annotation for each person and label of the first round.

    The label of a record is the majority of the first round, null on a tie. `judgments` of an annotation say who found
    the explanation to make sense, `self_corrected` whether its own author did not; `meta` has `idk` (who could not
    say), `error_labels` and the counts of `chaosnli`. Runs of white space in explanations become single spaces.

    Args:
        path: `varierr.json`.
        categories: LiTEx's `annotations_varierr.jsonl`: its categories are joined as `category`.

    Raises:
        InputError: `categories` can't be read.
    """
    joined = Categories(categories) if categories else None
    for item in json_lines(path):
        if isinstance(item, Fault):
            yield item
            continue
        line, row = item
        try:
            record = _record(msgspec.convert(row, _Item))
            yield line, joined.join(record) if joined else record
        except msgspec.ValidationError as error:
            yield Fault(str(path), line, explain(error))
        except InputError as error:
            given = error.args[0]
            yield given if isinstance(given, Fault) else Fault(str(path), line, str(error))
    if joined:
        yield from joined.unused()


def error_labels(annotations: Iterable[Annotation]) -> list[str]:
    """Give the labels none of whose explanations its own author found to make sense, in the order of the label set."""
    stands: dict[str, bool] = {}
    for said in annotations:
        if said.label is not None:
            own = said.extra.get("judgments", {}).get(said.annotator) is True
            stands[said.label] = stands.get(said.label, False) or own
    return [label for label in LABELS if stands.get(label) is False]


def _record(item: _Item) -> Record:
    given = [(label, reason) for label in LABELS for reason in getattr(item, label)]
    given.sort(key=lambda pair: (len(str(pair[1].annotator)), str(pair[1].annotator)))  # 2 before 10
    annotations = tuple(_annotation(label, reason) for label, reason in given)
    meta: dict[str, Any] = {
        "idk": [str(name) for name in item.idk],
        "error_labels": item.error_labels,
        "chaosnli": item.chaosnli_labels,
    }
    record = Record(
        id=item.id,
        task="nli",
        fields={"premise": item.context, "hypothesis": item.statement},
        label=majority([said.label for said in annotations]),
        label_set=LABELS,
        annotations=annotations,
        meta={name: value for name, value in meta.items() if value},
    )
    if problem := next(problems(record), None):
        raise InputError(problem)
    return record


def _annotation(label: str, reason: _Reason) -> Annotation:
    judged = {str(one.annotator): one.makes_sense for one in reason.judgments if one.makes_sense is not None}
    corrected = {} if reason.self_corrected is None else {"self_corrected": reason.self_corrected}
    return Annotation(
        annotator=str(reason.annotator),
        label=label,
        explanation=collapsed(reason.reason) or None,
        extra={"judgments": judged, **corrected},
    )
