"""On a real local Ray with four logical CPUs: the same bytes, actors replaced, nobody let in."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pilotfish.engine.executors import ray as module
from pilotfish.errors import MissingExtra, PilotfishError
from pilotfish.flows.score import Spread
from tests.flows.shards import hashes
from tests.flows.test_executors import costs, measured_now, scored

RAY = Spread("ray", workers=2)


@pytest.fixture
def weak(models: tuple[str, str]) -> str:
    return models[0]


def test_without_the_extra_the_pip_line_is_told(
    tmp_path: Path, weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra) as caught:
        scored(tmp_path / "run", weak, RAY)
    assert caught.value.hint == "pip install 'pilotfish[ray]'"


def test_the_environment_is_as_it_was_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    before = dict(os.environ)
    with pytest.raises(KeyError), module._environment({"RAY_AUTH_MODE": "token", "RAY_NEW": "1"}):
        assert os.environ["RAY_AUTH_MODE"] == "token" and os.environ["RAY_NEW"] == "1"
        raise KeyError
    assert dict(os.environ) == before


@pytest.mark.slow
def test_ray_leaves_the_same_bytes_and_lets_nobody_in(
    tmp_path: Path, weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="the ray extra is not installed")
    here = scored(tmp_path / "a", weak)
    told: dict[str, Any] = {}
    real, killed = module.Actors.send, []

    def deadly(self: module.Actors, seat: int, shard: int, then: int | None) -> None:
        if not told:
            told["cpus"] = ray.cluster_resources()["CPU"]
            told["address"] = ray.get_runtime_context().gcs_address
            told["stranger"] = stranger(told["address"])
        if shard == 3 and not killed:
            killed.append(seat)
            ray.kill(self._actors[seat])
        real(self, seat, shard, then)

    monkeypatch.setattr(module.Actors, "send", deadly)
    run = scored(tmp_path / "b", weak, RAY)
    assert hashes(run.root) == hashes(here.root) and killed
    assert costs(run)[0]["tokens"] == costs(here)[0]["tokens"]
    assert told["cpus"] >= 4
    assert told["address"].startswith("127.0.0.1:")
    assert told["stranger"] != 0
    assert not ray.is_initialized() and "RAY_AUTH_TOKEN" not in os.environ


def stranger(address: str) -> int:
    """Exit code of a process that tries to use somebody else's Ray."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    code = f"import ray; ray.init(address='{address}'); ray.cluster_resources()"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, timeout=120)
    return done.returncode


@pytest.mark.slow
def test_a_ray_that_runs_already_is_used_and_left_running(
    tmp_path: Path, weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="the ray extra is not installed")
    here = scored(tmp_path / "a", weak)
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        run = scored(tmp_path / "b", weak, RAY)
        assert ray.is_initialized()
        real = module.Actors.send

        def broken(self: module.Actors, seat: int, shard: int, then: int | None) -> None:
            real(self, seat, 99 if shard == 2 else shard, then)

        monkeypatch.setattr(module.Actors, "send", broken)
        with pytest.raises(PilotfishError, match=r"shard 2 failed 3 times.*IndexError"):
            scored(tmp_path / "c", weak, RAY)
        monkeypatch.undo()
        assert measured_now(monkeypatch, lambda: scored(tmp_path / "c", weak, RAY)) == [2]
    finally:
        ray.shutdown()
    assert hashes(run.root) == hashes(here.root) == hashes(tmp_path / "c")
