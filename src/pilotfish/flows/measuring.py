"""How the weak model looks at rows: the pool, model and plan that a measurement starts from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilotfish.config import Method, TuneConfig
from pilotfish.flows.held_out import known_test
from pilotfish.flows.planned import Planned, model_for, plan_scores, spec_for
from pilotfish.flows.progress import Progress
from pilotfish.flows.reading import Source, is_run, open_pool, pool_of, read_beside, reread
from pilotfish.flows.weak import weak_folder, weak_model
from pilotfish.pool import Pool, overlap_keys
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.engine.executors import ScoreSpec
    from pilotfish.models import Loaded

MAX_LENGTH = 1024  # tokens of a row the weak model sees where nobody says otherwise


@dataclass(frozen=True)
class Measuring:
    """How the weak model looks at rows."""

    max_length: int | None = None
    precision: str = "auto"
    seed: int = 0  # which weak model of the run
    stream: int | None = None  # what tuning and drawing methods draw with; None: the seed
    token_budget: int | None = None
    tune: TuneConfig | None = None
    trusted: str | None = None  # where the rows the weak model was tuned on came from

    @property
    def drawn_with(self) -> int:
        """The number behind every draw."""
        return self.seed if self.stream is None else self.stream


def ready(
    run: Run, source: Source, weak: str, how: Measuring, *, force: bool, progress: Progress
) -> tuple[Pool, "Loaded"]:
    """The run's pool, read now or reused, and its weak model, tuned now or reused."""
    from pilotfish.models import settle_threads

    again, source = is_run(source.data), reread(run, source)
    asked = overlap_keys(known_test(run))
    kept_out = asked if run.section("data").get("exclude") else frozenset()
    pool = (
        pool_of(run)
        if again
        else open_pool(run, source, exclude=kept_out, force=force, progress=progress)
    )
    vouched = read_beside(source, how.trusted, exclude=asked).examples if how.trusted else []
    loaded = weak_model(
        run, weak, trusted=vouched, seed=how.seed, stream=how.stream, config=how.tune,
        precision=how.precision, force=force, progress=progress,
    )  # fmt: skip
    settle_threads(loaded.parameters)
    return pool, loaded


def plan(
    run: Run,
    weak: "Loaded",
    columns: Mapping[str, Method],
    *,
    how: Measuring,
    direction: str | None,
    force: bool,
) -> Planned:
    """Fix what is going to be written and by which model."""
    from pilotfish.encode import clamp_max_length

    max_length = clamp_max_length(how.max_length or MAX_LENGTH, weak.window)
    return plan_scores(
        run, weak, columns, direction=direction, max_length=max_length, seed=how.seed,
        drawn_with=how.drawn_with, trusted=how.trusted, force=force,
    )  # fmt: skip


def spec_of(
    run: Run, weak: "Loaded", planned: Planned, how: Measuring, *, processes: int = 1
) -> "ScoreSpec":
    """What the workers are told, `processes` of them on this machine.

    Bits depend on the token budget and, on a CPU, on the threads of a forward pass. The first score
    of a run fixes both; whoever scores the run later, anywhere, keeps to them.
    """
    import torch

    fixed = _fixed(run, weak)
    threads = fixed.get("threads") or max(1, torch.get_num_threads() // processes)
    return spec_for(
        run, planned, model=model_for(run, weak.name, tuned_folder(how)), precision=how.precision,
        token_budget=how.token_budget or fixed.get("token_budget"), threads=threads,
    )  # fmt: skip


def tuned_folder(how: Measuring) -> str | None:
    """Where the run's tuned weak model lies, where there is one."""
    return weak_folder(how.seed) if how.trusted else None


def _fixed(run: Run, weak: "Loaded") -> Mapping[str, Any]:
    known = run.section("weak")
    alike = known.get("parameters") == weak.parameters and known.get("device") == weak.device.type
    return known if alike else {}
