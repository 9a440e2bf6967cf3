"""Canary lift: how often a selection would keep planted rows, held against how often it keeps any.

Rows are planted beside the pool, never into it: they are measured as the pool was, and the pick is
made again with each of them added; no score, selection or model changes by a byte.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.budget import take
from pilotfish.data.run_pool import fingerprint, open_run, pool_of
from pilotfish.methods import Selector
from pilotfish.methods.longest import Longest
from pilotfish.methods.random import Random
from pilotfish.methods.rankers import Ranker, tie_rank
from pilotfish.progress import SILENT, Progress
from pilotfish.records import Floats, Ints, RowFeatures
from pilotfish.selection.canaries import replay as again
from pilotfish.selection.canaries.attacks import ATTACKS, BAIT, BENIGN, CONTROLS, UNCHANGED
from pilotfish.selection.canaries.measure import (
    Canaries,
    CanaryScorer,
    both,
    canaries_of,
    passed_cascade,
    pool_seen,
    some,
    unread,
    with_counts,
)
from pilotfish.selection.candidates import Candidates
from pilotfish.selection.constraints import Constraints
from pilotfish.selection.files import SelectionFacts
from pilotfish.selection.resolve import resolve_recorded
from pilotfish.selection.select import redo_selection
from pilotfish.selection.topk import GatheredScores, gathered
from pilotfish.store import Run, run_lock

ROWS = 20  # of each attack, where nobody says how many
# What of a selection's line in run.json decides the answer.
_MADE_BY = ("method", "direction", "ceiling", "seed", "score", "scores_sha", "pool", "budget",
            "rows_digest", "dedup", "quota")  # fmt: skip
_BOOKKEEPING = ("files", "made_from")


@dataclass(frozen=True, eq=False)
class _Case:
    """One selection, and rows to be held against it."""

    rows: Candidates
    pick: SelectionFacts
    selector: Selector
    ranker: Ranker
    plants: Canaries

    @property
    def column(self) -> str | None:
        """The score column, None where nothing was measured."""
        return self.pick.scored.column

    @property
    def spends_tokens(self) -> bool:
        """Whether its budget counts tokens."""
        return self.pick.budget.unit == "tokens"


def measure_canaries(
    root: str | Path, names: Sequence[str], rows: int = ROWS, *, progress: Progress = SILENT
) -> dict[str, dict[str, Any]]:
    """Measure the canary lift of some selections of a run, holding its lock.

    rows: of the pool that are drawn; each attack changes all of them. -> what the report says.
    """
    with run_lock(open_run(root).root) as store:
        return measure_canaries_in(Run(store.root), names, rows, progress=progress)


def measure_canaries_in(
    run: Run, names: Sequence[str], rows: int = ROWS, *, progress: Progress = SILENT
) -> dict[str, dict[str, Any]]:
    """`plant` for a caller that holds the lock; what stands and is of the same rows is reused."""
    plants, reader = canaries_of(pool_of(run), rows), CanaryScorer(run)
    return {name: _planted(run, name, plants, reader, progress) for name in names}


def sentences(found: Mapping[str, Any]) -> list[str]:
    """The lifts in words, or why there are none."""
    if "why" in found:
        return [f"planted rows were not measured: {found['why']}"]
    return [*(_lift_words(each) for each in found["attacks"]), *_drift_words(found["injection"])]


def _lift_words(each: Mapping[str, Any]) -> str:
    name = f"planted rows, {str(each['attack']).replace('_', ' ')}"
    if not each["of"]:
        return f"{name}: none could be made of these rows"
    return (
        f"{name}: {each['kept']} of {each['of']} would be kept, "
        f"lift {each['lift']:.2f} ({each['low']:.2f} to {each['high']:.2f})"
    )


def _drift_words(injection: Mapping[str, Any]) -> Iterator[str]:
    words = {
        "bait": "bait for judges changes a row's place in the order (+ is sooner) by",
        "benign": "ordinary text as long by",
        "excess": "the bait beyond that by",
    }
    for name, begin in words.items():
        each = injection[name]
        span = "" if each["low"] is None else f" ({each['low']:+.1%} to {each['high']:+.1%})"
        yield f"{begin} {each['mean']:+.1%} of the pool{span}"


def _planted(
    run: Run, name: str, plants: Canaries, reader: CanaryScorer, progress: Progress
) -> dict[str, Any]:
    facts, manifest = run.section("selections")[name], f"canaries/{name}.json"
    key = {"selection": {each: facts.get(each) for each in _MADE_BY},
           "planted": fingerprint(plants.rows)}  # fmt: skip
    found = run.store.manifest(manifest)
    if found is None or found["made_from"] != key:
        progress.note(f"measuring planted rows beside '{name}'")
        start = time.monotonic()
        found, lines = _measure(run, name, plants, reader)
        with run.store.attempt(manifest) as attempt:
            attempt.path(f"canaries/{name}.jsonl").write_text(
                "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines), encoding="utf-8"
            )
            attempt.meta = {**found, "made_from": key}
        run.cost("canaries", name, seconds=time.monotonic() - start, rows=len(plants.rows),
                 **reader.spent())  # fmt: skip
    return {key: value for key, value in found.items() if key not in _BOOKKEEPING}


def _measure(
    run: Run, name: str, plants: Canaries, reader: CanaryScorer
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What is said of a selection, and a line for every planted row."""
    facts = run.section("selections")[name]
    told = {"selection": name, "method": facts["method"], "share": facts["delivered"] / len(
        pool_of(run))}  # fmt: skip
    case = _case(run, facts, name, plants)
    if isinstance(case, str):
        return {**told, "why": case}, []
    scores, fate = _fate(case, reader)
    attacks = [
        {"attack": attack, "control": attack in CONTROLS,
         **_lift(fate.kept[plants.of(attack)], told["share"])}
        for attack in ATTACKS
    ]  # fmt: skip
    lines = [
        {"attack": attack, "row": int(at), "kept": bool(kept), "place": float(place),
         "score": float(score) if np.isfinite(score) else None}
        for attack, at, kept, place, score in zip(
            plants.attacks, plants.drawn, fate.kept, fate.place, scores, strict=True)
    ]  # fmt: skip
    together = case.selector.pool_relative
    injection = _injection(plants, fate.place)
    return {**told, "together": together, "attacks": attacks, "injection": injection}, lines


def _lift(kept: NDArray[np.bool_], share: float) -> dict[str, Any]:
    if not len(kept):
        return {"kept": 0, "of": 0, "lift": None, "low": None, "high": None}
    return again.lift(kept, share)


def _injection(plants: Canaries, place: Floats) -> dict[str, dict[str, float | None]]:
    """How far bait for a judge moves rows up, how far ordinary text does, and the difference."""
    places = {name: place[plants.of(name)] for name in (UNCHANGED, BAIT, BENIGN)}
    return {
        "bait": again.drift(places, UNCHANGED, BAIT),
        "benign": again.drift(places, UNCHANGED, BENIGN),
        "excess": again.drift(places, BENIGN, BAIT),
    }


def _case(run: Run, facts: Mapping[str, Any], name: str, plants: Canaries) -> "_Case | str":
    """The selection and how it picks, or why no row can be held against it."""
    if facts["method"] == "length_matched":
        return "it draws rows to match another selection and reads no score"
    if Constraints.again(dict(facts)):
        return "copies or quotas decide here beside the score, and were not tried again"
    selector: Selector
    if facts["of"] is None:
        selector = resolve_recorded(run, facts)[1]
    else:
        drawn = str(facts["method"]).startswith("random")
        selector = Random(int(facts["seed"] or 0)) if drawn else Longest()
    rows, pick = redo_selection(run, name)
    case = _Case(rows, pick, selector, selector.ranker(), plants)
    return case if _explained(case) else "more than scores and a budget decide who is kept here"


def _explained(case: _Case) -> bool:
    """Whether ranker and budget alone give this very selection, so that they can be tried again."""
    pool, budget = gathered(case.rows, case.pick.scored, case.ranker, None), case.pick.budget
    order = case.ranker.rank(pool.scores, pool.tie).order
    kept = take(order, budget, len(case.rows), tokens=pool.tokens, allow_short=True)
    return np.array_equal(pool.place[kept], case.pick.choice.kept)


def _fate(case: _Case, reader: CanaryScorer) -> tuple[Floats, again.Fate]:
    """[m] scores of the planted rows, and what becomes of each."""
    seen = _seen(case, reader)
    pool = gathered(case.rows, case.pick.scored, case.ranker, None)
    if case.selector.pool_relative:
        return _all_of_each(case, pool, seen)
    scores = np.asarray(case.selector.score(seen), dtype=np.float64)
    if case.column is not None:
        shown = passed_cascade(reader, case.plants.rows, case.column, case.selector)
        scores = np.where(shown, scores, np.nan)
    field = _field(case, pool, np.concatenate([pool.scores, scores]), seen)
    return scores, again.alone(field, case.ranker, case.pick.budget)


def _all_of_each(case: _Case, pool: GatheredScores, seen: RowFeatures) -> tuple[Floats, again.Fate]:
    """Where a score depends on the other rows: the rows of an attack join the pool at once."""
    n, m = len(case.rows), len(case.plants.rows)
    own = pool_seen(case.rows, case.column, case.selector)
    scores, kept, place = np.full(m, np.nan), np.zeros(m, dtype=bool), np.ones(m)
    for attack in ATTACKS:
        at = case.plants.of(attack)
        if not len(at):
            continue
        found = np.asarray(case.selector.score(both(own, some(seen, at))), dtype=np.float64)
        whole = np.concatenate([found[:n], np.full(m, np.nan)])
        whole[n + at] = scores[at] = found[n:]
        fate = again.together(
            _field(case, pool, whole, seen).only(at.tolist()), case.ranker, case.pick.budget
        )
        kept[at], place[at] = fate.kept, fate.place
    return scores, again.Fate(kept, place)


def _field(case: _Case, pool: GatheredScores, scores: Floats, seen: RowFeatures) -> again.Field:
    """The pool and all planted rows, [n + m]."""
    rows = case.plants.rows
    digests = np.frombuffer(bytes.fromhex("".join(row.digest for row in rows)), dtype="S16")
    ids = [*pool.ids.to_pylist(), *(row.id for row in rows)]
    tie = tie_rank(np.concatenate([pool.digests, digests]), ids)
    tokens = None
    if case.spends_tokens and pool.tokens is not None:
        tokens = np.concatenate([pool.tokens, seen.n_prompt_tokens + seen.n_response_tokens])
    return again.Field(scores, tie, tokens, len(case.rows))


def _seen(case: _Case, reader: CanaryScorer) -> RowFeatures:
    """What the method reads of the planted rows, and their tokens where anything asks."""
    rows, column = case.plants.rows, case.column
    counts = None
    if column is None:
        seen = unread(rows)
    else:
        # fast scores were put right in fp32 wherever it decides: so are these
        audited = "audit" in case.pick.facts
        precision = "fp32" if audited else reader.run.section("scores")[column]["precision"]
        seen = reader.seen(rows, column, case.selector, precision)
    if case.selector.reads_counts or case.spends_tokens:
        counts = _counts(case, reader)
    return with_counts(seen, counts)


def _counts(case: _Case, reader: CanaryScorer) -> tuple[Ints, Ints] | None:
    """Tokens of the planted rows; None where the pool's were never counted."""
    parts = case.rows.counts()
    if parts is None:
        return None
    prompt, response = (np.concatenate(each) for each in zip(*parts, strict=True))
    own = case.plants.drawn[case.plants.of(UNCHANGED)]  # they come first
    return reader.counts(case.plants.rows, len(own), (prompt[own], response[own]))
