"""`raison train`: fine-tuning."""

from typing import Annotated

from typer import Argument, Option

from raison.cli import train_told as told
from raison.cli.common import Data, Format, Limit, Map, Model, Seed, Trust, app, following, given_of, load, quiet, say
from raison.runs import processes

EPILOG = """
Settings of --align-set, one option for each, with their defaults:

\b
patience=3             of --warm-up rest, in epochs
ramp=0                 epochs over which alpha rises from 0 after the warm-up
every=1                the alignment is added in every so many-th step only
balance=false          alpha goes by the gradients' norms, not by the losses
confident=false        a record counts by how far people agree on it
\b
Of input-marginalisation:
replacement=uniform    or mask, prior, masked-lm:MODEL
draws=4                how often each set of words is replaced
fresh=true             draw anew in every epoch
weights=unbiased       of the draws; or renormalised, as in the paper
most=0.5               largest share of the words taken as the rationale
doze=0                 epochs that an aligned record sits out at most
\b
Of diffmask:
gate=input             or hidden, which follows the model more closely
rounds=1               how often extractor and model take turns
extractor_epochs=50    passes of the extractor in each round
extractor_rate=1.0     factor on the extractor's learning rates
decay=1.0              factor on all learning rates from round to round
stop=0                 rounds without a better model until it ends; 0: never
"""


@app.command(epilog=EPILOG)
def train(
    model: Model,
    file: Data,
    out: Annotated[str, Option(help="Folder of the trained model.")],
    dev: Annotated[str | None, Option(help="Records to watch and to stop by.")] = None,
    shots: Annotated[int | None, Option(min=1, help="Records per label, words per slot; default: all.")] = None,
    epochs: Annotated[int, Option(min=1, help="Passes over the training records.")] = 3,
    lr: Annotated[float | None, Option(help="Highest learning rate; default: 5e-5, of LoRA 1e-4.")] = None,
    batch: Annotated[int, Option(min=1, help="Records per step.")] = 32,
    patience: Annotated[int | None, Option(min=1, help="Epochs without a better dev score before it ends.")] = None,
    lora: Annotated[bool, Option("--lora", help="Tune a causal language model, by LoRA.")] = False,
    task: Annotated[str | None, Option(help="slots: tag words; of LoRA: nli, ..., TOML; default: the data's.")] = None,
    head: Annotated[str | None, Option(help="Of --task slots: crf (default), or plain.")] = None,
    keep_out: Annotated[list[str] | None, Option(help="Of LoRA: evaluation records; several may follow.")] = None,
    more: Annotated[list[str] | None, Argument(hidden=True)] = None,
    recipe: Annotated[str | None, Option(help="Of LoRA: label, label-and-rationale, mask-augmented.")] = None,
    rank: Annotated[int | None, Option(min=1, help="Of LoRA: default 16.")] = None,
    mask: Annotated[str | None, Option(help="Of mask-augmented: mask, delete, ..., as in an evaluation.")] = None,
    accumulate: Annotated[int | None, Option(min=1, help="Parts of a step, to need less memory.")] = None,
    bf16: Annotated[bool, Option("--bf16", help="Train in bfloat16; LoRA does so wherever it can.")] = False,
    align: Annotated[str | None, Option(help="Also train with people's rationales, through this attribution.")] = None,
    align_loss: Annotated[str | None, Option(help="Of --align: margin, order, sign, ...; default: by it.")] = None,
    alpha: Annotated[float | None, Option(min=0, help="Of --align: weight of the alignment loss; default: 1.")] = None,
    margin: Annotated[float | None, Option(min=0, help="Of --align: of the margin losses; default: 1.")] = None,
    warm_up: Annotated[str | None, Option(help="Of --align: epochs of the task alone before, or rest.")] = None,
    people: Annotated[str | None, Option(help="Of --align: soft, majority, union, or an annotator's name.")] = None,
    align_set: Annotated[
        list[str] | None, Option(help="Of --align: NAME=VALUE of another setting (below), or TOML.")
    ] = None,
    seed: Seed = 0,
    source: Format = None,
    mapping: Map = None,
    limit: Limit = None,
    trust: Trust = False,
) -> None:
    """Fine-tune a classifier on labels (an encoder without a head gets one), or a causal language model by LoRA.

    With --task slots, or where records have slots and no labels, a tagger of words is made of an encoder.

    With --align, the model also learns from people's rationales (UIMER, Chen et al. 2023): its attribution by gradient,
    gradient-l1, gradient-sum, input-x-gradient, attention, occlusion, input-marginalisation or diffmask is aligned
    with them.

    Example: raison train --model bert-base-uncased --data train.jsonl --dev dev.jsonl --epochs 3 --out runs/base
    """
    from raison.studies.tuning import Data, alignment_of, tags_words, tune
    from raison.training.align import expect_schedule

    given = {
        "epochs": epochs, "lr": lr, "batch": batch, "shots": shots, "patience": patience, "seed": seed,
        "recipe": recipe, "rank": rank, "mask": mask, "accumulate": accumulate, "bf16": bf16 or None,
    }  # fmt: skip
    tell = say if processes()[0] == 0 else (lambda _: None)  # of several, one says how it goes
    told.expect_options(dev=dev, patience=patience, lora=lora, task=task, settings=align_set, rest=more)
    asked = {"loss": align_loss, "alpha": alpha, "margin": margin, "warm_up": warm_up, "people": people}
    alignment = alignment_of(align, given_of(**asked), align_set)
    kept_out = [record for path in (*(keep_out or []), *(more or [])) for record in load(path, source, mapping, None)]
    records = Data(load(file, source, mapping, limit), load(dev, source, mapping, None) if dev else [], kept_out)
    told.expect_records(records, (file, dev), lora=lora, task=task, head=head)
    expect_schedule(alignment, records.dev, epochs, patience)
    quiet()
    tune(model, records, out, given, tell, lora=lora, task=task, head=head, alignment=alignment, trust=trust)
    if line := told.ended_early(out, epochs, patience, alignment.stop if alignment else 0):
        tell(line)
    if not lora and tags_words(records.train, task, head):
        tell(f"next, in Python: raison.Tagger.load({out!r}).predict(records)")
        return
    read = {"format": source, "map": mapping, "task": task, "limit": None if dev else limit, "trust_remote_code": trust}
    tell(following("extract", model=out, data=dev or file, method="integrated-gradients", **read, out="scores.jsonl"))
