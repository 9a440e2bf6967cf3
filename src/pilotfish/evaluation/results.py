"""Evaluated items on disk: one file per arm and seed, reused for the same model and questions."""

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
class EvaluationSet:
    """Test rows."""

    examples: Sequence[Example]
    fingerprint: str
    tasks: Mapping[str, str] = field(default_factory=dict)  # example id -> task, where it has one


@dataclass(frozen=True)
class EvaluatedRun:
    """All results of a run, and the one metric and test that they share."""

    results: Results
    metric: str
    higher_is_better: bool
    test_fingerprint: str
    tasks: Mapping[str, str] = field(default_factory=dict)  # item id -> task, where it has one


def evaluate_model(
    store: Store,
    loaded: "Loaded",
    test: EvaluationSet,
    *,
    arm: str,
    seed: int,
    metric: Metric,
    force: bool = False,
) -> bool:
    """Evaluate one model and commit judge/<arm>/seed-<n>.jsonl with its manifest.

    Args:
        store: The run's files.
        loaded: The model.
        test: The rows.
        arm: The arm that the model belongs to.
        seed: Its seed.
        metric: How each row is evaluated.
        force: Whether to redo an intact result of the same model (by digest), rows and metric.

    Returns:
        Whether the model ran.

    Raises:
        DataError: There is no row, or two rows share an id.
    """
    examples = test.examples
    if not examples:
        raise DataError("there are no test rows to judge on", hint="give some with --test DATA")
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise DataError(f"two test rows share the id '{example.id}'")
        seen.add(example.id)
    facts = item_facts(
        arm,
        seed,
        metric,
        len(examples),
        model_digest=loaded.digest,
        test_fingerprint=test.fingerprint,
    )
    if not force and store.holds(f"judge/{arm}/seed-{seed}.json", facts):
        return False
    items = hashed(metric.items(loaded, examples), examples)
    commit_items(store, facts, [replace(item, task=test.tasks.get(item.id)) for item in items])
    return True


def item_facts(
    arm: str, seed: int, metric: Metric, items: int, *, model_digest: str, test_fingerprint: str
) -> dict[str, Any]:
    """Return what decides the items of one model: fields of their manifest.

    Args:
        arm: The arm that the model belongs to.
        seed: Its seed.
        metric: How each row is evaluated.
        items: How many there are.
        model_digest: Of the model.
        test_fingerprint: Of the test rows.
    """
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
    """Commit the items of one model as judge/<arm>/seed-<n>.jsonl with a manifest.

    Args:
        store: The run's files.
        facts: Manifest fields: those of `item_facts`, and more that decides the items.
        items: One per test row, in their order.
        predictions: A table for the .parquet file of the same name, with what items leave out.
    """
    name = f"judge/{facts['arm']}/seed-{facts['seed']}"
    with store.attempt(f"{name}.json") as attempt:
        lines = "".join(item.line() + "\n" for item in items)
        attempt.path(f"{name}.jsonl").write_text(lines, encoding="utf-8")
        if predictions is not None:
            pq.write_table(predictions, attempt.path(f"{name}.parquet"))
        attempt.meta = {**facts, "unscorable": sum(item.value is None for item in items)}


def hashed(items: Sequence[Item], examples: Sequence[Example]) -> list[Item]:
    """Return the items with the hash of their row, by which other tools know the question."""
    pairs = zip(items, examples, strict=True)
    return [replace(item, hash=item_hash(example)) for item, example in pairs]


def load_results(store: Store) -> Results:
    """Load {arm: {seed: {item id: value}}}, {} where there is none yet; see `load_evaluated`."""
    found = load_evaluated(store)
    return found.results if found else {}


def load_evaluated(store: Store) -> EvaluatedRun | None:
    """Load all results of a run; None where there are none yet.

    Raises:
        UsageError: Arms were evaluated on different test rows or by different metrics.
        DamagedRun: A committed file is missing or changed.
    """
    paths = sorted(store.root.glob("judge/**/seed-*.json"))
    manifests = [store.require(str(path.relative_to(store.root))) for path in paths]
    if not manifests:
        return None
    for key, what in (("test_fingerprint", "test rows"), ("metric", "metrics")):
        groups: dict[str, list[str]] = {}
        for facts in manifests:
            groups.setdefault(str(facts[key]), []).append(f"{facts['arm']} seed {facts['seed']}")
        if len(groups) > 1:
            each = "; ".join(f"{value[:12]}: {', '.join(names)}" for value, names in groups.items())
            raise UsageError(
                f"arms were judged with different {what} and cannot be compared ({each})",
                hint="pilotfish evaluate RUN evaluates every arm with one test file and metric",
            )
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
