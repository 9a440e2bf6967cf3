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
    """Show the schema found, one rendered row, and what is bad.

    What a model would learn of the row stands between [[ and ]]. Nothing is written. Ends with
    exit 3 where a run would stop because too many records are bad.

    \b
    Examples:
      pilotfish inspect rows.jsonl
      pilotfish inspect qa.csv --map prompt=question,completion=answer --weak SMALL
    """
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
