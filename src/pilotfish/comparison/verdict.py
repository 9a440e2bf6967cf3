"""The verdict: selected against random, decided by a rule fixed before anything was measured."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pilotfish import stats
from pilotfish.comparison import wording
from pilotfish.comparison.arm_table import is_fixed, matrices
from pilotfish.comparison.contrast import Contrast, Outcome, contrast, margin_of, short_of_seeds
from pilotfish.errors import UsageError
from pilotfish.evaluation.results import Results
from pilotfish.stats import mcnemar


def seed_pairs(results: Results, arm: str, against: str) -> list[dict[str, Any]]:
    """The `seed_pairs` of the verdict: {seed, only_selected, only_random, p} per shared seed.

    only_selected: items right in `arm` alone (the selection, or what a user named), only_random:
    right in `against` alone. p is exact for these two models and says nothing of others: it knows
    no spread over seeds, so no verdict rests on it. [] for values other than 0 and 1; items that
    either model could not be judged on are left out.
    """
    pairs = []
    for seed in sorted({*results.get(arm, {})} & {*results.get(against, {})}):
        ours, theirs = results[arm][seed], results[against][seed]
        both = [(ours[item], theirs[item]) for item in ours if item in theirs]
        values = [pair for pair in both if not any(map(math.isnan, pair))]
        if any(value not in (0.0, 1.0) for pair in values for value in pair):
            return []
        won, lost = values.count((1.0, 0.0)), values.count((0.0, 1.0))
        pairs.append(
            {"seed": seed, "only_selected": won, "only_random": lost, "p": mcnemar(won, lost)}
        )
    return pairs


AGAINST = "random"
CONTROLS = ("random", "length_matched")  # a claim needs both


@dataclass(frozen=True)
class Verdict:
    """The verdict of report.json. difference = arm - against in the metric's own numbers.

    low, high: 95% interval over seeds and items, None where there can be none. outcome: what the
    difference means once the metric's direction is taken into account. p: the alpha at which that
    interval touches 0. p_seeds: of the t test on seed means alone, on these very items; whatever
    the interval decides this test decides too. seed_pairs: see `judge.seed_pairs`.
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
        """Plain fields for report.json."""
        return asdict(self)


def decide(
    results: Results,
    *,
    metric: str,
    higher_is_better: bool,
    evidence: str,
    trusted: bool,
    margin: float | None = None,
    alpha: float = 0.05,
    selection_arm: str = "selected",
    against: str = AGAINST,
) -> Verdict:
    """The verdict on the selection against random rows.

    The comparison is fixed: `selection_arm` - random, t interval over seeds and items
    (`stats.difference`). It is a claim only with selection, random and length_matched at 3 seeds
    each; otherwise the outcome is not_tested and the numbers an indication. Better and worse need
    an interval on one side of 0, and win over equivalence, which needs the interval inside
    (-margin, +margin); the rest is undecided, with what would decide it. `margin` defaults to the
    metric's in MARGINS. `evidence` and `trusted` (whether trusted rows were given) only shape the
    sentence. Raises UsageError for a selection arm with trusted rows: random has none, and what
    the trusted rows are worth would be counted as the selection's. `against` another arm than
    random (of a user's own, named beforehand) a claim needs the two alone.
    """
    margin = margin_of(metric, margin)
    if against == AGAINST:
        _refuse_trusted(selection_arm)
    fixed = (selection_arm, against, metric, higher_is_better)
    absent = [arm for arm in (selection_arm, against) if not results.get(arm)]
    if absent:
        sentence = wording.nothing_to_compare(absent, evidence)
        return Verdict("not_tested", *fixed, None, None, None, margin, sentence)
    said = contrast(
        results, selection_arm, against,
        metric=metric, higher_is_better=higher_is_better, alpha=alpha,
    )  # fmt: skip
    controls = CONTROLS if against == AGAINST else (against,)
    short = short_of_seeds(results, (selection_arm, *controls))
    outcome = "not_tested" if short or said.means is None else is_settled(said, margin)
    sentence = _sentence(said, outcome, margin, short)
    if trusted and not results.get("trusted"):
        sentence += f" {wording.NO_TRUSTED_ARM}"
    found = said.found
    return Verdict(
        outcome, *fixed, found.value, found.low, found.high, margin, sentence,
        p=found.p, p_seeds=_p_seeds(results, selection_arm, against),
        seed_pairs=seed_pairs(results, selection_arm, against),
    )  # fmt: skip


def _p_seeds(results: Results, arm: str, against: str) -> float | None:
    a, b = matrices(results, [arm, against])
    return stats.seed_test(a, b, fixed=(is_fixed(results, arm), is_fixed(results, against))).p


def _refuse_trusted(selection_arm: str) -> None:
    if selection_arm.startswith("trusted"):
        raise UsageError(
            f"'{selection_arm}' holds trusted rows and random does not: no fair verdict",
            hint="`comparisons` holds trusted_selected against trusted_random",
        )


def is_settled(said: Contrast, margin: float | None) -> Outcome:
    """better, worse, equivalent or undecided, from the interval and the margin."""
    if said.outcome == "undecided" and margin is not None and stats.inside(said.found, margin):
        return "equivalent"
    return said.outcome


def _sentence(
    said: Contrast, outcome: Outcome, margin: float | None, short: Mapping[str, int]
) -> str:
    own = said.against != AGAINST
    lead = "Random won: " if outcome == "worse" and not own else ""
    sentence = wording.describe(said, outcome, margin, lead=lead)
    if short:
        return f"{sentence} {wording.claim_needs(short, own=own)}"
    if outcome != "undecided":
        return sentence
    needed = stats.needed(said.found, margin=margin, alpha=said.alpha)
    more = wording.advice(needed, seeds=min(said.found.seeds), items=said.found.items)
    return f"{sentence} {more}"
