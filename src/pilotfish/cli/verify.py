"""`pilotfish verify`: rehash every committed file of a run, and make its selections again."""

from pilotfish.cli.console import emit, out
from pilotfish.cli.options import Json, RunFolder

_SHOWN = 5


def verify(run: RunFolder, as_json: Json = False) -> None:
    """Rehash every file of a run and make its selections again.

    Damage ends with exit 6 and names every file. Files that belong to no manifest (your own, or of
    interrupted work) are counted and named.
    """
    from pilotfish.diagnostics.verify import verify as flow

    found = flow(run)
    if as_json:
        emit(found)
        return
    out(f"{found['files']:,} files in {found['manifests']:,} groups are intact")
    if found["selections"]:
        out(f"{found['selections']:,} selections follow from the scores")
    if loose := found["loose"]:
        more = ", ..." if len(loose) > _SHOWN else ""
        out(f"{len(loose):,} files belong to no manifest: {', '.join(loose[:_SHOWN])}{more}")
