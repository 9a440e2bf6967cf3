"""Near-duplicates by cosine: exactly what brute force drops, however pairs are compared."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from pilotfish.diversity import cells, near_duplicates
from pilotfish.diversity.results import rank_by_priority
from pilotfish.errors import UsageError

near = import_module("pilotfish.diversity.near_duplicates")  # the function has its name


def brute(vectors: np.ndarray, threshold: float, rank: np.ndarray) -> np.ndarray:
    rows = vectors.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    keeper, kept = np.full(len(rows), -1), []
    for row in np.argsort(rank):
        cosine = rows[kept] @ rows[row]
        if kept and cosine.max() >= threshold - 1e-6:
            keeper[row] = kept[int(cosine.argmax())]
        else:
            kept.append(int(row))
    return keeper


def pool(n: int, d: int, *, seed: int) -> np.ndarray:
    """Loose clusters, a third of the rows near-copies of others at many distances."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n // 50, d))[rng.integers(n // 50, size=n)] + rng.normal(size=(n, d))
    copies = rng.integers(n, size=n // 3)
    blur = rng.uniform(0, 0.6, size=(n // 3, 1)) * rng.normal(size=(n // 3, d))
    rows[rng.permutation(n)[: n // 3]] = rows[copies] + blur
    return rows.astype(np.float32)


@pytest.mark.parametrize("threshold", [0.6, 0.9, 0.97])
def test_equals_brute_force(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = pool(1200, 96, seed=1)
    rank = np.random.default_rng(2).permutation(1200)
    expected = brute(vectors, threshold, rank)
    monkeypatch.setattr(near, "_BLOCK", 128)
    monkeypatch.setattr(near, "_SAMPLE", 256)
    monkeypatch.setattr(near, "_PAIRS", 50)
    for short in ((8,), (32, 64), (10_000,)):  # a rough bound, a good one, none
        monkeypatch.setattr(near, "_SHORT", short)
        for dense in (0.0, 0.01, 1.0):  # whole tiles in full, mixed, every pair alone
            monkeypatch.setattr(near, "_DENSE", dense)
            found = near_duplicates(vectors, threshold, rank)
            assert found.keeper.tolist() == expected.tolist()
    assert 0 < (expected >= 0).sum() < 1200


def test_the_bound_is_one() -> None:
    rows = np.random.default_rng(3).normal(size=(60, 40)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    axes = np.linalg.qr(np.random.default_rng(4).normal(size=(40, 40)))[0].astype(np.float32)
    for head in (1, 5, 40):
        short = near._heads(rows, axes[:, :head])
        assert short.shape == (60, head + 1)
        assert (short @ short.T >= rows @ rows.T - 1e-5).all()


def test_the_head_is_priced_on_rows_that_did_not_shape_it() -> None:
    """Axes fit their own sample: priced on it, a head too short let one pair in 100 through."""
    rows = np.random.default_rng(9).normal(size=(4608, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    short = near._shortened(rows, 0.95)
    assert short.shape[1] < 384
    left, right = short[:2000], short[2000:4000]
    assert (left @ right.T >= 0.95).mean() < 1e-3


def test_by_hand_the_best_is_kept() -> None:
    # 0 and 1 are alike, 1 and 2 are, 0 and 2 are not: what is kept depends on who is judged first.
    angles = np.radians([0, 20, 40, 180])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    threshold = float(np.cos(np.radians(25)))
    by_tie = near_duplicates(vectors, threshold, np.array([0, 1, 2, 3]))
    assert by_tie.keeper.tolist() == [-1, 0, -1, -1] and by_tie.kept.tolist() == [0, 2, 3]
    assert by_tie.similarity[1] == pytest.approx(np.cos(np.radians(20)))
    priority = np.array([0.1, 0.9, np.nan, 0.5])
    best = near_duplicates(vectors, threshold, np.array([0, 1, 2, 3]), priority=priority)
    assert best.keeper.tolist() == [1, -1, 1, -1] and np.isnan(best.similarity[1])


def test_copies_under_a_threshold_of_one_and_all_alike() -> None:
    rows = np.random.default_rng(5).normal(size=(20, 7)).astype(np.float32)
    twice = np.concatenate([rows, rows * 3])
    found = near_duplicates(twice, 1.0, np.arange(40))
    assert found.keeper.tolist() == [-1] * 20 + list(range(20))
    same = near_duplicates(np.ones((5000, 3), dtype=np.float32), 0.9, np.arange(5000)[::-1].copy())
    assert same.kept.tolist() == [4999] and (same.keeper[:4999] == 4999).all()


def test_shuffled_rows_and_files_give_the_same_answer(tmp_path: Path) -> None:
    vectors = pool(900, 80, seed=6)
    rng = np.random.default_rng(7)
    tie, shuffle = rng.permutation(900), rng.permutation(900)
    priority = rng.integers(5, size=900).astype(float)  # many equal ones
    straight = near_duplicates(vectors, 0.9, tie, priority=priority)
    np.save(tmp_path / "vectors.npy", vectors[shuffle])
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    shuffled = near_duplicates(
        mapped, 0.9, tie[shuffle], priority=priority[shuffle], scratch=tmp_path
    )
    assert np.append(shuffle, -1)[shuffled.keeper].tolist() == straight.keeper[shuffle].tolist()


def test_unusable_rows_are_neither_kept_nor_dropped() -> None:
    vectors = np.ones((6, 4), dtype=np.float32)
    vectors[0], vectors[1, 1] = 0, np.nan
    eligible = np.array([True, True, False, True, True, True])
    found = near_duplicates(vectors, 0.9, np.arange(6), eligible=eligible)
    assert found.reason.tolist() == ["zero_vector", "nonfinite_vector", "not_eligible", "", "", ""]
    assert found.keeper.tolist() == [-1, -1, -1, -1, 3, 3] and found.kept.tolist() == [3]
    nobody = near_duplicates(vectors, 0.9, np.arange(6), eligible=np.zeros(6, dtype=bool))
    assert nobody.kept.tolist() == []


@pytest.mark.parametrize("threshold", [0.0, 1.01, float("nan")])
def test_a_threshold_is_a_cosine(threshold: float) -> None:
    with pytest.raises(UsageError, match="threshold is a cosine"):
        near_duplicates(np.ones((2, 2)), threshold, np.arange(2))


def test_rank_by_priority() -> None:
    tie = np.array([2, 0, 1, 3])
    assert rank_by_priority(tie, None).tolist() == [2, 0, 1, 3]
    assert rank_by_priority(tie, np.array([1.0, np.nan, 1.0, 5.0])).tolist() == [2, 3, 1, 0]
    with pytest.raises(UsageError, match=r"priority must be \[4\]"):
        rank_by_priority(tie, np.ones(3))


def test_cells_drop_nearly_what_brute_force_drops_and_measure_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = pool(3000, 64, seed=8)
    rank = np.random.default_rng(9).permutation(3000)
    monkeypatch.setattr(near, "_BLOCK", 128)
    monkeypatch.setattr(near, "_IN_CELL", 100)
    monkeypatch.setattr(cells, "SAMPLE", 3000)
    exact = near_duplicates(vectors, 0.9, rank)
    found = near_duplicates(vectors, 0.9, rank, exact=False)
    dropped = found.keeper >= 0
    assert (found.keeper[found.keeper[dropped]] < 0).all()  # every keeper is kept
    assert (found.similarity[dropped] >= 0.9 - 1e-6).all()
    assert 0.97 < dropped.sum() / (exact.keeper >= 0).sum() <= 1.01
    kept = found.kept  # the measured share is the true one, for the sample is all of them
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    like = unit[kept] @ unit[kept].T >= 0.9 - 1e-6
    wrong = (like & (rank[kept][None] < rank[kept][:, None])).any(axis=1).sum()
    assert found.miss == pytest.approx(wrong / (wrong + dropped.sum()))
    assert found.miss < 0.03


def test_looking_in_every_cell_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = pool(1200, 96, seed=1)
    rank = np.random.default_rng(2).permutation(1200)
    monkeypatch.setattr(near, "_BLOCK", 128)
    monkeypatch.setattr(near, "_IN_CELL", 300)  # four cells, and rows look in four
    found = near_duplicates(vectors, 0.9, rank, exact=False)
    assert found.keeper.tolist() == brute(vectors, 0.9, rank).tolist()
    assert found.miss == 0.0


def test_few_probes_are_seen_to_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(5).normal(size=(2000, 8)).astype(np.float32)
    monkeypatch.setattr(near, "_BLOCK", 100)
    monkeypatch.setattr(near, "_IN_CELL", 10)
    assert near_duplicates(rows, 0.8, np.arange(2000), exact=False).miss > 0.02
