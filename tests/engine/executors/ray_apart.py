"""Score on a real Ray, in a process apart.

`python -m tests.engine.executors.ray_apart WHAT FOLDER WEAK`.

Ray's library reads its settings once, on import, and leaves processes and warnings behind; none of
that belongs into the process of the tests. Prints what it found as one JSON object.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pilotfish.engine.executors import ray as module
from pilotfish.engine.executors.launch import ExecutorConfig
from pilotfish.errors import PilotfishError
from tests.scoring.test_executors import measured_now, scored

RAY = ExecutorConfig("ray", workers=2)


def own(folder: Path, weak: str) -> dict[str, Any]:
    """A Ray that pilotfish starts; one actor is killed in the middle, and a stranger knocks."""
    told: dict[str, Any] = {"killed": 0}
    real = module.Actors.send

    def deadly(self: module.Actors, seat: int, shard: int, then: int | None) -> None:
        if "cpus" not in told:
            told["cpus"] = self._ray.cluster_resources()["CPU"]
            told["address"] = self._ray.get_runtime_context().gcs_address
            told["nice"] = niceness(self._ray)
            told["friend"] = knock(told["address"], known=True)
            told["stranger"] = knock(told["address"], known=False)
        if shard == 3 and not told["killed"]:
            told["killed"] += 1
            self._ray.kill(self._actors[seat])
        real(self, seat, shard, then)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Actors, "send", deadly)
        scored(folder / "own", weak, RAY)
    told["running"] = sys.modules["ray"].is_initialized()
    told["secret"] = "RAY_AUTH_TOKEN" in os.environ
    again = folder / "again"  # a second Ray in one process
    scored(again, weak, RAY)
    return told


def niceness(ray: Any) -> int:
    """How far a worker of a Ray stands back behind other processes."""

    def own() -> int:
        return os.nice(0)

    return int(ray.get(ray.remote(num_cpus=0)(own).remote()))


def knock(address: str, *, known: bool) -> bool:
    """Whether a Ray lets a process in that knows its password, or does not."""
    env = {name: value for name, value in os.environ.items() if known or name[:4] != "RAY_"}
    code = f"from ray._raylet import GcsClient; GcsClient(address={address!r})"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0 or "AuthenticationError" in done.stderr, done.stderr
    return done.returncode == 0


def running(folder: Path, weak: str) -> dict[str, Any]:
    """A Ray that runs already; one shard fails as often as it is tried."""
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    told: dict[str, Any] = {}
    scored(folder / "running", weak, RAY)
    told["running"] = ray.is_initialized()
    real = module.Actors.send

    def broken(self: module.Actors, seat: int, shard: int, then: int | None) -> None:
        real(self, seat, 99 if shard == 2 else shard, then)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Actors, "send", broken)
        try:
            scored(folder / "failed", weak, RAY)
        except PilotfishError as error:
            told["failed"], told["exit"] = str(error), error.exit_code
    patch = pytest.MonkeyPatch()
    told["redone"] = measured_now(patch, lambda: scored(folder / "failed", weak, RAY))
    ray.shutdown()
    try:
        scored(folder / "late", weak, RAY)
    except PilotfishError as error:
        told["late"] = f"{error} {error.hint}"
    return told


if __name__ == "__main__":
    what = {"own": own, "running": running}[sys.argv[1]]
    print(json.dumps(what(Path(sys.argv[2]), sys.argv[3])))
