"""What to do: which budget, whether to select at all, and when selecting pays for itself."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pilotfish import stats
from pilotfish.comparison.arm_names import ArmName
from pilotfish.comparison.contrast import Contrast
from pilotfish.comparison.data import CLAIM_SEEDS, ComparisonData
from pilotfish.flops import Cost

CHEAPER = ("trusted", "base")  # than selecting, like random rows: no row is scored for them
DEARER = ("full", "trusted_full")  # trained on all rows: recommended only if better
NO_QUALITY = "This is about cost only; the verdict is about quality."


@dataclass(frozen=True)
class SelectionCost:
    """What a selection cost, and the trainings it is set against.

    Attributes:
        charged: What making the selection took, over all seeds.
        trained: `<arm> seed <n>` -> cost of that training.
        pool_rows: Rows of the whole pool.
        times: How many seeds made their own selection.
        weak_parameters: Parameters of the weak model.
    """

    charged: Cost
    trained: Mapping[str, Cost]
    pool_rows: int
    times: int = 1
    weak_parameters: float | None = None


def recommendation(data: ComparisonData, method: str = "selected") -> dict[str, Any] | None:
    """Return the `recommendation` of report.json; None without an evaluated selection.

    The rule was fixed in advance:

    1. Take the budget whose selected arm has the best mean, then go down to the smallest budget
       that is shown (by a one-sided interval) to be worse by no more than the margin.
    2. Compare its arm with random rows of that budget, trusted rows alone and the base model (all
       cheaper), and with all rows (dearer). A rival wins if it is better; a cheaper one also if the
       two are equivalent within the margin. Of several winners, take the one with the best mean.
    3. Without a winner, recommend the selection if it is better than random, else nothing.

    With fewer than CLAIM_SEEDS seeds nothing is recommended.

    Args:
        data: Results, margin and plan.
        method: The selection that the verdict is on: `selected` or one of `methods`.

    Returns:
        {choice, arm, budget, sentence, rivals}; choice is selected, random, trusted, base, full or
        undecided.
    """
    arms = {slug: ArmName(method, slug).name for slug in data.budgets}
    arms = {
        slug: arm for slug, arm in arms.items() if data.has(arm) and _merit(data, arm) > -math.inf
    }
    if not arms:
        return None
    slug, remark = _smallest_good_budget(data, arms)
    arm, budget, random = arms[slug], data.budgets[slug], ArmName("random", slug).name
    rivals = {
        name: data.contrast(arm, name) for name in (random, *CHEAPER, *DEARER) if data.has(name)
    }
    if random not in rivals or not data.is_claim(arm, random):
        choice = "undecided"
        text = (
            f"No recommendation: it needs {CLAIM_SEEDS} seeds of both the selected and the random "
            "arm."
        )
    else:
        choice, decisive = _choose(data, rivals, random)
        text = _advice(choice, budget, decisive) + (remark if choice == "selected" else "")
    return {
        "choice": choice,
        "arm": arm,
        "budget": budget,
        "sentence": text,
        "rivals": [
            {
                "arm": name,
                "difference": one.estimate.value,
                "low": one.estimate.low,
                "high": one.estimate.high,
            }
            for name, one in rivals.items()
        ],
    }


def _smallest_good_budget(data: ComparisonData, arms: Mapping[str, str]) -> tuple[str, str]:
    """Return the slug of the smallest budget as good as the best one, and a remark on why.

    Args:
        data: Results and margin.
        arms: Slug -> selected arm of that budget.
    """
    best = max(arms, key=lambda slug: (_merit(data, arms[slug]), slug))
    by_rows = sorted(arms, key=lambda slug: data.training_fact(arms[slug], "rows") or 0)
    slug = next(s for s in by_rows if s == best or _as_good(data, arms[s], arms[best]))
    if len(arms) < 2:
        return slug, ""
    if slug != best:
        better, margin = data.budgets[best], data.usable_margin
        return slug, f" It is shown to be as good as {better}, the best budget, within {margin:g}."
    return slug, (
        f" It has the best mean of {len(arms)} budgets, and no smaller one is shown to be as good."
    )


def _merit(data: ComparisonData, arm: str) -> float:
    """Return an arm's mean, turned so that more is better; -inf if no item could be scored."""
    mean = stats.mean(data.values(arm)).value
    if mean is None:
        return -math.inf
    return mean if data.higher_is_better else -mean


def _as_good(data: ComparisonData, arm: str, best: str) -> bool:
    """Return whether an arm is shown to be worse than the best by no more than the margin."""
    if not data.is_claim(arm, best):
        return False
    found = stats.difference(data.values(arm), data.values(best), alpha=2 * data.alpha)
    bound, margin = found.low if data.higher_is_better else found.high, data.usable_margin
    if bound is None:
        return False
    return bound > -margin if data.higher_is_better else bound < margin


def _choose(
    data: ComparisonData, rivals: Mapping[str, Contrast], random: str
) -> tuple[str, Contrast]:
    """Return what to do, and the comparison that decided it."""
    outcomes = {
        name: one.outcome(data.usable_margin)
        for name, one in rivals.items()
        if data.is_claim(one.arm, name)
    }
    ahead = [
        name
        for name, outcome in outcomes.items()
        if outcome == "worse" or (outcome == "equivalent" and name in (random, *CHEAPER))
    ]
    if ahead:  # of equal means the first, and the cheapest come first
        name = max(ahead, key=lambda each: _merit(data, each))
        choice = "full" if name == "trusted_full" else name.partition("@")[0]
        return choice, rivals[name]
    return ("selected" if outcomes[random] == "better" else "undecided"), rivals[random]


def _advice(choice: str, budget: str, decisive: Contrast) -> str:
    estimate = decisive.estimate
    gap = "unknown" if estimate.value is None else f"{estimate.value:+.3f}"
    if estimate.low is not None and estimate.high is not None:
        gap += f" ({estimate.low:+.3f} to {estimate.high:+.3f})"
    elif estimate.value is not None:
        gap += " (no interval)"
    return {
        "selected": f"Select {budget}: the selection's difference from random rows is {gap}.",
        "undecided": f"Undecided at {budget}: the selection's difference from random rows is "
        f"{gap}. This run shows neither that selecting pays nor that it does not.",
        "random": f"Take random rows: the selection's difference from them at {budget} is {gap}, "
        "and they cost nothing to pick.",
        "trusted": "Train on the trusted rows only: the selection's difference from them is "
        f"{gap}.",
        "full": f"Train on all rows: the selection's difference from them is {gap}.",
        "base": "Do not train: the selection's difference from the model without fine-tuning is "
        f"{gap}.",
    }[choice]


def break_even(
    data: ComparisonData, cost: SelectionCost, worth: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """Return the `break_even` of report.json: what a selection must save to pay, and what it saves.

    Both sides are of one seed and as many epochs as the selected arm had: training on all rows
    costs that of the selected ones times the rows there are for each.

    Args:
        data: Results and training facts.
        cost: Of the selection and of the trainings.
        worth: The line of `curve`'s efficiency on the selected arm.

    Returns:
        needed, saved: shares of training on all rows, in seconds; needed_flops: the same in FLOPs;
        ratio: parameters of the strong model per parameter of the weak one; random_seconds: further
        training time of random rows that do as well, None if unknown; sentence. None if the
        selection or its training has no recorded cost.
    """
    training, rows = cost.trained.get("selected seed 0"), data.training_fact("selected", "rows")
    if training is None or not rows or not cost.charged.seconds or not training.seconds:
        return None
    growth, spent = cost.pool_rows / rows, cost.charged.seconds / cost.times
    needed, saved = spent / (training.seconds * growth), 1 - 1 / growth
    needed_flops, in_flops = None, ""
    if cost.charged.flops and training.flops:
        needed_flops = cost.charged.flops / cost.times / (training.flops * growth)
        in_flops = f" (in FLOPs {needed_flops:.1%})"
    strong = data.training_fact("selected", "parameters")
    ratio = strong / cost.weak_parameters if strong and cost.weak_parameters else None
    random_seconds = None
    if worth and worth["value"] is not None and not worth["censored"]:
        random_seconds = (worth["value"] - 1) * training.seconds
    pays = (
        "so in time alone it pays off with the first training"
        if saved > needed
        else "so one training does not pay for it"
    )
    parts = [
        f"Selecting took {spent:.0f} s. It pays off only if it saves more than "
        f"{needed:.1%}{in_flops} of a training on the whole pool, which takes about "
        f"{training.seconds * growth:.0f} s for the same number of epochs; training on the "
        f"selected rows saves {saved:.1%} of it, {pays}."
    ]
    quality = [_against_all(data)]
    if data.is_claim("selected", "random"):
        quality.append(_against_random(worth, random_seconds, spent))
    parts += [text for text in quality if text] or [NO_QUALITY]
    if ratio:
        parts.append(f"The strong model has {ratio:.1f} times the parameters of the weak model.")
    return {
        "needed": needed,
        "saved": saved,
        "needed_flops": needed_flops,
        "ratio": ratio,
        "random_seconds": random_seconds,
        "sentence": " ".join(parts),
    }


def _against_all(data: ComparisonData) -> str:
    """Say whether training on all rows would give a better model; "" if that was not tested."""
    if not data.has("selected", "full") or not data.is_claim("selected", "full"):
        return ""
    return {
        "better": "The model is better than the one trained on all rows.",
        "equivalent": "Quality is equal: all rows are no better within the margin.",
        "worse": "Quality is not equal: the model trained on all rows is better.",
        "undecided": "Whether all rows would be better is undecided.",
        "not_tested": "",
    }[data.contrast("selected", "full").outcome(data.usable_margin)]


def _against_random(
    worth: Mapping[str, Any] | None, random_seconds: float | None, spent: float
) -> str:
    """Say what random rows that do as well would cost; "" if that is unknown."""
    if worth is None or worth["value"] is None:
        return ""
    rows = f"{worth['value'] * worth['rows']:,.0f}"
    if worth["side"] == "above":
        return f"No number of random rows that was tried (at most {rows}) does as well."
    if worth["side"] == "below":
        return f"Even the fewest random rows that were tried ({rows}) do better: nothing is saved."
    low, high = (
        "?" if end is None else f"{end * worth['rows']:,.0f}"
        for end in (worth["low"], worth["high"])
    )
    as_good = f"About {rows} random rows (interval {low} to {high}) do as well"
    if random_seconds is None or random_seconds <= 0:
        return f"{as_good}, no more than the selected ones: nothing is saved."
    pays = "more" if random_seconds > spent else "less"
    return f"{as_good}; they need {random_seconds:.0f} s more training, {pays} than selecting took."
