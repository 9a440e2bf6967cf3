"""The rows that a cascade passes on: committed, read back, and what a selection may promise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pilotfish.budget import Budget, resolve
from pilotfish.errors import UsageError
from pilotfish.methods.rankers import Ranker
from pilotfish.records import Ints
from pilotfish.scoring.audit import audit_sentences
from pilotfish.scoring.audit.cascade import Cascade, at_fewer
from pilotfish.scoring.score_plan import CASCADE
from pilotfish.store import Run, Store

RECALL = 0.95  # of the picks, where nobody asks for another


@dataclass(frozen=True)
class CascadeConfig:
    """The model that reads every row, and what is promised of the intended one's picks."""

    model: str
    budget: Budget
    recall: float = RECALL

    def check(self) -> None:
        """UsageError for a recall that is no share."""
        if not 0.0 < self.recall < 1.0:
            raise UsageError(
                f"--recall is the share of picks to be found, between 0 and 1, not {self.recall:g}",
                hint="leave --cascade out to be sure of every row",
            )


@dataclass(frozen=True, eq=False)
class CascadeRows:
    """Which rows the intended model reads, and the batches that the plan was made in."""

    name: str  # of its files in the run, without ending
    cascade: Cascade
    audited: Ints  # rows not passed on that it reads all the same, to measure the recall
    calibration: Ints  # rows the plan was made by, all of them passed on
    token_budget: int
    threads: int

    @property
    def scored(self) -> NDArray[np.bool_]:
        """[n] rows the intended model reads."""
        return self.cascade.passed | _mask(self.audited, len(self.cascade.passed))


def write_cascade_rows(store: Store, passing: CascadeRows, made_from: Mapping[str, Any]) -> None:
    """Commit NAME.parquet, a line per row of the pool, and NAME.json."""
    n, cascade = len(passing.cascade.passed), passing.cascade
    columns = {
        "scored": passing.scored,
        "passed": cascade.passed,
        "audited": _mask(passing.audited, n),
        "calibration": _mask(passing.calibration, n),
    }
    ends = [end if np.isfinite(end) else None for end in cascade.threshold]
    with store.attempt(f"{passing.name}.json") as attempt:
        pq.write_table(pa.table(columns), attempt.path(f"{passing.name}.parquet"))
        attempt.meta = {
            "made_from": dict(made_from),
            "token_budget": passing.token_budget,
            "threads": passing.threads,
            "threshold": ends,
            **{name: getattr(cascade, name) for name in _PLAIN},
        }


_PLAIN = ("target", "confidence", "picked", "missed")


def read_cascade_rows(store: Store, name: str) -> CascadeRows | None:
    """What was committed under a name, where it is intact."""
    facts = store.manifest(f"{name}.json")
    if facts is None:
        return None
    table = pq.read_table(store.path(f"{name}.parquet"))
    passed, audited, calibration = (
        table[column].to_numpy() for column in ("passed", "audited", "calibration")
    )
    low, high = (np.nan if end is None else end for end in facts["threshold"])
    plain = {key: facts[key] for key in _PLAIN}
    cascade = Cascade(passed, (low, high), calibration=int(calibration.sum()), **plain)
    rows = np.flatnonzero(audited), np.flatnonzero(calibration)
    return CascadeRows(name, cascade, *rows, facts["token_budget"], facts["threads"])


def promise(run: Run, column: str, ranker: Ranker, budget: Budget, n: int) -> dict[str, Any]:
    """What a cascade promises of this selection; {} for a column of one model.

    UsageError (exit 2) where it promises nothing: a larger budget, one in tokens, another end.
    """
    facts = run.section("scores")[column]
    if CASCADE not in facts:
        return {}
    told = facts.get("cascade")
    if told is None:
        raise UsageError(
            f"the cascade of '{column}' is not finished", hint="give the same `score` command again"
        )
    asked = None if budget.unit == "tokens" else min(resolve(budget, n), n)
    if repr(ranker) != told["ranker"] or asked is None or asked > told["picked"]:
        raise UsageError(
            f"'{column}' was scored by a cascade for the best {told['picked']:,} rows "
            f"({told['budget']}); beyond them, or from another end, most rows have no score",
            hint="pick that many or fewer, or score again with another --budget and --as",
        )
    if asked == told["picked"]:
        return {"cascade": {**told, "sentences": audit_sentences(told)}}
    low = at_fewer(told["recall"][1], told["picked"], asked)
    sentence = (
        f"Cascade: planned for {told['picked']:,} rows and cut at {asked:,}, where recall was not "
        f"measured: by the interval of the whole it is at least {low:.0%}; not identical."
    )
    return {"cascade": {**told, "sentences": [sentence, *audit_sentences(told)]}}


def _mask(rows: Ints, n: int) -> NDArray[np.bool_]:
    mask = np.zeros(n, dtype=bool)
    mask[rows] = True
    return mask
