"""R12: a loop, processes, ranks and Ray leave the same bytes: one hash."""

import hashlib
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from pilotfish.engine.executors.launch import ExecutorConfig
from tests.engine.executors.test_ray import apart
from tests.figures import Reached
from tests.scoring.shards import hashes, sharded
from tests.scoring.test_executors import METHOD_TEXTS, scored
from tests.torture.jobs import Jobs

pytestmark = [pytest.mark.torture, pytest.mark.slow]


def digest(root: Path) -> str:
    """One hash of every file of a run but the event log (times) and the lock."""
    return hashlib.sha256(json.dumps(hashes(root), sort_keys=True).encode()).hexdigest()


def ranks(root: Path, weak: str, world: int) -> None:
    """Real processes, each a rank of its own, that find the run already read."""
    methods = ",".join(method.text for method in METHOD_TEXTS)
    words = [sys.executable, "-m", "pilotfish", "score", str(root), "--weak", weak, "--method",
             methods, "--executor", "ranks", "--world", str(world), "--quiet",
             "--rank"]  # fmt: skip
    running = [
        subprocess.Popen([*words, str(rank)], stderr=subprocess.PIPE, text=True)
        for rank in range(world)
    ]
    told = [process.communicate(timeout=180)[1] for process in running]
    assert [process.returncode for process in running] == [0] * world, told


def test_every_executor_leaves_one_hash(jobs: Jobs, tmp_path: Path, reached: Reached) -> None:
    found = {"loop": digest(scored(tmp_path / "loop", jobs.weak).root)}
    spread = ExecutorConfig(workers=2)
    found["two processes"] = digest(scored(tmp_path / "processes", jobs.weak, spread).root)
    sharded(tmp_path / "ranks")
    ranks(tmp_path / "ranks", jobs.weak, 2)
    found["two ranks"] = digest(tmp_path / "ranks")
    assert len(set(found.values())) == 1, found
    other = scored(tmp_path / "other", jobs.weak.replace("weak", "strong"))
    assert digest(other.root) not in found.values(), "negative control: another model"
    files = len(hashes(tmp_path / "loop"))
    reached("R12", f"{', '.join(found)}: {files} files of 7 shards, "
            f"{len(set(found.values()))} hash")  # fmt: skip


@pytest.mark.skipif(find_spec("ray") is None, reason="the ray extra is not installed")
def test_ray_leaves_the_hash_of_the_loop(jobs: Jobs, tmp_path: Path, reached: Reached) -> None:
    here = digest(scored(tmp_path / "loop", jobs.weak).root)
    told = apart("own", tmp_path, jobs.weak)
    found = {here, digest(tmp_path / "own"), digest(tmp_path / "again")}
    assert len(found) == 1
    reached("R12", f"loop and two Rays, {told['killed']} actor killed: {len(found)} hash")
