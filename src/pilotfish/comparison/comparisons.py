"""The secondary comparisons: each arm against the rival a reader will ask about, Holm-corrected."""

from collections.abc import Iterator, Mapping
from typing import Any

from pilotfish.comparison import wording
from pilotfish.comparison.arm_names import ArmName, parse_arm_name
from pilotfish.comparison.arm_table import ORDER, in_order
from pilotfish.comparison.contrast import Contrast, Outcome, contrast, margin_of, short_of_seeds
from pilotfish.comparison.verdict import is_settled
from pilotfish.evaluation.results import Results
from pilotfish.stats import holm

PAIRS = (
    ("selected", "length_matched"),
    ("selected", "longest"),
    ("selected", "full"),
    ("selected", "relabel_all"),
    ("selected", "weak"),
    ("selected", "trusted"),
    ("trusted_selected", "trusted_random"),
    ("trusted_selected", "trusted_full"),
    ("trusted_selected", "trusted"),
)
EQUAL = ("random_tokens", "random_compute")


def comparisons(
    results: Results,
    *,
    metric: str,
    higher_is_better: bool,
    margin: float | None = None,
    alpha: float = 0.05,
    plan: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Every pair of PAIRS whose arms were judged, then arms of the user's own and other budgets.

    plan: run.json's `evidence`. A variant stands against the arm it varies, another method against
    random rows, and at every other budget `selected@...` against its own controls.

    Each: {arm, against, metric, higher_is_better, difference, low, high, margin, p, p_holm,
    outcome, seeds, items, excluded, sentence}. better and worse need Holm's p below alpha over all
    pairs that are claims; equivalent an (uncorrected) interval inside the margin. A pair with a
    trained arm below 3 seeds is not_tested: an indication, outside the correction.
    """
    margin = margin_of(metric, margin)
    pairs = [*PAIRS, *_own(results, plan or {})]
    pairs = [pair for pair in pairs if all(results.get(arm) for arm in pair)]
    found = [
        contrast(results, *pair, metric=metric, higher_is_better=higher_is_better, alpha=alpha)
        for pair in pairs
    ]
    claims = [said for said in found if _is_claim(results, said)]
    corrected = dict(
        zip(map(id, claims), holm([said.found.p or 0.0 for said in claims]), strict=True)
    )
    return [_row(said, corrected.get(id(said)), len(claims), margin) for said in found]


def _own(results: Results, plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Pairs of arms outside PAIRS; what holds something else equal is told in `equal`."""
    methods, parents = plan.get("methods", {}), plan.get("variants", {})
    for arm in in_order(results):
        place = parse_arm_name(arm)
        if place.equal or place.arm in EQUAL:
            continue
        if place.budget and place.arm == "selected":
            yield arm, ArmName("random", place.budget).name
            yield arm, ArmName("length_matched", place.budget).name
        elif place.arm in methods:
            yield arm, ArmName("random", place.budget).name
        elif not place.budget and arm not in ORDER:
            yield arm, parents.get(arm, "selected")


def _is_claim(results: Results, said: Contrast) -> bool:
    return said.found.p is not None and not short_of_seeds(results, (said.arm, said.against))


def _row(said: Contrast, p_holm: float | None, claims: int, margin: float | None) -> dict[str, Any]:
    alone: Outcome = "not_tested" if p_holm is None else is_settled(said, margin)
    outcome, corrected = alone, ""
    # One of many pairs: an interval on one side of 0 is not yet enough.
    if p_holm is not None and alone in ("better", "worse") and p_holm >= said.alpha:
        outcome, corrected = "undecided", wording.after_holm(p_holm, claims)
    lead = wording.LEADS.get(said.against, "")
    found = said.found
    return {
        "arm": said.arm,
        "against": said.against,
        "metric": said.metric,
        "higher_is_better": said.higher_is_better,
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "margin": margin,
        "p": found.p,
        "p_holm": p_holm,
        "outcome": outcome,
        "seeds": list(found.seeds),
        "items": found.items,
        "excluded": found.excluded,
        "sentence": wording.describe(said, outcome, margin, lead=lead, corrected=corrected),
    }
