"""`verify`: rehash every committed file, find missing ones, and repeat each selection.

A run has three kinds of files: those that a manifest lists by digest, checksummed JSON (manifests
included), and files without a digest: the event log, the lock, exports, and a user's own.
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
# A checksummed file is recognised even where its checksum is broken, whichever bit was flipped.
_WAS_CHECKSUMMED = re.compile(rb'"seal"|\n.{10}.[0-9a-f]{64}', re.DOTALL)
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
            hint="repeat the step that made each, with --force if it is refused",
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
    """Check every file of a run against its digest, in a manifest or in the file itself."""
    found, unread = Found(), list[str]()
    rels = list(_files(store.root))
    for rel in rels:
        if not rel.endswith(".json"):
            continue
        try:
            value = store.read_json(rel) or {}
        except DamagedRun:
            unread.append(rel)
        else:
            if isinstance(value.get("files"), dict):
                found.manifests[rel] = value
    for rel, facts in found.manifests.items():
        found.files |= dict.fromkeys(facts["files"], rel)
        found.damaged += store.damage(facts)
    for rel in unread:
        ours = _OURS.fullmatch(Path(rel).name) or _WAS_CHECKSUMMED.search(
            store.path(rel).read_bytes()
        )
        if rel not in found.files and ours:
            found.damaged.append(rel)
    known = {*found.files, *found.damaged, *(rel for rel in rels if rel.endswith(".json"))}
    found.loose = sorted(set(rels) - known | {r for r in unread if r not in found.files})
    found.loose = [rel for rel in found.loose if rel not in found.damaged]
    found.damaged = sorted(set(found.damaged))
    if "run.json" not in found.damaged:
        gone = (rel for rel in _named(Run(store.root), found) if rel not in found.manifests)
        found.missing = sorted({*gone} - {*found.damaged})
    return found


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
    # the test rows of imported results were not committed here
    imported = run.section("evidence").get("level") == "imported"
    if run.section("test") and not imported:
        yield "test/manifest.json"
    if run.section("weak").get("trusted"):
        yield f"{weak_folder(0)}/manifest.json"


def _changed_selections(run: Run) -> Iterator[tuple[str, str]]:
    """List the selections that the run's scores do not give again, and why."""
    for name, facts in run.section("selections").items():
        try:
            if why := _difference(run, name, facts):
                yield name, why
        except PilotfishError as error:
            yield name, f"cannot be repeated: {error}"


def _difference(run: Run, name: str, facts: Mapping[str, Any]) -> str:
    """Repeat a selection and return what differs; "" where nothing does."""
    made = redraft(run, name)
    if made.picked.digest != facts["rows_digest"]:
        return "other rows than its method selects from the scores"
    listed = run.store.require(manifest_of(name))["files"]
    with tempfile.TemporaryDirectory() as folder:
        decisions, selected = (Path(folder) / each for each in _FILES)
        write_files(made, decisions, selected, Path(folder) / "lines")
        differs = [
            path.name
            for path in (decisions, selected)
            if listed[f"selections/{name}/{path.name}"]["sha256"] != sha256_file(path)
        ]
    return f"{', '.join(differs)} differ" if differs else ""
