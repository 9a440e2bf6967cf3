"""The settings of the demo: two pools, and one ordinary recipe for both.

They were fixed before any arm was evaluated.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilotfish.demo.build import World, build
from pilotfish.demo.models import WINDOW, shipped


@dataclass(frozen=True)
class Demo:
    """Settings that both chapters share."""

    method: str = "perplexity(direction=low,end=true)"  # the default of `run`
    budget: str = "30%"
    steps: int = 100  # of every strong arm: about 3 seconds on two cores
    batch: int = 32
    learning_rate: float = 3e-4  # benchmarks/learning_rate.py: another world, held-out trusted rows
    tune_batch: int = 8  # of the weak model on the trusted rows; rate and epochs are found there


@dataclass(frozen=True)
class Chapter:
    """One pool (a name from noise.POOLS), its arms and its seeds."""

    name: str
    seeds: int
    arms: tuple[str, ...]
    losses: Mapping[str, str] = field(default_factory=dict)  # extra arms on the selected rows
    pool_rows: int = 2000
    trusted_rows: int = 160  # 16 a task: the weak model stays far from perfect
    test_rows: int = 300  # a standard error of at most .029 for each model


DEMO = Demo()

CHAPTERS = (
    Chapter(
        "dirty",
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
    # The same with fewer arms, on a pool without noise.
    Chapter("clean", seeds=2, arms=("random", "full", "selected")),
)


def build_world(chapter: Chapter, folder: Path | str, *, seed: int) -> World:
    """Write the world of one chapter."""
    return build(
        folder,
        seed=seed,
        pool_rows=chapter.pool_rows,
        dirty=chapter.name,
        trusted_rows=chapter.trusted_rows,
        test_rows=chapter.test_rows,
    )


def settings(chapter: Chapter, world: World, seed: int) -> dict[str, Any]:
    """Return the settings of an ordinary recipe for one world, as plain values for YAML."""
    shared = {"max_length": WINDOW, "use_peft": False}
    strong = {
        "max_steps": DEMO.steps,
        "per_device_train_batch_size": DEMO.batch,
        "learning_rate": DEMO.learning_rate,
    }
    weak = {"per_device_train_batch_size": DEMO.tune_batch}
    return {
        "data": str(world.pool),
        "trusted": str(world.trusted),
        "test": str(world.test),
        "weak": str(shipped("weak")),
        "strong": str(shipped("strong")),
        "method": DEMO.method,
        "budget": DEMO.budget,
        "metric": "exact_match",
        "evidence": "full",
        "seeds": chapter.seeds,
        "seed": seed,
        "arms": list(chapter.arms),
        "losses": dict(chapter.losses),
        "max_length": WINDOW,
        "weak_train": {**shared, **weak},
        "train": {**shared, **strong},
    }
