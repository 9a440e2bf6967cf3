"""`pilotfish doctor`: what is installed, what is missing, and the pip line for it."""

from pilotfish.cli.console import emit, out
from pilotfish.cli.options import Json


def doctor(as_json: Json = False) -> None:
    """Say what is installed, and the pip line for the rest."""
    from pilotfish.diagnostics.doctor import examine

    found = examine()
    if as_json:
        emit(found)
        return
    for part in found["parts"]:
        mark = "ok     " if part["ok"] else "missing"
        out(f"{mark} {part['name']:<14} {part['version'] or part['hint']}  ({part['for']})")
    for key, value in found.items():
        if key != "parts":
            out(f"{key}: {value}")
