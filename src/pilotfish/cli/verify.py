"""`pilotfish verify`: rehash every committed file of a run."""

from pilotfish.cli.console import emit, out
from pilotfish.cli.options import Json, RunFolder


def verify(run: RunFolder, as_json: Json = False) -> None:
    """Rehash every committed file of a run; damage ends with exit 6."""
    from pilotfish.flows.stages import verify_stage

    found = verify_stage(run)
    if as_json:
        emit(found)
    else:
        out(f"{found['files']:,} files in {found['manifests']:,} groups are intact")
