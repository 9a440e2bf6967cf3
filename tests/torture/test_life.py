"""A run's whole life, drawn at random, against a reference that holds it in memory.

Run, kill, resume, corrupt, delete, change the budget or the data, in any order: a command ends as
the reference says, and where it ends well the selection is the reference's, and verify agrees.
"""

import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from pilotfish.cli.main import run as run_command
from tests.experiments.worlds import rows, write
from tests.figures import Reached, size
from tests.torture.doubles import forked, kill_at
from tests.torture.jobs import METHOD, SHARD_ROWS, SHARDS, Jobs, files

pytestmark = pytest.mark.torture

BUDGETS = st.sampled_from([4, 6, 9])
WHICH = st.sampled_from([0, 1])


class Reference:
    """What a run should hold: data, budget, and by them the ids kept, best first.

    `sure`: whether the folder surely holds that. After a kill it may hold the old or the new; what
    was damaged or deleted may be refused (6).
    """

    def __init__(self, scores: list[dict[str, float]]) -> None:
        self.scores = scores
        self.holds: list[tuple[int, int] | None] = [None]  # what may be there
        self.hurt = False

    def kept(self, data: int, budget: int) -> list[str]:
        return sorted(self.scores[data], key=self.scores[data].__getitem__)[:budget]

    def codes(self, data: int, budget: int, *, force: bool) -> set[int]:
        """How the command may end."""
        same = {held is None or held == (data, budget) for held in self.holds}
        return {0 if force or fits else 2 for fits in same} | ({6} if self.hurt else set())

    def killed(self, data: int, budget: int, *, force: bool) -> None:
        if 0 in self.codes(data, budget, force=force):
            self.holds = [*self.holds, (data, budget)]

    def ended(self, code: int, data: int, budget: int) -> None:
        if code == 0:
            self.holds, self.hurt = [(data, budget)], False


class Life(RuleBasedStateMachine):
    """The commands on one folder; `tries` counts them over all lives."""

    jobs: Jobs
    data: list[str]
    scores: list[dict[str, float]]
    tries: dict[str, int]

    def __init__(self) -> None:
        super().__init__()
        self.run = Path(tempfile.mkdtemp()) / "run"
        self.reference = Reference(self.scores)

    def teardown(self) -> None:
        shutil.rmtree(self.run.parent, ignore_errors=True)

    @rule(data=WHICH, budget=BUDGETS, force=st.booleans())
    def command(self, data: int, budget: int, force: bool) -> None:
        self.tries["commands"] += 1
        allowed = self.reference.codes(data, budget, force=force)
        code = self.work(data, budget, force)
        assert code in allowed, (code, allowed)
        self.reference.ended(code, data, budget)
        if code == 0:
            table = pq.read_table(self.run / "selections/selected/decisions.parquet").to_pydict()
            kept = sorted(zip(table["rank"], table["id"], strict=True), key=lambda e: e[0] or 0)
            found = [name for rank, name in kept if rank is not None]
            assert found == self.reference.kept(data, budget)
            assert run_command(["verify", str(self.run)]) == 0
        if code == 6:  # what a person does who has no backup
            shutil.rmtree(self.run)
            self.reference = Reference(self.scores)

    @rule(data=WHICH, budget=BUDGETS, force=st.booleans(), step=st.integers(1, 130))
    def kill(self, data: int, budget: int, force: bool, step: int) -> None:
        self.tries["kills"] += 1
        self.reference.killed(data, budget, force=force)
        forked(lambda: (kill_at(step), self.work(data, budget, force)))

    @precondition(lambda self: self.run.is_dir())
    @rule(draw=st.randoms(use_true_random=False), delete=st.booleans())
    def damage(self, draw: random.Random, delete: bool) -> None:
        there = [name for name in files(self.run) if (self.run / name).stat().st_size]
        if not there:
            return
        self.tries["deleted" if delete else "flipped"] += 1
        self.reference.hurt, path = True, self.run / draw.choice(there)
        if delete:
            path.unlink()
            if path.name == "run.json":  # without it a folder holds no run, and any may begin
                self.reference.holds = [*self.reference.holds, None]
            return
        data = bytearray(path.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)

    def work(self, data: int, budget: int, force: bool) -> int:
        """score, then select; the exit code of the first that ends badly."""
        more = ["--force"] if force else []
        run = str(self.run)
        return run_command(
            ["score", self.data[data], "--weak", self.jobs.weak, "--method", METHOD, "--out", run,
             "--quiet", *more]
        ) or run_command(
            ["select", run, "--method", METHOD, "--budget", f"{budget}rows", *more]
        )  # fmt: skip


def scores_of(run: Path) -> dict[str, float]:
    table = pq.read_table(run / "scores.parquet").to_pydict()
    return dict(zip(table["id"], table[METHOD], strict=True))


def test_any_life_ends_as_the_reference_says(jobs: Jobs, tmp_path: Path, reached: Reached) -> None:
    count = SHARDS * SHARD_ROWS
    Life.jobs = jobs
    Life.data = [write(tmp_path / f"{i}.jsonl", rows(count, start=50 * i)) for i in range(2)]
    Life.scores, Life.tries = [], dict.fromkeys(("commands", "kills", "flipped", "deleted"), 0)
    for number, data in enumerate(Life.data):
        run = tmp_path / f"run-{number}"
        arguments: list[Any] = ["score", data, "--weak", jobs.weak, "--method", METHOD]
        assert run_command([*arguments, "--out", str(run), "--quiet"]) == 0
        Life.scores.append(scores_of(run))
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=size(5, 60), stateful_step_count=8, deadline=None, derandomize=True,
            suppress_health_check=list(HealthCheck), print_blob=True,
        ),
    )  # fmt: skip
    told = ", ".join(f"{number} {what}" for what, number in Life.tries.items())
    reached("R1", f"random lives of a run against a reference: {told}; none ended otherwise")
