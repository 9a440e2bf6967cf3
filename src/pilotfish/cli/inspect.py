"""`pilotfish inspect`: what the data looks like, before anything is spent."""

from typing import Annotated

import typer

from pilotfish.cli.console import emit, out, tell
from pilotfish.cli.options import (
    Config,
    Data,
    Json,
    Limit,
    Map,
    MaxBadRate,
    Quiet,
    Revision,
    Split,
    TrustRemoteCode,
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
    trust_remote_code: TrustRemoteCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show the schema found, one rendered row, and what is bad.

    What a model would learn of the row stands between [[ and ]]. Nothing is written. Ends with
    exit 3 where a run would stop because too many records are bad.

    \b
    Examples:
      pilotfish inspect rows.jsonl
      pilotfish inspect qa.csv --map prompt=question,completion=answer --weak SMALL
    """
    from pilotfish.config.data import Source
    from pilotfish.diagnostics.inspect import inspect_source

    source = Source(data, parse_map(map_), limit, max_bad_rate, dataset_config, split, revision)
    seen = inspect_source(source, model=weak)
    trouble = seen.trouble(max_bad_rate)
    if as_json:
        found = (
            {"error": str(trouble), "exit": trouble.exit_code, "hint": trouble.hint}
            if trouble
            else {}
        )
        emit(seen.as_dict() | found)
    else:
        for line in seen.lines():
            out(line)
    if trouble:
        raise typer.Exit(tell(str(trouble), trouble.exit_code, trouble.hint, as_json=False))
