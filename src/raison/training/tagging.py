"""Fine-tuning a tagger of words on slots: the training of `finetune`, with another kind of model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch

from raison.models.classifier import LOADING_ERRORS, expect_folder, first_line
from raison.models.slots import bio_tags, slots_of
from raison.models.tagger import Tagger
from raison.records import InputError, Record
from raison.training.aligned import Alignment
from raison.training.finetune import Config, Job, fit
from raison.training.learners import Learner, TagLearner
from raison.training.runs import Progress
from raison.training.shots import few_shot_slots

Head = Literal["crf", "plain"]


def finetune_tagger(  # noqa: PLR0917
    model: str | Path,
    train: Sequence[Record],
    out: str | Path,
    dev: Sequence[Record] = (),
    config: Config | None = None,
    head: str | None = None,
    *,
    alignment: Alignment | None = None,
    progress: Progress | None = None,
) -> Tagger:
    """Fine-tune a tagger on the slots of records, and on people's rationales if asked to, and save it.

    The loss is -log p of a record's whole sequence of tags, in log space throughout. With dev records the checkpoint
    with the best F1 of their slots is kept. Until the training is done everything is in `OUT.part`; interrupted, it
    goes on from the last epoch, with the same result.

    Args:
        model: a folder or hub id of an encoder, which gets a head for `O` and two tags of each slot in the records;
            or of a tagger, which is trained on with the head and the tags that it has.
        train: training records, with slots in `meta.slots`, an empty list for none; those without the key are left out.
        out: the folder of the trained model, for `Tagger.load`; its `raison.json` says how it was made.
        dev: records to watch, and to choose the epoch by.
        config: see `Config`; few shots are drawn by `raison.training.shots.few_shot_slots`.
        head: `crf` scores tags that follow each other together, by a conditional random field; `plain` each word's
            tag by itself. None = `crf`, or what a tagger has.
        alignment: train with the records' rationales as well; see `Alignment`. All attributions but attention, which
            is from one position, explain the log-likelihood of the whole sequence of tags.
        progress: called with the share that is done, and with what the trainer logs.

    Returns:
        The trained tagger, without dropout.

    Raises:
        InputError: the model can't be loaded, is a classifier, or a tagger without such a head or tag; there are no
            slots, or malformed ones; the alignment is by attention; or `out` holds something else.
    """
    config = config or Config()
    known, held_out = ([one for one in records if "slots" in one.meta] for records in (train, dev))
    tags = bio_tags([*known, *held_out])
    if not any(slots_of(record) for record in known):
        raise InputError("no training record has a slot (`meta.slots`); a tagger learns from these")
    if dev and not any(slots_of(record) for record in held_out):
        raise InputError("no dev record has a slot (`meta.slots`): there is no F1 to choose the epoch by")
    if alignment is not None and alignment.by == "attention":
        raise InputError("--align attention: from one position, but a tagger classifies every word; take another")
    chosen = few_shot_slots(known, config.shots, config.seed) if config.shots else known
    crf = _crf_of(str(model), head)

    def learner(device: torch.device) -> Learner:
        if crf is None:
            return TagLearner(Tagger.load(model, device=str(device)))
        return TagLearner(Tagger.build(model, tags, crf=crf, seed=config.seed, device=str(device)))

    job = Job({"model": str(model), "task": "slots", "head": head}, chosen, held_out, TagLearner.metric, learner)
    fit(job, out, config, alignment, progress=progress)
    return Tagger.load(out)


def _crf_of(name: str, head: str | None) -> bool | None:
    """Say whether the new head of an encoder has a random field; None = it is a tagger, which keeps its head."""
    from transformers import PreTrainedConfig

    from raison.models.tagger_network import TaggerConfig

    if head is not None and head not in get_args(Head):
        raise InputError(f"unknown head {head!r}; expected {' or '.join(get_args(Head))}")
    expect_folder(name)
    try:
        told = PreTrainedConfig.get_config_dict(name)[0]
    except LOADING_ERRORS as error:
        raise InputError(f"{name}: can't be loaded ({first_line(error)})") from None
    heads: list[str] = told.get("architectures") or []
    if any(one.endswith("ForSequenceClassification") for one in heads):
        raise InputError(f"{name}: a classifier of labels ({heads[0]}); a tagger is made of an encoder without a head")
    if told.get("model_type") != TaggerConfig.model_type:
        return head != "plain"
    own = "crf" if told.get("crf", True) else "plain"
    if head not in (None, own):
        raise InputError(f"{name}: a tagger whose head is {own}; it can't be trained on as {head}")
    return None
