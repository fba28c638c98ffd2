"""`raison annotators welcome`: a model that knows others learns somebody new from a few items."""

from typing import Annotated, Any

from typer import Option

from raison.cli.common import Data, Format, Map, Model, Seed, Trust, annotators, following, quiet, say
from raison.cli.imitate import Parts, split_of
from raison.cli.people import Without
from raison.records import InputError


@annotators.command("welcome")
def annotators_welcome(
    model: Model,
    data: Data,
    person: Annotated[str, Option("--annotator", help="Who is new.")],
    out: Annotated[str, Option(help="Folder of what is learned of them.")],
    how: Annotated[str, Option(help="new-tag (their tag alone), new-adapter (an adapter of their own).")] = "new-tag",
    items: Annotated[int | None, Option(min=1, help="Learn from N items of theirs, drawn by the seed.")] = None,
    ready: Annotated[str | None, Option(help="Folder of the model made ready; default: MODEL-ready.")] = None,
    split: Parts = None,
    epochs: Annotated[int, Option(min=1, help="Passes over the items.")] = 10,
    lr: Annotated[float | None, Option(help="Highest learning rate; of a tag 1e-2, of an adapter 1e-3.")] = None,
    batch: Annotated[int, Option(min=1, help="Items per step.")] = 4,
    rank: Annotated[int, Option(min=1, help="Of an adapter.")] = 16,
    without: Without = None,
    seed: Seed = 0,
    source: Format = None,
    mapping: Map = None,
    trust: Trust = False,
) -> None:
    """Take somebody new into a model that was taught with tags; all else that it knows stays as it is.

    Example: raison annotators welcome --model runs/sft-tag --data varierr.json --annotator 3 --items 25 --out runs/3
    """
    from raison.annotators import newcomers
    from raison.annotators.responses import responses_of
    from raison.annotators.sft import SftConfig
    from raison.annotators.teach import read_asked

    if how not in newcomers.NEW:
        raise InputError(f"--how {how!r}: expected {', '.join(newcomers.NEW)}")
    train = split_of(data, split, without, source, mapping).train
    said = responses_of(train)
    known = sorted({one.annotator for one in said})
    if person not in known:
        raise InputError(f"--annotator {person!r}: answered no training item; there are {', '.join(known[:20])}")
    rate = lr or (1e-2 if how == "new-tag" else 1e-3)
    config = SftConfig(rank=rank, epochs=epochs, lr=rate, batch=batch, seed=seed)
    if (taught := read_asked(model)) is not None and person in taught.people:
        say(f"warning: {model} knows {person} already, so what it makes of these items says nothing of a newcomer")
    quiet()
    options: dict[str, Any] = {"trust_remote_code": trust}
    base = newcomers.ready(model, ready or f"{model}-ready", [name for name in known if name != person], **options)
    newcomers.welcome(how, base, train, newcomers.first_items(said, person, items, seed), out, config, **options)
    say(f"wrote {out} (it needs {base})")
    say(following("annotators imitate", model=out, data=data, split=split, annotators=person, out="responses.jsonl"))
