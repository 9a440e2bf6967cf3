"""Controls: rows drawn beside a selection, to the same number of rows, tokens or lengths.

Each takes the run's lock as held by its caller, and commits a selection of its own name.
"""

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from pilotfish.budget import Budget
from pilotfish.methods.base import NO_RESPONSE
from pilotfish.methods.longest import Longest
from pilotfish.methods.random import Random
from pilotfish.methods.rankers import LengthMatched, Ranker
from pilotfish.methods.rankers.length_matched import length_bins
from pilotfish.records import Ints, Selection
from pilotfish.selection.candidates import Candidates, ScoredRow, ScoreShard, candidates_of
from pilotfish.selection.files import SelectionFacts, commit, kept_of
from pilotfish.selection.topk import select_topk
from pilotfish.store import Run


def random_control(
    run: Run, *, to: str = "selected", seed: int = 0, name: str | None = None, force: bool = False
) -> Selection:
    """As many rows as the selection `to`, drawn from the whole pool."""
    return _commit(run, random_pick(run, name or f"random-{seed}", to=to, seed=seed), force=force)


def random_pick(run: Run, name: str, *, to: str, seed: int) -> SelectionFacts:
    """`random_control` before it is committed."""
    rows, drawn = candidates_of(run), Random(seed)
    scored = rows.score_now(drawn, "the random control")
    facts = {"method": "random", "direction": None, "seed": seed, "of": to}
    return _beside(rows, name, scored, drawn.ranker(), facts)


def tokens_control(
    run: Run, *, to: str = "selected", seed: int = 0, name: str, force: bool = False
) -> Selection:
    """Random rows until they hold as many tokens as those of `to`."""
    return _commit(run, tokens_pick(run, name, to=to, seed=seed), force=force)


def tokens_pick(run: Run, name: str, *, to: str, seed: int) -> SelectionFacts:
    """`tokens_control` before it is committed."""
    budget = Budget("tokens", Decimal(run.section("selections")[to]["tokens"]))
    return _random(run, budget, seed, {"method": "random_tokens", "of": to}, name)


def compute_control(
    run: Run, *, to: str = "selected", seed: int = 0, name: str, more: float, force: bool = False
) -> Selection:
    """Random rows, a share `more` beyond those of `to`, at most the pool."""
    return _commit(run, compute_pick(run, name, to=to, seed=seed, more=more), force=force)


def compute_pick(run: Run, name: str, *, to: str, seed: int, more: float) -> SelectionFacts:
    """`compute_control` before it is committed."""
    rows = min(round(len(kept_of(run, to)) * (1 + more)), len(candidates_of(run)))
    facts = {"method": "random_compute", "of": to, "more": more}
    return _random(run, Budget("rows", Decimal(rows)), seed, facts, name)


def _random(
    run: Run, budget: Budget, seed: int, facts: Mapping[str, Any], name: str
) -> SelectionFacts:
    rows, drawn = candidates_of(run), Random(seed)
    scored = rows.score_now(drawn, "the random control")
    choice = select_topk(rows, scored, drawn.ranker(), budget, allow_short=True)
    return SelectionFacts(name, scored, choice, budget, {**facts, "direction": None, "seed": seed})


def length_matched(
    run: Run, *, to: str = "selected", seed: int = 0, name: str | None = None, force: bool = False
) -> Selection:
    """Rows drawn to the source and response-length counts of `to`.

    Disjoint from `to` where the pool allows it; run.json counts `borrowed` and `overlapping`.
    """
    made = matched_pick(run, name or f"length_matched-{seed}", to=to, seed=seed)
    return _commit(run, made, force=force)


def matched_pick(run: Run, name: str, *, to: str, seed: int) -> SelectionFacts:
    """`length_matched` before it is committed."""
    rows = candidates_of(run)
    counts = rows.need_counts("the length-matched control")
    lengths = np.concatenate([response for _, response in counts])
    drawn = rows.score_now(Random(seed), "the length-matched control")
    scored = ScoredRow(None, lambda: _where_long(drawn.parts(), lengths))
    ranker = LengthMatched(kept_of(run, to), rows.sources(), length_bins(lengths))
    facts = {"method": "length_matched", "direction": None, "seed": seed, "of": to}
    return _beside(rows, name, scored, ranker, facts)


def longest_control(
    run: Run, *, to: str = "selected", name: str = "longest", force: bool = False
) -> Selection:
    """As many rows as `to`, the longest responses first."""
    return _commit(run, longest_pick(run, name, to=to), force=force)


def longest_pick(run: Run, name: str, *, to: str) -> SelectionFacts:
    """`longest_control` before it is committed."""
    rows, longest = candidates_of(run), Longest()
    scored = rows.score_now(longest, "the longest control")
    facts = {"method": "longest", "direction": "high", "seed": None, "of": to}
    return _beside(rows, name, scored, longest.ranker(), facts)


def control_again(run: Run, name: str, facts: Mapping[str, Any]) -> SelectionFacts:
    """The control of that name as its line in run.json says it was drawn; nothing is committed."""
    to, seed = str(facts["of"]), int(facts["seed"] or 0)
    if facts["method"] == "random":
        return random_pick(run, name, to=to, seed=seed)
    if facts["method"] == "random_tokens":
        return tokens_pick(run, name, to=to, seed=seed)
    if facts["method"] == "random_compute":
        return compute_pick(run, name, to=to, seed=seed, more=float(facts["more"]))
    if facts["method"] == "length_matched":
        return matched_pick(run, name, to=to, seed=seed)
    return longest_pick(run, name, to=to)


def _where_long(parts: Iterable[ScoreShard], lengths: Ints) -> Iterator[ScoreShard]:
    """The parts, unscorable where a response is empty; lengths [n] of all rows."""
    start = 0
    for values, why in parts:
        empty = lengths[start : start + len(values)] == 0
        yield ScoreShard(np.where(empty, np.nan, values), np.where(empty, NO_RESPONSE, why))
        start += len(values)


def _beside(
    rows: Candidates, name: str, scored: ScoredRow, ranker: Ranker, facts: Mapping[str, Any]
) -> SelectionFacts:
    """A control at the size of the selection it stands beside (`facts["of"]`)."""
    budget = Budget("rows", Decimal(len(kept_of(rows.run, facts["of"]))))
    choice = select_topk(rows, scored, ranker, budget)
    return SelectionFacts(name, scored, choice, budget, {**facts, **choice.notes})


def _commit(run: Run, made: SelectionFacts, *, force: bool) -> Selection:
    return commit(candidates_of(run), made, force=force)
