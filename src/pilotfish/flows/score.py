"""score: measure what the methods need, once, and write one column per method."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pilotfish.config import Method, TuneConfig
from pilotfish.errors import UsageError
from pilotfish.flows.columns import Column, View, write_columns
from pilotfish.flows.costs import known, reading_flops
from pilotfish.flows.extras import need_torch
from pilotfish.flows.held_out import known_test
from pilotfish.flows.progress import SILENT, Progress
from pilotfish.flows.reading import (
    Source,
    is_run,
    open_pool,
    pool_of,
    read_beside,
    reread,
)
from pilotfish.flows.weak import weak_model
from pilotfish.pool import Pool, overlap_keys
from pilotfish.records import Need
from pilotfish.selectors import Selector, make
from pilotfish.store import Run, run_lock

if TYPE_CHECKING:
    from pilotfish.models import Loaded

MAX_LENGTH = 1024  # tokens of a row the weak model sees where nobody says otherwise


@dataclass(frozen=True)
class Measuring:
    """How the weak model looks at rows."""

    max_length: int | None = None
    precision: str = "auto"
    seed: int = 0  # which weak model of the run
    stream: int | None = None  # what tuning and drawing methods draw with; None: the seed
    token_budget: int | None = None
    tune: TuneConfig | None = None
    trusted: str | None = None  # where the rows the weak model was tuned on came from

    @property
    def drawn_with(self) -> int:
        """The number behind every draw."""
        return self.seed if self.stream is None else self.stream


def score(
    out: str,
    source: Source,
    weak: str,
    methods: Sequence[Method],
    *,
    names: Sequence[str] = (),
    trusted: str | None = None,
    direction: str | None = None,
    measuring: Measuring | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Run:
    """Read DATA (or reuse RUN's pool), measure with the weak model, add score columns to RUN."""
    need_torch("scoring")
    how = replace(measuring or Measuring(), trusted=trusted)
    columns = name_columns(methods, names)
    for method in methods:
        make(method, direction)  # what is spelt wrong is said before anything is spent
    with run_lock(out) as store:
        # after the lock: a second planner is turned away before torch is loaded
        from pilotfish.models import settle_threads

        run = Run(store.root)
        again, source = is_run(source.data), reread(run, source)
        asked = overlap_keys(known_test(run))
        kept_out = asked if run.section("data").get("exclude") else frozenset()
        pool = (
            pool_of(run)
            if again
            else open_pool(run, source, exclude=kept_out, force=force, progress=progress)
        )
        vouched = read_beside(source, trusted, exclude=asked).examples if trusted else []
        loaded = weak_model(
            run, weak, trusted=vouched, seed=how.seed, stream=how.stream, config=how.tune,
            precision=how.precision, force=force, progress=progress,
        )  # fmt: skip
        settle_threads(loaded.parameters)
        add_scores(
            run, pool, loaded, columns, how=how, direction=direction, force=force, progress=progress
        )
        run.update(status="scored")
    return run


def name_columns(methods: Sequence[Method], names: Sequence[str]) -> dict[str, Method]:
    """Column name -> method: `--as` names in order, else each method's text."""
    if names and len(names) != len(methods):
        raise UsageError(f"--as gives {len(names)} names for {len(methods)} methods")
    columns = dict(zip(names or [method.text for method in methods], methods, strict=True))
    if len(columns) != len(methods):
        raise UsageError("two methods would share one column name", hint="name them with --as")
    return columns


def add_scores(
    run: Run,
    pool: Pool,
    weak: "Loaded",
    columns: Mapping[str, Method],
    *,
    how: Measuring,
    direction: str | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> None:
    """Measure the union of needs and write every column of `columns` (scores.parquet)."""
    from pilotfish.encode import clamp_max_length
    from pilotfish.engine import load_seen, seen_of

    selectors = {name: make(method, direction) for name, method in columns.items()}
    max_length = clamp_max_length(how.max_length or MAX_LENGTH, weak.window)
    facts: dict[str, dict[str, Any]] = {
        name: {
            "method": columns[name].text,
            "direction": selector.direction,
            "weak": weak.digest,
            "max_length": max_length,
            "seed": how.drawn_with,
        }
        for name, selector in selectors.items()
    }
    _refuse_reuse(run, facts, force=force)
    needs, start = _needs(selectors.values()), time.monotonic()
    keys, passes = _measure(run, pool, weak, needs, max_length=max_length, how=how, say=progress)
    for name, selector in selectors.items():
        facts[name]["keys"] = {need.name: keys[need] for need in selector.needs}
    _refuse_reuse(run, facts, force=force)
    view = View(
        shard=lambda shard: seen_of(pool, keys, run.store, needs[0], shard),
        whole=lambda: load_seen(pool, keys, run.store, needs[0]),
    )
    fresh = [Column(name, selectors[name], facts[name]) for name in columns]
    lengths = write_columns(run, pool, fresh, view)
    _note_weak(run, weak, max_length, how)
    flops = reading_flops(weak, lengths)
    run.cost(
        "score", ",".join(columns), seconds=time.monotonic() - start, rows=len(pool),
        tokens=passes * float(lengths.sum()),
        **known(flops=None if flops is None else passes * flops),
    )  # fmt: skip


def _needs(selectors: Iterable[Selector]) -> list[Need]:
    """All that is to be measured, each once; token counts alone where that is nothing."""
    from pilotfish.engine import LENGTHS

    return list(dict.fromkeys(need for each in selectors for need in each.needs)) or [LENGTHS]


def _measure(
    run: Run,
    pool: Pool,
    weak: "Loaded",
    needs: Sequence[Need],
    *,
    max_length: int,
    how: Measuring,
    say: Progress,
) -> tuple[dict[Need, str], float]:
    """Measure every need: its key, and how many times the model read the whole pool for all.

    Only what was read now is paid for now: reused shards left their cost in earlier events.
    """
    from pilotfish.engine import LENGTHS, Receipt, measure

    receipts: list[Receipt] = []
    keys = measure(
        pool, needs, weak, max_length=max_length, store=run.store, token_budget=how.token_budget,
        on_progress=lambda done, total: say.step("measure", done, total),
        on_receipt=receipts.append,
    )  # fmt: skip
    read = {key for need, key in keys.items() if need != LENGTHS}
    rows = sum(part.rows * len(read & {*part.measured}) for part in receipts)
    return keys, rows / max(len(pool), 1)


def _note_weak(run: Run, weak: "Loaded", max_length: int, how: Measuring) -> None:
    """The weak model in run.json: that of seed 0, whatever others score after it."""
    from pilotfish.engine import default_budget

    if how.seed == 0 or not run.section("weak"):
        run.update(
            weak={
                "name": weak.name,
                "digest": weak.digest,
                "tokenizer_digest": weak.tokenizer_digest,
                "parameters": weak.parameters,
                "trusted": how.trusted,
                "window": weak.window,
                "max_length": max_length,
                "token_budget": how.token_budget or default_budget(weak.device),
                "precision": str(weak.dtype).removeprefix("torch."),
            }
        )


def _refuse_reuse(run: Run, facts: Mapping[str, Mapping[str, Any]], *, force: bool) -> None:
    """UsageError, naming what changed, where a column would be made from something else."""
    for name, old in run.section("scores").items():
        new = facts.get(name, {})
        changed = sorted(_WORDS.get(key, key) for key in new if old.get(key) != new[key])
        if changed and not force:
            raise UsageError(
                f"the run already has a score '{name}' made with another {', '.join(changed)}",
                hint="name the new one with --as, or pass --force to replace it",
            )


_WORDS = {"weak": "weak model", "keys": "way of measuring (pool, precision, device or version)"}
