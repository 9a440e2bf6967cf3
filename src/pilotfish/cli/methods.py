"""`pilotfish methods`: what can be scored and picked by, with formula and citation."""

from typing import Annotated

import typer

from pilotfish.cli.console import emit, out
from pilotfish.cli.options import Json


def methods(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this one.")] = None,
    as_json: Json = False,
) -> None:
    """List the methods with formula, needs, knobs and citation."""
    from pilotfish.errors import unknown_name
    from pilotfish.methods import METHODS, describe

    if name is not None and name not in METHODS:
        raise unknown_name("method", name, METHODS)
    entries = describe(name)
    if as_json:
        emit({"methods": entries})
        return
    for entry in entries:
        out(f"{entry['name']}: {entry['about']}")
        for key in ("formula", "needs", "direction", "knobs", "cite"):
            value = entry[key]
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            if isinstance(value, dict):
                shown = ", ".join(f"{k}={v}" for k, v in value.items())
            out(f"  {key:<10} {shown or '-'}")
