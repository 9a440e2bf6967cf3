"""The weak model of a run: loaded or fine-tuned on trusted rows, in the number format that scores.

A fast format is always checked: a sample of the pool is scored in it and in fp32 first, and
run.json keeps the agreement (`precision`) for the report. `auto` takes int8 only where that check
passes and the cut of the selection can be audited.
"""

import heapq
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotfish.config import WeakTrainConfig
from pilotfish.config.scoring import DEFAULT_MAX_LENGTH, ScoreConfig
from pilotfish.data import Pool
from pilotfish.data.run_pool import fingerprint, warn
from pilotfish.errors import UsageError, need_torch
from pilotfish.flops import training_cost
from pilotfish.methods import Selector
from pilotfish.methods.rankers import Ranker, tie_rank
from pilotfish.records import Example
from pilotfish.run_context import RunContext
from pilotfish.scoring.audit import Agreement, agreement, good_enough, plain_facts, refusal, sample
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.models import Loaded

SAMPLE = 200  # rows scored in both formats
_DRAWN = 4  # times as many are drawn first, so that all lengths are in the sample
# Below either, scoring ends before the check has paid for itself.
WORTH_ROWS, WORTH_PARAMETERS = 2_000, 20_000_000


def weak_folder(seed: int) -> str:
    """Return the folder of a tuned weak model: `weak` for seed 0, `weak/seed-<n>` for others."""
    return "weak" if seed == 0 else f"weak/seed-{seed}"


def weak_model(
    ctx: RunContext, config: ScoreConfig, trusted_rows: Sequence[Example] = ()
) -> "Loaded":
    """Load the model that measures, fine-tuned on the trusted rows if there are any.

    The digest of a tuned model is that of the tuned weights.

    Args:
        ctx: The run. With `force` a model that was tuned with other settings is tuned again.
        config: Names the model, its precision, and the seed and settings of the tuning.
        trusted_rows: Rows to fine-tune on; empty: load the model as it is.

    Raises:
        UsageError: The run's weak model was tuned with other settings, which are named. Replacing
            it would take from existing scores the model they were made with.
    """
    need_torch("scoring")
    from pilotfish.models import identify, load

    run = ctx.run
    if not trusted_rows:
        return load(config.weak, precision=config.precision)
    tune_config, folder = config.weak_train or WeakTrainConfig(), weak_folder(config.seed)
    seed = config.seed if config.stream is None else config.stream
    made_from = {
        "model": identify(config.weak),
        "trusted": fingerprint(trusted_rows),
        "seed": seed,
        "config": tune_config.model_dump(mode="json"),
    }
    found = run.store.manifest(f"{folder}/manifest.json")
    old = {} if found is None else found.get("made_from", {})
    changed = sorted(key for key in {*old, *made_from} if old.get(key) != made_from.get(key))
    if found is not None and changed and not ctx.force:
        raise UsageError(
            f"{run.root / folder} was tuned with another {', '.join(changed)}",
            hint="choose another --out, or pass --force to tune it again and redo its measurements",
        )
    if found is None or changed:
        need_torch("tuning the weak model", extra="train")
        from pilotfish.training.tune import tune

        ctx.progress.note(
            f"tuning the weak model on {len(trusted_rows):,} trusted rows (seed {seed})"
        )
        start = time.monotonic()
        with run.store.attempt(f"{folder}/manifest.json") as attempt:
            temp = attempt.folder(folder)
            tuned = tune(trusted_rows, config.weak, seed=seed, folder=temp, config=tune_config)
            attempt.meta = {"made_from": made_from, **tuned}
        facts = {"seconds": time.monotonic() - start, "rows": len(trusted_rows)}
        run.cost("tune", f"weak seed {seed}", **facts, **training_cost(tuned))
    return replace(load(str(run.root / folder), precision=config.precision), name=config.weak)


def weak_of_run(run: Run, seed: int) -> "Loaded":
    """Load the weak model that a run was scored with, in bf16 or fp32.

    Args:
        run: A scored run.
        seed: Which of its tuned models; the one of seed 0 where this seed has none.

    Raises:
        UsageError: The run has not been scored.
    """
    need_torch("reading with the weak model")
    from pilotfish.models import load

    facts = run.section("weak")
    if not facts:
        raise UsageError(
            f"{run.root} was not scored by a weak model yet",
            hint=f"pilotfish score {run.root} --weak MODEL --method METHOD, or name it with --weak",
        )
    # answering and reading row by row gains nothing from int8
    precision = "bf16" if facts["precision"] == "bf16" else "fp32"
    if not facts.get("trusted"):
        return load(facts["name"], precision=precision)
    folders = [weak_folder(each) for each in (seed, 0)]
    tuned = [each for each in folders if run.store.read_json(f"{each}/manifest.json") is not None]
    run.store.require(f"{[*tuned, 'weak'][0]}/manifest.json")
    return replace(load(str(run.root / tuned[0]), precision=precision), name=facts["name"])


def weak_by_digest(run: Run, digest: str, *, precision: str) -> "Loaded":
    """Load the model with a digest that scored a run, in any precision.

    Args:
        run: A scored run.
        digest: Of the model, as the facts of a score column name it.
        precision: The number format to load it in.

    Raises:
        UsageError: The model was deleted, or changed since.
    """
    need_torch("re-measuring")
    from pilotfish.models import identify, load

    tuned = sorted(run.store.path("weak").glob("**/config.json"))
    named = [run.section(section).get("name", "") for section in ("weak", "cheap")]
    for path in [*(str(each.parent) for each in tuned), *named]:
        with suppress(UsageError):
            if path and identify(path) == digest:
                return load(path, precision=precision)
    raise UsageError(
        f"the weak model that {run.root} was scored with is not there any more, or has changed",
        hint="put it back where it was, or score again with --precision fp32",
    )


def choose_precision(
    ctx: RunContext,
    pool: Pool,
    weak: "Loaded",
    selectors: Mapping[str, Selector],
    config: ScoreConfig,
) -> "Loaded":
    """Return the weak model in the format that scores the pool.

    run.json (`precision`) keeps the format, why it was chosen, and how well each column agrees with
    fp32 on a sample. A run keeps the format that it has chosen once.

    Args:
        ctx: The run.
        pool: The rows.
        weak: The model as it was loaded.
        selectors: The method of each column.
        config: Its precision is the one requested; its token budget is fixed.
    """
    from pilotfish.models import load

    requested, run = config.precision, ctx.run
    known = run.section("precision")
    made_from = {"asked": requested, "weak": weak.digest, "pool": pool.fingerprint}
    same = {key: known.get(key) for key in made_from} == made_from
    if same and {*selectors} <= {*known["columns"]}:
        return _in_format(weak, known["used"])

    fast: Loaded | None = None
    exact = weak
    if not any(selector.needs for selector in selectors.values()):
        why = "nothing is measured"
    elif weak.precision == "int8":
        fast, exact, why = weak, _in_format(weak, "fp32"), "it was requested"
    elif weak.precision != "fp32":
        fast, exact = weak, load(weak.path, device=str(weak.device), precision="fp32")
        why = f"it is the {'choice' if requested != 'auto' else 'default'} here"
    elif not (why := why_not_int8(weak, requested, len(pool), list(selectors.values()))):
        fast, why = _in_format(weak, "int8"), "int8 is faster on this CPU"

    found: dict[str, Agreement] = {}
    used = weak if fast is None else fast
    if fast is not None:
        ctx.progress.note(f"comparing {fast.precision} with fp32 on a sample")
        found = _compare(pool, fast, exact, selectors, config)
        if not all(good_enough(each) for each in found.values()):
            why = f"it does not agree with fp32 closely enough, though {why}"
            if requested == "auto" and fast.device.type == "cpu":
                used = weak
            else:
                measured = "; ".join(
                    f"{name}: rank correlation {each.spearman:.4f}, "
                    f"best tenth shared {each.overlap:.0%}"
                    for name, each in found.items()
                )
                warn(run, [f"{fast.precision} scores differ from fp32: {measured}"])
    columns = {**(known.get("columns", {}) if known.get("weak") == weak.digest else {})}
    columns |= {name: plain_facts(found[name]) if name in found else None for name in selectors}
    facts = {"used": used.precision, "why": why, "sample": SAMPLE}
    facts |= {"token_budget": config.token_budget, "columns": columns}
    run.update(precision={**made_from, **facts})
    return used


def why_not_int8(weak: "Loaded", requested: str, rows: int, selectors: Sequence[Selector]) -> str:
    """Return why a model that computes in fp32 does not score in int8; "" if int8 may be tried.

    Args:
        weak: The model.
        requested: The precision that was requested.
        rows: Rows of the pool.
        selectors: The methods that score it.
    """
    from pilotfish.number_formats import int8_supported

    if requested != "auto" or weak.device.type != "cpu":
        return "it was requested" if requested != "auto" else "it is the default here"
    if weak.parameters < WORTH_PARAMETERS or rows < WORTH_ROWS:
        return "the model or the pool is too small for int8 to pay"
    if not int8_supported():
        return "this CPU has no int8 dot products"
    if any(each.direction is not None and unaudited(each, each.ranker()) for each in selectors):
        return "a method has no cut that could be audited"
    return ""


def fast_format(weak: "Loaded", requested: str, rows: int, selectors: Sequence[Selector]) -> str:
    """Return the fast format that scores the rows if it agrees with fp32; "" for fp32 itself.

    Args:
        weak: The model as it was loaded.
        requested: The precision that was requested.
        rows: Rows of the pool.
        selectors: The methods that score it.
    """
    if not any(each.needs for each in selectors):
        return ""
    if weak.precision != "fp32":
        return weak.precision
    return "" if why_not_int8(weak, requested, rows, selectors) else "int8"


def unaudited(selector: Selector, ranker: Ranker) -> str:
    """Return why re-measuring some rows cannot correct a selection, as a sentence; "" if it can."""
    if selector.pool_relative:
        return (
            "it may score a row by the others too, which a few rows cannot show "
            "(a method that does not sets pool_relative = False)"
        )
    return refusal(ranker)


def precision_of(run: Run, column: str) -> str:
    """Return the number format that a score column was measured in."""
    facts: dict[str, Any] = run.section("scores").get(column, {})
    return str(facts.get("precision", "fp32"))


def _in_format(weak: "Loaded", precision: str) -> "Loaded":
    """Return the same weights in another format: int8 and fp32 are loaded alike."""
    return weak if weak.precision == precision else replace(weak, precision=precision)


def _compare(
    pool: Pool,
    fast: "Loaded",
    exact: "Loaded",
    selectors: Mapping[str, Selector],
    config: ScoreConfig,
) -> dict[str, Agreement]:
    """Return how each column's fast scores agree with fp32 on the sample."""
    from pilotfish.engine.in_memory import InMemoryScorer

    assert config.token_budget is not None
    rows = sample_rows(pool)
    tie = tie_rank([row.digest for row in rows], [row.id for row in rows])
    needs = list(dict.fromkeys(need for each in selectors.values() for need in each.needs))
    limits = {
        "max_length": config.max_length or DEFAULT_MAX_LENGTH,
        "token_budget": config.token_budget,
    }
    features = [InMemoryScorer(loaded, needs, **limits)(rows) for loaded in (fast, exact)]
    found = {}
    for name, selector in selectors.items():
        if selector.needs:
            a, b = (np.asarray(selector.score(each), dtype=np.float64) for each in features)
            low = selector.direction == "low"
            found[name] = agreement(a, b, tie, direction="low" if low else "high")
    return found


def sample_rows(pool: Pool) -> list[Example]:
    """Return SAMPLE rows of all lengths, the same ones whatever the order of the pool."""
    digests = (
        (digest, start + position)
        for shard, (start, _) in enumerate(pool.ranges)
        for position, digest in enumerate(pool.table(shard, "digest")["digest"].to_pylist())
    )
    drawn = heapq.nsmallest(_DRAWN * SAMPLE, digests)
    rows = pool.take([position for _, position in drawn])
    lengths = np.array([len(row.response) for row in rows], dtype=np.int64)
    chosen = sample(lengths, np.arange(len(rows)), SAMPLE, seed=0)
    return [rows[i] for i in chosen]
