"""Human label noise: do a weak model's picks beat random rows where one rater labelled each text?

    export PILOTFISH_DATA=FOLDER      # holds w2s/human_ratings_*.jsonl
    python examples/w2s_models.py --out runs/w2s-models
    python examples/human_noise.py --models runs/w2s-models --choose
    python examples/human_noise.py --models runs/w2s-models --rate 3e-4 --out human_noise.json

Every text was rated by twenty people or more. Gold is the sign of their mean (neutral within 0.5);
the pool's label is what one rater, drawn at random, said. A small classifier tuned on a few gold
rows scores the pool by how likely it finds each label; the strong model then learns from the
likeliest share, from as many random rows, from the rows that it finds easiest itself after one pass
over all (small loss), from all of them, or from the gold rows alone. Equal steps, gold test labels;
a seed draws pool, raters and training anew, the test rows stay. `--choose` tries learning rates on
gold rows that are neither test nor taught. Prints markdown tables, with intervals over seeds and
items.
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
from pilotfish.engine.classify import classify
from pilotfish.models import load_classifier
from pilotfish.records import Example, Floats, Ints
from pilotfish.training.classify import train_classifier

FILES = ("tweets", "amazon")
CLASSES = ("negative", "neutral", "positive")
NEUTRAL = 0.5  # means within this of 0
HELD, TEST, TRUSTED, POOL = 300, 1000, 200, 1500  # rows of each part
RATES = (1e-4, 3e-4, 6e-4)
LENGTH = 64
STRONG = TrainConfig(
    per_device_train_batch_size=16, learning_rate=3e-4, max_length=LENGTH, use_peft=False
)
WEAK = STRONG.changed({"learning_rate": 5e-4, "num_train_epochs": 8})
Options = argparse.Namespace


@dataclass(frozen=True)
class World:
    """One file of ratings: test and held-out rows for all seeds, the others by seed."""

    pool: list[Example]  # labelled by one rater
    truth: Ints  # [n] what their mean says
    trusted: list[Example]  # gold labels
    held: list[Example]  # gold labels: to choose settings by
    test: list[Example]  # gold labels


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    made.add_argument("--models", type=Path, required=True)
    made.add_argument("--out", type=Path)
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--share", type=float, default=0.5)
    made.add_argument("--steps", type=int, default=100)
    made.add_argument("--rate", type=float, default=3e-4, help="of the strong model")
    made.add_argument("--choose", action="store_true", help="try learning rates, and nothing else")
    made.add_argument("--only", choices=FILES, action="append", help="may be repeated")
    options = made.parse_args()
    data = Path(os.environ["PILOTFISH_DATA"]) / "w2s"
    do = choose if options.choose else experiment
    found = {
        name: do(data / f"human_ratings_{name}.jsonl", options) for name in options.only or FILES
    }
    if options.out:
        options.out.write_text(json.dumps(found, indent=2), encoding="utf-8")


def choose(path: Path, options: Options) -> dict[str, Any]:
    """Accuracy on the held-out gold rows by learning rate, of the strong model taught the pool."""
    world, found = split(path, 0), {}
    print(f"\n{path.stem}: {options.steps} steps\n\n| learning rate | accuracy |\n|---|---|")
    for rate in RATES:
        with tempfile.TemporaryDirectory() as folder:
            tried = Options(**{**vars(options), "rate": rate})
            judged = learn_and_judge(world.pool, world.held, tried, Path(folder), 0)
        found[str(rate)] = float(judged.mean())
        print(f"| {rate:g} | {judged.mean():.3f} |", flush=True)
    return found


def experiment(path: Path, options: Options) -> dict[str, Any]:
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
    return told(path.stem, {arm: np.stack(seeds) for arm, seeds in values.items()}, right)


def split(path: Path, seed: int) -> World:
    """The same test and held-out rows always, trusted rows and pool by seed; no text twice."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = list({line["text"].strip().lower(): line for line in lines}.values())
    random.Random(path.stem).shuffle(rows)
    kept, rest = rows[: HELD + TEST], rows[HELD + TEST :]
    draw = random.Random(seed)
    draw.shuffle(rest)
    pool = rest[TRUSTED : TRUSTED + POOL]
    noisy = [example(row, verdict(draw.choice(row["ratings"]), 0)) for row in pool]
    truth = np.array([CLASSES.index(str(gold(row).label)) for row in pool])
    return World(
        noisy,
        truth,
        [gold(row) for row in rest[:TRUSTED]],
        [gold(row) for row in kept[:HELD]],
        [gold(row) for row in kept[HELD:]],
    )


def gold(row: dict[str, Any]) -> Example:
    """A text with the label of all raters together."""
    return example(row, verdict(row["rating_mean"], NEUTRAL))


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
    world: World, options: Options, folder: Path, seed: int
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
    rows: Sequence[Example], test: Sequence[Example], options: Options, folder: Path, seed: int
) -> Floats:
    """[n_test] 1 where the strong model trained on the rows names the gold class."""
    made = fit(
        rows,
        options.models / "strong",
        STRONG.changed({"learning_rate": options.rate}),
        folder / "strong",
        seed,
        steps=options.steps,
    )
    found = classify(load_classifier(str(made), CLASSES), test, max_length=LENGTH)
    values: Floats = (found.log_probs.argmax(1) == labels(test)).astype(np.float64)
    return values


def told(name: str, values: dict[str, Floats], right: dict[str, list[float]]) -> dict[str, Any]:
    """Print the table of one file, from [seeds, items] of each arm, and give its figures."""
    picked = values["selected"]
    print(f"\n{name}: {len(picked)} seeds, {picked.shape[1]:,} test rows\n")
    print("| arm | right labels | accuracy | by seed | selected minus it (95% interval) |")
    print("|---|---|---|---|---|")
    figures: dict[str, Any] = {}
    for arm in sorted(values, key=lambda each: -float(values[each].mean())):
        means, share = values[arm].mean(axis=1), float(np.mean(right[arm]))
        seeds = ", ".join(f"{each:.3f}" for each in means)
        apart = stats.difference(picked, values[arm])
        against = "-" if arm == "selected" else f"{apart.value:+.3f}"
        if arm != "selected" and apart.low is not None:
            against += f" ({apart.low:+.3f} to {apart.high:+.3f})"
        print(f"| `{arm}` | {share:.0%} | {means.mean():.3f} | {seeds} | {against} |")
        figures[arm] = {"right": share, "accuracy": [float(each) for each in means]}
    return figures


if __name__ == "__main__":
    main()
