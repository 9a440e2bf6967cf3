"""`pilotfish demo`: the whole story offline on a CPU, nothing downloaded."""

from typing import Annotated

import typer

from pilotfish.cli.console import Console, emit, out
from pilotfish.cli.options import Json, Quiet, Seed


def demo(
    out_: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Where the runs go.")
    ] = "pilotfish-demo",
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tell the whole story offline: a dirty pool and a clean one, selected, trained, judged."""
    from pilotfish.flows.demo import run_demo

    story = run_demo(out_, seed=seed, progress=Console(quiet=quiet))
    if as_json:
        emit(story.as_dict())
        return
    for line in story.lines():
        out(line)
