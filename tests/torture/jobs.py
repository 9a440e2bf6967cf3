"""The two jobs that sweeps interrupt: score and select in small shards, then train."""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from pilotfish.config import parse_method
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.data.ingest import read
from pilotfish.experiments.train import train_arms
from pilotfish.scoring.score import score
from pilotfish.selection.select import SelectConfig, select
from pilotfish.store import Store
from tests.experiments.worlds import rows, write

METHOD = "perplexity(direction=low)"
SHARD_ROWS = 7
SHARDS = 3


@dataclass(frozen=True)
class Jobs:
    """Data and models, and what is done with them in a run folder."""

    data: str
    weak: str
    strong: str

    def select(self, run: Path, *, measured: Path | None = None) -> None:
        """Read, score and select; a line in `measured` for each shard that is written."""
        if measured is not None:
            _log_shards(measured)
        score(str(run), Source(self.data), ScoreConfig(self.weak, [parse_method(METHOD)]))
        select(run, SelectConfig(METHOD, "6rows"))
        # over an older one: what is withdrawn and written anew is swept too
        select(run, SelectConfig(METHOD, "6rows", name="again"), force=True)
        select(run, SelectConfig(METHOD, "8rows", name="again"), force=True)

    def train(self, run: Path) -> None:
        """Train the selection's arm, with a checkpoint after every step."""
        train_arms(
            str(run), self.strong, arms=["selected"],
            overrides=["train.max_steps=3", "train.save_steps=1", "train.use_peft=false"],
        )  # fmt: skip


def jobs_in(folder: Path, patch: pytest.MonkeyPatch, weak: str, strong: str) -> Jobs:
    """The jobs over a pool of three shards."""
    patch.setitem(read.__kwdefaults__ or {}, "shard_rows", SHARD_ROWS)
    return Jobs(write(folder / "rows.jsonl", rows(SHARDS * SHARD_ROWS)), weak, strong)


def _log_shards(path: Path) -> None:
    """Note every shard of rows or measurements whose files are about to be written."""
    real = Store.attempt

    def noting(self: Store, manifest: str) -> object:
        if "/part-" in manifest:
            with path.open("a") as handle:
                handle.write(f"{manifest}\n")
        return real(self, manifest)

    Store.attempt = noting  # type: ignore[method-assign, assignment]


def redone(first: Path, second: Path) -> list[str]:
    """The shards that were begun in both of two processes."""
    before, after = (
        set(path.read_text().splitlines()) if path.exists() else set() for path in (first, second)
    )
    return sorted(before & after)


def files(run: Path) -> dict[str, str]:
    """Every file of a run but the event log (times) and the lock, by digest; empty folders too."""
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in ("events.jsonl", "LOCK")
    }


def copy(run: Path, to: Path) -> Path:
    """The run at another place; whatever was there is gone."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(run, to)
    return to
