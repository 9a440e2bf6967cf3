"""The verdict: selected against random rows, by a rule that was fixed before any measurement."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pilotfish import stats
from pilotfish.comparison.contrast import Outcome, advice, sentence
from pilotfish.comparison.data import CLAIM_SEEDS, ComparisonData
from pilotfish.errors import UsageError
from pilotfish.evaluation.results import Results

AGAINST = "random"
CONTROLS = ("random", "length_matched")  # a claim about the selection needs both


@dataclass(frozen=True)
class Verdict:
    """The `verdict` of report.json.

    Attributes:
        outcome: What the difference means, given the metric's direction.
        arm: The arm of the selection.
        against: The arm it is compared with.
        metric: Name of the metric.
        higher_is_better: Which way the metric points.
        difference: arm - against in the metric's own units.
        low: Lower end of the 95% interval over seeds and items; None where there is no interval.
        high: Upper end.
        margin: Margin of equivalence; None for a metric without one.
        sentence: All of it in words.
        p: The alpha at which that interval touches 0.
        p_seeds: p of the t test on the seeds' means alone, over the same items. Whatever the
            interval decides, this test decides as well.
        seed_pairs: McNemar's test inside each pair of models (see `seed_pairs`).
    """

    outcome: Outcome
    arm: str
    against: str
    metric: str
    higher_is_better: bool
    difference: float | None
    low: float | None
    high: float | None
    margin: float | None
    sentence: str
    p: float | None = None
    p_seeds: float | None = None
    seed_pairs: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for report.json."""
        return asdict(self)


def decide(
    data: ComparisonData,
    *,
    evidence: str,
    trusted: bool,
    arm: str = "selected",
    against: str = AGAINST,
) -> Verdict:
    """Decide whether the selection is better than random rows.

    The checks come in this order, and the first that fails decides:

    1. Both arms were evaluated; else not_tested without numbers.
    2. The selection and both CONTROLS have CLAIM_SEEDS seeds (a pair that the user named: both of
       its arms); else not_tested, and the numbers are an indication.
    3. The t interval over seeds and items (`stats.difference`) is on one side of 0 (better or
       worse) or inside the margin (equivalent); else undecided, with what would decide it.

    Args:
        data: Results, metric and margin.
        evidence: Level of evidence of the run, for the sentence.
        trusted: Whether the run has trusted rows, for the sentence.
        arm: The arm of the selection.
        against: The arm it is compared with; other than random only when the user named it.

    Raises:
        UsageError: `arm` contains trusted rows and random does not, so that the value of the
            trusted rows would be counted as the selection's.
    """
    if against == AGAINST and arm.startswith("trusted"):
        raise UsageError(
            f"'{arm}' contains trusted rows and random does not, so the comparison is not fair",
            hint="`comparisons` has trusted_selected against trusted_random",
        )
    pair = (arm, against, data.metric, data.higher_is_better)
    if absent := [name for name in (arm, against) if not data.has(name)]:
        text = (
            f"Not tested: there are no results for {' and '.join(absent)} (evidence: {evidence}), "
            "so the value of the selection is unknown. "
            f"Run with --evidence full --seeds {CLAIM_SEEDS}."
        )
        return Verdict("not_tested", *pair, None, None, None, data.margin, text)

    contrast = data.contrast(arm, against)
    estimate = contrast.estimate
    short = data.short_of_seeds(arm, *(CONTROLS if against == AGAINST else (against,)))
    outcome: Outcome = "not_tested"
    if not short and contrast.means is not None:
        outcome = contrast.outcome(data.margin)

    lead = "Random won: " if outcome == "worse" and against == AGAINST else ""
    parts = [sentence(contrast, outcome, data.margin, lead=lead)]
    if short:
        parts.append(_seeds_needed(short, against))
    elif outcome == "undecided":
        needed = stats.needed(estimate, margin=data.margin, alpha=data.alpha)
        parts.append(advice(needed, seeds=min(estimate.seeds), items=estimate.items))
    if trusted and not data.has("trusted"):
        parts.append(
            "No model was trained on the trusted rows alone, so it is unknown whether they would "
            "be enough."
        )
    seed_test = stats.seed_test(
        data.values(arm), data.values(against), fixed=(data.fixed(arm), data.fixed(against))
    )
    return Verdict(
        outcome,
        *pair,
        estimate.value,
        estimate.low,
        estimate.high,
        data.margin,
        " ".join(parts),
        p=estimate.p,
        p_seeds=seed_test.p,
        seed_pairs=seed_pairs(data.results, arm, against),
    )


def _seeds_needed(short: Mapping[str, int], against: str) -> str:
    """Say which arms need more seeds before an indication becomes a claim."""
    have = ", ".join(f"{arm} has {count or 'none'}" for arm, count in short.items())
    if against != AGAINST:
        return f"A claim needs {CLAIM_SEEDS} seeds of both arms; {have}."
    return (
        f"A claim needs {CLAIM_SEEDS} seeds each of selected, random and length_matched; {have}. "
        f"Run with --evidence full --seeds {CLAIM_SEEDS}."
    )


def seed_pairs(results: Results, arm: str, against: str) -> list[dict[str, Any]]:
    """Compare the two models of each shared seed by McNemar's exact test.

    Its p is about these two models only. It ignores the variance over seeds, so no verdict uses it.

    Args:
        results: arm -> seed -> item id -> value.
        arm: The selection's arm, or the first of a pair that the user named.
        against: The other arm.

    Returns:
        {seed, only_selected, only_random, p} per shared seed, counting items that are right in
        `arm` alone and in `against` alone; items unscorable for either are left out. [] where
        values are not 0 and 1.
    """
    pairs = []
    for seed in sorted({*results.get(arm, {})} & {*results.get(against, {})}):
        ours, theirs = results[arm][seed], results[against][seed]
        both = [(ours[item], theirs[item]) for item in ours if item in theirs]
        values = [pair for pair in both if not any(map(math.isnan, pair))]
        if any(value not in (0.0, 1.0) for pair in values for value in pair):
            return []
        won, lost = values.count((1.0, 0.0)), values.count((0.0, 1.0))
        p = stats.mcnemar(won, lost)
        pairs.append({"seed": seed, "only_selected": won, "only_random": lost, "p": p})
    return pairs


@dataclass(frozen=True)
class ChosenMethod:
    """The method that the verdict is on.

    Attributes:
        arm: Its arm.
        data: The results that decide about it.
        facts: The `chosen` of report.json; None where there is one method only.
    """

    arm: str
    data: ComparisonData
    facts: dict[str, Any] | None


def choose_method(data: ComparisonData) -> ChosenMethod:
    """Choose the method of the verdict, and the items that the verdict is computed from.

    Without `method_selection: split` in the plan, it is the method named in advance; the others are
    secondary comparisons under Holm's correction. With it, one half of the items (by a hash of
    their ids) chooses the best method and the other half decides about it, because test rows that
    chose a method do not evaluate it fairly. Both halves were answered by the same trained models,
    so seeds that differ much still let luck through (docs/statistics.md has the rates).
    """
    names = [name for name in ("selected", *data.methods) if data.has(name)]
    if len(names) < 2:
        return ChosenMethod("selected", data, None)
    if data.plan.get("method_selection") != "split" or not data.has("random"):
        others = len(names) - 1
        text = (
            f"The verdict is on {_with_method(data, 'selected')}, named in advance. "
            f"{others} other {'method is' if others == 1 else 'methods are'} compared with random "
            "rows separately, with Holm's correction."
        )
        facts = {"method": "selected", "how": "fixed", "sentence": text}
        return ChosenMethod("selected", data, facts)
    ids, arms = data.items(), {name: data.values(name) for name in names}
    random = data.values("random")
    try:
        best = stats.best_of(arms, random, ids, higher_is_better=data.higher_is_better).name
    except ValueError:  # no item was scorable for all methods
        return ChosenMethod("selected", data, None)
    chooses = stats.halves(ids)
    rest = {i for i, half in zip(ids, chooses, strict=True) if not half}
    text = (
        f"{_with_method(data, best)} was the best of {len(names)} methods on one half of the test "
        f"rows ({chooses.sum():,}). The verdict is on the other half ({len(rest):,})."
    )
    return ChosenMethod(best, data.among(rest), {"method": best, "how": "split", "sentence": text})


def _with_method(data: ComparisonData, name: str) -> str:
    text = data.plan.get("methods", {}).get(name) or data.plan.get("method", name)
    return f"{name} ({text})"
