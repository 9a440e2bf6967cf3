"""score, by equal ranks: one of them reads the pool and plans, all measure, the last one writes."""

import hashlib
import json
import shlex
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pilotfish import remote_code
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.data import Pool
from pilotfish.data.run_pool import open_run, pool_of
from pilotfish.engine.executors.launch import ExecutorConfig, ShardProgress
from pilotfish.errors import RunBusy, UsageError
from pilotfish.progress import Progress
from pilotfish.run_context import RunContext
from pilotfish.scoring.setup import (
    ScorePlan,
    ScoreSetup,
    check_columns,
    model_path,
    open_inputs,
    prepare_scoring,
)
from pilotfish.scoring.write import CostTracker, write_scores
from pilotfish.store import Leases, Run, Store, has_workers, run_lock, tidy, working

if TYPE_CHECKING:
    from pilotfish.engine.scorer import ShardScorer

PLAN = "ranks.json"  # in the run while ranks are at work
PAUSE = 0.5  # seconds before looking again at the work of another rank


@dataclass(frozen=True, eq=False)
class RankJob:
    """The work of one rank, once there is a plan."""

    setup: ScoreSetup  # its plan knows how the workers measure
    scorer: "ShardScorer"
    leases: Leases  # of this rank


def score_with_ranks(
    out: str,
    source: Source,
    config: ScoreConfig,
    executor: ExecutorConfig,
    *,
    force: bool,
    progress: Progress,
) -> Run:
    """Do the work of one rank, and wait until the run is scored; one living rank finishes it.

    Args:
        out: The run folder, which all ranks share.
        source: DATA, or the run itself.
        config: What is scored; every rank was started with the same settings.
        executor: Which rank this is.
        force: Refused: it would replace what other ranks work on.
        progress: Receives notes and finished steps.

    Raises:
        UsageError: `force` is set, or this rank would measure differently from the plan.
        PilotfishError: A shard failed too often.
    """
    if force:
        raise UsageError(
            "--force replaces what other ranks are working on",
            hint="choose another --out, or use --force with --executor local",
        )
    with ExitStack() as stack:
        job = _plan_or_join(Path(out), source, config, progress, stack)
        _measure(job, executor)
        while not _written(job):
            _measure(job, executor)
    run = job.setup.ctx.run
    with suppress(RunBusy), run_lock(run.root):
        tidy(run.root)  # the last rank removes the leases
    return run


def merge(out: str) -> Run:
    """Write scores.parquet from the shards that ranks measured, unless it is written already.

    Raises:
        UsageError: Shards are missing; it says how many, and which command measures them.
    """
    with run_lock(open_run(out).root) as store:
        ctx, found = RunContext(Run(store.root)), store.read_json(PLAN)
        if found is None and ctx.run.section("scores"):
            return ctx.run
        if found is None:
            raise UsageError(
                f"no ranks have begun in {out}",
                hint="start them: pilotfish score DATA --weak MODEL --method METHOD --out RUN "
                "--executor ranks --rank I --world N",
            )
        pool, plan = Pool.open(store), ScorePlan.from_json(found["planned"])
        if missing := _missing(store, pool, plan):
            raise UsageError(
                f"{len(missing)} of {pool.shards} shards are not measured yet",
                hint=found["command"],
            )
        _write(ctx, pool, plan)
        tidy(ctx.run.root)
    return ctx.run


def _plan_or_join(
    root: Path, source: Source, config: ScoreConfig, progress: Progress, stack: ExitStack
) -> RankJob:
    """Make the plan if no rank is making one, else take it up; until `stack` ends, this rank works.

    A plan is followed only while ranks work by it: one of an earlier day may be out of date.
    """
    digest, noted = _command_digest(source, config), False
    while True:
        found = Store(root).read_json(PLAN) or {}
        if found.get("command_digest") == digest and has_workers(root):
            leases = stack.enter_context(working(root))
            plan = ScorePlan.from_json(found["planned"])
            return _join(RunContext(Run(root), progress), config, plan, leases)
        try:
            with run_lock(root) as store:
                setup, scorer = _plan(RunContext(Run(store.root), progress), source, config)
                facts = {"planned": setup.plan.to_json(), "command_digest": digest}
                facts["command"] = _command_of_one_more_rank(source, config, root)
                store.write_json(PLAN, facts)
                return RankJob(setup, scorer, stack.enter_context(working(root)))
        except RunBusy:
            if not noted:
                progress.note("waiting for the rank that reads the rows and plans")
            noted = True
            time.sleep(PAUSE)


def _command_digest(source: Source, config: ScoreConfig) -> str:
    """Name the command, so that no rank follows the plan of another one."""
    facts = {
        "source": asdict(source),
        "config": {**vars(config), "methods": [method.text for method in config.methods]},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _command_of_one_more_rank(source: Source, config: ScoreConfig, root: Path) -> str:
    """Return the command line of a rank that finishes what others left."""
    methods = ",".join(method.text for method in config.methods)
    words = ["pilotfish", "score", source.data, "--weak", config.weak, "--method", methods]
    words += ["--trusted", config.trusted] if config.trusted else []
    words += ["--trust-remote-code"] if remote_code.allowed() else []
    words += ["--out", str(root), "--executor", "ranks", "--rank", "0", "--world", "1"]
    return shlex.join(words)


def _plan(ctx: RunContext, source: Source, config: ScoreConfig) -> tuple[ScoreSetup, "ShardScorer"]:
    """Read, tune, and fix what is measured; return it with an open scorer."""
    from pilotfish.engine.executors.worker import WorkerInfo, open_scorer

    pool, weak = open_inputs(ctx, source, config)
    setup = prepare_scoring(ctx, pool, weak, config)
    scorer = open_scorer(setup.spec, setup.weak)
    info = WorkerInfo.of(setup.spec, setup.weak, scorer)
    plan = setup.plan.with_worker(info)
    check_columns(ctx, plan.columns, info.specs)
    return replace(setup, plan=plan), scorer


def _join(ctx: RunContext, config: ScoreConfig, plan: ScorePlan, leases: Leases) -> RankJob:
    """Take up the plan of another rank; UsageError if this one would measure differently."""
    from pilotfish.engine.executors.worker import ScoreSpec, load_model, open_scorer

    facts = plan.weak
    spec = ScoreSpec(
        root=str(ctx.run.root.resolve()),
        model=model_path(ctx, config),
        digest=facts["digest"],
        needs=plan.needs,
        max_length=facts["max_length"],
        precision=facts["precision"],
        token_budget=facts["token_budget"],
        threads=facts["threads"] or 1,
        trust_remote_code=remote_code.allowed(),
    )
    weak = load_model(spec)
    scorer = open_scorer(spec, weak)
    if {need.name: key for need, key in scorer.keys.items()} != plan.keys:
        raise UsageError(
            "this rank would not measure as the run was planned: its device, precision or version "
            "is another one",
            hint=f"planned: {facts['precision']} on {facts['device']}; give all ranks the same",
        )
    return RankJob(ScoreSetup(ctx, pool_of(ctx.run), weak, plan, spec), scorer, leases)


def _measure(job: RankJob, executor: ExecutorConfig) -> None:
    """Measure the free shards, then those that other ranks leave, until none is missing."""
    from pilotfish.engine.executors.ranks import Waiting, parse_rank, score_as_rank

    setup, progress = job.setup, job.setup.ctx.progress
    run, pool = setup.ctx.run, setup.pool
    rank = parse_rank(executor.rank, executor.world)
    progress.note(f"rank {rank.rank} of {rank.world}: {pool.shards} shards")
    costs, report = CostTracker(run, setup.plan.columns), ShardProgress(pool, setup.spec, progress)
    for event in score_as_rank(job.scorer, run.store, job.leases, rank, pool.shards, report.tick):
        if isinstance(event, Waiting):
            shards = event.shards
            named = ", ".join(map(str, shards[:5])) + (", ..." if len(shards) > 5 else "")
            progress.note(
                f"other ranks have {len(shards)} shards in hand ({named}): waiting for them"
            )
        else:
            report.shard_done(event)
            # the wait for other ranks after the last shard costs nothing
            costs.record_shard(setup, event, job.scorer.keys)


def _written(job: RankJob) -> bool:
    """Write the scores unless another rank has; return False where a shard turned out damaged."""
    ctx, pool, plan = job.setup.ctx, job.setup.pool, job.setup.plan
    while True:
        try:
            with run_lock(ctx.run.root):
                if _stands(ctx.run, pool, plan):
                    ctx.store.remove(PLAN)
                    return True
                if _missing(ctx.store, pool, plan):
                    return False
                _write(ctx, pool, plan)
                return True
        except RunBusy:
            time.sleep(PAUSE)


def _write(ctx: RunContext, pool: Pool, plan: ScorePlan) -> None:
    write_scores(ctx, pool, plan)
    ctx.run.update(status="scored")
    ctx.store.remove(PLAN)


def _stands(run: Run, pool: Pool, plan: ScorePlan) -> bool:
    """Return whether scores.parquet holds every column of the plan."""
    found, scores = run.store.manifest("scores.json"), run.section("scores")
    return (
        found is not None
        and found["pool"] == pool.fingerprint
        and all(
            name in found["columns"] and facts.items() <= scores.get(name, {}).items()
            for name, facts in plan.columns.items()
        )
    )


def _missing(store: Store, pool: Pool, plan: ScorePlan) -> list[int]:
    """Return the shards that are not measured, or not intact."""
    from pilotfish.engine.executors.ranks import finished

    keys = list(plan.keys.values())
    return [shard for shard in range(pool.shards) if not finished(store, keys, shard)]
