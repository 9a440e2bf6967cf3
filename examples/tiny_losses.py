"""LM against KD mixes, label mode against selection mode, ways to stop: on the demo's dirty pool.

    python examples/tiny_losses.py --out runs/tiny-losses       # writes a world and two recipes
    pilotfish run runs/tiny-losses/losses.yaml                  # trains and judges: ten minutes
    pilotfish run runs/tiny-losses/ways.yaml                    # five minutes

The recipes are the demo's, its rows and models too; only the arms differ. `losses`: the selected
rows learnt by other losses, and all rows with the weak model's own answers (label mode); the weak
model is the teacher of every KD term. `ways`: stopping where held-out rows say so, labelled as the
arm's own (honest) or by a person (oracle), learning only tokens of high excess loss, a fixed share
of trusted rows.
"""

import argparse
from pathlib import Path
from typing import Any

import yaml

from pilotfish.demo.world import CHAPTERS, build_world, settings

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
LABELS = {"relabel_confident": "logconf_tokens", "relabel_kd": "kd"}
STOP = {"stop_every": 10}
WAYS: dict[str, dict[str, Any]] = {
    "stop_honest": {"of": "selected", "train": {"stop": "weak", **STOP}},
    "stop_oracle": {"of": "selected", "train": {"stop": "gold", **STOP}},
    "relabel_stop_honest": {"of": "relabel_all", "train": {"stop": "weak", **STOP}},
    "relabel_stop_oracle": {"of": "relabel_all", "train": {"stop": "gold", **STOP}},
    "random_focus": {"of": "random", "train": {"focus": "excess(keep=0.6)"}},
    "selected_focus": {"of": "selected", "train": {"focus": "excess(keep=0.6)"}},
    "half_trusted": {"of": "trusted_selected", "train": {"gold_share": 0.5}},
}


def main() -> None:
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--seeds", type=int, default=3)
    options = made.parse_args()
    world = build_world(CHAPTERS[0], options.out / "world", seed=0)
    losses = {
        **{name: {"of": "selected", "train": {"loss": loss}} for name, loss in LOSSES.items()},
        **{name: {"of": "relabel_all", "train": {"loss": loss}} for name, loss in LABELS.items()},
    }
    always = ["weak", "random", "selected", "trusted", "relabel_all"]
    for name, variants, arms in (
        ("losses", losses, always),
        ("ways", WAYS, ["random", "selected", "relabel_all", "trusted_selected"]),
    ):
        recipe = settings(CHAPTERS[0], world, 0) | {
            "arms": arms,
            "seeds": options.seeds,
            "losses": {},
            "variants": variants,
            "out": str(options.out / name),
        }
        target = options.out / f"{name}.yaml"
        target.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
        print(f"pilotfish run {target}")


if __name__ == "__main__":
    main()
