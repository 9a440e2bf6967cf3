"""3 budgets x 3 seeds x 5 arms, killed again and again: no model is run twice for one thing."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.experiments.counted import SHARD_ROWS
from tests.experiments.worlds import World
from tests.scoring.ends import digests, untimed

BUDGETS, SEEDS, SHARDS = ["50%", "25%", "10%"], 3, 24 // SHARD_ROWS
ARMS = ["random", "selected", "length_matched", "longest"]  # and the method `hard`
# The unit, of those each process begins, that it dies of: a shard, a training, a model judged.
KILLED_AT = (4, 21, 37)


class Grid:
    """The recipe, and processes that run it."""

    def __init__(self, world: World, folder: Path) -> None:
        self._recipe, self._folder = folder / "recipe.yaml", folder
        settings = world.settings(
            trusted=world.trusted, budget=BUDGETS[0], budgets=BUDGETS, seeds=SEEDS, arms=ARMS,
            methods={"hard": "perplexity(direction=high)"},
        )  # fmt: skip
        self._recipe.write_text(yaml.safe_dump(settings))

    def out(self, name: str) -> Path:
        return self._folder / name

    def compare(self, name: str, kill: int = 0) -> list[str]:
        """The units begun by one process; it ends well, or is killed as unit `kill` begins."""
        log = self._folder / f"{name}-{kill}.log"
        words = ["compare", self._recipe, "--out", self.out(name), "--quiet"]
        ended = subprocess.run(
            [sys.executable, "-m", "tests.experiments.counted", *map(str, [log, kill, *words])],
            env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, timeout=300, text=True,
        )  # fmt: skip
        assert ended.returncode == (-signal.SIGKILL if kill else 0), ended.stderr
        return log.read_text().splitlines()


@pytest.mark.slow
def test_no_model_is_run_twice_but_for_what_was_in_hand(world: World, tmp_path: Path) -> None:
    grid = Grid(world, tmp_path)
    whole = grid.compare("whole")
    kinds = Counter(unit.split()[0] for unit in whole)
    assert kinds == {"tune": SEEDS, "score": SEEDS * SHARDS, "train": 45, "judge": 45}
    assert len({*whole}) == len(whole)  # one pass over the pool serves all methods and budgets

    victims = [grid.compare("killed", at) for at in KILLED_AT]
    in_hand = [units[-1] for units in victims]
    assert [unit.split()[0] for unit in in_hand] == ["score", "train", "judge"]
    begun = Counter([unit for units in [*victims, grid.compare("killed")] for unit in units])
    assert begun == Counter([*whole, *in_hand])
    assert digests(grid.out("killed")) == digests(grid.out("whole"))
    assert untimed(grid.out("killed")) == untimed(grid.out("whole"))
