"""The files of a selection: decisions.parquet, selected.jsonl and the entry in run.json.

This module also lists the results made from an older selection of the same name as stale.
"""

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
from pilotfish.data.pool import GroupedWriter, groups
from pilotfish.errors import UsageError
from pilotfish.methods.rankers import KEPT
from pilotfish.records import Floats, Ints, Selection, Texts
from pilotfish.selection.candidates import Candidates, ScoreColumn
from pilotfish.selection.topk import PickedRows, scores_sha
from pilotfish.store import Run

_NAME = re.compile(r"[A-Za-z0-9][\w.@\-]{0,127}", re.ASCII)  # a file name on any disk
# Entries of run.json that do not make a selection another one.
_INCIDENTAL = {"stale", "tokens"}


@dataclass(frozen=True, eq=False)
class SelectionDraft:
    """A selection before it is committed.

    Attributes:
        rows: The rows that it was picked from.
        name: The name of the selection and of its folder.
        scores: The scores that it was picked by.
        picked: The kept rows and the reasons of the others.
        budget: The budget as given.
        facts: Entries for run.json: method, direction, ceiling, seed, of, and the like.
    """

    rows: Candidates
    name: str
    scores: ScoreColumn
    picked: PickedRows
    budget: Budget
    facts: Mapping[str, Any]


def check_name(name: str) -> None:
    """Raise UsageError if a name cannot name a selection and its folder."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot name a selection",
            hint="use letters, digits, '_', '-', '.' and '@', beginning with a letter or digit",
        )


def manifest_of(name: str) -> str:
    """Return the path of a selection's manifest in the run folder."""
    return f"selections/{name}/manifest.json"


def commit(draft: SelectionDraft, *, force: bool) -> Selection:
    """Write selections/<name>/ and its entry in run.json; an equal selection is reused.

    Args:
        draft: The selection.
        force: Replace another selection of that name. The results made from the old one are then
            listed under `stale` in run.json.

    Raises:
        UsageError: The name belongs to another selection and `force` is off; the message lists
            what changed.
    """
    check_name(draft.name)
    run, name, picked = draft.rows.run, draft.name, draft.picked
    facts: dict[str, Any] = {
        **draft.facts,
        "score": draft.scores.column,
        "scores_sha": scores_sha(draft.scores),
        "pool": draft.rows.pool.fingerprint,
        "budget": draft.budget.text,
        "unit": draft.budget.unit,
        "requested": resolve(draft.budget, len(draft.rows)),  # counts `unit`
        "delivered": len(picked.kept),  # rows
        "tokens": picked.tokens,
        "rows_digest": picked.digest,
    }
    old = _recorded(run, name)
    changed = sorted(key for key in {*old, *facts} - _INCIDENTAL if old.get(key) != facts.get(key))
    if old and changed and not force:
        raise UsageError(
            f"{run.root} has another selection called '{name}': {', '.join(changed)} changed",
            hint="name the new one with --as, or pass --force to overwrite it",
        )
    lasting = dict(facts)
    outdated = built_on(run, name) if "rows_digest" in changed else []
    facts["stale"] = sorted({*old.get("stale", []), *outdated})
    found = run.store.manifest(manifest_of(name))
    if found is None or found["selection"] != lasting:
        folder = f"selections/{name}"
        with run.store.attempt(manifest_of(name)) as attempt:
            counts = write_files(
                draft,
                attempt.path(f"{folder}/decisions.parquet"),
                attempt.path(f"{folder}/selected.jsonl"),
                attempt.scratch("lines"),
            )
            attempt.meta = {"selection": lasting, "reasons": dict(sorted(counts.items()))}
        refresh(run, folder)
    if run.section("selections").get(name) != facts:
        run.update(selections={**run.section("selections"), name: facts})

    def decisions() -> tuple[Texts, Floats]:
        table = decisions_of(run, name, "reason", "score")
        if _recorded(run, name).get("rows_digest") != picked.digest:
            raise UsageError(
                f"another selection has replaced '{name}': the decisions of this one are gone",
                hint="read the decisions before the selection is replaced, or use another name",
            )
        score = table["score"].to_numpy().astype(np.float64)
        return np.array(table["reason"].to_pylist(), dtype=object), score

    return Selection(name, picked.kept, facts, decisions)


def _recorded(run: Run, name: str) -> dict[str, Any]:
    """The entry of the selection that has the name now; {} if there is none."""
    section: dict[str, Any] | None = run.section("selections").get(name)
    committed = run.store.read_json(manifest_of(name)) or {}
    return section or committed.get("selection", {})


def kept_of(run: Run, name: str) -> Ints:
    """Return [k] the pool indices of a committed selection, in pick order."""
    kept, ranks, start = list[Ints](), list[Ints](), 0
    for table in groups(_decisions_file(run, name), ["kept", "rank"]):
        here = np.flatnonzero(table["kept"].to_numpy())
        kept.append(here + start)
        ranks.append(table["rank"].take(pa.array(here)).to_numpy())
        start += len(table)
    return np.asarray(np.concatenate(kept)[np.argsort(np.concatenate(ranks))], dtype=np.int64)


def decisions_of(run: Run, name: str, *columns: str) -> pa.Table:
    """Read columns of decisions.parquet, or all of them if none is named, in pool order."""
    with pq.ParquetFile(_decisions_file(run, name)) as file:
        return file.read(columns=list(columns) or None)


def _decisions_file(run: Run, name: str) -> Path:
    """The path of decisions.parquet; UsageError with the missing command if there is none."""
    check_name(name)
    if run.store.read_json(manifest_of(name)) is None:
        known = ", ".join(sorted(run.section("selections"))) or "none"
        raise UsageError(
            f"{run.root} has no selection '{name}' (selections there: {known})",
            hint=f"pilotfish select {run.root} --method METHOD --budget 10% --as {name}",
        )
    run.store.require(manifest_of(name))
    return run.store.path(f"selections/{name}/decisions.parquet")


def built_on(run: Run, name: str) -> list[str]:
    """Return what was made from a selection: controls, models and their evaluations."""
    found = [
        f"selections/{other}"
        for other, facts in run.section("selections").items()
        if facts.get("of") == name
    ]
    for path in sorted((run.root / "train").glob("*/seed-*/manifest.json")):
        model = path.parent.relative_to(run.root).as_posix()
        if (run.store.read_json(f"{model}/manifest.json") or {}).get("selection") == name:
            found.append(model)
            evaluated = model.replace("train/", "judge/", 1)
            found += [evaluated] if run.store.path(f"{evaluated}.json").exists() else []
    return found


def stale(run: Run, built: str) -> bool:
    """Return whether a result was made from a selection that has since been replaced."""
    return any(built in facts.get("stale", []) for facts in run.section("selections").values())


def refresh(run: Run, built: str) -> None:
    """Remove a result that was just remade (`train/<arm>/seed-<n>`, `judge/...`) from `stale`."""
    if stale(run, built):
        left = {
            name: {**facts, "stale": [each for each in facts["stale"] if each != built]}
            for name, facts in run.section("selections").items()
        }
        run.update(selections=left)


def write_files(
    draft: SelectionDraft, decisions: Path, selected: Path, scratch: Path
) -> Counter[str]:
    """Write the two files of a selection.

    Args:
        draft: The selection.
        decisions: Path of decisions.parquet, one line per row of the pool.
        selected: Path of selected.jsonl, the kept records in pick order.
        scratch: Path of a temporary file.

    Returns:
        How many rows have each reason.
    """
    counts = Counter[str]()
    with GroupedWriter(decisions) as file:
        for table in _decision_tables(draft):
            counts.update(table["reason"].to_pylist())
            file.write(table)
    _write_records(draft.rows.pool, draft.picked.kept, selected, scratch)
    return counts


def _decision_tables(draft: SelectionDraft) -> Iterator[pa.Table]:
    """The decisions about the rows of every shard."""
    pool, kept = draft.rows.pool, draft.picked.kept
    order = np.argsort(kept)  # [k] ranks, in pool order
    shards = zip(pool.ranges, draft.scores.shards(), strict=True)
    for shard, ((start, stop), scores) in enumerate(shards):
        inside = order[slice(*np.searchsorted(kept, (start, stop), sorter=order))]
        rank = np.full(stop - start, -1, dtype=np.int64)
        rank[kept[inside] - start] = inside
        reason = draft.picked.reasons(start, scores)
        reason[rank >= 0] = KEPT
        origin = pool.table(shard, "id", "source", "row")
        yield pa.table(
            {
                "id": origin["id"].cast(pa.string()),
                "source": origin["source"].cast(pa.string()),
                "row": origin["row"],
                "kept": pa.array(rank >= 0, pa.bool_()),
                "rank": pa.array(rank, pa.int64(), mask=rank < 0),
                "reason": pa.array(reason, pa.string()),
                "score": pa.array(scores.values, pa.float64(), mask=np.isnan(scores.values)),
                "gain": pa.nulls(len(rank), pa.float64()),
                "nearest_kept_id": pa.array(draft.picked.nearest(start, stop), pa.string()),
            }
        )


def _write_records(pool: Pool, kept: Ints, target: Path, scratch: Path) -> None:
    """Write the records of the kept rows in pick order, with one shard in memory at a time.

    They are first written to `scratch` in pool order, so that every shard is read once.
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
