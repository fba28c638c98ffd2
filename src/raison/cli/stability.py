"""`raison annotators stability`: is there a person to learn?"""

from typing import Annotated

from msgspec import to_builtins
from typer import Option

from raison.cli.common import (
    Data,
    Device,
    Format,
    Json,
    Limit,
    Map,
    Seed,
    Trust,
    annotators,
    console,
    load,
    parted,
    quiet,
    say,
)
from raison.cli.people import Without, people


@annotators.command("stability")
def annotators_stability(
    data: Data,
    views: Annotated[str | None, Option(help="Views, parted by commas; default: all that the data have.")] = None,
    encoder: Annotated[str | None, Option(help="Also look through a sentence encoder: a folder or hub id.")] = None,
    ks: Annotated[str, Option(help="Items in a group, parted by commas.")] = "1,2,5,10,20,50",
    permutations: Annotated[int, Option(min=99, help="Of people within items.")] = 200,
    out: Annotated[str | None, Option(help="Folder for the page.")] = None,
    without: Without = None,
    seed: Seed = 0,
    source: Format = None,
    mapping: Map = None,
    limit: Limit = None,
    device: Device = None,
    trust: Trust = False,
    json: Json = None,
) -> None:
    """Tell people apart by how they label and explain: from how many items, and by what (punctuation, phrasing, ...).

    Example: raison annotators stability --data varierr.json --json cells.json --out runs/stability
    """
    from raison.annotators.stability import Plan, stability
    from raison.annotators.stability_cells import stability_cells
    from raison.annotators.vectors import sentence_encoder
    from raison.annotators.views import VIEWS
    from raison.records import InputError, write_json
    from raison.report.stability import stability_table, write_stability

    try:
        sizes = tuple(sorted({int(k) for k in parted(ks)}))
    except ValueError:
        sizes = ()
    if not sizes or sizes[0] < 1:
        raise InputError(f"--ks {ks!r}: expected whole numbers from 1, parted by commas")
    records = people(load(data, source, mapping, limit), without)
    quiet()
    encoders = {"encoder": sentence_encoder(encoder, device=device, trust_remote_code=trust)} if encoder else {}
    chosen = parted(views) if views is not None else list(VIEWS)
    found = stability(records, chosen, encoders=encoders, plan=Plan(sizes, permutations, seed=seed))
    console().print(stability_table(found))
    if json:
        write_json(json, to_builtins(stability_cells(found)))
        say(f"wrote {json}")
    if out:
        page = f"{out.rstrip('/')}/stability.html"
        write_stability(page, found)
        say(f"wrote {page}")
