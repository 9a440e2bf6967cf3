"""Prepare scoring: load the pool and weak model, fix the columns, the precision and the batches."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotfish import remote_code
from pilotfish.config import parse_method
from pilotfish.config.data import Source
from pilotfish.config.scoring import DEFAULT_MAX_LENGTH, ScoreConfig
from pilotfish.data import Pool, overlap_keys
from pilotfish.data.held_out import stored_test_rows
from pilotfish.data.run_pool import is_run, open_pool, pool_of, read_extra_rows, recorded_source
from pilotfish.errors import UsageError
from pilotfish.methods import Selector, make
from pilotfish.records import Need
from pilotfish.run_context import RunContext
from pilotfish.scoring.cascade_rows import CASCADE
from pilotfish.scoring.weak_model import choose_precision, weak_folder, weak_model

if TYPE_CHECKING:
    from pilotfish.engine.executors.worker import ScoreSpec, WorkerInfo
    from pilotfish.models import Loaded

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class ScorePlan:
    """The columns that a scoring writes, and the model behind them. Plain values, as JSON holds."""

    columns: Mapping[str, Facts]  # column name -> the facts that run.json keeps of it
    direction: str | None  # requested for every method; None: each method's own
    weak: Facts  # the facts that run.json keeps of the model
    seed: int  # which of the run's weak models it is
    section: str = "weak"  # of run.json, for the model's facts
    keys: Mapping[str, str] = field(default_factory=dict)  # need's name -> key, from a worker

    @cached_property
    def selectors(self) -> dict[str, Selector]:
        """The method of each column."""
        return {
            name: make(parse_method(facts["method"]), self.direction)
            for name, facts in self.columns.items()
        }

    @cached_property
    def needs(self) -> tuple[Need, ...]:
        """Everything to measure, each need once."""
        return needs_of(self.selectors.values())

    def with_worker(self, info: "WorkerInfo") -> "ScorePlan":
        """Return the plan with the facts that only a worker knows: keys, device and batches."""
        keys = {need.name: key for need, key in info.keys.items()}
        columns = {
            name: {
                **facts,
                "precision": info.precision,
                "keys": {need.name: keys[need.name] for need in self.selectors[name].needs},
            }
            for name, facts in self.columns.items()
        }
        measured_with = {
            "device": info.device,
            "precision": info.precision,
            "token_budget": info.token_budget,
            "threads": info.threads,
        }
        return replace(self, columns=columns, weak={**self.weak, **measured_with}, keys=keys)

    def to_json(self) -> dict[str, Any]:
        """Return the plan for other ranks; columns are a list, because they have an order."""
        return {**asdict(self), "columns": list(self.columns.items())}

    @classmethod
    def from_json(cls, facts: Facts) -> "ScorePlan":
        """Read a plan that `to_json` has written."""
        known = {name: facts[name] for name in cls.__dataclass_fields__}
        return cls(**{**known, "columns": dict(facts["columns"])})


@dataclass(frozen=True, eq=False)
class ScoreSetup:
    """One scoring, with everything that is fixed before its first shard is measured."""

    ctx: RunContext
    pool: Pool
    weak: "Loaded"  # in the format that measures
    plan: ScorePlan
    spec: "ScoreSpec"  # what each worker is sent


def open_inputs(ctx: RunContext, source: Source, config: ScoreConfig) -> tuple[Pool, "Loaded"]:
    """Open the run's pool and weak model: read and tuned now, or reused.

    Raises:
        UsageError: The run was made with other data, or its model tuned with other settings.
    """
    from pilotfish.models import set_threads

    run = ctx.run
    reused, source = is_run(source.data), recorded_source(run, source)
    test_keys = overlap_keys(stored_test_rows(run))
    if reused:
        pool = pool_of(run)
    else:
        exclude = test_keys if run.section("data").get("exclude") else frozenset[str]()
        pool = open_pool(run, source, exclude=exclude, force=ctx.force, progress=ctx.progress)
    trusted_rows = (
        read_extra_rows(source, config.trusted, exclude=test_keys).examples
        if config.trusted
        else []
    )
    weak = weak_model(ctx, config, trusted_rows)
    set_threads(weak.parameters)
    return pool, weak


def prepare_scoring(
    ctx: RunContext, pool: Pool, weak: "Loaded", config: ScoreConfig, processes: int = 1
) -> ScoreSetup:
    """Fix the columns, the model, its precision and its batches, before anything is measured.

    Bits depend on the token budget and, on a CPU, on the threads of a forward pass. The first score
    of a run fixes both; later scores of the run keep them, on any machine. A model of another
    section than `weak` keeps the format it was loaded in: it only chooses which rows to read, so
    nothing depends on its last digits.

    Args:
        ctx: The run.
        pool: The rows.
        weak: The model as it was loaded.
        config: What is scored.
        processes: How many processes share the cores of this machine.

    Raises:
        UsageError: A column of this name was made with other settings, which are named.
    """
    import torch

    from pilotfish.engine.batches import find_budget
    from pilotfish.engine.executors.worker import ScoreSpec
    from pilotfish.tokenization import clamp_max_length

    run, main = ctx.run, config.section == "weak"
    max_length = clamp_max_length(config.max_length or DEFAULT_MAX_LENGTH, weak.window)
    plan = _plan_columns(weak, replace(config, max_length=max_length))
    check_columns(ctx, plan.columns)

    kept = run.section(config.section) or (run.section("batches") if main else {})
    machine = {"parameters": weak.parameters, "device": weak.device.type}
    fixed = kept if all(kept.get(key) == value for key, value in machine.items()) else {}
    token_budget = config.token_budget or fixed.get("token_budget") or find_budget(weak)
    threads = fixed.get("threads") or max(1, torch.get_num_threads() // processes)
    config = replace(config, max_length=max_length, token_budget=token_budget)
    if main:
        # written at once: an interrupted score is resumed with the same batches
        run.update(batches={**machine, "token_budget": token_budget, "threads": threads})
        weak = choose_precision(ctx, pool, weak, plan.selectors, config)
    spec = ScoreSpec(
        root=str(run.root.resolve()),
        model=model_path(ctx, config),
        digest=plan.weak["digest"],
        needs=plan.needs,
        max_length=max_length,
        precision=weak.precision,
        token_budget=token_budget,
        threads=threads,
        trust_remote_code=remote_code.allowed(),
    )
    return ScoreSetup(ctx, pool, weak, plan, spec)


def _plan_columns(weak: "Loaded", config: ScoreConfig) -> ScorePlan:
    """Return the plan of a scoring whose settings are resolved."""
    columns = {
        name: {
            "method": method.text,
            "direction": make(method, config.direction).direction,
            "weak": weak.digest,
            "max_length": config.max_length,
            "seed": config.seed if config.stream is None else config.stream,
            **({} if config.cascade is None else {CASCADE: config.cascade}),
        }
        for name, method in config.columns().items()
    }
    facts = {
        "name": weak.name,
        "digest": weak.digest,
        "tokenizer_digest": weak.tokenizer_digest,
        "parameters": weak.parameters,
        "trusted": config.trusted,
        "window": weak.window,
        "max_length": config.max_length,
        **weak.origin,
    }
    return ScorePlan(columns, config.direction, facts, config.seed, config.section)


def needs_of(selectors: Iterable[Selector]) -> tuple[Need, ...]:
    """Return the union of the selectors' needs in order; token counts alone if there are none."""
    from pilotfish.engine.scorer import LENGTHS

    return tuple(dict.fromkeys(need for each in selectors for need in each.needs)) or (LENGTHS,)


def model_path(ctx: RunContext, config: ScoreConfig) -> str:
    """Return the model that workers load: the one tuned in the run, else the one named.

    Folders are absolute, because a worker may have another working directory.
    """
    if config.trusted:
        return str((ctx.run.root / weak_folder(config.seed)).resolve())
    return str(Path(config.weak).resolve()) if Path(config.weak).exists() else config.weak


# Facts of a column and of a need, as an error names them.
_COLUMN_WORDS = {
    "weak": "weak model",
    CASCADE: "cascade (cheap model, budget or recall; or none)",
    "keys": "way of measuring (pool, precision, device, threads or version)",
}
_SPEC_WORDS = {"format": "signal format (measured by another version of pilotfish)"}
# In specs written before the signal format: a hash of source files, and the release.
_REPLACED_BY_FORMAT = {"code", "pilotfish"}


def check_columns(
    ctx: RunContext, columns: Mapping[str, Facts], specs: Facts | None = None
) -> None:
    """Refuse to replace a column that was made with other settings, unless `ctx.force`.

    Args:
        ctx: The run.
        columns: Column name -> the facts that it would have now.
        specs: Name of each need -> the facts that its cache key would be the hash of now; they let
            the error name the one that changed.

    Raises:
        UsageError: A column of the same name has other facts; it names those that changed.
    """
    if ctx.force:
        return
    for name, old in ctx.run.section("scores").items():
        new = columns.get(name)
        if new is None:
            continue
        keys = {*new, CASCADE}
        different = {key for key in keys if old.get(key) != new.get(key)}
        changed = sorted(_COLUMN_WORDS.get(key, key) for key in different)
        if "keys" in different:
            changed += _changed_specs(ctx, old["keys"], specs or {})
        if changed:
            raise UsageError(
                f"the run already has a score '{name}' made with another {', '.join(changed)}",
                hint="pass --force to replace it; `score` names a new one with --as",
            )


def _changed_specs(ctx: RunContext, keys: Mapping[str, str], specs: Facts) -> list[str]:
    """Name each fact behind the old keys that has another value now."""
    from pilotfish.engine.shard_files import shard_path

    changed = set[str]()
    for need, key in keys.items():
        old = (ctx.store.manifest(f"{shard_path(key, 0)}.json") or {}).get("spec")
        if old is not None and need in specs:
            new = specs[need]
            names = {*old, *new} - _REPLACED_BY_FORMAT
            changed |= {
                _SPEC_WORDS.get(name, name) for name in names if old.get(name) != new.get(name)
            }
    return [f"namely its {', '.join(sorted(changed))}"] if changed else []
