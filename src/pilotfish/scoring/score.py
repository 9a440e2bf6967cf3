"""score: measure what the methods need, once, and write one column per method."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.data import Pool
from pilotfish.engine.executors.launch import LOCAL, ExecutorConfig, score_shards
from pilotfish.errors import need_torch
from pilotfish.methods import make
from pilotfish.progress import SILENT, Progress
from pilotfish.run_context import RunContext
from pilotfish.scoring.multi_rank import score_with_ranks
from pilotfish.scoring.setup import (
    ScorePlan,
    ScoreSetup,
    check_columns,
    open_inputs,
    prepare_scoring,
)
from pilotfish.scoring.write import CostTracker, write_scores
from pilotfish.store import Run, run_lock

if TYPE_CHECKING:
    from pilotfish.models import Loaded


def score(
    out: str,
    source: Source,
    config: ScoreConfig,
    *,
    executor: ExecutorConfig = LOCAL,
    force: bool = False,
    progress: Progress = SILENT,
) -> Run:
    """Read DATA (or reuse the run's pool), measure with the weak model, add score columns to a run.

    Args:
        out: The run folder.
        source: DATA, or the run itself.
        config: The model, the methods and everything else that decides the scores.
        executor: Who measures; the run holds the same bytes afterwards, whoever does.
        force: Replace results that were made with other settings.
        progress: Receives notes and finished steps.

    Raises:
        UsageError: A setting is wrong, or a column of this name was made with other settings.
        RunBusy: Another command works on the run.
    """
    need_torch("scoring")
    for method in config.columns().values():
        make(method, config.direction)  # a misspelt method is refused before anything is spent
    executor.check()
    if executor.executor == "ranks":
        return score_with_ranks(out, source, config, executor, force=force, progress=progress)
    with run_lock(out) as store:
        # after the lock: a second planner is turned away before torch is loaded
        ctx = RunContext(Run(store.root), progress, force)
        pool, weak = open_inputs(ctx, source, config)
        add_scores(ctx, pool, weak, config, executor)
        ctx.run.update(status="scored")
    return ctx.run


def add_scores(
    ctx: RunContext,
    pool: Pool,
    weak: "Loaded",
    config: ScoreConfig,
    executor: ExecutorConfig = LOCAL,
) -> None:
    """Measure the union of the methods' needs and write every column (scores.parquet).

    Args:
        ctx: The run, whose lock is held.
        pool: Its rows.
        weak: The model as it was loaded.
        config: The methods and everything else that decides the scores.
        executor: local or ray.
    """
    costs = CostTracker(ctx.run, config.columns())
    setup = prepare_scoring(ctx, pool, weak, config, executor.processes(weak))
    plan = measure(setup, executor, costs)
    write_scores(ctx, pool, plan)
    costs.record_rest()


def measure(
    setup: ScoreSetup,
    executor: ExecutorConfig,
    costs: CostTracker,
    rows: NDArray[np.bool_] | None = None,
) -> ScorePlan:
    """Measure every shard, and return the plan with how the workers measured.

    Args:
        setup: The scoring.
        executor: local or ray.
        costs: Records the cost of each shard.
        rows: [n] the rows that the model reads; None: all.

    Raises:
        UsageError: A column of this name was measured differently, before a shard is measured.
    """
    ctx = setup.ctx
    workers = score_shards(setup.pool, setup.weak, setup.spec, executor, ctx.progress)
    with workers as (info, receipts):
        plan = setup.plan.with_worker(info)
        check_columns(ctx, plan.columns, info.specs)
        for receipt in receipts:
            costs.record_shard(setup, receipt, info.keys, rows)
    return plan
