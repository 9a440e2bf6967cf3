"""Agreement of two scores, and the sample it is measured on."""

from dataclasses import replace

import numpy as np
import pytest

from pilotfish.scoring.audit import agreement, good_enough, sample, spearman


def test_spearman_by_hand_with_ties() -> None:
    assert spearman(np.array([1.0, 2, 3, 4]), np.array([10.0, 20, 30, 40])) == pytest.approx(1)
    assert spearman(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1)
    # mean ranks 0, 1.5, 1.5, 3 against 0, 1, 2, 3: 4.5 / sqrt(4.5 * 5)
    found = spearman(np.array([1.0, 2, 2, 5]), np.array([1.0, 2, 3, 4]))
    assert found == pytest.approx(np.sqrt(0.9))
    assert np.isnan(spearman(np.ones(3), np.arange(3.0)))
    assert np.isnan(spearman(np.ones(1), np.ones(1)))


def test_agreement_by_hand() -> None:
    exact = np.exp(np.arange(20.0) / 10)
    fast = exact.copy()
    fast[0] *= np.exp(0.02)
    fast[18] *= np.exp(0.15)  # now ranks above row 19
    fast[5] = np.nan
    found = agreement(fast, exact, np.arange(20))
    assert (found.rows, found.lost, found.space) == (19, 1, "log")
    assert found.largest == pytest.approx(0.15)
    assert found.rms == pytest.approx(np.sqrt((0.02**2 + 0.15**2) / 19))
    assert found.overlap == 1.0  # the same two rows in another order
    assert found.chance == pytest.approx(2 / 19)
    assert agreement(fast, exact, np.arange(20), direction="low").overlap == 1.0


def test_scores_that_may_be_negative_are_compared_as_they_are() -> None:
    found = agreement(np.array([-1.0, 2.0]), np.array([-1.5, 2.0]), np.arange(2))
    assert found.space == "raw"
    assert found.largest == pytest.approx(0.5)


def test_no_row_in_common_is_nan_and_not_good() -> None:
    found = agreement(np.full(3, np.nan), np.ones(3), np.arange(3))
    assert (found.rows, found.lost) == (0, 3)
    assert np.isnan(found.overlap)
    assert not good_enough(found)


def test_good_enough_wants_every_part() -> None:
    rng = np.random.default_rng(0)
    exact = np.exp(rng.normal(-0.3, 0.3, 200))
    close = agreement(exact * np.exp(rng.normal(0, 3e-4, 200)), exact, np.arange(200))
    assert good_enough(close)
    assert not good_enough(
        agreement(exact * np.exp(rng.normal(0, 0.03, 200)), exact, np.arange(200))
    )
    for worse in (
        {"rows": 99},
        {"lost": 3},
        {"spearman": 0.999},
        {"largest": 0.06},
        {"overlap": 0.9},
    ):
        assert not good_enough(replace(close, **worse)), worse


def test_equal_scores_pass_only_where_nothing_differs() -> None:
    same = agreement(np.ones(200), np.ones(200), np.arange(200))
    assert np.isnan(same.spearman)
    assert good_enough(same)
    assert not good_enough(agreement(np.ones(200), np.full(200, 1.001), np.arange(200)))


def test_the_sample_takes_a_share_of_every_length() -> None:
    lengths = np.repeat([1, 5, 20, 100, 500], 200)
    drawn = sample(lengths, np.random.default_rng(1).permutation(1_000), 100, seed=3)
    assert len(set(drawn.tolist())) == 100
    assert np.unique(lengths[drawn], return_counts=True)[1] == pytest.approx(20, abs=1)


def test_the_sample_is_the_same_rows_in_any_order() -> None:
    rng = np.random.default_rng(2)
    lengths, tie = rng.integers(0, 300, 500), rng.permutation(500)
    drawn = sample(lengths, tie, 60, seed=5)
    assert (lengths[drawn] > 0).all()
    moved = rng.permutation(500)
    again = sample(lengths[moved], tie[moved], 60, seed=5)
    assert set(tie[drawn]) == set(tie[moved][again])
    assert set(tie[drawn]) != set(tie[sample(lengths, tie, 60, seed=6)])


def test_a_small_pool_is_sampled_whole() -> None:
    assert sample(np.array([3, 0, 9]), np.arange(3), 200, seed=0).tolist() == [0, 2]
    assert sample(np.zeros(4, dtype=np.int64), np.arange(4), 200, seed=0).tolist() == []
