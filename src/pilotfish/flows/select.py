"""select: a score column, a picker and a budget become a selection, with a reason for every row."""

import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.budget import Budget, parse_budget, take
from pilotfish.config import Method
from pilotfish.flows.candidates import Candidates, Scored, candidates_of, column_of
from pilotfish.flows.reading import existing
from pilotfish.flows.selection import Pick, check_name, commit, kept_of
from pilotfish.pickers import LengthMatched, Random, Ranking
from pilotfish.pickers.length_matched import length_bins
from pilotfish.pickers.random import draws
from pilotfish.records import Selection
from pilotfish.selectors import SELECTORS
from pilotfish.selectors.protocol import NO_RESPONSE
from pilotfish.store import Run, run_lock


def select(
    root: str | Path,
    *,
    method: str | Method,
    budget: str | Budget,
    name: str = "selected",
    score: str | None = None,
    direction: str | None = None,
    seed: int = 0,
    allow_short: bool = False,
    force: bool = False,
) -> Selection:
    """Pick from a run and commit selections/<name>/, holding the run's lock.

    `score` names a column of scores.parquet; by default the one of METHOD. `seed` serves methods
    that draw. Raises UsageError (exit 2) for a missing score or direction, a budget that cannot
    be met, and a name already taken by another selection (unless `force`); RunBusy (75).
    """
    existing(root)
    with run_lock(root) as store:
        return select_into(
            Run(store.root), method=method, budget=budget, name=name, score=score,
            direction=direction, seed=seed, allow_short=allow_short, force=force,
        )  # fmt: skip


def select_into(
    run: Run,
    *,
    method: str | Method,
    budget: str | Budget,
    name: str = "selected",
    score: str | None = None,
    direction: str | None = None,
    seed: int = 0,
    allow_short: bool = False,
    force: bool = False,
) -> Selection:
    """`select` for a caller that holds the run's lock."""
    check_name(name)
    start = time.monotonic()
    wanted = parse_budget(budget) if isinstance(budget, str) else budget
    method, selector, column = column_of(run, method, score=score, direction=direction, seed=seed)
    picker = selector.picker()
    rows = candidates_of(run)
    scored = rows.scored(column) if column else rows.score_now(selector, method.text)
    ranking = picker.rank(scored.values, rows.tie)
    kept = take(ranking.order, wanted, len(rows), tokens=rows.tokens, allow_short=allow_short)
    facts = {
        "method": method.text,
        "direction": selector.direction,
        "ceiling": getattr(selector, "ceiling", None),
        "seed": getattr(selector, "seed", None),
        "of": None,
    }
    selection = commit(rows, Pick(name, scored, ranking, kept, wanted, facts), force=force)
    run.cost("select", name, seconds=time.monotonic() - start, rows=len(rows))
    return selection


def random_control(
    run: Run, *, to: str = "selected", seed: int = 0, name: str | None = None, force: bool = False
) -> Selection:
    """As many rows as the selection `to`, drawn from the whole pool (the caller holds the lock)."""
    rows = candidates_of(run)
    scored = Scored(None, draws(rows.id, seed), np.full(len(rows), "", dtype=object))
    ranking = Random(rows.id, seed).rank(scored.values, rows.tie)
    facts = {"method": "random", "direction": None, "seed": seed, "of": to}
    return _control(rows, name or f"random-{seed}", scored, ranking, facts, force=force)


def length_matched(
    run: Run, *, to: str = "selected", seed: int = 0, name: str | None = None, force: bool = False
) -> Selection:
    """Rows drawn to the source and response-length counts of `to` (the caller holds the lock).

    Disjoint from `to` where the pool allows it; run.json counts `borrowed` and `overlapping`.
    """
    rows = candidates_of(run)
    lengths = rows.need_counts("the length-matched control")[1]
    drawn = np.where(lengths > 0, draws(rows.id, seed), np.nan)
    scored = Scored(None, drawn, np.where(lengths > 0, "", NO_RESPONSE).astype(object))
    matched = LengthMatched(kept_of(run, to), rows.source, length_bins(lengths))
    ranking = matched.rank(drawn, rows.tie)
    facts = {"method": "length_matched", "direction": None, "seed": seed, "of": to}
    facts |= ranking.notes
    return _control(rows, name or f"length_matched-{seed}", scored, ranking, facts, force=force)


def longest_control(
    run: Run, *, to: str = "selected", name: str = "longest", force: bool = False
) -> Selection:
    """As many rows as `to`, the longest responses first (the caller holds the lock)."""
    rows, longest = candidates_of(run), SELECTORS["longest"]()
    scored = rows.score_now(longest, "the longest control")
    ranking = longest.picker().rank(scored.values, rows.tie)
    facts = {"method": "longest", "direction": "high", "seed": None, "of": to}
    return _control(rows, name, scored, ranking, facts, force=force)


def _control(
    rows: Candidates,
    name: str,
    scored: Scored,
    ranking: Ranking,
    facts: Mapping[str, Any],
    *,
    force: bool,
) -> Selection:
    """Commit a control at the size of the selection it stands beside (`facts["of"]`)."""
    budget = Budget("rows", Decimal(len(kept_of(rows.run, facts["of"]))))
    kept = take(ranking.order, budget, len(rows))
    return commit(rows, Pick(name, scored, ranking, kept, budget, facts), force=force)
