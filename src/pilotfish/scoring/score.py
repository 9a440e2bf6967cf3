"""score: measure what the methods need, once, and write one column per method."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pilotfish.config import Method
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.data import Pool
from pilotfish.engine.executors.launch import LOCAL, ExecutorConfig, ScoreJob, score_shards
from pilotfish.errors import UsageError
from pilotfish.extras import need_torch
from pilotfish.methods import make
from pilotfish.progress import SILENT, Progress
from pilotfish.scoring.cost_events import CostTracker
from pilotfish.scoring.multi_rank import Command, score_as_rank
from pilotfish.scoring.score_plan import check_worker
from pilotfish.scoring.setup import open_inputs, prepare_scoring
from pilotfish.scoring.write import write_scores
from pilotfish.store import Run, run_lock

if TYPE_CHECKING:
    from pilotfish.engine.executors.worker import WorkerInfo
    from pilotfish.models import Loaded


def score(
    out: str,
    source: Source,
    weak: str,
    methods: Sequence[Method],
    *,
    names: Sequence[str] = (),
    trusted: str | None = None,
    direction: str | None = None,
    measuring: ScoreConfig | None = None,
    spread: ExecutorConfig = LOCAL,
    force: bool = False,
    progress: Progress = SILENT,
) -> Run:
    """Read DATA (or reuse RUN's pool), measure with the weak model, add score columns to RUN.

    `spread` says who measures; whoever does, the run holds the same bytes afterwards.
    """
    need_torch("scoring")
    how = replace(measuring or ScoreConfig(), trusted=trusted)
    columns = name_columns(methods, names)
    for method in methods:
        make(method, direction)  # what is spelt wrong is said before anything is spent
    spread.check()
    if spread.executor == "ranks":
        command = Command(source, weak, columns, direction, how)
        return score_as_rank(out, command, spread, force=force, progress=progress)
    with run_lock(out) as store:
        # after the lock: a second planner is turned away before torch is loaded
        run = Run(store.root)
        pool, loaded = open_inputs(run, source, weak, how, force=force, progress=progress)
        add_scores(
            run, pool, loaded, columns, how=how, direction=direction, spread=spread, force=force,
            progress=progress,
        )  # fmt: skip
        run.update(status="scored")
    return run


def name_columns(methods: Sequence[Method], names: Sequence[str]) -> dict[str, Method]:
    """Column name -> method: `--as` names in order, else each method's text."""
    if names and len(names) != len(methods):
        raise UsageError(f"--as gives {len(names)} names for {len(methods)} methods")
    columns = dict(zip(names or [method.text for method in methods], methods, strict=True))
    if len(columns) != len(methods):
        raise UsageError("two methods would share one column name", hint="name them with --as")
    return columns


def add_scores(
    run: Run,
    pool: Pool,
    weak: "Loaded",
    columns: Mapping[str, Method],
    *,
    how: ScoreConfig,
    direction: str | None = None,
    spread: ExecutorConfig = LOCAL,
    section: str = "weak",
    force: bool = False,
    progress: Progress = SILENT,
) -> None:
    """Measure the union of needs and write every column of `columns` (scores.parquet).

    section: of run.json, where the model's facts go.
    """
    bill = CostTracker(run, pool, [*columns])
    weak, planned, spec = prepare_scoring(
        run, pool, weak, columns, how=how, direction=direction, force=force,
        processes=spread.processes(weak), section=section, progress=progress,
    )  # fmt: skip

    def check(opened: "WorkerInfo") -> None:
        check_worker(run, planned, opened, force=force)
        bill.begin(weak, opened.keys)

    opened = score_shards(ScoreJob(pool, weak, spec), spread, progress, check, bill.after)
    write_scores(run, pool, planned.opened(opened), force=force)
    bill.rest()
