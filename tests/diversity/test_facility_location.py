"""Facility location: lazy greedy is greedy, and parts cost at most a twentieth."""

from importlib import import_module
from itertools import combinations

import numpy as np
import pytest

from pilotfish.diversity import facility_location, lazy_greedy
from pilotfish.errors import UsageError

facility = import_module("pilotfish.diversity.facility_location")  # the function has its name


def clusters(n: int, d: int, c: int, *, spread: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(c, d))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    points = centres[rng.integers(c, size=n)] + spread / np.sqrt(d) * rng.normal(size=(n, d))
    return points.astype(np.float32)


def similarity(vectors: np.ndarray) -> np.ndarray:
    rows = vectors.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.maximum(rows @ rows.T, 0.0)


def value(alike: np.ndarray, order: np.ndarray) -> float:
    return float(alike[:, order].max(axis=1).sum())


def gains_of_all(alike: np.ndarray, order: np.ndarray) -> np.ndarray:
    """[n] what every row would add to the value after the rows of `order`."""
    cover = alike[:, order].max(axis=1, initial=0.0)
    return np.maximum(alike - cover[:, None], 0).sum(axis=0)


@pytest.mark.parametrize("seed", range(3))
def test_every_pick_gains_most(seed: int) -> None:
    vectors = clusters(250, 10, 12, spread=1.0, seed=seed)
    tie = np.random.default_rng(seed).permutation(250)
    picks = facility_location(vectors, 60, tie)
    alike = similarity(vectors)
    for turn, row in enumerate(picks.order):
        gains = gains_of_all(alike, picks.order[:turn])
        assert gains[row] >= gains.max() - 2e-4
        assert picks.gain[turn] == pytest.approx(gains[row], abs=1e-4)
    assert picks.gain.sum() == pytest.approx(value(alike, picks.order), rel=1e-5)
    assert picks.notes == {"parts": 1, "value": pytest.approx(value(alike, picks.order), rel=1e-5)}
    assert (np.diff(picks.gain) <= 1e-4).all()


def test_a_small_table_picks_what_a_large_one_picks(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clusters(300, 8, 9, spread=1.0, seed=5)
    whole = facility_location(vectors, 80, np.arange(300))
    monkeypatch.setattr(lazy_greedy, "_TABLE_BYTES", 20 * 4 * 300)  # 20 rows of similarities
    assert facility_location(vectors, 80, np.arange(300)).order.tolist() == whole.order.tolist()


def test_first_gains_over_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = clusters(100, 6, 4, spread=1.0, seed=1)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    monkeypatch.setattr(lazy_greedy, "_TILE", 32)
    expected = np.maximum(rows @ rows.T, 0).sum(axis=1)
    np.testing.assert_allclose(lazy_greedy.first_gains(rows, rows), expected, rtol=1e-5)
    np.testing.assert_allclose(lazy_greedy.first_gains(rows, rows.copy()), expected, rtol=1e-5)


def test_by_hand() -> None:
    # Three rows along x, one along y: x first (3 rows at 1), then y (1); the copies add nothing.
    vectors = np.array([[0, 2], [1, 0], [3, 0], [1, 0]], dtype=np.float32)
    picks = facility_location(vectors, 4, np.array([0, 3, 2, 1]))
    assert picks.order.tolist() == [3, 0, 2, 1]
    assert picks.gain.tolist() == [3, 1, 0, 0]
    assert picks.nearest.tolist() == [3, 3, 3, -1]
    assert facility_location(vectors, 1, np.arange(4)).order.tolist() == [1]


def test_copies_without_end_do_not_stall_it() -> None:
    """Many gains of exactly 0, some measured again and some not, once went round for ever."""
    vectors = np.repeat(np.eye(3, dtype=np.float32), 40, axis=0)
    picks = facility_location(vectors, 120, np.arange(120))
    assert picks.order.tolist() == [0, 40, 80, *range(1, 40), *range(41, 80), *range(81, 120)]
    assert picks.gain.tolist() == [40.0] * 3 + [0.0] * 117


def test_within_one_minus_one_over_e_of_the_best() -> None:
    for seed in range(5):
        vectors = np.random.default_rng(seed).normal(size=(12, 3)).astype(np.float32)
        alike = similarity(vectors)
        best = max(value(alike, np.array(some)) for some in combinations(range(12), 4))
        picks = facility_location(vectors, 4, np.arange(12))
        assert value(alike, picks.order) >= (1 - 1 / np.e) * best


@pytest.mark.parametrize("parts", [1, 5])
def test_shuffled_rows_give_the_same_set(parts: int) -> None:
    rng = np.random.default_rng(2)
    vectors, tie = clusters(400, 17, 10, spread=1.0, seed=2), rng.permutation(400)
    vectors[:50] = vectors[50:100]
    shuffle = rng.permutation(400)
    straight = facility_location(vectors, 90, tie, parts=parts)
    shuffled = facility_location(vectors[shuffle], 90, tie[shuffle], parts=parts)
    assert shuffle[shuffled.order].tolist() == straight.order.tolist()
    assert shuffled.gain.tobytes() == straight.gain.tobytes()
    again = facility_location(vectors, 90, tie, parts=parts)
    assert again.order.tolist() == straight.order.tolist()


def test_nearest_is_the_kept_row_most_alike() -> None:
    vectors = clusters(120, 9, 6, spread=1.0, seed=3)
    picks = facility_location(vectors, 20, np.arange(120))
    alike = similarity(vectors)
    for row in np.setdiff1d(np.arange(120), picks.order):
        assert picks.nearest[row] == picks.order[alike[row, picks.order].argmax()]
    for turn, row in enumerate(picks.order[1:], 1):
        earlier = picks.order[:turn]
        assert (
            picks.nearest[row]
            == earlier[
                (
                    vectors[earlier] @ vectors[row] / np.linalg.norm(vectors[earlier], axis=1)
                ).argmax()
            ]
        )
    assert picks.nearest[picks.order[0]] == -1 and np.isnan(picks.closeness[picks.order[0]])


SUITE = [(k, c, spread) for k in (16, 60, 300) for c in (30, 300) for spread in (0.3, 1.0)]


@pytest.mark.parametrize(("k", "c", "spread"), SUITE)
def test_sixteen_parts_reach_095_of_full_greedy(k: int, c: int, spread: float) -> None:
    """Promise R16."""
    vectors, tie = clusters(3000, 32, c, spread=spread, seed=k), np.arange(3000)
    alike = similarity(vectors)
    full = value(alike, facility_location(vectors, k, tie, parts=1).order)
    picks = facility_location(vectors, k, tie, parts=16)
    assert len(set(picks.order)) == k
    assert value(alike, picks.order) >= 0.95 * full
    assert picks.notes["value"] == pytest.approx(value(alike, picks.order), rel=1e-4)


def test_a_sampled_ground_and_shares_reach_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, tie = clusters(3000, 32, 40, spread=1.0, seed=9), np.arange(3000)
    alike = similarity(vectors)
    full = value(alike, facility_location(vectors, 200, tie, parts=1).order)
    monkeypatch.setattr(facility, "_GROUND", 1000)
    monkeypatch.setattr(facility, "_GROUND_PER_PICK", 4)
    sampled = facility_location(vectors, 200, tie, parts=8)
    assert value(alike, sampled.order) >= 0.95 * full
    assert sampled.gain.sum() == pytest.approx(value(alike, sampled.order), rel=0.1)
    monkeypatch.setattr(facility, "_MERGED", 300)
    shares = facility_location(vectors, 203, tie, parts=8)
    assert len(set(shares.order)) == 203
    assert value(alike, shares.order) >= 0.95 * full
    assert (np.diff(shares.gain) <= 0).all()
    assert set(shares.nearest) <= {*shares.order, -1}
    turn = {row: place for place, row in enumerate(shares.order)}
    for row in shares.order:  # each kept row names an earlier one, or none
        assert shares.nearest[row] == -1 or turn[shares.nearest[row]] < turn[row]


def test_every_row_and_too_many() -> None:
    vectors = clusters(40, 5, 3, spread=1.0, seed=4)
    vectors[5], vectors[6, 0] = 0, np.nan
    for parts in (1, 4):
        picks = facility_location(vectors, 38, np.arange(40), parts=parts)
        assert set(picks.order) == set(range(40)) - {5, 6}
        assert picks.reason[[5, 6]].tolist() == ["zero_vector", "nonfinite_vector"]
        with pytest.raises(UsageError, match="39 rows of 38"):
            facility_location(vectors, 39, np.arange(40), parts=parts)
    with pytest.raises(UsageError, match="50 parts"):
        facility_location(vectors, 3, np.arange(40), parts=50)
