"""Comparisons besides the verdict: pairs of arms, arms matched on something else, single tasks."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pilotfish import stats
from pilotfish.comparison.arm_names import EPOCHS, ORDER, ArmName, in_order, parse_arm_name
from pilotfish.comparison.contrast import Contrast, Outcome, number, sentence
from pilotfish.comparison.data import ComparisonData

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
MATCHED_ARMS = ("random_tokens", "random_compute")  # compared in `matched_table`
LEADS = {"relabel_all": "Selection against relabel-all: ", "weak": "Strong minus weak: "}
MATCHED_LEADS = {
    "steps": "Equal steps and rows",
    "tokens": "Equal tokens",
    "compute": "Equal FLOPs",
    "epochs": "Equal epochs",
}


class _Corrected(NamedTuple):
    """An outcome after Holm's correction.

    p_holm: None for an indication, which is outside the correction. reason: Why the interval alone
    was not enough, for the sentence; "" elsewhere.
    """

    outcome: Outcome
    p_holm: float | None
    reason: str


def _correct(
    data: ComparisonData, contrasts: Sequence[Contrast], margin: float | None
) -> list[_Corrected]:
    """Decide each contrast, with Holm's correction over all that have enough seeds for a claim.

    Better and worse need a corrected p below alpha; equivalent needs an (uncorrected) interval
    inside the margin. A contrast with too few seeds is not_tested.
    """
    claims = [
        at
        for at, one in enumerate(contrasts)
        if one.estimate.p is not None and data.is_claim(one.arm, one.against)
    ]
    p_values = stats.holm([contrasts[at].estimate.p or 0.0 for at in claims])
    corrected = [_Corrected("not_tested", None, "") for _ in contrasts]
    for at, p in zip(claims, p_values, strict=True):
        outcome, reason = contrasts[at].outcome(margin), ""
        if outcome in ("better", "worse") and p >= data.alpha:
            outcome = "undecided"
            reason = (
                f"; not significant among {len(claims)} comparisons (p {number(p)} after Holm's "
                "correction)"
            )
        corrected[at] = _Corrected(outcome, p, reason)
    return corrected


def comparisons(data: ComparisonData) -> list[dict[str, Any]]:
    """Return the `comparisons` of report.json: all pairs whose arms were evaluated.

    They are PAIRS, then arms of the user's own: a variant against the arm it varies, another method
    against random rows, and `selected@...` of other budgets against the controls of that budget.

    Returns:
        {arm, against, metric, higher_is_better, difference, low, high, margin, p, p_holm, outcome,
        seeds, items, excluded, sentence} of each. A pair with a trained arm below 3 seeds is
        not_tested: an indication, outside of Holm's correction.
    """
    pairs = [pair for pair in (*PAIRS, *_own_pairs(data)) if data.has(*pair)]
    contrasts = [data.contrast(*pair) for pair in pairs]
    corrected = _correct(data, contrasts, data.margin)
    return [
        {
            "arm": one.arm,
            "against": one.against,
            "metric": one.metric,
            "higher_is_better": one.higher_is_better,
            "difference": one.estimate.value,
            "low": one.estimate.low,
            "high": one.estimate.high,
            "margin": data.margin,
            "p": one.estimate.p,
            "p_holm": p_holm,
            "outcome": outcome,
            "seeds": list(one.estimate.seeds),
            "items": one.estimate.items,
            "excluded": one.estimate.excluded,
            "sentence": sentence(
                one, outcome, data.margin, lead=LEADS.get(one.against, ""), reason=reason
            ),
        }
        for one, (outcome, p_holm, reason) in zip(contrasts, corrected, strict=True)
    ]


def _own_pairs(data: ComparisonData) -> Iterator[tuple[str, str]]:
    """Yield pairs of arms outside PAIRS, without those of `matched_table`."""
    variants = data.plan.get("variants", {})
    for name in in_order(data.results):
        parts = parse_arm_name(name)
        if parts.equal or parts.arm in MATCHED_ARMS:
            continue
        if parts.budget and parts.arm == "selected":
            yield name, ArmName("random", parts.budget).name
            yield name, ArmName("length_matched", parts.budget).name
        elif parts.arm in data.methods:
            yield name, ArmName("random", parts.budget).name
        elif not parts.budget and name not in ORDER:
            yield name, variants.get(name, "selected")


def matched_table(data: ComparisonData) -> list[dict[str, Any]]:
    """Return the `equal` of report.json: the selection against random rows matched on something.

    At every budget: equal steps and rows, equal tokens, equal compute (the selection's FLOPs given
    to random rows as training) and equal epochs. Each rules out one other explanation of a gain.

    Returns:
        {what, arm, against, budget, difference, low, high, p, p_holm, outcome, rows, tokens, steps,
        flops, sentence} of each; rows to flops are pairs [arm, against] of means over seeds. Better
        and worse need Holm's p below alpha over all lines with enough seeds.
    """
    margin = data.usable_margin
    lines = [line for line in _matched_lines(data) if data.has(line[1], line[2])]
    contrasts = [data.contrast(arm, against) for _, arm, against, _ in lines]
    corrected = _correct(data, contrasts, margin)
    table = []
    for line, one, (outcome, p_holm, reason) in zip(lines, contrasts, corrected, strict=True):
        what, arm, against, budget = line
        row: dict[str, Any] = {
            "what": what,
            "arm": arm,
            "against": against,
            "budget": budget,
            "difference": one.estimate.value,
            "low": one.estimate.low,
            "high": one.estimate.high,
            "p": one.estimate.p,
            "p_holm": p_holm,
            "outcome": outcome,
        }
        for key in ("rows", "tokens", "steps", "flops"):
            row[key] = [data.training_fact(each, key) for each in (arm, against)]
        lead = f"{MATCHED_LEADS[what]}: "
        row["sentence"] = sentence(one, outcome, margin, lead=lead, reason=reason)
        table.append(row)
    return table


def _matched_lines(data: ComparisonData) -> Iterator[tuple[str, str, str, str]]:
    """Yield (what is equal, arm, against, budget as typed)."""
    for slug, budget in data.budgets.items():
        selected = ArmName("selected", slug).name
        yield "steps", selected, ArmName("random", slug).name, budget
        yield "tokens", selected, ArmName("random_tokens", slug).name, budget
        yield "compute", selected, ArmName("random_compute", slug).name, budget
        if slug:
            equal, random = (ArmName(arm, slug, EPOCHS).name for arm in ("selected", "random"))
            yield "epochs", equal, random, budget
        else:
            yield "epochs", "selected", ArmName("full", "", EPOCHS).name, budget


def tasks(data: ComparisonData, arm: str, against: str) -> list[dict[str, Any]]:
    """Return the `tasks` of report.json: arm minus against on the items of each task, by name.

    Returns:
        {task, items, arm, against, difference, low, high, p, p_holm, outcome} of each; Holm's
        correction is over the tasks. [] where items name fewer than two tasks.
    """
    by_task = _items_by_task(data)
    if len(by_task) < 2 or not data.has(arm, against):
        return []
    contrasts = [data.among(ids).contrast(arm, against) for ids in by_task.values()]
    corrected = _correct(data, contrasts, data.usable_margin)
    return [
        {
            "task": task,
            "items": one.estimate.items,
            "arm": arm,
            "against": against,
            "difference": one.estimate.value,
            "low": one.estimate.low,
            "high": one.estimate.high,
            "p": one.estimate.p,
            "p_holm": p_holm,
            "outcome": outcome,
        }
        for task, one, (outcome, p_holm, _) in zip(by_task, contrasts, corrected, strict=True)
    ]


def macro(data: ComparisonData, arm: str, against: str) -> dict[str, Any] | None:
    """Return the `macro` of report.json: the unweighted mean of the tasks' differences.

    None where items name fewer than two tasks.
    """
    by_task = _items_by_task(data)
    if len(by_task) < 2 or not data.has(arm, against):
        return None
    parts = [data.among(ids) for ids in by_task.values()]
    found = stats.macro(
        [(part.values(arm), part.values(against)) for part in parts],
        alpha=data.alpha,
        fixed=(data.fixed(arm), data.fixed(against)),
    )
    return {
        "arm": arm,
        "against": against,
        "difference": found.value,
        "low": found.low,
        "high": found.high,
    }


def _items_by_task(data: ComparisonData) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for item in data.items():
        if item in data.tasks:
            found.setdefault(data.tasks[item], set()).add(item)
    return dict(sorted(found.items()))
