"""k-means: each step equals the slow way, empty centres move, file order decides nothing."""

from pathlib import Path

import numpy as np
import pytest

from pilotfish.diversity import k_means
from pilotfish.diversity.kmeans import _lloyd, _move
from pilotfish.errors import UsageError


def slow_lloyd(rows: np.ndarray, centres: np.ndarray, steps: int) -> tuple[np.ndarray, float]:
    rows, centres = rows.astype(np.float64), centres.astype(np.float64)
    for _ in range(steps):
        label = ((rows[:, None] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)
        for cluster in np.unique(label):
            centres[cluster] = rows[label == cluster].mean(axis=0)
    away = ((rows[:, None] - centres[None]) ** 2).sum(axis=2)
    return centres, float(away.min(axis=1).sum())


@pytest.mark.parametrize("seed", range(3))
def test_steps_equal_the_slow_way(seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(200, 7)).astype(np.float32)
    centres = rows[:9].copy()
    expected, _ = slow_lloyd(rows, centres, 6)
    made, settled = _lloyd(rows, centres, 6)
    assert made == 6 and not settled
    np.testing.assert_allclose(centres, expected, rtol=1e-4, atol=1e-5)


def test_finds_far_apart_clusters_and_settles() -> None:
    rng = np.random.default_rng(0)
    middle = np.array([[0, 0], [50, 0], [0, 50], [50, 50]])
    truth = np.repeat(np.arange(4), 25)
    rows = (middle[truth] + rng.normal(size=(100, 2))).astype(np.float32)
    found = k_means(rows, 4, rng.permutation(100))
    assert found.settled and found.size.tolist() == [25] * 4
    assert len(set(zip(truth.tolist(), found.label.tolist(), strict=True))) == 4
    for cluster in range(4):
        own = rows[found.label == cluster]
        np.testing.assert_allclose(found.centres[cluster], own.mean(axis=0), rtol=1e-4, atol=1e-4)
    away = np.linalg.norm(rows - found.centres[found.label], axis=1)
    np.testing.assert_allclose(found.distance, away, rtol=1e-3, atol=1e-3)
    assert found.inertia == pytest.approx((away**2).sum(), rel=1e-4)


def test_by_hand_two_pairs_on_a_line() -> None:
    found = k_means(np.array([[0], [2], [10], [12]], dtype=np.float32), 2, np.arange(4))
    assert sorted(found.centres[:, 0].tolist()) == pytest.approx([1, 11])
    assert found.inertia == pytest.approx(4) and found.distance.tolist() == pytest.approx([1] * 4)


def test_an_empty_centre_moves_to_the_farthest_row() -> None:
    rows = np.array([[0.0], [1.0], [9.0], [9.0]], dtype=np.float32)
    centres = np.array([[3.0], [100.0], [200.0]], dtype=np.float32)
    distance = ((rows - 3) ** 2)[:, 0].astype(np.float64)
    _move(rows, centres, np.zeros(4, dtype=np.int64), distance)
    assert centres[:, 0].tolist() == [4.75, 9.0, 9.0]  # the farthest, and the next: its copy


def test_fewer_distinct_rows_than_clusters_leave_some_empty() -> None:
    rows = np.repeat(np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32), 5, axis=0)
    found = k_means(rows, 4, np.arange(10))
    assert sorted(found.size.tolist()) == [0, 0, 5, 5] and found.inertia == pytest.approx(0)
    assert np.isfinite(found.centres).all()


def test_shuffled_rows_keep_their_clusters_bit_for_bit() -> None:
    rng = np.random.default_rng(3)
    rows, tie = rng.normal(size=(600, 13)).astype(np.float32), rng.permutation(600)
    shuffle = rng.permutation(600)
    for train_rows in (None, 200):
        straight = k_means(rows, 20, tie, seed=4, train_rows=train_rows)
        shuffled = k_means(rows[shuffle], 20, tie[shuffle], seed=4, train_rows=train_rows)
        assert shuffled.label.tolist() == straight.label[shuffle].tolist()
        assert shuffled.centres.tobytes() == straight.centres.tobytes()


def test_one_cluster_and_one_each() -> None:
    rows = np.random.default_rng(5).normal(size=(30, 4)).astype(np.float32)
    one = k_means(rows, 1, np.arange(30))
    np.testing.assert_allclose(one.centres[0], rows.mean(axis=0), atol=1e-5)
    each = k_means(rows, 30, np.arange(30))
    assert sorted(each.label.tolist()) == list(range(30))
    assert each.inertia == pytest.approx(0, abs=1e-4)


def test_seeds_spread_better_than_chance() -> None:
    rng = np.random.default_rng(6)
    middle = rng.normal(size=(40, 20)) * 10
    rows = (middle[np.arange(2000) % 40] + rng.normal(size=(2000, 20))).astype(np.float32)
    ours = np.mean([k_means(rows, 40, np.arange(2000), seed=s).inertia for s in range(3)])
    chance = []
    for seed in range(3):
        start = rows[np.random.default_rng(seed).choice(2000, 40, replace=False)]
        chance.append(slow_lloyd(rows, start, 20)[1])
    assert ours < 0.8 * np.mean(chance)


def test_training_on_a_sample_labels_every_row() -> None:
    rng = np.random.default_rng(7)
    middle = rng.normal(size=(10, 8)) * 8
    rows = (middle[np.arange(1000) % 10] + rng.normal(size=(1000, 8))).astype(np.float32)
    found = k_means(rows, 10, np.arange(1000), train_rows=200)
    assert (found.label >= 0).all()
    assert found.inertia < 1.1 * k_means(rows, 10, np.arange(1000)).inertia


def test_cosine_ignores_length_and_names_unusable_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    rows = rng.normal(size=(80, 5)).astype(np.float32)
    longer = rows * rng.uniform(0.1, 9, size=(80, 1)).astype(np.float32)
    longer[3], longer[4, 1] = 0, np.inf
    rows[3], rows[4] = 0, np.nan
    left = k_means(rows, 6, np.arange(80), metric="cosine")
    right = k_means(longer, 6, np.arange(80), metric="cosine", scratch=tmp_path)
    assert left.label.tolist() == right.label.tolist()
    assert right.label[[3, 4]].tolist() == [-1, -1] and np.isnan(right.distance[[3, 4]]).all()
    assert right.reason[[3, 4]].tolist() == ["zero_vector", "nonfinite_vector"]
    assert right.size.sum() == 78
    with pytest.raises(UsageError, match="79 clusters of 78"):
        k_means(rows, 79, np.arange(80), metric="cosine")


def test_far_from_the_origin_distances_stay_true() -> None:
    rng = np.random.default_rng(9)
    rows = (1000 + np.repeat([[0.0], [1.0]], 50, axis=0) + 0.01 * rng.normal(size=(100, 1))).astype(
        np.float32
    )
    found = k_means(rows, 2, np.arange(100))
    assert sorted(found.size.tolist()) == [50, 50]
    assert found.inertia < 0.1
