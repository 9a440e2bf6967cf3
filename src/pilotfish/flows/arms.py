"""The arms of a comparison: which rows each one learns from, and how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pilotfish.config import TrainConfig, Variant
from pilotfish.errors import UsageError, unknown_name

Rows = Literal["none", "selection", "all", "relabelled"]


@dataclass(frozen=True)
class Arm:
    """One arm. `selection` names the control or selection; `{seed}` is filled in per seed."""

    name: str
    rows: Rows = "none"
    selection: str = ""
    trusted: bool = False
    train: Mapping[str, Any] = field(default_factory=dict)  # settings unlike the comparison's own

    @property
    def trained(self) -> bool:
        """Whether a model is trained for it (base and weak are judged as they are)."""
        return self.rows != "none" or self.trusted

    def config(self, shared: TrainConfig) -> TrainConfig:
        """How this arm is trained, its own settings laid over those that all arms share."""
        return shared.changed(self.train)


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
        Arm("trusted_relabel_all", "relabelled", trusted=True),
    )
}

_LEVELS: dict[str, tuple[str, ...]] = {
    "none": ("selected",),
    "quick": ("base", "random", "selected"),
    "full": tuple(name for name, arm in ARMS.items() if not arm.trusted),
}
# trusted_relabel_all is trained where it is named: weak labels beside true ones are for losses that
# tell them apart
_TRUSTED = tuple(n for n, arm in ARMS.items() if arm.trusted and arm.rows != "relabelled")


def arms_of(
    level: str,
    *,
    trusted: bool,
    names: Sequence[str] | None = None,
    variants: Mapping[str, Variant] | None = None,
) -> list[Arm]:
    """The arms of an evidence level (or those named), then their variants."""
    wanted = list(names or [*_LEVELS[level], *(_TRUSTED if trusted and level == "full" else ())])
    arms = [_arm(name, trusted) for name in wanted]
    for name, variant in (variants or {}).items():
        if name in ARMS:
            raise UsageError(f"'{name}' is an arm of its own; choose another name for the variant")
        changed = _arm(variant.of, trusted)
        if not changed.trained:
            raise UsageError(f"nothing is trained for the arm '{variant.of}': it has no variants")
        arms.append(replace(changed, name=name, train=dict(variant.train)))
    return arms


def _arm(name: str, trusted: bool) -> Arm:
    if name not in ARMS:
        raise unknown_name("arm", name, ARMS)
    if ARMS[name].trusted and not trusted:
        raise UsageError(f"the arm '{name}' needs trusted rows", hint="give them with --trusted")
    return ARMS[name]
