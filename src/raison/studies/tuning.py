"""Fine-tuning as it is watched: accuracy, alignment and normalised flip rate after every epoch, said as they come.

Whether fine-tuning makes rationales more like people's, and more faithful, is read from these curves (they are in the
`history` of the model's `raison.json`).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from raison.attribution import extract
from raison.evaluation import evaluate
from raison.models import Answerer
from raison.models.batching import bar, catch_up
from raison.models.chat import Conversation
from raison.models.tasks import Task, labels_of, task_of
from raison.prompting import ask, load_request
from raison.records import InputError, Record
from raison.training import Config, LoraConfig, finetune, finetune_lora
from raison.training.recipes import Request
from raison.training.runs import RUN, Progress

DRAWS, RESAMPLES = 5, 100  # a curve's points are many, and none of their intervals is kept
NAMES = {
    "eval_accuracy": "dev accuracy",
    "eval_alignment": "alignment",
    "eval_normalised_flip_rate": "normalised flip rate",
}


class Data(NamedTuple):
    """The records of a training."""

    train: Sequence[Record]
    dev: Sequence[Record] = ()
    keep_out: Sequence[Record] = ()  # of an evaluation to come


def curve(model: Answerer, records: Sequence[Record]) -> dict[str, float | None]:
    """Measure the rationales of a model on records that people have marked.

    Returns:
        `alignment`, the F1 of the words that input x gradient puts first, as many as people marked; and the
        `normalised_flip_rate` of these words. None where it is undefined: nobody marked a word, or taking every word
        away flips hardly more labels than random words do.
    """
    scores = extract(model, records, "input_x_gradient")
    verdict = evaluate(model, records, scores, budget="human", draws=DRAWS, resamples=RESAMPLES)
    values = {cell.metric: cell.value for cell in verdict.cells if cell.slice == "all"}
    return {"alignment": values.get("f1"), "normalised_flip_rate": values.get("flip_rate_normalised")}


def tune(
    model: str,
    data: Data,
    out: str,
    given: Mapping[str, Any],
    say: Callable[[str], None],
    *,
    lora: bool = False,
    task: str | None = None,
    trust: bool = False,
) -> None:
    """Fine-tune a classifier, or a causal language model by LoRA.

    Args:
        model: a folder or hub id.
        data: the records; those of `keep_out` are of LoRA.
        out: the folder of the trained model, or of the adapter.
        given: fields of `raison.training.Config` or `LoraConfig`; None = the default.
        say: takes lines about how it goes.
        lora: whether it is a causal language model; curves are measured where the dev records have people's words.
        task: of LoRA: what is asked; default: what the records are for.
        trust: run code that comes with the model.

    Raises:
        InputError: as the trainings; or something of LoRA is given without it.
    """
    settings = {key: value for key, value in given.items() if value is not None}
    if lora:
        _tune_lora(model, data, out, (task, LoraConfig(**settings)), say, trust)
        say(f"wrote {out} (adapter, tokenizer, raison.json)")
        return
    of_lora = {"task": task, "keep-out": data.keep_out, **settings}
    stray = next((key for key, value in of_lora.items() if value and key not in Config.__struct_fields__), None)
    if stray:
        raise InputError(f"--{stray}: only with --lora")
    with bar("training", 1000) as advance:
        progress = _progress(catch_up(advance), say)
        finetune(model, data.train, out, data.dev, Config(**settings), trust_remote_code=trust, progress=progress)
    say(f"wrote {out} (model, tokenizer, raison.json)")


def _tune_lora(  # noqa: PLR0917
    model: str, data: Data, out: str, how: tuple[str | None, LoraConfig], say: Callable[[str], None], trust: bool
) -> None:
    task, config = how
    wanted = task_of(data.train, task)
    labels = labels_of(wanted, [*data.train, *data.dev])
    with bar("training", 1000) as advance:
        finetune_lora(
            model, wanted, data.train, out, data.dev, config, labels=labels, keep_out=data.keep_out,
            request=words_request(wanted, labels), curve=curve, trust_remote_code=trust,
            progress=_progress(catch_up(advance), say),
        )  # fmt: skip
    told = msgspec.json.decode((Path(out) / RUN).read_bytes())
    if data.keep_out:
        left = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in told["kept_out"]["left_out"].items())
        say(f"kept out of training, for {len(data.keep_out)} evaluation records: {left}")
    say("trained on " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in told["counts"].items()))


def words_request(task: Task, labels: Sequence[str]) -> Request:
    """Give the request for an answer's words as `raison.prompting` makes it: after the answer, as a JSON list."""
    wording = load_request("words")

    def request(record: Record, word: str, count: int) -> Conversation:
        asked = task.messages(task.texts(record), labels)
        return ask(wording, asked, record, label=word, count=count, fields=task.fields)

    return request


def _progress(reach: Callable[[int], None], say: Callable[[str], None]) -> Progress:
    def progress(share: float, logs: Mapping[str, Any]) -> None:
        reach(round(1000 * share))
        if "eval_accuracy" in logs:
            found = [f"{name} {_number(logs[key])}" for key, name in NAMES.items() if key in logs]
            say(f"epoch {logs['epoch']:.0f}: {', '.join(found)}")

    return progress


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
