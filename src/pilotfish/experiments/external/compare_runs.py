"""compare RUN1 RUN2 ..: finished runs that judged the same rows, under one verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pilotfish.data.run_pool import open_run
from pilotfish.errors import UsageError
from pilotfish.evaluation.import_results import ArmSeed, Imported, read_imported
from pilotfish.experiments.evaluate import evaluated_models
from pilotfish.experiments.external.compare_files import (
    CompareOptions,
    folder_of,
    gates_of,
    report_of,
)
from pilotfish.store import Run

_TOLD = {"metric": "by different metrics", "fingerprint": "on different test rows"}
_SHOWN = 12  # characters of a fingerprint


def compare_runs(
    runs: Sequence[str], out: str | None, asked: CompareOptions, *, force: bool = False
) -> dict[str, Any]:
    """The report of finished runs that judged the same rows by the same metric.

    Arms of run N are called `<run>/<arm>`; one whose items are the same in all runs keeps its
    name. The verdict is on the first two runs' selections, unless `asked` names another pair.
    """
    gates = gates_of(asked.gates)
    if asked.metric or asked.lower_is_better:
        raise UsageError(
            "the metric of finished runs, and which way it goes, were settled when they judged",
            hint="leave out --metric and --lower-is-better, or type pilotfish evaluate RUN",
        )
    found = joined([open_run(path) for path in runs])
    with folder_of(out) as run:
        if out is not None and run.section("test") and not run.section("imported"):
            raise UsageError(f"{out} is a run of its own", hint="choose another --out")
        return report_of(run, found, _first_two(asked, runs, found), gates, force=force)


def joined(runs: Sequence[Run]) -> dict[ArmSeed, Imported]:
    """Everything judged in the runs; UsageError where they were not asked the same."""
    names = _names(runs)
    parts = {name: _judged(run) for name, run in zip(names, runs, strict=True)}
    (first, base), *others = parts.items()
    tests = {name: _test_of(run) for name, run in zip(names, runs, strict=True)}
    for name, _ in others:
        if tests[name] != tests[first]:
            what = next(key for key in _TOLD if tests[name][key] != tests[first][key])
            raise UsageError(
                f"{first} and {name} were judged {_TOLD[what]}: "
                f"{tests[first][what][:_SHOWN]} and {tests[name][what][:_SHOWN]}",
                hint="judge both on one file: pilotfish evaluate RUN --test DATA --metric NAME",
            )
    same = _same_everywhere(list(parts.values()))
    found = {(arm, seed): each for (arm, seed), each in base.items() if arm in same}
    for name, part in parts.items():
        found |= {(f"{name}/{arm}", s): each for (arm, s), each in part.items() if arm not in same}
    return found


def _names(runs: Sequence[Run]) -> list[str]:
    """What the runs are called: their folders, or more of the path where two are alike."""
    names = [run.root.resolve().name for run in runs]
    if len({*names}) < len(names):
        names = ["-".join(run.root.resolve().parts[-2:]) for run in runs]
    if len({*names}) < len(names):
        raise UsageError("two of the runs are one folder, or are called the same")
    return names


def _test_of(run: Run) -> dict[str, str]:
    from pilotfish.evaluation import load_evaluated

    judged = load_evaluated(run.store)
    if judged is None:
        raise UsageError(
            f"{run.root} holds nothing judged yet",
            hint=f"pilotfish evaluate {run.root} --test DATA",
        )
    return {"metric": judged.metric, "fingerprint": judged.test_fingerprint}


def _judged(run: Run) -> dict[ArmSeed, Imported]:
    """What was judged, with what its manifests alone know: which way is better, and --limit."""
    found = dict[ArmSeed, Imported]()
    for arm, seed in evaluated_models(run):
        facts = run.store.require(f"judge/{arm}/seed-{seed}.json")
        each = read_imported(run.store.path(f"judge/{arm}/seed-{seed}.jsonl"))
        better, limited = bool(facts["higher_is_better"]), bool(facts.get("limited"))
        found[arm, seed] = replace(each, higher_is_better=better, limited=limited)
    return found


def _same_everywhere(parts: Sequence[Mapping[ArmSeed, Imported]]) -> set[str]:
    """Arms with the same seeds and items in every run, such as one base model."""
    first, *others = parts
    arms = {arm for arm, _ in first}
    return {arm for arm in arms if all(_of(arm, part) == _of(arm, first) for part in others)}


def _of(arm: str, part: Mapping[ArmSeed, Imported]) -> dict[int, str]:
    return {seed: each.digest for (name, seed), each in part.items() if name == arm}


def _first_two(
    asked: CompareOptions, runs: Sequence[str], found: Mapping[ArmSeed, Imported]
) -> CompareOptions:
    """The pair of the verdict: as named, else the selections of the first two runs."""
    if asked.arm or asked.against:
        return asked
    chosen = list(dict.fromkeys(arm for arm, _ in found if arm.endswith("/selected")))
    if len(chosen) < 2:
        return asked
    return replace(asked, arm=chosen[0], against=chosen[1])
