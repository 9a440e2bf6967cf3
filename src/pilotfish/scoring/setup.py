"""How the weak model looks at rows: the pool, model and plan that a measurement starts from."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pilotfish.config import Method
from pilotfish.config.data import Source
from pilotfish.config.scoring import DEFAULT_MAX_LENGTH, ScoreConfig
from pilotfish.data import Pool, overlap_keys
from pilotfish.data.held_out import stored_test_rows
from pilotfish.data.run_pool import is_run, open_pool, pool_of, read_extra_rows, recorded_source
from pilotfish.progress import SILENT, Progress
from pilotfish.scoring.precision_check import choose_precision
from pilotfish.scoring.score_plan import ScorePlan, model_for, plan_scores, spec_for
from pilotfish.scoring.weak_model import weak_folder, weak_model
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.engine.executors.worker import ScoreSpec
    from pilotfish.models import Loaded


def open_inputs(
    run: Run, source: Source, weak: str, how: ScoreConfig, *, force: bool, progress: Progress
) -> tuple[Pool, "Loaded"]:
    """The run's pool, read now or reused, and its weak model, tuned now or reused."""
    from pilotfish.models import set_threads

    again, source = is_run(source.data), recorded_source(run, source)
    asked = overlap_keys(stored_test_rows(run))
    kept_out = asked if run.section("data").get("exclude") else frozenset()
    pool = (
        pool_of(run)
        if again
        else open_pool(run, source, exclude=kept_out, force=force, progress=progress)
    )
    vouched = read_extra_rows(source, how.trusted, exclude=asked).examples if how.trusted else []
    loaded = weak_model(
        run, weak, trusted=vouched, seed=how.seed, stream=how.stream, config=how.tune,
        precision=how.precision, force=force, progress=progress,
    )  # fmt: skip
    set_threads(loaded.parameters)
    return pool, loaded


class ScoreSetup(NamedTuple):
    """All that is fixed before the first shard is measured."""

    weak: "Loaded"  # in the format that measures
    planned: ScorePlan
    spec: "ScoreSpec"


def prepare_scoring(
    run: Run,
    pool: Pool,
    weak: "Loaded",
    columns: Mapping[str, Method],
    *,
    how: ScoreConfig,
    direction: str | None,
    force: bool,
    processes: int = 1,
    section: str = "weak",
    cascade: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> ScoreSetup:
    """Fix what is going to be written, by which model, in which format and which batches.

    Bits depend on the token budget and, on a CPU, on the threads of a forward pass. The first score
    of a run fixes both; whoever scores the run later, anywhere, keeps to them. `processes` of the
    workers are on this machine. A model of another `section` than `weak` only says where to look:
    it stays in the format it was loaded in, for nothing rests on its last digits.
    """
    import torch

    from pilotfish.engine.token_budget import find_budget
    from pilotfish.tokenization import clamp_max_length

    max_length, fixed = (
        clamp_max_length(how.max_length or DEFAULT_MAX_LENGTH, weak.window),
        _fixed(run, weak, section),
    )
    planned = plan_scores(
        run, weak, columns, direction=direction, max_length=max_length, seed=how.seed,
        drawn_with=how.drawn_with, trusted=how.trusted, force=force,
        section=section, cascade=cascade,
    )  # fmt: skip
    budget = how.token_budget or fixed.get("token_budget") or find_budget(weak)
    threads = fixed.get("threads") or _threads(torch, processes)
    if section == "weak":
        _fix(run, weak, token_budget=budget, threads=threads)
    if section == "weak":
        weak = choose_precision(
            run, pool, weak, planned.selectors, asked=how.precision, max_length=max_length,
            token_budget=budget, progress=progress,
        )  # fmt: skip
    spec = spec_for(
        run, planned, model=model_for(run, weak.name, tuned_folder(how)), precision=weak.precision,
        token_budget=budget, threads=threads,
    )  # fmt: skip
    return ScoreSetup(weak, planned, spec)


def _threads(torch: Any, processes: int) -> int:
    """The share of one process of this machine's cores."""
    return max(1, int(torch.get_num_threads()) // processes)


def tuned_folder(how: ScoreConfig) -> str | None:
    """Where the run's tuned weak model lies, where there is one."""
    return weak_folder(how.seed) if how.trusted else None


def _fix(run: Run, weak: "Loaded", **found: int) -> None:
    """Say at once what rests on this machine's moment: a killed score is taken up, not redone."""
    run.update(batches={"parameters": weak.parameters, "device": weak.device.type, **found})


def _fixed(run: Run, weak: "Loaded", section: str) -> Mapping[str, Any]:
    known = run.section(section) or (run.section("batches") if section == "weak" else {})
    alike = known.get("parameters") == weak.parameters and known.get("device") == weak.device.type
    return known if alike else {}
