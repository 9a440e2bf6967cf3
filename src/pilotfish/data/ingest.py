"""Read DATA into a pool or into memory, in two passes so that nothing is committed too early.

The first pass counts, quarantines and decides the ids; the second writes the shards. Memory grows
by digests of 16 bytes a row, of the content and of the user's id, not by the text.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from pilotfish.config.data import Source
from pilotfish.data.first_pass import (
    BadRecord,
    ChangedData,
    FirstPass,
    Parser,
    bad_rate,
    check_any,
    check_rate,
)
from pilotfish.data.pool import MANIFEST, Pool, write_shard
from pilotfish.errors import DataError, UsageError
from pilotfish.records import Example
from pilotfish.store import Store

QUARANTINE = "pool/quarantine.jsonl"
QUARANTINE_MANIFEST = "pool/quarantine.json"
DROPPED = "pool/dropped.jsonl"
SHARD_ROWS = 2000  # the unit of commit and of what a crash may cost
SHARD_BYTES = 256 * 2**20  # of raw text; a shard is closed at this or at shard_rows
NAMED = 3  # bad records named in an error where there is no quarantine file

POOL_FORMAT = 1
"""Version of how records become rows, and of the shards that hold them; part of a pool's key.

Raise it by one in a change after which the same files give other rows, ids, reasons, fingerprints
or columns: pools read before are then read again. tests/goldens/pools.json holds this version's.
"""


@dataclass(frozen=True)
class Rows:
    """Some data in memory: trusted or test rows, read exactly like a pool."""

    examples: list[Example]
    rows_in: int  # records read
    quarantined: dict[str, int]  # reason -> records
    dropped: int  # rows left out because they are also in the test data
    dropped_ids: tuple[str, ...]  # their ids
    schema: str  # name of the format
    sources: dict[str, str]  # path -> sha256
    fingerprint: str  # sha256 over ids and content digests, in order
    warnings: tuple[str, ...]  # about how the data was read


def read(
    source: Source,
    store: Store,
    *,
    exclude: frozenset[str] = frozenset(),
    shard_rows: int = SHARD_ROWS,
    replace: bool = True,
) -> Pool:
    """Commit DATA as canonical shards, reusing what an earlier, equal read left intact.

    Args:
        source: DATA and how to read it.
        store: The run that gets the pool.
        exclude: `overlap_keys` of the test data; rows that match are dropped, counted and named.
        shard_rows: Rows of one shard.
        replace: Whether a pool of other data may be overwritten.

    Raises:
        UsageError: Wrong path, mapping or format, or another pool in the run.
        DataError: Too many bad records (after the quarantine file is written), or no row left.
    """
    if shard_rows < 1:
        raise UsageError(f"shard_rows is {shard_rows}; it must be at least 1")
    bad_rate(source.max_bad_rate)
    parser = Parser.open(source)
    facts = _facts(parser, exclude, shard_rows)
    where = f"Each is named in {store.root / QUARANTINE}."
    pool = _reusable(store, facts)
    if pool is None:
        if not replace:
            _refuse_other(store, facts)
        store.forget(MANIFEST)
        first = FirstPass(parser, exclude)
        _write_quarantine(store, first, facts["key"])
        _check(first, source, where)
        pool = _write_pool(store, first, facts)
    found = pool.manifest
    check_rate(found["quarantined"], found["rows_in"], source.max_bad_rate, where)
    return pool


def read_rows(source: Source, *, exclude: frozenset[str] = frozenset()) -> Rows:
    """Read the rows of DATA into memory; parsing, ids, counting and errors are those of `read`.

    Args:
        source: DATA and how to read it.
        exclude: `overlap_keys` of the test data; rows that match are dropped, counted and named.
    """
    bad_rate(source.max_bad_rate)
    parser = Parser.open(source)
    first, bad, good = FirstPass(parser, exclude), list[BadRecord](), list[Example]()
    for item in first.run():
        if isinstance(item, Example):
            good.append(item)
        elif len(bad) < NAMED:
            bad.append(item)
    named = "; ".join(f"{each.source} row {each.row}: {each.detail}" for each in bad)
    _check(first, source, f"First: {named}.")
    identified = list(first.identify(good))
    return Rows(
        examples=[example for example, kept in identified if kept],
        rows_in=first.rows_in,
        quarantined=first.reasons,
        dropped=first.dropped,
        dropped_ids=tuple(example.id for example, kept in identified if not kept),
        schema=parser.schema,
        sources=_digests(parser),
        fingerprint=first.fingerprint(),
        warnings=tuple(first.warnings()),
    )


def _check(first: FirstPass, source: Source, where: str) -> None:
    check_rate(first.quarantined, first.rows_in, source.max_bad_rate, where)
    check_any(first, source.data)


def _digests(parser: Parser) -> dict[str, str]:
    return {source.name: source.sha256() for source in parser.sources}


def _facts(parser: Parser, exclude: frozenset[str], shard_rows: int) -> dict[str, Any]:
    """Return everything that decides the shards' content, and its hash: equal key, equal bytes."""
    facts: dict[str, Any] = {
        "schema": parser.schema,
        "sources": _digests(parser),
        "mapping": dict(parser.mapping),
        "limit": parser.limit,
        "shard_rows": shard_rows,
        "excluded": hashlib.sha256("".join(sorted(exclude)).encode()).hexdigest(),
        "format": POOL_FORMAT,
    }
    text = json.dumps(facts, sort_keys=True)
    return {**facts, "key": hashlib.sha256(text.encode()).hexdigest()}


def _reusable(store: Store, facts: Mapping[str, Any]) -> Pool | None:
    """Return the existing pool if it was read from `facts` and is intact."""
    manifest = store.manifest(MANIFEST)
    if manifest is None or _changed_facts(manifest, facts):
        return None
    key = manifest["key"]
    parts = (QUARANTINE_MANIFEST, *(shard["manifest"] for shard in manifest["shards"]))
    if any((store.manifest(part) or {}).get("key") != key for part in parts):
        return None
    return Pool.open(store)


def _changed_facts(manifest: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """Name the facts that differ from those of a committed pool.

    Manifests written before POOL_FORMAT existed hold no number: their rows are those of format 1.
    """
    old = {"format": 1, **manifest}
    return sorted(name for name in facts if name != "key" and old.get(name) != facts[name])


def _refuse_other(store: Store, facts: Mapping[str, Any]) -> None:
    """Refuse to replace another pool, because scores and selections depend on it."""
    changed = _changed_facts(store.manifest(MANIFEST) or facts, facts)
    if changed:
        raise UsageError(
            f"{store.root} holds a pool read from other data or by another version of pilotfish: "
            f"{', '.join(changed)} changed",
            hint="choose another --out, or pass --force to redo what depends on it",
        )


def _write_quarantine(store: Store, first: FirstPass, key: str) -> None:
    """Make the first pass, and commit pool/quarantine.jsonl."""
    with store.attempt(QUARANTINE_MANIFEST) as attempt:
        with attempt.path(QUARANTINE).open("w", encoding="utf-8") as handle:
            for item in first.run():
                if isinstance(item, BadRecord):
                    _write_line(handle, item.line())
        attempt.meta = {"key": key, "rows_in": first.rows_in, "quarantined": first.reasons}


def _write_pool(store: Store, first: FirstPass, facts: dict[str, Any]) -> Pool:
    """Make the second pass: write the shards that are missing, then the manifest."""
    with store.attempt(MANIFEST) as attempt:
        with attempt.path(DROPPED).open("w", encoding="utf-8") as handle:
            groups = enumerate(_groups(_kept_rows(first, handle), facts["shard_rows"]))
            shards = [_commit_shard(store, i, group, facts["key"]) for i, group in groups]
        _remove_shards_beyond(store, len(shards))
        attempt.meta = {
            **facts,
            "rows": first.rows,
            "rows_in": first.rows_in,
            "quarantined": first.reasons,
            "dropped": first.dropped,
            "fingerprint": first.fingerprint(),
            "warnings": first.warnings(),
            "shards": shards,
        }
    return Pool.open(store)


def _kept_rows(first: FirstPass, dropped: TextIO) -> Iterator[Example]:
    """Yield the kept rows with their ids; write a line to `dropped` for each of the others."""
    counted = 0
    valid = (item for item in first.parser.parse() if not isinstance(item, BadRecord))
    try:
        for example, kept in first.identify(valid):
            counted += 1
            if kept:
                yield example
            else:
                origin = {"id": example.id, "source": example.source, "row": example.row}
                _write_line(dropped, {**origin, "reason": "in_test"})
        if counted != first.rows + first.dropped:
            raise ChangedData(first.parser.sources[-1].name)
    except ChangedData as error:
        raise DataError(
            f"{error} changed while it was being read",
            hint="run again when no process writes to it",
        ) from error


def _groups(examples: Iterable[Example], shard_rows: int) -> Iterator[list[Example]]:
    """Yield groups of `shard_rows` examples, fewer where their text is too big for one shard."""
    group: list[Example] = []
    size = 0
    for example in examples:
        group.append(example)
        size += len(example.raw)
        if len(group) == shard_rows or size >= SHARD_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _commit_shard(store: Store, i: int, group: Sequence[Example], key: str) -> dict[str, Any]:
    """Commit one shard unless it exists and is intact; return its entry for the pool's manifest."""
    name, file = f"pool/part-{i:05d}.json", f"pool/part-{i:05d}.parquet"
    found = store.manifest(name)
    if found is None or found.get("key") != key:
        with store.attempt(name) as attempt:
            write_shard(attempt.path(file), group)
            attempt.meta = {"key": key, "rows": len(group)}
        found = store.require(name)
    return {
        "manifest": name,
        "file": file,
        "rows": len(group),
        "sha256": found["files"][file]["sha256"],
    }


def _remove_shards_beyond(store: Store, shards: int) -> None:
    """Remove the shards of an earlier, longer read: readers glob for part-*.parquet."""
    for path in sorted(store.root.glob("pool/part-*.parquet")):
        if int(path.stem.removeprefix("part-")) >= shards:
            rel = path.relative_to(store.root)
            store.forget(rel.with_suffix(".json").as_posix())
            store.remove(rel.as_posix())


def _write_line(handle: TextIO, line: dict[str, Any]) -> None:
    handle.write(json.dumps(line, sort_keys=True, ensure_ascii=True) + "\n")
