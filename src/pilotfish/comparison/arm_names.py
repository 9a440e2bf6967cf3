"""Names of arms (`selected`, `selected@5pct`, `full@epochs`): their parts, order and words."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

EPOCHS = "epochs"
UNTRAINED = ("base", "weak")  # models that are not trained here: one evaluation is complete

ARM_WORDS: Mapping[str, str] = {
    "base": "the strong model without fine-tuning",
    "weak": "the weak model",
    "random": "an equal number of random rows",
    "random_tokens": "random rows with an equal number of tokens",
    "random_compute": "random rows with the selection's FLOPs added to training",
    "length_matched": "random rows of the same lengths",
    "longest": "the longest rows",
    "full": "all rows",
    "selected": "selected rows",
    "trusted": "trusted rows alone",
    "trusted_random": "trusted plus random rows",
    "trusted_full": "trusted plus all rows",
    "trusted_selected": "trusted plus selected rows",
    "relabel_all": "all prompts relabeled by the weak model",
}
ORDER = (*ARM_WORDS, "trusted_relabel_all")


class ArmName(NamedTuple):
    """The parts of an arm's name.

    Attributes:
        arm: The name at the verdict's budget and in equal steps.
        budget: Slug of another budget (`5pct`); "" for the verdict's.
        equal: "epochs" for an arm trained for equal epochs; "" for equal steps.
    """

    arm: str
    budget: str = ""
    equal: str = ""

    @property
    def name(self) -> str:
        """The full name, as in folders and reports."""
        return "@".join(part for part in self if part)


def parse_arm_name(name: str) -> ArmName:
    """Split an arm's name into its parts."""
    arm, *rest = name.split("@")
    equal = EPOCHS if rest and rest[-1] == EPOCHS else ""
    budget = [part for part in rest if part != EPOCHS]
    return ArmName(arm, budget[0] if budget else "", equal)


def in_order(names: Iterable[str]) -> list[str]:
    """Sort arm names as reports list them: known arms in ORDER, then others by name.

    Within one arm, the verdict's budget comes first, then other budgets by unit and size, then
    arms of equal epochs.
    """

    def key(name: str) -> tuple[int, str, str, tuple[str, float], str]:
        parts = parse_arm_name(name)
        known = ORDER.index(parts.arm) if parts.arm in ORDER else len(ORDER)
        unit = parts.budget.lstrip("0123456789.")
        amount = parts.budget.removesuffix(unit)
        size = (unit, float(amount) if amount.strip(".") else 0.0)
        return known, parts.arm, parts.equal, size, name

    return sorted(names, key=key)


def arm_in_words(name: str) -> str:
    """Describe an arm inside a sentence; arms of the user's own keep their name."""
    parts = parse_arm_name(name)
    if parts.arm not in ARM_WORDS:
        return f"the arm {name}"
    budget = f" at {parts.budget.replace('pct', '%')}" if parts.budget else ""
    equal = " (equal epochs)" if parts.equal else ""
    return f"{ARM_WORDS[parts.arm]}{budget}{equal}"
