"""The arms of a comparison: which rows each one learns from, and with which loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pilotfish.errors import UsageError, unknown_name

Rows = Literal["none", "selection", "all", "relabelled"]


@dataclass(frozen=True)
class Arm:
    """One arm. `selection` names the control or selection; `{seed}` is filled in per seed."""

    name: str
    rows: Rows = "none"
    selection: str = ""
    trusted: bool = False
    loss: str | None = None
    says: str = ""

    @property
    def trained(self) -> bool:
        """Whether a model is trained for it (base and weak are judged as they are)."""
        return self.rows != "none" or self.trusted


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("base", says="the strong model, untouched"),
        Arm("weak", says="the weak model itself"),
        Arm("random", "selection", "random-{seed}", says="as many rows, drawn at random"),
        Arm("length_matched", "selection", "length_matched-{seed}", says="random, lengths matched"),
        Arm("longest", "selection", "longest", says="as many rows, the longest responses"),
        Arm("full", "all", says="every row of the pool"),
        Arm("selected", "selection", "selected", says="what the weak model picked"),
        Arm("trusted", trusted=True, says="the trusted rows alone"),
        Arm("trusted_random", "selection", "random-{seed}", True, says="trusted + random"),
        Arm("trusted_full", "all", trusted=True, says="trusted + every row"),
        Arm("trusted_selected", "selection", "selected", True, says="trusted + selected"),
        Arm("relabel_all", "relabelled", says="every prompt with the weak model's answer"),
    )
}

_LEVELS: dict[str, tuple[str, ...]] = {
    "none": ("selected",),
    "quick": ("base", "random", "selected"),
    "full": (
        "base",
        "weak",
        "random",
        "length_matched",
        "longest",
        "full",
        "selected",
        "relabel_all",
    ),
}
_TRUSTED = ("trusted", "trusted_random", "trusted_full", "trusted_selected")


def arms_of(
    level: str,
    *,
    trusted: bool,
    names: Sequence[str] | None = None,
    losses: Mapping[str, str] | None = None,
) -> list[Arm]:
    """The arms of an evidence level (or those named), then the extra losses on selected rows."""
    wanted = list(names or [*_LEVELS[level], *(_TRUSTED if trusted and level == "full" else ())])
    arms = []
    for name in wanted:
        if name not in ARMS:
            raise unknown_name("arm", name, ARMS)
        if ARMS[name].trusted and not trusted:
            raise UsageError(
                f"the arm '{name}' needs trusted rows", hint="give them with --trusted"
            )
        arms.append(ARMS[name])
    for name, loss in (losses or {}).items():
        if name in ARMS:
            raise UsageError(f"losses: '{name}' is an arm of its own; choose another name")
        arms.append(replace(ARMS["selected"], name=name, loss=loss, says=f"selected, loss {loss}"))
    return arms
