"""The trust head: its parts by hand, what it learns, what it refuses, how it is calibrated."""

import dataclasses

import numpy as np
import pytest

from pilotfish.errors import UsageError
from pilotfish.labeling.filters import Candidates
from pilotfish.labeling.filters.logistic import auroc, logistic, sigmoid
from pilotfish.labeling.filters.trust import Trust, features, folds, scaling
from tests.labeling.filters.tables import drawn, labels


def test_logistic_is_at_its_minimum():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 4)), rng.random(50) < 0.4
    head = logistic(x, y, 0.7)
    off = sigmoid(head(x)) - y
    assert x.T @ off + 0.7 * head.weight == pytest.approx(np.zeros(4), abs=1e-8)
    assert off.sum() == pytest.approx(0.0, abs=1e-6)


def test_logistic_without_a_feature_is_the_share():
    y = np.array([True, True, True, False])
    head = logistic(np.zeros((4, 1)), y, 1.0)
    assert sigmoid(head(np.zeros((1, 1)))) == pytest.approx([0.75], abs=1e-6)


def test_logistic_stays_finite_where_a_line_separates():
    x, y = np.array([[-1.0], [1.0]]), np.array([False, True])
    head = logistic(x, y, 1e-3)
    assert np.isfinite(head.weight).all() and head(x)[1] > head(x)[0]


def test_sigmoid_does_not_overflow():
    assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]


def test_auroc_by_hand_with_a_tie():
    y = np.array([True, True, False, False])
    # pairs: 3 > 2, 3 > 1, 2 = 2 (half), 2 > 1
    assert auroc(np.array([3.0, 2.0, 2.0, 1.0]), y) == 3.5 / 4
    assert np.isnan(auroc(np.array([1.0]), np.array([True])))


def test_folds_hold_both_kinds_evenly():
    y = np.array([True] * 23 + [False] * 12)
    fold = folds(y)
    for kind, least in ((True, 4), (False, 2)):
        assert np.bincount(fold[y == kind], minlength=5).min() == least


def test_scaling_gives_states_a_variance_of_one_in_all_and_other_features_one_each():
    rng = np.random.default_rng(2)
    x = np.hstack([rng.normal(5, 9, (40, 6)), rng.normal(-3, 0.1, (40, 2))])
    x[:, 2] = 7.0  # never changes
    turned = scaling(x, 6)(x)
    assert turned[:, :-2].var(axis=0).sum() == pytest.approx(5 / 6)
    assert turned[:, -2:].var(axis=0) == pytest.approx(1.0)
    assert turned.mean(axis=0) == pytest.approx(0.0, abs=1e-9)
    far = x.copy()
    far[:, 2] = 1e6
    assert scaling(x, 6)(far) == pytest.approx(turned)


def test_kept_labels_are_right_more_often():
    seen, right = drawn(3, n=600, gold=200)
    trust = Trust(keep=0.6)
    kept = trust.apply(seen).kept
    facts = trust.facts(seen)
    assert right[kept].mean() > right[seen.labels.ok].mean() + 0.08
    assert 0.6 < facts["auroc"] < 1.0 and facts["gold_rows"] == 200


def test_trust_is_calibrated():
    seen, right = drawn(4, n=2000, gold=400)
    score = Trust().apply(seen).score
    for low, high in ((0.2, 0.5), (0.5, 0.75), (0.75, 1.0)):
        inside = (score > low) & (score <= high)
        assert inside.sum() > 100
        assert right[inside].mean() == pytest.approx(score[inside].mean(), abs=0.12)


def test_held_out_auroc_of_pure_noise_is_a_coin():
    seen, _ = drawn(5, gold=400)
    luck = np.random.default_rng(6).random(400) < 0.5
    facts = Trust().facts(dataclasses.replace(seen, trusted_correct=luck))
    assert 0.38 < facts["auroc"] < 0.62


@pytest.mark.parametrize(
    ("gold", "right", "message"),
    [
        (40, None, "40 usable trusted rows"),
        (90, True, "90 of them labelled right"),
        (90, False, "0 of them labelled right"),
    ],
)
def test_too_few_trusted_rows_are_refused(gold, right, message):
    seen, _ = drawn(7, gold=gold)
    if right is not None:
        seen = dataclasses.replace(seen, trusted_correct=np.full(gold, right))
    with pytest.raises(UsageError, match=message):
        Trust().apply(seen)


def test_gold_rows_that_were_not_labelled_or_measured_do_not_count():
    seen, _ = drawn(8, gold=62)
    seen.trusted_states[0] = np.nan
    seen.trusted_labels.status[1] = "failed"
    assert Trust().facts(seen)["gold_rows"] == 60
    seen.trusted_states[2] = np.nan
    with pytest.raises(UsageError, match="59 usable"):
        Trust().apply(seen)


def test_probabilities_alone_are_enough_and_without_classes_the_confidence():
    seen, _ = drawn(9)
    alone = Candidates(seen.labels, None, seen.trusted_labels, None, seen.trusted_correct)
    assert Trust().apply(alone).kept.any()
    assert features(labels(["a", "b"]), None) == pytest.approx(np.log([[0.5], [0.5]]))


def test_states_of_one_side_alone_are_refused():
    seen, _ = drawn(9)
    with pytest.raises(ValueError, match="alone"):
        Trust().apply(dataclasses.replace(seen, trusted_states=None))


def test_a_probability_of_zero_is_no_infinite_feature():
    table = labels(["a"], probs=np.array([[1.0, 0.0]]), classes=("a", "b"))
    assert np.isfinite(features(table, None)).all()
