"""Human label noise: do a weak model's picks beat random rows where one rater labelled each text?

    export PILOTFISH_DATA=FOLDER      # holds w2s/human_ratings_*.jsonl
    python examples/w2s_models.py --out runs/w2s-models
    python examples/human_noise.py --models runs/w2s-models --out human_noise.json

Every text was rated by twenty people or more. Gold is the sign of their mean (neutral within 0.5);
the pool's label is what one rater, drawn at random, said. A small classifier tuned on a few gold
rows scores the pool by how likely it finds each label; the strong model then learns from the
likeliest share, from as many random rows, from the rows that it finds easiest itself after one pass
over all (small loss), from all of them, or from the gold rows alone. Equal steps, gold test labels;
a seed draws texts, raters and training anew. Prints a markdown table with intervals over seeds.
"""

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish import stats
from pilotfish.config import TrainConfig
from pilotfish.engine import classify
from pilotfish.models import load_classifier
from pilotfish.records import Example, Floats, Ints
from pilotfish.train import train_classifier

FILES = ("tweets", "amazon")
CLASSES = ("negative", "neutral", "positive")
NEUTRAL = 0.5  # means within this of 0
LENGTH = 64
STRONG = TrainConfig(
    per_device_train_batch_size=16, learning_rate=3e-4, max_length=LENGTH, use_peft=False
)
WEAK = STRONG.changed({"learning_rate": 5e-4, "num_train_epochs": 8})


@dataclass(frozen=True)
class World:
    """One file of ratings, split once per seed."""

    pool: list[Example]  # labelled by one rater
    truth: Ints  # [n] what their mean says
    trusted: list[Example]  # gold labels
    test: list[Example]  # gold labels


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    made.add_argument("--models", type=Path, required=True)
    made.add_argument("--out", type=Path)
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--share", type=float, default=0.5)
    made.add_argument("--steps", type=int, default=75)
    made.add_argument("--only", choices=FILES, action="append", help="may be repeated")
    options = made.parse_args()
    data = Path(os.environ["PILOTFISH_DATA"]) / "w2s"
    found = {
        name: experiment(data / f"human_ratings_{name}.jsonl", options)
        for name in options.only or FILES
    }
    if options.out:
        options.out.write_text(json.dumps(found, indent=2), encoding="utf-8")


def experiment(path: Path, options: Any) -> dict[str, Any]:
    """Every arm and seed on one file; prints its table."""
    values: dict[str, list[Floats]] = {}
    right: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        world = split(path, seed)
        with tempfile.TemporaryDirectory() as folder:
            for name, (rows, share) in arms(world, options, Path(folder), seed).items():
                judged = learn_and_judge(rows, world.test, options, Path(folder), seed)
                values.setdefault(name, []).append(judged)
                right.setdefault(name, []).append(share)
                print(f"{path.stem} seed {seed} {name}: {judged.mean():.3f}", file=sys.stderr)
    return told(path.stem, values, right)


def split(path: Path, seed: int) -> World:
    """200 trusted, 1,000 test, 1,500 pool rows; the same texts are never on two sides."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = list({line["text"].strip().lower(): line for line in lines}.values())
    draw = random.Random(seed)
    draw.shuffle(rows)
    gold = [example(row, verdict(row["rating_mean"], NEUTRAL)) for row in rows[:1200]]
    pool = rows[1200:2700]
    noisy = [example(row, verdict(draw.choice(row["ratings"]), 0)) for row in pool]
    truth = np.array([CLASSES.index(verdict(row["rating_mean"], NEUTRAL)) for row in pool])
    return World(noisy, truth, gold[:200], gold[200:])


def verdict(rating: float, neutral: float) -> str:
    """The class of a rating in [-4, 4]."""
    return CLASSES[1] if abs(rating) <= neutral else CLASSES[2 if rating > 0 else 0]


def example(row: dict[str, Any], label: str) -> Example:
    """A text with a label."""
    return Example(str(row["id"]), "ratings", int(row["id"]), text=row["text"], label=label)


def labels(rows: Sequence[Example]) -> Ints:
    """[n] the classes by number."""
    return np.array([CLASSES.index(str(row.label)) for row in rows])


def arms(
    world: World, options: Any, folder: Path, seed: int
) -> dict[str, tuple[list[Example], float]]:
    """The rows each arm learns, and how many of their labels are the raters' own mean."""
    pool, count = world.pool, round(options.share * len(world.pool))
    noisy = labels(pool)
    right = noisy == world.truth
    weak = fit(world.trusted, options.models / "weak", WEAK, folder / "weak", seed)
    easy = STRONG.changed({"num_train_epochs": 1})
    peek = fit(pool, options.models / "strong", easy, folder / "peek", seed)
    orders = {
        "selected": np.argsort(-own_label(weak, pool, noisy), kind="stable"),
        "small_loss": np.argsort(-own_label(peek, pool, noisy), kind="stable"),
        "random": np.random.default_rng(seed).permutation(len(pool)),
        "oracle": np.argsort(~right, kind="stable"),
    }
    picked = {name: order[:count] for name, order in orders.items()}
    picked["full"] = np.arange(len(pool))
    found = {name: ([pool[i] for i in at], float(right[at].mean())) for name, at in picked.items()}
    trusted = [replace(row, id=f"trusted:{row.id}") for row in world.trusted]
    found["trusted"] = (trusted, 1.0)
    for name in ("selected", "random"):
        rows, share = found[name]
        found[f"trusted_{name}"] = (rows + trusted, share)
    return found


def fit(
    rows: Sequence[Example],
    model: Path,
    config: TrainConfig,
    folder: Path,
    seed: int,
    *,
    steps: int | None = None,
) -> Path:
    """A classifier trained on rows with their own labels."""
    train_classifier(
        rows, str(model), config, classes=CLASSES, targets=labels(rows), seed=seed, folder=folder,
        steps=steps,
    )  # fmt: skip
    return folder


def own_label(model: Path, rows: Sequence[Example], label: Ints) -> Floats:
    """[n] log-probability of each row's own label."""
    found = classify(load_classifier(str(model), CLASSES), rows, max_length=LENGTH)
    values: Floats = found.log_probs[np.arange(len(rows)), label]
    return values


def learn_and_judge(
    rows: Sequence[Example], test: Sequence[Example], options: Any, folder: Path, seed: int
) -> Floats:
    """[n_test] 1 where the strong model trained on the rows names the gold class."""
    made = fit(
        rows, options.models / "strong", STRONG, folder / "strong", seed, steps=options.steps
    )
    found = classify(load_classifier(str(made), CLASSES), test, max_length=LENGTH)
    values: Floats = (found.log_probs.argmax(1) == labels(test)).astype(np.float64)
    return values


def told(
    name: str, values: dict[str, list[Floats]], right: dict[str, list[float]]
) -> dict[str, Any]:
    """Print the table of one file and give its figures.

    Every seed draws other test rows, so a seed's difference is the unit: a t interval over seeds.
    """
    means = {arm: np.array([seed.mean() for seed in seeds]) for arm, seeds in values.items()}
    print(f"\n{name}: {len(next(iter(values.values())))} seeds\n")
    print("| arm | right labels | accuracy | selected minus it, 95% interval |\n|---|---|---|---|")
    figures: dict[str, Any] = {}
    for arm in sorted(means, key=lambda each: -means[each].mean()):
        apart = means["selected"] - means[arm]
        half = stats.t_critical(0.05, len(apart) - 1) * apart.std(ddof=1) / len(apart) ** 0.5
        against = f"{apart.mean():+.3f} ± {half:.3f}" if arm != "selected" else "-"
        print(f"| `{arm}` | {np.mean(right[arm]):.0%} | {means[arm].mean():.3f} | {against} |")
        figures[arm] = {
            "right": float(np.mean(right[arm])),
            "accuracy": [float(each) for each in means[arm]],
        }
    return figures


if __name__ == "__main__":
    main()
