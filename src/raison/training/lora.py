"""Fine-tuning a causal language model by LoRA (Hu et al. 2022): the answer after the evaluation's own prompt.

The trainer is Hugging Face's and the adapters are peft's; ours are the examples (`recipes`), the loss on answer tokens
alone, and what is measured after each epoch. Only the places of answers meet the vocabulary.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import msgspec
import torch
from torch import Tensor

from raison.masking import corpus_of, default_name, make_operator
from raison.models.answerer import Answerer
from raison.models.scorer import projected
from raison.models.tasks import Task, labels_of, load_task
from raison.records import InputError, Record
from raison.runs import digest, hash_records, provenance
from raison.training import align
from raison.training.align import Curve, measure_of
from raison.training.aligned import Alignment, Measure
from raison.training.finetune import few_shot
from raison.training.learners import LabelLearner
from raison.training.recipes import IGNORED, Example, Examples, Recipe, Request, apart, collate, examples
from raison.training.runs import (
    Progress,
    arguments,
    begin,
    counting,
    evaluated,
    expect_parts,
    finish,
    is_done,
    last_checkpoint,
    part_of,
    parts_of,
    run,
    watch,
    weigh,
)

WARM_UP = 0.03  # share of the steps in which the learning rate rises


class LoraConfig(msgspec.Struct, frozen=True):
    """How a causal language model is fine-tuned."""

    recipe: Recipe = "label"  # see `raison.training.recipes`
    rank: int = 16  # of the adapters, which all projections of attention and MLP get
    alpha: int = 32  # adapters are scaled by alpha / rank
    dropout: float = 0.05  # on what adapters read
    epochs: int = 3  # passes over the training records
    lr: float = 1e-4  # highest learning rate; it rises over the first 3 % of the steps and falls to 0 as a cosine
    batch: int = 32  # examples per step
    accumulate: int = 1  # parts of a step that are computed one after the other, to need less memory
    weight_decay: float = 0.0
    shots: int | None = None  # training records per label, drawn by the seed; None = all
    patience: int | None = None  # epochs without a better dev accuracy before it ends; None = never
    mask: str | None = None  # operator of mask-augmented; None = the one that an evaluation takes
    watch: int = 100  # dev records with marked words on which a curve is measured
    bf16: bool | None = None  # base weights and arithmetic in bfloat16; None = where the accelerator has it
    seed: int = 0


def finetune_lora(  # noqa: PLR0917
    model: str | Path,
    task: Task | str,
    train: Sequence[Record],
    out: str | Path,
    dev: Sequence[Record] = (),
    config: LoraConfig | None = None,
    *,
    labels: Sequence[str] | None = None,
    keep_out: Sequence[Record] = (),
    request: Request | None = None,
    curve: Curve | None = None,
    alignment: Alignment | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Answerer:
    """Fine-tune a causal language model to answer a task, and save the adapter with its tokenizer.

    An example is the prompt that `Answerer.encode` gives, with the label's tokens and the token that ends the turn
    after it; the loss is on these last ones alone, and each example counts the same. The model's own weights stay as
    they are. With dev records their accuracy, as `Answerer` has it, is measured before the first epoch and after each,
    and the epoch with the best is kept. Until the training is done everything is in `OUT.part`; interrupted, it goes on
    from the last epoch, with the same result.

    Args:
        model: a folder or hub id of a causal language model.
        task: what is asked: a `Task`, the name of one, or a TOML file.
        train: training records; those without a label are left out, and so are those too close to `keep_out`.
        out: the folder of the adapter; its `raison.json` says how it was made, and of what task.
        dev: records to watch, and to choose the epoch by.
        config: see `LoraConfig`.
        labels: to choose from, in order; default: those of the task, or of the records where these have others.
        keep_out: records of an evaluation to come, see `raison.training.recipes.apart`.
        request: of the recipe label-and-rationale: gives the conversation that asks for a record's words.
        curve: measures more after each epoch, on dev records with marked words; what it gives goes into the history.
        alignment: of the recipe label: train with the records' rationales as well; the task's loss is then the cross
            entropy of the labels' scores, as an evaluation has them.
        trust_remote_code: run code that comes with the model. Off unless asked for.
        progress: called with the share that is done, and with what the trainer logs.

    Returns:
        The tuned model.

    Raises:
        InputError: the model can't be loaded or has an adapter already, a label is unknown or has too few records, no
            training record is left, or `out` holds something else.
    """
    config = _checked(config or LoraConfig())
    if alignment is not None and config.recipe != "label":
        raise InputError(f"recipe {config.recipe!r}: only the recipe label can be trained with an alignment")
    task = load_task(task) if isinstance(task, str) else task
    names = tuple(labels or labels_of(task, [*train, *dev]))
    free, left_out = apart(train, keep_out)
    chosen = [record for record in free if record.label is not None]
    if not chosen:
        why = f": {sum(left_out.values())} are too close to those kept out" if any(left_out.values()) else ""
        raise InputError(f"no training record with a label is left{why}")
    chosen = few_shot(chosen, config.shots, config.seed) if config.shots else chosen
    held_out = [record for record in dev if record.label is not None]
    align.expect_schedule(alignment, held_out, config.epochs, config.patience)
    frame = _frame((str(model), task, names, config), chosen, held_out, request)
    frame["config"] |= {} if alignment is None else {"alignment": align.told_of(alignment)}
    frame["kept_out"] = {"records": len(keep_out), "sha256": hash_records(keep_out), "left_out": left_out}
    folder, loading = Path(out), _loading(config, trust_remote_code)
    if not is_done(folder, frame):
        answerer = Answerer.load(model, task, labels=names, **loading)
        network = adapted(answerer.model, str(model), config.rank, config.alpha, config.dropout, config.seed)
        work = part_of(folder)
        rows, counts = examples(answerer, chosen, config.recipe, config.seed, request)
        learner = LabelLearner(answerer, network)
        measure = measure_of(learner, held_out, curve, config.watch)
        told = {**frame, "counts": {"examples": len(rows), **counts}}
        if alignment is None:
            data = _data(answerer, rows, chosen, config)
            begin(work, frame)
            trainer = _trainer(network, answerer, data, measure, (config, work))
        else:
            aligned = align.examples(learner, chosen, alignment)
            told["rationales"] = align.rationales_of(aligned, alignment)
            objective = align.objective_for(learner, aligned, alignment, config.seed)
            begin(work, frame)
            settings = _settings(config, work, len(rows), has_dev=bool(held_out))
            trainer = align.trainer_for(objective, aligned, settings, measure)
        watch(trainer, config.patience if held_out else None, progress)
        run(trainer, work)
        if trainer.is_world_process_zero():
            finish(trainer, answerer.tokenizer, folder, told, save_embedding_layers=False)
        trainer.accelerator.wait_for_everyone()
    return Answerer.load(folder, **loading)


def _checked(config: LoraConfig) -> LoraConfig:
    """Refuse settings that can't be trained with, and settle whether bfloat16 is used."""
    if config.recipe not in get_args(Recipe):
        raise InputError(f"unknown recipe {config.recipe!r}; expected one of {', '.join(get_args(Recipe))}")
    if not 0 < config.lr < math.inf:
        raise InputError(f"lr {config.lr}: expected a number above 0")
    for name in ("rank", "alpha", "epochs", "batch", "accumulate", "shots", "patience"):
        if (value := getattr(config, name)) is not None and value < 1:
            raise InputError(f"{name} {value}: expected at least 1")
    if not 0 <= config.dropout < 1 or config.seed < 0 or config.watch < 0:
        raise InputError("dropout must be at least 0 and below 1, seed and watch at least 0")
    expect_parts(config.batch, config.accumulate)
    if config.mask is not None and config.recipe != "mask-augmented":
        raise InputError(f"mask {config.mask!r}: only the recipe mask-augmented takes one")
    able = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return msgspec.structs.replace(config, bf16=able if config.bf16 is None else config.bf16)


def _frame(
    what: tuple[str, Task, tuple[str, ...], LoraConfig],
    train: Sequence[Record],
    dev: Sequence[Record],
    request: Request | None,
) -> dict[str, Any]:
    """Say what the adapter is made from."""
    model, task, labels, config = what
    said = {"model": model, "task": msgspec.to_builtins(task), "labels": labels, **msgspec.to_builtins(config)}
    frame = provenance({"command": "train --lora", **said}, train, {})
    frame["versions"]["peft"] = metadata.version("peft")
    frame["dev"] = {"records": len(dev), "sha256": hash_records(dev)}
    if request is not None and config.recipe == "label-and-rationale":
        frame["request"] = digest([request(train[0], task.word(train[0].label or ""), 2)])
    return frame


def _loading(config: LoraConfig, trust: bool) -> dict[str, Any]:
    return {"dtype": "bfloat16" if config.bf16 else "float32", "trust_remote_code": trust}


def adapted(model: Any, name: str, rank: int, alpha: int, dropout: float, seed: int) -> Any:  # noqa: PLR0917
    """Put adapters, drawn by the seed, into a model; everything else is frozen.

    Args:
        model: any causal language model.
        name: its folder or hub id, by which the adapter finds it again.
        rank: of the adapters, which all projections of attention and MLP get.
        alpha: they are scaled by alpha / rank.
        dropout: on what they read.
        seed: of the draw.

    Raises:
        InputError: the model has an adapter already.
    """
    import peft
    from transformers import set_seed
    from transformers.pytorch_utils import Conv1D

    if hasattr(model, "peft_config"):
        raise InputError(f"{name}: has an adapter already; give the model that it was made for")
    settings = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules="all-linear",
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    set_seed(seed)
    return wrapped(model, name, settings)


def wrapped(model: Any, name: str, settings: Any) -> Any:
    """Put a new adapter of peft's into a model; its base is found wherever a later command is started from.

    Args:
        model: of transformers.
        name: the folder or hub id that it was loaded from.
        settings: peft's, of the adapter.
    """
    import peft

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")  # peft's to mend
        network: Any = peft.get_peft_model(model, settings)
    network.peft_config["default"].base_model_name_or_path = str(Path(name).resolve()) if Path(name).is_dir() else name
    return network


def _data(answerer: Answerer, rows: Sequence[Example], records: Sequence[Record], config: LoraConfig) -> Examples:
    operator = None
    if config.recipe == "mask-augmented":
        name = config.mask or default_name(answerer.tokenizer)
        corpus = corpus_of(records) if name == "unigram" else ()
        operator = make_operator(name, answerer.tokenizer, corpus=corpus, seed=config.seed)
    return Examples(rows, answerer.max_length, operator, config.seed, answerer.tail)


# ------------------------------------------------------------------------------------------------------ trainer


def answer_losses(network: Any, batch: Mapping[str, Tensor], run: Any = None) -> Tensor:
    """Give the mean of -log p(answer token | what is before it) over each example's answer tokens: (rows,) float32.

    Args:
        network: the model, whose output embeddings then read the answers' places alone.
        batch: see `raison.training.recipes.collate`.
        run: what is called in its place, where it is wrapped for several devices.
    """
    with projected(network, batch["places"]):
        output = (run or network)(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
    answers = batch["answers"]
    losses = torch.nn.functional.cross_entropy(
        output.logits.float().transpose(1, 2), answers, ignore_index=IGNORED, reduction="none"
    )
    return losses.sum(dim=1) / (answers != IGNORED).sum(dim=1)


def _trainer(
    network: Any,
    answerer: Answerer,
    data: Examples,
    measure: Measure | None,
    how: tuple[LoraConfig, Path],
) -> Any:
    from transformers import Trainer

    class Tuner(Trainer):
        """Hugging Face's, with our loss over a whole step's examples, and our measure of the model."""

        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
            batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
            weigh(self, batches, "answers")
            rows = torch.stack([batch["weight"].sum() for batch in batches]).sum().to(device)
            return batches, self.accelerator.reduce(rows, "mean")  # gradients are averaged over processes

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            losses = answer_losses(self.accelerator.unwrap_model(model), inputs, model)
            return (losses * inputs["weight"]).sum() / num_items_in_batch

        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            return evaluated(self, measure() if measure else {})

    pad = answerer.tokenizer.pad_token_id
    given: dict[str, Any] = {"train_dataset": data, "eval_dataset": [0] if measure else None}  # it reads none itself
    trainer: Any = Tuner(
        model=network,
        args=_settings(how[0], how[1], len(data), has_dev=measure is not None),
        data_collator=partial(collate, padding=0 if pad is None else pad),
        callbacks=[counting(data)],
        **given,
    )
    trainer.model_accepts_loss_kwargs = True  # so the loss, a mean over a step already, is not divided again
    answerer.device = trainer.args.device
    return trainer


def _settings(config: LoraConfig, work: Path, size: int, *, has_dev: bool) -> Any:
    steps = math.ceil(size / config.batch) * config.epochs
    return arguments(
        config,
        work,
        LabelLearner.metric if has_dev else None,
        **parts_of(config),
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(steps * WARM_UP),
        label_names=["answers"],
        use_cpu=not torch.cuda.is_available(),
        eval_on_start=has_dev and last_checkpoint(work) is None,
    )
