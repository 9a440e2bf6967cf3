"""A grid on the tiny world: five arms, three budgets, three seeds, one recipe.

    python examples/compare_world.py --out runs/compare-world      # writes a world and a recipe
    pilotfish compare runs/compare-world/recipe.yaml               # trains and judges

The pool, the models and the settings are those of the demo's dirty chapter. The verdict is on the
demo's own budget, 30%; 10% and 5% stand beside it. Tokens and compute are held equal too, and two
gates guard the model as it came and the trusted rows alone.
"""

import argparse
from pathlib import Path

import yaml

from pilotfish.demo.world import CHAPTERS, build_world, settings


def main() -> None:
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--chapter", type=int, default=0, help="0: the dirty pool, 1: the clean one")
    options = made.parse_args()
    world = build_world(CHAPTERS[options.chapter], options.out / "world", seed=0)
    recipe = settings(CHAPTERS[options.chapter], world, 0) | {
        "arms": ["base", "random", "length_matched", "selected", "full"],
        "budgets": ["30%", "10%", "5%"],
        "matched_on": ["steps", "tokens", "compute"],
        "seeds": options.seeds,
        "losses": {},
        "gates": {
            "not_below_base": {"against": "base", "margin": 0.02},
            "not_below_random": {"against": "random", "margin": 0.02},
        },
        "out": str(options.out / "run"),
    }
    target = options.out / "recipe.yaml"
    target.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    print(f"pilotfish compare {target}")


if __name__ == "__main__":
    main()
