"""The cut statistic by hand, and the exact neighbours against the obvious way."""

import numpy as np
import pytest

from pilotfish.labeling.filters import knn
from pilotfish.labeling.filters.knn import FEW, NO_STATE, cut_statistic, nearest
from tests.labeling.filters.tables import words

IDS = words("abcd")


def every(n):
    return np.ones(n, dtype=bool)


def test_by_hand():
    states = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    score, why = cut_statistic(states, words("xxyx"), IDS, 1, usable=every(4))
    # P_x = 3/4, P_y = 1/4; one neighbour of weight 1 each. a, b agree: -(0 - 1/4) / sd;
    # c (y) has d (x): -(1 - 3/4) / sd; d has c: -(1 - 1/4) / sd; sd = sqrt(3)/4 throughout
    sd = np.sqrt(3.0) / 4.0
    assert score == pytest.approx(np.array([0.25, 0.25, -0.25, -0.75]) / sd)
    assert (why == "").all()


def test_weights_fall_with_the_angle():
    states = np.array([[1.0, 0.0], [0.0, 1.0]])  # cosine 0: weight 1/2
    score, _ = cut_statistic(states, words("xy"), IDS[:2], 5, usable=every(2))
    assert score == pytest.approx([-(0.5 - 0.25) / 0.25] * 2)


def test_length_of_a_state_means_nothing_and_one_label_scores_zero():
    rng = np.random.default_rng(0)
    states, label = rng.normal(size=(4, 3)), words("xyxy")
    one, _ = cut_statistic(states, label, IDS, 2, usable=every(4))
    two, _ = cut_statistic(states * [[1], [9], [0.1], [3]], label, IDS, 2, usable=every(4))
    assert two == pytest.approx(one)
    same, _ = cut_statistic(states, words("xxxx"), IDS, 2, usable=every(4))
    assert (same == 0.0).all()


def test_rows_without_a_state_or_a_neighbour_are_named():
    states = np.array([[1.0, 0.0], [0.0, 0.0], [np.nan, 1.0], [1.0, 1.0]])
    score, why = cut_statistic(states, words("xyxy"), IDS, 2, usable=np.array([1, 1, 1, 0], bool))
    assert np.isnan(score).all()
    assert why.tolist() == [FEW, NO_STATE, NO_STATE, ""]


def test_unusable_rows_are_nobodys_neighbour():
    states = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.05], [0.0, 1.0]])
    usable = np.array([True, True, False, True])
    score, _ = cut_statistic(states, words("xxyx"), IDS, 1, usable=usable)
    assert score[usable].tolist() == [0.0, 0.0, 0.0]  # among the usable there is but one label


@pytest.mark.parametrize("cells", [1, 70, 1 << 20])
def test_nearest_agrees_with_a_full_sort_in_blocks_of_any_size(cells, monkeypatch):
    monkeypatch.setattr(knn, "_CELLS", cells)
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(30, 4))
    rows[5] = rows[11] = rows[20]  # ties
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    near, cosine = nearest(unit, 7)
    for i in range(30):
        found = (unit @ unit[i]).round(12)
        found[i] = -np.inf
        slow = np.sort(found)[::-1][:7]
        assert cosine[i] == pytest.approx(slow)
        assert i not in near[i] and len(set(near[i])) == 7


def test_a_wrong_label_in_a_clean_cluster_comes_last():
    rng = np.random.default_rng(2)
    truth = np.repeat([0, 1], 40)
    states = rng.normal(size=(80, 5)) * 0.2
    states[np.arange(80), truth] += 1.0
    label = truth.copy()
    label[[3, 50]] = 1 - label[[3, 50]]
    score, _ = cut_statistic(states, words(label), words(range(80)), 10, usable=every(80))
    assert set(np.argsort(score)[:2]) == {3, 50}
