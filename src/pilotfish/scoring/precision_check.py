"""Which number format the weak model scores in, and how far it agrees with fp32: measured here.

A fast format never goes unchecked: a sample of the pool is scored in it and in fp32 before the
rest, and what was found is kept in run.json (`precision`) for the report. `auto` takes int8 only
where that check passes and the cut can be audited.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotfish.data import Pool
from pilotfish.data.run_pool import warn
from pilotfish.methods import Selector
from pilotfish.methods.rankers import Ranker, tie_rank
from pilotfish.progress import Progress
from pilotfish.records import Example
from pilotfish.scoring.audit import Agreement, agreement, good_enough, plain_facts, refusal, sample
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.models import Loaded

SAMPLE = 200  # rows scored in both formats
_DRAWN = 4  # times as many are drawn, so that all lengths are in the sample
# Below either, a run is over before the check has paid for itself.
WORTH_ROWS, WORTH_PARAMETERS = 2_000, 20_000_000


@dataclass(frozen=True)
class Formats:
    """A model in a fast format, and in fp32."""

    fast: "Loaded"
    exact: "Loaded"


def choose_precision(
    run: Run,
    pool: Pool,
    weak: "Loaded",
    selectors: Mapping[str, Selector],
    *,
    asked: str,
    max_length: int,
    token_budget: int,
    progress: Progress,
) -> "Loaded":
    """The weak model in the format that scores the pool; run.json says which, why and how well."""
    known = run.section("precision")
    made_from = {"asked": asked, "weak": weak.digest, "pool": pool.fingerprint}
    if {key: known.get(key) for key in made_from} == made_from and {*selectors} <= {
        *known["columns"]
    }:
        return _as(weak, known["used"])
    formats, why = _formats(weak, asked, pool, selectors)
    found: dict[str, Agreement] = {}
    if formats is not None:
        progress.note(f"comparing {formats.fast.precision} with fp32 on a sample")
        found = _compare(pool, formats, selectors, max_length, token_budget)
        fit = all(good_enough(each) for each in found.values())
        why = why if fit else f"it does not agree with fp32 closely enough, though {why}"
        if not fit and asked == "auto" and formats.fast.device.type == "cpu":
            formats = None
        elif not fit:
            warn(run, [f"{formats.fast.precision} scores differ from fp32: {_told(found)}"])
    used = formats.fast if formats is not None else weak
    columns = {**(known.get("columns", {}) if known.get("weak") == weak.digest else {})}
    columns |= {name: plain_facts(found[name]) if name in found else None for name in selectors}
    run.update(
        precision={**made_from, "used": used.precision, "why": why, "sample": SAMPLE,
                   "token_budget": token_budget, "columns": columns}
    )  # fmt: skip
    return used


def _formats(
    weak: "Loaded", asked: str, pool: Pool, selectors: Mapping[str, Selector]
) -> tuple[Formats | None, str]:
    """The fast format in question beside fp32, None where there is none; and why."""
    from pilotfish.models import load

    if not any(selector.needs for selector in selectors.values()):
        return None, "nothing is measured"
    if weak.precision == "int8":
        return Formats(weak, _as(weak, "fp32")), "it was asked for"
    if weak.precision != "fp32":
        exact = load(weak.path, device=str(weak.device), precision="fp32")
        return Formats(weak, exact), f"it is the {'choice' if asked != 'auto' else 'default'} here"
    if why := why_not_int8(weak, asked, len(pool), list(selectors.values())):
        return None, why
    return Formats(_as(weak, "int8"), weak), "int8 is faster on this CPU"


def why_not_int8(weak: "Loaded", asked: str, rows: int, selectors: Sequence[Selector]) -> str:
    """Why a model that computes in fp32 does not score a pool of `rows` rows in int8; "" if so."""
    from pilotfish.number_formats import int8_supported

    if asked != "auto" or weak.device.type != "cpu":
        return "it was asked for" if asked != "auto" else "it is the default here"
    if weak.parameters < WORTH_PARAMETERS or rows < WORTH_ROWS:
        return "the model or the pool is too small for int8 to pay"
    if not int8_supported():
        return "this CPU has no int8 dot products"
    if any(_uncut(each) for each in selectors):
        return "a method has no cut that could be audited"
    return ""


def fast_format(weak: "Loaded", asked: str, rows: int, selectors: Sequence[Selector]) -> str:
    """The format that is going to score `rows` rows if it agrees with fp32; "" for fp32 itself."""
    if not any(each.needs for each in selectors):
        return ""
    if weak.precision != "fp32":
        return weak.precision
    return "" if why_not_int8(weak, asked, rows, selectors) else "int8"


def _uncut(selector: Selector) -> bool:
    """Whether nothing could put a wrong pick right afterwards."""
    return selector.direction is not None and unaudited(selector, selector.ranker()) != ""


def unaudited(selector: Selector, ranker: Ranker) -> str:
    """Why some rows measured again could not put a pick right, as a sentence; "" if they could."""
    if selector.pool_relative:
        return (
            "it may score a row by the others too, and no few rows tell what those say "
            "(a method that does not says pool_relative = False)"
        )
    return refusal(ranker)


def _as(weak: "Loaded", precision: str) -> "Loaded":
    """The same weights in another word: int8 and fp32 start from the same."""
    return weak if weak.precision == precision else replace(weak, precision=precision)


def _compare(
    pool: Pool,
    formats: Formats,
    selectors: Mapping[str, Selector],
    max_length: int,
    token_budget: int,
) -> dict[str, Agreement]:
    """How each column agrees on the sample."""
    from pilotfish.engine.in_memory import InMemoryScorer

    rows = _sample(pool)
    tie = tie_rank([row.digest for row in rows], [row.id for row in rows])
    needs = list(dict.fromkeys(need for each in selectors.values() for need in each.needs))
    seen = [
        InMemoryScorer(loaded, needs, max_length=max_length, token_budget=token_budget)(rows)
        for loaded in (formats.fast, formats.exact)
    ]
    found = {}
    for name, selector in selectors.items():
        if selector.needs:
            fast, exact = (np.asarray(selector.score(each), dtype=np.float64) for each in seen)
            low = selector.direction == "low"
            found[name] = agreement(fast, exact, tie, direction="low" if low else "high")
    return found


def _sample(pool: Pool) -> list[Example]:
    """Rows of all lengths, the same ones whatever the order of the pool."""
    digests = (
        (digest, start + place)
        for shard, (start, _) in enumerate(pool.ranges)
        for place, digest in enumerate(pool.table(shard, "digest")["digest"].to_pylist())
    )
    drawn = heapq.nsmallest(_DRAWN * SAMPLE, digests)
    rows = pool.take([place for _, place in drawn])
    lengths = np.array([len(row.response) for row in rows], dtype=np.int64)
    chosen = sample(lengths, np.arange(len(rows)), SAMPLE, seed=0)
    return [rows[i] for i in chosen]


def _told(found: Mapping[str, Agreement]) -> str:
    return "; ".join(
        f"{name}: rank correlation {each.spearman:.4f}, best tenth shared {each.overlap:.0%}"
        for name, each in found.items()
    )


def precision_of(run: Run, column: str) -> str:
    """The format a score column was measured in."""
    facts: dict[str, Any] = run.section("scores").get(column, {})
    return str(facts.get("precision", "fp32"))
