"""On a real local Ray with four logical CPUs: the same bytes, actors replaced, nobody let in."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pilotfish.engine.executors import ray as module
from pilotfish.engine.executors.launch import ExecutorConfig
from pilotfish.errors import MissingExtra
from tests.scoring.shards import hashes
from tests.scoring.test_executors import scored

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="the ray extra is not installed"
)


@pytest.fixture
def weak(models: tuple[str, str]) -> str:
    return models[0]


def apart(what: str, folder: Path, weak: str, **env: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.executors.ray_apart", what, str(folder), weak],
        capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[3],
        env={**os.environ, **env},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_without_the_extra_the_pip_line_is_told(
    tmp_path: Path, weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    module._private_settings.cache_clear()
    with pytest.raises(MissingExtra) as caught:
        scored(tmp_path / "run", weak, ExecutorConfig("ray", workers=2))
    assert caught.value.hint == "pip install 'pilotfish[ray]'"


def test_the_environment_is_as_it_was_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    before = dict(os.environ)
    with pytest.raises(KeyError), module._environment({"RAY_AUTH_MODE": "token", "RAY_NEW": "1"}):
        assert os.environ["RAY_AUTH_MODE"] == "token" and os.environ["RAY_NEW"] == "1"
        raise KeyError
    assert dict(os.environ) == before


@needs_ray
@pytest.mark.slow
def test_a_ray_of_our_own_leaves_the_same_bytes_and_lets_nobody_in(
    tmp_path: Path, weak: str
) -> None:
    here = scored(tmp_path / "here", weak)
    told = apart("own", tmp_path, weak)
    assert hashes(tmp_path / "own") == hashes(tmp_path / "again") == hashes(here.root)
    assert told["killed"] == 1 and told["nice"] == os.nice(0)
    assert told["cpus"] >= 4
    assert told["address"].startswith("127.0.0.1:")
    assert told["friend"] and not told["stranger"]
    assert not told["running"] and not told["secret"]


@needs_ray
@pytest.mark.slow
def test_a_ray_that_runs_already_is_used_and_left_running(tmp_path: Path, weak: str) -> None:
    here = scored(tmp_path / "here", weak)
    # at the 15 that is Ray's own choice other tests keep its workers from the CPU
    told = apart("running", tmp_path, weak, RAY_worker_niceness="0")
    assert hashes(tmp_path / "running") == hashes(tmp_path / "failed") == hashes(here.root)
    assert told["running"] and told["redone"] == [2]
    assert "shard 2 failed 3 times" in told["failed"] and told["exit"] == 1
    assert "IndexError" in told["failed"]
    assert "ray.init()" in told["late"]
