"""score, by equal ranks: one of them reads the pool and plans, all measure, the last one writes."""

import hashlib
import json
import shlex
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotfish import remote_code
from pilotfish.config import Method
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.data import Pool
from pilotfish.data.run_pool import open_run, pool_of
from pilotfish.engine.executors.launch import ExecutorConfig, ScoreJob, ShardProgress
from pilotfish.errors import RunBusy, UsageError
from pilotfish.progress import Progress
from pilotfish.scoring.cost_events import CostTracker
from pilotfish.scoring.score_plan import ScorePlan, check_worker, model_for
from pilotfish.scoring.setup import open_inputs, prepare_scoring, tuned_folder
from pilotfish.scoring.write import write_scores
from pilotfish.store import Leases, Run, Store, has_workers, run_lock, tidy, working

if TYPE_CHECKING:
    from pilotfish.engine.scorer import ShardScorer

PLAN = "ranks.json"  # in the run while ranks are at work
PAUSE = 0.5  # seconds between two looks at what another rank is doing


@dataclass(frozen=True)
class Command:
    """What every rank was started with, word for word the same."""

    source: Source
    weak: str
    methods: Mapping[str, Method]
    direction: str | None
    how: ScoreConfig

    @property
    def digest(self) -> str:
        """Names the command, so that no rank follows the plan of another one."""
        facts = {
            "source": asdict(self.source),
            "weak": self.weak,
            "methods": {name: method.text for name, method in self.methods.items()},
            "direction": self.direction,
            "how": {**vars(self.how), "tune": self.how.tune and self.how.tune.model_dump()},
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()

    def words(self, out: str) -> str:
        """The command line of one more rank, which finishes what others left."""
        methods = ",".join(method.text for method in self.methods.values())
        words = ["pilotfish", "score", self.source.data, "--weak", self.weak, "--method", methods]
        words += ["--trusted", self.how.trusted] if self.how.trusted else []
        words += ["--trust-remote-code"] if remote_code.allowed() else []
        words += ["--out", out, "--executor", "ranks", "--rank", "0", "--world", "1"]
        return shlex.join(words)


@dataclass(frozen=True)
class Job:
    """What a rank holds in its hands once there is a plan."""

    run: Run
    planned: ScorePlan
    work: ScoreJob
    scorer: "ShardScorer"
    leases: Leases


def score_as_rank(
    out: str, command: Command, spread: ExecutorConfig, *, force: bool, progress: Progress
) -> Run:
    """Do the part of one rank, and wait until the run is scored: one that lives finishes it."""
    if force:
        raise UsageError(
            "--force replaces what other ranks are working on",
            hint="choose another --out, or use --force with --executor local",
        )
    with ExitStack() as part:
        job = _planned_or_joined(Path(out), command, part, progress)
        _measure(job, spread, progress)
        while not _written(job):
            _measure(job, spread, progress)
    with suppress(RunBusy), run_lock(job.run.root):
        tidy(job.run.root)  # the last one puts the leases away
    return job.run


def merge(out: str) -> Run:
    """Write scores.parquet from what ranks measured; nothing to do where that was done.

    Raises UsageError where shards are missing, saying how many and which command brings them.
    """
    with run_lock(open_run(out).root) as store:
        run, found = Run(store.root), store.read_json(PLAN)
        if found is None and run.section("scores"):
            return run
        if found is None:
            raise UsageError(
                f"no ranks have begun in {out}",
                hint="start them: pilotfish score DATA --weak MODEL --method METHOD --out RUN "
                "--executor ranks --rank I --world N",
            )
        pool, planned = Pool.open(store), ScorePlan.of_json(found["planned"])
        if missing := _missing(store, pool, planned):
            raise UsageError(
                f"{len(missing)} of {pool.shards} shards are not measured yet",
                hint=found["command"],
            )
        _write(run, pool, planned)
        run.store.remove(PLAN)
        tidy(run.root)
    return run


def _planned_or_joined(root: Path, command: Command, part: ExitStack, progress: Progress) -> Job:
    """Plan where nobody is at it, else take up the plan; `part` keeps this rank among the working.

    A plan is followed only while somebody works by it: one from another day may be out of date.
    """
    waiting = False
    while True:
        found = Store(root).read_json(PLAN) or {}
        if found.get("command_digest") == command.digest and has_workers(root):
            leases = part.enter_context(working(root))
            return _join(Run(root), command, found, leases)
        try:
            with run_lock(root) as store:
                planned = _plan(Run(store.root), command, root, progress)
                return Job(*planned, part.enter_context(working(root)))
        except RunBusy:
            if not waiting:
                progress.note("waiting for the rank that reads the rows and plans")
            waiting = True
            time.sleep(PAUSE)


def _plan(
    run: Run, command: Command, root: Path, progress: Progress
) -> tuple[Run, ScorePlan, ScoreJob, "ShardScorer"]:
    """Read, tune, fix what is going to be measured, and say so in the run."""
    from pilotfish.engine.executors.worker import WorkerInfo, open_scorer

    how = command.how
    pool, weak = open_inputs(run, command.source, command.weak, how, force=False, progress=progress)
    weak, planned, spec = prepare_scoring(
        run, pool, weak, command.methods, how=how, direction=command.direction, force=False,
        progress=progress,
    )  # fmt: skip
    scorer = open_scorer(spec, weak)
    opened = WorkerInfo.of(spec, weak, scorer)
    check_worker(run, planned, opened, force=False)
    planned = planned.opened(opened)
    facts = {"planned": planned.as_json(), "command_digest": command.digest}
    run.store.write_json(PLAN, {**facts, "command": command.words(str(root))})
    return run, planned, ScoreJob(pool, weak, spec), scorer


def _join(run: Run, command: Command, found: Mapping[str, Any], leases: Leases) -> Job:
    """Take up the plan of another rank. UsageError where this one would not measure alike."""
    from pilotfish.engine.executors.worker import ScoreSpec, load_model, open_scorer

    planned = ScorePlan.of_json(found["planned"])
    facts = planned.weak
    spec = ScoreSpec(
        root=str(run.root.resolve()), digest=facts["digest"], needs=planned.needs,
        model=model_for(run, command.weak, tuned_folder(command.how)),
        max_length=facts["max_length"], precision=facts["precision"],
        token_budget=facts["token_budget"], threads=facts["threads"] or 1,
        trust_remote_code=remote_code.allowed(),
    )  # fmt: skip
    weak = load_model(spec)
    scorer = open_scorer(spec, weak)
    if {need.name: key for need, key in scorer.keys.items()} != planned.keys:
        raise UsageError(
            "this rank would not measure as the run was planned: its device, precision or version "
            "is another one",
            hint=f"planned: {facts['precision']} on {facts['device']}; give all ranks the same",
        )
    return Job(run, planned, ScoreJob(pool_of(run), weak, spec), scorer, leases)


def _measure(job: Job, spread: ExecutorConfig, progress: Progress) -> None:
    """Measure what is free, then what others leave, until every shard is there."""
    from pilotfish.engine.executors.failures import RetryTracker
    from pilotfish.engine.executors.ranks import parse_rank, score_as_rank

    run, pool = job.run, job.work.pool
    place, tries = parse_rank(spread.rank, spread.world), RetryTracker()
    progress.note(f"rank {place.rank} of {place.world}: {pool.shards} shards")
    bill = CostTracker(run, pool, [*job.planned.columns])
    bill.begin(job.work.weak, job.scorer.keys)
    told = ShardProgress(job.work, progress, bill.after)

    def wait(shards: list[int]) -> None:
        named = ", ".join(map(str, shards[:5])) + (", ..." if len(shards) > 5 else "")
        progress.note(f"other ranks have {len(shards)} shards in hand ({named}): waiting for them")

    for receipt in score_as_rank(
        job.scorer, run.store, job.leases, place, shards=pool.shards, tries=tries, on_wait=wait,
        tick=told.tick,
    ):  # fmt: skip
        told.after(receipt)  # what follows the last one, waiting for others, costs nothing
    tries.settle()


def _written(job: Job) -> bool:
    """Whether the scores stand, written now where nobody did; False where a shard was damaged."""
    run, pool = job.run, job.work.pool
    while True:
        try:
            with run_lock(run.root):
                if not _stands(run, pool, job.planned):
                    if _missing(run.store, pool, job.planned):
                        return False
                    _write(run, pool, job.planned)
                run.store.remove(PLAN)
                return True
        except RunBusy:
            time.sleep(PAUSE)


def _write(run: Run, pool: Pool, planned: ScorePlan) -> None:
    write_scores(run, pool, planned)
    run.update(status="scored")


def _stands(run: Run, pool: Pool, planned: ScorePlan) -> bool:
    found, scores = run.store.manifest("scores.json"), run.section("scores")
    return (
        found is not None
        and found["pool"] == pool.fingerprint
        and all(
            name in found["columns"] and facts.items() <= scores.get(name, {}).items()
            for name, facts in planned.columns.items()
        )
    )


def _missing(store: Store, pool: Pool, planned: ScorePlan) -> list[int]:
    """Shards that are not measured, or not intact."""
    from pilotfish.engine.executors.ranks import finished

    keys = list(planned.keys.values())
    return [shard for shard in range(pool.shards) if not finished(store, keys, shard)]
