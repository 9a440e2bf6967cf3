"""The arms of a weak-to-strong experiment: what each learns from, and what it is for."""

from dataclasses import dataclass
from typing import Literal

from pilotfish.config import WeakToStrong

Taught = Literal["gold", "weak", "own"]  # by people; by the weak model; by a student before it


@dataclass(frozen=True)
class W2sArm:
    """One arm. Strong arms learn the student half, unless `half` says otherwise.

    filter: METHOD of the filter that keeps some of the rows. stop: by whose labels of the
    validation rows the step that is kept is chosen; "": the last one is.
    """

    name: str
    loss: str
    taught: Taught = "weak"
    half: Literal["student", "weak"] = "student"
    model: Literal["strong", "weak"] = "strong"
    filter: str = ""
    stop: Literal["", "weak", "gold"] = ""

    @property
    def is_oracle(self) -> bool:
        """Whether it is chosen by true labels that label mode does not have."""
        return self.stop == "gold"

    @property
    def is_rung(self) -> bool:
        """Whether it is floor or ceiling: what recovered gaps are measured between."""
        return self.name in (WEAK.name, CEILING.name)


WEAK = W2sArm("weak", "lm", "gold", "weak", "weak")
CEILING = W2sArm("ceiling", "lm", "gold")
NAIVE = "naive"


def w2s_arms(recipe: WeakToStrong, default_loss: str) -> list[W2sArm]:
    """Floor and ceiling, the naive arm, then what the recipe adds; each after those it rests on.

    UsageError for a loss or a filter that is misspelt.
    """
    loss = recipe.loss or default_loss
    arms = [WEAK, CEILING, W2sArm(NAIVE, loss)]
    arms += [W2sArm(name, text) for name, text in recipe.losses.items()]
    arms += [W2sArm(name, loss, filter=text) for name, text in recipe.filters.items()]
    if "honest" in recipe.stopping:
        arms.append(W2sArm("stop_honest", loss, stop="weak"))
    if "oracle" in recipe.stopping:
        arms.append(W2sArm("stop_oracle", loss, stop="gold"))
    if "self_training" in recipe.controls:
        arms.append(W2sArm("self_training", loss, "own"))
    if "gold_half" in recipe.controls:
        arms.append(W2sArm("gold_half", "lm", "gold", "weak"))
    _check(arms)
    return arms


def _check(arms: list[W2sArm]) -> None:
    from pilotfish.labeling.filters import make_filter
    from pilotfish.losses import make_loss

    for arm in arms:
        make_loss(arm.loss)
        if arm.filter:
            make_filter(arm.filter)
