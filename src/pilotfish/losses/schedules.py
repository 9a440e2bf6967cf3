"""How the weight of a loss term changes while training goes on."""

from pilotfish.losses.inputs import LossInputs

SCHEDULES = {
    "constant": "all along",
    "linear_off": "falling to 0 over the run",
    "until_surpass": "until the student does better than its teacher",
}


def weight_now(weight: float, schedule: str, given: LossInputs) -> float:
    """The weight at this step."""
    if schedule == "linear_off":
        return weight * (1 - given.progress)
    if schedule == "until_surpass" and given.surpassed:
        return 0.0
    return weight
