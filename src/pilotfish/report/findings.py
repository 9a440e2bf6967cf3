"""The verdict with what must be read beside it: the two sentences, rivals that are ahead."""

from collections.abc import Mapping, Sequence
from typing import Any

from pilotfish.judge.comparisons import comparisons
from pilotfish.judge.files import Judged
from pilotfish.judge.verdict import AGAINST, decide
from pilotfish.report.evidence import Evidence, next_step
from pilotfish.report.facts import given_trusted
from pilotfish.store import Run

ALWAYS = {"relabel_all": "Selection against relabel-all", "weak": "Strong minus weak"}


def findings(run: Run, found: Evidence) -> dict[str, Any]:
    """The `verdict`, `comparisons` and `notes` of the report."""
    if found.judged is None:
        return {"verdict": _untested(run, found), "comparisons": [], "notes": []}
    judged, margin = found.judged, run.section("config").get("margin")
    arm, against = _pair(run)
    verdict = decide(
        judged.results,
        metric=judged.metric,
        higher_is_better=judged.higher_is_better,
        evidence=str(run.section("evidence").get("level", "none")),
        trusted=given_trusted(run),
        margin=margin,
        selection_arm=arm,
        against=against,
    ).as_dict()
    pairs = comparisons(
        judged.results,
        metric=judged.metric,
        higher_is_better=judged.higher_is_better,
        margin=margin,
    )
    return {"verdict": verdict, "comparisons": pairs, "notes": notes(judged, verdict, pairs)}


def _pair(run: Run) -> tuple[str, str]:
    """The pair of the verdict: selected and random, or what a user named."""
    pair = run.section("pair")
    return str(pair.get("arm", "selected")), str(pair.get("against", AGAINST))


def _untested(run: Run, found: Evidence) -> dict[str, Any]:
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
    judged: Judged, verdict: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]]
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
