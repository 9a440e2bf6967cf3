"""Control selections: rows drawn to be compared with a selection, at an equal size."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np

from pilotfish.budget import Budget
from pilotfish.methods.base import NO_RESPONSE
from pilotfish.methods.longest import Longest
from pilotfish.methods.random import Random
from pilotfish.methods.rankers import LengthMatched, Ranker
from pilotfish.methods.rankers.length_matched import length_bins
from pilotfish.records import Selection
from pilotfish.run_context import RunContext
from pilotfish.selection.candidates import Candidates, ScoreColumn, ScoreShard, candidates_of
from pilotfish.selection.files import SelectionDraft, commit, kept_of
from pilotfish.selection.topk import pick_rows
from pilotfish.store import Run

ControlMethod = Literal["random", "random_tokens", "random_compute", "length_matched", "longest"]


@dataclass(frozen=True)
class Control:
    """A control, and the selection that it is compared with.

    Attributes:
        method: How rows are drawn. `random`: as many rows as the selection has, from the whole
            pool. `random_tokens`: random rows with as many tokens. `random_compute`: a share
            `more` of random rows beyond it. `length_matched`: the same number of rows per source
            and response length, outside the selection where the pool allows it; run.json counts
            the `borrowed` and `overlapping` rows. `longest`: the rows with the longest responses.
        of: The name of the selection.
        seed: The seed of the draw; `longest` draws nothing.
        more: The share of additional rows for `random_compute`.
    """

    method: ControlMethod
    of: str = "selected"
    seed: int = 0
    more: float = 0.0

    @classmethod
    def recorded(cls, facts: Mapping[str, Any]) -> "Control":
        """Return the control that an entry of run.json describes."""
        seed, more = int(facts["seed"] or 0), float(facts.get("more", 0.0))
        return cls(facts["method"], str(facts["of"]), seed, more)

    @property
    def default_name(self) -> str:
        """The usual name of its selection, such as `random-0`."""
        return self.method if self.method == "longest" else f"{self.method}-{self.seed}"


def draw_control(context: RunContext, control: Control, name: str | None = None) -> Selection:
    """Draw a control and commit it as a selection; the caller holds the run's lock.

    Args:
        context: The run.
        control: What to draw.
        name: The name of the new selection; `control.default_name` if None.

    Raises:
        UsageError: The run lacks the selection or its token counts, or another selection has the
            name and `context.force` is off.
    """
    draft = draft_control(context.run, control, name or control.default_name)
    return commit(draft, force=context.force)


def draft_control(run: Run, control: Control, name: str) -> SelectionDraft:
    """Draw a control without committing it."""
    rows, method = candidates_of(run), control.method
    budget = _budget_of(rows, control)
    selector = Longest() if method == "longest" else Random(control.seed)
    scores = rows.score_now(selector, f"the {method} control")
    ranker = selector.ranker()
    if method == "length_matched":
        scores, ranker = _matched(rows, scores, control.of)
    picked = pick_rows(
        rows, scores, ranker, budget, allow_short=method in ("random_tokens", "random_compute")
    )
    facts = {
        "method": method,
        "direction": "high" if method == "longest" else None,
        "seed": None if method == "longest" else control.seed,
        "of": control.of,
        **({"more": control.more} if method == "random_compute" else {}),
        **picked.notes,
    }
    return SelectionDraft(rows, name, scores, picked, budget, facts)


def _budget_of(rows: Candidates, control: Control) -> Budget:
    """The size of a control, from the size of its selection."""
    if control.method == "random_tokens":
        return Budget("tokens", Decimal(rows.run.section("selections")[control.of]["tokens"]))
    size = len(kept_of(rows.run, control.of))
    if control.method == "random_compute":
        size = min(round(size * (1 + control.more)), len(rows))
    return Budget("rows", Decimal(size))


def _matched(rows: Candidates, draws: ScoreColumn, of: str) -> tuple[ScoreColumn, Ranker]:
    """The draws without rows whose response is empty, and the ranker that matches lengths."""
    counts = rows.need_counts("the length-matched control")
    lengths = np.concatenate([response for _, response in counts])

    def shards() -> Iterator[ScoreShard]:
        for (start, stop), (values, why) in zip(rows.pool.ranges, draws.shards(), strict=True):
            empty = lengths[start:stop] == 0
            yield ScoreShard(np.where(empty, np.nan, values), np.where(empty, NO_RESPONSE, why))

    ranker = LengthMatched(kept_of(rows.run, of), rows.sources(), length_bins(lengths))
    return ScoreColumn(None, shards), ranker
