"""`pilotfish explain`: why one row was kept or dropped, in a sentence."""

from typing import Annotated

import typer

from pilotfish.cli.console import emit, out
from pilotfish.cli.options import Json, RunFolder


def explain(
    run: RunFolder,
    id_: Annotated[str | None, typer.Argument(metavar="[ID]", help="The row's id.")] = None,
    row: Annotated[int | None, typer.Option(help="Or its place in its source, from 0.")] = None,
    source: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its source, where there are several.")
    ] = None,
    selection: Annotated[
        str, typer.Option(metavar="NAME", help="Which selection decided.")
    ] = "selected",
    as_json: Json = False,
) -> None:
    """Say what happened to one row, with the numbers.

    Also explains rows that were quarantined, or dropped because they are in the test data.

    \b
    Examples:
      pilotfish explain RUN 4f1c09d2
      pilotfish explain RUN --row 17 --source part-2.jsonl
    """
    from pilotfish.diagnostics.explain import explain as flow

    facts = flow(run, id=id_, row=row, source=source, selection=selection)
    if as_json:
        emit(facts)
    else:
        out(facts["sentence"])
