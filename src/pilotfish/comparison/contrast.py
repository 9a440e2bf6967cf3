"""The difference between two arms: its outcome, and the sentence that reports it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pilotfish import stats
from pilotfish.comparison.arm_names import arm_in_words
from pilotfish.errors import UsageError
from pilotfish.stats import Estimate

Outcome = Literal["better", "equivalent", "worse", "undecided", "not_tested"]

MARGINS: Mapping[str, float] = {"exact_match": 0.02, "accuracy": 0.02, "loss": 0.01}
"""Margin of equivalence by metric: two points of a share, the wider of the usual guards; a
hundredth of a nat per token, which is 1% of perplexity."""

UNITS: Mapping[str, str] = {"exact_match": "exact match", "loss": "nats per token"}
_LARGE = 1e4  # decimals of larger numbers carry no information


@dataclass(frozen=True)
class Contrast:
    """Arm minus against in the metric's own units, over items scored for every seed of both.

    Attributes:
        arm: The first arm.
        against: The arm it is compared with.
        metric: Name of the metric.
        higher_is_better: Which way the metric points.
        estimate: The difference with its interval over seeds and items.
        means: Means of both arms over the same items; None without a usable item.
        alpha: The interval has confidence 1 - alpha.
    """

    arm: str
    against: str
    metric: str
    higher_is_better: bool
    estimate: Estimate
    means: tuple[float, float] | None
    alpha: float = 0.05

    def outcome(self, margin: float | None) -> Outcome:
        """Return better, worse, equivalent or undecided, from the interval and the margin.

        Better and worse need an interval on one side of 0. They take precedence over equivalent,
        which needs an interval inside (-margin, +margin).
        """
        low, high = self.estimate.low, self.estimate.high
        if low is not None and high is not None and not low <= 0 <= high:
            return "better" if self.ahead else "worse"
        if margin is not None and stats.inside(self.estimate, margin):
            return "equivalent"
        return "undecided"

    @property
    def ahead(self) -> bool:
        """Whether the arm has the better mean, however uncertain the difference is."""
        value = self.estimate.value or 0.0
        return value > 0 if self.higher_is_better else value < 0


def margin_of(metric: str, margin: float | None = None) -> float | None:
    """Return the given margin, else the metric's own; None for a metric without one.

    Raises:
        UsageError: The given margin is not a positive finite number.
    """
    if margin is not None and not 0 < margin < math.inf:
        raise UsageError(
            f"an equivalence margin must be a finite number above 0, not {margin}",
            hint="write it in units of the metric, for example --margin 0.02",
        )
    return MARGINS.get(metric) if margin is None else margin


def sentence(
    contrast: Contrast,
    outcome: Outcome,
    margin: float | None,
    *,
    lead: str = "",
    reason: str = "",
) -> str:
    """Report a contrast in one sentence: who is ahead, both means, interval, seeds and items.

    Args:
        contrast: The difference.
        outcome: What it was found to be; multiple comparisons may make it weaker than its interval.
        margin: The margin of equivalence, in units of the metric.
        lead: Words before the sentence.
        reason: Why the outcome is what it is, in place of the reason from interval and margin.
    """
    if contrast.means is None:
        return (
            f"{contrast.arm} and {contrast.against} cannot be compared: no item was scorable for "
            "every seed of both."
        )
    arm, against = arm_in_words(contrast.arm), arm_in_words(contrast.against)
    if contrast.estimate.value == 0.0:
        order = f"{arm} and {against} came out level"
    else:
        first, second = (arm, against) if contrast.ahead else (against, arm)
        order = f"on average {first} did better than {second}"
    head = {
        "better": f"{arm} beat {against}",
        "worse": f"{against} beat {arm}",
        "equivalent": f"{arm} and {against} are equivalent",
        "undecided": f"undecided: {order}",
        "not_tested": f"not tested, only an indication: {order}",
    }[outcome]
    text = f"{lead}{head}, {_numbers(contrast, contrast.means)}"
    text += reason or _reason(contrast, outcome, margin)
    return f"{text[0].upper()}{text[1:]}."


def _numbers(contrast: Contrast, means: tuple[float, float]) -> str:
    """Both means, the better one first, then the difference with what it is based on."""
    estimate = contrast.estimate
    one, other = means if contrast.ahead or not estimate.value else means[::-1]
    unit = UNITS.get(contrast.metric, contrast.metric)
    direction = "" if contrast.higher_is_better else " (lower is better)"
    interval = "no interval"
    if estimate.low is not None and estimate.high is not None:
        level = f"{100 * (1 - contrast.alpha):g}%"
        interval = f"{level} interval {number(estimate.low, '+')} to {number(estimate.high, '+')}"
    ours, theirs = estimate.seeds
    seeds = f"{_count(ours, 'seed')} each" if ours == theirs else f"{ours} and {theirs} seeds"
    excluded = f", {estimate.excluded:,} more unscorable" if estimate.excluded else ""
    value = "unknown" if estimate.value is None else number(estimate.value, "+")
    return (
        f"{number(one)} against {number(other)} {unit}{direction}: {contrast.arm} minus "
        f"{contrast.against} is {value} ({interval}; {seeds}, "
        f"{_count(estimate.items, 'item')}{excluded})"
    )


def _reason(contrast: Contrast, outcome: Outcome, margin: float | None) -> str:
    if margin is None:
        return ""
    if outcome == "equivalent":
        return f"; the whole interval is inside the margin of {number(margin)}"
    if outcome == "undecided":
        return (
            f"; the interval is neither on one side of 0 nor inside the margin of {number(margin)}"
        )
    if outcome in ("better", "worse") and abs(contrast.estimate.value or 0.0) < margin:
        return f"; the difference is less than the margin of {number(margin)}"
    return ""


def advice(needed: stats.Needed, *, seeds: int, items: int) -> str:
    """Say how many seeds or items would decide an undecided comparison.

    Args:
        needed: The numbers that would decide it.
        seeds: Seeds per arm now.
        items: Items now.
    """
    ways = []
    if needed.seeds is not None:
        ways.append(f"about {needed.seeds:,} seeds per arm instead of {seeds}")
    if needed.items is not None:
        ways.append(f"about {needed.items:,} items instead of {items:,}")
    if not ways:
        return (
            "The difference is too uncertain to predict how many seeds or items would decide it: "
            "add both."
        )
    return f"It would probably be decided with {' or '.join(ways)}."


def number(value: float, sign: str = "") -> str:
    """Format a number of a sentence: 3 decimals, 1 digit when tiny, none from ten thousand on."""
    tiny = value != 0 and abs(value) < 0.0005
    digits = ",.0f" if abs(value) >= _LARGE else ".1g" if tiny else ",.3f"
    return f"{value:{sign}{digits}}"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
