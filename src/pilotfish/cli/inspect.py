"""`pilotfish inspect`: what the data looks like, before anything is spent."""

from typing import Annotated

import typer

from pilotfish.cli.console import emit, out
from pilotfish.cli.options import (
    Config,
    Data,
    Json,
    Limit,
    Map,
    MaxBadRate,
    Revision,
    Split,
    parse_map,
)


def inspect(
    data: Data,
    weak: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Render with this model's own template.")
    ] = None,
    limit: Limit = None,
    max_bad_rate: MaxBadRate = 0.01,
    map_: Map = None,
    dataset_config: Config = None,
    split: Split = None,
    revision: Revision = None,
    as_json: Json = False,
) -> None:
    """Show the schema found, one row rendered with its loss mask, counts, and what is bad."""
    from pilotfish.flows.inspect import look
    from pilotfish.flows.reading import Source

    source = Source(data, parse_map(map_), limit, max_bad_rate, dataset_config, split, revision)
    seen = look(source, model=weak)
    if as_json:
        emit(seen.as_dict())
    else:
        for line in seen.lines():
            out(line)
    seen.check(max_bad_rate)
