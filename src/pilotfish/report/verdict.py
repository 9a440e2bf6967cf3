"""The verdict section of the report, and all sections that are computed from evaluated items."""

from collections.abc import Mapping, Sequence
from typing import Any

from pilotfish import flops
from pilotfish.comparison.contrast import margin_of
from pilotfish.comparison.curve import curve, recovered
from pilotfish.comparison.data import ComparisonData
from pilotfish.comparison.gates import gates, load_reference, reference_folder
from pilotfish.comparison.recommend import SelectionCost, break_even, recommendation
from pilotfish.comparison.secondary import comparisons, macro, matched_table, tasks
from pilotfish.comparison.verdict import AGAINST, ChosenMethod, choose_method, decide
from pilotfish.config import Gate, upgrade_settings
from pilotfish.evaluation.results import EvaluatedRun, Results
from pilotfish.report import run_files
from pilotfish.report.arms import ArmFiles, next_step
from pilotfish.store import Run

NOTED = {"relabel_all": "Selection against relabel-all", "weak": "Strong minus weak"}


def findings(run: Run, files: ArmFiles) -> dict[str, Any]:
    """Return `verdict`, `comparisons` and `notes` of report.json, and the sections of `_optional`.

    Args:
        run: The run.
        files: Its results and training manifests.

    Raises:
        UsageError: A gate refers to an arm, task or run without matching results.
    """
    evaluated = files.evaluated
    if evaluated is None:
        return {"verdict": _not_evaluated(run, files), "comparisons": [], "notes": []}
    data = _comparison_data(run, files, evaluated)
    arm, against = pair_of(run)
    chosen = choose_method(data) if arm == "selected" else ChosenMethod(arm, data, None)
    verdict = decide(
        chosen.data,
        evidence=str(run.section("evidence").get("level", "none")),
        trusted=run_files.has_trusted(run),
        arm=chosen.arm,
        against=against,
    ).as_dict()
    pairs = comparisons(data)
    optional = _optional(run, data, evaluated, chosen, against)
    # Efficiency is over all items, also those that chose the method.
    swept = optional.get("curve") if chosen.data is data else None
    known = {
        "recovery": recovered(chosen.data, chosen.arm),
        "efficiency": _efficiency_of(swept, chosen.arm),
    }
    return {
        "verdict": {**verdict, **{name: value for name, value in known.items() if value}},
        "comparisons": pairs,
        "notes": _notes(verdict, pairs),
        **optional,
    }


def pair_of(run: Run) -> tuple[str, str]:
    """Return the two arms of the verdict: selected and random, or a pair that the user named."""
    pair = run.section("pair")
    return str(pair.get("arm", "selected")), str(pair.get("against", AGAINST))


def times_selected(run: Run) -> int:
    """Return how many seeds made their own selection: `selected`, `selected-1`, ..."""
    names = [name.partition("-") for name in run.section("selections")]
    return max(1, sum(stem == "selected" and "@" not in seed for stem, _, seed in names))


def _not_evaluated(run: Run, files: ArmFiles) -> dict[str, Any]:
    """Return the verdict of a run without results."""
    nothing = dict.fromkeys(("difference", "low", "high", "margin", "higher_is_better"))
    return {
        "outcome": "not_tested",
        "arm": "selected",
        "against": AGAINST,
        "metric": run.section("test").get("metric") or run.section("config").get("metric"),
        **nothing,
        "sentence": next_step(run, files),
    }


def _comparison_data(run: Run, files: ArmFiles, evaluated: EvaluatedRun) -> ComparisonData:
    config = run.section("config")
    evidence = upgrade_settings(run.section("evidence"))
    return ComparisonData(
        evaluated.results,
        evaluated.metric,
        evaluated.higher_is_better,
        margin_of(evaluated.metric, config.get("margin")),
        trained=files.trained,
        plan={"budget": config.get("budget"), **evidence},
        tasks=evaluated.tasks,
    )


def _optional(
    run: Run, data: ComparisonData, evaluated: EvaluatedRun, chosen: ChosenMethod, against: str
) -> dict[str, Any]:
    """Return the sections that only some runs have; a section without content has no key."""
    events, swept = run_files.costs(run), curve(data)
    cost = SelectionCost(
        flops.charged(events),
        flops.by_name(events, "train"),
        int(run.section("pool").get("rows") or 0),
        times_selected(run),
        run.section("weak").get("parameters"),
    )
    # On the method of the verdict, and on the items that did not choose it.
    method = chosen.arm if chosen.arm in data.methods else "selected"
    deciding = chosen.data if method == chosen.arm else data
    sections = {
        "chosen": chosen.facts,
        "curve": swept,
        "equal": matched_table(data) if len(data.plan.get("matched_on", ())) > 1 else None,
        "recommendation": recommendation(deciding, method) if data.plan.get("arms") else None,
        "break_even": break_even(data, cost, _efficiency_of(swept, "selected")),
        "gates": _gates(run, data, evaluated),
        "tasks": tasks(chosen.data, chosen.arm, against),
        "macro": macro(chosen.data, chosen.arm, against),
    }
    return {name: value for name, value in sections.items() if value}


def _efficiency_of(swept: Mapping[str, Any] | None, arm: str) -> dict[str, Any] | None:
    lines = swept["efficiency"] if swept else ()
    return next((dict(line) for line in lines if line["arm"] == arm), None)


def _gates(run: Run, data: ComparisonData, evaluated: EvaluatedRun) -> list[dict[str, Any]]:
    """Test the gates of the recipe, or of the command that imported the results."""
    settings = run.section("config").get("gates") or run.section("gates")
    guards = {name: Gate.model_validate(gate) for name, gate in settings.items()}
    others: dict[str, Results] = {}
    for name, gate in guards.items():
        elsewhere = reference_folder(list(data.results), gate.against)
        if elsewhere and elsewhere[0] not in others:
            others[elsewhere[0]] = load_reference(
                name, elsewhere, data.metric, evaluated.test_fingerprint
            )
    return gates(data, guards, others)


def _notes(verdict: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the sentences below the verdict; `plain` marks those against the selection.

    The last two are always there: selection against relabel-all and strong minus weak, or that one
    of them was not evaluated.
    """
    ahead, length = [], []
    for pair in pairs:
        gap = pair["difference"] or 0.0
        worse = gap < 0 if pair["higher_is_better"] else gap > 0
        if pair["against"] == "trusted" and worse:
            ahead.append({"sentence": pair["sentence"], "plain": True})
        # A selection that beats random rows, but not random rows of the same lengths.
        matched = (pair["arm"], pair["against"]) == (verdict["arm"], "length_matched")
        if matched and verdict["outcome"] == "better" and pair["outcome"] != "better":
            length.append({"sentence": pair["sentence"], "plain": True})
    noted = []
    for against, lead in NOTED.items():
        sentences = [pair["sentence"] for pair in pairs if pair["against"] == against]
        absent = f"{lead}: the arm {against} was not evaluated in this run."
        noted.append({"sentence": sentences[0] if sentences else absent, "plain": False})
    return [*ahead, *length, *noted]
