"""Small scored runs for the tests of canaries, and checks of what was found for them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.config import parse_methods
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.scoring.score import score
from pilotfish.selection.files import decisions_of
from pilotfish.selection.select import SelectConfig, select
from pilotfish.store import Run

METHOD_TEXTS = "superfiltering,perplexity(direction=low),ifd(ceiling=9)"
WORDS = ("apple", "river", "stone", "cloud", "tiger", "lemon", "piano", "candle", "ink")


def records(count: int, seed: int = 3) -> list[dict[str, str]]:
    rng = np.random.default_rng(seed)
    return [
        {"prompt": f"say {' '.join(rng.choice(WORDS, 2))} {i}",
         "completion": " ".join(rng.choice(WORDS, int(rng.integers(1, 8))))}
        for i in range(count)
    ]  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def made(
    folder: Path,
    rows: list[dict[str, Any]],
    weak: str,
    methods: str = METHOD_TEXTS,
    **settings: Any,
) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    data = write(folder / "pool.jsonl", rows)
    config = ScoreConfig(weak, parse_methods(methods), **settings)
    return score(str(folder / "run"), Source(data), config)


def lines(run: Run, name: str = "selected") -> list[dict[str, Any]]:
    text = (run.root / f"canaries/{name}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def costs(run: Run) -> list[dict[str, Any]]:
    told = map(json.loads, (run.root / "events.jsonl").read_text().splitlines())
    return [event for event in told if event.get("stage") == "canaries"]


def agree(run: Run, name: str = "selected", *, rel: float = 1e-6) -> int:
    """How many rows as they came were scored again, each held against its own score."""
    own = decisions_of(run, name, "score")["score"].to_pylist()
    found = [line for line in lines(run, name) if line["attack"] == "unchanged"]
    for line in found:
        assert line["score"] == pytest.approx(own[line["row"]], rel=rel)
    return len(found)


@pytest.fixture(scope="session")
def weak(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.tiny.models import tiny_llama

    return str(tiny_llama(tmp_path_factory.mktemp("w") / "weak", seed=1, hidden=16, layers=1))


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, weak: str) -> Run:
    found = made(tmp_path_factory.mktemp("once"), records(60), weak)
    select(found.root, SelectConfig("superfiltering", "20%"))
    return found


@pytest.fixture
def run(tmp_path: Path, once: Run) -> Run:
    return Run(shutil.copytree(once.root, tmp_path / "run"))
