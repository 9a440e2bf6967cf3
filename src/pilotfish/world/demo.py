"""The demo's settings, fixed before any arm was looked at: two pools, one recipe for both.

Nothing here is special to the demo: `recipe_of` gives the settings of an ordinary recipe.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotfish.world.build import World, build
from pilotfish.world.models import shipped


@dataclass(frozen=True)
class Setting:
    """One pool and how much evidence is bought on it."""

    dirty: str  # a name in noise.POOLS
    pool_rows: int
    trusted_rows: int
    test_rows: int
    seeds: int
    arms: tuple[str, ...]
    losses: Mapping[str, str]  # extra arms on the selected rows: name -> LOSS


@dataclass(frozen=True)
class Demo:
    """Both settings, and what they share."""

    settings: tuple[Setting, ...]
    method: str = "perplexity(direction=low)"
    budget: str = "30%"
    steps: int = 100  # of every strong arm
    batch: int = 32
    learning_rate: float = 1e-3
    tune_steps: int = 100  # of the weak model, on the trusted rows
    tune_batch: int = 16
    tune_learning_rate: float = 1e-3


DEMO = Demo(
    settings=(
        Setting(
            "dirty",
            pool_rows=2000,
            # Few enough that the weak model stays far from perfect, 16 a task.
            trusted_rows=160,
            # A standard error of .028 per model and seed at most.
            test_rows=300,
            seeds=3,
            arms=(
                "base",
                "weak",
                "random",
                "length_matched",
                "full",
                "selected",
                "trusted",
                "trusted_random",
                "trusted_full",
                "trusted_selected",
                "relabel_all",
            ),
            losses={"selected_kd": "mix(lm=0.7, kd=0.3)"},
        ),
        # The same in small, where there is nothing to throw away.
        Setting(
            "clean",
            pool_rows=2000,
            trusted_rows=160,
            test_rows=300,
            seeds=2,
            arms=("random", "full", "selected"),
            losses={},
        ),
    )
)


def build_world(setting: Setting, folder: Path | str, *, seed: int) -> World:
    """Write the world of one setting."""
    return build(
        folder,
        seed=seed,
        pool_rows=setting.pool_rows,
        dirty=setting.dirty,
        trusted_rows=setting.trusted_rows,
        test_rows=setting.test_rows,
    )


def recipe_of(setting: Setting, world: World, *, seed: int, demo: Demo = DEMO) -> dict[str, Any]:
    """The settings of an ordinary recipe (plain values, fit for YAML) for one world."""
    strong = {
        "max_steps": demo.steps,
        "per_device_train_batch_size": demo.batch,
        "learning_rate": demo.learning_rate,
    }
    weak = {
        "max_steps": demo.tune_steps,
        "per_device_train_batch_size": demo.tune_batch,
        "learning_rate": demo.tune_learning_rate,
    }
    shared = {"max_length": 64, "use_peft": False}
    return {
        "data": str(world.pool),
        "trusted": str(world.trusted),
        "test": str(world.test),
        "weak": str(shipped("weak")),
        "strong": str(shipped("strong")),
        "method": demo.method,
        "budget": demo.budget,
        "metric": "exact_match",
        "evidence": "full",
        "seeds": setting.seeds,
        "seed": seed,
        "arms": list(setting.arms),
        "losses": dict(setting.losses),
        "tune": {**shared, **weak},
        "train": {**shared, **strong},
    }
