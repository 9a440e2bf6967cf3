"""`pilotfish explain`: why one row was kept or dropped, in a sentence."""

from typing import Annotated

import typer

from pilotfish.cli.console import emit, out
from pilotfish.cli.options import Json, RunFolder


def explain(
    run: RunFolder,
    id_: Annotated[str | None, typer.Argument(metavar="[ID]", help="The row's id.")] = None,
    row: Annotated[int | None, typer.Option(help="Or its 0-based ordinal in its source.")] = None,
    source: Annotated[str | None, typer.Option(help="The source, where there are several.")] = None,
    selection: Annotated[str, typer.Option(help="Which selection.")] = "selected",
    as_json: Json = False,
) -> None:
    """Say what happened to one row, with the numbers."""
    from pilotfish.flows.explain import explain as flow

    told = flow(run, id=id_, row=row, source=source, selection=selection)
    if as_json:
        emit(told)
    else:
        out(told["sentence"])
