"""The end of a command whose report holds gates: 4 where one failed, 5 where one is undecided."""

import sys
from collections.abc import Mapping
from typing import Any

import typer

from pilotfish.cli.console import plain
from pilotfish.errors import GateFailed, GateInconclusive


def leave(report: Mapping[str, Any]) -> None:
    """Say on stderr which gates do not hold and end with their exit code; else go on.

    Called last: the report is written and told by then, and counts whatever its gates say.
    """
    outcomes = {str(gate["name"]): str(gate["outcome"]) for gate in report.get("gates") or ()}
    for outcome, code in (
        ("fail", GateFailed.exit_code),
        ("inconclusive", GateInconclusive.exit_code),
    ):
        names = [name for name, found in outcomes.items() if found == outcome]
        if names:
            sys.stderr.write(plain(f"gate {', '.join(names)}: {outcome}") + "\n")
            raise typer.Exit(code)
