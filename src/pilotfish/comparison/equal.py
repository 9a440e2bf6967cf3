"""Equal what? Rows, tokens, steps, epochs, compute: the same contest, another thing held equal."""

from collections.abc import Iterator
from typing import Any

from pilotfish.comparison import wording
from pilotfish.comparison.arm_names import EPOCHS, ArmName
from pilotfish.comparison.case import ComparisonData
from pilotfish.comparison.contrast import Outcome
from pilotfish.comparison.verdict import is_settled
from pilotfish.stats import holm

SAYS = {
    "steps": "In as many steps, on as many rows",
    "tokens": "On as many tokens",
    "compute": "With the FLOPs of the selection spent on training",
    "epochs": "In as many epochs",
}


def matched_table(case: ComparisonData) -> list[dict[str, Any]]:
    """The `equal` of report.json: selection against what may explain it away, at every budget.

    Each: {what, arm, against, budget, difference, low, high, p, p_holm, outcome, rows, tokens,
    steps, flops (each [arm, against], means over seeds), sentence}. better and worse need Holm's p
    below alpha over all lines that are claims.
    """
    lines = list(_lines(case))
    claims = [at for at, (_, arm, against, _) in enumerate(lines) if case.is_claim(arm, against)]
    found = [case.contrast(arm, against) for _, arm, against, _ in lines]
    claims = [at for at in claims if found[at].found.p is not None]
    corrected = dict(zip(claims, holm([found[at].found.p or 0.0 for at in claims]), strict=True))
    told = []
    for at, (what, arm, against, budget) in enumerate(lines):
        said, p = found[at], corrected.get(at)
        outcome: Outcome = "not_tested" if p is None else is_settled(said, case.margin)
        if p is not None and outcome in ("better", "worse") and p >= case.alpha:
            outcome = "undecided"
        told.append({
            "what": what, "arm": arm, "against": against, "budget": budget,
            "difference": said.found.value, "low": said.found.low, "high": said.found.high,
            "p": said.found.p, "p_holm": p, "outcome": outcome,
            **{key: _pair(case, key, arm, against) for key in ("rows", "tokens", "steps", "flops")},
            "sentence": wording.describe(said, outcome, case.margin, lead=f"{SAYS[what]}: "),
        })  # fmt: skip
    return told


def _lines(case: ComparisonData) -> Iterator[tuple[str, str, str, str]]:
    """(what is equal, arm, against, budget as typed)."""
    for slug, budget in case.budgets.items():
        arm = ArmName("selected", slug).name
        rivals = {
            "steps": ArmName("random", slug).name,
            "tokens": ArmName("random_tokens", slug).name,
            "compute": ArmName("random_compute", slug).name,
        }
        for what, against in rivals.items():
            if case.has(arm, against):
                yield what, arm, against, budget
        yield from _in_epochs(case, slug, budget)


def _in_epochs(case: ComparisonData, slug: str, budget: str) -> Iterator[tuple[str, str, str, str]]:
    if slug:
        pairs = [(ArmName(name, slug, EPOCHS).name) for name in ("selected", "random")]
        if case.has(*pairs):
            yield "epochs", pairs[0], pairs[1], budget
    elif case.has("selected", full := ArmName("full", "", EPOCHS).name):
        yield "epochs", "selected", full, budget


def _pair(case: ComparisonData, key: str, arm: str, against: str) -> list[float | None]:
    return [case.fact(each, key) for each in (arm, against)]
