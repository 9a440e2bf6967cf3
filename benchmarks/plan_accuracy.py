"""What `plan` predicts against what a run then takes: `python -m benchmarks.plan_accuracy`.

Two runs: the demo's dirty world with its shipped models, and dolly rows scored and learnt by random
models of GPT-2's shape (124M). Each is planned, run, and held to the plan stage by stage, by the
run's own ledger. The promise: scoring and training within 25%.
"""

import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.machine import parser, settle, write
from benchmarks.rows import corpus
from benchmarks.rows import write as write_rows
from benchmarks.shapes import build, config
from pilotfish.config import make_recipe
from pilotfish.demo.world import CHAPTERS, build_world
from pilotfish.demo.world import settings as demo_settings
from pilotfish.experiments.run import run_experiment
from pilotfish.planning import plan
from pilotfish.planning.result import Plan
from pilotfish.store import Run

PROMISE = 0.25
PROMISED = ("score", "train")
# What the ledger tells apart and a plan does not: prices, controls, loading what is judged.
WITHIN = {"plan": "read", "draw": "select", "load": "judge"}
ARMS = ["base", "random", "longest", "selected", "trusted_selected"]


def tiny_world(folder: Path, seed: int, *, quick: bool) -> dict[str, Any]:
    """The demo's first chapter, one seed of some of its arms."""
    chapter = CHAPTERS[0]
    made = demo_settings(chapter, build_world(chapter, folder, seed=seed), seed)
    short = {"train": {**made["train"], "max_steps": 20}} if quick else {}
    return {**made, **short, "arms": ARMS, "losses": {}, "seeds": 1}


def shaped(folder: Path, seed: int, *, quick: bool) -> dict[str, Any]:
    """Rows of dolly through a 124M model, which another of that shape learns."""
    source, name = corpus(), "gpt2-124m"
    tokenizer = source.tokenizer(config(name).vocab_size)
    for number, role in enumerate(("weak", "strong")):
        build(name, folder / role, tokenizer, seed=seed + number)
    rows = source.sample(60 if quick else 240, seed)
    train = {"max_steps": 3 if quick else 10, "per_device_train_batch_size": 4,
             "max_length": 256, "use_peft": False}  # fmt: skip
    return {
        "data": str(write_rows(rows[16:], folder / "pool.jsonl")),
        "test": str(write_rows(rows[:16], folder / "test.jsonl")),
        "weak": str(folder / "weak"), "strong": str(folder / "strong"),
        "method": "superfiltering", "budget": "20%", "metric": "loss", "evidence": "none",
        "max_length": 512, "seed": seed, "train": train,
    }  # fmt: skip


def measured(run: Run) -> dict[str, float]:
    """Seconds of every stage, by the run's ledger."""
    found: dict[str, float] = defaultdict(float)
    for line in (run.root / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event.get("kind") == "cost":
            found[WITHIN.get(event["stage"], event["stage"])] += event["seconds"]
    return dict(found)


def predicted(made: Plan) -> dict[str, float]:
    """The same of a plan."""
    found: dict[str, float] = defaultdict(float)
    for step in made.chosen.steps:
        found[step.stage] += step.seconds
    return dict(found)


def one(settings: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Plan, run, compare."""
    recipe, load = make_recipe(dict(settings)), [os.getloadavg()[0]]
    start = time.perf_counter()
    made = plan(recipe)
    planning = time.perf_counter() - start
    start = time.perf_counter()
    run = run_experiment(recipe, str(out))
    wall = time.perf_counter() - start
    load.append(os.getloadavg()[0])
    plans, took = predicted(made), measured(run)
    stages = {
        stage: {"predicted": round(plans[stage], 2), "measured": round(took[stage], 2),
                "ratio": round(plans[stage] / took[stage], 3)}
        for stage in plans if took.get(stage)
    }  # fmt: skip
    return {
        "planning_seconds": round(planning, 1),
        "stages": stages,
        "total": {"predicted": round(made.chosen.seconds, 1), "measured": round(wall, 1),
                  "ratio": round(made.chosen.seconds / wall, 3)},
        "kept": all(abs(stages[stage]["ratio"] - 1) <= PROMISE for stage in PROMISED),
        "load_average": [round(each, 2) for each in load],
        "machine": dict(made.machine),
    }  # fmt: skip


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("--only", choices=("tiny_world", "gpt2-124m"))
    options = made.parse_args()
    found = {}
    for name, world in (("tiny_world", tiny_world), ("gpt2-124m", shaped)):
        if options.only in (None, name):
            settle(options)  # anew: tiny models leave one thread behind them
            with tempfile.TemporaryDirectory() as folder:
                settings = world(Path(folder), options.seed, quick=options.quick)
                found[name] = one(settings, Path(folder) / "run")
            for stage, seconds in found[name]["stages"].items():
                print(f"{name:<12} {stage:<8} {seconds}")
            print(f"{name:<12} {'total':<8} {found[name]['total']}  kept: {found[name]['kept']}")
    write("plan_accuracy", options, {"promise": PROMISE, "runs": found})


if __name__ == "__main__":
    main()
