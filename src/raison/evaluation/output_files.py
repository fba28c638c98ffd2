"""What a model writes, judged into a folder: as `raison.evaluation.files` does it for labels."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from raison.evaluation.answers import Rewriting
from raison.evaluation.evaluate import Options, Sources, as_config, having_scores
from raison.evaluation.files import judge_to_folder, named, save
from raison.evaluation.outputs import Output, OutputJudge, conclude_outputs
from raison.evaluation.results import Verdict
from raison.records import Record
from raison.runs import provenance


def evaluate_outputs_to_folder(  # noqa: PLR0917
    folder: str | Path,
    writer: Output,
    records: Sequence[Record],
    sources: Sources,
    options: Options,
    models: Mapping[str, str],
    how: Rewriting | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Verdict:
    """Do `evaluate_outputs` into a folder, and go on where an interrupted run stopped.

    Args:
        folder: gets the files that `raison.evaluation.files.evaluate_to_folder` writes.
        writer: see `raison.evaluation.outputs.evaluate_outputs`, also for the rest.
        records: see `evaluate_outputs`.
        sources: source -> record id -> what it said, see `raison.evaluation.evaluate.by_source`.
        options: how to judge.
        models: name -> hash of the models that took part.
        how: how outputs are written anew and compared; default: as `evaluate_outputs`.
        progress: called with how many records are done.

    Raises:
        InputError: as `evaluate_outputs`; or the folder holds the result of something else.
    """
    how = how or Rewriting()
    kept = having_scores(records, sources)
    judge = OutputJudge(writer, kept, sources, options, how)
    config = {
        "command": "evaluate_outputs",
        **as_config(options),
        **msgspec.to_builtins(how),
        "sources": named(sources),
    }
    frame = provenance(config, kept, models)
    items = judge_to_folder(folder, judge, kept, frame, progress)
    verdict = conclude_outputs(items, kept, options, how, model=writer.name, frame=frame)
    save(verdict, folder, items=False)
    return verdict
