"""The verdict with what must be read beside it: the two sentences, rivals that are ahead."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pilotfish import flops
from pilotfish.comparison.break_even import break_even
from pilotfish.comparison.case import ComparisonData
from pilotfish.comparison.choose_method import ChosenMethod, choose_method
from pilotfish.comparison.comparisons import comparisons
from pilotfish.comparison.contrast import margin_of
from pilotfish.comparison.curve import curve, recovered
from pilotfish.comparison.equal import matched_table
from pilotfish.comparison.gates import gates, reference_folder
from pilotfish.comparison.recommend import recommendation
from pilotfish.comparison.tasks import macro, tasks
from pilotfish.comparison.verdict import AGAINST, decide
from pilotfish.config import Gate, upgrade_settings
from pilotfish.errors import UsageError
from pilotfish.evaluation.results import EvaluatedRun, Results, load_evaluated
from pilotfish.report import run_files
from pilotfish.report.arms import ArmSection, next_step
from pilotfish.report.run_files import has_trusted
from pilotfish.store import Run, Store

DEFAULT_MARGIN = 0.02  # for metrics without one of their own: two points of a share
ALWAYS = {"relabel_all": "Selection against relabel-all", "weak": "Strong minus weak"}


def findings(run: Run, found: ArmSection) -> dict[str, Any]:
    """The `verdict`, `comparisons` and `notes` of the report."""
    if found.judged is None:
        return {"verdict": _untested(run, found), "comparisons": [], "notes": []}
    judged, margin = found.judged, run.section("config").get("margin")
    case = case_of(run, found, judged)
    arm, against = pair_of(run)
    chosen = choose_method(case) if arm == "selected" else ChosenMethod(arm, case, None)
    verdict = decide(
        chosen.case.results,
        metric=judged.metric,
        higher_is_better=judged.higher_is_better,
        evidence=str(run.section("evidence").get("level", "none")),
        trusted=has_trusted(run),
        margin=margin,
        selection_arm=chosen.arm,
        against=against,
    ).as_dict()
    pairs = comparisons(
        judged.results,
        metric=judged.metric,
        higher_is_better=judged.higher_is_better,
        margin=margin,
        plan=case.plan,
    )
    more = beyond(run, case, chosen, against)
    swept = more.get("curve") if chosen.case is case else None  # not by items that chose
    return {
        "verdict": {**verdict, **_kept(swept, chosen)},
        "comparisons": pairs,
        "notes": notes(judged, verdict, pairs),
        **more,
    }


def case_of(run: Run, found: ArmSection, judged: EvaluatedRun) -> ComparisonData:
    """The results with what each arm learnt and what was planned."""
    margin = margin_of(judged.metric, run.section("config").get("margin"))
    evidence = upgrade_settings(run.section("evidence"))
    plan = {"budget": run.section("config").get("budget"), **evidence}
    return ComparisonData(
        judged.results, judged.metric, judged.higher_is_better, margin or DEFAULT_MARGIN,
        found.trained, plan, judged.tasks,
    )  # fmt: skip


def beyond(run: Run, case: ComparisonData, chosen: ChosenMethod, against: str) -> dict[str, Any]:
    """The sections that only some runs have; an absent one is an absent key."""
    pair = (chosen.arm, against)
    events, swept = run_files.costs(run), curve(case)
    told = {
        "chosen": chosen.facts,
        "curve": swept,
        "equal": matched_table(case) if len(case.plan.get("matched_on", ())) > 1 else None,
        "recommendation": _recommended(case, chosen) if case.plan.get("arms") else None,
        "break_even": break_even(
            case, flops.charged(events), flops.by_name(events, "train"),
            int(run.section("pool").get("rows") or 0), times=times_selected(run),
            weak_parameters=run.section("weak").get("parameters"), worth=_worth(swept, "selected"),
        ),
        "gates": gates(case, guards, others_of(run, case, guards)) if (guards := _guards(run))
        else None,
        "tasks": tasks(chosen.case, *pair),
        "macro": macro(chosen.case, *pair),
    }  # fmt: skip
    return {name: value for name, value in told.items() if value}


def _recommended(case: ComparisonData, chosen: ChosenMethod) -> dict[str, Any] | None:
    """On the method of the verdict, and on the items that did not choose it."""
    if chosen.arm in case.methods:
        return recommendation(chosen.case, chosen.arm)
    return recommendation(chosen.case if chosen.arm == "selected" else case)


def _kept(swept: Mapping[str, Any] | None, chosen: ChosenMethod) -> dict[str, Any]:
    """Relative recovery and data efficiency of the verdict's arm; absent where not known."""
    told = {"recovery": recovered(chosen.case, chosen.arm), "efficiency": _worth(swept, chosen.arm)}
    return {name: value for name, value in told.items() if value}


def _worth(swept: Mapping[str, Any] | None, arm: str) -> dict[str, Any] | None:
    lines = swept["efficiency"] if swept else ()
    return next((dict(line) for line in lines if line["arm"] == arm), None)


def times_selected(run: Run) -> int:
    """How many seeds selected anew: `selected`, `selected-1`, ... at the verdict's budget."""
    names = [name.partition("-") for name in run.section("selections")]
    return max(1, sum(stem == "selected" and "@" not in seed for stem, _, seed in names))


def _guards(run: Run) -> dict[str, Gate]:
    """Gates of the recipe, or of the command that imported the results."""
    settings = run.section("config").get("gates") or run.section("gates")
    return {name: Gate.model_validate(told) for name, told in settings.items()}


def others_of(run: Run, case: ComparisonData, guards: Mapping[str, Gate]) -> dict[str, Results]:
    """Results of other runs that gates refer to; UsageError where other rows were judged there."""
    found: dict[str, Results] = {}
    for gate in guards.values():
        elsewhere = reference_folder(list(case.results), gate.against)
        if elsewhere and elsewhere[0] not in found:
            found[elsewhere[0]] = _other(run, case, elsewhere[0])
    return found


def _other(run: Run, case: ComparisonData, folder: str) -> Results:
    other = load_evaluated(Store(Path(folder))) if Path(folder).is_dir() else None
    if other is None:
        raise UsageError(f"a gate refers to {folder}, which is no run with judged arms")
    own = load_evaluated(run.store)
    assert own is not None
    if (other.metric, other.test_fingerprint) != (case.metric, own.test_fingerprint):
        raise UsageError(
            f"a gate refers to {folder}, which was judged by another metric or on other rows",
            hint="judge both with the same --test and --metric",
        )
    return other.results


def pair_of(run: Run) -> tuple[str, str]:
    """The pair of the verdict: selected and random, or what a user named."""
    pair = run.section("pair")
    return str(pair.get("arm", "selected")), str(pair.get("against", AGAINST))


def _untested(run: Run, found: ArmSection) -> dict[str, Any]:
    """The verdict of a run in which nothing was judged yet."""
    nothing = dict.fromkeys(("difference", "low", "high", "margin", "higher_is_better"))
    return {
        "outcome": "not_tested",
        "arm": "selected",
        "against": AGAINST,
        "metric": run.section("test").get("metric") or run.section("config").get("metric"),
        **nothing,
        "sentence": next_step(run, found),
    }


def notes(
    judged: EvaluatedRun, verdict: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Sentences beside the verdict; `plain` marks what speaks against the selection.

    Always two: selection against relabel-all, and strong minus weak (or that it was not judged).
    """
    told = [
        *(_note(pair, plain=True) for pair in pairs if _rival_ahead(pair)),
        *(_note(pair, plain=True) for pair in pairs if _length_may_explain(pair, verdict)),
    ]
    for against, lead in ALWAYS.items():
        own = [pair for pair in pairs if pair["against"] == against]
        absent = f"{lead}: the arm {against} was not judged in this run."
        told.append(_note(own[0]) if own else {"sentence": absent, "plain": False})
    return told


def _note(pair: Mapping[str, Any], *, plain: bool = False) -> dict[str, Any]:
    return {"sentence": pair["sentence"], "plain": plain}


def _rival_ahead(pair: Mapping[str, Any]) -> bool:
    """Whether the trusted rows alone did better by the numbers."""
    gap = pair["difference"] or 0.0
    return pair["against"] == "trusted" and (gap < 0 if pair["higher_is_better"] else gap > 0)


def _length_may_explain(pair: Mapping[str, Any], verdict: Mapping[str, Any]) -> bool:
    """Whether a selection that beat random did not beat random rows of the same lengths."""
    own = (pair["arm"], pair["against"]) == (verdict["arm"], "length_matched")
    return own and verdict["outcome"] == "better" and pair["outcome"] != "better"
