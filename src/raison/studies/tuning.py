"""Fine-tuning as it is watched: accuracy (or F1), alignment, normalised flip rate after every epoch, said as they come.

Whether fine-tuning makes rationales more like people's, and more faithful, is read from these curves (they are in the
`history` of the model's `raison.json`).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from raison.attribution import extract
from raison.evaluation import evaluate
from raison.models.batching import bar, catch_up
from raison.models.chat import Conversation
from raison.models.scorer import Scorer
from raison.models.tasks import Task, labels_of, task_of
from raison.prompting import ask, load_request
from raison.records import InputError, Record
from raison.sources.common import unknown
from raison.sources.leaks import leaks
from raison.sources.options import read_options
from raison.training import Alignment, Config, LoraConfig, finetune, finetune_lora, finetune_tagger
from raison.training.align import check_alignment, fewer_rounds
from raison.training.recipes import Request
from raison.training.runs import RUN, Progress

DRAWS, RESAMPLES = 5, 100  # a curve's points are many, and none of their intervals is kept
NAMES = {
    "eval_accuracy": "dev accuracy",
    "eval_f1": "dev F1 of slots",
    "eval_alignment": "alignment",
    "eval_normalised_flip_rate": "normalised flip rate",
}


class Data(NamedTuple):
    """The records of a training."""

    train: Sequence[Record]
    dev: Sequence[Record] = ()
    keep_out: Sequence[Record] = ()  # of an evaluation to come


def alignment_of(by: str | None, given: Mapping[str, Any], more: Sequence[str] | None) -> Alignment | None:
    """Read what is asked of an alignment.

    Args:
        by: the attribution; None = no alignment.
        given: fields of `raison.training.Alignment`.
        more: others, as `NAME=VALUE` or the path of a TOML file.

    Raises:
        InputError: a setting is unknown or impossible, or some are given without an attribution.
    """
    try:
        settings = {**read_options(more, "NAME=VALUE"), **given}
    except InputError as error:
        raise InputError(f"--align-set {error}") from None
    if str(settings.get("warm_up", "")).isdecimal():
        settings["warm_up"] = int(settings["warm_up"])
    if by is None:
        spelled = {"loss": "align-loss"}
        stray = ["align-set"] if more else [spelled.get(name, name.replace("_", "-")) for name in given]
        if stray:
            raise InputError(f"--{stray[0]}: only with --align")
        return None
    known = [name for name in Alignment.__struct_fields__ if name != "by"]
    strange = next((name for name in settings if name not in known), None)
    if strange is not None:
        raise InputError(f"--align-set: {unknown('setting', strange, known)}")
    try:
        found = msgspec.convert({"by": by.replace("_", "-"), **settings}, Alignment, strict=False)
    except msgspec.ValidationError as error:
        name = str(error).rpartition("`$.")[2].rstrip("`")
        raise InputError(f"--align-set {name}={settings[name]}: expected {_expected(name)}") from None
    return check_alignment(found)


def _expected(setting: str) -> str:
    """Say what the values of a setting of an alignment are."""
    kind = get_type_hints(Alignment)[setting]
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    plain = next(one for one in (get_args(kind) or (kind,)) if one is not type(None))
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(plain, "a text")


def tags_words(records: Sequence[Record], task: str | None = None, head: str | None = None) -> bool:
    """Whether a tagger of words is to be trained: `slots` are the task, or it has a head, or slots are all there is.

    Records that have both labels and slots are for a classifier unless something else is said.
    """
    if task is not None or head is not None:
        return task in (None, "slots")
    return any("slots" in record.meta for record in records) and all(record.label is None for record in records)


def curve(model: Scorer, records: Sequence[Record]) -> dict[str, float | None]:
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
    head: str | None = None,
    alignment: Alignment | None = None,
    trust: bool = False,
) -> None:
    """Fine-tune a classifier, a tagger of words where `tags_words` says so, or a causal language model by LoRA.

    Args:
        model: a folder or hub id.
        data: the records; those of `keep_out` are of LoRA.
        out: the folder of the trained model, or of the adapter.
        given: fields of `raison.training.Config` or `LoraConfig`; None = the default.
        say: takes lines about how it goes, and warnings of rationales or marks that give labels of dev records away.
        lora: whether it is a causal language model; curves are measured where the dev records have people's words.
        task: `slots` for a tagger of words; of LoRA: what is asked; default: what the records are for.
        head: of a tagger: `crf` or `plain`.
        alignment: what else is trained for.
        trust: run code that comes with the model.

    Raises:
        InputError: as the trainings; or something of LoRA is given without it.
    """
    settings = {key: value for key, value in given.items() if value is not None}
    for line in leaks(data.train, [*data.dev, *data.keep_out]) if alignment else ():
        say(f"warning: {line}")
    if alignment and (line := fewer_rounds(alignment, settings["epochs"])):
        say(f"warning: {line}")
    if lora:
        if head is not None:
            raise InputError("--head: only for taggers of words, not with --lora")
        _tune_lora(model, data, out, (task, LoraConfig(**settings), alignment), say, trust)
        _tell_alignment(out, alignment, say)
        say(f"wrote {out} (adapter, tokenizer, raison.json)")
        return
    _tune_whole(model, data, out, (task, head, settings, alignment), say, trust)
    _tell_alignment(out, alignment, say)
    say(f"wrote {out} (model, tokenizer, raison.json)")


def _tune_whole(  # noqa: PLR0917
    model: str,
    data: Data,
    out: str,
    how: tuple[str | None, str | None, Mapping[str, Any], Alignment | None],
    say: Callable[[str], None],
    trust: bool,
) -> None:
    task, head, settings, alignment = how
    slots = tags_words(data.train, task, head)
    of_lora = {"task": None if slots else task, "keep-out": data.keep_out, **settings}
    stray = next((key for key, value in of_lora.items() if value and key not in Config.__struct_fields__), None)
    if stray:
        raise InputError(f"--{stray}: only with --lora")
    if slots and trust:
        raise InputError("--trust-remote-code: not for taggers of words, whose encoder is one of transformers'")
    with bar("training", 1000) as advance:
        config, progress = Config(**settings), _progress(catch_up(advance), say)
        if slots:
            finetune_tagger(model, data.train, out, data.dev, config, head, alignment=alignment, progress=progress)
        else:
            finetune(
                model, data.train, out, data.dev, config, alignment=alignment, curve=curve if alignment else None,
                trust_remote_code=trust, progress=progress,
            )  # fmt: skip
    if not slots and any("slots" in record.meta for record in data.train):
        say("the records have labels and slots; this was trained on labels (--task slots trains a tagger of words)")


def _tune_lora(  # noqa: PLR0917
    model: str,
    data: Data,
    out: str,
    how: tuple[str | None, LoraConfig, Alignment | None],
    say: Callable[[str], None],
    trust: bool,
) -> None:
    task, config, alignment = how
    wanted = task_of(data.train, task)
    labels = labels_of(wanted, [*data.train, *data.dev])
    with bar("training", 1000) as advance:
        finetune_lora(
            model, wanted, data.train, out, data.dev, config, labels=labels, keep_out=data.keep_out,
            request=words_request(wanted, labels), curve=curve, alignment=alignment, trust_remote_code=trust,
            progress=_progress(catch_up(advance), say),
        )  # fmt: skip
    told = msgspec.json.decode((Path(out) / RUN).read_bytes())
    if data.keep_out:
        left = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in told["kept_out"]["left_out"].items())
        say(f"kept out of training, for {len(data.keep_out)} evaluation records: {left}")
    say("trained on " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in told["counts"].items()))


def _tell_alignment(out: str, alignment: Alignment | None, say: Callable[[str], None]) -> None:
    """Say what `raison.json` has of a training with rationales."""
    if alignment is None:
        return
    told = msgspec.json.decode((Path(out) / RUN).read_bytes())
    found = told["rationales"]
    say(f"without a usable rationale: {found['without_rationale']} of {found['records']} records")
    task, align = (sum(log.get(f"{term}_seconds", 0.0) for log in told["history"]) for term in ("task", "alignment"))
    if task:
        say(
            f"the alignment took {align:.1f} s, {align / (task + align):.0%} of the losses' time; the task {task:.1f} s"
        )
    if alignment.alpha and not any("alignment" in log for log in told["history"]):
        say("warning: the alignment never took part: the training ended before its turn came (warm-up, every)")


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
        if "going_on_after" in logs:
            say(f"going on after epoch {logs['going_on_after']:.0f}")
        if "eval_accuracy" in logs or "eval_f1" in logs:
            found = [f"{name} {_number(logs[key])}" for key, name in NAMES.items() if key in logs]
            say(f"epoch {logs['epoch']:.0f}: {', '.join(found)}")

    return progress


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
