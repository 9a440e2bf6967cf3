"""Judged items on disk: one file per arm and seed, reused only for the same model and questions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.errors import DataError, UsageError
from pilotfish.evaluation.items import Item, Metric, item_hash, read_items, read_tasks
from pilotfish.records import Example
from pilotfish.store import Store

if TYPE_CHECKING:
    from pilotfish.models import Loaded

Results = Mapping[str, Mapping[int, Mapping[str, float]]]  # arm -> seed -> item id -> value or nan


@dataclass(frozen=True)
class EvaluatedRun:
    """Everything judged in a run, and the one metric and test it was judged by."""

    results: Results
    metric: str
    higher_is_better: bool
    test_fingerprint: str
    tasks: Mapping[str, str] = field(default_factory=dict)  # item id -> task, where it names one


def evaluate_model(
    store: Store,
    loaded: "Loaded",
    examples: Sequence[Example],
    *,
    arm: str,
    seed: int,
    metric: Metric,
    test_fingerprint: str,
    tasks: Mapping[str, str] | None = None,
    force: bool = False,
) -> bool:
    """Commit judge/<arm>/seed-<n>.jsonl with its manifest; True where something was judged.

    An intact result of the same model (by digest), test rows and metric is kept, unless `force`.
    tasks: example id -> the task its line is to name.
    Raises DataError when there is no row, or two rows share an id and could not be told apart.
    """
    _check_ids(examples)
    facts = item_facts(
        arm, seed, metric, len(examples), model_digest=loaded.digest,
        test_fingerprint=test_fingerprint,
    )  # fmt: skip
    if not force and store.holds(f"judge/{arm}/seed-{seed}.json", facts):
        return False
    items = hashed(metric.items(loaded, examples), examples)
    items = [replace(item, task=(tasks or {}).get(item.id)) for item in items]
    commit_items(store, facts, items)
    return True


def item_facts(
    arm: str, seed: int, metric: Metric, items: int, *, model_digest: str, test_fingerprint: str
) -> dict[str, Any]:
    """Describe what decides the items of one model: the fields of their manifest."""
    return {
        "arm": arm,
        "seed": seed,
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "items": items,
        "model_digest": model_digest,
        "test_fingerprint": test_fingerprint,
    }


def commit_items(
    store: Store,
    facts: Mapping[str, Any],
    items: Sequence[Item],
    *,
    predictions: pa.Table | None = None,
) -> None:
    """Commit the evaluated items of one model as judge/<arm>/seed-<n>.jsonl with a manifest.

    Args:
        store: The run's store.
        facts: Manifest fields, those of `item_facts` and more: all that decides the items.
        items: One per test row, in their order.
        predictions: Written to the .parquet file of the same name: what the items leave out.
    """
    name = f"judge/{facts['arm']}/seed-{facts['seed']}"
    with store.attempt(f"{name}.json") as attempt:
        lines = "".join(item.line() + "\n" for item in items)
        attempt.path(f"{name}.jsonl").write_text(lines, encoding="utf-8")
        if predictions is not None:
            pq.write_table(predictions, attempt.path(f"{name}.parquet"))
        attempt.meta = {**facts, "unscorable": sum(item.value is None for item in items)}


def hashed(items: Sequence[Item], examples: Sequence[Example]) -> list[Item]:
    """The items with the hash of what was asked, by which they are known elsewhere."""
    pairs = zip(items, examples, strict=True)
    return [replace(item, hash=item_hash(example)) for item, example in pairs]


def _check_ids(examples: Sequence[Example]) -> None:
    if not examples:
        raise DataError("there are no test rows to judge on", hint="give some with --test DATA")
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise DataError(f"two test rows share the id '{example.id}'")
        seen.add(example.id)


def load_results(store: Store) -> dict[str, dict[int, dict[str, float]]]:
    """{arm: {seed: {item id: value}}} of all that was judged, nan where a row was unscorable.

    See `load_judged` for what is refused; {} where nothing was judged yet.
    """
    found = load_evaluated(store)
    results = found.results if found else {}
    return {arm: {s: dict(v) for s, v in seeds.items()} for arm, seeds in results.items()}


def load_evaluated(store: Store) -> EvaluatedRun | None:
    """All results of a run with their metric; None where nothing was judged yet.

    Raises UsageError when arms were judged on other test rows or by another metric than the rest,
    DamagedRun when a committed file is gone or changed.
    """
    manifests = [store.require(rel) for rel in _manifests(store)]
    if not manifests:
        return None
    for key, what in (("test_fingerprint", "test rows"), ("metric", "metrics")):
        _refuse_mixture(manifests, key, what)
    results: dict[str, dict[int, dict[str, float]]] = {}
    tasks: dict[str, str] = {}
    for facts in manifests:
        arm, seed = str(facts["arm"]), int(facts["seed"])
        path = store.path(f"judge/{arm}/seed-{seed}.jsonl")
        results.setdefault(arm, {})[seed] = read_items(path)
        tasks = tasks or read_tasks(path)
    first = manifests[0]
    return EvaluatedRun(
        {arm: dict(sorted(seeds.items())) for arm, seeds in sorted(results.items())},
        str(first["metric"]),
        bool(first["higher_is_better"]),
        str(first["test_fingerprint"]),
        tasks,
    )


def _manifests(store: Store) -> list[str]:
    return [str(p.relative_to(store.root)) for p in sorted(store.root.glob("judge/**/seed-*.json"))]


def _refuse_mixture(manifests: Sequence[Mapping[str, Any]], key: str, what: str) -> None:
    groups: dict[str, list[str]] = {}
    for facts in manifests:
        groups.setdefault(str(facts[key]), []).append(f"{facts['arm']} seed {facts['seed']}")
    if len(groups) > 1:
        told = "; ".join(f"{value[:12]}: {', '.join(names)}" for value, names in groups.items())
        raise UsageError(
            f"arms were judged with different {what} and cannot be compared ({told})",
            hint="pilotfish evaluate RUN judges every arm again with one test file and metric",
        )
