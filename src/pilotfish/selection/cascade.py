"""score --cascade: a cheaper model reads every row, the intended one only where its picks may lie.

It aims at a recall of the intended model's picks and measures what came of it; the rows are never
said to be the same. What is passed on is committed before the intended model reads a shard, so that
a run taken up again goes on with the very same rows.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotfish.config import Method
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.data import Pool
from pilotfish.data.run_pool import warn
from pilotfish.engine.executors.launch import LOCAL, ExecutorConfig, passes, threads_of
from pilotfish.errors import UsageError
from pilotfish.extras import need_torch
from pilotfish.flops import known, reading_flops
from pilotfish.methods import Selector, make
from pilotfish.progress import SILENT, Progress
from pilotfish.records import Floats, Ints
from pilotfish.run_context import RunContext
from pilotfish.scoring.audit import Cuts, cascade_facts, cuts_of, spearman
from pilotfish.scoring.audit import cascade as maths
from pilotfish.scoring.cascade_rows import (
    CASCADE,
    CascadeConfig,
    CascadeRows,
    read_cascade_rows,
    write_cascade_rows,
)
from pilotfish.scoring.score import add_scores, measure
from pilotfish.scoring.setup import ScoreSetup, check_columns, open_inputs, prepare_scoring
from pilotfish.scoring.weak_model import weak_model
from pilotfish.scoring.write import CostTracker, write_scores
from pilotfish.selection.candidates import candidates_of
from pilotfish.selection.topk import GatheredScores, gathered
from pilotfish.store import Run, run_lock

if TYPE_CHECKING:
    from pilotfish.models import Loaded

CONFIDENCE = 0.95  # that it is reached
_SAVES_LITTLE = 0.5  # share of rows read by the intended model that deserves a warning


@dataclass(frozen=True, eq=False)
class _Column:
    """One column in the making."""

    run: Run
    pool: Pool
    name: str
    selector: Selector
    cuts: Cuts
    cheaper: CascadeConfig
    seed: int  # of every draw

    @property
    def cheap(self) -> str:
        """The column of the cheaper model."""
        return cheap_name(self.name)

    def values(self, column: str) -> Floats:
        """[n] of a column that stands, nan where unscorable."""
        parts = candidates_of(self.run).scored(column).parts()
        return np.concatenate([part.values for part in parts])


def cheap_name(name: str) -> str:
    """The column of the cheaper model, beside the one it serves."""
    return f"{name}@cheap"


def score_cascade(
    out: str,
    source: Source,
    config: ScoreConfig,
    cheaper: CascadeConfig,
    *,
    executor: ExecutorConfig = LOCAL,
    force: bool = False,
    progress: Progress = SILENT,
) -> Run:
    """`score` by two models: columns NAME@cheap of all rows, and NAME of those passed on.

    The others have no score, for the reason `cascade_skipped`. Trusted rows tune the intended
    model alone. UsageError (exit 2) for what has no fixed number of picks from one end.
    """
    need_torch("scoring")
    direction, columns = config.direction, config.columns()
    cuts = {name: _cuts(method, direction, cheaper) for name, method in columns.items()}
    _check_executor(executor)
    seed = config.seed if config.stream is None else config.stream
    with run_lock(out) as store:
        ctx = RunContext(Run(store.root), progress, force)
        pool, weak = open_inputs(ctx, source, config)
        made_from = _add_cheap(ctx, pool, weak, config, cheaper, executor)
        for name, method in columns.items():
            selector = make(method, direction)
            column = _Column(ctx.run, pool, name, selector, cuts[name], cheaper, seed)
            one = replace(config, methods=[method], names=[name], cascade=made_from)
            begun = prepare_scoring(ctx, pool, weak, one, executor.processes(weak))
            _add_passed(column, begun, executor)
        ctx.run.update(status="scored")
    return ctx.run


def _cuts(method: Method, direction: str | None, cheaper: CascadeConfig) -> Cuts:
    """Where the picks end; UsageError, before anything is spent, where a cascade has no meaning."""
    cheaper.check()
    selector = make(method, direction)
    if not selector.needs or selector.pool_relative:
        why = "looks at every row of the pool" if selector.needs else "needs no model"
        raise UsageError(
            f"{method.text} {why}, so a cascade has nothing to spare",
            hint="leave out --cascade",
        )
    cuts = cuts_of(selector.ranker(), cheaper.budget, tokens=np.zeros(0, np.int64))
    maths.check(cuts)
    return cuts


def _check_executor(executor: ExecutorConfig) -> None:
    executor.check()
    if executor.executor == "ranks":
        raise UsageError(
            "a cascade is planned between two measurements, which ranks cannot agree on",
            hint="use --executor local (with --workers N) or ray",
        )


def _add_cheap(
    ctx: RunContext,
    pool: Pool,
    weak: "Loaded",
    config: ScoreConfig,
    cheaper: CascadeConfig,
    executor: ExecutorConfig,
) -> dict[str, Any]:
    """Score all rows with the cheaper model; what decides the rows passed on, for run.json.

    Its format is not checked against fp32: the calibration sees whatever it gets wrong.
    """
    columns = config.columns()
    cheap_config = replace(
        config,
        weak=cheaper.model,
        names=[cheap_name(name) for name in columns],
        trusted=None,
        section="cheap",
    )
    cheap = weak_model(ctx, cheap_config)
    made_from = {
        "cheap": cheap.digest, "budget": cheaper.budget.text, "recall": cheaper.recall,
    }  # fmt: skip
    planned = {name: {"weak": weak.digest, CASCADE: made_from} for name in columns}
    check_columns(ctx, planned)
    if cheap.parameters > weak.parameters:
        warn(
            ctx.run,
            [f"the cascade's {cheap.name} has more parameters ({cheap.parameters:,}) than "
             f"{weak.name} ({weak.parameters:,}), which it is to spare"],
        )  # fmt: skip
    ctx.progress.note(f"scoring every row with {cheap.name}")
    add_scores(ctx, pool, cheap, cheap_config, executor)
    return made_from


def _add_passed(column: _Column, begun: ScoreSetup, executor: ExecutorConfig) -> None:
    """Calibrate, score the rows passed on, and measure the recall."""
    ctx, run = begun.ctx, column.run
    costs = CostTracker(run, [column.name])
    some = gathered(
        candidates_of(run), candidates_of(run).scored(column.cheap), column.cuts.ranker, None
    )
    passing, calibrated = _passing(column, begun, some, ctx.progress)
    # the plan's own batches: the calibration was measured in them
    spec = replace(
        begun.spec, only=passing.name, token_budget=passing.token_budget, threads=passing.threads
    )
    if calibrated:
        costs.record(rows=0, **calibrated)
    share = passing.scored.mean()
    ctx.progress.note(f"{column.name}: {begun.weak.name} reads {share:.0%} of the rows")
    plan = measure(replace(begun, spec=spec), executor, costs, passing.scored)
    write_scores(ctx, column.pool, plan)
    costs.record_rest()
    _tell(column, begun, passing, some)


def _passing(
    column: _Column, begun: ScoreSetup, some: GatheredScores, progress: Progress
) -> tuple[CascadeRows, dict[str, float]]:
    """The rows passed on, as committed or planned now, and what planning cost."""
    facts = {
        "pool": column.pool.fingerprint,
        "cheap": column.run.section("scores")[column.cheap]["keys"],
        "scores": hashlib.sha256(some.scores.tobytes()).hexdigest(),
        "intended": begun.weak.digest,
        "precision": begun.weak.precision,
        "device": begun.weak.device.type,
        "max_length": begun.spec.max_length,
        "method": begun.plan.columns[column.name]["method"],
        "ranker": repr(column.cuts.ranker),
        "budget": column.cheaper.budget.text,
        "recall": column.cheaper.recall,
        "seed": column.seed,
    }
    name = "cascades/" + hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    if (found := read_cascade_rows(column.run.store, name)) is not None:
        return found, {}
    tie, n = some.tie, len(column.pool)
    calibration, audit = maths.sizes(column.cuts, n)
    rows = maths.draw(tie, calibration, seed=column.seed)
    progress.note(f"{column.name}: calibrating on {len(rows):,} rows")
    intended, spent = _look(column, begun, rows)
    cascade = maths.plan(
        some.scores, tie, column.cuts, rows, intended, target=column.cheaper.recall,
        confidence=CONFIDENCE, seed=column.seed + 2,
    )  # fmt: skip
    audited = maths.draw(tie, audit, seed=column.seed + 1, among=~cascade.passed)
    passing = CascadeRows(
        name, cascade, audited, rows, begun.spec.token_budget or 0, begun.spec.threads
    )
    write_cascade_rows(column.run.store, passing, facts)
    return passing, spent


def _look(column: _Column, begun: ScoreSetup, rows: Ints) -> tuple[Floats, dict[str, float]]:
    """The intended model's scores of some rows [m], in the batches it will have, and the cost."""
    from pilotfish.engine.in_memory import InMemoryScorer

    spec = begun.spec
    assert spec.token_budget is not None  # `start` has fixed it
    with threads_of(spec):
        look = InMemoryScorer(
            begun.weak, spec.needs, max_length=spec.max_length, token_budget=spec.token_budget
        )
        seen = look(column.pool.take(rows))
    lengths = (seen.n_prompt_tokens + seen.n_response_tokens).repeat(passes(spec.needs))
    flops = reading_flops(begun.weak, lengths)
    spent = known(tokens=float(lengths.sum()), flops=flops)
    return np.asarray(column.selector.score(seen), dtype=np.float64), spent


def _tell(column: _Column, begun: ScoreSetup, passing: CascadeRows, some: GatheredScores) -> None:
    """Measure the recall by the audited rows and write everything into run.json."""
    run, cascade, seed = column.run, passing.cascade, column.seed
    intended = column.values(column.name)
    found = maths.recall(cascade, some.tie, column.cuts, intended, passing.audited)
    cheap = run.section("cheap")["name"]
    facts = cascade_facts(cascade, found, cheap=cheap, intended=begun.weak.name, seed=seed)
    facts |= {
        "budget": column.cheaper.budget.text,
        "ranker": repr(column.cuts.ranker),
        "plan": passing.name,
        "scored": int(passing.scored.sum()),
        "agreement": _agreement(some.scores, intended, passing.calibration),
    }
    scores = run.section("scores")
    run.update(scores={**scores, column.name: {**scores[column.name], "cascade": facts}})
    if passing.scored.mean() > _SAVES_LITTLE:
        why = (
            "its pool is too small for this budget: no sample shows what could be left out"
            if cascade.everything
            else "its two models agree too little, or its pool is small for this budget"
        )
        warn(
            run,
            [f"the cascade of '{column.name}' saves little, for {begun.weak.name} read "
             f"{passing.scored.mean():.1%} of the rows: {why}"],
        )  # fmt: skip


def _agreement(cheap: Floats, intended: Floats, rows: Ints) -> float | None:
    """Rank correlation of the two models on the calibration rows; None where there is none."""
    both = rows[np.isfinite(cheap[rows]) & np.isfinite(intended[rows])]
    with suppress(ValueError):
        value = spearman(cheap[both], intended[both])
        return value if np.isfinite(value) else None
    return None
