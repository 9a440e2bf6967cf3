"""What a worker is told before it starts, as plain values, and how it opens its scorer."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import torch

from pilotfish import trust
from pilotfish.engine.scorer import Only, ShardScorer
from pilotfish.errors import UsageError
from pilotfish.models import Loaded, load
from pilotfish.pool import Pool
from pilotfish.records import Need
from pilotfish.store import Store


@dataclass(frozen=True)
class ScoreSpec:
    """Everything that decides what a worker measures, and nothing that it can find in the run."""

    root: str  # the run folder, on a disk that every worker sees
    model: str  # as the worker loads it: a folder, or a hub id
    digest: str  # of that model: a worker that finds another one must not measure
    needs: tuple[Need, ...]
    max_length: int
    precision: str = "auto"
    token_budget: int | None = None
    device: str | None = None
    threads: int = 1  # of one forward pass on a CPU: sums are cut by it, so bits depend on it
    trust_remote_code: bool = False  # asked for where the run was started, maybe elsewhere
    only: str | None = None  # a committed file of the run (no ending): column `scored`, the rows


def load_for(spec: ScoreSpec) -> Loaded:
    """The model of a worker, its CPU threads settled. Raises UsageError where it is another one."""
    torch.set_num_threads(spec.threads)
    with trust.asking(spec.trust_remote_code):
        loaded = load(spec.model, device=spec.device, precision=spec.precision)
    if loaded.digest != spec.digest:
        raise UsageError(
            f"a worker found another model under {spec.model} than the one the run was planned for",
            hint="give all workers the same files: a folder on a shared disk, or one hub cache",
        )
    return loaded


def open_scorer(spec: ScoreSpec, loaded: Loaded | None = None) -> ShardScorer:
    """The scorer of a worker; `loaded` spares reading the model again.

    Raises UsageError where the run or the model cannot be seen from here, or is another one.
    """
    store = Store(Path(spec.root))
    if not store.path("run.json").is_file():
        raise UsageError(
            f"a worker does not see the run folder {spec.root}",
            hint="put --out on a disk that all workers share",
        )
    loaded = loaded or load_for(spec)
    torch.set_num_threads(spec.threads)
    return ShardScorer(
        Pool.open(store), spec.needs, loaded, store,
        max_length=spec.max_length, token_budget=spec.token_budget,
        only=None if spec.only is None else _only(store, spec.only),
    )  # fmt: skip


def _only(store: Store, name: str) -> Only:
    store.require(f"{name}.json")
    table = pq.read_table(store.path(f"{name}.parquet"), columns=["scored"])
    rows = table["scored"].to_numpy()
    return Only(rows, hashlib.sha256(rows.tobytes()).hexdigest())
