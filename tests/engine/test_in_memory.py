"""Rows measured in memory have the numbers of the shards."""

from pathlib import Path

import numpy as np

from pilotfish.engine.in_memory import InMemoryScorer
from pilotfish.engine.shard_files import load_features
from pilotfish.models import load
from pilotfish.records import Need
from pilotfish.store import Store
from tests.engine.pool_scoring import measure
from tests.tiny.models import tiny_gpt2
from tests.tiny.pools import ListPool, asked

NEEDS = (Need("nll"), Need("nll", given="nothing"), Need("hidden"))


def test_rows_in_memory_agree_with_the_shards(tmp_path: Path) -> None:
    rows = [asked(f"id-{i}", f"say {i}" * (i % 4 + 1), "word" * (i % 5)) for i in range(15)]
    loaded, store = load(str(tiny_gpt2(tmp_path / "weak")), device="cpu"), Store(tmp_path / "run")
    pool = ListPool(rows)
    keys = measure(pool, NEEDS, loaded, store, max_length=40, token_budget=256)
    whole, _ = load_features(pool, keys, store, NEEDS[0])  # type: ignore[arg-type]
    some = [3, 0, 14, 8]
    scorer = InMemoryScorer(loaded, NEEDS, max_length=40, token_budget=256)
    seen = scorer([rows[i] for i in some])
    assert seen.ids.tolist() == [f"id-{i}" for i in some]
    assert seen.n_response_tokens.tolist() == whole.n_response_tokens[some].tolist()
    for need in NEEDS:
        assert seen[need].reason.tolist() == whole[need].reason[some].tolist()
        np.testing.assert_allclose(seen[need].total, whole[need].total[some], rtol=1e-5)
    state, other = (each[NEEDS[2]].values["state"] for each in (seen, whole))
    assert isinstance(state, np.ndarray) and isinstance(other, np.ndarray)
    np.testing.assert_allclose(state, other[some], atol=1e-5)
