"""The smallest weak-to-strong experiment: prompts whose first letter decides the answer."""

from pathlib import Path
from typing import Any

from pilotfish.config import WeakToStrong, make_weak_to_strong
from pilotfish.store import Run
from pilotfish.weak_to_strong.run import run_weak_to_strong
from tests.experiments.worlds import write
from tests.tiny.models import tiny_gpt2, tiny_llama

TRAIN = {"max_steps": 25, "use_peft": False, "learning_rate": 1e-2, "max_length": 32,
         "per_device_train_batch_size": 8}  # fmt: skip


def rows(count: int) -> list[dict[str, str]]:
    return [
        {"id": f"r{i}", "prompt": f"{'ab'[i % 2]} {i}", "completion": "AB"[i % 2]}
        for i in range(count)
    ]


class Experiment:
    """Files and models below a folder, and `run` over them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "run"
        self.data = write(folder / "rows.jsonl", rows(100))
        self.weak = str(tiny_gpt2(folder / "weak", seed=1))
        self.strong = str(tiny_llama(folder / "strong", seed=2))

    def settings(self, **changes: Any) -> dict[str, Any]:
        whole = {
            "experiment": "weak_to_strong", "data": self.data, "weak": self.weak,
            "strong": self.strong, "seeds": 2, "weak_rows": 30, "rows": 30, "validation_rows": 10,
            "test_rows": 20, "filters": {"sure": "confidence(keep=0.5)"}, "weak_train": TRAIN,
            "train": TRAIN,
        }  # fmt: skip
        return {**whole, **changes}

    def recipe(self, **changes: Any) -> WeakToStrong:
        return make_weak_to_strong(self.settings(**changes))

    def run(self, out: Path | None = None, **changes: Any) -> tuple[Run, dict[str, Any]]:
        where = out or self.out
        found = run_weak_to_strong(self.recipe(**changes), str(where))
        return Run(where), found


def manifest(run: Run, arm: str, seed: int = 0) -> dict[str, Any]:
    return run.store.require(f"train/{arm}/seed-{seed}/manifest.json")
