"""Shards: committed once, redone when missing or damaged, byte for byte the same."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.engine import scorer
from pilotfish.engine.cache_keys import stage_key, stage_spec
from pilotfish.engine.forward import Forward
from pilotfish.engine.scorer import LENGTHS, ShardScorer
from pilotfish.engine.shard_files import load_features
from pilotfish.errors import DamagedRun
from pilotfish.models import Loaded, load
from pilotfish.records import Need
from pilotfish.store import Store
from pilotfish.tokenization import Encoded
from tests.engine.pool_scoring import measure
from tests.tiny.models import tiny_gpt2
from tests.tiny.pools import ListPool, asked

NEEDS = (Need("nll"), Need("nll", given="nothing"))


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load(str(tiny_gpt2(tmp_path_factory.mktemp("weak"))), device="cpu")


def some_pool() -> ListPool:
    rows = [asked(f"id-{i}", f"say {i}" * (i % 4 + 1), "word" * (i % 5)) for i in range(23)]
    return ListPool(rows[:10], rows[10:20], rows[20:])


def run(pool: Any, weak: Loaded, root: Path, needs: Sequence[Need] = NEEDS, **more: Any) -> Any:
    options = {"max_length": 40, "token_budget": 256, **more}
    return measure(pool, needs, weak, Store(root), **options)


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*")) if path.is_file()
    }  # fmt: skip


def test_what_is_measured_is_read_back_in_pool_order(weak: Loaded, tmp_path: Path) -> None:
    pool = some_pool()
    keys = run(pool, weak, tmp_path)
    seen, truncated = load_features(pool, keys, Store(tmp_path), NEEDS[0])
    assert seen.ids.tolist() == [f"id-{i}" for i in range(23)]
    assert [reason for reason in seen[NEEDS[0]].reason][:2] == ["empty_response", ""]
    assert seen[NEEDS[0]].count[1] == 3  # "word" without its first token: no start token here
    assert seen.n_prompt_tokens[1] == len("say 1say 1\n\n")
    assert seen.n_response_tokens[4] == 16
    assert np.flatnonzero(truncated).tolist() == [19]  # 4 x 6 + 2 + 16 tokens, cut at 40
    assert seen.n_response_tokens[19] == 14
    assert (seen[NEEDS[0]].count == seen[NEEDS[1]].count).all()


def test_a_second_call_redoes_nothing(
    weak: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(some_pool(), weak, tmp_path)
    before = contents(tmp_path)
    monkeypatch.setattr(Forward, "run", lambda *_: pytest.fail("the model ran again"))
    again = some_pool()
    run(again, weak, tmp_path)
    assert again.read == []  # not even the rows were read
    assert contents(tmp_path) == before


def test_only_missing_or_damaged_shards_are_redone_to_the_same_bytes(
    weak: Loaded, tmp_path: Path
) -> None:
    keys = run(some_pool(), weak, tmp_path)
    before = contents(tmp_path)
    folder = tmp_path / "signals" / keys[NEEDS[0]]
    (folder / "part-00000.json").unlink()
    data = bytearray((folder / "part-00002.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "part-00002.parquet").write_bytes(data)
    again = some_pool()
    run(again, weak, tmp_path)
    assert again.read == [0, 2]
    assert contents(tmp_path) == before


def test_two_runs_are_byte_identical(weak: Loaded, tmp_path: Path) -> None:
    run(some_pool(), weak, tmp_path / "a")
    run(some_pool(), weak, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_bits_do_not_depend_on_the_other_needs(weak: Loaded, tmp_path: Path) -> None:
    keys = run(some_pool(), weak, tmp_path / "both")
    run(some_pool(), weak, tmp_path / "one", [NEEDS[1]])
    folder = Path("signals") / keys[NEEDS[1]]
    assert contents(tmp_path / "one" / folder) == contents(tmp_path / "both" / folder)


def test_an_interrupted_call_keeps_what_was_finished(
    weak: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(some_pool(), weak, tmp_path / "whole")
    real, calls = scorer.measure_pass, []

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(scorer, "measure_pass", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(some_pool(), weak, tmp_path / "cut")
    assert len(list((tmp_path / "cut").rglob("part-*.json"))) == 2
    again = some_pool()
    run(again, weak, tmp_path / "cut")
    assert again.read == [1, 2]
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_shuffled_rows_of_a_shard_get_the_same_numbers(weak: Loaded, tmp_path: Path) -> None:
    rows = some_pool().shard(0)
    order = np.random.default_rng(0).permutation(len(rows))
    totals = []
    for name, pool in (("a", ListPool(rows)), ("b", ListPool([rows[i] for i in order]))):
        keys = run(pool, weak, tmp_path / name)
        seen, _ = load_features(pool, keys, Store(tmp_path / name), NEEDS[0])  # type: ignore[arg-type]
        totals.append(seen[NEEDS[0]].total)
    np.testing.assert_array_equal(totals[0][order], totals[1])


def test_ids_are_compared_never_counted(weak: Loaded, tmp_path: Path) -> None:
    pool = some_pool()
    keys = run(pool, weak, tmp_path)
    rows = [row for shard in range(3) for row in pool.shard(shard)]
    # as many rows, but one lost and another one doubled
    other = ListPool(rows[:10], rows[10:20], [rows[20], rows[20], rows[22]])
    with pytest.raises(DamagedRun, match="id-21"):
        load_features(other, keys, Store(tmp_path), NEEDS[0])  # type: ignore[arg-type]
    turned = ListPool(rows[20:], rows[10:20], rows[:10])  # other shards, same rows
    seen, _ = load_features(turned, keys, Store(tmp_path), NEEDS[0])  # type: ignore[arg-type]
    assert seen.n_response_tokens[0] == 0 and seen.ids[0] == "id-20"


def test_a_damaged_part_is_named_when_read(weak: Loaded, tmp_path: Path) -> None:
    pool = some_pool()
    keys = run(pool, weak, tmp_path)
    (tmp_path / "signals" / keys[NEEDS[0]] / "part-00001.parquet").write_bytes(b"?")
    with pytest.raises(DamagedRun, match=r"part-00001\.parquet"):
        load_features(pool, keys, Store(tmp_path), NEEDS[0])  # type: ignore[arg-type]


def test_progress_counts_rows_times_passes_measured_now(weak: Loaded, tmp_path: Path) -> None:
    pool: Any = some_pool()
    work = ShardScorer(pool, NEEDS, weak, Store(tmp_path), max_length=40, token_budget=256)
    ticks: list[int] = []
    list(work.over(range(3), ticks.append))
    empty = 5  # rows without a response, which no pass reads
    assert sum(ticks) == 2 * (23 - empty) and min(ticks) > 0
    list(work.over(range(3), ticks.append))
    assert sum(ticks) == 2 * (23 - empty)


def test_lengths_need_no_forward_pass(
    weak: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Forward, "run", lambda *_: pytest.fail("the model ran"))
    pool = some_pool()
    keys = run(pool, weak, tmp_path, [LENGTHS])
    seen, _ = load_features(pool, keys, Store(tmp_path), LENGTHS)  # type: ignore[arg-type]
    by_hand = [4 * (i % 5) for i in range(23)]
    by_hand[19] = 14  # cut
    assert seen.n_response_tokens.tolist() == by_hand


def test_the_budget_that_fitted_is_in_the_manifest(
    weak: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Forward.run

    def starved(self: Forward, rows: Sequence[Encoded], indices: Any, queries: Any) -> None:
        if len(rows) * max(len(row.ids) for row in rows) > 70:
            raise MemoryError
        real(self, rows, indices, queries)

    monkeypatch.setattr(Forward, "run", starved)
    pool = some_pool()
    keys = run(pool, weak, tmp_path, NEEDS[:1])
    manifest = Store(tmp_path).require(f"signals/{keys[NEEDS[0]]}/part-00000.json")
    assert manifest["token_budget"] == 64
    assert manifest["spec"]["token_budget"] == 256
    assert manifest["reasons"] == {"empty_response": 2}


def test_every_part_of_the_spec_changes_the_key(weak: Loaded) -> None:
    spec = stage_spec("f", NEEDS[0], weak, max_length=40, token_budget=256)
    names = {stage_key(spec)}
    for field in spec:
        names.add(stage_key({**spec, field: "changed"}))
    assert len(names) == len(spec) + 1
    assert stage_key(spec) == stage_key(dict(reversed(spec.items())))


def test_the_limit_is_clamped_to_the_window(weak: Loaded, tmp_path: Path) -> None:
    pool = some_pool()
    keys = [run(pool, weak, tmp_path, max_length=length)[NEEDS[0]] for length in (256, 9999)]
    assert keys[0] == keys[1]


def test_receipts_name_the_shards_measured_now(weak: Loaded, tmp_path: Path) -> None:
    keys = run(some_pool(), weak, tmp_path)
    (tmp_path / "signals" / keys[NEEDS[1]] / "part-00001.json").unlink()
    pool: Any = some_pool()
    work = ShardScorer(pool, NEEDS, weak, Store(tmp_path), max_length=40, token_budget=256)
    measured = [receipt.measured for receipt in work.over(range(3))]
    assert measured == [(), (keys[NEEDS[1]],), ()]


def test_receipts_list_the_keys_measured_now(weak: Loaded, tmp_path: Path) -> None:
    pool: Any = some_pool()
    work = ShardScorer(pool, NEEDS, weak, Store(tmp_path), max_length=40)
    assert set(work(1).measured) == set(work.keys.values())
    assert work(1).measured == ()


def test_a_shard_in_which_no_row_is_usable_is_read_with_the_others(
    weak: Loaded, tmp_path: Path
) -> None:
    rows = [asked("a", "p", "one"), asked("b", "p", "two"), asked("c", "p", ""), asked("d", "", "")]
    needs = [Need("hidden"), Need("token_nll"), Need("topk", size=3)]
    pool = ListPool(rows[:2], rows[2:])
    keys = run(pool, weak, tmp_path, needs)
    seen, _ = load_features(pool, keys, Store(tmp_path), needs[0])
    state = seen.measured[needs[0]].values["state"]
    assert np.isfinite(state).all(axis=1).tolist() == [True, True, False, False]
    for need, name in ((needs[1], "tokens"), (needs[2], "top_ids")):
        values = seen.measured[need].values[name]
        assert [len(values[i]) > 0 for i in range(4)] == [True, True, False, False]
