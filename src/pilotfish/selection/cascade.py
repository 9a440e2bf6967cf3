"""score --cascade: a cheap model reads every row, the intended one only those it may select.

A cascade is planned for a recall of the intended model's picks, and the recall is measured; the
selected rows are never claimed to be identical. The rows that are passed on are committed before
the intended model reads a shard, so that an interrupted run continues with the same rows.
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
from pilotfish.errors import UsageError, need_torch
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
from pilotfish.selection.topk import GatheredScores, gather
from pilotfish.store import Run, run_lock

if TYPE_CHECKING:
    from pilotfish.models import Loaded

CONFIDENCE = 0.95  # that the recall is reached
_SAVES_LITTLE = 0.5  # share of rows read by the intended model that deserves a warning


def cheap_name(name: str) -> str:
    """Return the name of the cheap model's column for a score column."""
    return f"{name}@cheap"


@dataclass(frozen=True, eq=False)
class _Column:
    """A score column of the intended model, and how its cascade is planned."""

    setup: ScoreSetup  # of the intended model
    name: str
    selector: Selector
    cuts: Cuts
    cascade: CascadeConfig
    seed: int  # of every draw

    @property
    def run(self) -> Run:
        """The run that is scored."""
        return self.setup.ctx.run


def score_cascade(
    out: str,
    source: Source,
    config: ScoreConfig,
    cascade: CascadeConfig,
    *,
    executor: ExecutorConfig = LOCAL,
    force: bool = False,
    progress: Progress = SILENT,
) -> Run:
    """Score a pool with two models: columns NAME@cheap of all rows, NAME of those passed on.

    Rows that are not passed on have no score, with the reason `cascade_skipped`. Trusted rows
    fine-tune the intended model only.

    Args:
        out: The run folder.
        source: The data, which is read now or reused.
        config: The intended model, and how it scores.
        cascade: The cheap model, and the recall and budget that are planned for.
        executor: What runs the forward passes.
        force: Replace columns that were made with other settings.
        progress: Receives notes and finished shards.

    Raises:
        UsageError: The method or the budget has no fixed number of picks from one end (exit 2).
    """
    need_torch("scoring")
    cascade.check()
    columns = config.columns()
    cuts = {name: _cuts_of(method, config.direction, cascade) for name, method in columns.items()}
    executor.check()
    if executor.executor == "ranks":
        raise UsageError(
            "a cascade is planned between two measurements, which ranks cannot agree on",
            hint="use --executor local (with --workers N) or ray",
        )
    seed = config.seed if config.stream is None else config.stream
    with run_lock(out) as store:
        ctx = RunContext(Run(store.root), progress, force)
        pool, weak = open_inputs(ctx, source, config)
        made_from = _add_cheap_columns(ctx, pool, weak, config, cascade, executor)
        for name, method in columns.items():
            one = replace(config, methods=[method], names=[name], cascade=made_from)
            setup = prepare_scoring(ctx, pool, weak, one, executor.processes(weak))
            selector = make(method, config.direction)
            _add_column(_Column(setup, name, selector, cuts[name], cascade, seed), executor)
        ctx.run.update(status="scored")
    return ctx.run


def _cuts_of(method: Method, direction: str | None, cascade: CascadeConfig) -> Cuts:
    """The cut of a method; UsageError, before any work is done, if a cascade cannot serve it."""
    selector = make(method, direction)
    if not selector.needs or selector.pool_relative:
        why = "scores every row by the others" if selector.needs else "needs no model"
        raise UsageError(
            f"{method.text} {why}, so a cascade saves nothing", hint="leave out --cascade"
        )
    cuts = cuts_of(selector.ranker(), cascade.budget, tokens=np.zeros(0, np.int64))
    maths.check(cuts)
    return cuts


def _add_cheap_columns(
    ctx: RunContext,
    pool: Pool,
    weak: "Loaded",
    config: ScoreConfig,
    cascade: CascadeConfig,
    executor: ExecutorConfig,
) -> dict[str, Any]:
    """Score all rows with the cheap model; return the facts that decide which rows are passed on.

    Its number format is not compared with fp32, because the calibration includes its errors.
    """
    columns = config.columns()
    cheap_config = replace(
        config,
        weak=cascade.model,
        names=[cheap_name(name) for name in columns],
        trusted=None,
        section="cheap",
    )
    cheap = weak_model(ctx, cheap_config)
    made_from = {
        "cheap": cheap.digest,
        "budget": cascade.budget.text,
        "recall": cascade.recall,
    }
    check_columns(ctx, {name: {"weak": weak.digest, CASCADE: made_from} for name in columns})
    if cheap.parameters > weak.parameters:
        text = (
            f"the cascade's {cheap.name} has more parameters ({cheap.parameters:,}) than "
            f"{weak.name} ({weak.parameters:,}), which it should be cheaper than"
        )
        warn(ctx.run, [text])
    ctx.progress.note(f"scoring every row with {cheap.name}")
    add_scores(ctx, pool, cheap, cheap_config, executor)
    return made_from


def _add_column(column: _Column, executor: ExecutorConfig) -> None:
    """Plan the cascade, score the rows that are passed on, and measure the recall."""
    setup, run = column.setup, column.run
    costs = CostTracker(run, [column.name])
    rows = candidates_of(run)
    cheap = gather(rows, rows.score_column(cheap_name(column.name)))
    plan, spent = _planned(column, cheap)
    if spent:
        costs.record(rows=0, **spent)
    share = plan.scored.mean()
    setup.ctx.progress.note(f"{column.name}: {setup.weak.name} reads {share:.0%} of the rows")
    # the batches of the plan, in which the calibration was measured
    spec = replace(setup.spec, only=plan.name, token_budget=plan.token_budget, threads=plan.threads)
    scored = measure(replace(setup, spec=spec), executor, costs, plan.scored)
    write_scores(setup.ctx, column.setup.pool, scored)
    costs.record_rest()
    _record_recall(column, plan, cheap)


def _planned(column: _Column, cheap: GatheredScores) -> tuple[CascadeRows, dict[str, float]]:
    """The rows that are passed on, as committed before or planned now, and the cost of planning."""
    setup, run, seed = column.setup, column.run, column.seed
    facts = {
        "pool": column.setup.pool.fingerprint,
        "cheap": run.section("scores")[cheap_name(column.name)]["keys"],
        "scores": hashlib.sha256(cheap.scores.tobytes()).hexdigest(),
        "intended": setup.weak.digest,
        "precision": setup.weak.precision,
        "device": setup.weak.device.type,
        "max_length": setup.spec.max_length,
        "method": setup.plan.columns[column.name]["method"],
        "picker": repr(column.cuts.ranker),  # the name that runs have it under
        "budget": column.cascade.budget.text,
        "recall": column.cascade.recall,
        "seed": seed,
    }
    name = "cascades/" + hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    if (found := read_cascade_rows(run.store, name)) is not None:
        return found, {}
    calibration, audit = maths.sizes(column.cuts, len(column.setup.pool))
    rows = maths.draw(cheap.tie, calibration, seed=seed)
    setup.ctx.progress.note(f"{column.name}: calibrating on {len(rows):,} rows")
    intended, spent = _intended_scores(column, rows)
    cascade = maths.plan(
        cheap.scores,
        cheap.tie,
        column.cuts,
        rows,
        intended,
        target=column.cascade.recall,
        confidence=CONFIDENCE,
        seed=seed + 2,
    )
    audited = maths.draw(cheap.tie, audit, seed=seed + 1, among=~cascade.passed)
    plan = CascadeRows(
        name, cascade, audited, rows, setup.spec.token_budget or 0, setup.spec.threads
    )
    write_cascade_rows(run.store, plan, facts)
    return plan, spent


def _intended_scores(column: _Column, rows: Ints) -> tuple[Floats, dict[str, float]]:
    """The intended model's scores of some rows [m], in the batches of the run, and their cost."""
    from pilotfish.engine.in_memory import InMemoryScorer

    weak, spec = column.setup.weak, column.setup.spec
    assert spec.token_budget is not None  # fixed by `prepare_scoring`
    with threads_of(spec):
        scorer = InMemoryScorer(
            weak, spec.needs, max_length=spec.max_length, token_budget=spec.token_budget
        )
        seen = scorer(column.setup.pool.take(rows))
    lengths = (seen.n_prompt_tokens + seen.n_response_tokens).repeat(passes(spec.needs))
    spent = known(tokens=float(lengths.sum()), flops=reading_flops(weak, lengths))
    return np.asarray(column.selector.score(seen), dtype=np.float64), spent


def _record_recall(column: _Column, plan: CascadeRows, cheap: GatheredScores) -> None:
    """Estimate the recall from the audited rows, and write all facts into run.json."""
    run, weak, cascade = column.run, column.setup.weak, plan.cascade
    shards = candidates_of(run).score_column(column.name).shards()
    intended = np.concatenate([shard.values for shard in shards])
    found = maths.recall(cascade, cheap.tie, column.cuts, intended, plan.audited)
    name = run.section("cheap")["name"]
    facts = cascade_facts(cascade, found, cheap=name, intended=weak.name, seed=column.seed)
    facts |= {
        "budget": column.cascade.budget.text,
        "picker": repr(column.cuts.ranker),  # the name that runs have it under
        "plan": plan.name,
        "scored": int(plan.scored.sum()),
        "agreement": _agreement(cheap.scores, intended, plan.calibration),
    }
    scores = run.section("scores")
    run.update(scores={**scores, column.name: {**scores[column.name], "cascade": facts}})
    if plan.scored.mean() > _SAVES_LITTLE:
        why = "its two models agree too little, or its pool is small for this budget"
        if cascade.everything:
            why = "its pool is too small for this budget: no sample shows what could be left out"
        text = (
            f"the cascade of '{column.name}' saves little, for {weak.name} read "
            f"{plan.scored.mean():.1%} of the rows: {why}"
        )
        warn(run, [text])


def _agreement(cheap: Floats, intended: Floats, rows: Ints) -> float | None:
    """Spearman's rank correlation of the two models on some rows; None if it is undefined."""
    both = rows[np.isfinite(cheap[rows]) & np.isfinite(intended[rows])]
    with suppress(ValueError):
        value = spearman(cheap[both], intended[both])
        return value if np.isfinite(value) else None
    return None
