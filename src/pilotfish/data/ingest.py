"""read and read_rows: two passes over DATA, so that nothing is committed before all is known.

The first pass counts, quarantines and settles the ids; the second writes the shards. Memory grows
with the rows by digests of 16 bytes, of the content and of the user's id, not by their text.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from pilotfish.data.decontaminate import overlap_key
from pilotfish.data.first_pass import ChangedData, FirstPass, bad_rate, check_any, check_rate
from pilotfish.data.parse import BadRecord, Parser, prepare
from pilotfish.data.pool import MANIFEST, Pool
from pilotfish.data.readers.locate import HubOptions, Source, locate
from pilotfish.data.shards import write_shard
from pilotfish.errors import DataError, UsageError
from pilotfish.records import Example
from pilotfish.store import Store

QUARANTINE = "pool/quarantine.jsonl"
QUARANTINE_MANIFEST = "pool/quarantine.json"
DROPPED = "pool/dropped.jsonl"
SHARD_ROWS = 2000  # the unit of commit and of what a crash may cost
SHARD_BYTES = 256 * 2**20  # of raw text; a shard is closed at this or at shard_rows
NAMED = 3  # bad records named in an error where there is no quarantine file
NOTHING: frozenset[str] = frozenset()

POOL_FORMAT = 1
"""Version of how records become rows, and of the shards that hold them; part of a pool's key.

Raise it by one in a change after which the same files give other rows, ids, reasons, fingerprints
or columns: pools read before are then read again. tests/goldens/pools.json holds this version's.
"""


@dataclass(frozen=True)
class Rows:
    """Some data in memory: trusted or test rows, read exactly like a pool.

    quarantined: reason -> records. dropped_ids: the rows that also stand in the test data.
    sources: path -> sha256.
    """

    examples: list[Example]
    rows_in: int
    quarantined: dict[str, int]
    dropped: int
    dropped_ids: tuple[str, ...]
    schema: str
    sources: dict[str, str]
    fingerprint: str
    warnings: tuple[str, ...]


def read(
    data: str | Path,
    store: Store,
    *,
    mapping: Mapping[str, str] | None = None,
    limit: int | None = None,
    max_bad_rate: float = 0.01,
    exclude: frozenset[str] = NOTHING,
    shard_rows: int = SHARD_ROWS,
    replace: bool = True,
    dataset_config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
) -> Pool:
    """Commit DATA as canonical shards, reusing what an earlier, equal read left intact.

    mapping: canonical field -> the user's column. limit: records read at most, bad ones included.
    exclude: `overlap_keys` of the test data; rows asking the same are dropped, counted and named.
    replace: whether the pool of other data may be overwritten.
    Raises UsageError (path, mapping, schema, another pool in the way) and DataError (too many bad
    records, no row left; the quarantine file is written before).
    """
    if shard_rows < 1:
        raise UsageError(f"shard_rows is {shard_rows}; it must be at least 1")
    bad_rate(max_bad_rate)
    sources = locate(data, HubOptions(dataset_config, split, revision))
    scan, _ = prepare(sources, mapping, limit)
    facts = _facts(scan, exclude, shard_rows)
    pool = _finished(store, facts)
    if pool is None:
        if not replace:
            _refuse_other(store, facts)
        store.forget(MANIFEST)
        census = _quarantine(store, scan, exclude, facts["key"])
        _check(census, max_bad_rate, str(data), _where(store))
        pool = _commit(store, scan, census, facts)
    found = pool.manifest
    check_rate(found["quarantined"], found["rows_in"], max_bad_rate, _where(store))
    return pool


def read_rows(
    data: str | Path,
    *,
    mapping: Mapping[str, str] | None = None,
    limit: int | None = None,
    max_bad_rate: float = 0.01,
    exclude: frozenset[str] = NOTHING,
    dataset_config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
) -> Rows:
    """The rows of DATA in memory; same parsing, ids, counting and errors as `read`."""
    bad_rate(max_bad_rate)
    sources = locate(data, HubOptions(dataset_config, split, revision))
    scan, _ = prepare(sources, mapping, limit)
    census, first, found = new_census(scan), list[BadRecord](), list[Example]()
    for item in count(scan, census, exclude):
        if isinstance(item, Example):
            found.append(item)
        elif len(first) < NAMED:
            first.append(item)
    named = "; ".join(f"{bad.source} row {bad.row}: {bad.detail}" for bad in first)
    _check(census, max_bad_rate, str(data), f"First: {named}.")
    marks = list(census.identified(found))
    return Rows(
        examples=[example for example, kept in marks if kept],
        rows_in=census.rows_in,
        quarantined=dict(sorted(census.quarantined.items())),
        dropped=census.dropped,
        dropped_ids=tuple(example.id for example, kept in marks if not kept),
        schema=scan.schema.name if scan.schema else "",
        sources=_digests(sources),
        fingerprint=census.fingerprint(),
        warnings=tuple(census.warnings()),
    )


def new_census(scan: Parser) -> FirstPass:
    """An empty census that looks for ids in the column the mapping names."""
    return FirstPass(id_column=scan.mapping.get("id", "id"))


def count(
    scan: Parser, census: FirstPass, exclude: frozenset[str]
) -> Iterator[Example | BadRecord]:
    """Walk through the data, entering every record into the census on its way."""
    for item in scan.walk():
        if isinstance(item, BadRecord):
            census.quarantined[item.reason] += 1
        else:
            census.add(item, kept=not exclude or overlap_key(item) not in exclude)
        yield item


def _facts(scan: Parser, exclude: frozenset[str], shard_rows: int) -> dict[str, Any]:
    """All that decides what the shards hold, and its hash: equal key, equal bytes."""
    facts: dict[str, Any] = {
        "schema": scan.schema.name if scan.schema else "",
        "sources": _digests(scan.sources),
        "mapping": dict(scan.mapping),
        "limit": scan.limit,
        "shard_rows": shard_rows,
        "excluded": hashlib.sha256("".join(sorted(exclude)).encode()).hexdigest(),
        "format": POOL_FORMAT,
    }
    text = json.dumps(facts, sort_keys=True)
    return {**facts, "key": hashlib.sha256(text.encode()).hexdigest()}


def _digests(sources: Sequence[Source]) -> dict[str, str]:
    return {source.name: source.sha256() for source in sources}


def _finished(store: Store, facts: Mapping[str, Any]) -> Pool | None:
    """Return the pool that is already there if it was read from `facts` and is intact."""
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
    """Scores and selections rest on the pool that is there: it must not vanish unasked."""
    changed = _changed_facts(store.manifest(MANIFEST) or facts, facts)
    if changed:
        raise UsageError(
            f"{store.root} holds a pool read from other data or by another version of pilotfish: "
            f"{', '.join(changed)} changed",
            hint="choose another --out, or pass --force to redo what depends on it",
        )


def _quarantine(store: Store, scan: Parser, exclude: frozenset[str], key: str) -> FirstPass:
    """First pass: fill a census and commit pool/quarantine.jsonl."""
    census = new_census(scan)
    with store.attempt(QUARANTINE_MANIFEST) as attempt:
        with attempt.path(QUARANTINE).open("w", encoding="utf-8") as handle:
            for item in count(scan, census, exclude):
                if isinstance(item, BadRecord):
                    _write_line(handle, item.line())
        counts = dict(sorted(census.quarantined.items()))
        attempt.meta = {"key": key, "rows_in": census.rows_in, "quarantined": counts}
    return census


def _check(census: FirstPass, max_bad_rate: float, data: str, where: str) -> None:
    check_rate(census.quarantined, census.rows_in, max_bad_rate, where)
    check_any(census.rows, census.dropped, census.rows_in, data)


def _where(store: Store) -> str:
    return f"Each is named in {store.root / QUARANTINE}."


def _commit(store: Store, scan: Parser, census: FirstPass, facts: dict[str, Any]) -> Pool:
    """Second pass: write the shards that are not there yet, then the manifest."""
    with store.attempt(MANIFEST) as attempt:
        with attempt.path(DROPPED).open("w", encoding="utf-8") as handle:
            kept = _kept(scan, census, handle)
            groups = enumerate(_cut(kept, facts["shard_rows"]))
            shards = [_shard(store, i, group, facts["key"]) for i, group in groups]
        _forget_beyond(store, len(shards))
        attempt.meta = {
            **facts,
            "rows": census.rows,
            "rows_in": census.rows_in,
            "quarantined": dict(sorted(census.quarantined.items())),
            "dropped": census.dropped,
            "fingerprint": census.fingerprint(),
            "warnings": census.warnings(),
            "shards": shards,
        }
    return Pool.open(store)


def _kept(scan: Parser, census: FirstPass, dropped: TextIO) -> Iterator[Example]:
    """The rows that stay, with their ids; a line in `dropped` for each that does not."""
    counted = 0
    try:
        for example, kept in census.identified(_valid(scan)):
            counted += 1
            if kept:
                yield example
            else:
                origin = {"id": example.id, "source": example.source, "row": example.row}
                _write_line(dropped, {**origin, "reason": "in_test"})
    except ChangedData as error:
        raise _changed(str(error)) from error
    if counted != census.rows + census.dropped:
        raise _changed(scan.sources[-1].name)


def _valid(scan: Parser) -> Iterator[Example]:
    return (item for item in scan.walk() if not isinstance(item, BadRecord))


def _changed(name: str) -> DataError:
    return DataError(
        f"{name} changed while it was being read", hint="run again when nobody writes to it"
    )


def _cut(examples: Iterable[Example], shard_rows: int) -> Iterator[list[Example]]:
    """Groups of `shard_rows` examples, fewer where their text grows too big for one shard."""
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


def _shard(store: Store, i: int, group: Sequence[Example], key: str) -> dict[str, Any]:
    """Commit one shard unless it is there and intact; its entry in the pool's manifest."""
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


def _forget_beyond(store: Store, shards: int) -> None:
    """Remove the shards of an earlier, longer read: readers glob for part-*.parquet."""
    for path in sorted(store.root.glob("pool/part-*.parquet")):
        if int(path.stem.removeprefix("part-")) >= shards:
            rel = path.relative_to(store.root)
            store.forget(rel.with_suffix(".json").as_posix())
            store.remove(rel.as_posix())


def _write_line(handle: TextIO, line: dict[str, Any]) -> None:
    handle.write(json.dumps(line, sort_keys=True, ensure_ascii=True) + "\n")
