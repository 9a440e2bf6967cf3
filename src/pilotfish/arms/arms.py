"""The arms of a comparison: which rows each one learns from, how, and for how long."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pilotfish.budget import parse_budget
from pilotfish.comparison.arm_names import EPOCHS, ArmName, parse_arm_name
from pilotfish.config import Recipe, TrainConfig, Variant
from pilotfish.errors import UsageError, unknown_name

Rows = Literal["none", "selection", "all", "relabelled"]
Steps = Literal["equal", "epochs", "compute"]
_SEED = "-{seed}"


@dataclass(frozen=True)
class Arm:
    """One arm. `selection` names the control or selection; `{seed}` is filled in per seed.

    steps: as many as every other arm; as many epochs as the verdict's budget gets; or as many as
    the FLOPs of the selection would have bought.
    """

    name: str
    rows: Rows = "none"
    selection: str = ""
    trusted: bool = False
    train: Mapping[str, Any] = field(default_factory=dict)  # settings unlike the comparison's own
    steps: Steps = "equal"
    of: str = ""  # of a variant: the arm it differs from

    @property
    def trained(self) -> bool:
        """Whether a model is trained for it (base and weak are judged as they are)."""
        return self.rows != "none" or self.trusted

    @property
    def spends(self) -> bool:
        """Whether its rows depend on the budget."""
        return self.rows == "selection"

    def config(self, shared: TrainConfig) -> TrainConfig:
        """How this arm is trained, its own settings laid over those that all arms share."""
        return shared.changed(self.train)

    def at(self, budget: str) -> "Arm":
        """The same arm with the rows of another budget (its slug)."""
        stem = self.selection.removesuffix(_SEED)
        seed = _SEED if stem != self.selection else ""
        return replace(
            self, name=ArmName(self.name, budget).name, selection=f"{stem}@{budget}{seed}"
        )

    def in_epochs(self) -> "Arm":
        """The same arm as the second table has it: in equal epochs."""
        place = parse_arm_name(self.name)._replace(equal=EPOCHS)
        return replace(self, name=place.name, steps="epochs")


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
        Arm("random_tokens", "selection", "random_tokens-{seed}"),
        Arm("random_compute", "selection", "random_compute-{seed}", steps="compute"),
    )
}
# Controls that hold something else equal; trained where a recipe's `equal` asks for it.
EQUAL = {"tokens": "random_tokens", "compute": "random_compute"}

_LEVELS: dict[str, tuple[str, ...]] = {
    "none": ("selected",),
    "quick": ("base", "random", "selected"),
    "full": tuple(n for n, arm in ARMS.items() if not arm.trusted and n not in EQUAL.values()),
}
# trusted_relabel_all is trained where it is named: weak labels beside true ones are for losses that
# tell them apart
_TRUSTED = tuple(n for n, arm in ARMS.items() if arm.trusted and arm.rows != "relabelled")


def arms_for(
    level: str,
    *,
    trusted: bool,
    names: Sequence[str] | None = None,
    variants: Mapping[str, Variant] | None = None,
) -> list[Arm]:
    """The arms of an evidence level (or those named), then their variants."""
    wanted = list(names or [*_LEVELS[level], *(_TRUSTED if trusted and level == "full" else ())])
    arms = [arm_of(name, trusted=trusted) for name in wanted]
    for name, variant in (variants or {}).items():
        _check_own(name, "variant")
        changed = arm_of(variant.of, trusted=trusted)
        if not changed.trained:
            raise UsageError(f"nothing is trained for the arm '{variant.of}': it has no variants")
        arms.append(replace(changed, name=name, train=dict(variant.train), of=variant.of))
    return arms


def grid_for(recipe: Recipe, level: str | None = None) -> list[Arm]:
    """Every arm of a recipe: at the verdict's budget, then by budget, then in equal epochs.

    level: as it would be at another level of evidence, whose arms then stand for those it names.
    """
    trusted, own = bool(recipe.trusted), level in (None, recipe.evidence)
    arms = arms_for(
        level or recipe.evidence, trusted=trusted, names=recipe.arms if own else None,
        variants=recipe.all_variants,
    )  # fmt: skip
    for name in recipe.methods:
        _check_own(name, "method")
        arms.append(Arm(name, "selection", name))
    controls = [control for what, control in EQUAL.items() if what in recipe.matched_on]
    known = {arm.name for arm in arms}
    needed = ["random", *controls] if controls else []
    arms += [arm_of(each, trusted=trusted) for each in needed if each not in known]
    _check_unique(arms)
    slugs = [parse_budget(text).slug for text in recipe.all_budgets[1:]]
    # variants are about how, not about how much
    swept = [arm for arm in arms if arm.spends and not arm.of]
    others = [arm.at(slug) for slug in slugs for arm in swept]
    return [*arms, *others, *(_second_table(arms, others) if EPOCHS in recipe.matched_on else ())]


def _second_table(arms: Sequence[Arm], others: Sequence[Arm]) -> list[Arm]:
    """Arms whose number of rows is not that of the selection, in as many epochs as it gets."""
    unlike = [arm for arm in arms if arm.trained and not arm.of and (arm.trusted or not arm.spends)]
    return [arm.in_epochs() for arm in [*unlike, *others] if arm.steps == "equal"]


def arm_of(name: str, *, trusted: bool) -> Arm:
    """The arm of a name, `selected@5pct` and `full@epochs` among them; UsageError for others."""
    place = parse_arm_name(name)
    if place.arm not in ARMS:
        raise unknown_name("arm", name, ARMS)
    arm = ARMS[place.arm]
    if arm.trusted and not trusted:
        raise UsageError(f"the arm '{name}' needs trusted rows", hint="give them with --trusted")
    if place.budget and not arm.spends:
        raise UsageError(f"'{name}' is no arm: the rows of '{place.arm}' hang on no budget")
    arm = arm.at(place.budget) if place.budget else arm
    return arm.in_epochs() if place.equal else arm


def _check_own(name: str, what: str) -> None:
    """UsageError where a name of the user's own is one of the table's, or no name."""
    if parse_arm_name(name).arm in ARMS:
        raise UsageError(f"'{name}' is an arm of its own; choose another name for the {what}")
    if "@" in name:
        raise UsageError(f"the {what} '{name}' may not have '@' in its name")


def _check_unique(arms: Sequence[Arm]) -> None:
    names = [arm.name for arm in arms]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two arms would be called '{twice[0]}'", hint="rename one of them")
