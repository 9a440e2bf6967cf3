"""The table of arms: which rows each arm trains on, with which settings, and for how long."""

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
    """One arm of a comparison.

    Attributes:
        name: Name in reports and folders.
        rows: Pool rows it trains on: none, a selection, all, or all with the weak model's answers.
        selection: Name of the selection or control, with `{seed}` for the number of the seed.
        trusted: Whether it trains on the trusted rows too.
        train: Training settings that differ from those of the comparison.
        steps: As many optimizer steps as all arms (equal), as many epochs as the selected arm
            (epochs), or as many steps as the FLOPs of selecting would also pay for (compute).
        of: Of a variant: the name of the arm that it differs from.
    """

    name: str
    rows: Rows = "none"
    selection: str = ""
    trusted: bool = False
    train: Mapping[str, Any] = field(default_factory=dict)
    steps: Steps = "equal"
    of: str = ""

    @property
    def trained(self) -> bool:
        """Whether a model is trained for it; base and weak are evaluated as they are."""
        return self.rows != "none" or self.trusted

    @property
    def spends(self) -> bool:
        """Whether its rows depend on the budget."""
        return self.rows == "selection"

    def config(self, shared: TrainConfig) -> TrainConfig:
        """Return the settings of this arm: those that all arms share, changed by its own."""
        return shared.changed(self.train)

    def at(self, budget: str) -> "Arm":
        """Return the same arm at another budget, given by its slug."""
        stem = self.selection.removesuffix(_SEED)
        seed = _SEED if stem != self.selection else ""
        return replace(
            self, name=ArmName(self.name, budget).name, selection=f"{stem}@{budget}{seed}"
        )

    def in_epochs(self) -> "Arm":
        """Return the same arm trained for equal epochs instead of equal steps."""
        return replace(
            self, name=parse_arm_name(self.name)._replace(equal=EPOCHS).name, steps="epochs"
        )


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
# Controls that match the selection in something else; trained if `matched_on` lists the key.
MATCHED = {"tokens": "random_tokens", "compute": "random_compute"}

_LEVELS: dict[str, tuple[str, ...]] = {
    "none": ("selected",),
    "quick": ("base", "random", "selected"),
    "full": tuple(n for n, arm in ARMS.items() if not arm.trusted and n not in MATCHED.values()),
}
# trusted_relabel_all is trained only where it is named: mixing weak with true labels serves losses
# that treat them differently
_TRUSTED = tuple(n for n, arm in ARMS.items() if arm.trusted and arm.rows != "relabelled")


def arms_for(
    level: str,
    *,
    trusted: bool,
    names: Sequence[str] | None = None,
    variants: Mapping[str, Variant] | None = None,
) -> list[Arm]:
    """List the arms of an evidence level, then the variants.

    Args:
        level: none, quick or full.
        trusted: Whether there are trusted rows.
        names: Arms to take instead of those of the level.
        variants: Arms of the user's own, by name: another arm with other training settings.

    Raises:
        UsageError: An arm is unknown or needs trusted rows, or a variant is not possible.
    """
    wanted = list(names or [*_LEVELS[level], *(_TRUSTED if trusted and level == "full" else ())])
    arms = [arm_of(name, trusted=trusted) for name in wanted]
    for name, variant in (variants or {}).items():
        _check_new_name(name, "variant")
        changed = arm_of(variant.of, trusted=trusted)
        if not changed.trained:
            raise UsageError(
                f"the arm '{variant.of}' is not trained, so it has no variants",
                hint=f"set `of` of the variant '{name}' to an arm that is trained, as selected",
            )
        arms.append(replace(changed, name=name, train=dict(variant.train), of=variant.of))
    return arms


def grid_for(recipe: Recipe, level: str | None = None) -> list[Arm]:
    """List every arm of a recipe: at the verdict's budget, at other budgets, in equal epochs.

    Args:
        recipe: The settings.
        level: Another level of evidence; its arms replace those that the recipe names.

    Raises:
        UsageError: An arm is unknown or not possible, or two arms share a name.
    """
    trusted, own_level = bool(recipe.trusted), level in (None, recipe.evidence)
    names = recipe.arms if own_level else None
    arms = arms_for(
        level or recipe.evidence, trusted=trusted, names=names, variants=recipe.all_variants
    )
    for name in recipe.methods:
        _check_new_name(name, "method")
        arms.append(Arm(name, "selection", name))
    controls = [control for key, control in MATCHED.items() if key in recipe.matched_on]
    known = {arm.name for arm in arms}
    needed = ["random", *controls] if controls else []
    arms += [arm_of(name, trusted=trusted) for name in needed if name not in known]
    names_used = [arm.name for arm in arms]
    if twice := sorted({name for name in names_used if names_used.count(name) > 1}):
        raise UsageError(f"two arms would be called '{twice[0]}'", hint="rename one of them")
    # a variant changes how an arm is trained, so it is not repeated at every budget
    slugs = [parse_budget(text).slug for text in recipe.all_budgets[1:]]
    at_budgets = [arm.at(slug) for slug in slugs for arm in arms if arm.spends and not arm.of]
    if EPOCHS not in recipe.matched_on:
        return [*arms, *at_budgets]
    # arms with another number of rows than the selected arm
    other_size = [a for a in arms if a.trained and not a.of and (a.trusted or not a.spends)]
    in_epochs = [a.in_epochs() for a in [*other_size, *at_budgets] if a.steps == "equal"]
    return [*arms, *at_budgets, *in_epochs]


def arm_of(name: str, *, trusted: bool) -> Arm:
    """Return the arm of a name, such as `selected`, `selected@5pct` or `full@epochs`.

    `trusted` says whether there are trusted rows.

    Raises:
        UsageError: There is no such arm, or it needs trusted rows.
    """
    parsed = parse_arm_name(name)
    if parsed.arm not in ARMS:
        raise unknown_name("arm", name, ARMS)
    arm = ARMS[parsed.arm]
    if arm.trusted and not trusted:
        raise UsageError(f"the arm '{name}' needs trusted rows", hint="give them with --trusted")
    if parsed.budget and not arm.spends:
        raise UsageError(
            f"there is no arm '{name}': the rows of '{parsed.arm}' do not depend on a budget",
            hint=f"write '{parsed.arm}'",
        )
    arm = arm.at(parsed.budget) if parsed.budget else arm
    return arm.in_epochs() if parsed.equal else arm


def _check_new_name(name: str, kind: str) -> None:
    """Raise UsageError if a name that the user chose belongs to the table, or is not valid."""
    if parse_arm_name(name).arm in ARMS:
        raise UsageError(f"'{name}' is an arm of its own; choose another name for the {kind}")
    if "@" in name:
        raise UsageError(f"the {kind} '{name}' may not have '@' in its name")
