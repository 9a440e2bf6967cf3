"""What a comparison says in words, for an engineer who will act on it."""

from collections.abc import Mapping

from pilotfish.comparison.arm_names import parse_arm_name
from pilotfish.comparison.contrast import CLAIM_SEEDS, Contrast, Outcome
from pilotfish.stats import Needed

ARMS: Mapping[str, str] = {
    "base": "the untouched strong model",
    "weak": "the weak model itself",
    "random": "as many random rows",
    "random_tokens": "random rows of as many tokens",
    "random_compute": "random rows, the selection's FLOPs spent on training",
    "length_matched": "random rows of the same lengths",
    "longest": "the longest rows",
    "full": "the full data",
    "selected": "the selected rows",
    "trusted": "the trusted rows alone",
    "trusted_random": "trusted plus random rows",
    "trusted_full": "the trusted rows plus the full data",
    "trusted_selected": "trusted plus selected rows",
    "relabel_all": "all prompts relabelled by the weak model",
}
UNITS: Mapping[str, str] = {"exact_match": "exact match", "loss": "nats per token"}
LEADS: Mapping[str, str] = {
    "relabel_all": "Selection against relabel-all: ",
    "weak": "Strong minus weak: ",
}
_LARGE = 1e4  # from here on decimals say nothing
NO_TRUSTED_ARM = (
    "No model was trained on the trusted rows alone, so this does not say whether they would do."
)


def describe(
    said: Contrast,
    outcome: Outcome,
    margin: float | None,
    *,
    lead: str = "",
    corrected: str = "",
) -> str:
    """One sentence: who came out ahead, with both means, the interval, seeds and items.

    `corrected` says why an interval on one side of 0 was not enough (see `after_holm`).
    """
    if said.means is None:
        return (
            f"{said.arm} and {said.against} cannot be compared: not one item could be scored by "
            "every seed of both."
        )
    head = {
        "better": f"{name(said.arm)} beat {name(said.against)}",
        "worse": f"{name(said.against)} beat {name(said.arm)}",
        "equivalent": f"{name(said.arm)} and {name(said.against)} are equivalent",
        "undecided": f"undecided, though by the numbers {_order(said)}",
        "not_tested": f"not tested, only an indication: {_order(said)}",
    }[outcome]
    return _sentence(f"{lead}{head}, {_numbers(said)}{corrected or _why(said, outcome, margin)}.")


def advice(needed: Needed, *, seeds: int, items: int) -> str:
    """What would decide an undecided comparison."""
    ways = []
    if needed.seeds is not None:
        ways.append(f"about {needed.seeds:,} seeds per arm instead of {seeds}")
    if needed.items is not None:
        ways.append(f"about {needed.items:,} items instead of {items:,}")
    if not ways:
        return (
            "How many seeds or items would decide it cannot be told from a difference this "
            "uncertain: add both."
        )
    return f"More likely than not, {' or '.join(ways)} would decide it."


def after_holm(p: float, pairs: int) -> str:
    """Why one of many comparisons needs more than an interval on one side of 0."""
    return f"; not enough as one of {pairs} comparisons (p {_plain(p)} after Holm's correction)"


def claim_needs(short: Mapping[str, int], *, own: bool = False) -> str:
    """What an indication lacks to become a claim; own: between two arms that the user named."""
    have = ", ".join(f"{arm} has {count or 'none'}" for arm, count in short.items())
    if own:
        return f"A claim needs both arms at {CLAIM_SEEDS} seeds each; {have}."
    return (
        f"A claim needs the selected, random and length_matched arms at {CLAIM_SEEDS} seeds each; "
        f"{have}. Run with --evidence full --seeds {CLAIM_SEEDS}."
    )


def nothing_to_compare(absent: list[str], evidence: str) -> str:
    """The sentence where an arm of the primary comparison was not judged at all."""
    missing = " and ".join(absent)
    return (
        f"Not tested: nothing was judged for {missing} (evidence: {evidence}), so nothing is known "
        f"of what the selection is worth. Run with --evidence full --seeds {CLAIM_SEEDS}."
    )


def name(arm: str) -> str:
    """An arm in words; a user's own arm by its name. Other budgets and equal epochs are told."""
    place = parse_arm_name(arm)
    if place.arm not in ARMS:
        return f"the arm {arm}"
    budget = f" at {place.budget.replace('pct', '%')}" if place.budget else ""
    return f"{ARMS[place.arm]}{budget}{' for as many epochs' if place.equal else ''}"


def _order(said: Contrast) -> str:
    if said.level:
        return f"{name(said.arm)} and {name(said.against)} came out level"
    first, second = (said.arm, said.against) if said.ahead else (said.against, said.arm)
    return f"{name(first)} came out ahead of {name(second)}"


def _numbers(said: Contrast) -> str:
    assert said.means is not None
    one, other = said.means
    if said.found.value and not said.ahead:
        one, other = other, one
    unit = UNITS.get(said.metric, said.metric)
    direction = "" if said.higher_is_better else " (lower is better)"
    return (
        f"{_plain(one)} against {_plain(other)} {unit}{direction}: {said.arm} minus {said.against} "
        f"is {_signed(said.found.value)} ({_basis(said)})"
    )


def _basis(said: Contrast) -> str:
    found = said.found
    interval = "no interval"
    if found.low is not None and found.high is not None:
        interval = (
            f"{100 * (1 - said.alpha):g}% interval {_signed(found.low)} to {_signed(found.high)}"
        )
    one, other = found.seeds
    seeds = f"{_count(one, 'seed')} each" if one == other else f"{one} and {other} seeds"
    left_out = f", {found.excluded:,} more unscorable" if found.excluded else ""
    return f"{interval}; {seeds}, {_count(found.items, 'item')}{left_out}"


def _why(said: Contrast, outcome: Outcome, margin: float | None) -> str:
    if margin is None:
        return ""
    if outcome == "equivalent":
        return f"; the whole interval lies inside the margin of {_plain(margin)}"
    if outcome == "undecided":
        return f"; the interval fits neither one side of 0 nor the margin of {_plain(margin)}"
    if outcome in ("better", "worse") and abs(said.found.value or 0.0) < margin:
        return f"; that is less than the margin of {_plain(margin)}"
    return ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _plain(value: float) -> str:
    return _shown(value, "")


def _shown(value: float, sign: str) -> str:
    """Three decimals; of tiny numbers one digit, and no decimals from ten thousand on."""
    tiny = value != 0 and abs(value) < 0.0005
    digits = ",.0f" if abs(value) >= _LARGE else ".1g" if tiny else ",.3f"
    return f"{value:{sign}{digits}}"


def _signed(value: float | None) -> str:
    if value is None:
        return "unknown"
    return _shown(value, "+")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
