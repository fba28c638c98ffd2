"""`raison train`: fine-tuning."""

from typing import Annotated

from typer import Argument, Option

from raison.cli.common import Data, Format, Limit, Map, Model, Seed, Trust, app, following, load, quiet, say


@app.command()
def train(
    model: Model,
    file: Data,
    out: Annotated[str, Option(help="Folder of the trained model.")],
    dev: Annotated[str | None, Option(help="Records to watch and to stop by.")] = None,
    shots: Annotated[int | None, Option(min=1, help="Records per label; default: all.")] = None,
    epochs: Annotated[int, Option(min=1, help="Passes over the training records.")] = 3,
    lr: Annotated[float | None, Option(help="Highest learning rate; default: 5e-5, of LoRA 1e-4.")] = None,
    batch: Annotated[int, Option(min=1, help="Records per step.")] = 32,
    patience: Annotated[int | None, Option(min=1, help="Epochs without a better dev accuracy before it ends.")] = None,
    lora: Annotated[bool, Option("--lora", help="Tune a causal language model, by LoRA.")] = False,
    task: Annotated[str | None, Option(help="Of LoRA: nli, sentiment, ..., a TOML file; default: the data's.")] = None,
    keep_out: Annotated[list[str] | None, Option(help="Of LoRA: evaluation records; several may follow.")] = None,
    more: Annotated[list[str] | None, Argument(hidden=True)] = None,
    recipe: Annotated[str | None, Option(help="Of LoRA: label, label-and-rationale, mask-augmented.")] = None,
    rank: Annotated[int | None, Option(min=1, help="Of LoRA: default 16.")] = None,
    mask: Annotated[str | None, Option(help="Of mask-augmented: mask, delete, ..., as in an evaluation.")] = None,
    accumulate: Annotated[int | None, Option(min=1, help="Of LoRA: parts of a step, to need less memory.")] = None,
    align: Annotated[str | None, Option(help="Also train with people's rationales, through this attribution.")] = None,
    align_loss: Annotated[str | None, Option(help="Of --align: margin, order, sign, ...; default: by it.")] = None,
    alpha: Annotated[float | None, Option(min=0, help="Of --align: weight of the alignment loss; default: 1.")] = None,
    margin: Annotated[float | None, Option(min=0, help="Of --align: of losses that have one; default: 1.")] = None,
    warm_up: Annotated[str | None, Option(help="Of --align: epochs of the task alone before, or rest.")] = None,
    people: Annotated[str | None, Option(help="Of --align: soft, majority, union, or an annotator's name.")] = None,
    align_set: Annotated[list[str] | None, Option(help="Of --align: NAME=VALUE of other settings, or TOML.")] = None,
    seed: Seed = 0,
    source: Format = None,
    mapping: Map = None,
    limit: Limit = None,
    trust: Trust = False,
) -> None:
    """Fine-tune a classifier on labels (an encoder without a head gets one), or a causal language model by LoRA.

    With --align, the model also learns from people's rationales (UIMER, Chen et al. 2023): its attribution by gradient,
    gradient-l1, gradient-sum, input-x-gradient, attention, occlusion, input-marginalisation or diffmask is aligned
    with them.

    Example: raison train --model bert-base-uncased --data train.jsonl --dev dev.jsonl --epochs 3 --out runs/base
    """
    from raison.studies.tuning import Data, alignment_of, tune

    given = {
        "epochs": epochs, "lr": lr, "batch": batch, "shots": shots, "patience": patience, "seed": seed,
        "recipe": recipe, "rank": rank, "mask": mask, "accumulate": accumulate,
    }  # fmt: skip
    kept_out = [record for path in (*(keep_out or []), *(more or [])) for record in load(path, source, mapping, None)]
    records = Data(load(file, source, mapping, limit), load(dev, source, mapping, None) if dev else [], kept_out)
    quiet()
    asked = {"loss": align_loss, "alpha": alpha, "margin": margin, "warm_up": warm_up, "people": people}
    alignment = alignment_of(align, {key: value for key, value in asked.items() if value is not None}, align_set)
    tune(model, records, out, given, say, lora=lora, task=task, alignment=alignment, trust=trust)
    told = {"format": source, "map": mapping, "task": task, "limit": None if dev else limit, "trust_remote_code": trust}
    say(following("extract", model=out, data=dev or file, method="integrated-gradients", **told, out="scores.jsonl"))
