"""The branches of `pilotfish judge` for models or questions that are not the run's own."""

from collections.abc import Sequence
from typing import Any

from pilotfish.cli.compare_results import lines
from pilotfish.cli.console import Console, emit, out
from pilotfish.errors import UsageError


def judge_by_harness(
    run: str,
    tasks: Sequence[str],
    *,
    folder: str | None,
    include_path: str | None,
    metric: str | None,
    arms: Sequence[str],
    limit: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """lm-evaluation-harness asks; the report lies in a folder beside the run."""
    from pilotfish.flows import harness

    to = folder or f"{run.rstrip('/')}-harness"
    report = harness.judge_by_harness(
        run, tasks, to=to, include_path=include_path, metric=metric, arms=arms, limit=limit,
        force=force, progress=Console(quiet=quiet),
    )  # fmt: skip
    if as_json:
        emit({"run": to, **report})
        return
    for line in lines(report):
        out(line)
    out(f"report: {to}/report.html")


def judge_one_model(
    run: str, model: str, items: str | None, *, as_json: bool, **options: Any
) -> None:
    """A model trained elsewhere answers the run's test rows; its items go to a file."""
    from pilotfish.flows.outside_model import judge_model_folder

    if not items:
        raise UsageError(
            "a model from elsewhere is judged into a file, and none was named",
            hint=f"pilotfish judge {run} --model {model} --items FILE.jsonl",
        )
    told = judge_model_folder(run, model, items, **options)
    if as_json:
        emit(told)
        return
    mean = "none could be judged" if told["mean"] is None else f"{told['mean']:.4f}"
    out(f"{told['model']}: {told['metric']} {mean} ({told['rows']:,} rows)")
    out(f"next: pilotfish compare --results ARM:SEED={told['items']} ..")
