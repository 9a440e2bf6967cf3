"""`pilotfish demo`: the whole story offline on a CPU, nothing downloaded."""

from typing import Annotated

import typer

from pilotfish.cli.console import Console, emit, out
from pilotfish.cli.options import Json, Quiet


def demo(
    out_: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Where the two worlds and runs go.")
    ] = "pilotfish-demo",
    seed: Annotated[int, typer.Option(help="Which world is generated.")] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show the whole story offline on generated rows, in minutes.

    A pool with known noise and a clean one are each scored, selected, trained on and evaluated: two
    ordinary runs on a CPU, with tiny models that ship with pilotfish. Nothing is downloaded.
    """
    from pilotfish.demo.run import run_demo

    story = run_demo(out_, seed=seed, progress=Console(quiet=quiet))
    if as_json:
        emit(story.as_dict())
        return
    for line in story.lines():
        out(line)
