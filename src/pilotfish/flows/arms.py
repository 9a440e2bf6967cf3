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
    loss: str | None = None  # None: the comparison's own

    @property
    def trained(self) -> bool:
        """Whether a model is trained for it (base and weak are judged as they are)."""
        return self.rows != "none" or self.trusted


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("base"),
        Arm("weak"),
        Arm("random", "selection", "random-{seed}"),
        Arm("length_matched", "selection", "length_matched-{seed}"),
        Arm("longest", "selection", "longest"),
        Arm("full", "all"),
        Arm("selected", "selection", "selected"),
        Arm("trusted", trusted=True),
        Arm("trusted_random", "selection", "random-{seed}", trusted=True),
        Arm("trusted_full", "all", trusted=True),
        Arm("trusted_selected", "selection", "selected", trusted=True),
        Arm("relabel_all", "relabelled"),
    )
}

_LEVELS: dict[str, tuple[str, ...]] = {
    "none": ("selected",),
    "quick": ("base", "random", "selected"),
    "full": tuple(name for name, arm in ARMS.items() if not arm.trusted),
}
_TRUSTED = tuple(name for name, arm in ARMS.items() if arm.trusted)


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
        arms.append(replace(ARMS["selected"], name=name, loss=loss))
    return arms
