"""select: a score column, a ranker and a budget become a selection, with a reason for every row."""

import time
from pathlib import Path
from typing import Any

from pilotfish.budget import Budget, parse_budget
from pilotfish.config import Method
from pilotfish.data.run_pool import open_run
from pilotfish.flops import RESUME
from pilotfish.progress import SILENT, Progress
from pilotfish.records import Selection
from pilotfish.scoring.cascade_rows import promise
from pilotfish.scoring.weak_model import precision_of
from pilotfish.selection.candidates import Candidates, candidates_of
from pilotfish.selection.constraints import NONE, Constraints, describe, spend
from pilotfish.selection.controls import control_again
from pilotfish.selection.files import SelectionFacts, check_name, commit
from pilotfish.selection.precision_audit import AuditTarget, audit_precision
from pilotfish.selection.resolve import column_of, direction_of
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
    limits: Constraints = NONE,
    force: bool = False,
    progress: Progress = SILENT,
) -> Selection:
    """Pick from a run and commit selections/<name>/, holding the run's lock.

    `score` names a column of scores.parquet; by default the one of METHOD. `seed` serves methods
    that draw; `limits` for copies and groups. Raises UsageError (exit 2) for a missing score or
    direction, a budget that cannot be met, and a name already taken by another selection (unless
    `force`); RunBusy (75).
    """
    open_run(root)
    with run_lock(root) as store:
        return select_into(
            Run(store.root), method=method, budget=budget, name=name, score=score,
            direction=direction, seed=seed, allow_short=allow_short, limits=limits, force=force,
            progress=progress,
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
    limits: Constraints = NONE,
    force: bool = False,
    progress: Progress = SILENT,
) -> Selection:
    """`select` for a caller that holds the run's lock."""
    check_name(name)
    start = time.monotonic()
    rows, made = chosen(
        run, method, budget, name, score=score, direction=direction, seed=seed,
        allow_short=allow_short, limits=limits, progress=progress,
    )  # fmt: skip
    before = run.section("selections").get(name)
    selection = commit(rows, made, force=force)
    fresh = before != run.section("selections").get(name)
    took = time.monotonic() - start
    run.cost("select" if fresh else RESUME, name, seconds=took, rows=len(rows) if fresh else 0)
    return selection


def chosen(
    run: Run,
    method: str | Method,
    budget: str | Budget,
    name: str,
    *,
    score: str | None = None,
    direction: str | None = None,
    seed: int = 0,
    allow_short: bool = False,
    limits: Constraints = NONE,
    progress: Progress = SILENT,
) -> tuple[Candidates, SelectionFacts]:
    """What `select` would commit, and the rows it is picked from."""
    wanted = parse_budget(budget) if isinstance(budget, str) else budget
    limits.check_budget(wanted)
    method, selector, column = column_of(run, method, score=score, direction=direction, seed=seed)
    ranker = selector.ranker()
    rows = candidates_of(run)
    scored = rows.scored(column) if column else rows.score_now(selector, method.text)
    audited, cascade = None, dict[str, Any]()
    if column is not None:
        cascade = promise(run, column, ranker, wanted, len(rows))
        limits.check_scores(column, precision_of(run, column), bool(cascade))
        what = AuditTarget(column, selector, ranker, wanted, limits, allow_short)
        scored, audited = audit_precision(rows, scored, what, progress=progress)
    choice = spend(rows, scored, ranker, wanted, limits, allow_short=allow_short)
    facts = {
        "method": method.text,
        "direction": selector.direction,
        "ceiling": getattr(selector, "ceiling", None),
        "seed": getattr(selector, "seed", None),
        "of": None,
        **({} if audited is None else {"audit": audited}),
        **cascade,
        **describe(choice),
    }
    return rows, SelectionFacts(name, scored, choice, wanted, facts)


def redo_selection(run: Run, name: str) -> tuple[Candidates, SelectionFacts]:
    """A selection as its line in run.json says it was made, from what stands in the run now.

    Nothing is committed.
    """
    facts = run.section("selections")[name]
    if facts.get("of") is not None:
        return candidates_of(run), control_again(run, name, facts)
    return chosen(
        run, facts["method"], facts["budget"], name, score=facts["score"],
        direction=direction_of(run, facts), seed=int(facts["seed"] or 0), allow_short=True,
        limits=Constraints.again(facts),
    )  # fmt: skip
