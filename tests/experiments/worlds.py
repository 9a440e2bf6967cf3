"""The smallest worlds the whole loop runs in: random models, a dozen rows, one training step."""

import json
from pathlib import Path
from typing import Any

from pilotfish.config import make_recipe
from pilotfish.experiments.run import run_experiment
from pilotfish.store import Run

WORDS = ("apple", "river", "stone", "cloud", "tiger", "lemon", "piano", "candle")


def rows(count: int, *, start: int = 0) -> list[dict[str, str]]:
    """Prompt/completion rows, all prompts distinct."""
    return [
        {"prompt": f"say {WORDS[i % 8]} {i}", "completion": f"{WORDS[i % 8]} {i % 7}"}
        for i in range(start, start + count)
    ]


def write(path: Path, found: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return str(path)


class World:
    """Files and models below a folder, and `run` over them."""

    def __init__(self, folder: Path, weak: str, strong: str) -> None:
        self.folder, self.weak, self.strong = folder, weak, strong
        self.pool = write(folder / "pool.jsonl", rows(24))
        self.trusted = write(folder / "trusted.jsonl", rows(10, start=100))
        self.test = write(folder / "test.jsonl", rows(4, start=200))
        self.out = folder / "run"

    def settings(self, **changes: Any) -> dict[str, Any]:
        """A recipe of one seed; a change of None takes a setting away."""
        weak_train = {"learning_rate": 1e-3, "use_peft": False}
        whole = {
            "data": self.pool, "weak": self.weak, "strong": self.strong, "budget": "6rows",
            "method": "perplexity(direction=low)", "test": self.test, "metric": "loss",
            "evidence": "quick", "seeds": 1, "weak_train": weak_train,
            "train": {"max_steps": 1, "use_peft": False, "learning_rate": 1e-3},
        }  # fmt: skip
        return {key: value for key, value in {**whole, **changes}.items() if value is not None}

    def run(self, *, force: bool = False, out: Path | None = None, **changes: Any) -> Run:
        recipe = make_recipe(self.settings(**changes))
        return run_experiment(recipe, str(out or self.out), force=force)


def manifest(run: Run, arm: str, seed: int = 0) -> dict[str, Any]:
    return run.store.require(f"train/{arm}/seed-{seed}/manifest.json")


def kept(run: Run, name: str) -> list[str]:
    return (run.root / f"selections/{name}/selected.jsonl").read_text().splitlines()


def report(run: Run) -> dict[str, Any]:
    return run.store.read_json("report.json") or {}
