"""select: a score column, a picker and a budget become a selection, with a reason for every row."""

import time
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.budget import Budget, parse_budget
from pilotfish.config import Method
from pilotfish.flows.candidates import Candidates, Part, Scored, candidates_of
from pilotfish.flows.meant import column_of
from pilotfish.flows.passing import promised
from pilotfish.flows.picking import pick
from pilotfish.flows.progress import SILENT, Progress
from pilotfish.flows.reading import existing
from pilotfish.flows.recheck import Chosen, recheck
from pilotfish.flows.selection import Pick, check_name, commit, kept_of
from pilotfish.ledger import RESUME
from pilotfish.pickers import LengthMatched, Picker
from pilotfish.pickers.length_matched import length_bins
from pilotfish.records import Ints, Selection
from pilotfish.selectors.longest import Longest
from pilotfish.selectors.protocol import NO_RESPONSE
from pilotfish.selectors.random import Random
from pilotfish.store import Run, run_lock


def select(
    root: str | Path,
    *,
    method: str | Method,
    budget: str | Budget,
    name: str = "selected",
    score: str | None = None,
    direction: str | None = None,
    seed: int = 0,
    allow_short: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> Selection:
    """Pick from a run and commit selections/<name>/, holding the run's lock.

    `score` names a column of scores.parquet; by default the one of METHOD. `seed` serves methods
    that draw. Raises UsageError (exit 2) for a missing score or direction, a budget that cannot
    be met, and a name already taken by another selection (unless `force`); RunBusy (75).
    """
    existing(root)
    with run_lock(root) as store:
        return select_into(
            Run(store.root), method=method, budget=budget, name=name, score=score,
            direction=direction, seed=seed, allow_short=allow_short, force=force,
            progress=progress,
        )  # fmt: skip


def select_into(
    run: Run,
    *,
    method: str | Method,
    budget: str | Budget,
    name: str = "selected",
    score: str | None = None,
    direction: str | None = None,
    seed: int = 0,
    allow_short: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> Selection:
    """`select` for a caller that holds the run's lock."""
    check_name(name)
    start = time.monotonic()
    wanted = parse_budget(budget) if isinstance(budget, str) else budget
    method, selector, column = column_of(run, method, score=score, direction=direction, seed=seed)
    picker = selector.picker()
    rows = candidates_of(run)
    scored = rows.scored(column) if column else rows.score_now(selector, method.text)
    audited, cascade = None, dict[str, Any]()
    if column is not None:
        cascade = promised(run, column, picker, wanted, len(rows))
        chosen = Chosen(column, selector, picker, wanted)
        scored, audited = recheck(rows, scored, chosen, progress=progress)
    choice = pick(rows, scored, picker, wanted, allow_short=allow_short)
    facts = {
        "method": method.text,
        "direction": selector.direction,
        "ceiling": getattr(selector, "ceiling", None),
        "seed": getattr(selector, "seed", None),
        "of": None,
        **({} if audited is None else {"audit": audited}),
        **cascade,
    }
    before = run.section("selections").get(name)
    selection = commit(rows, Pick(name, scored, choice, wanted, facts), force=force)
    fresh = before != run.section("selections").get(name)
    took = time.monotonic() - start
    run.cost("select" if fresh else RESUME, name, seconds=took, rows=len(rows) if fresh else 0)
    return selection


def random_control(
    run: Run, *, to: str = "selected", seed: int = 0, name: str | None = None, force: bool = False
) -> Selection:
    """As many rows as the selection `to`, drawn from the whole pool (the caller holds the lock)."""
    rows, drawn = candidates_of(run), Random(seed)
    scored = rows.score_now(drawn, "the random control")
    facts = {"method": "random", "direction": None, "seed": seed, "of": to}
    return _control(rows, name or f"random-{seed}", scored, drawn.picker(), facts, force=force)


def tokens_control(
    run: Run, *, to: str = "selected", seed: int = 0, name: str, force: bool = False
) -> Selection:
    """Random rows until they hold as many tokens as those of `to` (the caller holds the lock)."""
    tokens = run.section("selections")[to]["tokens"]
    budget = Budget("tokens", Decimal(tokens))
    return _random(run, budget, seed, {"method": "random_tokens", "of": to}, name, force=force)


def compute_control(
    run: Run, *, to: str = "selected", seed: int = 0, name: str, more: float, force: bool = False
) -> Selection:
    """Random rows, a share `more` beyond those of `to`, at most the pool."""
    rows = min(round(len(kept_of(run, to)) * (1 + more)), len(candidates_of(run)))
    facts = {"method": "random_compute", "of": to, "more": more}
    return _random(run, Budget("rows", Decimal(rows)), seed, facts, name, force=force)


def _random(
    run: Run, budget: Budget, seed: int, facts: Mapping[str, Any], name: str, *, force: bool
) -> Selection:
    rows, drawn = candidates_of(run), Random(seed)
    scored = rows.score_now(drawn, "the random control")
    choice = pick(rows, scored, drawn.picker(), budget, allow_short=True)
    told = {**facts, "direction": None, "seed": seed}
    return commit(rows, Pick(name, scored, choice, budget, told), force=force)


def length_matched(
    run: Run, *, to: str = "selected", seed: int = 0, name: str | None = None, force: bool = False
) -> Selection:
    """Rows drawn to the source and response-length counts of `to` (the caller holds the lock).

    Disjoint from `to` where the pool allows it; run.json counts `borrowed` and `overlapping`.
    """
    rows = candidates_of(run)
    counts = rows.need_counts("the length-matched control")
    lengths = np.concatenate([response for _, response in counts])
    drawn = rows.score_now(Random(seed), "the length-matched control")
    scored = Scored(None, lambda: _where_long(drawn.parts(), lengths))
    picker = LengthMatched(kept_of(run, to), rows.sources(), length_bins(lengths))
    facts = {"method": "length_matched", "direction": None, "seed": seed, "of": to}
    return _control(rows, name or f"length_matched-{seed}", scored, picker, facts, force=force)


def longest_control(
    run: Run, *, to: str = "selected", name: str = "longest", force: bool = False
) -> Selection:
    """As many rows as `to`, the longest responses first (the caller holds the lock)."""
    rows, longest = candidates_of(run), Longest()
    scored = rows.score_now(longest, "the longest control")
    facts = {"method": "longest", "direction": "high", "seed": None, "of": to}
    return _control(rows, name, scored, longest.picker(), facts, force=force)


def _where_long(parts: Iterable[Part], lengths: Ints) -> Iterator[Part]:
    """The parts, unscorable where a response is empty; lengths [n] of all rows."""
    start = 0
    for values, why in parts:
        empty = lengths[start : start + len(values)] == 0
        yield Part(np.where(empty, np.nan, values), np.where(empty, NO_RESPONSE, why))
        start += len(values)


def _control(
    rows: Candidates,
    name: str,
    scored: Scored,
    picker: Picker,
    facts: Mapping[str, Any],
    *,
    force: bool,
) -> Selection:
    """Commit a control at the size of the selection it stands beside (`facts["of"]`)."""
    budget = Budget("rows", Decimal(len(kept_of(rows.run, facts["of"]))))
    choice = pick(rows, scored, picker, budget)
    told = {**facts, **choice.notes}
    return commit(rows, Pick(name, scored, choice, budget, told), force=force)
