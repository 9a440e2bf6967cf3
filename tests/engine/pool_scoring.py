"""Measures a whole pool in this process."""

from collections.abc import Sequence
from typing import Any

from pilotfish.engine.scorer import ShardScorer
from pilotfish.models import Loaded
from pilotfish.records import Need
from pilotfish.store import Store


def measure(
    pool: Any, needs: Sequence[Need], loaded: Loaded, store: Store, **options: Any
) -> dict[Need, str]:
    """Fill signals/<key>/ for every need, and return each need's key."""
    scorer = ShardScorer(pool, needs, loaded, store, **options)
    for _ in scorer.over(range(pool.shards)):
        pass
    return scorer.keys
