"""What a score is going to write, fixed before the first shard is measured; plain as JSON."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotfish import remote_code
from pilotfish.config import Method, parse_method
from pilotfish.errors import UsageError
from pilotfish.methods import Selector, make
from pilotfish.records import Need
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.engine.executors.worker import ScoreSpec, WorkerInfo
    from pilotfish.models import Loaded

Facts = Mapping[str, Any]
CASCADE = "cascade_from"  # what a column of a cascade was made from


@dataclass(frozen=True)
class ScorePlan:
    """Columns to be written, each with what run.json will say of it, and the model behind them.

    `keys` (need's name -> key) are known once a worker has opened.
    """

    columns: Mapping[str, Facts]
    direction: str | None  # as asked for beside the methods
    weak: Facts
    seed: int  # which of the run's weak models
    section: str = "weak"  # of run.json, where the model's facts stand
    keys: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def selectors(self) -> dict[str, Selector]:
        """One per column."""
        return {
            name: make(parse_method(facts["method"]), self.direction)
            for name, facts in self.columns.items()
        }

    @cached_property
    def needs(self) -> tuple[Need, ...]:
        """All that is to be measured, each once; token counts alone where that is nothing."""
        return needs_of(self.selectors.values())

    @property
    def key_of(self) -> dict[Need, str]:
        """Each need's key."""
        return {need: self.keys[need.name] for need in self.needs}

    def opened(self, opened: "WorkerInfo") -> "ScorePlan":
        """The same, with all that only a worker can know."""
        keys = {need.name: key for need, key in opened.keys.items()}
        columns = {
            name: {
                **facts,
                "precision": opened.precision,
                "keys": {n.name: keys[n.name] for n in self.selectors[name].needs},
            }
            for name, facts in self.columns.items()
        }
        found = {name: getattr(opened, name) for name in _MEASURED_WITH}
        return replace(self, columns=columns, weak={**self.weak, **found}, keys=keys)

    def as_json(self) -> dict[str, Any]:
        """For a plan that other ranks read; as a list, for JSON objects forget their order."""
        return {**asdict(self), "columns": list(self.columns.items())}

    @classmethod
    def of_json(cls, facts: Facts) -> "ScorePlan":
        """The other way round."""
        known = {name: facts[name] for name in cls.__dataclass_fields__}
        return cls(**{**known, "columns": dict(facts["columns"])})


def needs_of(selectors: Iterable[Selector]) -> tuple[Need, ...]:
    """The union of what selectors ask for, in the order asked; never nothing."""
    from pilotfish.engine.scorer import LENGTHS

    return tuple(dict.fromkeys(need for each in selectors for need in each.needs)) or (LENGTHS,)


def plan_scores(
    run: Run,
    weak: "Loaded",
    methods: Mapping[str, Method],
    *,
    direction: str | None,
    max_length: int,
    seed: int,
    drawn_with: int,
    trusted: str | None,
    force: bool,
    section: str = "weak",
    cascade: Facts | None = None,
) -> ScorePlan:
    """Fix the columns; UsageError, naming what changed, where one was made otherwise.

    cascade: what decides which rows the model is shown, where that is not all of them.
    """
    columns = {
        name: {
            "method": method.text,
            "direction": make(method, direction).direction,
            "weak": weak.digest,
            "max_length": max_length,
            "seed": drawn_with,
            **({} if cascade is None else {CASCADE: cascade}),
        }
        for name, method in methods.items()
    }
    check_columns(run, columns, force=force)
    facts = {
        "name": weak.name,
        "digest": weak.digest,
        "tokenizer_digest": weak.tokenizer_digest,
        "parameters": weak.parameters,
        "trusted": trusted,
        "window": weak.window,
        "max_length": max_length,
        **weak.origin,
    }
    return ScorePlan(columns, direction, facts, seed, section)


def spec_for(
    run: Run, planned: ScorePlan, *, model: str, precision: str, **fixed: Any
) -> "ScoreSpec":
    """What a worker is told. fixed: its token_budget and threads."""
    from pilotfish.engine.executors.worker import ScoreSpec

    return ScoreSpec(
        root=str(run.root.resolve()), model=model, digest=planned.weak["digest"],
        trust_remote_code=remote_code.allowed(),
        needs=planned.needs, max_length=planned.weak["max_length"], precision=precision, **fixed,
    )  # fmt: skip


def model_for(run: Run, name: str, tuned: str | None) -> str:
    """What a worker loads: the model tuned in the run, else the one named; folders absolute."""
    if tuned is not None:
        return str((run.root / tuned).resolve())
    return str(Path(name).resolve()) if Path(name).exists() else name


def check_worker(run: Run, planned: ScorePlan, opened: "WorkerInfo", *, force: bool) -> None:
    """The same as `refuse_reuse`, once a worker is open and before it measures."""
    check_columns(run, planned.opened(opened).columns, opened.specs, force=force)


def check_columns(
    run: Run, columns: Mapping[str, Facts], specs: Mapping[str, Facts] = {}, *, force: bool
) -> None:
    """UsageError, naming what changed, where a column would be made from something else.

    specs: a need's name -> all that would decide its numbers now.
    """
    for name, old in run.section("scores").items():
        new = columns.get(name)
        if new is None or force:
            continue
        keys = {*new, CASCADE}
        changed = sorted(_WORDS.get(key, key) for key in keys if old.get(key) != new.get(key))
        if _WORDS["keys"] in changed:
            changed += _spec_changes(run, old["keys"], specs)
        if changed:
            raise UsageError(
                f"the run already has a score '{name}' made with another {', '.join(changed)}",
                hint="name the new one with --as, or pass --force to replace it",
            )


def _spec_changes(run: Run, keys: Mapping[str, str], specs: Mapping[str, Facts]) -> list[str]:
    """Each thing that decides numbers and is another one than it was for the old keys."""
    from pilotfish.engine.shard_files import shard_path

    changed = set[str]()
    for need, key in keys.items():
        old = (run.store.manifest(f"{shard_path(key, 0)}.json") or {}).get("spec")
        if old is not None and need in specs:
            new = specs[need]
            names = {*old, *new} - _REPLACED_BY_FORMAT
            changed |= {
                _SPEC_WORDS.get(name, name) for name in names if old.get(name) != new.get(name)
            }
    return [f"namely its {', '.join(sorted(changed))}"] if changed else []


_MEASURED_WITH = ("device", "precision", "token_budget", "threads")
_SPEC_WORDS = {"format": "signal format (measured by another version of pilotfish)"}
# in specs written before the signal format: a hash of source files, and the release
_REPLACED_BY_FORMAT = {"code", "pilotfish"}
_WORDS = {
    "weak": "weak model",
    CASCADE: "cascade (cheap model, budget or recall; or none)",
    "keys": "way of measuring (pool, precision, device, threads or version)",
}
