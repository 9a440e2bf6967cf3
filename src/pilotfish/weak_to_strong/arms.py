"""The arms of a weak-to-strong experiment: what each learns from, and what it is compared for."""

from dataclasses import dataclass
from typing import Literal

from pilotfish.config import WeakToStrong

LabelSource = Literal["gold", "weak", "own"]  # true labels; the weak model; the naive student


@dataclass(frozen=True)
class W2SArm:
    """One arm: which model learns which rows, by whose labels."""

    name: str
    loss: str
    labels: LabelSource = "weak"  # whose labels are learnt
    half: Literal["student", "weak"] = "student"
    model: Literal["strong", "weak"] = "strong"
    filter: str = ""  # METHOD that keeps some of the rows
    stop: Literal["", "weak", "gold"] = ""  # whose validation labels choose the step; "": the last

    @property
    def is_oracle(self) -> bool:
        """Whether its step is chosen by true labels, which label mode does not have."""
        return self.stop == "gold"

    @property
    def is_bound(self) -> bool:
        """Whether it is the floor or the ceiling of recovered gaps."""
        return self in (WEAK, CEILING)

    @property
    def teacher(self) -> str:
        """The arm whose model labels the rows; "" for true labels."""
        return {"gold": "", "weak": WEAK.name, "own": NAIVE}[self.labels]


WEAK = W2SArm("weak", "lm", "gold", "weak", "weak")
CEILING = W2SArm("ceiling", "lm", "gold")
NAIVE = "naive"


def w2s_arms(recipe: WeakToStrong, default_loss: str) -> list[W2SArm]:
    """List the arms of a recipe, each behind those whose models it needs.

    Raises:
        UsageError: A loss or a filter does not exist.
    """
    from pilotfish.labeling.filters import make_filter
    from pilotfish.losses import make_loss

    loss = recipe.loss or default_loss
    arms = [WEAK, CEILING, W2SArm(NAIVE, loss)]
    arms += [W2SArm(name, text) for name, text in recipe.losses.items()]
    arms += [W2SArm(name, loss, filter=text) for name, text in recipe.filters.items()]
    if "honest" in recipe.stopping:
        arms.append(W2SArm("stop_honest", loss, stop="weak"))
    if "oracle" in recipe.stopping:
        arms.append(W2SArm("stop_oracle", loss, stop="gold"))
    if "self_training" in recipe.controls:
        arms.append(W2SArm("self_training", loss, "own"))
    if "gold_half" in recipe.controls:
        arms.append(W2SArm("gold_half", "lm", "gold", "weak"))
    for arm in arms:
        make_loss(arm.loss)
        if arm.filter:
            make_filter(arm.filter)
    return arms
