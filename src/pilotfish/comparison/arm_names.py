"""Arm names: `selected`, `selected@5pct`, `full@epochs`, `random@5pct@epochs`."""

from typing import NamedTuple

EPOCHS = "epochs"


class ArmName(NamedTuple):
    """Where an arm stands in a comparison.

    arm: its name at the verdict's budget and in equal steps. budget: the slug of another budget
    (`5pct`), "" for the verdict's. equal: "epochs" for an arm of the second table, "" else.
    """

    arm: str
    budget: str = ""
    equal: str = ""

    @property
    def name(self) -> str:
        """As in folders and reports."""
        return "@".join(part for part in self if part)


def parse_arm_name(name: str) -> ArmName:
    """The parts of an arm's name."""
    arm, *rest = name.split("@")
    equal = EPOCHS if rest and rest[-1] == EPOCHS else ""
    budget = [part for part in rest if part != EPOCHS]
    return ArmName(arm, budget[0] if budget else "", equal)
