"""Farthest first: equal to the slow way, whatever the order of rows, and unmoved by bad rows."""

from pathlib import Path

import numpy as np
import pytest

from pilotfish.diversity import k_center, k_centre
from pilotfish.errors import UsageError


def slow(vectors: np.ndarray, k: int, tie: np.ndarray, start: int) -> tuple[list[int], list[float]]:
    """Every distance, in float64, at every step."""
    rows = vectors.astype(np.float64)
    order, gains = [start], [np.nan]
    while len(order) < k:
        away = np.linalg.norm(rows[:, None] - rows[order][None], axis=2).min(axis=1)
        away[order] = -1.0
        best = int(np.lexsort((tie, -away))[0])
        order.append(best)
        gains.append(float(away[best]))
    return order, gains


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_slow_way(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, tie = rng.normal(size=(300, 12)).astype(np.float32), rng.permutation(300)
    picks = k_centre(vectors, 60, tie, metric="euclidean", start=7)
    order, gains = slow(vectors, 60, tie, 7)
    assert picks.order.tolist() == order
    np.testing.assert_allclose(picks.gain, gains, rtol=1e-5)
    cosine = k_centre(vectors, 60, tie, start=7)
    assert cosine.order.tolist() == slow(unit(vectors), 60, tie, 7)[0]


def test_many_passes_pick_what_one_picks(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    tie = np.arange(400)
    whole = k_centre(vectors, 100, tie)
    monkeypatch.setattr(k_center, "_POOL", 3)
    few = k_centre(vectors, 100, tie)
    assert few.order.tolist() == whole.order.tolist()
    assert few.nearest.tolist() == whole.nearest.tolist()


def test_by_hand_on_a_line() -> None:
    line = np.array([[0], [1], [4], [10]], dtype=np.float32)
    picks = k_centre(line, 3, np.arange(4), metric="euclidean", start=0)
    assert picks.order.tolist() == [0, 3, 2]
    np.testing.assert_allclose(picks.gain, [np.nan, 10, 4])
    assert picks.nearest.tolist() == [-1, 0, 0, 0]  # row 2 was nearest to row 0 when it was picked
    np.testing.assert_allclose(picks.closeness, [np.nan, 1, 4, 10])


def test_equal_distances_go_by_tie(monkeypatch: pytest.MonkeyPatch) -> None:
    cross = np.array([[0, 0], [3, 0], [-3, 0], [0, 3], [0, -3]], dtype=np.float32)
    for pool in (1, 2, 1024):
        monkeypatch.setattr(k_center, "_POOL", pool)
        picks = k_centre(cross, 2, np.array([0, 4, 2, 1, 3]), metric="euclidean", start=0)
        assert picks.order.tolist() == [0, 3]


def test_shuffled_rows_give_the_same_set_and_gains() -> None:
    rng = np.random.default_rng(1)
    vectors, tie = rng.normal(size=(500, 33)).astype(np.float32), rng.permutation(500)
    vectors[100:200] = vectors[:100]  # copies, so that ties matter
    shuffle = rng.permutation(500)
    straight = k_centre(vectors, 450, tie, seed=3)
    shuffled = k_centre(vectors[shuffle], 450, tie[shuffle], seed=3)
    assert shuffle[shuffled.order].tolist() == straight.order.tolist()
    assert shuffled.gain.tobytes() == straight.gain.tobytes()
    back = np.append(shuffle, -1)
    assert back[shuffled.nearest].tolist() == straight.nearest[shuffle].tolist()


def test_all_rows_with_copies_last_and_worth_nothing() -> None:
    vectors = np.random.default_rng(2).normal(size=(40, 5)).astype(np.float32)
    vectors[20:] = vectors[:20]
    picks = k_centre(vectors, 40, np.arange(40)[::-1].copy())
    assert sorted(picks.order) == list(range(40))
    assert (picks.gain[20:] == 0).all() and (picks.gain[1:20] > 0).all()
    assert picks.order[20:].tolist() == sorted(picks.order[20:], reverse=True)  # by tie
    assert (np.diff(picks.gain[1:]) <= 1e-6).all()


def test_one_pick_and_the_seed() -> None:
    vectors = np.random.default_rng(3).normal(size=(50, 4)).astype(np.float32)
    one = k_centre(vectors, 1, np.arange(50), seed=5)
    assert np.isnan(one.gain).all() and (one.nearest == one.order[0]).sum() == 49
    again = k_centre(vectors, 9, np.arange(50), seed=5)
    assert again.order[0] == one.order[0]
    assert len({int(k_centre(vectors, 1, np.arange(50), seed=s).order[0]) for s in range(9)}) > 1


def test_unusable_rows_are_named_and_never_picked() -> None:
    vectors = np.random.default_rng(4).normal(size=(30, 6)).astype(np.float32)
    vectors[3, 2], vectors[4, 0], vectors[5], vectors[6] = np.nan, np.inf, 0, 1e30
    eligible = np.ones(30, dtype=bool)
    eligible[7] = False
    picks = k_centre(vectors, 25, np.arange(30), eligible=eligible)
    assert set(picks.order) == set(range(30)) - {3, 4, 5, 6, 7}
    named = {3: "nonfinite_vector", 4: "nonfinite_vector", 5: "zero_vector"}
    named |= {6: "nonfinite_vector", 7: "not_eligible"}
    assert {row: picks.reason[row] for row in np.flatnonzero(picks.reason != "")} == named
    assert (picks.nearest[list(named)] == -1).all() and np.isnan(picks.closeness[list(named)]).all()
    with pytest.raises(UsageError, match=r"26 rows .* 25 usable rows .*1 zero_vector"):
        k_centre(vectors, 26, np.arange(30), eligible=eligible)
    with pytest.raises(UsageError, match="start is row 5"):
        k_centre(vectors, 2, np.arange(30), start=5)


def test_a_zero_row_is_a_point_under_the_euclidean_metric() -> None:
    points = np.array([[0, 0], [1, 0]], dtype=np.float32)
    assert k_centre(points, 2, np.arange(2), metric="euclidean").reason.tolist() == ["", ""]


def test_a_file_and_a_scratch_copy_change_nothing(tmp_path: Path) -> None:
    vectors = np.random.default_rng(6).normal(size=(200, 16)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    tie = np.random.default_rng(7).permutation(200)
    here = k_centre(vectors, 50, tie)
    there = k_centre(mapped, 50, tie, scratch=tmp_path)
    assert there.order.tolist() == here.order.tolist()
    assert there.gain.tobytes() == here.gain.tobytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vectors.npy"]


@pytest.mark.parametrize(
    ("vectors", "tie", "said"),
    [
        (np.zeros(3), np.arange(3), "vectors must be"),
        (np.ones((3, 2)), np.arange(4), "tie must be"),
        (np.ones((3, 2)), np.array([0, 1, 1]), "tie repeats"),
    ],
)
def test_wrong_shapes_are_refused(vectors: np.ndarray, tie: np.ndarray, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        k_centre(vectors, 1, tie)


def test_the_radius_is_within_twice_the_best_one() -> None:
    from itertools import combinations

    points = np.random.default_rng(8).normal(size=(11, 2)).astype(np.float32)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    best = min(apart[:, list(some)].min(axis=1).max() for some in combinations(range(11), 3))
    picks = k_centre(points, 3, np.arange(11), metric="euclidean")
    left = np.setdiff1d(np.arange(11), picks.order)
    assert picks.closeness[left].max() <= 2 * best + 1e-6
