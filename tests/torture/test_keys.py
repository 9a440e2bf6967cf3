"""R13: whatever decides numbers is part of their key; changed, no old shard is used again."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from pilotfish.cli.main import run as run_command
from pilotfish.data import ingest
from pilotfish.engine import cache_keys, scorer
from pilotfish.store import Run, Store
from tests.experiments.worlds import rows, write
from tests.figures import Reached
from tests.torture.jobs import SHARD_ROWS, SHARDS, Jobs, copy, files

pytestmark = pytest.mark.torture


@dataclass
class Asked:
    """One `score`: what of it a mutation changes."""

    data: Path
    weak: Path
    trusted: Path
    method: str = "superfiltering"
    more: list[str] = field(default_factory=list)

    def run(self, out: Path, *more: str) -> int:
        words = ["score", str(self.data), "--weak", str(self.weak), "--method", self.method]
        return run_command([*words, "--out", str(out), "--quiet", *self.more, *more])


Mutation = Callable[[Asked, pytest.MonkeyPatch], None]


def other_weights(asked: Asked, patch: pytest.MonkeyPatch) -> None:
    path = asked.weak / "model.safetensors"
    weights = load_file(path)
    name = min(weights)
    weights[name] = np.asarray(weights[name] + 1e-3, dtype=np.float32)
    save_file(weights, path, metadata={"format": "pt"})


def other_tokenizer(asked: Asked, patch: pytest.MonkeyPatch) -> None:
    path = asked.weak / "tokenizer.json"
    facts = json.loads(path.read_text())
    vocab = facts["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    path.write_text(json.dumps(facts))


def other_row(asked: Asked, patch: pytest.MonkeyPatch) -> None:
    asked.data.write_text(asked.data.read_text().replace("apple", "grape", 1))


def one_more_row(asked: Asked, patch: pytest.MonkeyPatch) -> None:
    with asked.data.open("a") as handle:
        handle.write(json.dumps(rows(1, start=900)[0]) + "\n")


def other_trusted(asked: Asked, patch: pytest.MonkeyPatch) -> None:
    asked.trusted.write_text(asked.trusted.read_text().replace("apple", "grape", 1))


def given(*words: str) -> Mutation:
    def mutate(asked: Asked, patch: pytest.MonkeyPatch) -> None:
        asked.more += words

    return mutate


def other_signals(asked: Asked, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cache_keys, "SIGNAL_FORMAT", cache_keys.SIGNAL_FORMAT + 1)


def other_pools(asked: Asked, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ingest, "POOL_FORMAT", ingest.POOL_FORMAT + 1)


def other_packages(asked: Asked, patch: pytest.MonkeyPatch) -> None:
    # as the key sees it: in one full sweep this file's import was another object than that
    patch.setattr(cache_keys.transformers, "__version__", "9.9")


def other_template(asked: Asked, patch: pytest.MonkeyPatch) -> None:
    path = asked.weak / "tokenizer_config.json"
    facts = json.loads(path.read_text())
    turn = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    path.write_text(json.dumps({**facts, "chat_template": turn}))


def other_kernels(asked: Asked, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another")


# name -> the change, and a word of what the message must name
MUTATIONS: dict[str, tuple[Mutation, str]] = {
    "a row's text": (other_row, "sources"),
    "one row more": (one_more_row, "sources"),
    "weights": (other_weights, "weak model"),
    "tokenizer": (other_tokenizer, "weak model"),
    "max_length": (given("--max-length", "40"), "max_length"),
    "precision": (given("--precision", "bf16"), "precision"),
    "rows read": (given("--limit", "15"), "limit"),
    "mapping": (given("--map", "prompt=completion,completion=prompt"), "mapping"),
    "pool format": (other_pools, "another version of pilotfish: format changed"),
    "signal format": (other_signals, "namely its signal format"),
    "packages": (other_packages, "namely its packages"),
    "template": (other_template, "weak model"),
    "instruction set": (other_kernels, "namely its cpu"),
    "trusted rows": (other_trusted, "trusted"),
    "tuning": (given("--set", "weak_train.learning_rate=0.003"), "config"),
}


@pytest.fixture
def asked(jobs: Jobs, tmp_path: Path) -> Asked:
    weak = Path(shutil.copytree(jobs.weak, tmp_path / "weak"))
    data = write(tmp_path / "rows.jsonl", rows(SHARDS * SHARD_ROWS))
    trusted = write(tmp_path / "trusted.jsonl", rows(8, start=500))
    return Asked(Path(data), weak, Path(trusted))


def measured(patch: pytest.MonkeyPatch) -> list[str]:
    """The shards of measurements that are written from now on."""
    real, found = Store.attempt, list[str]()

    def noting(self: Store, manifest: str) -> object:
        if manifest.startswith("signals/"):
            found.append(manifest)
        return real(self, manifest)

    patch.setattr(Store, "attempt", noting)
    return found


TUNED = ("trusted rows", "tuning")
OTHER = {"nll": "nll-of-another-cpu"}
QUICK = ("a row's text", "weights", "instruction set")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MUTATIONS],
)
def test_a_change_reuses_nothing_and_is_named(
    name: str, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], reached: Reached,
) -> None:  # fmt: skip
    mutate, word = MUTATIONS[name]
    if name in TUNED:
        asked.more += ["--trusted", str(asked.trusted), "--set", "weak_train.use_peft=false"]
    run = tmp_path / "run"
    assert asked.run(run) == 0
    before, shards = files(run), measured(monkeypatch)
    assert asked.run(run) == 0
    assert shards == [] and files(run) == before  # unchanged: all is used again
    mutate(asked, monkeypatch)
    capfd.readouterr()
    assert asked.run(run) == 2
    assert word in capfd.readouterr().err
    assert shards == []  # refused before anything is spent
    assert {key: files(run)[key] for key in before if key != "run.json"} == {
        key: digest for key, digest in before.items() if key != "run.json"
    }
    assert asked.run(copy(run, tmp_path / "forced"), "--force") == 0
    forced = list(shards)
    shards.clear()
    assert asked.run(tmp_path / "fresh") == 0
    # rows that are read again and come out equal keep their measurements
    assert sorted(forced) == ([] if name == "pool format" else sorted(shards))
    assert scores(tmp_path / "forced") == scores(tmp_path / "fresh")
    reached("R13", f"{name}: exit 2 naming '{word}'; forced, {len(forced)} of {len(shards)} "
            "shards measured anew, to the bytes of a fresh run")  # fmt: skip


def test_another_release_reuses_everything(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reached: Reached
) -> None:
    """A version number, a moved file, a reworded line: none of them is part of a key."""
    run = tmp_path / "run"
    assert asked.run(run) == 0
    before, shards = files(run), measured(monkeypatch)
    monkeypatch.setattr("pilotfish.store.run.__version__", "9.9")
    assert asked.run(run) == 0
    assert shards == []
    assert {name for name, digest in files(run).items() if before.get(name) != digest} <= {
        "run.json"
    }
    reached("R13", "another release with the same format numbers: 0 shards measured anew")


def test_a_run_measured_before_the_format_number_is_measured_once_more(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], reached: Reached,
) -> None:  # fmt: skip
    real, run = cache_keys.stage_spec, tmp_path / "run"

    def hashed(*args: Any, **fixed: Any) -> dict[str, Any]:
        spec = real(*args, **fixed)
        del spec["format"]
        return {**spec, "pilotfish": "0.1.0", "code": "a hash of the sources"}

    with monkeypatch.context() as patch:
        patch.setattr(scorer, "stage_spec", hashed)
        assert asked.run(run) == 0
    shards = measured(monkeypatch)
    capfd.readouterr()
    assert asked.run(run) == 2 and shards == []
    said = capfd.readouterr().err
    assert "namely its signal format (measured by another version of pilotfish)" in said
    assert "its code" not in said
    assert asked.run(run, "--force") == 0 and shards
    shards.clear()
    assert asked.run(run) == 0 and shards == []
    reached("R13", "a run measured under a hash of the sources: refused in words, measured once")


def scores(run: Path) -> str:
    return files(run)["scores.parquet"]


def test_a_key_that_forgets_is_found_out(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reached: Reached
) -> None:
    """Negative control: a key without the instruction set lets old shards pass for new ones."""
    real = cache_keys.stage_spec

    def forgetful(*args: Any, **fixed: Any) -> dict[str, Any]:
        return {**real(*args, **fixed), "cpu": None}

    monkeypatch.setattr(scorer, "stage_spec", forgetful)
    assert asked.run(tmp_path / "run") == 0
    shards = measured(monkeypatch)
    other_kernels(asked, monkeypatch)
    assert asked.run(tmp_path / "run") == 0 and shards == []
    reached("R13", "negative control, a key without the instruction set: red")


def test_another_moment_of_the_machine_keeps_to_the_plan(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reached: Reached
) -> None:
    """Threads and free memory are no change of the command: the run keeps what it began with."""
    run = tmp_path / "run"
    assert asked.run(run) == 0
    before, shards, threads = files(run), measured(monkeypatch), torch.get_num_threads()
    monkeypatch.setattr("pilotfish.engine.batches.find_budget", lambda weak: 256)
    torch.set_num_threads(threads + 1)
    try:
        assert asked.run(run) == 0
    finally:
        torch.set_num_threads(threads)
    assert shards == [] and files(run) == before
    assert asked.run(tmp_path / "fresh") == 0 and shards  # elsewhere they are another key
    assert {shard.split("/")[1] for shard in shards}.isdisjoint(
        path.name for path in (run / "signals").iterdir()
    )
    reached("R13", "other threads, other free memory: the run's own plan is kept, 0 shards redone; "
            "a run begun so has other keys")  # fmt: skip


@pytest.mark.slow
def test_several_workers_refuse_before_they_measure(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], reached: Reached,
) -> None:  # fmt: skip
    run = tmp_path / "run"
    assert asked.run(run, "--workers", "2") == 0
    found = Store(run).read_json("run.json") or {}
    # as if the machine that it began on had had another instruction set
    scores = {name: {**facts, "keys": {**facts["keys"], **OTHER}} for name, facts in
              found["scores"].items()}  # fmt: skip
    Run(run).update(scores=scores)
    shutil.rmtree(run / "signals")
    capfd.readouterr()
    assert asked.run(run, "--workers", "2") == 2
    assert "way of measuring" in capfd.readouterr().err
    assert not (run / "signals").exists()
    reached("R13", "two processes: refused before any of them measures")
