"""Audit a selection from bf16 or int8 scores: re-measure the rows near its cut in fp32."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.budget import Budget, resolve, take
from pilotfish.data.run_pool import warn
from pilotfish.methods import Selector
from pilotfish.methods.rankers import UNSCORABLE, Gate, Ranker
from pilotfish.methods.rankers.base import OPEN
from pilotfish.progress import SILENT, Progress
from pilotfish.records import SKIPPED, Floats, Ints, Mask, Texts
from pilotfish.scoring.audit import Cuts, Remeasured, Rule, cut_facts, cuts_of, remeasure_near_cuts
from pilotfish.scoring.weak_model import precision_of, unaudited, weak_by_digest
from pilotfish.selection.candidates import Candidates, ScoreColumn, ScoreShard
from pilotfish.selection.constraints import NONE, Constraints, groups_of
from pilotfish.selection.topk import (
    GatheredScores,
    duplicates_in,
    gather,
    group_shares,
    scores_sha,
)

# Reasons of rows that have no score in any precision, or that a cascade did not pass on.
_NEVER_SCORED = (
    "empty_response",
    "prompt_over_limit",
    "too_few_tokens",
    "no_response_tokens",
    "template_error",
    "tokenizer_error",
    "model_error",
    "oom_single_row",
    SKIPPED,
)


@dataclass(frozen=True)
class AuditTarget:
    """The selection whose scores are audited."""

    column: str
    selector: Selector
    ranker: Ranker
    budget: Budget
    constraints: Constraints = NONE
    allow_short: bool = False


def audit_precision(
    rows: Candidates, scores: ScoreColumn, target: AuditTarget, *, progress: Progress = SILENT
) -> tuple[ScoreColumn, dict[str, Any] | None]:
    """Correct the scores of a fast number format around the cut of a selection.

    Every row near a cut is measured again in fp32, outward until no row changes sides, and so are
    random rows elsewhere (see `scoring.audit.remeasure`). This corrects the selected set, not the
    rank of every row in it. The fp32 scores are kept in the run: the same selection measures
    nothing again. Another selection starts from the fast scores, because no score may depend on
    what was selected before.

    Args:
        rows: The rows of the run.
        scores: The column in bf16 or int8.
        target: The selection that is made from the scores.
        progress: Receives a note before rows are measured.

    Returns:
        The corrected scores, and the entry `audit` for run.json: None for a method that cannot be
        audited, whose scores are returned as they are.

    Raises:
        UsageError: Too few rows can be eligible for the budget, whatever the correction.
    """
    run, precision = rows.run, precision_of(rows.run, target.column)
    if why_not := unaudited(target.selector, target.ranker):
        warn(
            run,
            [f"'{target.column}' was scored in {precision}, and its cut is not audited: {why_not}"],
        )
        return scores, None
    some = gather(rows, scores)
    lengths = np.concatenate([response for _, response in rows.need_counts("the audit")])
    duplicates = duplicates_in(rows, scores, target.ranker, target.constraints)
    dropped = np.zeros(len(rows), bool) if duplicates is None else duplicates.keeper >= 0
    why = np.concatenate([shard.why for shard in scores.shards()])
    given_up = np.isin(why, _NEVER_SCORED) | dropped
    agreement = run.section("precision").get("columns", {}).get(target.column)
    _refuse_short(target, some, given_up, agreement)

    progress.note(f"re-measuring in fp32 around the cut of {precision} scores")
    exact, rule = _ExactScores(rows, target, scores_sha(scores)), Rule()
    some = replace(some, scores=np.where(dropped, np.nan, some.scores))

    def walk(cuts: Cuts, known: Floats | None) -> Remeasured:
        return remeasure_near_cuts(
            some.scores, some.tie, lengths, cuts, exact, rule=rule, known=known, given_up=given_up
        )

    walked = _walk_from_cuts(rows, target, some, walk)
    exact.save()
    facts = cut_facts(
        walked, precision=precision, token_budget=exact.token_budget, agreed=None, rule=rule
    )
    if duplicates is not None:  # equal rows, so a duplicate has the score of its keeper
        same = np.where(dropped, walked.scores[duplicates.keeper], walked.scores)
        walked = replace(walked, scores=same)

    def corrected() -> Iterator[ScoreShard]:
        for (start, stop), shard in zip(rows.pool.ranges, scores.shards(), strict=True):
            values = walked.scores[start:stop]
            reasons = [exact.why.get(start + i, old) for i, old in enumerate(shard.why)]
            texts: Texts = np.where(np.isfinite(values), "", np.array(reasons, dtype=object))
            yield ScoreShard(values, texts)

    return ScoreColumn(scores.column, corrected), {**facts, "agreement": agreement}


def _refuse_short(
    target: AuditTarget, some: GatheredScores, given_up: Mask, agreement: Mapping[str, Any] | None
) -> None:
    """Raise UsageError (exit 2), before any row is measured, if no correction can be enough.

    A row counts as eligible if fp32 may score it and its fast score is inside the widened gate.
    """
    reason = _widened_gate(target.ranker, agreement).reasons(some.scores)
    rows = np.flatnonzero((reason == "") | ((reason == UNSCORABLE) & ~given_up))
    if some.tokens is not None:  # shortest rows first, since the final order is not known yet
        rows = rows[np.argsort(some.tokens[rows], kind="stable")]
    take(rows, target.budget, len(some.scores), tokens=some.tokens, allow_short=target.allow_short)


def _widened_gate(ranker: Ranker, agreement: Mapping[str, Any] | None) -> Gate:
    """Widen the ranker's gate by twice the largest error that the run's sample showed."""
    gate: Gate = getattr(ranker, "gate", OPEN)
    if agreement is None or agreement["largest"] is None:
        return OPEN
    error = 2.0 * agreement["largest"]

    def moved(bound: float | None, by: float) -> float | None:
        if bound is None:
            return None
        return bound * float(np.exp(by)) if agreement["space"] == "log" else bound + by

    return Gate(moved(gate.below, error), moved(gate.above, -error), strict=False)


def _walk_from_cuts(
    rows: Candidates,
    target: AuditTarget,
    some: GatheredScores,
    walk: Callable[[Cuts, Floats | None], Remeasured],
) -> Remeasured:
    """Walk from every cut. With a quota, repeat until no corrected score changes a group's share.

    walk: Measures rows outward from some cuts; its second argument [n] holds the fp32 scores that
    are known already, nan elsewhere.
    """
    ranker, budget, quota = target.ranker, target.budget, target.constraints.quota
    if quota is None:
        return walk(cuts_of(ranker, budget, tokens=some.tokens), None)
    groups, count = groups_of(rows.pool, quota.column), resolve(budget, len(rows))
    names, known = np.array(groups.names, dtype=object), None
    shares = group_shares(groups, quota, ranker.rank(some.scores, some.tie).order, count)[1]
    while True:
        quotas = dict(zip(groups.names, shares.tolist(), strict=True))
        walked = walk(cuts_of(ranker, budget, groups=names[groups.codes], quotas=quotas), known)
        before, order = shares, ranker.rank(walked.scores, some.tie).order
        shares = group_shares(groups, quota, order, count)[1]
        if (shares == before).all():
            return walked
        # The loop ends, because every round measures rows that the round before did not.
        known = np.where(walked.remeasured, walked.scores, np.nan)


class _ExactScores:
    """fp32 scores of single rows, kept in the run; the model is loaded for the first new row.

    Attributes:
        why: The reason of each measured row, by pool index; "" where scored.
        token_budget: The batch size of the run, in tokens.
    """

    def __init__(self, rows: Candidates, target: AuditTarget, sha: str) -> None:
        self._rows, self._selector = rows, target.selector
        self._facts = rows.run.section("scores")[target.column]
        self.token_budget = int(rows.run.section("weak")["token_budget"])
        # The sha of the scores tells apart two custom methods with the same needs and ranker.
        key = [sorted(self._facts["keys"].values()), repr(target.ranker), target.budget.text, sha]
        key += [repr(target.constraints)] if target.constraints else []
        self._name = "audits/" + hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
        self._scores: dict[int, float] = {}
        self.why: dict[int, str] = {}
        store = rows.run.store
        if store.manifest(f"{self._name}.json") is not None:
            table = pq.read_table(store.path(f"{self._name}.parquet")).to_pydict()
            self._scores = dict(zip(table["row"], table["score"], strict=True))
            self.why = dict(zip(table["row"], table["reason"], strict=True))
        self._saved = len(self._scores)
        self._scorer: Any = None

    def __call__(self, indices: Ints) -> Floats:
        """Return the fp32 scores [m] of some pool indices [m], nan where unscorable."""
        if not all(int(i) in self._scores for i in indices):
            seen = self._open_scorer()(self._rows.pool.take(indices))
            values = np.asarray(self._selector.score(seen), dtype=np.float64)
            reasons = self._selector.reasons(seen, values)
            self._scores |= dict(zip(indices.tolist(), values.tolist(), strict=True))
            self.why |= dict(zip(indices.tolist(), reasons.tolist(), strict=True))
        return np.array([self._scores[int(i)] for i in indices])

    def _open_scorer(self) -> Any:
        if self._scorer is None:
            from pilotfish.engine.in_memory import InMemoryScorer

            self._scorer = InMemoryScorer(
                weak_by_digest(self._rows.run, self._facts["weak"], precision="fp32"),
                self._selector.needs,
                max_length=self._facts["max_length"],
                token_budget=self.token_budget,
            )
        return self._scorer

    def save(self) -> None:
        """Commit the measured rows, if any is new."""
        if len(self._scores) == self._saved:
            return
        at = sorted(self._scores)
        columns = {
            "row": pa.array(at, pa.int64()),
            "score": pa.array([self._scores[i] for i in at], pa.float64()),
            "reason": pa.array([self.why[i] for i in at], pa.string()),
        }
        with self._rows.run.store.attempt(f"{self._name}.json") as attempt:
            pq.write_table(pa.table(columns), attempt.path(f"{self._name}.parquet"))
            attempt.meta = {"rows": len(at)}
