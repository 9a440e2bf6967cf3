"""A selection on disk: decisions.parquet, selected.jsonl, and what was built on an older one."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.budget import Budget, resolve
from pilotfish.errors import UsageError
from pilotfish.flows.candidates import Candidates, Scored
from pilotfish.pickers import KEPT, OVER_BUDGET, UNSCORABLE, Ranking
from pilotfish.records import Floats, Ints, Selection, Texts
from pilotfish.store import Run

_NAME = re.compile(r"[A-Za-z0-9][\w.\-]*")
# Facts that may change while the selection stays the same one.
_INCIDENTAL = {"stale", "tokens"}


@dataclass(frozen=True, eq=False)
class Pick:
    """What was picked, before it is committed."""

    name: str
    scored: Scored
    ranking: Ranking
    kept: Ints  # [k] pool indices, best first
    budget: Budget
    facts: Mapping[str, Any]  # method, direction, seed, of


def check_name(name: str) -> None:
    """A selection's name is also a folder's."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot name a selection",
            hint="use letters, digits, '_', '-' and '.', beginning with a letter or digit",
        )


def manifest_of(name: str) -> str:
    """Where a selection's manifest lies below the run."""
    return f"selections/{name}/manifest.json"


def commit(rows: Candidates, pick: Pick, *, force: bool) -> Selection:
    """Write selections/<name>/ and its line in run.json; the same selection again is reuse.

    UsageError (exit 2) naming what changed when another selection has the name, unless `force`;
    then what was built on the old one is listed under `stale` in run.json.
    """
    check_name(pick.name)
    run, facts, reason = rows.run, _facts(rows, pick), _reasons(pick)
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
        _write(rows, pick, facts, reason)
        freshen(run, f"selections/{pick.name}")
    if run.section("selections").get(pick.name) != facts:
        run.update(selections={**run.section("selections"), pick.name: facts})
    return Selection(pick.name, pick.kept, reason, pick.scored.values, facts)


def kept_of(run: Run, name: str) -> Ints:
    """[k] pool indices of a committed selection, in pick order."""
    table = decisions_of(run, name, "kept", "rank")
    kept = np.flatnonzero(table.column("kept").to_numpy(zero_copy_only=False))
    ranks = table.column("rank").to_numpy(zero_copy_only=False)[kept]
    return np.asarray(kept[np.argsort(ranks)], dtype=np.int64)


def decisions_of(run: Run, name: str, *columns: str) -> pa.Table:
    """Columns (all, when none is named) of one selection's decisions, in pool order."""
    check_name(name)
    if run.store.read_json(manifest_of(name)) is None:
        known = ", ".join(sorted(run.section("selections"))) or "none"
        raise UsageError(
            f"{run.root} has no selection '{name}' (selections there: {known})",
            hint=f"pilotfish select {run.root} --method METHOD --budget 10% --as {name}",
        )
    run.store.require(manifest_of(name))
    with pq.ParquetFile(run.store.path(f"selections/{name}/decisions.parquet")) as file:
        return file.read(columns=list(columns) or None)


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


def freshen(run: Run, built: str) -> None:
    """Take what was just made anew (`train/<arm>/seed-<n>`, `judge/...`) off every stale list."""
    if stale(run, built):
        left = {
            name: {**facts, "stale": [each for each in facts["stale"] if each != built]}
            for name, facts in run.section("selections").items()
        }
        run.update(selections=left)


def _facts(rows: Candidates, pick: Pick) -> dict[str, Any]:
    """The line in run.json: `requested` counts `unit`, `delivered` rows, `tokens` their tokens."""
    tokens = None if rows.tokens is None else int(rows.tokens[pick.kept].sum())
    lines = "\n".join(f"{rows.id[i]}\t{rows.digest[i]}" for i in pick.kept)
    return {
        **pick.facts,
        "score": pick.scored.column,
        "scores_sha": _sha(pick.scored.values),
        "pool": rows.pool.fingerprint,
        "budget": pick.budget.text,
        "unit": pick.budget.unit,
        "requested": resolve(pick.budget, len(rows)),
        "delivered": len(pick.kept),
        "tokens": tokens,
        "rows_digest": hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest(),
    }


def _sha(values: Floats) -> str:
    """sha256 over the scores in pool order: columns added beside them do not change it."""
    plain = np.where(np.isnan(values), np.nan, values).astype("<f8")
    return hashlib.sha256(plain.tobytes()).hexdigest()


def _reasons(pick: Pick) -> Texts:
    """[n] the code of every row, `unscorable` made precise: `unscorable:empty_response`."""
    precise = np.array([f"{UNSCORABLE}:{why}" for why in pick.scored.why], dtype=object)
    reason = np.where(pick.ranking.reason == UNSCORABLE, precise, pick.ranking.reason)
    reason[pick.ranking.order] = OVER_BUDGET
    reason[pick.kept] = KEPT
    return reason


def _old(run: Run, name: str) -> dict[str, Any]:
    """Facts of the selection that has the name now; {} where there is none."""
    section: dict[str, Any] | None = run.section("selections").get(name)
    committed = run.store.read_json(manifest_of(name)) or {}
    return section or committed.get("selection", {})


def _lasting(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if key != "stale"}


def _write(rows: Candidates, pick: Pick, facts: Mapping[str, Any], reason: Texts) -> None:
    folder = f"selections/{pick.name}"
    with rows.run.store.attempt(manifest_of(pick.name)) as attempt:
        table = _decisions(rows, pick, reason)
        pq.write_table(table, attempt.path(f"{folder}/decisions.parquet"), compression="zstd")
        lines = "".join(f"{line}\n" for line in rows.pool.raw(pick.kept))
        attempt.path(f"{folder}/selected.jsonl").write_text(lines, encoding="utf-8")
        counts = Counter(str(each) for each in reason)
        attempt.meta = {"selection": _lasting(facts), "reasons": dict(sorted(counts.items()))}


def _decisions(rows: Candidates, pick: Pick, reason: Texts) -> pa.Table:
    rank = np.full(len(rows), -1, dtype=np.int64)
    rank[pick.kept] = np.arange(len(pick.kept))
    values = pick.scored.values
    return pa.table(
        {
            "id": pa.array(rows.id, pa.string()),
            "source": pa.array(rows.source, pa.string()),
            "row": pa.array(rows.row, pa.int64()),
            "kept": pa.array(rank >= 0, pa.bool_()),
            "rank": pa.array(rank, pa.int64(), mask=rank < 0),
            "reason": pa.array(reason, pa.string()),
            "score": pa.array(values, pa.float64(), mask=np.isnan(values)),
            "gain": pa.nulls(len(rows), pa.float64()),
            "nearest_kept_id": pa.nulls(len(rows), pa.string()),
        }
    )
