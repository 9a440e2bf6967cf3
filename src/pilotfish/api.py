"""The Python API: read, score, select and run as plain calls; `pilotfish` exports them lazily."""

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pilotfish import remote_code
from pilotfish.budget import parse_budget
from pilotfish.config import make_recipe, parse_method, read_recipe
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.data import Pool
from pilotfish.data.run_pool import open_pool
from pilotfish.errors import UsageError
from pilotfish.records import Floats, Selection
from pilotfish.scoring.cascade_rows import CascadeConfig
from pilotfish.scoring.score import score as score_run
from pilotfish.selection.cascade import score_cascade
from pilotfish.selection.constraints import Constraints
from pilotfish.selection.select import SelectConfig
from pilotfish.selection.select import select as select_run
from pilotfish.store import Run, run_lock

__all__ = ["Picked", "Scores", "read", "run", "score", "select"]


@dataclass(frozen=True)
class Scores:
    """One score per row of a pool, in pool order."""

    pool: Pool
    name: str

    @property
    def folder(self) -> Path:
        """The run folder that holds scores.parquet."""
        return Path(self.pool.store.root)

    @property
    def values(self) -> Floats:
        """[n] raw values in the published orientation, nan where unscorable."""
        column = pq.read_table(self.folder / "scores.parquet", columns=[self.name]).column(0)
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)


@dataclass(frozen=True)
class Picked:
    """The selected rows, best first."""

    scores: Scores
    selection: Selection

    def __len__(self) -> int:
        return len(self.selection)

    @property
    def ids(self) -> list[str]:
        """Ids in pick order."""
        ids = self.scores.pool.columns("id")["id"]
        return [str(ids[i]) for i in self.selection.order]

    def save(self, path: str | Path) -> Path:
        """Write the selected rows in pick order, in the format they came in.

        Args:
            path: A `.jsonl` file.

        Returns:
            The path.

        Raises:
            UsageError: The path has another ending.

        Example:
            >>> picked.save("selected.jsonl")
        """
        target = Path(path)
        if target.suffix != ".jsonl":
            raise UsageError(f"selected rows are written as .jsonl, not '{target.suffix}'")
        lines = self.scores.pool.raw(self.selection.order)
        target.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return target


def read(
    data: str | Path,
    *,
    out: str | Path | None = None,
    mapping: Mapping[str, str] | None = None,
    limit: int | None = None,
    max_bad_rate: float = 0.01,
) -> Pool:
    """Read a dataset into a pool of examples.

    Args:
        data: A file, a folder, a glob, or a hub dataset id.
        out: The run folder to keep the pool in. Without one it is in a temporary folder that lives
            as long as the returned pool.
        mapping: Canonical field -> column of the data, as `--map` of the command line.
        limit: Records to read at most.
        max_bad_rate: Largest share of bad records, in [0, 1].

    Returns:
        The pool.

    Raises:
        UsageError: The data does not exist or has no known format.
        DataError: More records are bad than `max_bad_rate` allows, or no row is left.

    Example:
        >>> pool = pilotfish.read("questions.csv", mapping={"prompt": "q", "completion": "a"})
    """
    folder = str(out) if out is not None else tempfile.mkdtemp(prefix="pilotfish-")
    source = Source(str(data), dict(mapping or {}), limit, max_bad_rate)
    with run_lock(folder) as store:
        pool = open_pool(Run(store.root), source)
    if out is None:
        weakref.finalize(pool, shutil.rmtree, folder, ignore_errors=True)
    return pool


def score(
    pool: Pool,
    *,
    weak: str | Path,
    method: str = "ifd",
    name: str | None = None,
    max_length: int | None = None,
    precision: str = "auto",
    seed: int = 0,
    cascade: str | Path | None = None,
    budget: str | None = None,
    recall: float = 0.95,
    trust_remote_code: bool = False,
) -> Scores:
    """Score every row of a pool with a weak model.

    Args:
        pool: The rows.
        weak: Folder or hub id of the weak model.
        method: The scoring method, as `--method` of the command line.
        name: Name of the score column; the method by default.
        max_length: Tokens after which a row is cut; the model's window by default.
        precision: "auto", "fp32", "bf16" or "int8".
        seed: Seed of methods that draw.
        cascade: A cheaper model that reads every row. The weak model then reads only the rows that
            may be among the best `budget`; the other rows have no score.
        budget: The budget that a cascade is for, such as "10%".
        recall: Share of the weak model's picks that a cascade must find, in (0, 1].
        trust_remote_code: Run code that a model brings along.

    Returns:
        The scores.

    Raises:
        UsageError: Unknown method, unusable model, or `cascade` without `budget`.

    Example:
        >>> scores = pilotfish.score(pool, weak="HuggingFaceTB/SmolLM2-135M", method="ifd")
        >>> scores.values.mean()
    """
    parsed = parse_method(method)
    root = str(pool.store.root)
    config = ScoreConfig(
        str(weak),
        [parsed],
        [name] if name else [],
        max_length=max_length,
        precision=precision,
        seed=seed,
    )
    if (cascade is None) != (budget is None):
        raise UsageError("cascade and budget go together: which model reads all, for which picks")
    with remote_code.allowing(trust_remote_code):
        if cascade is None or budget is None:
            score_run(root, Source(root), config)
        else:
            cheap = CascadeConfig(str(cascade), parse_budget(budget), recall)
            score_cascade(root, Source(root), config, cheap)
    return Scores(pool, name or parsed.text)


def select(
    scores: Scores,
    *,
    budget: str = "10%",
    method: str | None = None,
    name: str = "selected",
    direction: str | None = None,
    seed: int = 0,
    allow_short: bool = False,
    dedup: str | None = None,
    quota: str | None = None,
) -> Picked:
    """Select the best rows within a budget.

    Args:
        scores: The scores to rank by.
        budget: "10%", "500rows" or "2Mtokens". Exactly this much is selected.
        method: How to rank; the method of the scores by default.
        name: Name of the selection in the run folder.
        direction: "high", "low" or "middle"; the method's own by default.
        seed: Seed of the tie order.
        allow_short: Accept fewer rows than the budget where too few are eligible.
        dedup: "exact" or "near": of equal rows only the best-ranked one is kept.
        quota: "COLUMN", "COLUMN:balanced" or "COLUMN:a=1,b=3": share the budget, in rows, among
            the values of a column.

    Returns:
        The selected rows, best first.

    Raises:
        UsageError: The budget cannot be met, or an unknown direction, dedup or quota.

    Example:
        >>> picked = pilotfish.select(scores, budget="10%", dedup="near")
        >>> picked.save("selected.jsonl")
    """
    facts = Run(scores.folder).section("scores")[scores.name]
    selection = select_run(
        str(scores.folder),
        SelectConfig(
            parse_method(method or facts["method"]),
            budget,
            score=scores.name,
            name=name,
            direction=direction,
            seed=seed,
            allow_short=allow_short,
            constraints=Constraints.parse(dedup, quota),
        ),
        force=True,
    )
    return Picked(scores, selection)


def run(recipe: str | Path | Mapping[str, Any], *, out: str | Path) -> dict[str, Any]:
    """Run a whole recipe: read, score, select, train, evaluate, report.

    Args:
        recipe: A YAML file, or its settings.
        out: The run folder.

    Returns:
        The content of report.json.

    Raises:
        UsageError: The recipe is not valid, or a model cannot be used.
        DataError: The data cannot be used.

    Example:
        >>> report = pilotfish.run("recipe.yaml", out="runs/first")
        >>> report["verdict"]["outcome"]
    """
    from pilotfish.experiments.run import run_experiment

    settings = dict(recipe) if isinstance(recipe, Mapping) else read_recipe(recipe)
    done = run_experiment(make_recipe(settings), str(out))
    return done.store.read_json("report.json") or {}
