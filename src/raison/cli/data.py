"""`raison data`: what is in a file."""

from typing import Annotated

import typer
from typer import Option

from raison.cli.common import File, Format, Json, Map, Words, console, data, load, segmenter


@data.command("check")
def data_check(
    file: File, source: Format = None, mapping: Map = None, json: Json = None, words: Words = "whitespace"
) -> None:
    """Tell what is in a file, and every fault in it with line and field. Exit status 2 where there are faults.

    Example: raison data check esnli.jsonl.gz
    """
    from raison.records import write_json
    from raison.sources.describe import cells, describe
    from raison.sources.show import summary

    found = describe(file, source, mapping, segmenter(words))
    if json:
        write_json(json, cells(found))
    console().print(summary(found))
    for fault in found.faults:
        typer.echo(str(fault), err=True)
    if found.faults:
        raise typer.Exit(2)


@data.command("show")
def data_show(
    file: File,
    source: Format = None,
    mapping: Map = None,
    limit: Annotated[int, Option("-n", "--limit", min=1, help="How many records.")] = 5,
    words: Words = "whitespace",
) -> None:
    """Print records with the highlights in colour.

    Example: raison data show esnli.jsonl.gz -n 3
    """
    from raison.sources.show import show

    show(load(file, source, mapping, limit), segment=segmenter(words))
