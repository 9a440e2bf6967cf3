"""The end of a command whose report holds gates: 4 where one failed, 5 where one is undecided."""

import sys
from collections.abc import Mapping
from typing import Any

import typer

from pilotfish.cli.console import plain
from pilotfish.errors import GateFailed


def leave(report: Mapping[str, Any]) -> None:
    """Say on stderr which gates do not hold and end with their exit code; else go on.

    Called last: the report is written and told by then, and counts whatever its gates say.
    """
    gates = report.get("gates")
    if not gates:
        return
    from pilotfish.judge.gates import exit_code

    if code := exit_code(gates):
        outcome = "fail" if code == GateFailed.exit_code else "inconclusive"
        names = [str(gate["name"]) for gate in gates if gate["outcome"] == outcome]
        sys.stderr.write(plain(f"gate {', '.join(names)}: {outcome}") + "\n")
        raise typer.Exit(code)
