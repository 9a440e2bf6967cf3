"""A selection on disk: decisions.parquet, selected.jsonl, and what was built on an older one."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.budget import Budget, resolve
from pilotfish.data import Pool
from pilotfish.data.row_groups import GroupedWriter, groups
from pilotfish.errors import UsageError
from pilotfish.methods.rankers import KEPT
from pilotfish.records import Floats, Ints, Selection, Texts
from pilotfish.selection.candidates import Candidates, ScoredRow
from pilotfish.selection.topk import TopK, scores_sha
from pilotfish.store import Run

_NAME = re.compile(r"[A-Za-z0-9][\w.@\-]{0,127}", re.ASCII)  # a file name on any disk
# Facts that may change while the selection stays the same one.
_INCIDENTAL = {"stale", "tokens"}


@dataclass(frozen=True, eq=False)
class SelectionFacts:
    """What was picked, before it is committed."""

    name: str
    scored: ScoredRow
    choice: TopK
    budget: Budget
    facts: Mapping[str, Any]  # method, direction, seed, of


def check_name(name: str) -> None:
    """A selection's name is also a folder's."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot name a selection",
            hint="use letters, digits, '_', '-', '.' and '@', beginning with a letter or digit",
        )


def manifest_of(name: str) -> str:
    """Where a selection's manifest lies below the run."""
    return f"selections/{name}/manifest.json"


def commit(rows: Candidates, pick: SelectionFacts, *, force: bool) -> Selection:
    """Write selections/<name>/ and its line in run.json; the same selection again is reuse.

    UsageError (exit 2) naming what changed when another selection has the name, unless `force`;
    then what was built on the old one is listed under `stale` in run.json.
    """
    check_name(pick.name)
    run, facts = rows.run, _facts(rows, pick)
    old = _old(run, pick.name)
    changed = sorted(key for key in {*old, *facts} - _INCIDENTAL if old.get(key) != facts.get(key))
    if old and changed and not force:
        raise UsageError(
            f"{run.root} has another selection called '{pick.name}': {', '.join(changed)} changed",
            hint="name the new one with --as, or pass --force to overwrite it",
        )
    facts["stale"] = sorted(
        {*old.get("stale", []), *(built_on(run, pick.name) if "rows_digest" in changed else ())}
    )
    found = run.store.manifest(manifest_of(pick.name))
    if found is None or found["selection"] != _lasting(facts):
        _write(rows, pick, facts)
        refresh(run, f"selections/{pick.name}")
    if run.section("selections").get(pick.name) != facts:
        run.update(selections={**run.section("selections"), pick.name: facts})
    digest = facts["rows_digest"]
    return Selection(pick.name, pick.choice.kept, facts, lambda: _decided(run, pick.name, digest))


def kept_of(run: Run, name: str) -> Ints:
    """[k] pool indices of a committed selection, in pick order."""
    kept, ranks, start = list[Ints](), list[Ints](), 0
    for table in groups(_decisions_file(run, name), ["kept", "rank"]):
        here = np.flatnonzero(table["kept"].to_numpy())
        kept.append(here + start)
        ranks.append(table["rank"].take(pa.array(here)).to_numpy())
        start += len(table)
    return np.asarray(np.concatenate(kept)[np.argsort(np.concatenate(ranks))], dtype=np.int64)


def decisions_of(run: Run, name: str, *columns: str) -> pa.Table:
    """Columns (all, when none is named) of one selection's decisions, in pool order."""
    with pq.ParquetFile(_decisions_file(run, name)) as file:
        return file.read(columns=list(columns) or None)


def _decisions_file(run: Run, name: str) -> Path:
    """Where the decisions lie; UsageError, with the missing step, where there are none."""
    check_name(name)
    if run.store.read_json(manifest_of(name)) is None:
        known = ", ".join(sorted(run.section("selections"))) or "none"
        raise UsageError(
            f"{run.root} has no selection '{name}' (selections there: {known})",
            hint=f"pilotfish select {run.root} --method METHOD --budget 10% --as {name}",
        )
    run.store.require(manifest_of(name))
    return run.store.path(f"selections/{name}/decisions.parquet")


def _decided(run: Run, name: str, digest: str) -> tuple[Texts, Floats]:
    """Reason and score of every row; UsageError where the name holds another selection by now."""
    table = decisions_of(run, name, "reason", "score")
    if _old(run, name).get("rows_digest") != digest:
        raise UsageError(f"'{name}' was made anew: this selection is on disk no more")
    score = table["score"].to_numpy().astype(np.float64)
    return np.array(table["reason"].to_pylist(), dtype=object), score


def built_on(run: Run, name: str) -> list[str]:
    """What was made from a selection: models, their judgements, controls drawn to it."""
    found = [
        f"selections/{other}"
        for other, facts in run.section("selections").items()
        if facts.get("of") == name
    ]
    for path in sorted((run.root / "train").glob("*/seed-*/manifest.json")):
        model = path.parent.relative_to(run.root).as_posix()
        if (run.store.read_json(f"{model}/manifest.json") or {}).get("selection") == name:
            found.append(model)
            judged = model.replace("train/", "judge/", 1)
            found += [judged] if run.store.path(f"{judged}.json").exists() else []
    return found


def stale(run: Run, built: str) -> bool:
    """Whether something was made from a selection that has been made anew since."""
    return any(built in facts.get("stale", []) for facts in run.section("selections").values())


def refresh(run: Run, built: str) -> None:
    """Take what was just made anew (`train/<arm>/seed-<n>`, `judge/...`) off every stale list."""
    if stale(run, built):
        left = {
            name: {**facts, "stale": [each for each in facts["stale"] if each != built]}
            for name, facts in run.section("selections").items()
        }
        run.update(selections=left)


def _facts(rows: Candidates, pick: SelectionFacts) -> dict[str, Any]:
    """The line in run.json: `requested` counts `unit`, `delivered` rows, `tokens` their tokens."""
    return {
        **pick.facts,
        "score": pick.scored.column,
        "scores_sha": scores_sha(pick.scored),
        "pool": rows.pool.fingerprint,
        "budget": pick.budget.text,
        "unit": pick.budget.unit,
        "requested": resolve(pick.budget, len(rows)),
        "delivered": len(pick.choice.kept),
        "tokens": pick.choice.tokens,
        "rows_digest": pick.choice.digest,
    }


def _old(run: Run, name: str) -> dict[str, Any]:
    """Facts of the selection that has the name now; {} where there is none."""
    section: dict[str, Any] | None = run.section("selections").get(name)
    committed = run.store.read_json(manifest_of(name)) or {}
    return section or committed.get("selection", {})


def _lasting(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if key != "stale"}


def _write(rows: Candidates, pick: SelectionFacts, facts: Mapping[str, Any]) -> None:
    folder = f"selections/{pick.name}"
    with rows.run.store.attempt(manifest_of(pick.name)) as attempt:
        counts = write_files(
            rows, pick, attempt.path(f"{folder}/decisions.parquet"),
            attempt.path(f"{folder}/selected.jsonl"), attempt.scratch("lines"),
        )  # fmt: skip
        attempt.meta = {"selection": _lasting(facts), "reasons": dict(sorted(counts.items()))}


def write_files(
    rows: Candidates, pick: SelectionFacts, decisions: Path, selected: Path, scratch: Path
) -> Counter[str]:
    """Write the two files of a selection; how many rows each reason has."""
    counts = Counter[str]()
    with GroupedWriter(decisions) as file:
        for table in _decisions(rows, pick):
            counts.update(table["reason"].to_pylist())
            file.write(table)
    _write_lines(rows.pool, pick.choice.kept, selected, scratch)
    return counts


def _decisions(rows: Candidates, pick: SelectionFacts) -> Iterator[pa.Table]:
    """What became of the rows of every shard."""
    kept = pick.choice.kept
    order = np.argsort(kept)  # [k] ranks, in pool order
    parts = zip(rows.pool.ranges, pick.scored.parts(), strict=True)
    for shard, ((start, stop), part) in enumerate(parts):
        inside = order[slice(*np.searchsorted(kept, (start, stop), sorter=order))]
        rank = np.full(stop - start, -1, dtype=np.int64)
        rank[kept[inside] - start] = inside
        reason = pick.choice.reasons(start, part)
        reason[rank >= 0] = KEPT
        nearest = pa.array(pick.choice.nearest(start, stop), pa.string())
        origin = rows.pool.table(shard, "id", "source", "row")
        yield _table(origin, rank, reason, part.values, nearest)


def _table(
    origin: pa.Table, rank: Ints, reason: Texts, values: Floats, nearest: pa.Array
) -> pa.Table:
    return pa.table(
        {
            "id": origin["id"].cast(pa.string()),
            "source": origin["source"].cast(pa.string()),
            "row": origin["row"],
            "kept": pa.array(rank >= 0, pa.bool_()),
            "rank": pa.array(rank, pa.int64(), mask=rank < 0),
            "reason": pa.array(reason, pa.string()),
            "score": pa.array(values, pa.float64(), mask=np.isnan(values)),
            "gain": pa.nulls(len(rank), pa.float64()),
            "nearest_kept_id": nearest,
        }
    )


def _write_lines(pool: Pool, kept: Ints, target: Path, scratch: Path) -> None:
    """The records of the kept rows in pick order, by way of a file in pool order: a shard is read
    once, and no more than one is in memory.
    """
    order = np.argsort(kept)
    ends = np.zeros(len(kept), dtype=np.int64)  # [k] where the line of each kept row ends
    size = 0
    with scratch.open("w+b") as lines, target.open("wb") as out:
        for start, stop in pool.ranges:
            inside = order[slice(*np.searchsorted(kept, (start, stop), sorter=order))]
            for rank, text in zip(inside, pool.raw(kept[inside]), strict=True):
                size += lines.write(f"{text}\n".encode())
                ends[rank] = size
        begins = np.zeros_like(ends)
        begins[order[1:]] = ends[order[:-1]]
        for begin, end in zip(begins, ends, strict=True):
            lines.seek(int(begin))
            out.write(lines.read(int(end - begin)))
