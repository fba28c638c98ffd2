"""Before and after: what fine-tuning changed in a model's rationales, on the same records.

A change of faithfulness has two parts. Either the explanation changed, or the model came to react to masks at all. They
are told apart by judging the old model's rationales on the new model too.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from raison.evaluation.faithfulness import normalised_flips
from raison.evaluation.results import Item, Verdict
from raison.evaluation.statistics import Estimate, bootstrap_mean, bootstrap_statistic, holm, sign_flip
from raison.evaluation.summarise import Settings
from raison.records import InputError

Column = NDArray[np.float64]
METRICS = ("f1", "auprc", "flip_rate", "comprehensiveness", "sufficiency", "aopc_comprehensiveness")
NORMALISED = ("flip_rate", "flip_rate.random", "flip_rate.full")  # columns of the normalised flip rate


class Change(msgspec.Struct, frozen=True):
    """How one metric of one source changed, paired by record."""

    metric: str
    source: str
    before: float | None
    after: float | None
    difference: Estimate  # after minus before
    p: float | None  # paired sign-flip permutation; None for the normalised flip rate, which is a ratio of means
    p_holm: float | None = None  # Holm's correction over the sources of the metric
    verdict: str = ""  # empty, or why one of the two can't be read


class Interaction(msgspec.Struct, frozen=True):
    """(attributed after - before) - (prompted after - before): whether fine-tuning serves one family more."""

    metric: str
    attributed: float | None  # mean change over the attributed sources
    prompted: float | None
    difference: Estimate


class Parts(msgspec.Struct, frozen=True):
    """A change in two steps: old words on the new model, then new words on the new model."""

    metric: str
    source: str
    maskable: Estimate  # old words: new model minus old model
    explained: Estimate  # new model: new words minus old words


class Contrast(msgspec.Struct, frozen=True):
    """The contrast of two verdicts over the same records."""

    before: str
    after: str
    records: int
    accuracy: Estimate | None  # of the model: after minus before
    changes: list[Change]
    interactions: list[Interaction]
    parts: list[Parts]
    notes: list[str]


def is_prompted(source: str) -> bool:
    """Whether a source is a model that was asked for its words."""
    return source.startswith("prompted")


def contrast(
    before: Verdict,
    after: Verdict,
    crossed: Verdict | None = None,
    *,
    prompted: Callable[[str], bool] = is_prompted,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Contrast:
    """Compare the verdicts of a model before and after fine-tuning, paired by record.

    Args:
        before: of the model as it was, with its own rationales.
        after: of the tuned model, with its own rationales; sources have the names that they have in `before`.
        crossed: of the tuned model, with the rationales of the model as it was. Without it changes have no parts.
        prompted: which sources are prompted rationales; all others, but random ones, are attributed.
        level: of intervals.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        Changes of every metric that both have, with intervals; interactions where both families are there. A change
        whose value can't be read in one of the verdicts says why.

    Raises:
        InputError: the verdicts have no record, or no source, in common.
    """
    ids = [item.record_id for item in before.items]
    shared = {item.record_id for item in after.items}
    ids = [record_id for record_id in ids if record_id in shared]
    sources = [source for source in before.sources if source in after.sources]
    if not ids or not sources:
        raise InputError(f"nothing to compare: the verdicts have no {'source' if ids else 'record'} in common")
    tables = [_table(verdict, ids) for verdict in (before, after)]
    settings = Settings(level, resamples, seed)
    changes = [
        change
        for metric in (*METRICS, "flip_rate_normalised")
        for change in _corrected([
            _change(metric, source, tables, (before, after), settings)
            for source in sources
            if _columns(metric, tables[0], source) is not None and _columns(metric, tables[1], source) is not None
        ])
    ]  # fmt: skip
    dropped = len(before.items) + len(after.items) - 2 * len(ids)
    return Contrast(
        before=before.model or "",
        after=after.model or "",
        records=len(ids),
        accuracy=_accuracy(before, after, ids, settings),
        changes=changes,
        interactions=_interactions(sources, tables, prompted, settings),
        parts=_parts(sources, tables, _table(crossed, ids), settings) if crossed else [],
        notes=[f"{dropped} records are in one of the verdicts alone and left out"] if dropped else [],
    )


Table = Mapping[tuple[str, str], Column]  # (source, metric) -> (records,)


def _table(verdict: Verdict, ids: Sequence[str]) -> Table:
    found: dict[str, Item] = {item.record_id: item for item in verdict.items}
    table: dict[tuple[str, str], Column] = {}
    for index, record_id in enumerate(ids):
        item = found.get(record_id)
        for source, said in item.sources.items() if item else ():
            for metric, value in said.metrics.items():
                column = table.setdefault((source, metric), np.full(len(ids), np.nan))
                column[index] = np.nan if value is None else value
    return table


def _columns(metric: str, table: Table, source: str) -> list[Column] | None:
    names = NORMALISED if metric == "flip_rate_normalised" else (metric,)
    found = [table.get((source, name)) for name in names]
    return None if any(column is None for column in found) else [column for column in found if column is not None]


def _change(
    metric: str, source: str, tables: Sequence[Table], verdicts: Sequence[Verdict], settings: Settings
) -> Change:
    old, new = (_columns(metric, table, source) or [] for table in tables)
    reasons = [
        f"{'before' if verdict is verdicts[0] else 'after'}: {cell.verdict}"
        for verdict in verdicts
        for cell in verdict.cells
        if (cell.metric, cell.source, cell.slice) == (metric, source, "all") and cell.verdict
    ]
    difference = _difference(old, new, settings)
    both = ~np.isnan(old[0]) & ~np.isnan(new[0])
    return Change(
        metric=metric,
        source=source,
        before=_value(old),
        after=_value(new),
        difference=difference,
        p=sign_flip((new[0] - old[0])[both], seed=settings.seed) if len(old) == 1 else None,
        verdict="; ".join(reasons),
    )


def _value(columns: Sequence[Column]) -> float | None:
    kept = ~np.isnan(np.array(columns)).any(axis=0)
    if not kept.any():
        return None
    value = normalised_flips(*(column[kept] for column in columns)) if len(columns) > 1 else columns[0][kept].mean()
    return None if np.isnan(value) else float(value)


def _difference(old: Sequence[Column], new: Sequence[Column], settings: Settings) -> Estimate:
    """Estimate new minus old of a mean (one column) or of the normalised flip rate (three)."""
    if len(old) == 1:
        return bootstrap_mean((new[0] - old[0])[~np.isnan(new[0] - old[0])], **settings._asdict())

    def statistic(*columns: Column) -> Column:
        return normalised_flips(*columns[3:]) - normalised_flips(*columns[:3])

    return bootstrap_statistic(statistic, *old, *new, **settings._asdict())


def _corrected(changes: Sequence[Change]) -> list[Change]:
    adjusted = holm([np.nan if change.p is None else change.p for change in changes])
    return [
        msgspec.structs.replace(change, p_holm=None if np.isnan(p) else float(p))
        for change, p in zip(changes, adjusted, strict=True)
    ]


def _interactions(
    sources: Sequence[str],
    tables: Sequence[Table],
    prompted: Callable[[str], bool],
    settings: Settings,
) -> list[Interaction]:
    families = [
        [source for source in sources if prompted(source) == asked and source != "random"] for asked in (False, True)
    ]
    found: list[Interaction] = []
    for metric in METRICS:
        moved: list[Column] = []
        for family in families:
            pairs = [[_columns(metric, table, source) for table in tables] for source in family]
            columns = [new[0] - old[0] for old, new in pairs if old is not None and new is not None]
            moved += [np.mean(columns, axis=0)] if columns else []
        if len(moved) < 2:
            continue
        kept = ~np.isnan(moved[0] - moved[1])
        means = [float(column[kept].mean()) if kept.any() else None for column in moved]
        found.append(Interaction(metric, means[0], means[1], _difference([moved[1]], [moved[0]], settings)))
    return found


def _parts(sources: Sequence[str], tables: Sequence[Table], crossed: Table, settings: Settings) -> list[Parts]:
    found: list[Parts] = []
    for metric in ("flip_rate", "comprehensiveness", "sufficiency", "flip_rate_normalised"):
        for source in sources:
            old, new, mixed = (_columns(metric, table, source) for table in (*tables, crossed))
            if old is None or new is None or mixed is None:
                continue
            steps = _difference(old, mixed, settings), _difference(mixed, new, settings)
            found.append(Parts(metric, source, *steps))
    return found


def _accuracy(before: Verdict, after: Verdict, ids: Sequence[str], settings: Settings) -> Estimate | None:
    """Estimate the change of accuracy over the records that have a gold label."""
    right: list[Column] = []
    for verdict in (before, after):
        found = {item.record_id: item for item in verdict.items}
        rows = [found[record_id] for record_id in ids]
        known = [row.predicted == row.label if row.label is not None and row.predicted else np.nan for row in rows]
        right.append(np.array(known, dtype=np.float64))
    if np.isnan(right[0] - right[1]).all():
        return None
    return _difference([right[0]], [right[1]], settings)
