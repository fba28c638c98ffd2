"""A verdict in a folder: `metrics.json` (every number), `items.jsonl` and `records.parquet` (every record)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from raison.evaluation.evaluate import CHUNK, Judge, Options, Predictor, Sources, as_config, conclude, having_scores
from raison.evaluation.results import Item, Verdict
from raison.rationales import to_row
from raison.records import Fault, InputError, Record, read_jsonl, write_json, written_whole
from raison.runs import Unfinished, digest, provenance

METRICS, ITEMS, TABLE = "metrics.json", "items.jsonl", "records.parquet"


def evaluate_to_folder(  # noqa: PLR0917
    folder: str | Path,
    model: Predictor | None,
    records: Sequence[Record],
    sources: Sources,
    options: Options,
    models: Mapping[str, str],
    progress: Callable[[int], None] = lambda done: None,
    tuned: Predictor | None = None,
) -> Verdict:
    """Do `evaluate` into a folder, and go on where an interrupted run stopped.

    The result equals that of a run that was not interrupted: answers are shared inside a chunk of records, not between
    chunks, since the last digits of an answer depend on the batch it was in.

    Args:
        folder: gets `metrics.json`, `records.parquet`, `items.jsonl` and `items.jsonl.meta.json`.
        model: see `evaluate`, also for the rest.
        records: see `evaluate`.
        sources: source -> record id -> what it said, see `by_source`.
        options: how to judge.
        models: name -> hash of the models that took part.
        progress: called with how many records are done.
        tuned: see `evaluate`.

    Raises:
        InputError: as `evaluate`; or the folder holds the result of something else.
    """
    kept = having_scores(records, sources)
    judge = Judge(model, kept, sources, options, tuned)
    config = {"command": "evaluate", **as_config(options), "sources": named(sources)}
    frame = provenance(config, kept, models)
    items = judge_to_folder(folder, judge, kept, frame, progress)
    verdict = conclude(items, options, model=model, frame=frame, said=sources)
    save(verdict, folder, items=False)
    return verdict


def named(sources: Sources) -> dict[str, Any]:
    """Give the names of sources and a hash of what they said, for a result's frame."""
    said = [to_row(item) for items in sources.values() for item in items.values()]
    return {"names": list(sources), "sha256": digest(said)}


def judge_to_folder(
    folder: str | Path, judge: Judge, records: Sequence[Record], frame: dict[str, Any], progress: Callable[[int], None]
) -> list[Item]:
    """Look at records chunk by chunk, into the folder's `items.jsonl`, and go on where an interrupted run stopped."""
    work = Unfinished(Path(folder) / ITEMS, frame, CHUNK)
    if not work.finished:
        for start in range(work.resume(), len(records), CHUNK):
            progress(start)
            work.append(judge(records[start : start + CHUNK]))
        work.finish(len(records))
    progress(len(records))
    return list(read_items(work.path))


def save(verdict: Verdict, folder: str | Path, *, items: bool = True) -> list[Path]:
    """Write a verdict into a folder, and give the files.

    Args:
        verdict: what `evaluate` gave.
        folder: made if it is not there.
        items: also write `items.jsonl`; off where it is there already.
    """
    root = Path(folder)
    plain = {name: getattr(verdict, name) for name in verdict.__struct_fields__ if name != "items"}
    write_json(root / METRICS, msgspec.to_builtins(plain))
    write_table(root / TABLE, verdict.items)
    if items:
        with written_whole(root / ITEMS) as part:
            part.write_bytes(b"".join(msgspec.json.encode(item) + b"\n" for item in verdict.items))
    return [root / METRICS, root / TABLE, root / ITEMS]


def load(folder: str | Path) -> Verdict:
    """Read a verdict that `save` wrote.

    Raises:
        InputError: the folder holds none, or one that is damaged.
    """
    root = Path(folder)
    try:
        plain = msgspec.json.decode((root / METRICS).read_bytes())
        return msgspec.convert({**plain, "items": list(read_items(root / ITEMS))}, Verdict)
    except OSError:
        raise InputError(f"{folder}: no result of raison evaluate ({METRICS} is not there)") from None
    except (msgspec.DecodeError, TypeError) as error:
        raise InputError(str(Fault(str(root / METRICS), None, str(error)))) from None


def read_items(path: str | Path) -> Iterator[Item]:
    """Read what was seen in every record."""

    def convert(row: Any) -> Item:
        try:
            return msgspec.convert(row, Item)
        except msgspec.ValidationError as error:
            raise InputError(str(error)) from None

    return read_jsonl(path, convert)


def write_table(path: str | Path, items: Sequence[Item]) -> None:
    """Write one row per record and source as Parquet: what was chosen, what came of it, every metric."""
    import pyarrow as pa
    from pyarrow import parquet

    names = dict.fromkeys(name for item in items for found in item.sources.values() for name in found.metrics)
    rows = [(item, source, found) for item in items for source, found in item.sources.items()]
    columns: dict[str, Any] = {
        "record_id": [item.record_id for item, _, _ in rows],
        "source": [source for _, source, _ in rows],
        "label": pa.array([item.label for item, _, _ in rows], pa.string()),
        "predicted": pa.array([item.predicted for item, _, _ in rows], pa.string()),
        "label_without": pa.array([found.label_without for _, _, found in rows], pa.string()),
        "label_only": pa.array([found.label_only for _, _, found in rows], pa.string()),
        "failure": pa.array([found.failure for _, _, found in rows], pa.string()),
        "words": pa.array([found.words for _, _, found in rows], pa.list_(pa.int32())),
        "scores": pa.array([found.scores for _, _, found in rows], pa.list_(pa.float32())),
    }
    columns |= {name: pa.array([found.metrics.get(name) for _, _, found in rows], pa.float64()) for name in names}
    with written_whole(path) as part:
        parquet.write_table(pa.table(columns), part, compression="zstd")
