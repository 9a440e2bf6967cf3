"""verify: rehash every committed file, look for missing ones, and make each selection again.

A run has three kinds of files: those that a manifest lists by digest, sealed JSON (manifests among
it), and files without a digest: the event log, the lock, exports, and what a user put there.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilotfish.data.run_pool import open_run
from pilotfish.errors import DamagedRun, PilotfishError
from pilotfish.scoring.weak_model import weak_folder
from pilotfish.selection.files import manifest_of, write_files
from pilotfish.selection.select import redraft
from pilotfish.store import Run, Store, sha256_file

_FILES = ("decisions.parquet", "selected.jsonl")
_WITHOUT_DIGEST = ("LOCK", "events.jsonl")
_NOT_COMMITTED = ("leases", "exports")  # folders below a run that it does not commit
# A sealed file whose seal is broken still looks like one, whichever bit of it was flipped.
_WAS_SEALED = re.compile(rb'"seal"|\n.{10}.[0-9a-f]{64}', re.DOTALL)
_OURS = re.compile(r"(run|scores|manifest|report|report\.manifest|part-\d+|seed-\d+)\.json")


@dataclass
class Found:
    """The files of a run, by name relative to it."""

    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)  # listed file -> its manifest
    damaged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)  # without a digest anywhere


def verify(out: str) -> dict[str, Any]:
    """Check a run against its manifests, its run.json, and its scores.

    Args:
        out: The run folder.

    Returns:
        Counts of manifests, files and selections, and `loose`: the files without a digest.

    Raises:
        DamagedRun: Naming every file that differs or is missing, or every selection that the
            scores do not give.
    """
    run = open_run(out)
    found = walk(run.store)
    bad = [*found.damaged, *(f"{rel} (missing)" for rel in found.missing)]
    if not bad:
        bad = [f"selections/{name} ({why})" for name, why in _changed_selections(run)]
    if bad:
        raise DamagedRun(
            f"{', '.join(bad)} in {out} are not what was committed",
            hint="the step that made each makes it again, if need be with --force",
        )
    return {
        "run": out,
        "manifests": len(found.manifests),
        "files": len(found.files),
        "selections": len(run.section("selections")),
        "loose": found.loose,
        "damaged": [],
    }


def walk(store: Store) -> Found:
    """Check every file of a run against the digest that a manifest or its own seal holds."""
    found, unread = Found(), list[str]()
    rels = list(_files(store.root))
    for rel in rels:
        if rel.endswith(".json"):
            _open(store, rel, found, unread)
    for rel, facts in found.manifests.items():
        found.files |= dict.fromkeys(facts["files"], rel)
        found.damaged += store.damage(facts)
    for rel in unread:
        if rel not in found.files and _was_ours(store, rel):
            found.damaged.append(rel)
    known = {*found.files, *found.damaged, *(rel for rel in rels if rel.endswith(".json"))}
    found.loose = sorted(set(rels) - known | {r for r in unread if r not in found.files})
    found.loose = [rel for rel in found.loose if rel not in found.damaged]
    found.damaged = sorted(set(found.damaged))
    if "run.json" not in found.damaged:
        gone = (rel for rel in _named(Run(store.root), found) if rel not in found.manifests)
        found.missing = sorted({*gone} - {*found.damaged})
    return found


def _open(store: Store, rel: str, found: Found, unread: list[str]) -> None:
    try:
        value = store.read_json(rel) or {}
    except DamagedRun:
        unread.append(rel)
        return
    if isinstance(value.get("files"), dict):
        found.manifests[rel] = value


def _was_ours(store: Store, rel: str) -> bool:
    data = store.path(rel).read_bytes()
    return bool(_OURS.fullmatch(Path(rel).name) or _WAS_SEALED.search(data))


def _files(root: Path) -> Iterator[str]:
    """List the files that this run may have committed, without those of a run inside it."""
    for path in sorted(root.rglob("*")):
        rel = path.relative_to(root)
        outside = rel.parts[0] in _NOT_COMMITTED or any(part.startswith(".") for part in rel.parts)
        inner = any((root / folder / "run.json").is_file() for folder in rel.parents[:-1])
        if path.is_file() and not outside and not inner and str(rel) not in _WITHOUT_DIGEST:
            yield rel.as_posix()


def _named(run: Run, found: Found) -> Iterator[str]:
    """List the manifests of everything that run.json names."""
    pool = found.manifests.get("pool/manifest.json", {})
    if run.section("pool"):
        yield from ("pool/manifest.json", "pool/quarantine.json")
        yield from (shard["manifest"] for shard in pool.get("shards", ()))
    if scores := run.section("scores"):
        yield "scores.json"
        keys = {key for facts in scores.values() for key in facts.get("keys", {}).values()}
        for shard in range(len(pool.get("shards", ()))):
            yield from (f"signals/{key}/part-{shard:05d}.json" for key in sorted(keys))
    yield from (manifest_of(name) for name in run.section("selections"))
    imported = (
        run.section("evidence").get("level") == "imported"
    )  # its test rows were not committed here
    if run.section("test") and not imported:
        yield "test/manifest.json"
    if run.section("weak").get("trusted"):
        yield f"{weak_folder(0)}/manifest.json"


def _changed_selections(run: Run) -> Iterator[tuple[str, str]]:
    """List the selections that their method, budget and seed do not give on the run's scores."""
    for name, facts in run.section("selections").items():
        try:
            if why := _difference(run, name, facts):
                yield name, why
        except PilotfishError as error:
            yield name, f"cannot be made again: {error}"


def _difference(run: Run, name: str, facts: Mapping[str, Any]) -> str:
    """Make a selection again and return what differs; "" where nothing does."""
    made = redraft(run, name)
    if made.picked.digest != facts["rows_digest"]:
        return "other rows than its method picks from the scores"
    listed = run.store.require(manifest_of(name))["files"]
    with tempfile.TemporaryDirectory() as folder:
        decisions, selected = (Path(folder) / each for each in _FILES)
        write_files(made, decisions, selected, Path(folder) / "lines")
        differs = [
            path.name for path in (decisions, selected)
            if listed[f"selections/{name}/{path.name}"]["sha256"] != sha256_file(path)
        ]  # fmt: skip
    return f"{', '.join(differs)} differ" if differs else ""
