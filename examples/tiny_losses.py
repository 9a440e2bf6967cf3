"""LM against KD mixes, and label mode against selection mode, on the demo's dirty pool.

    python examples/tiny_losses.py --out runs/tiny-losses       # writes a world and a recipe
    pilotfish run runs/tiny-losses/recipe.yaml                  # trains and judges: ten minutes

The recipe is the demo's, its rows and models too; only the arms differ: the selected rows learnt by
other losses, and all rows with the weak model's own answers (label mode). The weak model is the
teacher of every KD term.
"""

import argparse
from pathlib import Path
from typing import Any

import yaml

from pilotfish.world.demo import CHAPTERS, build_world, settings

LOSSES = {
    "kd_10": "mix(lm=0.9, kd=0.1)",
    "kd_30": "mix(lm=0.7, kd=0.3)",
    "kd_50": "mix(lm=0.5, kd=0.5)",
    "kd_only": "kd",
    "kd_30_reverse": "mix(lm=0.7, kd=0.3, divergence=reverse)",
    "kd_30_jsd": "mix(lm=0.7, kd=0.3, divergence=jsd)",
    "kd_30_gate": "mix(lm=0.7, kd=0.3, gate=true)",
    "kd_50_fading": "mix(lm=0.5, kd=0.5, kd_schedule=linear_off)",
    "kd_50_until_surpass": "mix(lm=0.5, kd=0.5, kd_schedule=until_surpass)",
    "confident": "logconf_tokens",
    "dft": "dft",
    "smooth": "lm(smoothing=0.1)",
}
ARMS = ["weak", "random", "selected", "trusted", "relabel_all"]


def main() -> None:
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--seeds", type=int, default=3)
    options = made.parse_args()
    world = build_world(CHAPTERS[0], options.out / "world", seed=0)
    recipe: dict[str, Any] = settings(CHAPTERS[0], world, 0)
    recipe |= {
        "arms": ARMS,
        "seeds": options.seeds,
        "losses": {},
        "variants": {
            **{name: {"of": "selected", "train": {"loss": loss}} for name, loss in LOSSES.items()},
            "relabel_confident": {"of": "relabel_all", "train": {"loss": "logconf_tokens"}},
            "relabel_kd": {"of": "relabel_all", "train": {"loss": "kd"}},
        },
        "out": str(options.out / "run"),
    }
    target = options.out / "recipe.yaml"
    target.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    print(f"pilotfish run {target}")


if __name__ == "__main__":
    main()
