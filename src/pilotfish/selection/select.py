"""select: spend a budget on a score column; every row of the pool gets a decision and a reason.

Open the scores, rank them under the constraints, cut by the budget, re-measure fast scores near
the cut, write decisions.parquet and selected.jsonl.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from pilotfish.budget import Budget, parse_budget
from pilotfish.config import Method, parse_method
from pilotfish.data.run_pool import open_run
from pilotfish.errors import UsageError
from pilotfish.flops import RESUME
from pilotfish.methods import METHODS, Selector, make, same_scores
from pilotfish.progress import SILENT, Progress
from pilotfish.records import Selection
from pilotfish.run_context import RunContext
from pilotfish.scoring.cascade_rows import CASCADE, promise
from pilotfish.selection.candidates import candidates_of, no_such_score
from pilotfish.selection.constraints import NONE, Constraints
from pilotfish.selection.controls import Control, draft_control
from pilotfish.selection.files import SelectionDraft, check_name, commit
from pilotfish.selection.precision_audit import AuditTarget, audit_precision
from pilotfish.selection.topk import pick_rows
from pilotfish.store import Run, run_lock


@dataclass(frozen=True)
class SelectConfig:
    """How to select.

    Attributes:
        method: The METHOD, or the name of a score column, which stands for the method recorded
            there.
        budget: How much to keep, such as "10%", "500rows" or "2Mtokens".
        name: The name of the selection.
        score: The column of scores.parquet; by default the one of the method.
        direction: Which end to keep ("high", "low" or "middle"); by default the method's own.
        seed: The seed of methods that draw.
        allow_short: Keep fewer rows if too few are eligible.
        constraints: Whether duplicates are dropped, and quotas per group.
    """

    method: str | Method
    budget: str | Budget
    name: str = "selected"
    score: str | None = None
    direction: str | None = None
    seed: int = 0
    allow_short: bool = False
    constraints: Constraints = NONE


def select(
    root: str | Path, config: SelectConfig, *, force: bool = False, progress: Progress = SILENT
) -> Selection:
    """Select rows of a run and commit selections/<name>/, while holding the run's lock.

    Args:
        root: The run folder.
        config: How to select.
        force: Replace another selection of the same name.
        progress: Receives notes about re-measured rows.

    Raises:
        UsageError: A score or a direction is missing, the budget cannot be met, or another
            selection has the name and `force` is off (exit 2).
        RunBusy: Another process holds the lock (exit 75).
    """
    open_run(root)
    with run_lock(root) as store:
        return select_into(RunContext(Run(store.root), progress, force), config)


def select_into(context: RunContext, config: SelectConfig) -> Selection:
    """Select rows as `select` does, for a caller that holds the run's lock."""
    check_name(config.name)
    run, start = context.run, time.monotonic()
    draft = draft_selection(run, config, context.progress)
    before = run.section("selections").get(config.name)
    selection = commit(draft, force=context.force)
    fresh = before != run.section("selections").get(config.name)
    run.cost(
        "select" if fresh else RESUME,
        config.name,
        seconds=time.monotonic() - start,
        rows=len(draft.rows) if fresh else 0,
    )
    return selection


def draft_selection(run: Run, config: SelectConfig, progress: Progress = SILENT) -> SelectionDraft:
    """Select rows without committing anything."""
    constraints, allow_short = config.constraints, config.allow_short
    budget = parse_budget(config.budget) if isinstance(config.budget, str) else config.budget
    constraints.check_budget(budget)
    method, selector, column = resolve_method(run, config)
    ranker, rows = selector.ranker(), candidates_of(run)
    facts = {
        "method": method.text,
        "direction": selector.direction,
        "ceiling": getattr(selector, "ceiling", None),
        "seed": getattr(selector, "seed", None),
        "of": None,
    }
    if column is None:
        scores = rows.score_now(selector, method.text)
    else:
        scores, recorded = rows.score_column(column), run.section("scores")[column]
        if CASCADE in recorded:
            facts |= promise(run, column, ranker, budget, len(rows))
        precision = recorded.get("precision", "fp32")
        constraints.check_scores(column, precision, cascade=CASCADE in recorded)
        if precision != "fp32":
            target = AuditTarget(column, selector, ranker, budget, constraints, allow_short)
            scores, audit = audit_precision(rows, scores, target, progress=progress)
            facts |= {} if audit is None else {"audit": audit}
    picked = pick_rows(rows, scores, ranker, budget, constraints, allow_short=allow_short)
    return SelectionDraft(rows, config.name, scores, picked, budget, {**facts, **picked.facts})


def redraft(run: Run, name: str) -> SelectionDraft:
    """Make a committed selection again from its entry in run.json, without committing it."""
    facts = run.section("selections")[name]
    if facts.get("of") is not None:
        return draft_control(run, Control.recorded(facts), name)
    return draft_selection(run, recorded_config(run, name))


def recorded_config(run: Run, name: str) -> SelectConfig:
    """Return the config that makes a committed selection again, from its entry in run.json."""
    facts = run.section("selections")[name]
    config = SelectConfig(
        facts["method"],
        facts["budget"],
        name,
        score=facts["score"],
        seed=int(facts["seed"] or 0),
        allow_short=True,
        constraints=Constraints.recorded(facts),
    )
    # A direction that is the method's own must not be given: it would replace the method's ranker.
    if resolve_method(run, config)[1].direction == facts["direction"]:
        return config
    return replace(config, direction=facts["direction"])


def resolve_method(run: Run, config: SelectConfig) -> tuple[Method, Selector, str | None]:
    """Find the method, its selector and its score column.

    The column is `config.score`, else the column named like the METHOD, else the only column whose
    recorded method gives the same scores: settings that only rank, such as the direction, may
    differ. The direction is that of the column, unless the method or the config gives one.

    Returns:
        The method, the selector, and the name of the column: None for a method that needs no
        model, whose scores are computed on the spot.

    Raises:
        UsageError: No column, or several, have the scores of the method.
    """
    columns = run.section("scores")
    text = config.method.strip() if isinstance(config.method, str) else config.method.text
    score, direction = config.score, config.direction
    if text in columns and columns[text]["method"] != text:
        method, score = parse_method(columns[text]["method"]), score or text
    else:
        method = parse_method(config.method) if isinstance(config.method, str) else config.method
    seeded = with_seed(method, config.seed)
    if direction is None and "direction" not in method.args and _has_direction(method):
        recorded = columns.get(score or method.text, {}).get("direction")
        # Given explicitly, the method's own direction would replace the ranker of the method.
        direction = None if recorded == make(seeded).direction else recorded
    selector = make(seeded, direction)
    if score is None and selector.needs:
        score = method.text
        if score not in columns:
            score = _column_with_same_scores(run, method, selector)
    if score is not None and score not in columns:
        raise no_such_score(run, score)
    return method, selector, score


def with_seed(method: Method, seed: int) -> Method:
    """Return the method with a seed, if it draws and has none of its own."""
    kind = METHODS.get(method.name)
    if "seed" in method.args or "seed" not in getattr(kind, "__dataclass_fields__", {}):
        return method
    return Method(method.name, {**method.args, "seed": seed}, method.text)


def _has_direction(method: Method) -> bool:
    """Whether a direction can be chosen; `longest` has one as a class variable, not as a field."""
    kind: Any = METHODS.get(method.name)
    return not is_dataclass(kind) or "direction" in {field.name for field in fields(kind)}


def _column_with_same_scores(run: Run, method: Method, selector: Selector) -> str:
    columns: Mapping[str, Any] = run.section("scores")
    recorded = {name: parse_method(str(facts["method"])) for name, facts in columns.items()}
    names = [
        name
        for name, each in recorded.items()
        if each.name == method.name and same_scores(make(each), selector)
    ]
    if len(names) > 1:
        raise UsageError(
            f"{run.root} has several scores by {method.name}: {', '.join(names)}",
            hint=f"name one of them: --method '{names[0]}'",
        )
    if not names:
        raise no_such_score(run, method.text)
    return names[0]
